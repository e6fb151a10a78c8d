"""TLS from files: what is refused, what both ends are told about it, and what happens when files change."""

import asyncio
import os
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from tests.authority import Authority, Pair
from tests.transport.ends import Echo, Noting

from keyway.address import Tls
from keyway.transport.accept import accept
from keyway.transport.connect import connect
from keyway.transport.errors import AcceptError, ConnectError, TlsError
from keyway.transport.listen import listen
from keyway.transport.tls import Credentials, describe_refusal

ANY = Tls("127.0.0.1", 0)


@dataclass
class Files:
    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    crl: Path | None = None


def files_of(pair: Pair | None = None, ca: Path | None = None, crl: Path | None = None) -> Files:
    return Files(pair.certificate, pair.key, ca, crl) if pair else Files(ca=ca, crl=crl)


@pytest.fixture
def server_files(authority):
    return files_of(authority.issue("gw.test"), authority.file)


@pytest.fixture
def client_files(authority):
    return files_of(authority.issue("alice"), authority.file)


class Meeting:
    """What came of one connection: the reasons that both ends were told, empty if it works."""

    def __init__(self, runner, server: Credentials, client: Credentials, server_name: str = "gw.test") -> None:
        self.accepted = self.connected = ""
        runner.run(self._meet(server, client, server_name))

    async def _meet(self, server, client, server_name):
        with listen(ANY) as listener:
            address = Tls(*listener.getsockname())
            taking = asyncio.gather(self._take(listener, server))
            await self._connect(address, client, server_name)
            await taking

    async def _take(self, listener, credentials):
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        echo = Echo()
        try:
            await accept(connection, lambda: echo, credentials=credentials, seconds=10)
        except AcceptError as error:
            self.accepted = str(error)
        else:
            await echo.end()

    async def _connect(self, address, credentials, server_name):
        try:
            transport, client = await connect(
                address, Noting, credentials=credentials, server_name=server_name, seconds=10
            )
        except ConnectError as error:
            self.connected = str(error).removeprefix(f"{address}: ")
            return
        transport.write(b"hello")
        news = asyncio.get_running_loop().create_task(client.until(lambda: client.data == b"hello"))
        await asyncio.wait([news, client.lost], timeout=20, return_when=asyncio.FIRST_COMPLETED)
        if client.lost.done():
            news.cancel()
            why = client.lost.result()
            self.connected = describe_refusal(why) if why else "it was closed"
        else:
            assert transport.get_extra_info("ssl_object").version() == "TLSv1.3"
            transport.close()
            await client.end()


def serving(files, **options) -> Credentials:
    return Credentials(files, is_server=True, **options)


def asking(files) -> Credentials:
    return Credentials(files, is_server=False)


