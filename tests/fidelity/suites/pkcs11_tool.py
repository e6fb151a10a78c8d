"""OpenSC's pkcs11-tool: its own tests, its thread tests, and a script of its commands."""

from __future__ import annotations

import hashlib
import subprocess

from tests.fidelity.outcomes import Outcome, Status
from tests.fidelity.suites.commands import Prints, Script, anything, normalised, unordered
from tests.fidelity.target import Target

IV = "000102030405060708090a0b0c0d0e0f"
AES_VALUE = bytes(range(32))
DATA = b"thirty-two bytes of data to do.."
IDS = {
    "rsa1024": "10",
    "rsa2048": "11",
    "p256": "12",
    "p384": "13",
    "p521": "14",
    "k256": "15",
    "ed25519": "16",
    "usage": "17",
    "wrap": "18",
    "derive": "19",
    "auth": "1a",
    "aes16": "26",
    "aes24": "24",
    "aes32": "22",
    "des3": "30",
    "generic": "31",
    "secret": "32",
    "allowed": "33",
    "given aes": "41",
    "given generic": "42",
    "given rsa": "50",
    "given ec": "51",
    "given ed": "52",
    "none such": "ff",
}
"""The CKA_ID of each key by its label: pkcs11-tool finds keys by id, and takes any if it finds none."""
MECHANISM_HASHES = ("SHA-1", "SHA224", "SHA256", "SHA384", "SHA512", "MD5")


def run(target: Target) -> dict[str, Outcome]:
    """All checks, on one token from its first use to its re-initialisation."""
    script = Script(target.workdir, [(str(target.module), "MODULE")])
    tool = _Tool(script, target)
    _information(tool)
    _own_tests(tool)
    _keys(tool)
    _objects(tool)
    _signatures(tool)
    _ciphers(tool)
    _wrapping(tool)
    _hashes(tool)
    _deletion(tool)
    _threads(tool)
    _pins(tool)
    return script.outcomes


class _Tool:
    """pkcs11-tool with its module, token and PIN given."""

    def __init__(self, script: Script, target: Target) -> None:
        self.script = script
        self.target = target
        self.module = ["pkcs11-tool", "--module", str(target.module)]

    def bare(
        self, test: str, *words: str, fails: bool = False, prints: Prints = normalised, produces: str = ""
    ) -> None:
        self.script.check(test, *self.module, *words, fails=fails, prints=prints, produces=produces)

    def public(
        self, test: str, *words: str, fails: bool = False, prints: Prints = normalised, produces: str = ""
    ) -> None:
        token = ["--token-label", self.target.label]
        self.bare(test, *token, *words, fails=fails, prints=prints, produces=produces)

    def user(
        self, test: str, *words: str, fails: bool = False, prints: Prints = normalised, produces: str = ""
    ) -> None:
        login = ["--login", "--pin", self.target.pin]
        self.public(test, *login, *words, fails=fails, prints=prints, produces=produces)

    def objects(self, test: str, *words: str) -> None:
        self.user(test, "--list-objects", *words, prints=unordered)

    def file(self, name: str, content: bytes | None = None) -> str:
        return self.script.path(name, content)


def _information(tool: _Tool) -> None:
    tool.bare("info", "--show-info", prints=anything)  # Keyway names itself there
    tool.bare("slots", "--list-slots")
    tool.bare("token-slots", "--list-token-slots")
    tool.bare("slots-verbose", "--list-slots", "--verbose")
    tool.public("mechanisms", "--list-mechanisms")
    tool.bare("mechanisms-index-0", "--slot-index", "0", "--list-mechanisms")
    tool.bare("mechanisms-index-1", "--slot-index", "1", "--list-mechanisms")
    tool.bare("slot-index-9", "--slot-index", "9", "--list-mechanisms", fails=True)
    tool.bare("slot-unknown", "--slot", "0x7ffffff0", "--list-mechanisms", fails=True)
    tool.bare("token-unknown", "--token-label", "none such", "--list-objects", fails=True)
    tool.public("objects-empty", "--list-objects")
    tool.objects("objects-empty-login")
    tool.bare("login-wrong", "--login", "--pin", "87654321", "--list-objects", fails=True)
    tool.bare("login-short", "--login", "--pin", "1", "--list-objects", fails=True)
    tool.bare("login-so", "--login", "--login-type", "so", "--so-pin", tool.target.so_pin, "--list-objects")
    tool.bare("login-so-wrong", "--login", "--login-type", "so", "--so-pin", "87654321", "-O", fails=True)
    for count in (1, 16, 1000, 100000):
        name = f"random-{count}"
        tool.public(name, "--generate-random", str(count), "--output-file", tool.file(name), produces=name)


