"""Connecting and accepting over sockets of all kinds, in both loops."""

import asyncio
import os
import socket
from pathlib import Path

import pytest
from tests.transport.ends import Echo, Noting

from keyway.address import ANY_CID, Inherited, Tcp, Unix, Vsock
from keyway.transport.accept import accept
from keyway.transport.connect import connect
from keyway.transport.errors import ConnectError
from keyway.transport.listen import bound_address, listen

TUNED = {
    "TCP_NODELAY": 1,
    "TCP_KEEPIDLE": 30,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 60_000,
}


async def joined(listener, address):
    """Return the protocols of both ends of a connection."""
    loop = asyncio.get_running_loop()
    (transport, client), (connection, _) = await asyncio.gather(
        connect(address, Noting, seconds=10), loop.sock_accept(listener)
    )
    assert client.transport is transport
    server = Echo()
    await accept(connection, lambda: server, seconds=10)
    return client, server


def descriptors():
    return {each.name for each in Path("/proc/self/fd").iterdir()}


async def ended(*protocols):
    for protocol in protocols:
        protocol.transport.close()
    for protocol in protocols:
        await protocol.end()


@pytest.mark.parametrize(
    "make", [lambda home: Unix(str(home / "s")), lambda _: Tcp("127.0.0.1", 0)], ids=["unix", "tcp"]
)
def test_bytes_go_both_ways(runner, home, make):
    async def test():
        with listen(make(home)) as listener:
            client, server = await joined(listener, bound_address(make(home), listener))
            client.transport.write(b"hello")
            await client.until(lambda: client.data == b"hello")
            client.transport.close()
            assert await server.end() is None
            await client.end()

    runner.run(test())


def test_tcp_is_tuned_at_both_ends(runner):
    async def test():
        with listen(Tcp("127.0.0.1", 0)) as listener:
            ends = await joined(listener, bound_address(Tcp("127.0.0.1", 0), listener))
            for end in ends:
                connection = end.transport.get_extra_info("socket")
                assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                options = {name: connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in TUNED}
                assert options == TUNED
            await ended(*ends)

    runner.run(test())


def test_the_next_address_of_a_host_is_tried(monkeypatch):
    async def test():
        with listen(Tcp("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            # uvloop does not look names up by the function that can be replaced.
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            ends = await joined(listener, Tcp("two.test", port))
            await ended(*ends)

    with asyncio.Runner() as runner:
        runner.run(test())


def refused_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (lambda _: Tcp("127.0.0.1", refused_port()), "^tcp://127.0.0.1:[0-9]+: Connection refused$"),
        (lambda _: Tcp("no-such-host.invalid", 1), "^tcp://no-such-host.invalid:1: .+"),
        (lambda home: Unix(str(home / "nobody")), "^unix:.*/nobody: No such file or directory$"),
        (lambda _: Unix("/" + "x" * 200), "^unix:/x+: too long for a unix socket, 107 bytes at most$"),
        (lambda _: Inherited("x"), "^systemd:x: is for listening only$"),
    ],
    ids=["refused", "unknown", "missing", "long", "inherited"],
)
def test_what_can_not_be_connected_to(runner, home, address, problem):
    with pytest.raises(ConnectError, match=problem):
        runner.run(connect(address(home), Noting, seconds=10))


def test_it_does_not_take_longer_than_allowed(runner):
    # A listener that accepts nothing, and has no room for one more.
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first = socket.create_connection(full.getsockname())
        address = Tcp(*full.getsockname())
        with first, pytest.raises(ConnectError, match=f"^{address}: not connected after 0.2 s$"):
            runner.run(connect(address, Noting, seconds=0.2))


def test_cancelling_leaves_nothing_open(runner):
    async def test():
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            with socket.create_connection(full.getsockname()):
                before = descriptors()
                attempt = asyncio.gather(connect(Tcp(*full.getsockname()), Noting, seconds=60))
                for _ in range(5):
                    await asyncio.sleep(0.001)
                attempt.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await attempt
                assert descriptors() == before

    runner.run(test())


def vsock_problem():
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except OSError as error:
        return f"no vsock on this kernel: {error}"
    return ""


@pytest.mark.skipif(bool(vsock_problem()), reason=vsock_problem() or "there is vsock")
def test_nobody_at_a_vsock_address(runner):
    # Whether the kernel says no at once, or nobody ever answers, depends on what carries vsock here.
    with pytest.raises(ConnectError, match=r"^vsock:cid=1;port=77777: .+"):
        runner.run(connect(Vsock(1, 77_777), Noting, seconds=0.5))


@pytest.mark.skipif(bool(vsock_problem()), reason=vsock_problem() or "there is vsock")
def test_vsock_to_this_machine(runner):
    async def test():
        port = 0x4B58_0000 | os.getpid() & 0xFFFF
        with listen(Vsock(ANY_CID, port)) as listener:
            try:
                transport, client = await connect(Vsock(1, port), Noting, seconds=0.5)
            except ConnectError as error:
                pytest.skip(f"this kernel carries no vsock to itself: {error}")
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            server = Echo()
            await accept(connection, lambda: server, seconds=10)
            transport.write(b"hello")
            await client.until(lambda: client.data == b"hello")
            await ended(client, server)

    runner.run(test())
