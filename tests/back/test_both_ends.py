"""Stock clients of all releases at stock servers of all releases, with gateways between them."""

import itertools
import os
import subprocess

import pytest
from tests.back.remotes import Remote, section
from tests.daemon.conftest import LOG
from tests.daemon.harness import RunningDaemon
from tests.daemon.tokens import PIN
from tests.p11kit.stock import RELEASES


@pytest.mark.parametrize(
    ("client", "server"),
    list(itertools.product(RELEASES, RELEASES)),
    ids=lambda release: f"version {release.version}",
)
def test_a_stock_client_at_a_stock_server(start, home, conf, client, server):
    """p11-kit-client.so, a gateway, `p11-kit remote`. Stock ends alone fail where their formats differ."""
    with Remote(home, conf, server) as far:
        start(far.section("command") + listener(home / "near.sock"))
        sign(home, "near.sock", client)


def test_a_chain_of_gateways(start, home, far):
    """p11-kit-client.so, a gateway, its p11-kit backend that is a gateway, its native backend over TLS, SoftHSM."""
    (home / "middle").mkdir()
    socket = home / "middle.sock"
    middle = RunningDaemon(home / "middle", LOG + far.section("gateway by tls") + listener(socket))
    try:
        start(section("far", address=f"unix:{socket}", protocol="p11-kit") + listener(home / "near.sock"))
        sign(home, "near.sock", RELEASES[0])
    finally:
        assert middle.stop() == 0


def listener(path):
    return f'[listener.p11kit]\naddress = "unix:{path}"\nprotocol = "p11-kit"\n'


def sign(home, socket, release):
    def tool(*arguments):
        done = subprocess.run(
            ["pkcs11-tool", "--module", str(release.client), "--login", "--pin", PIN, *arguments],
            env={
                **os.environ,
                "P11_KIT_SERVER_ADDRESS": f"unix:path={home / socket}",
                "LD_LIBRARY_PATH": str(release.libraries),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    tool("--keypairgen", "--key-type", "rsa:2048", "--label", "web", "--id", "01")
    assert "web" in tool("--list-objects", "--type", "privkey")
    (home / "data").write_bytes(bytes(32))
    data, signature = str(home / "data"), str(home / "signature")
    for words in (["SHA256-RSA-PKCS"], ["RSA-PKCS-PSS", "--hash-algorithm", "SHA256"]):
        key = ("--id", "01", "-m", *words, "--input-file", data)
        tool("--sign", *key, "--output-file", signature)
        assert "Signature is valid" in tool("--verify", *key, "--signature-file", signature)