def _keys(tool: _Tool) -> None:
    pairs = {
        "rsa1024": ("rsa:1024", "10"),
        "rsa2048": ("rsa:2048", "11"),
        "p256": ("EC:prime256v1", "12"),
        "p384": ("EC:secp384r1", "13"),
        "p521": ("EC:secp521r1", "14"),
        "k256": ("EC:secp256k1", "15"),
        "ed25519": ("EC:edwards25519", "16"),
    }
    for label, (key_type, identity) in pairs.items():
        words = ("--keypairgen", "--key-type", key_type, "--id", identity, "--label", label)
        tool.user(f"keypairgen-{label}", *words)
    usage = ("--usage-sign", "--usage-decrypt")
    tool.user("keypairgen-usage", "--keypairgen", "--key-type", "rsa:1024", "--id", "17", "--label", "usage", *usage)
    wrap = ("--usage-wrap", "--usage-decrypt")
    tool.user("keypairgen-wrap", "--keypairgen", "--key-type", "rsa:2048", "--id", "18", "--label", "wrap", *wrap)
    derive = ("--usage-derive",)
    tool.user("keypairgen-derive", "--keypairgen", "--key-type", "EC:secp256r1", "--id", "19", "--label", "d", *derive)
    auth = ("--always-auth",)
    tool.user("keypairgen-auth", "--keypairgen", "--key-type", "rsa:1024", "--id", "1a", "--label", "auth", *auth)
    tool.public("keypairgen-no-login", "--keypairgen", "--key-type", "rsa:1024", "--id", "1b", fails=True)
    tool.user("keypairgen-odd-type", "--keypairgen", "--key-type", "rsa:100", "--id", "1c", fails=True)
    tool.user("keypairgen-odd-curve", "--keypairgen", "--key-type", "EC:nosuch", "--id", "1d", fails=True)
    for length in (16, 24, 32):
        words = ("--keygen", "--key-type", f"AES:{length}", "--id", f"2{length % 10}", "--label", f"aes{length}")
        tool.user(f"keygen-aes{length}", *words, "--extractable")
    tool.user("keygen-aes15", "--keygen", "--key-type", "AES:15", "--id", "2f", fails=True)
    tool.user("keygen-des3", "--keygen", "--key-type", "DES3:24", "--id", "30", "--label", "des3")
    tool.user("keygen-generic", "--keygen", "--key-type", "GENERIC:64", "--id", "31", "--label", "generic")
    sensitive = ("--sensitive", "--private")
    tool.user("keygen-sensitive", "--keygen", "--key-type", "AES:32", "--id", "32", "--label", "secret", *sensitive)
    allowed = ("--allowed-mechanisms", "AES-CBC,AES-ECB")
    tool.user("keygen-allowed", "--keygen", "--key-type", "AES:32", "--id", "33", "--label", "allowed", *allowed)
    tool.user("keygen-undestroyable", "--keygen", "--key-type", "AES:16", "--id", "34", "--undestroyable")
    tool.objects("keys")
    tool.public("keys-public", "--list-objects", prints=unordered)
    for kind in ("privkey", "pubkey", "secrkey", "data", "cert"):
        tool.objects(f"keys-{kind}", "--type", kind)


