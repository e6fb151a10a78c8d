"""A gateway that wants tickets, as clients with and without one see it. The KDC is a real one."""

import asyncio
import hashlib
import socket
import subprocess
import sys
from contextlib import ExitStack

import gssapi
import pytest
from tests.daemon.harness import KEYWAY, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import make, open_session, slot_of, slots
from tests.kerberos.client import HOST, GssSocket, client, is_ended, mechanism, plain, port_of, receive_piece
from tests.kerberos.realm import REALM, section
from tests.transport.ends import Noting

from keyway.address import Gss
from keyway.cryptoki import Fill, Mechanism, Null, Room
from keyway.cryptoki.constants import CKM_SHA256
from keyway.transport.connect import connect
from keyway.transport.errors import ConnectError, GssError, KerberosError
from keyway.transport.kerberos import Acceptor, Initiator
from keyway.transport.pieces import MAX_TOKEN, piece

REFUSED = "connection refused"
BROKEN = "connection broken"


def use(who: RawClient) -> None:
    """Do what needs the token."""
    who.initialize()
    assert who.good("C_GetInfo", True)
    who.good("C_Finalize")


def wire(who: RawClient) -> GssSocket:
    """The connection of a client."""
    assert isinstance(who.socket, GssSocket)
    return who.socket


def reason(daemon, event=REFUSED, count=1):
    """Return why the daemon has refused the last connection, or ended it. It serves others as before."""
    until(lambda: len(daemon.events(event)) >= count, "the reason is in the log")
    with RawClient(daemon.socket) as other:
        use(other)
    return daemon.events(event)[-1]["reason"]


def problem(daemon, service="", keytab=None):
    """Connect in vain, and return what the user is told."""
    address = Gss("127.0.0.1", port_of(daemon))
    with pytest.raises(ConnectError) as caught:
        asyncio.run(connect(address, Noting, kerberos=Initiator(service, HOST, keytab), seconds=20))
    assert str(caught.value).startswith(f"{address}: ")
    return str(caught.value)