class TestHandshakes:
    def test_good_certificates(self, runner, server_files, client_files):
        meeting = Meeting(runner, serving(server_files), asking(client_files))
        assert (meeting.accepted, meeting.connected) == ("", "")

    @pytest.mark.parametrize(
        ("make", "accepted", "connected"),
        [
            (lambda a: None, "it shows no certificate", "it demands a certificate"),
            (
                lambda a: a.issue("alice", expired=True),
                "its certificate is refused: certificate has expired",
                "our certificate has expired",
            ),
            (
                lambda a: Authority(a.file.parent, "other").issue("alice"),
                "its certificate is refused: unable to get local issuer certificate",
                "it does not know the CA of our certificate",
            ),
            (
                lambda a: a.issue_for_server("alice"),
                r"its certificate is refused: uns\w+ certificate purpose",
                "our certificate is not for this end of a connection",
            ),
        ],
        ids=["none", "expired", "other CA", "server's"],
    )
    def test_a_client_that_is_refused(self, runner, authority, server_files, make, accepted, connected):
        client = asking(files_of(make(authority), authority.file))
        meeting = Meeting(runner, serving(server_files), client)
        assert re.fullmatch(accepted, meeting.accepted), meeting.accepted
        assert meeting.connected == connected

    def test_a_client_that_is_revoked(self, runner, authority, server_files, client_files):
        alice, bob = authority.issue("alice"), authority.issue("bob")
        server_files.crl = authority.revoke(bob)
        server = serving(server_files)
        assert Meeting(runner, server, asking(client_files)).accepted == ""
        meeting = Meeting(runner, server, asking(files_of(bob, authority.file)))
        assert meeting.accepted == "its certificate is refused: certificate revoked"
        assert meeting.connected == "our certificate is revoked"
        # The list is read again, and it holds for who was good before: nothing is resumed.
        authority.revoke(alice, bob)
        assert Meeting(runner, server, asking(client_files)).connected == "our certificate is revoked"

    def test_a_list_of_another_ca_lets_nobody_in(self, runner, authority, server_files, client_files, home):
        server_files.crl = Authority(home, "other").revoke()
        assert Meeting(runner, serving(server_files), asking(client_files)).accepted == (
            "its certificate is refused: unable to get certificate CRL"
        )

    def test_a_list_that_has_run_out_lets_nobody_in(self, runner, authority, server_files, client_files):
        server_files.crl = authority.revoke(expired=True)
        assert Meeting(runner, serving(server_files), asking(client_files)).accepted == (
            "its certificate is refused: CRL has expired"
        )

    @pytest.mark.parametrize(
        ("name", "pair", "accepted", "connected"),
        [
            ("else.test", lambda a: a.issue("gw.test"), "it refuses our certificate", "Hostname mismatch"),
            (
                "gw.test",
                lambda a: a.issue("gw.test", expired=True),
                "our certificate has expired",
                "certificate has expired",
            ),
            (
                "gw.test",
                lambda a: Authority(a.file.parent, "other").issue("gw.test"),
                "it does not know the CA of our certificate",
                "unable to get local issuer certificate",
            ),
        ],
        ids=["name", "expired", "other CA"],
    )
    def test_a_server_that_is_refused(self, runner, authority, client_files, name, pair, accepted, connected):
        server = serving(files_of(pair(authority), authority.file))
        meeting = Meeting(runner, server, asking(client_files), name)
        assert meeting.accepted == accepted
        assert meeting.connected.startswith(f"its certificate is refused: {connected}")

    def test_a_server_that_is_revoked(self, runner, authority, server_files, client_files):
        client_files.crl = authority.revoke(authority.issue("gw.test"))
        meeting = Meeting(runner, serving(files_of(authority.issue("gw.test"), authority.file)), asking(client_files))
        assert meeting.connected == ""
        bad = authority.issue("gw.test")
        authority.revoke(bad)
        meeting = Meeting(runner, serving(files_of(bad, authority.file)), asking(client_files))
        assert meeting.connected == "its certificate is refused: certificate revoked"
        assert meeting.accepted == "our certificate is revoked"

    def test_a_client_without_any_ca_trusts_nobody(self, runner, server_files):
        assert "its certificate is refused" in Meeting(runner, serving(server_files), asking(Files())).connected

    @pytest.mark.parametrize("clients", ["optional", "none"])
    def test_a_client_may_come_without_a_certificate(self, runner, authority, server_files, clients):
        server = serving(server_files, clients=clients)
        meeting = Meeting(runner, server, asking(files_of(ca=authority.file)))
        assert (meeting.accepted, meeting.connected) == ("", "")

    def test_an_optional_certificate_must_still_be_good(self, runner, authority, server_files, home):
        stranger = files_of(Authority(home, "other").issue("alice"), authority.file)
        server = serving(server_files, clients="optional")
        assert "unable to get local issuer" in Meeting(runner, server, asking(stranger)).accepted

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"GET / HTTP/1.0\r\n\r\n", "it speaks HTTP, not TLS"),
            (b"\x81\x00\x00\x00\x00\x00\x00\x00", "it does not speak TLS"),
            (b"", "it ended the connection during the TLS handshake"),
        ],
        ids=["http", "native", "nothing"],
    )
    def test_what_is_no_tls(self, runner, server_files, data, reason):
        async def test():
            with listen(ANY) as listener:
                client = socket.create_connection(listener.getsockname())
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
                with client, pytest.raises(AcceptError, match=reason):
                    await accept(connection, Noting, credentials=serving(server_files), seconds=10)

        runner.run(test())

    def test_silence(self, runner, server_files):
        async def test():
            with listen(ANY) as listener, socket.create_connection(listener.getsockname()):
                connection, _ = await asyncio.get_running_loop().sock_accept(listener)
                with pytest.raises(AcceptError, match="the TLS handshake took too long"):
                    await accept(connection, Noting, credentials=serving(server_files), seconds=0.1)

        runner.run(test())

    def test_a_silent_server(self, runner, client_files):
        with listen(ANY) as listener:
            attempt = connect(Tls(*listener.getsockname()), Noting, credentials=asking(client_files), seconds=0.2)
            with pytest.raises(ConnectError, match=r"not connected after|taking longer"):
                runner.run(attempt)

    def test_older_versions(self, runner, server_files, client_files):
        client = asking(client_files)
        client.context().minimum_version = ssl.TLSVersion.TLSv1_2
        client.context().maximum_version = ssl.TLSVersion.TLSv1_2
        meeting = Meeting(runner, serving(server_files), client)
        assert meeting.accepted == "it does not speak TLS 1.3"
        assert meeting.connected == "it does not speak TLS 1.3"


def test_nothing_stays_open(runner, authority, server_files):
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    server = serving(server_files)
    clients = [asking(files_of(pair, authority.file)) for pair in (authority.issue("alice"), None)]

    def meet() -> None:
        for client in clients:
            Meeting(runner, server, client)
        # Loops close a little later.
        runner.run(asyncio.sleep(0))
        runner.run(asyncio.sleep(0))

    meet()
    before = count()
    meet()
    assert count() == before