def _objects(tool: _Tool) -> None:
    value = tool.file("value", DATA)
    data = ("--write-object", value, "--type", "data")
    tool.user("write-data", *data, "--label", "data", "--id", "40")
    tool.user("write-data-private", *data, "--label", "private data", "--private")
    application = ("--application-label", "application", "--application-id", "1.2.3.4")
    tool.user("write-data-application", *data, "--label", "with application", *application)
    tool.user("write-data-empty", "--write-object", tool.file("empty", b""), "--type", "data", "--label", "empty")
    large = tool.file("large", bytes(range(256)) * 256)
    tool.user("write-data-large", "--write-object", large, "--type", "data", "--label", "large")
    tool.public("write-no-login", *data, "--label", "without login")
    tool.public("write-private-no-login", *data, "--label", "refused", "--private", fails=True)
    for label, source in (("data", "value"), ("private data", "value"), ("large", "large"), ("empty", "empty")):
        name = f"read-{label.replace(' ', '-')}"
        read = ("--read-object", "--type", "data", "--label", label, "--output-file", tool.file(name))
        tool.user(name, *read, produces=name)
        tool.script.same(f"{name}-same", name, source)
    tool.public("read-private-no-login", "--read-object", "--type", "data", "--label", "private data", fails=True)
    aes = tool.file("aes.key", AES_VALUE)
    secret = ("--write-object", aes, "--type", "secrkey", "--id", "41", "--label", "given aes")
    tool.user("write-aes", *secret, "--key-type", "AES:32", "--extractable", "--usage-decrypt")
    generic = ("--write-object", aes, "--type", "secrkey", "--id", "42", "--label", "given generic")
    tool.user("write-generic", *generic, "--key-type", "GENERIC:32", "--usage-sign", "--extractable")
    _written_pairs(tool)
    for label in ("rsa2048", "p256", "ed25519"):
        name = f"read-pubkey-{label}"
        read = ("--read-object", "--type", "pubkey", "--label", label, "--output-file", tool.file(name))
        tool.user(name, *read, produces=name)
    tool.user("read-privkey", "--read-object", "--type", "privkey", "--label", "rsa2048", fails=True)
    tool.user("set-id", "--set-id", "4f", "--type", "data", "--label", "data")
    tool.user("set-id-key", "--set-id", "1f", "--type", "privkey", "--id", "15")
    tool.objects("objects")


def _written_pairs(tool: _Tool) -> None:
    openssl = ("openssl", "genpkey", "-quiet", "-outform", "PEM", "-algorithm")
    kinds = {"rsa": ("RSA",), "ec": ("EC", "-pkeyopt", "ec_paramgen_curve:P-256"), "ed": ("ED25519",)}
    check = tool.script.check
    for number, (name, algorithm) in enumerate(kinds.items()):
        pem, der, public = (tool.file(f"{name}.{end}") for end in ("pem", "der", "pub.der"))
        check(f"openssl-{name}", *openssl, *algorithm, "-out", pem, prints=anything)
        check(f"openssl-{name}-der", "openssl", "pkey", "-in", pem, "-outform", "DER", "-out", der, prints=anything)
        check(f"openssl-{name}-pub", "openssl", "pkey", "-in", pem, "-pubout", "-outform", "DER", "-out", public)
        words = ("--id", f"5{number}", "--label", f"given {name}", "--usage-sign")
        tool.user(f"write-privkey-{name}", "--write-object", der, "--type", "privkey", *words)
        tool.user(f"write-pubkey-{name}", "--write-object", public, "--type", "pubkey", *words)
    subject = ("-subj", "/CN=fidelity", "-days", "2")
    made = tool.file("cert.der")
    key = tool.file("rsa.pem")
    check("openssl-cert", "openssl", "req", "-new", "-x509", "-key", key, *subject, "-outform", "DER", "-out", made)
    tool.user("write-cert", "--write-object", made, "--type", "cert", "--id", "50", "--label", "given rsa")
    tool.objects("list-cert", "--type", "cert")
    read = ("--read-object", "--type", "cert", "--id", "50", "--output-file", tool.file("cert.back"))
    tool.public("read-cert", *read, produces="cert.back")
    tool.script.same("read-cert-same", "cert.back", "cert.der")