class TestTicket:
    def test_who_has_one_is_served_and_named(self, gateway, alice):
        daemon = gateway()
        with client(daemon) as one:
            one.initialize()
            assert one.good("C_GetInfo", True)
            (context,) = daemon.contexts()
            assert (context["transport"], context["principal"]) == ("gss", f"alice@{REALM}")
            assert context["address"].startswith("127.0.0.1:")
            assert "uid" not in context

    def test_two_users_are_two_peers(self, gateway, realm, monkeypatch):
        daemon = gateway()
        for user in ("alice", "bob"):
            monkeypatch.setenv("KRB5CCNAME", realm.ticket(user)["KRB5CCNAME"])
            with client(daemon) as one:
                use(one)
        opened = [entry.get("principal") for entry in daemon.events("context opened")]
        assert [each for each in opened if each] == [f"alice@{REALM}", f"bob@{REALM}"]

    def test_a_principal_is_an_identity(self, start, home, realm, monkeypatch):
        daemon = start(softhsm(home) + section(realm))
        make(daemon, "demo")
        (home / "keyway.toml").write_text(
            (home / "keyway.toml").read_text()
            + f'[identity.alice]\nprincipal = ["alice@{REALM}"]\nroles = ["all"]\n[role.all]\ntokens = ["pkcs11:"]\n'
        )
        assert daemon.stop() == 0
        daemon.start()
        seen = {}
        for user in ("alice", "bob"):
            monkeypatch.setenv("KRB5CCNAME", realm.ticket(user)["KRB5CCNAME"])
            with client(daemon) as one:
                one.initialize()
                seen[user] = bool(slots(one))
        assert seen == {"alice": True, "bob": False}

    def test_frames_of_several_records(self, gateway, alice):
        data = bytes(range(256)) * 1200
        with client(gateway()) as one:
            one.initialize()
            session = open_session(one, slot_of(one, "demo"))
            one.good("C_DigestInit", Mechanism(CKM_SHA256, Null()), target=session)
            (digest,) = one.good("C_Digest", data, Room(32, True), target=session)
            assert digest.data == hashlib.sha256(data).digest()
            (random,) = one.good("C_GenerateRandom", Fill(True, len(data)), target=session)
            assert len(random) == len(data)

    def test_control_calls_are_for_the_local_user_only(self, gateway, alice):
        with client(gateway()) as one:
            one.send(0x4000)
            assert one.receive().header.rv == 0x1B

    def test_there_is_none(self, gateway):
        assert "there is no ticket: get one with kinit" in problem(gateway())

    def test_it_has_expired(self, gateway, realm, monkeypatch):
        environment = realm.ticket("bob", "-l", "1s")
        monkeypatch.setenv("KRB5CCNAME", environment["KRB5CCNAME"])
        until(lambda: subprocess.run(["klist", "-s"], check=False).returncode, "the ticket has expired")
        assert "the ticket has expired: get a new one with kinit" in problem(gateway())

    def test_it_is_for_another_service(self, gateway, alice):
        daemon = gateway()
        assert "the ticket is for another service" in problem(daemon, f"host@{HOST}")
        assert "the ticket is for another service" in reason(daemon)

    def test_the_service_is_unknown(self, gateway, alice):
        assert "the KDC does not know this service" in problem(gateway(), f"nfs@{HOST}")

    def test_a_new_key_is_used_without_a_restart(self, gateway, realm, alice):
        realm.service("pkcs11/moving")
        daemon = gateway()
        realm.add_key("pkcs11/moving", "lost.keytab")
        assert "the keytab lacks the key" in problem(daemon, "pkcs11@moving")
        assert "the keytab lacks the key" in reason(daemon)
        realm.add_key("pkcs11/moving")
        realm.ticket("alice")
        with RawClient.over(GssSocket(plain(daemon), mechanism("pkcs11@moving"))) as one:
            use(one)

    def test_one_got_with_a_key_of_ones_own(self, gateway, realm):
        realm.service("hsm/client", keytab="client.keytab")
        daemon = gateway()

        async def test():
            kerberos = Initiator("", HOST, realm.home / "client.keytab")
            transport, end = await connect(Gss("127.0.0.1", port_of(daemon)), Noting, kerberos=kerberos, seconds=20)
            transport.write(b"\x81")
            await end.until(lambda: end.data)
            transport.close()
            await end.end()
            assert end.data == b"\x81"

        asyncio.run(test())

    def test_it_is_not_handed_on(self, realm, monkeypatch):
        monkeypatch.setenv("KRB5CCNAME", realm.ticket("alice", "-f")["KRB5CCNAME"])
        acceptor = gssapi.SecurityContext(
            creds=gssapi.Credentials(usage="accept", store={"keytab": str(realm.keytab)}), usage="accept"
        )
        assert acceptor.step(mechanism().step(b""))
        assert acceptor.complete
        assert gssapi.RequirementFlag.delegate_to_peer not in acceptor.actual_flags
        assert acceptor.delegated_creds is None

    @pytest.mark.parametrize("missing", ["mutual_authentication", "replay_detection", "out_of_sequence_detection"])
    def test_a_client_that_asks_for_less_is_refused(self, realm, alice, missing):
        flag = gssapi.RequirementFlag
        flags = {
            flag.mutual_authentication,
            flag.confidentiality,
            flag.integrity,
            flag.replay_detection,
            flag.out_of_sequence_detection,
        } - {flag[missing]}
        name = gssapi.Name(f"pkcs11@{HOST}", gssapi.NameType.hostbased_service)
        weak = gssapi.SecurityContext(name=name, flags=sum(flags), mech=gssapi.MechType.kerberos, usage="initiate")
        with pytest.raises(GssError, match=missing.replace("_", " ")):
            Acceptor("", realm.keytab).begin().step(weak.step())


class TestAttacks:
    def test_a_handshake_is_recorded_and_sent_again(self, gateway, alice):
        daemon = gateway()
        token = piece(mechanism().step(b""))
        with plain(daemon) as first, plain(daemon) as second:
            first.sendall(token)
            assert receive_piece(first)
            second.sendall(token)
            # What tells why, and then the end.
            assert receive_piece(second)
            assert is_ended(second)
        assert "the same ticket was shown before" in reason(daemon)

    def test_a_handshake_is_changed(self, gateway, alice):
        daemon = gateway()
        token = bytearray(mechanism().step(b""))
        token[-1] ^= 1
        with plain(daemon) as connection:
            connection.sendall(piece(bytes(token)))
            assert is_ended(connection)
        assert reason(daemon)

    def test_a_record_is_changed(self, gateway, alice):
        daemon = gateway()
        with client(daemon) as one:
            one.initialize()
            record = bytearray(wire(one).mechanism.wrap(b"x" * 32))
            record[-1] ^= 1
            wire(one).send_plain(piece(bytes(record)))
            assert one.is_closed()
        assert "a record is damaged or forged" in reason(daemon, BROKEN)
        assert daemon.events(BROKEN)[-1]["principal"] == f"alice@{REALM}"
        until(lambda: not daemon.contexts(), "its context is closed")

    def test_a_record_is_sent_twice(self, gateway, alice):
        daemon = gateway()
        with client(daemon) as one:
            one.initialize()
            record = piece(wire(one).mechanism.wrap(b"\0"))
            wire(one).send_plain(record + record)
            assert one.is_closed()
        assert "a record came twice, or another one is missing" in reason(daemon, BROKEN)

    def test_a_record_is_left_out(self, gateway, alice):
        daemon = gateway()
        with client(daemon) as one:
            one.initialize()
            wire(one).mechanism.wrap(b"\0")
            wire(one).sendall(b"\0")
            assert one.is_closed()
        assert "another one is missing" in reason(daemon, BROKEN)

    def test_a_record_is_not_encrypted(self, gateway, alice):
        daemon = gateway()
        with client(daemon) as one:
            one.initialize()
            bare = gssapi.raw.wrap(vars(wire(one).mechanism)["_context"], b"\0", confidential=False)
            wire(one).send_plain(piece(bare.message))
            assert one.is_closed()
        assert "not encrypted" in reason(daemon, BROKEN)

    def test_the_stream_is_cut(self, gateway, alice):
        daemon = gateway()
        with client(daemon) as one:
            one.initialize()
            wire(one).send_plain(piece(wire(one).mechanism.wrap(b"\0"))[:-1])
            wire(one).shutdown(socket.SHUT_WR)
            assert one.is_closed()
        assert "ends within a record" in reason(daemon, BROKEN)
        until(lambda: not daemon.contexts(), "its context is closed")

    def test_plain_bytes_after_the_handshake(self, gateway, alice):
        daemon = gateway()
        with client(daemon) as one:
            wire(one).send_plain(b"\0\0\0\x20" + b"x" * 32)
            assert one.is_closed()
        assert "damaged or forged" in reason(daemon, BROKEN)


