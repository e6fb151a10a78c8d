"""Mozilla's NSS: modutil, certutil, pk12util, cmsutil, and TLS with a key of the token in selfserv."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tests.fidelity.outcomes import Outcome
from tests.fidelity.suites.commands import Prints, Script, anything, normalised, unordered
from tests.fidelity.suites.serving import free_port, serving
from tests.fidelity.target import Target

KINDS = {"rsa": ("-k", "rsa", "-g", "2048"), "ec": ("-k", "ec", "-q", "nistp256")}


def run(target: Target) -> dict[str, Outcome]:
    """All checks, with one certificate database that knows the module and one that does not."""
    script = Script(target.workdir, [(str(target.module), "MODULE")])
    nss = _Nss(script, target)
    _modules(nss)
    _certificates(nss)
    _messages(nss)
    _handshakes(nss)
    _removal(nss)
    return script.outcomes


class _Nss:
    """NSS's tools with the database and the token's PIN given."""

    def __init__(self, script: Script, target: Target) -> None:
        self.script = script
        self.target = target
        for name in ("database", "client"):
            (script.directory / name).mkdir()
        self.database = f"sql:{script.directory / 'database'}"
        self.pins = script.path("pins", f"{target.label}:{target.pin}\n".encode())
        self.noise = script.path("noise", bytes(range(256)))

    def modutil(self, test: str, *words: str, fails: bool = False) -> None:
        command = ("modutil", "-force", "-dbdir", self.database, *words)
        self.script.check(f"modutil-{test}", *command, fails=fails, prints=_module_list)

    def certutil(self, test: str, *words: str, fails: bool = False, prints: Prints = unordered) -> None:
        command = ("certutil", *words, "-d", self.database, "-f", self.pins)
        self.script.check(f"certutil-{test}", *command, fails=fails, prints=prints)

    def token(self, test: str, *words: str, fails: bool = False, prints: Prints = unordered) -> None:
        self.certutil(test, *words, "-h", self.target.label, fails=fails, prints=prints)


def _module_list(text: str, names: Iterable[tuple[str, str]] = ()) -> str:
    """A listing without the module's own name for itself, which the gateway may choose."""
    return normalised(re.sub(r"(?m)^\s*(Manufacturer|Description|.*Version):.*$", "", text), names)


def _modules(nss: _Nss) -> None:
    nss.script.check("certutil-new", "certutil", "-N", "-d", nss.database, "--empty-password")
    nss.modutil("list-before", "-list")
    nss.modutil("add", "-add", "Fidelity", "-libfile", str(nss.target.module))
    nss.modutil("add-again", "-add", "Fidelity", "-libfile", str(nss.target.module), fails=True)
    nss.modutil("add-missing", "-add", "Missing", "-libfile", "/nonexistent.so", fails=True)
    nss.modutil("list", "-list")
    nss.modutil("list-module", "-list", "Fidelity")
    nss.modutil("rawlist", "-rawlist")
    nss.modutil("disable", "-disable", "Fidelity")
    nss.modutil("list-disabled", "-list", "Fidelity")
    nss.modutil("enable", "-enable", "Fidelity")
    nss.modutil("default", "-default", "Fidelity", "-mechanisms", "RSA:SHA256:AES")
    nss.modutil("list-default", "-list", "Fidelity")
    nss.modutil("undefault", "-undefault", "Fidelity", "-mechanisms", "RSA:SHA256:AES")
    nss.modutil("chkfips", "-chkfips", "false")
    old, new = nss.script.path("old", nss.target.pin.encode()), nss.script.path("new", b"newer-pin")
    nss.modutil("changepw", "-changepw", nss.target.label, "-pwfile", old, "-newpwfile", new)
    nss.modutil("changepw-wrong", "-changepw", nss.target.label, "-pwfile", old, "-newpwfile", new, fails=True)
    nss.modutil("changepw-back", "-changepw", nss.target.label, "-pwfile", new, "-newpwfile", old)
    nss.certutil("modules", "-U", prints=normalised)


