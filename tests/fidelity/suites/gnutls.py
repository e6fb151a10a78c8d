"""GnuTLS: p11tool, certtool with keys of the token, and TLS with such a key in gnutls-serv."""

from __future__ import annotations

from tests.fidelity.outcomes import Outcome
from tests.fidelity.suites.commands import Prints, Script, anything, normalised, unordered
from tests.fidelity.suites.serving import free_port, serving
from tests.fidelity.target import Target

KEYS = {
    "rsa": ("rsa", "--bits", "2048"),
    "p256": ("ecdsa", "--curve", "secp256r1"),
    "p384": ("ecdsa", "--curve", "secp384r1"),
}
HASHES = ("SHA1", "SHA256", "SHA384", "SHA512")


def run(target: Target) -> dict[str, Outcome]:
    """All checks."""
    pins = {"GNUTLS_PIN": target.pin, "GNUTLS_SO_PIN": target.so_pin}
    script = Script(target.workdir, [(str(target.module), "MODULE")], **pins)
    gnutls = _GnuTls(script, target)
    _listings(gnutls, "empty")
    _generation(gnutls)
    _listings(gnutls, "full")
    _signing(gnutls)
    _objects(gnutls)
    _certificates(gnutls)
    _handshakes(gnutls)
    _removal(gnutls)
    return script.outcomes


class _GnuTls:
    """p11tool with its module given, on the token's URL."""

    def __init__(self, script: Script, target: Target) -> None:
        self.script = script
        self.target = target
        self.token = f"pkcs11:token={target.label}"
        self.provider = ("--provider", str(target.module))

    def url(self, label: str, kind: str = "private") -> str:
        return f"{self.token};object={label};type={kind}"

    def p11tool(
        self, test: str, *words: str, fails: bool = False, prints: Prints = normalised, produces: str = ""
    ) -> None:
        command = ("p11tool", "--batch", *self.provider, *words)
        self.script.check(f"p11tool-{test}", *command, fails=fails, prints=prints, produces=produces)

    def login(
        self, test: str, *words: str, fails: bool = False, prints: Prints = normalised, produces: str = ""
    ) -> None:
        self.p11tool(test, "--login", *words, fails=fails, prints=prints, produces=produces)


def _listings(gnutls: _GnuTls, state: str) -> None:
    gnutls.p11tool(f"tokens-{state}", "--list-tokens", prints=anything)  # the library names itself there
    gnutls.p11tool(f"mechanisms-{state}", "--list-mechanisms", gnutls.token)
    for what in ("all", "all-certs", "certs", "all-privkeys", "privkeys", "all-trusted"):
        gnutls.p11tool(f"{what}-public-{state}", f"--list-{what}", gnutls.token, prints=unordered)
        gnutls.login(f"{what}-{state}", f"--list-{what}", gnutls.token, prints=unordered)
    gnutls.login(f"detailed-{state}", "--list-all", "--detailed-url", "--only-urls", gnutls.token, prints=anything)


def _generation(gnutls: _GnuTls) -> None:
    for number, (label, words) in enumerate(KEYS.items()):
        identity = ("--id", f"0{number + 1}", "--outfile", gnutls.script.path(f"{label}.pub"))
        gnutls.login(f"generate-{label}", "--generate-privkey", *words, "--label", label, *identity, gnutls.token)
    out = ("--outfile", gnutls.script.path("other.pub"))
    marks = ("--mark-sign", "--mark-decrypt", "--mark-wrap", "--mark-private")
    others = {
        "marked": ("rsa", "--id", "11", *marks),
        "auth": ("ecdsa", "--id", "12", "--mark-always-authenticate"),
        "dsa": ("dsa", "--bits", "1024", "--id", "14"),
        "ed": ("ed25519", "--id", "15"),
    }
    for label, kind in others.items():
        gnutls.login(f"generate-{label}", "--generate-privkey", *kind, "--label", label, *out, gnutls.token)
    public = ("--label", "none", "--id", "13", *out)
    gnutls.p11tool("generate-no-login", "--generate-privkey", "rsa", *public, gnutls.token)
    gnutls.login("set-label", "--set-label", "renamed", gnutls.url("marked"))
    gnutls.login("set-id", "--set-id", "abcd", gnutls.url("renamed"))
    for count in ("64", "5000"):
        name = f"random-{count}"
        file = ("--outfile", gnutls.script.path(name))
        gnutls.login(name, "--generate-random", count, *file, gnutls.token, produces=name)


def _signing(gnutls: _GnuTls) -> None:
    for label in KEYS:
        gnutls.login(f"test-sign-{label}", "--test-sign", gnutls.url(label))
        for name in HASHES:
            gnutls.login(f"test-sign-{label}-{name}", "--test-sign", "--hash", name, gnutls.url(label))
        exported = ("--export-pubkey", "--outfile", gnutls.script.path(f"{label}.exported"))
        gnutls.login(f"export-pubkey-{label}", *exported, gnutls.url(label), prints=anything)
        gnutls.login(f"info-{label}", "--info", gnutls.url(label))
        gnutls.login(f"export-{label}", "--export", gnutls.url(label), fails=True)
        gnutls.p11tool(f"test-sign-no-login-{label}", "--test-sign", gnutls.url(label), prints=anything)
    gnutls.login("test-sign-pss", "--test-sign", "--sign-params", "RSA-PSS", gnutls.url("rsa"))
    gnutls.login("test-sign-auth", "--test-sign", gnutls.url("auth"))
    gnutls.login("test-sign-missing", "--test-sign", gnutls.url("missing"), fails=True)


