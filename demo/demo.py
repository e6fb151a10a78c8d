"""The demonstration: one token, used through the gateway by programs that never load its vendor library; then two HSMs as one token.

`make demo` starts it as `keyway run --token demo -- python demo/demo.py`. Aimed at the vendor module
itself (KEYWAY_MODULE=$KEYWAY_DIRECT_MODULE) the same steps work, up to the one that kills the module.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import two_hsms
from pair import Gateway
from signer import Signer, TokenError
from stage import Stage, StepError

PICTURE = """\
   pkcs11-tool, openssl, your program
        |  loads libkeyway.so
   keyway daemon (Python)
        |  one process for each program
   keyway-host  ->  the vendor's module  ->  token"""

MODULE = ["--module", "$KEYWAY_MODULE"]
TOKEN = [*MODULE, "--token-label", "$KEYWAY_TOKEN", "--pin", "env:KEYWAY_PIN"]

KEYS = {"rsa": ("01", "rsa:2048"), "ec": ("02", "EC:prime256v1")}
"""Label of each key pair: its CKA_ID, and what pkcs11-tool calls its kind."""


def list_slots(stage: Stage) -> None:
    """Show that the token is there, and that the program sees only libkeyway.so."""
    stage.step("What does a program find when it loads libkeyway.so?")
    listing = stage.run(
        ["pkcs11-tool", *MODULE, "--list-token-slots"], show=["Slot", "token label", "token model", "serial num"]
    )
    if os.environ["KEYWAY_TOKEN"] not in listing:
        raise StepError("the token is not in the list")
    stage.ok("the token, as if its own module had been loaded; it is loaded elsewhere")


def generate(stage: Stage) -> None:
    """Make the key pairs inside the token."""
    stage.step("Generate an RSA and an EC key pair inside the token")
    stage.say(f"(each pkcs11-tool from here on is also given {' '.join(TOKEN)})")
    for label, (identifier, kind) in KEYS.items():
        stage.run(
            ["pkcs11-tool", "--keypairgen", "--key-type", kind, "--label", label, "--id", identifier],
            common=TOKEN,
            show=["Private Key Object", "never extractable"],
        )
    stage.ok("two private keys that never leave the token")


def sign(stage: Stage) -> None:
    """Sign a document with each key."""
    stage.step("Sign a document with each of them")
    Path("letter.txt").write_text("Pay to the bearer the sum of three cups of coffee.\n")
    Path("letter.sha256").write_bytes(hashlib.sha256(Path("letter.txt").read_bytes()).digest())
    rsa = ["--id", "01", "-m", "SHA256-RSA-PKCS", "-i", "letter.txt", "-o", "rsa.sig"]
    stage.run(["pkcs11-tool", "--sign", *rsa], common=TOKEN)
    # The token signs a digest with CKM_ECDSA; "openssl" is the form of the signature, a DER sequence.
    ec = ["--id", "02", "-m", "ECDSA", "-f", "openssl", "-i", "letter.sha256", "-o", "ec.sig"]
    stage.run(["pkcs11-tool", "--sign", *ec], common=TOKEN)
    stage.ok(f"{Path('rsa.sig').stat().st_size} and {Path('ec.sig').stat().st_size} bytes of signature")


def verify(stage: Stage) -> None:
    """Let OpenSSL, which knows nothing of the token, judge the signatures; also of a forged document."""
    stage.step("Verify with OpenSSL, outside the token")
    Path("forged.txt").write_text("Pay to the bearer the sum of nine cups of coffee.\n")
    for label, (identifier, _) in KEYS.items():
        read = ["--read-object", "--type", "pubkey", "--id", identifier, "-o", f"{label}.der"]
        stage.run(["pkcs11-tool", *read], common=TOKEN)
        verify_file(stage, label, f"{label}.sig")
        verify_file(stage, label, f"{label}.sig", document="forged.txt", expect=1)
    stage.ok("both signatures are good, and OpenSSL refuses them for a forged letter")


def verify_file(stage: Stage, label: str, signature: str, document: str = "letter.txt", expect: int = 0) -> None:
    """Run `openssl dgst -verify` with the public key that was read from the token."""
    stage.run(
        ["openssl", "dgst", "-sha256", "-verify", f"{label}.der", "-signature", signature, document],
        show=["Verification failure" if expect else "Verified OK"],
        expect=expect,
    )


def survive(stage: Stage) -> None:
    """Kill the module under a program in use, and show that the program goes on."""
    stage.step("Kill the vendor's module under a running program, and sign again")
    library = Path(os.environ["KEYWAY_DIRECT_MODULE"]).name
    letter = Path("letter.txt").read_bytes()

    stage.say("This program now opens the token itself, signs, and keeps its session open.")
    signer = Signer(os.environ["KEYWAY_MODULE"], os.environ["KEYWAY_TOKEN"], os.environ["KEYWAY_PIN"])
    first = signer.sign("rsa", letter)
    stage.ok(f"signed: {first[:12].hex()}...")

    if library in Path("/proc/self/maps").read_text():
        raise StepError(f"{library} should be loaded in a module host, not in this program")
    host = my_host(stage)
    os.kill(host, signal.SIGKILL)
    stage.say(f"kill -9 {host}    (the process in which {library} serves this program; the daemon logs its end)")
    try:
        signer.sign("rsa", letter)
    except TokenError as error:
        stage.ok(f"the old session answers {str(error).partition(' ')[0]}; nothing else happened to this program")
    else:
        raise StepError("a session whose module is dead has signed")

    signer.open()
    again = signer.sign("rsa", letter)
    Path("again.sig").write_bytes(again)
    stage.ok(f"a new session of the same program signs: {again[:12].hex()}...")
    verify_file(stage, "rsa", "again.sig")
    if again != first:
        raise StepError("RSA PKCS #1 v1.5 signatures of one letter must be equal")
    stage.ok("the same signature as before the crash, by the same key")


def my_host(stage: Stage) -> int:
    """Ask the daemon which module host serves this program; return its process id."""
    stage.run(["keyway", "status"], show=["backend", f"(process {os.getpid()},"])
    status = subprocess.run(["keyway", "status", "--json"], capture_output=True, check=True).stdout
    for context in json.loads(status)["contexts"]:
        if context["pid"] == os.getpid():
            (host,) = context["hosts"].values()
            return int(host)
    raise StepError("the daemon does not know this program")


def main() -> int:
    """Run all steps in a scratch directory; end with 1 if one of them fails."""
    # In order with the daemon's log, also in a pipe.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    stage = Stage()
    with tempfile.TemporaryDirectory(prefix="keyway-demo-") as scratch:
        os.chdir(scratch)
        try:
            first_act(stage)
            second_act(stage, Path(scratch))
        except (StepError, TokenError) as failure:
            stage.fail(str(failure))
            return 1
        finally:
            os.chdir("/")
    stage.title("That was a gateway in front of SoftHSM tokens. Next: README.md, docs/guides/")
    return 0


def first_act(stage: Stage) -> None:
    """Use a token, and lose its module."""
    stage.title("Keyway, first act: one token")
    print(PICTURE)
    for step in (list_slots, generate, sign, verify, survive):
        step(stage)


def second_act(stage: Stage, scratch: Path) -> None:
    """Use two HSMs as one token, and lose either."""
    stage.title("Second act: two HSMs as one token")
    print(two_hsms.PICTURE)
    gateway = Gateway(scratch)
    try:
        two_hsms.double(stage, gateway)
        calls = two_hsms.break_things(stage, gateway)
        two_hsms.judge(stage, calls)
    finally:
        gateway.stop()


if __name__ == "__main__":
    sys.exit(main())