def encrypted(pair: Pair) -> None:
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    pair.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


class TestFiles:
    @pytest.mark.parametrize("which", ["certificate", "key", "ca", "crl"])
    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (Path.unlink, "No such file or directory"),
            (lambda path: path.write_text(""), ""),
            (lambda path: path.write_text("no PEM"), ""),
            (lambda path: path.write_bytes(os.urandom(999)), ""),
            (lambda path: (path.unlink(), path.mkdir()), "Is a directory"),
        ],
        ids=["missing", "empty", "text", "noise", "directory"],
    )
    def test_a_bad_file_is_named(self, authority, server_files, which, spoil, reason):
        server_files.crl = authority.revoke()
        serving(server_files)
        path = getattr(server_files, which)
        spoil(path)
        with pytest.raises(TlsError) as raised:
            serving(server_files)
        assert str(path) in str(raised.value)
        assert reason in str(raised.value)
        assert len(str(raised.value)) > len(str(path)) + 4

    def test_a_key_of_another_certificate(self, authority, server_files):
        server_files.key = authority.issue("bob").key
        with pytest.raises(TlsError, match="they do not belong together"):
            serving(server_files)

    def test_an_encrypted_key(self, authority):
        pair = authority.issue("gw.test")
        encrypted(pair)
        with pytest.raises(TlsError, match="the key is encrypted"):
            serving(files_of(pair, authority.file))

    def test_a_ca_in_place_of_a_revocation_list(self, authority, server_files):
        server_files.crl = authority.file
        with pytest.raises(TlsError, match="holds no revocation list"):
            serving(server_files)

    def test_a_revocation_list_in_place_of_a_ca(self, authority, server_files):
        server_files.ca = authority.revoke()
        with pytest.raises(TlsError, match="holds no certificate"):
            serving(server_files)

    @pytest.mark.parametrize(("mode", "told"), [(0o600, 0), (0o640, 0), (0o644, 1), (0o604, 1)])
    def test_a_key_that_everybody_may_read_is_told(self, server_files, mode, told):
        server_files.key.chmod(mode)
        reports: list[str] = []
        serving(server_files, report=reports.append)
        assert len(reports) == told
        assert all("everybody on this machine may read" in report for report in reports)


class TestReload:
    @pytest.fixture
    def reports(self):
        return []

    @pytest.fixture
    def credentials(self, server_files, reports):
        return serving(server_files, report=reports.append)

    def test_nothing_is_read_again_without_need(self, credentials, reports):
        assert credentials.context() is credentials.context()
        assert reports == []

    def test_new_files_are_used(self, runner, authority, credentials, client_files, reports):
        before = credentials.context()
        authority.issue("new.test", stem="gw.test")
        assert credentials.context() is not before
        assert reports == ["the changed TLS files are in use"]
        assert Meeting(runner, credentials, asking(client_files), "new.test").connected == ""

    def test_files_that_are_replaced_by_a_link_are_noticed(self, home, authority, reports):
        def turn(pair: Pair) -> None:
            for suffix in ("crt", "key"):
                (home / "next").symlink_to(pair.certificate.with_suffix(f".{suffix}"))
                (home / "next").replace(home / f"current.{suffix}")

        turn(authority.issue("one.test"))
        credentials = serving(Files(home / "current.crt", home / "current.key", authority.file), report=reports.append)
        turn(authority.issue("two.test"))
        credentials.context()
        assert reports == ["the changed TLS files are in use"]

    @pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_text("no certificate")])
    def test_bad_files_are_told_once_and_the_last_good_ones_stay(self, server_files, credentials, reports, spoil):
        before = credentials.context()
        good = server_files.certificate.read_bytes()
        spoil(server_files.certificate)
        assert credentials.context() is before
        assert credentials.context() is before
        (report,) = reports
        assert report.startswith(f"the changed TLS files are not used: {server_files.certificate}")
        server_files.certificate.write_bytes(good)
        assert credentials.context() is not before
        assert reports[1:] == ["the changed TLS files are in use"]

    def test_a_certificate_that_comes_before_its_key(self, authority, server_files, credentials, reports):
        before = credentials.context()
        new = authority.issue("new.test")
        new.certificate.replace(server_files.certificate)
        assert credentials.context() is before
        new.key.replace(server_files.key)
        assert credentials.context() is not before
        assert ["do not belong together" in report for report in reports] == [True, False]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionResetError(), "it ended the connection during the TLS handshake"),
        (EOFError(), "it ended the connection during the TLS handshake"),
        (TimeoutError(), "the TLS handshake took too long"),
        (ssl.SSLError(), "TLS failed"),
        (OSError(113, "No route to host"), "No route to host"),
        (OSError(), "the connection failed"),
        (ValueError("secret"), "ValueError"),
    ],
)
def test_words_for_other_errors(error, words):
    assert describe_refusal(error) == words