def _sign_and_verify(tool: _Tool, label: str, mechanism: str, data: bytes, *words: str, fixed: bool = False) -> None:
    variant = "".join(f"-{word}" for word in words if not word.startswith("--"))
    name = f"{label.replace(' ', '-')}-{mechanism}-{len(data)}{variant}"
    source = tool.file(f"{name}.data", data)
    common = ("--id", IDS[label], "--mechanism", mechanism, "--input-file", source, *words)
    sized = "" if "sequence" in words else f"{name}.sig"  # DER is as long as its integers happen to be
    tool.user(f"sign-{name}", "--sign", *common, "--output-file", tool.file(f"{name}.sig"), produces=sized)
    signature = tool.script.directory / f"{name}.sig"
    tool.user(f"verify-{name}", "--verify", *common, "--signature-file", str(signature))
    if signature.exists():
        wrong = bytearray(signature.read_bytes())
        wrong[len(wrong) // 2 :] = bytes(len(wrong) - len(wrong) // 2)
        forged = tool.file(f"{name}.wrong", bytes(wrong))
        tool.user(f"verify-wrong-{name}", "--verify", *common, "--signature-file", forged)
    if fixed:
        again = tool.file(f"{name}.again")
        tool.user(f"sign-again-{name}", "--sign", *common, "--output-file", again, produces=f"{name}.again")
        tool.script.same(f"sign-same-{name}", f"{name}.sig", f"{name}.again")


def _signatures(tool: _Tool) -> None:
    long_data = DATA * 100
    for mechanism in ("RSA-PKCS", "SHA1-RSA-PKCS", "SHA256-RSA-PKCS", "SHA384-RSA-PKCS", "SHA512-RSA-PKCS"):
        data = DATA if mechanism == "RSA-PKCS" else long_data
        _sign_and_verify(tool, "rsa2048", mechanism, data, fixed=True)
    _sign_and_verify(tool, "rsa1024", "MD5-RSA-PKCS", long_data)
    _sign_and_verify(tool, "rsa1024", "SHA224-RSA-PKCS", long_data)
    _sign_and_verify(tool, "rsa1024", "RSA-X-509", DATA * 4)
    for name in MECHANISM_HASHES[1:5]:
        mechanism, mgf = f"{name}-RSA-PKCS-PSS", f"MGF1-{name}"
        _sign_and_verify(tool, "rsa2048", mechanism, long_data, "--mgf", mgf)
        digest = hashlib.new(name, long_data).digest()
        _sign_and_verify(tool, "rsa2048", "RSA-PKCS-PSS", digest, "--hash-algorithm", name, "--mgf", mgf)
    _sign_and_verify(tool, "rsa2048", "SHA256-RSA-PKCS-PSS", long_data, "--salt-len", "0", fixed=True)
    _sign_and_verify(tool, "rsa2048", "SHA256-RSA-PKCS-PSS", long_data, "--salt-len", "20")
    for label in ("p256", "p384", "p521"):
        _sign_and_verify(tool, label, "ECDSA", DATA)
        _sign_and_verify(tool, label, "ECDSA", DATA, "--signature-format", "sequence")
    _sign_and_verify(tool, "p256", "ECDSA-SHA256", long_data)
    _sign_and_verify(tool, "ed25519", "EDDSA", long_data, fixed=True)
    _sign_and_verify(tool, "usage", "SHA256-RSA-PKCS", long_data)
    _sign_and_verify(tool, "auth", "SHA256-RSA-PKCS", long_data)
    _sign_and_verify(tool, "given rsa", "SHA256-RSA-PKCS", long_data)
    _sign_and_verify(tool, "given ec", "ECDSA", DATA)
    _sign_and_verify(tool, "given generic", "SHA256-HMAC", long_data, fixed=True)
    _sign_and_verify(tool, "generic", "SHA512-HMAC", long_data)
    _sign_and_verify(tool, "aes32", "AES-CMAC", long_data)
    _sign_and_verify(tool, "rsa2048", "RSA-PKCS", DATA * 20)
    source = tool.file("by-id.data", DATA)
    words = ("--mechanism", "SHA256-RSA-PKCS", "--input-file", source)
    tool.user("sign-by-id", "--sign", "--id", "11", *words, "--output-file", tool.file("by-id"), produces="by-id")
    tool.public("sign-no-login", "--sign", "--id", "11", *words, "--output-file", tool.file("no"), fails=True)


def _cipher(tool: _Tool, label: str, mechanism: str, data: bytes, *words: str) -> None:
    variant = "".join(f"-{word}" for word in words if not word.startswith("--"))
    name = f"{label.replace(' ', '-')}-{mechanism}-{len(data)}{variant}"
    clear = tool.file(f"{name}.clear", data)
    common = ("--id", IDS[label], "--mechanism", mechanism, *words)
    out = ("--output-file", tool.file(f"{name}.enc"))
    tool.user(f"encrypt-{name}", "--encrypt", *common, "--input-file", clear, *out, produces=f"{name}.enc")
    if not (tool.script.directory / f"{name}.enc").exists():
        return
    out = ("--output-file", tool.file(f"{name}.dec"))
    source = ("--input-file", tool.file(f"{name}.enc"))
    tool.user(f"decrypt-{name}", "--decrypt", *common, *source, *out, produces=f"{name}.dec")
    tool.script.same(f"decrypt-same-{name}", f"{name}.dec", f"{name}.clear")


def _ciphers(tool: _Tool) -> None:
    for label in ("aes16", "aes24", "aes32", "given aes"):
        _cipher(tool, label, "AES-ECB", DATA * 10)
        _cipher(tool, label, "AES-CBC", DATA * 10, "--iv", IV)
        _cipher(tool, label, "AES-CBC-PAD", DATA[:21], "--iv", IV)
    _cipher(tool, "aes32", "AES-CBC-PAD", DATA * 1000, "--iv", IV)
    _cipher(tool, "aes32", "AES-ECB", DATA[:21])
    _cipher(tool, "aes32", "AES-CBC", DATA, "--iv", "0001")
    _cipher(tool, "allowed", "AES-CBC", DATA, "--iv", IV)
    _cipher(tool, "allowed", "AES-CBC-PAD", DATA, "--iv", IV)
    _cipher(tool, "secret", "AES-CBC", DATA, "--iv", IV)
    _decrypt_of_openssl(tool)


def _decrypt_of_openssl(tool: _Tool) -> None:
    """What OpenSSL enciphers for the token's key, the token deciphers."""
    public, clear = tool.file("read-pubkey-rsa2048"), tool.file("clear", DATA)
    ways: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
        "pkcs1": (("rsa_padding_mode:pkcs1",), ("RSA-PKCS",)),
        "oaep": (("rsa_padding_mode:oaep",), ("RSA-PKCS-OAEP", "--hash-algorithm", "SHA-1", "--mgf", "MGF1-SHA1")),
    }
    for name, (options, mechanism) in ways.items():
        sealed, opened = tool.file(f"{name}.sealed"), tool.file(f"{name}.opened")
        padding = [word for option in options for word in ("-pkeyopt", option)]
        key = ("-pubin", "-keyform", "DER", "-inkey", public)
        tool.script.check(
            f"openssl-{name}", "openssl", "pkeyutl", "-encrypt", *key, *padding, "-in", clear, "-out", sealed
        )
        files = ("--input-file", sealed, "--output-file", opened)
        words = ("--id", IDS["rsa2048"], "--mechanism", *mechanism, *files)
        tool.user(f"decrypt-openssl-{name}", "--decrypt", *words, produces=f"{name}.opened")
        tool.script.same(f"decrypt-openssl-{name}-same", f"{name}.opened", "clear")


