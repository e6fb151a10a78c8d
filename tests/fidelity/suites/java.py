"""Java's SunPKCS11: keytool, and a program that uses every service of the provider."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.fidelity.outcomes import Outcome, Status
from tests.fidelity.suites.cache import CACHE
from tests.fidelity.suites.commands import Script, unordered
from tests.fidelity.target import Target

PROGRAM = Path(__file__).parents[1] / "java" / "Fidelity.java"
PROGRAM_SECONDS = 180
QUICK = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Options of the machine for programs that end soon: its second compiler would take longer than what it saves."""
ATTRIBUTES = """\
attributes(generate, CKO_PRIVATE_KEY, CKK_EC) = { CKA_DERIVE = true CKA_SIGN = true }
attributes(generate, CKO_PRIVATE_KEY, CKK_DH) = { CKA_DERIVE = true }
attributes(generate, CKO_SECRET_KEY, CKK_GENERIC_SECRET) = { CKA_SENSITIVE = false CKA_EXTRACTABLE = true }
attributes(import, CKO_SECRET_KEY, CKK_AES) = { CKA_EXTRACTABLE = true }
"""


def run(target: Target) -> dict[str, Outcome]:
    """keytool's keys and certificates first, then the program, which finds them on the token."""
    configuration = target.workdir / "java.cfg"
    configuration.write_text(f"name = Fidelity\nlibrary = {target.module}\nslotListIndex = 0\n{ATTRIBUTES}")
    script = Script(target.workdir, [(str(target.module), "MODULE")])
    _keytool(script, target, configuration)
    return {**script.outcomes, **_program(target, configuration)}


def classes() -> Path:
    """The folder of the compiled program, which is compiled when it is older than its source."""
    folder = CACHE / "java"
    if not (folder / "Fidelity.class").exists() or folder.stat().st_mtime < PROGRAM.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        fresh = folder.with_suffix(f".{os.getpid()}")
        subprocess.run(["javac", "-d", str(fresh), str(PROGRAM)], check=True)
        for each in fresh.iterdir():
            each.replace(folder / each.name)
        fresh.rmdir()
        os.utime(folder)
    return folder


def _keytool(script: Script, target: Target, configuration: Path) -> None:
    provider = ("-providerClass", "sun.security.pkcs11.SunPKCS11", "-providerArg", str(configuration))
    store = ("-keystore", "NONE", "-storetype", "PKCS11", "-storepass", target.pin, *provider)

    def keytool(test: str, verb: str, *words: str, fails: bool = False) -> None:
        script.check(
            f"keytool-{test}",
            "keytool",
            verb,
            *(f"-J{option}" for option in QUICK),
            *store,
            *words,
            fails=fails,
            prints=unordered,
        )

    subject = ("-dname", "CN=localhost", "-validity", "2")
    keytool("list-empty", "-list")
    keytool("genkeypair-rsa", "-genkeypair", "-alias", "rsa", "-keyalg", "RSA", "-keysize", "2048", *subject)
    keytool("genkeypair-ec", "-genkeypair", "-alias", "ec", "-keyalg", "EC", "-groupname", "secp256r1", *subject)
    keytool("genkeypair-pss", "-genkeypair", "-alias", "pss", "-keyalg", "RSA", "-sigalg", "SHA384withRSA", *subject)
    keytool("genkeypair-twice", "-genkeypair", "-alias", "rsa", "-keyalg", "RSA", *subject, fails=True)
    keytool("genseckey", "-genseckey", "-alias", "secret", "-keyalg", "AES", "-keysize", "256")
    request, signed = script.path("request"), script.path("signed")
    keytool("certreq", "-certreq", "-alias", "ec", "-file", request)
    keytool("gencert", "-gencert", "-alias", "rsa", "-infile", request, "-outfile", signed, "-validity", "2")
    keytool("importcert", "-importcert", "-alias", "ec", "-noprompt", "-file", signed)
    keytool("exportcert", "-exportcert", "-alias", "pss", "-rfc", "-file", script.path("exported"))
    keytool("list", "-list")
    keytool("delete", "-delete", "-alias", "pss")
    keytool("list-left", "-list")


def _program(target: Target, configuration: Path) -> dict[str, Outcome]:
    command = ["java", *QUICK, "-cp", str(classes()), "Fidelity", str(configuration), target.pin, "keytool"]
    log = target.workdir / "java.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, cwd=target.workdir, env=os.environ, stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            printed, _ = process.communicate(timeout=PROGRAM_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            printed, _ = process.communicate()
    outcomes: dict[str, Outcome] = {}
    for line in printed.splitlines():
        test, _, answer = line.partition("\t")
        word, _, detail = answer.partition("\t")
        if word in {"pass", "fail"}:
            outcomes[test] = Outcome(Status(word), detail)
    ended = Status.CRASH if process.returncode < 0 else Status.PASS if process.returncode == 0 else Status.ERROR
    outcomes["program"] = Outcome(ended, f"exit {process.returncode}")
    return outcomes