class TestHandshake:
    @pytest.mark.parametrize(
        ("sent", "why"),
        [
            (b"", "ended the connection"),
            (b"\0\0\1", "ended the connection"),
            (b"\x81", "does not speak GSS-API"),
            (b"GET / HTTP/1.0\r\n\r\n", "does not speak GSS-API"),
            (b"\x16\x03\x01\x02\x00\x01", "does not speak GSS-API"),
            (b"\0\0\0\0", "a piece of 0 bytes"),
            ((MAX_TOKEN + 1).to_bytes(4, "big"), "the limit is 65536"),
            (piece(b"x" * MAX_TOKEN), ""),
            (piece(b"\x60"), ""),
        ],
    )
    def test_what_is_none(self, gateway, sent, why):
        daemon = gateway()
        with plain(daemon) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            assert is_ended(connection)
        assert why in reason(daemon)

    def test_one_that_is_never_finished_is_ended_in_time(self, gateway):
        daemon = gateway("[limits]\ngreeting = 2.0\n")
        with plain(daemon) as connection:
            connection.sendall(b"\0\0\x01")
            assert is_ended(connection)
        assert "the handshake took too long" in reason(daemon)

    def test_many_that_are_not_finished_keep_nobody_out(self, gateway, alice):
        daemon = gateway()
        with ExitStack() as stack:
            silent = [stack.enter_context(plain(daemon)) for _ in range(100)]
            until(lambda: len(daemon.events(REFUSED)) >= 100 - 64, "the oldest are dropped")
            assert is_ended(silent[0])
            with client(daemon) as one:
                use(one)
        assert "too many handshakes" in daemon.events(REFUSED)[0]["reason"]


class TestSetUp:
    def serve(self, home, listener):
        path = home / "k.toml"
        path.write_text(f'[listen]\nsocket = "{home}/k.sock"\n{softhsm(home)}{listener}')
        done = subprocess.run([*KEYWAY, "serve", "-c", path], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert not (home / "k.sock").exists()
        return done.stderr

    def test_a_keytab_that_is_not_there(self, home, realm):
        told = self.serve(home, f'[listener.net]\naddress = "gss://127.0.0.1:0"\nkeytab = "{home}/none"\n')
        assert "gss://127.0.0.1:0: no key for the Kerberos service pkcs11: " in told
        assert f"{home}/none" in told

    def test_a_keytab_that_is_none(self, home, realm):
        told = self.serve(home, f'[listener.net]\naddress = "gss://127.0.0.1:0"\nkeytab = "{home}/k.toml"\n')
        assert "no key for the Kerberos service pkcs11: " in told

    def test_a_keytab_without_the_key(self, home, realm):
        told = self.serve(
            home, f'[listener.net]\naddress = "gss://127.0.0.1:0"\nkeytab = "{realm.keytab}"\nservice = "ldap"\n'
        )
        assert "no key for the Kerberos service ldap: " in told

    def test_without_the_library(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "gssapi", None)
        for begin in (lambda: Acceptor("", None), lambda: Initiator("", HOST, None)):
            with pytest.raises(KerberosError, match=r"pip install 'keyway\[kerberos\]'"):
                begin()

    def test_no_kdc_answers(self, realm, gateway, alice, monkeypatch, home):
        daemon = gateway()
        text = (realm.home / "krb5.conf").read_text()
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            (home / "away.conf").write_text(text.replace(realm.port, str(unused.getsockname()[1])))
            monkeypatch.setenv("KRB5_CONFIG", str(home / "away.conf"))
            assert "no KDC answers" in problem(daemon)