def _wrapping(tool: _Tool) -> None:
    ways = {
        "key-wrap": ("AES-KEY-WRAP", "29"),
        "key-wrap-pad": ("AES-KEY-WRAP-PAD", "29"),
        "cbc": ("AES-CBC", "22"),
        "cbc-pad": ("AES-CBC-PAD", "22"),
        "rsa": ("RSA-PKCS", "18"),
        "rsa-oaep": ("RSA-PKCS-OAEP", "18"),
    }
    for number, (name, (mechanism, wrapper)) in enumerate(ways.items()):
        wrapped = tool.file(f"{name}.wrapped")
        out = ("--output-file", wrapped, "--application-id", "26", "--iv", IV)
        words = ("--mechanism", mechanism, "--id", wrapper)
        tool.user(f"wrap-{name}", "--wrap", *words, *out, produces=f"{name}.wrapped")
        if not (tool.script.directory / f"{name}.wrapped").exists():
            continue
        into = ("--application-id", f"6{number}", "--application-label", f"unwrapped {name}", "--extractable")
        source = ("--input-file", wrapped, "--iv", IV, "--key-type", "AES:", "--type", "secrkey")
        tool.user(f"unwrap-{name}", "--unwrap", *words, *source, *into)
    tool.objects("wrapped-objects", "--type", "secrkey")
    peer = tool.file("ec.pub.der")
    derive = ("--derive", "--id", "19", "--mechanism", "ECDH1-DERIVE", "--input-file", peer)
    tool.user("derive", *derive, "--output-file", tool.file("raw"), produces="raw")
    tool.user("derive-der", *derive, "--derive-pass-der", "--output-file", tool.file("der"), produces="der")


