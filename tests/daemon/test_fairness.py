"""A client that sends many requests at a time: some of them are handled in each turn of the loop, all of them in the end, and in order. So it is with many clients of one identity."""

import asyncio
import socket
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from keyway.cryptoki import call_named
from keyway.daemon.client import ClientConnection
from keyway.daemon.connection import LOOK, Connection
from keyway.daemon.p11kit_client import P11KitConnection
from keyway.daemon.server import Daemon
from keyway.gateway.shares import ALONE, TURN, Shares
from keyway.p11kit import Frame, FrameBuffer, pack
from keyway.wire.frames import FrameBuffer as NativeBuffer
from keyway.wire.header import HEADER, VERSION_BYTE

SESSION = 1
PASSED_ON = call_named("C_GenerateRandom").number
UNKNOWN = 0x3FFF


class Wire:
    """In the place of a transport, and of a link to a host: what was written, in order, and whether it is read from."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.is_reading = True
        self.in_flight: dict[int, Any] = {}

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int) -> None:
        pass


def some_daemon() -> Any:
    """Return as much of a daemon as connections ask for. The name of an identity is that of where it comes in."""
    loop = asyncio.get_running_loop()
    there: Any = set()
    daemon: Any = SimpleNamespace(
        config=SimpleNamespace(limits=SimpleNamespace(body=1 << 20, write_buffer=1 << 20)),
        now=lambda: 0.0,
        admit=lambda client, _: there.add(client) or SimpleNamespace(facts=dict),
        dismiss=there.discard,
        there=there,
        gate=SimpleNamespace(name_of=lambda _, entrance: entrance.name),
    )
    daemon.shares = Shares(lambda: loop.call_soon(Daemon.next_turn, daemon))
    return daemon


def connect(kind: type[Connection], daemon: Any = None, name: str = "") -> tuple[Any, Wire]:
    """Return a connection of this kind, and where its replies go."""
    wire = Wire()
    connection: Any = kind(daemon or some_daemon(), SimpleNamespace(view=None, name=name))
    connection.connection_made(wire)
    return connection, wire


async def turns(connection: Any, data: bytes, sizes: list[int], count: Any) -> list[int]:
    """Give a connection what a client has sent, in pieces, as often as it is read from; return how many requests each turn of the loop has handled."""
    handled = []
    at, step = 0, 0
    connection.data_received(data[:1])
    data = data[1:]
    while at < len(data) or connection.is_giving_way:
        before = count()
        if connection.transport.is_reading and at < len(data):
            size = sizes[step % len(sizes)]
            step += 1
            connection.data_received(data[at : at + size])
            at += size
        else:
            await asyncio.sleep(0)
        handled.append(count() - before)
    return handled


SIZES = st.lists(st.integers(1, 20_000), min_size=1, max_size=8)


@given(SIZES, st.lists(st.sampled_from((PASSED_ON, UNKNOWN)), max_size=600))
def test_native(sizes, calls):
    async def run() -> None:
        connection, wire = connect(ClientConnection)
        link = Wire()
        connection.service.plain = frozenset({PASSED_ON})
        connection.service.bound[SESSION] = link
        ids = list(enumerate(calls, 1))
        frames = b"".join(HEADER.pack(id_ % 7, call, 0, id_, SESSION, 0) + bytes(id_ % 7) for id_, call in ids)
        passed_on = lambda: len(link.in_flight)  # noqa: E731
        answered = lambda: max(0, len(wire.written) - 1)  # noqa: E731
        handled = await turns(
            connection, bytes([VERSION_BYTE]) + frames, sizes, lambda: passed_on() + LOOK * answered()
        )
        assert max(handled, default=0) < TURN + LOOK
        assert wire.is_reading
        there = [frame.header.id for frame in NativeBuffer().feed(b"".join(link.written))]
        here = [frame.header.id for frame in NativeBuffer().feed(b"".join(wire.written[1:]))]
        assert there == [id_ for id_, call in ids if call == PASSED_ON]
        assert here == [id_ for id_, call in ids if call == UNKNOWN]

    asyncio.run(run())


@given(SIZES, st.integers(0, 300))
def test_p11kit(sizes, many):
    async def run() -> None:
        connection, wire = connect(P11KitConnection)
        codes = list(range(1, many + 1))
        messages = b"".join(pack(Frame(code, bytes(code % 5))) for code in codes)
        handled = await turns(connection, b"\x02" + messages, sizes, lambda: LOOK * max(0, len(wire.written) - 1))
        assert max(handled, default=0) < TURN + LOOK
        assert wire.is_reading
        assert [frame.code for frame in FrameBuffer().feed(b"".join(wire.written[1:]))] == codes

    asyncio.run(run())


@pytest.mark.parametrize("kind", [ClientConnection, P11KitConnection])
def test_a_client_that_has_gone_meanwhile(kind):
    async def run() -> None:
        connection, wire = connect(kind)
        connection.service.close = lambda: None
        is_native = kind is ClientConnection
        one = HEADER.pack(0, UNKNOWN, 0, 1, 0, 0) if is_native else pack(Frame(1, b""))
        connection.data_received(bytes([VERSION_BYTE if is_native else 2]) + one * 100)
        assert connection.is_giving_way
        before = len(wire.written)
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert len(wire.written) == before
        assert not connection.is_giving_way

    asyncio.run(run())


class Flood:
    """Connections of one identity over real sockets, each of which has sent many requests before anything is read; and what was passed on, in order."""

    def __init__(self, daemon: Any, name: str, many: int, each: int) -> None:
        self.total = many * each
        self.passed = 0
        self.links = [Counting(self) for _ in range(many)]
        self._daemon = daemon
        self._name = name
        self._sent = bytes([VERSION_BYTE]) + b"".join(requests(range(1, each + 1)))
        self.ends: list[socket.socket] = []

    async def start(self) -> None:
        for link in self.links:
            end = await join(self._daemon, self._name, link)
            end.sendall(self._sent)
            self.ends.append(end)


class Counting(Wire):
    """A link that tells its flood how many requests were passed on."""

    def __init__(self, flood: Flood) -> None:
        super().__init__()
        self._flood = flood

    def write(self, data: bytes) -> None:
        super().write(data)
        self._flood.passed += len(data) // HEADER.size


def requests(numbers: Any) -> list[bytes]:
    return [HEADER.pack(0, PASSED_ON, 0, number, SESSION, 0) for number in numbers]


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something holds."""
    for _ in count():
        if holds():
            return
        await asyncio.sleep(0)


