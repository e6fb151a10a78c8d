"""The page of shell that people have made their tokens with, and still have: it goes on working when the module is a gateway's."""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.daemon.harness import RunningDaemon, softhsm
from tests.strongswan.authority import IkeAuthority
from tests.strongswan.gateway import P11_KIT_CLIENT

from keyway.config.locate import module_library

LABEL, PIN, SO_PIN = "sdewan-sgx", "pin-7391-for-tests", "so-pin-5512-for-tests"
NODE = ("--id", "0001", "--label", "node-1")


class Shell:
    """Somebody with a shell and a module."""

    def __init__(self, module: Path, variables: dict[str, str]) -> None:
        self.module = module
        self._environment = {**os.environ, **variables}

    def run(self, *command: str) -> str:
        """Run a program, which must end well, and return what it printed."""
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=self._environment, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def tool(self, *arguments: str) -> str:
        return self.run("pkcs11-tool", "--module", str(self.module), *arguments)

    def logged_in(self, *arguments: str) -> str:
        return self.tool("--token-label", LABEL, "--login", "--pin", PIN, *arguments)


@pytest.fixture(params=["libkeyway.so", "p11-kit-client.so"])
def shell(request: pytest.FixtureRequest) -> Iterator[Shell]:
    """A shell with the module of a gateway that has an HSM without a token."""
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        home = Path(name)
        listener = f'[listener.p11kit]\naddress = "unix:{home}/p11kit"\nprotocol = "p11-kit"\n'
        daemon = RunningDaemon(home, f'[log]\nformat = "json"\n{softhsm(home)}{listener}')
        if request.param == "libkeyway.so":
            yield Shell(module_library(), {"KEYWAY_ADDRESS": f"unix:{home}/k.sock"})
        else:
            yield Shell(P11_KIT_CLIENT, {"P11_KIT_SERVER_ADDRESS": f"unix:path={home}/p11kit"})
        assert daemon.stop() == 0


def test_token_key_and_certificate(shell: Shell, tmp_path: Path) -> None:
    slot = shell.tool("--list-slots").partition("Slot 0 (")[2].partition(")")[0]
    init = ("--init-token", "--label", LABEL, "--so-pin", SO_PIN, "--init-pin", "--pin", PIN)
    shell.tool("--slot", slot, *init)
    shell.logged_in("--keypairgen", "--key-type", "rsa:2048", *NODE)

    public, certificate = tmp_path / "node-1.pub", tmp_path / "node-1.der"
    shell.logged_in("--read-object", "--type", "pubkey", *NODE[:2], "--output-file", str(public))
    certificate.write_bytes(IkeAuthority(tmp_path).issue("node-1", public.read_bytes()))
    shell.logged_in("--write-object", str(certificate), "--type", "cert", *NODE)

    listed = shell.run(
        "p11tool", "--provider", str(shell.module), "--login", "--set-pin", PIN, "--list-all", f"pkcs11:token={LABEL}"
    )
    kinds = [line.split()[1] for line in listed.splitlines() if line.strip().startswith("Type:")]
    assert sorted(kinds) == ["Private", "Public", "X.509"]
    assert listed.count("Label: node-1") == 3
    assert listed.count("ID: 00:01") == 3

    read = tmp_path / "read.der"
    shell.logged_in("--read-object", "--type", "cert", *NODE[:2], "--output-file", str(read))
    assert read.read_bytes() == certificate.read_bytes()
    data, signature = tmp_path / "data", tmp_path / "signature"
    data.write_bytes(b"signed by the key that goes with the certificate")
    shell.logged_in(
        "--sign", "--mechanism", "SHA256-RSA-PKCS", "--id", "0001", "--input-file", str(data), "--output-file", str(signature)
    )  # fmt: skip
    pem = tmp_path / "public.pem"
    shell.run("openssl", "pkey", "-pubin", "-inform", "DER", "-in", str(public), "-out", str(pem))
    verified = shell.run("openssl", "dgst", "-sha256", "-verify", str(pem), "-signature", str(signature), str(data))
    assert "Verified OK" in verified


def test_the_second_time_it_wipes_nothing(shell: Shell) -> None:
    """`--slot` names a slot that has no token the first time, and is gone with that, as SoftHSM itself has it."""
    slot = shell.tool("--list-slots").partition("Slot 0 (")[2].partition(")")[0]
    init = ("--slot", slot, "--init-token", "--label", LABEL, "--so-pin", SO_PIN, "--init-pin", "--pin", PIN)
    shell.tool(*init)
    shell.logged_in("--keypairgen", "--key-type", "EC:prime256v1", *NODE)
    before = shell.logged_in("--list-objects")
    with pytest.raises(AssertionError):
        shell.tool(*init)
    assert shell.logged_in("--list-objects") == before
