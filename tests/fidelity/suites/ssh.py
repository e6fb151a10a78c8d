"""OpenSSH: ssh-keygen -D, certificates signed by a key of the token, and ssh-agent with the module."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterable

from tests.fidelity.outcomes import Outcome
from tests.fidelity.suites.commands import Script, anything, unordered
from tests.fidelity.target import Target

KINDS = {"rsa": "rsa:2048", "p256": "EC:prime256v1", "p384": "EC:secp384r1"}


def _public_keys(text: str, names: Iterable[tuple[str, str]] = ()) -> str:
    """Public keys without their key material."""
    return unordered(re.sub(r"AAAA[A-Za-z0-9+/=]+", "#", text), names)


def run(target: Target) -> dict[str, Outcome]:
    """All checks, with keys that pkcs11-tool generates first."""
    script = Script(target.workdir, [(str(target.module), "MODULE")])
    tool = ("pkcs11-tool", "--module", str(target.module), "--token-label", target.label)
    login = ("--login", "--pin", target.pin, "--keypairgen")
    module = str(target.module)
    script.check("keygen-empty", "ssh-keygen", "-D", module, fails=True)
    for number, (label, kind) in enumerate(KINDS.items()):
        words = ("--key-type", kind, "--label", label, "--id", f"0{number + 1}")
        script.check(f"keypairgen-{label}", *tool, *login, *words, prints=anything)
    listed = script.check("keygen", "ssh-keygen", "-D", module, prints=_public_keys)
    script.check("keygen-fingerprints", "ssh-keygen", "-lD", module, prints=anything)
    script.check("keygen-missing", "ssh-keygen", "-D", "/nonexistent.so", fails=True)
    _with_pin(script, target, listed)
    return script.outcomes


def _with_pin(script: Script, target: Target, listed: str) -> None:
    """What needs the private keys asks a program for the PIN, and finds the agent by its socket."""
    asking = target.workdir / "askpass"
    asking.write_text('#!/bin/sh\necho "$FIDELITY_PIN"\n')
    asking.chmod(0o700)
    socket = target.workdir / "agent"
    environment = {"SSH_ASKPASS": str(asking), "SSH_ASKPASS_REQUIRE": "force", "FIDELITY_PIN": target.pin}
    environment["SSH_AUTH_SOCK"] = str(socket)
    inner = Script(target.workdir, [(str(target.module), "MODULE")], **environment)
    started = inner.check("agent", "ssh-agent", "-P", "*", "-a", str(socket), prints=anything)
    inner.check("add", "ssh-add", "-s", str(target.module))
    inner.check("add-again", "ssh-add", "-s", str(target.module), prints=anything)
    inner.check("list", "ssh-add", "-L", prints=_public_keys)
    inner.check("subject", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", inner.path("subject"))
    text = inner.path("text", b"a text to sign\n")
    for line in listed.splitlines():
        label = line.split()[-1]
        if not line.startswith(("ssh-", "ecdsa-")):
            continue
        public = inner.path(f"{label}.pub", (line + "\n").encode())
        inner.check(f"test-{label}", "ssh-add", "-T", public)
        certify = ("ssh-keygen", "-q", "-U", "-s", public, "-I", "identity", "-n", "user", inner.path("subject.pub"))
        inner.check(f"certify-agent-{label}", *certify)
        direct = ("ssh-keygen", "-q", "-D", str(target.module), "-s", public, "-I", "identity", "-n", "user")
        inner.check(f"certify-{label}", *direct, inner.path("subject.pub"))
        inner.check(f"show-{label}", "ssh-keygen", "-L", "-f", inner.path("subject-cert.pub"), prints=anything)
        inner.check(
            f"sign-{label}", "ssh-keygen", "-Y", "sign", "-q", "-n", "file", "-f", public, text, prints=anything
        )
        verify = ("-Y", "check-novalidate", "-n", "file", "-s", inner.path("text.sig"))
        inner.check(f"verify-{label}", "sh", "-c", 'exec ssh-keygen "$@" < text', "sh", *verify, prints=anything)
    inner.check("remove", "ssh-add", "-e", str(target.module))
    inner.check("list-removed", "ssh-add", "-L", fails=True)
    pid = re.search(r"SSH_AGENT_PID=(\d+)", started)
    if pid is not None:
        os.kill(int(pid[1]), signal.SIGTERM)
    script.outcomes.update({f"agent-{test}": outcome for test, outcome in inner.outcomes.items()})
