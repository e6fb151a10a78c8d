"""Two IPsec gateways whose keys are behind Keyway, for real: through libkeyway.so over TLS on one side, through p11-kit-client.so on the other.

charon is never restarted, and never told anything, but where a test says so. No test depends on another one.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemon.harness import until
from tests.strongswan.charon import PATIENCE
from tests.strongswan.gateway import KEYS
from tests.strongswan.lab import Lab

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def lab(tunnels: None, home: Path) -> Iterator[Lab]:
    made = Lab(home)
    try:
        made.start_charons()
        yield made
    finally:
        made.close()


@pytest.fixture
def tunnel(lab: Lab) -> Iterator[Lab]:
    """The lab with a tunnel that is proved by RSA keys."""
    lab.settle()
    with lab.tunnel("rsa"):
        yield lab


def test_keys_are_found_in_the_tokens_and_nowhere_else(lab):
    for peer in lab.peers:
        log = peer.charon.log()
        assert "loaded RSA private key from token" in log
        assert "loaded ECDSA private key from token" in log
        assert "engine" not in log
        assert peer.charon.swanctl("--list-certs", "--type", "x509").count("has private key") == len(KEYS)


@pytest.mark.parametrize("key", KEYS)
def test_a_tunnel_with_each_kind_of_key(lab, key):
    lab.settle()
    with lab.tunnel(key):
        scheme = {"rsa": "RSA_EMSA_PKCS1_SHA2_256", "ec": "ECDSA_WITH_SHA256_DER"}[key]
        for peer in lab.peers:
            assert f"authentication of 'CN={key}-{peer.name}' (myself) with {scheme} successful" in peer.charon.log()
        lab.reauthenticate(key)
        lab.passes()


def test_a_member_of_each_pool_is_killed(tunnel):
    for peer in tunnel.peers:
        peer.gateway.lose("one")
    tunnel.reauthenticate("rsa")
    tunnel.passes()
    for peer in tunnel.peers:
        assert peer.gateway.member("one")["state"] != "up"
        peer.gateway.settle()
    tunnel.reauthenticate("rsa")
    tunnel.passes()


def test_the_daemon_is_killed_and_started_again(tunnel):
    """Moon's alone: p11-kit-client.so has no way to go on behind a lost connection, so sun's daemon stays up."""
    tunnel.moon.gateway.kill()
    tunnel.passes()
    tunnel.moon.gateway.start()
    tunnel.reauthenticate("rsa")
    tunnel.passes()
    # No session of charon's has been at the second member of the new daemon.
    tunnel.moon.gateway.lose("one")
    tunnel.reauthenticate("rsa")
    tunnel.passes()


def test_the_daemon_is_away_while_it_is_needed(tunnel):
    """A signature waits for it."""
    moon = tunnel.moon
    moon.gateway.kill()
    asked = moon.charon.log().count("parsed IKE_SA_INIT response")
    before = tunnel.begin_reauthentication("rsa")
    until(lambda: moon.charon.log().count("parsed IKE_SA_INIT response") > asked, "charon needs its key", PATIENCE)
    moon.gateway.start()
    tunnel.until_reauthenticated("rsa", before)
    tunnel.passes()


def test_a_renewed_certificate(tunnel):
    """The peer refuses the old certificate from now on; the tunnel stays up."""
    moon, sun = tunnel.peers
    old = moon.certificates["rsa"]
    moon.renew("rsa", tunnel.authority)
    sun.charon.vici.load_cert({"type": "X509_CRL", "flag": "NONE", "data": tunnel.authority.revoke(old)})
    refused = sun.charon.log().count("certificate was revoked")
    (before,) = moon.charon.sas("rsa")
    told = moon.keyway("apply", "--rotate", "--vici", str(moon.charon.socket), str(moon.config))
    assert f"IKE SA {before['uniqueid'].decode()} of rsa: replaced by " in told
    tunnel.until_up("rsa")
    tunnel.passes()
    assert sun.charon.log().count("certificate was revoked") == refused
    tunnel.reauthenticate("rsa")
    tunnel.passes()
    told = moon.keyway("apply", "--rotate", "--vici", str(moon.charon.socket), str(moon.config))
    assert "of rsa: has this configuration already" in told
    assert tunnel.is_up("rsa")


def test_a_renewed_certificate_of_the_end_that_answers(tunnel):
    """It is told to load, and sends the new certificate when the peer wants proof next; nothing ends."""
    moon, sun = tunnel.peers
    old = sun.certificates["rsa"]
    sun.renew("rsa", tunnel.authority)
    moon.charon.vici.load_cert({"type": "X509_CRL", "flag": "NONE", "data": tunnel.authority.revoke(old)})
    (before,) = sun.charon.sas("rsa")
    told = sun.keyway("apply", "--rotate", "--vici", str(sun.charon.socket), str(sun.config))
    assert f"IKE SA {before['uniqueid'].decode()} of rsa: stays, the peer began it" in told
    assert sun.charon.sas("rsa")[0]["uniqueid"] == before["uniqueid"]
    tunnel.reauthenticate("rsa")
    tunnel.passes()


def test_a_look_at_the_set_up_while_it_runs(tunnel):
    for peer in tunnel.peers:
        told = peer.keyway("check", "--login", "--pid", str(peer.charon.process.pid), str(peer.config))
        assert "error" not in told


def test_charon_starts_without_a_daemon(lab):
    """It does not ask again and again, and needs no other start when the daemon comes. It does not look for keys by itself either: that is what
    `apply --wait` is for."""
    lab.settle()
    moon = lab.moon
    moon.charon.stop()
    moon.gateway.kill()
    moon.start_charon()
    until(lambda: "does not support hot-plugging" in moon.charon.log(), "charon gives up waiting for slots", PATIENCE)
    told = moon.charon.swanctl("--load-all", "--noprompt", "--file", str(moon.rendered), fails=True)
    assert "loading connection 'rsa' failed" in told
    for _ in range(50):
        moon.charon.vici.version()
    assert moon.charon.log().count("\n") < 200
    applying = moon.begin("apply", "--wait", str(PATIENCE), "--vici", str(moon.charon.socket), str(moon.config))
    moon.gateway.start()
    output, errors = applying.communicate(timeout=2 * PATIENCE)
    assert applying.returncode == 0, output + errors
    with lab.tunnel("rsa"):
        lab.reauthenticate("rsa")
        lab.passes()
