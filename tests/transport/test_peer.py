"""What is known of who connected, and nothing else."""

import os
import socket
import struct
import sys
from pathlib import Path

import pytest

from keyway.transport.peer import Peer, address_text, certificate_names, has_hung_up, peer_of

NOW = struct.pack("ii", 1, 0)
"""struct linger: reset the connection when it is closed."""


def connected(family=socket.AF_INET, host="127.0.0.1"):
    with socket.create_server((host, 0), family=family) as listener:
        client = socket.create_connection(listener.getsockname()[:2])
        server, _ = listener.accept()
    return client, server


def test_a_unix_peer_is_who_the_kernel_says():
    one, two = socket.socketpair()
    with one, two:
        peer = peer_of(one)
    assert (peer.transport, peer.pid, peer.uid, peer.gid) == ("unix", os.getpid(), os.getuid(), os.getgid())
    assert peer.groups == {os.getgid(), *os.getgroups()}
    assert Path(peer.program) == Path(sys.executable).resolve()
    assert peer.facts().keys() == {"pid", "uid", "gid", "program"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change groups")
def test_all_groups_are_those_when_the_peer_connected():
    groups = list(range(20_000, 21_000))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")
        listener.listen()
        before = os.getgroups()
        try:
            os.setgroups(groups)
            client = socket.socket(socket.AF_UNIX)
            client.connect(listener.getsockname())
        finally:
            os.setgroups(before)
        server, _ = listener.accept()
        with client, server:
            assert peer_of(server).groups == {os.getgid(), *groups}


@pytest.mark.parametrize(
    ("family", "host", "shown"), [(socket.AF_INET, "127.0.0.1", "127.0.0.1"), (socket.AF_INET6, "::1", "[::1]")]
)
def test_a_tcp_peer_is_an_address_and_nobody(family, host, shown):
    client, server = connected(family, host)
    with client, server:
        peer = peer_of(server)
        assert peer.facts() == {"transport": "tcp", "address": f"{shown}:{client.getsockname()[1]}"}
    assert (peer.pid, peer.uid, peer.gid, peer.names) == (None, None, None, ())


def test_a_tls_peer_has_the_names_of_its_certificate():
    client, server = connected()
    with client, server:
        peer = peer_of(server, {"subject": ((("commonName", "alice"),),), "subjectAltName": (("DNS", "a.test"),)})
        assert (peer.transport, peer.certificate, peer.names) == ("tls", "a.test", ("a.test", "alice"))
        assert peer.facts()["certificate"] == "a.test"
        assert peer_of(server, {}).facts().keys() == {"transport", "address"}
        nameless = peer_of(server, {"subject": ((("countryName", "DE"),), (("organizationName", "Org"),))})
        assert (nameless.certificate, nameless.names) == ("countryName=DE, organizationName=Org", ())


def test_a_peer_with_a_ticket_has_a_principal():
    client, server = connected()
    with client, server:
        peer = peer_of(server, principal="alice@TEST")
        assert (peer.transport, peer.principal) == ("gss", "alice@TEST")
        assert peer.facts()["principal"] == "alice@TEST"
        inside = peer_of(server, {}, "alice@TEST")
        assert (inside.transport, inside.principal) == ("tls", "alice@TEST")
        assert peer_of(server).principal == ""


def test_a_peer_that_has_reset_its_connection_is_nobody():
    client, server = connected()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOW)
    client.close()
    with server:
        with pytest.raises(ConnectionResetError):
            server.recv(1)
        with pytest.raises(OSError, match="not connected"):
            peer_of(server)


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        ({}, ()),
        ({"subject": ((("commonName", "alice"),), (("organizationName", "o"),))}, ("alice",)),
        ({"subjectAltName": (("DNS", "a.test"), ("IP Address", "127.0.0.1"), ("DNS", "b.test"))}, ("a.test", "b.test")),
        ({"subject": ((("commonName", "a.test"),),), "subjectAltName": (("DNS", "a.test"),)}, ("a.test",)),
        ({"subject": ((("commonName", "x"), ("commonName", "y")),)}, ("x", "y")),
    ],
)
def test_names_of_certificates(certificate, names):
    assert certificate_names(certificate) == names


@pytest.mark.parametrize(
    ("address", "text"),
    [(("10.0.0.1", 7), "10.0.0.1:7"), (("::1", 7, 0, 0), "[::1]:7"), ((3, 5657), "3:5657"), ("", ""), ("/a", "")],
)
def test_addresses(address, text):
    assert address_text(address) == text


def test_what_is_not_known_is_not_told():
    assert Peer(transport="stdio").facts() == {"transport": "stdio"}
    assert Peer(transport="unix", pid=0, uid=0, gid=0).facts() == {"pid": 0, "uid": 0, "gid": 0}


@pytest.mark.parametrize("connect", [connected, socket.socketpair])
def test_a_peer_that_hangs_up_is_noticed_before_what_it_sent_is_read(connect):
    client, server = connect()
    with server:
        client.sendall(b"x")
        assert not has_hung_up(server)
        client.close()
        assert has_hung_up(server)
