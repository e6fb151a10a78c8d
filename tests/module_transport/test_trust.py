"""Whom libkeyway.so trusts over TLS, what it says when it does not, and which settings it refuses."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest
from tests.authority import Authority
from tests.module_transport.conftest import Application, finish, mutual, own, resume, server, until_paused
from tests.module_transport.relay import Relay, doorkeeper

if TYPE_CHECKING:
    from pathlib import Path

    from tests.daemon.harness import RunningDaemon

SIGN = ("initialize", "open", "login", "keys", "sign", "close", "finalize")
ASK_TWICE = ("initialize", "slots", "slots", "finalize")
NO_SLOTS = [("initialize", "0"), ("slots", "0", "0"), ("slots", "0", "0"), ("finalize", "0")]
CKR_GENERAL_ERROR = 0x05


def wrong_ca(home: Path, authority: Authority) -> ssl.SSLContext:
    return server(Authority(home, "other"))


def wrong_name(home: Path, authority: Authority) -> ssl.SSLContext:
    return server(authority, authority.issue("gateway.example"))


def expired(home: Path, authority: Authority) -> ssl.SSLContext:
    return server(authority, authority.issue("127.0.0.1", stem="old", expired=True))


def demanding(home: Path, authority: Authority) -> ssl.SSLContext:
    return mutual(authority)


def outdated(home: Path, authority: Authority) -> ssl.SSLContext:
    context = server(authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (wrong_ca, "its certificate is not signed by one in ca"),
        (wrong_name, 'its certificate is refused: certificate not valid for name "127.0.0.1"'),
        (expired, "its certificate has expired"),
        (demanding, "the handshake succeeds, but then nobody answers; does it accept our certificate?"),
    ],
)
def test_a_peer_without_trust_is_as_good_as_absent(
    application: Application, daemon: RunningDaemon, home: Path, authority: Authority, peer, reason: str
) -> None:
    with Relay(daemon.socket, peer(home, authority)) as relay:
        address = f"tls://127.0.0.1:{relay.port}"
        done = application.run(*ASK_TWICE, address=address, ca=authority.file)
        assert done.steps == NO_SLOTS
        # Once, although it was tried again with each call.
        assert done.errors.count("\n") == 1
        assert done.errors.startswith(f"keyway: {address}: {reason}")
        assert relay.requested == 0


@pytest.mark.parametrize(
    ("peer", "shown", "reason"),
    [
        (demanding, None, "it demands a client certificate; set certificate and key"),
        (demanding, "other", "it refuses us: UnknownCA"),
        (outdated, None, "it refuses us: ProtocolVersion"),
    ],
)
def test_a_peer_that_says_why_it_refuses_is_quoted(
    application: Application, home: Path, authority: Authority, peer, shown: str | None, reason: str
) -> None:
    with doorkeeper(peer(home, authority)) as port:
        address = f"tls://127.0.0.1:{port}"
        certificate = own(Authority(home, shown)) if shown else {}
        done = application.run(*ASK_TWICE, address=address, ca=authority.file, **certificate)
        assert done.steps == NO_SLOTS
        assert done.errors == f"keyway: {address}: {reason}\n"


def test_the_next_address_is_tried_after_one_without_trust(
    application: Application, daemon: RunningDaemon, home: Path, authority: Authority
) -> None:
    with Relay(daemon.socket, wrong_ca(home, authority)) as wrong, Relay(daemon.socket, server(authority)) as right:
        address = f"tls://127.0.0.1:{wrong.port} tls://127.0.0.1:{right.port}"
        done = application.run(*SIGN, address=address, ca=authority.file)
        assert done.all_good(), done
        assert done.errors.startswith(f"keyway: tls://127.0.0.1:{wrong.port}: ")


def test_a_peer_that_speaks_no_tls_is_as_good_as_absent(
    application: Application, daemon: RunningDaemon, authority: Authority
) -> None:
    with Relay(daemon.socket) as relay:
        done = application.run(*ASK_TWICE, address=f"tls://127.0.0.1:{relay.port}", ca=authority.file)
        assert done.steps == NO_SLOTS


def test_the_certificate_may_be_for_another_name_that_is_set(
    application: Application, daemon: RunningDaemon, home: Path, authority: Authority
) -> None:
    with Relay(daemon.socket, wrong_name(home, authority)) as relay:
        (home / "keyway").mkdir()
        (home / "keyway" / "module.toml").write_text(
            f'address = "tls://127.0.0.1:{relay.port}"\nca = "{authority.file}"\nserver_name = "gateway.example"\n'
        )
        assert application.run(*SIGN).all_good()
        # A variable goes before the file.
        done = application.run(*ASK_TWICE, server_name="other.example")
        assert done.steps == NO_SLOTS


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_certificate_may_be_for_an_ip_address(
    application: Application, daemon: RunningDaemon, authority: Authority, host: str
) -> None:
    with Relay(daemon.socket, server(authority, authority.issue(host, stem="numbered")), host=host) as relay:
        address = f"tls://[{host}]:{relay.port}" if ":" in host else f"tls://{host}:{relay.port}"
        done = application.run(*SIGN, address=address, ca=authority.file)
        assert done.all_good(), done


def test_renewed_certificates_are_taken_at_the_next_connection(
    application: Application, daemon: RunningDaemon, home: Path, authority: Authority
) -> None:
    renewed = Authority(home, "renewed")
    relay = Relay(daemon.socket, mutual(authority))
    with relay:
        settings = {"ca": authority.file, **own(authority)}
        steps = ("initialize", "open", "pause", "open", "random", "pause", "open", "random", "finalize")
        process = application.start(*steps, address=f"tls://localhost:{relay.port}", **settings)
        until_paused(process)
    with Relay(daemon.socket, mutual(renewed), port=relay.port) as again:
        for old, new in zip(settings.values(), [renewed.file, *own(renewed).values()], strict=True):
            old.write_bytes(new.read_bytes())
        resume(process)
        until_paused(process)
        # Files that can't be read any more are no reason to give up.
        for file in settings.values():
            file.unlink()
        again.cut()
        resume(process)
        done = finish(process)
        assert done.all_good(), done
        assert done.errors == ""


def test_a_wrong_setting_is_told_with_its_place(application: Application, home: Path, authority: Authority) -> None:
    mine, other = authority.issue("client"), authority.issue("other")
    file = home / "keyway" / "module.toml"
    file.parent.mkdir()
    for line, problem in [
        (f'ca = "{mine.key}"', f"{file}:2: {mine.key}: no certificate in it"),
        ('ca = "/nowhere.pem"', f"{file}:2: /nowhere.pem: No such file or directory (os error 2)"),
        (f'certificate = "{mine.certificate}"', f"{file}:2: certificate needs key (KEYWAY_KEY), too"),
        (
            f'certificate = "{mine.certificate}"\nkey = "{other.key}"',
            f"{file}:3: {other.key}: not the key of the certificate",
        ),
        (
            f'certificate = "{mine.certificate}"\nkey = "{mine.certificate}"',
            f"{file}:3: {mine.certificate}: no private key in it, or one with a passphrase",
        ),
    ]:
        file.write_text(f'address = "tls://localhost:1"\n{line}\n')
        ca = {} if line.startswith("ca") else {"ca": authority.file}
        done = application.run("initialize", **ca)
        assert done.rvs("initialize") == [CKR_GENERAL_ERROR]
        assert done.errors == f"keyway: {problem}\n"


def test_what_would_be_read_on_the_way_must_be_asked_for(application: Application) -> None:
    done = application.run("initialize", address="tcp://gateway.invalid:5657")
    assert done.rvs("initialize") == [CKR_GENERAL_ERROR]
    assert done.errors.startswith("keyway: KEYWAY_ADDRESS: tcp://gateway.invalid:5657 would carry PINs")
    done = application.run(*ASK_TWICE, address="tcp://gateway.invalid:5657", insecure=1)
    assert done.steps == NO_SLOTS