def _objects(gnutls: _GnuTls) -> None:
    script = gnutls.script
    for kind, words in {"rsa": ("--rsa", "--bits", "2048"), "ec": ("--ecdsa",)}.items():
        key = script.path(f"own-{kind}.key")
        script.check(
            f"certtool-key-{kind}", "certtool", "--generate-privkey", *words, "--outfile", key, prints=anything
        )
        public_key = script.path(f"own-{kind}.pub")
        script.check(
            f"certtool-pubkey-{kind}", "certtool", "--pubkey-info", "--load-privkey", key, "--outfile", public_key
        )
        write = ("--write", "--load-privkey", key, "--label", f"own-{kind}", "--id", f"2{len(kind)}")
        gnutls.login(f"write-privkey-{kind}", *write, gnutls.token)
        gnutls.login(f"test-sign-own-{kind}", "--test-sign", gnutls.url(f"own-{kind}"))
        public = (
            "--write",
            "--load-pubkey",
            script.path("rsa.pub"),
            "--label",
            f"public-{kind}",
            "--id",
            f"3{len(kind)}",
        )
        gnutls.login(f"write-pubkey-{kind}", *public, gnutls.token)
    secret = ("--write", "--secret-key", "00112233445566778899aabbccddeeff", "--label", "secret", "--id", "40")
    gnutls.login("write-secret", *secret, gnutls.token)
    gnutls.login("objects", "--list-all", gnutls.token, prints=unordered)


def _certificates(gnutls: _GnuTls) -> None:
    script = gnutls.script
    template = script.path(
        "template", b'cn = "localhost"\ndns_name = "localhost"\nca\nserial = 7\nexpiration_days = 2\n'
    )
    for label in ("rsa", "p256", "own-rsa"):
        made = script.path(f"{label}.crt")
        key = ("--load-privkey", gnutls.url(label), *gnutls.provider)
        words = ("--generate-self-signed", "--template", template, *key, "--outfile", made)
        script.check(f"certtool-self-signed-{label}", "certtool", *words, prints=anything)
        script.check(
            f"certtool-verify-{label}", "certtool", "--verify", "--load-ca-certificate", made, "--infile", made
        )
        request = ("--generate-request", "--template", template, *key, "--outfile", script.path(f"{label}.csr"))
        script.check(f"certtool-request-{label}", "certtool", *request, prints=anything)
        write = ("--write", "--load-certificate", made, "--label", label, "--mark-ca")
        gnutls.login(f"write-cert-{label}", *write, gnutls.token)
        gnutls.login(f"export-cert-{label}", "--export", gnutls.url(label, "cert"), prints=anything)
        gnutls.login(f"export-chain-{label}", "--export-chain", gnutls.url(label, "cert"), prints=anything)
    so_words = (
        "--so-login",
        "--write",
        "--load-certificate",
        script.path("rsa.crt"),
        "--label",
        "trusted",
        "--id",
        "50",
    )
    gnutls.p11tool("write-trusted", *so_words, "--mark-trusted", gnutls.token)
    gnutls.login("list-trusted", "--list-all-trusted", gnutls.token, prints=unordered)
    gnutls.login("list-certs", "--list-all-certs", gnutls.token, prints=anything)


def _handshakes(gnutls: _GnuTls) -> None:
    script = gnutls.script
    for label in ("rsa", "p256"):
        port = free_port()
        files = ("--x509keyfile", gnutls.url(label), "--x509certfile", script.path(f"{label}.crt"))
        server = ["gnutls-serv", "--echo", "--port", str(port), *gnutls.provider, *files]
        pins = {"GNUTLS_PIN": gnutls.target.pin}
        with serving(server, port, script.directory, pins):
            for version in ("TLS1.2", "TLS1.3"):
                for turn in range(3):
                    priority = f"NORMAL:-VERS-ALL:+VERS-{version}"
                    trust = ("--x509cafile", script.path(f"{label}.crt"))
                    to = ("--port", str(port), "--verify-hostname", "localhost", "127.0.0.1")
                    words = ("gnutls-cli", *trust, "--priority", priority, *to)
                    script.check(f"handshake-{label}-{version}-{turn}", *words, prints=anything)


def _removal(gnutls: _GnuTls) -> None:
    for label in (*KEYS, "renamed", "auth", "own-rsa", "own-ec"):
        gnutls.login(f"delete-{label}", "--delete", gnutls.url(label))
    gnutls.login("delete-missing", "--delete", gnutls.url("missing"), fails=True)
    gnutls.login("left", "--list-all", gnutls.token, prints=unordered)
    gnutls.p11tool("initialize-pin", "--so-login", "--initialize-pin", "--set-pin", "newer-pin", gnutls.token)
    words = ("--so-login", "--initialize-pin", "--set-pin", gnutls.target.pin, gnutls.token)
    gnutls.p11tool("initialize-pin-back", *words)
    gnutls.p11tool("initialize", "--initialize", "--label", "anew", "--set-so-pin", gnutls.target.so_pin, gnutls.token)
    gnutls.p11tool("tokens-at-last", "--list-token-urls", prints=unordered)
