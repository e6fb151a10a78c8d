"""Listening sockets for all addresses, and what is said when there is none."""

import os
import socket

import pytest

from keyway.address import ANY_CID, Inherited, Tcp, Tls, Unix, Vsock
from keyway.transport.errors import AddressError
from keyway.transport.listen import bound_address, inherited, listen


def has_ipv6():
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def is_ready(listener):
    return (
        listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        and not listener.getblocking()
        and not os.get_inheritable(listener.fileno())
    )


@pytest.mark.parametrize("kind", [Tcp, Tls])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_any_free_port(kind, host):
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6 on this machine")
    with listen(kind(host, 0)) as listener:
        assert is_ready(listener)
        found = bound_address(kind(host, 0), listener)
        assert isinstance(found, kind)
        assert (found.host, found.port) == (host, listener.getsockname()[1])
        with socket.create_connection(listener.getsockname()[:2]):
            pass


def test_an_address_with_a_port_is_bound_as_it_is(home):
    with listen(Unix(str(home / "s"))) as listener:
        assert is_ready(listener)
        assert bound_address(Unix(str(home / "s")), listener) == Unix(str(home / "s"))


def test_a_port_is_free_again_at_once():
    with listen(Tcp("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server, _ = listener.accept()
        # Closed first at this end, which keeps the port in TIME_WAIT.
        server.close()
        client.close()
    listen(Tcp("127.0.0.1", port)).close()


def test_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressError, match=f"tls://127.0.0.1:{port}: Address already in use"):
            listen(Tls("127.0.0.1", port))


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (Tcp("192.0.2.1", 0), "tcp://192.0.2.1:0: Cannot assign requested address"),
        (Tcp("no-such-host.invalid", 0), "tcp://no-such-host.invalid:0: .+"),
        (Inherited("x"), "systemd:x: no such socket is handed over"),
    ],
)
def test_what_can_not_be_listened_on(address, problem):
    with pytest.raises(AddressError, match=problem):
        listen(address)


def test_vsock():
    try:
        socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
    except OSError as error:
        pytest.skip(f"no vsock on this kernel: {error}")
    port = 0x4B57 << 8 | os.getpid() & 0xFF
    with listen(Vsock(ANY_CID, port)) as listener:
        assert is_ready(listener)
        assert listener.family == socket.AF_VSOCK
        with pytest.raises(AddressError, match=f"vsock:cid=any;port={port}: Address already in use"):
            listen(Vsock(ANY_CID, port))


@pytest.mark.parametrize(
    ("environment", "given"),
    [
        ({}, {}),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "1"}, {"": 3, "0": 3}),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "1"}, {}),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "x"}, {}),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "-1"}, {}),
        ({"LISTEN_PID": "7"}, {}),
        (
            {"LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a::b"},
            {"": 3, "0": 3, "a": 3, "1": 4, "2": 5, "b": 5},
        ),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "a:a"}, {"": 3, "0": 3, "a": 3, "1": 4}),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "a:b"}, {"": 3, "0": 3, "a": 3}),
    ],
)
def test_what_a_service_manager_says(environment, given):
    assert inherited(environment, 7) == given


def test_a_claim_of_many_sockets_costs_little():
    assert len(inherited({"LISTEN_PID": "7", "LISTEN_FDS": "9" * 18}, 7)) < 2000


class TestInherited:
    def test_a_socket_that_listens(self):
        with socket.create_server(("127.0.0.1", 0)) as theirs:
            theirs.set_inheritable(True)
            with listen(Inherited("x"), given={"x": theirs.fileno()}) as listener:
                assert is_ready(listener)
                assert listener.getsockname() == theirs.getsockname()
            assert not theirs.get_inheritable()

    @pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
    def test_a_socket_that_does_not(self, kind):
        problem = pytest.raises(AddressError, match=r"systemd:x: descriptor .* does not listen for streams")
        with socket.socket(socket.AF_INET, kind) as theirs, problem:
            listen(Inherited("x"), given={"x": theirs.fileno()})

    def test_no_socket(self):
        reading, writing = os.pipe()
        try:
            with pytest.raises(AddressError, match=r"systemd:x: descriptor .* is no socket"):
                listen(Inherited("x"), given={"x": reading})
        finally:
            os.close(reading)
            os.close(writing)

    def test_nothing(self):
        reading, writing = os.pipe()
        os.close(reading)
        os.close(writing)
        with pytest.raises(AddressError, match=r"systemd:x: descriptor .* is no socket"):
            listen(Inherited("x"), given={"x": reading})
