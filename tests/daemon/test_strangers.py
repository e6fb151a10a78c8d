"""What comes before anybody has a context: whatever it is, the daemon answers an error or closes, takes no memory for it, and goes on serving."""

import contextlib
import resource
import socket
import ssl
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.authority import Authority
from tests.daemon.conftest import starting
from tests.daemon.harness import DEADLINE, RunningDaemon, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.test_listeners_net import dial, tls_listener
from tests.front.conftest import listener
from tests.p11kit.test_vectors import MAGIC, request

from keyway.cryptoki import CALLS, RV
from keyway.daemon.listener import HANDSHAKES
from keyway.daemon.server import SPARE_CONNECTIONS
from keyway.p11kit import Frame, encode_error, pack
from keyway.wire.header import HEADER

MIB = 1 << 20
HALF_OPEN = 10_000
EVERY = 200
"""After how many of them a good client comes. Fewer than wait at a socket that nobody accepts from."""
CONTEXTS = 8
AT_ONCE = min(400, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4)
"""How many of them this process keeps open."""


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(DEADLINE)
    connection.connect(str(path))
    return connection


def use(client: RawClient) -> None:
    client.initialize()
    client.good("C_GetInfo", True)
    client.good("C_Finalize")


def exchanged(connection: socket.socket, pieces: list[bytes]) -> int:
    """Send what a stranger says, end the sending, and return how many bytes the daemon answers until it closes the connection."""
    received = 0
    with connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
        except TimeoutError:
            raise
        except OSError:
            pass  # It has closed the connection already.
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                received += len(data)
    return received


SIZES = st.one_of(st.integers(0, 40), st.sampled_from((0x7FFF_FFFF, 0xFFFF_FFFF, 67_108_864, 67_108_865)))
NUMBERS = st.one_of(st.integers(0, 120), st.integers(0x3000, 0x4010), st.just(0xFFFF))
WORDS = st.one_of(st.integers(0, 3), st.just(0xFFFF_FFFF_FFFF_FFFF))
FRAMES = st.one_of(
    st.builds(HEADER.pack, SIZES, NUMBERS, st.integers(0, 0xFFFF), WORDS, WORDS, WORDS),
    st.builds(
        lambda number, body: HEADER.pack(len(body), number, 0, 1, 0, 0) + body,
        st.integers(1, len(CALLS)),
        st.binary(max_size=80),
    ),
    st.binary(max_size=80),
)
NATIVE = st.builds(lambda first, frames: bytes([first]) + b"".join(frames), st.just(0x81), st.lists(FRAMES, max_size=6))

INITIALIZE = request(1, "ayyay", f"{MAGIC} 00 01 00000001 00")
MESSAGES = st.one_of(
    st.builds(
        lambda code, options, size: b"".join(x.to_bytes(4, "big") for x in (code, options, size)), SIZES, SIZES, SIZES
    ),
    st.builds(lambda code, body: pack(Frame(code, body)), st.integers(0, 9), st.binary(max_size=80)),
    st.builds(
        lambda at, byte: pack(Frame(1, INITIALIZE[:at] + bytes([byte]) + INITIALIZE[at + 1 :])),
        st.integers(0, len(INITIALIZE) - 1),
        st.integers(0, 255),
    ),
    st.binary(max_size=80),
)
P11KIT = st.builds(
    lambda first, frames: bytes([first]) + b"".join(frames), st.integers(0, 3), st.lists(MESSAGES, max_size=6)
)


def client_hello() -> bytes:
    """What a good client begins with."""
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="gw.test").do_handshake()
    return outgoing.read()


HELLO = client_hello()
RECORDS = st.one_of(
    st.builds(
        lambda kind, version, size, body: bytes([kind]) + version + size.to_bytes(2, "big") + body,
        st.integers(19, 25),
        st.sampled_from((b"\x03\x01", b"\x03\x03", b"\x03\x04", b"\x00\x02")),
        st.integers(0, 0xFFFF),
        st.binary(max_size=200),
    ),
    st.builds(
        lambda at, byte: HELLO[:at] + bytes([byte]) + HELLO[at + 1 :],
        st.integers(0, len(HELLO) - 1),
        st.integers(0, 255),
    ),
    st.just(HELLO),
    st.binary(max_size=80),
)
TLS = st.builds(b"".join, st.lists(RECORDS, max_size=4))

KINDS = {"native": NATIVE, "tcp": NATIVE, "p11-kit": P11KIT, "tls": TLS, "offer": TLS}