def _certificates(nss: _Nss) -> None:
    nss.token("keys-none", "-K", fails=True)
    nss.token("certificates-none", "-L")
    for kind, words in KINDS.items():
        nss.token(f"generate-{kind}", "-G", *words, "-z", nss.noise)
        nss.token(
            f"self-signed-{kind}", "-S", "-x", "-n", kind, "-s", f"CN={kind}", "-t", "CT,C,C", *words, "-z", nss.noise
        )
        nickname = f"{nss.target.label}:{kind}"
        nss.token(f"show-{kind}", "-L", "-n", nickname, prints=anything)
        nss.token(f"pem-{kind}", "-L", "-n", nickname, "-a", prints=anything)
        nss.certutil(f"verify-{kind}", "-V", "-u", "V", "-n", kind)
        nss.certutil(f"chain-{kind}", "-O", "-n", kind)
        nss.certutil(f"trust-{kind}", "-M", "-n", kind, "-t", "CTP,C,C")
    nss.token("generate-3072", "-G", "-k", "rsa", "-g", "3072", "-z", nss.noise)
    nss.token("generate-p384", "-G", "-k", "ec", "-q", "secp384r1", "-z", nss.noise)
    nss.token("keys", "-K", prints=_key_list)
    nss.token("certificates", "-L")
    subject = ("-s", "CN=leaf", "-o", nss.script.path("request"))
    nss.token("request", "-R", *subject, "-k", "rsa", "-g", "2048", "-z", nss.noise)
    other = nss.script.path("other.der")
    named = ("-subj", "/CN=other", "-keyout", nss.script.path("other.key"))
    selfsigned = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *named, "-outform", "DER", "-out", other)
    nss.script.check("openssl-other", *selfsigned, prints=anything)
    nss.token("add", "-A", "-n", "other", "-t", ",,", "-i", other)
    nss.token("add-show", "-L", "-n", f"{nss.target.label}:other", prints=anything)
    nss.token("add-delete", "-D", "-n", f"{nss.target.label}:other")
    nss.token("certificates-after", "-L")
    wrong = nss.script.path("wrong-pins", f"{nss.target.label}:87654321\n".encode())
    guess = ("certutil", "-K", "-d", nss.database, "-h", nss.target.label, "-f", wrong)
    nss.script.check("certutil-wrong-pin", *guess, fails=True)


def _key_list(text: str, names: Iterable[tuple[str, str]] = ()) -> str:
    """Private keys without their running numbers."""
    return unordered(re.sub(r"(?m)^<\s*\d+>", "<#>", text), names)


def _messages(nss: _Nss) -> None:
    text = nss.script.path("text", b"a message to sign and to seal\n" * 100)
    common = ("-d", nss.database, "-f", nss.pins)
    for kind in KINDS:
        signed = nss.script.path(f"{kind}.signed")
        sign = ("cmsutil", "-S", *common, "-N", f"{nss.target.label}:{kind}", "-i", text, "-o", signed, "-H", "SHA256")
        nss.script.check(f"cmsutil-sign-{kind}", *sign)
        opened = nss.script.path(f"{kind}.opened")
        nss.script.check(f"cmsutil-verify-{kind}", "cmsutil", "-D", *common, "-i", signed, "-o", opened)
    pem, archive = nss.script.path("own.pem"), nss.script.path("own.p12")
    named = ("-subj", "/CN=own", "-keyout", pem, "-out", pem)
    nss.script.check("openssl-own", "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *named, prints=anything)
    pack = ("openssl", "pkcs12", "-export", "-in", pem, "-out", archive, "-passout", "pass:pass", "-name", "own")
    nss.script.check("openssl-pkcs12", *pack)
    token = ("-d", nss.database, "-h", nss.target.label, "-k", nss.pins)
    nss.script.check("pk12util-import", "pk12util", "-i", archive, "-W", "pass", *token)
    exported = nss.script.path("exported.p12")
    nss.script.check(
        "pk12util-export", "pk12util", "-o", exported, "-n", f"{nss.target.label}:own", "-W", "pass", *token
    )
    nss.token("certificates-imported", "-L")


def _handshakes(nss: _Nss) -> None:
    """With the EC key: selfserv itself refuses an RSA key of SoftHSM's."""
    client = f"sql:{nss.script.directory / 'client'}"
    nss.script.check("client-new", "certutil", "-N", "-d", client, "--empty-password")
    request = nss.script.path("http", b"GET / HTTP/1.0\r\n\r\n")
    port = free_port()
    server = ("selfserv", "-d", nss.database, "-p", str(port), "-f", nss.pins, "-V", "tls1.2:tls1.3")
    with serving([*server, "-n", f"{nss.target.label}:ec"], port, nss.script.directory):
        for version in ("tls1.2", "tls1.3"):
            for turn in range(5):
                to = ("-h", "127.0.0.1", "-p", str(port), "-d", client, "-o")
                words = (*to, "-A", request, "-V", f"{version}:{version}")
                nss.script.check(f"handshake-{version}-{turn}", "tstclnt", *words, prints=anything)


def _removal(nss: _Nss) -> None:
    for kind in KINDS:
        nss.token(f"delete-{kind}", "-D", "-n", f"{nss.target.label}:{kind}")
    nss.token("certificates-left", "-L")
    nss.token("keys-left", "-K", prints=_key_list)
    nss.modutil("delete", "-delete", "Fidelity")
    nss.modutil("list-after", "-list")
    nss.token("token-gone", "-K", fails=True)