def _hashes(tool: _Tool) -> None:
    for name in MECHANISM_HASHES:
        for length in (0, 3, 100_000):
            source = tool.file(f"hash-{name}-{length}.in", (DATA * 4000)[:length])
            out = f"hash-{name}-{length}"
            words = ("--hash", "--mechanism", name, "--input-file", source, "--output-file", tool.file(out))
            tool.public(out, *words, produces=out)
            tool.file(f"{out}.expected", hashlib.new(name.replace("-", ""), (DATA * 4000)[:length]).digest())
            tool.script.same(f"{out}-same", out, f"{out}.expected")


def _deletion(tool: _Tool) -> None:
    tool.user("delete-data", "--delete-object", "--type", "data", "--label", "data")
    tool.user("delete-again", "--delete-object", "--type", "data", "--label", "data", fails=True)
    tool.user("delete-key", "--delete-object", "--type", "privkey", "--id", "17")
    tool.user("delete-pubkey", "--delete-object", "--type", "pubkey", "--id", "17")
    tool.user("delete-secret", "--delete-object", "--type", "secrkey", "--id", "32")
    tool.user("delete-undestroyable", "--delete-object", "--type", "secrkey", "--id", "34", fails=True)
    tool.public("delete-no-login", "--delete-object", "--type", "privkey", "--id", "10", fails=True)
    tool.user("delete-cert", "--delete-object", "--type", "cert", "--id", "50")
    tool.objects("objects-left")


def _own_tests(tool: _Tool) -> None:
    """With one key pair on the token: what these print depends on the order of the keys."""
    usage = ("--usage-sign", "--usage-decrypt")
    tool.user("test-key", "--keypairgen", "--key-type", "rsa:2048", "--id", "01", "--label", "test", *usage)
    tool.user("test", "--test", prints=unordered)
    tool.user("test-ec", "--session-rw", "--test-ec", "--id", "70", "--key-type", "EC:prime256v1", prints=unordered)
    tool.bare("test-fork", "--test-fork", prints=unordered)
    tool.public("test-public", "--test", prints=unordered)