@dataclass
class Place:
    """A daemon with a listener of each kind.

    Attributes:
        daemon: The daemon.
        connect: Connects to each.
        good: Does what a good client does.
    """

    daemon: RunningDaemon
    connect: dict[str, Callable[[], socket.socket]]
    good: Callable[[], None]


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    # Not pytest's directory: the path of a unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="kt-") as name, starting(Path(name)) as start:
        home = Path(name)
        authority = Authority(home)
        alice = authority.issue("alice")
        offer = tls_listener(authority, protocol="offer").replace("[listener.net]", "[listener.offer]")
        tcp = '[listener.tcp]\naddress = "tcp://127.0.0.1:0"\n'
        daemon = start(softhsm(home) + listener(home) + tcp + tls_listener(authority) + offer)
        native, offered = ports_of(daemon, "tls")
        (plain,) = ports_of(daemon, "tcp")
        context = ssl.create_default_context(cafile=authority.file)
        context.load_cert_chain(alice.certificate, alice.key)

        def good() -> None:
            for connection in (
                dial(plain),
                connect(daemon.socket),
                context.wrap_socket(dial(native), server_hostname="gw.test"),
            ):
                with RawClient.over(connection) as client:
                    use(client)

        yield Place(
            daemon,
            {
                "native": lambda: connect(daemon.socket),
                "tcp": lambda: dial(plain),
                "p11-kit": lambda: connect(home / "front"),
                "tls": lambda: dial(native),
                "offer": lambda: dial(offered),
            },
            good,
        )


def ports_of(daemon: RunningDaemon, scheme: str) -> list[int]:
    """The ports of the listeners of a kind, in the order of the configuration."""
    addresses = [entry["address"] for entry in daemon.events("listening")]
    return [int(address.rpartition(":")[2]) for address in addresses if address.startswith(scheme)]


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes(place, kind):
    place.good()
    before = place.daemon.memory()

    @given(KINDS[kind] | st.binary(max_size=300), st.integers(1, 400))
    def come(data: bytes, size: int) -> None:
        pieces = [data[at : at + size] for at in range(0, len(data), size)][:40]
        assert exchanged(place.connect[kind](), pieces) < 64 * 1024

    come()
    place.good()
    assert place.daemon.memory() - before < 32 * MIB
    until(lambda: place.daemon.status()["connections"] == 1, "no connection stays but the one that asks")


def test_a_long_body_before_a_context_is_not_waited_for(place):
    with RawClient.over(place.connect["native"]()) as client:
        client.socket.sendall(HEADER.pack(MIB, 1, 0, 1, 0, 0) + bytes(1000))
        assert client.is_closed()
    assert "before C_Initialize" in place.daemon.events("client refused")[-1]["reason"]
    with place.connect["p11-kit"]() as connection:
        connection.sendall(b"\x02" + (1).to_bytes(4, "big") + bytes(4) + MIB.to_bytes(4, "big") + bytes(1000))
        answer = pack(Frame(1, encode_error(RV.CKR_HOST_MEMORY)))
        received = b""
        while len(received) < 1 + len(answer):
            received += connection.recv(4096)
        assert received == b"\x02" + answer
    place.good()


def bring_crowd(
    daemon: RunningDaemon,
    come: Callable[[], socket.socket],
    half: Callable[[], bytes],
    good: Callable[[], RawClient],
    many: int = HALF_OPEN,
) -> None:
    """Let strangers come that say half a thing. The oldest go for the new ones, and whenever a good client comes, it is let in before any of them has ended.

    Args:
        daemon: The daemon, with `CONTEXTS` as its limit of contexts, and no other clients.
        come: Connects a stranger.
        half: Returns what a stranger says.
        good: Connects a good client.
        many: How many come.
    """
    with good() as client:
        use(client)
    daemon.wait_quiet(0)
    memory, descriptors = daemon.memory(), daemon.descriptors()
    crowd: deque[socket.socket] = deque()
    try:
        for number in range(1, many + 1):
            crowd.append(come())
            with contextlib.suppress(ConnectionError):
                crowd[-1].sendall(half())
            if len(crowd) > AT_ONCE:
                crowd.popleft().close()
            if number % EVERY == 0:
                # Connections are accepted in the order in which they come: all before this one have been.
                with good() as client:
                    assert client.call("C_GetInfo", True)[0] == RV.CKR_CRYPTOKI_NOT_INITIALIZED
        with good() as client:
            use(client)
        most = descriptors + CONTEXTS + SPARE_CONNECTIONS + 2 * HANDSHAKES
        until(lambda: daemon.descriptors() <= most, "those that had to go are closed")
        assert daemon.memory() - memory < 32 * MIB
    finally:
        for each in crowd:
            each.close()
    until(lambda: daemon.descriptors() <= descriptors, "all are closed")


@pytest.mark.parametrize("kind", ["tcp", "tls"])
def test_ten_thousand_that_say_half_a_thing(start, home, kind):
    authority = Authority(home)
    config = tls_listener(authority) if kind == "tls" else '[listener.net]\naddress = "tcp://127.0.0.1:0"\n'
    daemon = start(softhsm(home, spares=0) + config + f"[limits]\ncontexts = {CONTEXTS}\ngreeting = 3600\n")
    (port,) = ports_of(daemon, kind)
    alice = authority.issue("alice")
    context = ssl.create_default_context(cafile=authority.file)
    context.load_cert_chain(alice.certificate, alice.key)

    def good() -> RawClient:
        connection = dial(port)
        return RawClient.over(
            connection if kind == "tcp" else context.wrap_socket(connection, server_hostname="gw.test")
        )

    half = HELLO[: len(HELLO) // 2] if kind == "tls" else b"\x81" + bytes(16)
    bring_crowd(daemon, lambda: dial(port), lambda: half, good)
