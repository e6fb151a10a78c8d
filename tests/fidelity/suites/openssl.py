"""OpenSSL through libengine-pkcs11-openssl: signing, certificates, CMS, and TLS with keys of the token."""

from __future__ import annotations

from pathlib import Path

from tests.fidelity.outcomes import Outcome
from tests.fidelity.suites.commands import Script, anything, unordered
from tests.fidelity.suites.serving import free_port, serving
from tests.fidelity.target import Target

ENGINE = next(Path("/usr/lib").glob("*/engines-3/pkcs11.so"), Path("pkcs11.so"))
KINDS = {"rsa": "rsa:2048", "p256": "EC:prime256v1", "p384": "EC:secp384r1"}
USAGES = {"rsa": ("--usage-sign", "--usage-decrypt"), "p256": ("--usage-sign", "--usage-derive"), "p384": ()}
CONFIGURATION = """\
openssl_conf = start
[start]
engines = engines
[engines]
pkcs11 = pkcs11
[pkcs11]
engine_id = pkcs11
dynamic_path = {engine}
MODULE_PATH = {module}
PIN = {pin}
init = 0
[req]
distinguished_name = name
[name]
"""


def run(target: Target) -> dict[str, Outcome]:
    """All checks, with keys that pkcs11-tool generates first."""
    configuration = target.workdir / "openssl.cnf"
    configuration.write_text(CONFIGURATION.format(engine=ENGINE, module=target.module, pin=target.pin))
    configuration.chmod(0o600)
    script = Script(target.workdir, [(str(target.module), "MODULE")], OPENSSL_CONF=str(configuration))
    openssl = _OpenSsl(script, target, configuration)
    _keys(openssl)
    for label in KINDS:
        _signing(openssl, label)
        _certificates(openssl, label)
        _handshakes(openssl, label)
    _decryption(openssl)
    _agreement(openssl)
    return script.outcomes


class _OpenSsl:
    """openssl with the engine, and keys by URL."""

    def __init__(self, script: Script, target: Target, configuration: Path) -> None:
        self.script = script
        self.target = target
        self.environment = {"OPENSSL_CONF": str(configuration)}

    def url(self, label: str, kind: str = "private") -> str:
        return f"pkcs11:token={self.target.label};object={label};type={kind}"

    def key(self, label: str, option: str = "-key", form: str = "-keyform") -> tuple[str, ...]:
        return ("-engine", "pkcs11", form, "engine", option, self.url(label))

    def check(self, test: str, *words: str, fails: bool = False, produces: str = "") -> None:
        self.script.check(test, "openssl", *words, fails=fails, prints=anything, produces=produces)

    def path(self, name: str) -> str:
        return self.script.path(name)


def _keys(openssl: _OpenSsl) -> None:
    target, script = openssl.target, openssl.script
    tool = (
        "pkcs11-tool",
        "--module",
        str(target.module),
        "--token-label",
        target.label,
        "--login",
        "--pin",
        target.pin,
    )
    script.check("engine", "openssl", "engine", "-t", "pkcs11", prints=unordered)
    for number, (label, kind) in enumerate(KINDS.items()):
        words = ("--key-type", kind, "--label", label, "--id", f"0{number + 1}", *USAGES[label])
        script.check(f"keypairgen-{label}", *tool, "--keypairgen", *words, prints=anything)
        public = openssl.path(f"{label}.pub")
        url = ("-in", openssl.url(label, "public"), "-pubin", "-pubout", "-out", public)
        openssl.check(f"public-{label}", "pkey", "-engine", "pkcs11", "-inform", "engine", *url)
        private = ("-in", openssl.url(label), "-noout", "-text_pub")
        openssl.check(f"private-{label}", "pkey", "-engine", "pkcs11", "-inform", "engine", *private)


def _signing(openssl: _OpenSsl, label: str) -> None:
    text = openssl.script.path("text", b"a text to sign\n" * 1000)
    public = openssl.path(f"{label}.pub")
    for digest in ("sha1", "sha256", "sha384", "sha512"):
        name = f"{label}-{digest}"
        made = openssl.path(f"{name}.sig")
        # An ECDSA signature is as long as its integers happen to be.
        sized = f"{name}.sig" if label == "rsa" else ""
        key = ("-engine", "pkcs11", "-keyform", "engine", "-sign", openssl.url(label))
        openssl.check(f"sign-{name}", "dgst", f"-{digest}", *key, "-out", made, text, produces=sized)
        openssl.check(f"verify-{name}", "dgst", f"-{digest}", "-verify", public, "-signature", made, text)
        again = ("-engine", "pkcs11", "-keyform", "engine", "-prverify", openssl.url(label))
        openssl.check(f"verify-token-{name}", "dgst", f"-{digest}", *again, "-signature", made, text)
    if label != "rsa":
        return
    for salt in ("digest", "0", "max"):
        made = openssl.path(f"pss-{salt}.sig")
        options = ("-sigopt", "rsa_padding_mode:pss", "-sigopt", f"rsa_pss_saltlen:{salt}")
        key = ("-engine", "pkcs11", "-keyform", "engine", "-sign", openssl.url(label))
        openssl.check(f"sign-pss-{salt}", "dgst", "-sha256", *key, *options, "-out", made, text)
        verify = ("-verify", public, "-signature", made, *options)
        openssl.check(f"verify-pss-{salt}", "dgst", "-sha256", *verify, text)