async def join(daemon: Any, name: str, link: Wire) -> socket.socket:
    """Connect to the daemon as somebody, and return the client's end."""
    ours, theirs = socket.socketpair()

    def factory() -> Any:
        connection: Any = ClientConnection(daemon, SimpleNamespace(view=None, name=name))
        connection.service.plain = frozenset({PASSED_ON})
        connection.service.bound[SESSION] = link
        connection.service.close = lambda: None
        return connection

    await asyncio.get_running_loop().connect_accepted_socket(factory, theirs)
    return ours


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("is_same", [False, True], ids=["another", "the same"])
def test_one_connection_beside_fifty(new_loop, is_same):
    """How many requests of the fifty are passed on while one of the single connection waits: a turn or two, or, for one of the same identity, a turn of each."""

    async def run() -> None:
        daemon = some_daemon()
        flood = Flood(daemon, "A", 50, 400)
        link = Wire()
        end = await join(daemon, "A" if is_same else "B", link)
        await flood.start()
        end.sendall(bytes([VERSION_BYTE]))
        waited = []

        async def passed_on(many: int) -> None:
            await until(lambda: len(link.written) == many)

        for number, request in enumerate(requests(range(1, 20)), 1):
            before = flood.passed
            end.sendall(request)
            await passed_on(number)
            waited.append(flood.passed - before)
        if is_same:
            assert max(waited) <= 52 * TURN
        else:
            assert waited[0] <= 2 * ALONE
            assert max(waited[1:]) <= 2 * TURN
        await until(lambda: flood.passed == flood.total)
        for each in flood.links:
            ids = [frame.header.id for frame in NativeBuffer().feed(b"".join(each.written))]
            assert ids == list(range(1, 401))
        for client in [end, *flood.ends]:
            client.close()
        await until(lambda: not daemon.there)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())