def _threads(tool: _Tool) -> None:
    plans = {
        "one": ["P1GISLT0T1"],
        "later": ["P1ILGISLT0", "P1ILSLT1", "P1INSLT0", "P1SLSLSL"],
        "tokens": ["P1" + "SLT0T1" * 5] * 8,
    }
    for name, threads in plans.items():
        words = [word for plan in threads for word in ("--test-threads", plan)]
        _run_threads(tool, f"threads-{name}", len(threads), [*tool.module, "--use-locking", *words])


def _run_threads(tool: _Tool, test: str, count: int, command: list[str]) -> None:
    """Keeps the main thread busy, hashing what it reads, until the others have ended: it would wait long for them."""
    hashing = [*command, "--token-label", tool.target.label, "--hash", "--mechanism", "SHA256"]
    process = subprocess.Popen(
        [*hashing, "--input-file", "/dev/stdin", "--output-file", tool.file(f"{test}.hash")],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    printed: list[str] = []
    ended = 0
    for line in process.stderr:
        printed.append(line.strip())
        ended += "returning rv" in line
        if ended == count:
            break
    _, rest = process.communicate()
    answers = sorted(
        {line for line in [*printed, *rest.splitlines()] if "returned CKR_" in line and "Init" not in line}
    )
    if process.returncode < 0:
        tool.script.record(test, Outcome(Status.CRASH, f"exit {process.returncode}"))
    else:
        status = Status.PASS if process.returncode == 0 else Status.FAIL
        tool.script.record(test, Outcome(status, f"exit {process.returncode} {'; '.join(answers)}"))


def _pins(tool: _Tool) -> None:
    tool.user("change-pin", "--change-pin", "--new-pin", "newer-pin")
    tool.public("login-old-pin", "--login", "--pin", tool.target.pin, "-O", fails=True)
    tool.public("login-new-pin", "--login", "--pin", "newer-pin", "--list-objects", "--type", "data", prints=unordered)
    so_pin = ("--so-pin", tool.target.so_pin)
    so_login = ("--login", "--login-type", "so", *so_pin)
    tool.public("init-pin", *so_login, "--init-pin", "--new-pin", tool.target.pin)
    tool.objects("login-again", "--type", "data")
    tool.public("unlock-pin", *so_login, "--unlock-pin", "--new-pin", tool.target.pin, fails=True)
    tool.public("change-so-pin", *so_login, "--change-pin", "--new-pin", "so-pin-too")
    newer = ("--login", "--login-type", "so", "--so-pin", "so-pin-too")
    tool.public("change-so-pin-back", *newer, "--change-pin", "--new-pin", tool.target.so_pin)
    tool.user("change-pin-short", "--change-pin", "--new-pin", "1", fails=True)
    tool.bare("init-spare", "--slot-index", "1", "--init-token", "--label", "spare", *so_pin)
    tool.bare("slots-with-spare", "--list-slots", prints=unordered)
    spare = ("--token-label", "spare")
    tool.bare("init-spare-pin", *spare, *so_login, "--init-pin", "--new-pin", "spare-pin")
    tool.bare("spare-objects", *spare, "--login", "--pin", "spare-pin", "--list-objects")
    words = ("--keygen", "--key-type", "AES:32", "--label", "on the spare")
    tool.bare("spare-keygen", *spare, "--login", "--pin", "spare-pin", *words)
    tool.bare("spare-keys", *spare, "--login", "--pin", "spare-pin", "--list-objects")
    tool.bare("init-spare-again", *spare, "--init-token", "--label", "spare", *so_pin)
    tool.bare("spare-empty", *spare, "--list-objects")
    tool.bare("init-wrong-pin", *spare, "--init-token", "--label", "spare", "--so-pin", "87654321", fails=True)
    tool.bare("slots-at-last", "--list-slots", prints=unordered)