def _certificates(openssl: _OpenSsl, label: str) -> None:
    made, request = openssl.path(f"{label}.crt"), openssl.path(f"{label}.csr")
    extensions = ("-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:TRUE")
    subject = ("-subj", "/CN=localhost", *extensions)
    key = openssl.key(label)
    openssl.check(f"self-signed-{label}", "req", "-new", "-x509", "-days", "2", *subject, *key, "-out", made)
    openssl.check(f"verify-cert-{label}", "verify", "-CAfile", made, made)
    openssl.check(f"request-{label}", "req", "-new", "-subj", "/CN=leaf", *key, "-out", request)
    openssl.check(f"verify-request-{label}", "req", "-in", request, "-noout", "-verify")
    leaf = openssl.path(f"{label}-leaf.crt")
    authority = ("-CA", made, "-engine", "pkcs11", "-CAkeyform", "engine", "-CAkey", openssl.url(label))
    openssl.check(f"issue-{label}", "x509", "-req", "-in", request, "-days", "2", *authority, "-out", leaf)
    openssl.check(f"verify-issued-{label}", "verify", "-CAfile", made, leaf)
    text, signed = openssl.path("text"), openssl.path(f"{label}.cms")
    sign = ("-engine", "pkcs11", "-keyform", "engine", "-inkey", openssl.url(label), "-signer", made)
    openssl.check(
        f"cms-sign-{label}", "cms", "-sign", "-nodetach", "-in", text, *sign, "-outform", "DER", "-out", signed
    )
    verify = ("-in", signed, "-inform", "DER", "-noverify", "-out", openssl.path("cms.out"))
    openssl.check(f"cms-verify-{label}", "cms", "-verify", *verify)


def _handshakes(openssl: _OpenSsl, label: str) -> None:
    port = free_port()
    made = openssl.path(f"{label}.crt")
    accept = ("-accept", f"127.0.0.1:{port}", "-cert", made, "-www", "-quiet", "-verify", "1", "-CAfile", made)
    server = ["openssl", "s_server", *openssl.key(label), *accept]
    connect = ("-connect", f"127.0.0.1:{port}", "-CAfile", made, "-verify_return_error", "-verify_ip", "127.0.0.1")
    with serving(server, port, openssl.script.directory, openssl.environment):
        for version in ("tls1_2", "tls1_3"):
            for turn in range(3):
                openssl.check(f"handshake-{label}-{version}-{turn}", "s_client", *connect, f"-{version}")
            client = (*openssl.key(label), "-cert", made)
            openssl.check(f"handshake-client-key-{label}-{version}", "s_client", *connect, f"-{version}", *client)
        files = ("-connect", f"127.0.0.1:{port}", "-CAfile", made, "-verify", "1", "-time", "1", "-new")
        openssl.check(f"handshake-many-{label}", "s_time", *files)


def _decryption(openssl: _OpenSsl) -> None:
    openssl.script.path("clear", b"thirty-two bytes of data to do..")
    public = ("-pubin", "-inkey", openssl.path("rsa.pub"), "-in", openssl.path("clear"))
    ways = {"pkcs1": (), "oaep": ("-pkeyopt", "rsa_padding_mode:oaep")}
    for name, options in ways.items():
        sealed, opened = openssl.path(f"{name}.sealed"), openssl.path(f"{name}.opened")
        openssl.check(f"encrypt-{name}", "pkeyutl", "-encrypt", *public, *options, "-out", sealed)
        words = ("pkeyutl", "-decrypt", *openssl.key("rsa", "-inkey"), *options, "-in", sealed, "-out", opened)
        openssl.check(f"decrypt-{name}", *words, produces=f"{name}.opened")
        openssl.script.same(f"decrypt-same-{name}", f"{name}.opened", "clear")
    text, sealed = openssl.path("text"), openssl.path("sealed.cms")
    made, opened = openssl.path("rsa.crt"), openssl.path("cms.opened")
    openssl.check(
        "cms-encrypt", "cms", "-encrypt", "-binary", "-aes256", "-in", text, "-outform", "DER", "-out", sealed, made
    )
    words = ("-in", sealed, "-inform", "DER", "-recip", made, "-out", opened)
    key = openssl.key("rsa", "-inkey")
    openssl.check("cms-decrypt", "cms", "-decrypt", "-binary", *words, *key, produces="cms.opened")


def _agreement(openssl: _OpenSsl) -> None:
    peer, public = openssl.path("peer.pem"), openssl.path("peer.pub")
    curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    openssl.check("peer", "genpkey", *curve, "-out", peer)
    openssl.check("peer-public", "pkey", "-in", peer, "-pubout", "-out", public)
    ours, theirs = openssl.path("ours"), openssl.path("theirs")
    words = ("-derive", *openssl.key("p256", "-inkey"), "-peerkey", public, "-out", ours)
    openssl.check("derive", "pkeyutl", *words, produces="ours")
    mirrored = ("-inkey", peer, "-peerkey", openssl.path("p256.pub"), "-out", theirs)
    openssl.check("derive-peer", "pkeyutl", "-derive", *mirrored, produces="theirs")
    openssl.script.same("derive-same", "ours", "theirs")
