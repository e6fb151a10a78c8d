"""OpenSC's p11test, built from the source package of Debian."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fidelity.outcomes import Outcome, Status
from tests.fidelity.suites.cache import CACHE
from tests.fidelity.suites.commands import Script, anything
from tests.fidelity.target import Target

ARCHIVE = "opensc_0.23.0.orig.tar.gz"
SHA256 = "a08b475834e3c3b0efd9bfc46adfcc3440d3975c2fb3ab2ef29342b879d41370"
SOURCES = """\
Types: deb-src
URIs: http://deb.debian.org/debian
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""
PAIRS = {
    "RSA1024": "rsa:1024",
    "RSA2048": "rsa:2048",
    "EC256": "EC:secp256r1",
    "EC521": "EC:secp521r1",
    "ED": "EC:edwards25519",
}
SECRETS = {"AES128": "AES:16", "AES256": "AES:32"}
RUN_SECONDS = 120

_VERDICT = re.compile(r"\[ +(OK|FAILED|SKIPPED|RUN) +\] (\w+)$")
_KEY = re.compile(r"\[([0-9a-f]{2}) *\] ")
_VERDICTS = {"OK": Status.PASS, "FAILED": Status.FAIL, "SKIPPED": Status.SKIP}


def program() -> Path:
    """The p11test program, fetched and built on the first use."""
    binary = CACHE / "p11test-0.23.0"
    if binary.exists():
        return binary
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        place = Path(name)
        source = place / "source"
        source.mkdir()
        # Debian's Python 3.11 has no filter for extractall, newer ones warn without one.
        subprocess.run(["tar", "-xzf", str(_fetched(place)), "-C", str(source)], check=True)
        (top,) = source.iterdir()
        # The program asks the build's configuration for nothing but its presence.
        (place / "config.h").touch()
        units = [str(unit) for unit in (top / "src" / "tests" / "p11test").glob("*.c")]
        options = ["-O1", "-w", "-DENABLE_OPENSSL", f"-I{place}", f"-I{top / 'src'}"]
        built = place / "p11test"
        subprocess.run(["gcc", *options, *units, "-o", str(built), "-lcmocka", "-lcrypto", "-ldl"], check=True)
        shutil.move(built, binary)
    return binary


def _fetched(place: Path) -> Path:
    """The source archive, by name from Debian, with package lists of its own."""
    for directory in ("lists/partial", "cache/archives/partial", "parts"):
        (place / directory).mkdir(parents=True)
    (place / "parts" / "source.sources").write_text(SOURCES)
    settings = {
        "Dir::Etc::SourceList": os.devnull,
        "Dir::Etc::SourceParts": place / "parts",
        "Dir::State::Lists": place / "lists",
        "Dir::Cache": place / "cache",
        "APT::Sandbox::User": "",
    }
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    subprocess.run(["apt-get", *options, "--quiet", "update"], cwd=place, stdout=sys.stderr, check=True)
    subprocess.run(
        ["apt-get", *options, "--quiet", "source", "--download-only", "opensc"],
        cwd=place,
        stdout=sys.stderr,
        check=True,
    )
    archive = place / ARCHIVE
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        raise RuntimeError(f"{ARCHIVE} is not the archive that is known")
    return archive


def run(target: Target) -> dict[str, Outcome]:
    """Every row of the tables that p11test prints, and the verdict on each of its tests."""
    script = Script(target.workdir, [])
    login = ("--token-label", target.label, "--login", "--pin", target.pin, "--extractable")
    tool = ("pkcs11-tool", "--module", str(target.module), *login)
    for number, (label, kind) in enumerate({**PAIRS, **SECRETS}.items()):
        verb = "--keypairgen" if label in PAIRS else "--keygen"
        words = ("--key-type", kind, "--label", label, "--id", f"0{number + 1}")
        script.check(f"key-{label}", *tool, verb, *words, prints=anything)
    command = [str(program()), "-m", str(target.module), "-p", target.pin]
    done = subprocess.run(command, cwd=target.workdir, capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    if done.returncode < 0:
        script.record("program", Outcome(Status.CRASH, f"exit {done.returncode}"))
    return {**script.outcomes, **parsed(done.stdout)}


def parsed(printed: str) -> dict[str, Outcome]:
    """The outcomes in what p11test printed. A row is good when it has a tick, or is of a plain list."""
    outcomes: dict[str, Outcome] = {}
    test = key = ""
    for line in printed.splitlines():
        text = " ".join(line.split())
        verdict = _VERDICT.match(text)
        if verdict is not None and verdict[1] == "RUN":
            test, key = verdict[2], ""
        elif verdict is not None and verdict[2] == test:
            outcomes[test] = Outcome(_VERDICTS[verdict[1]])
            test = ""
        elif text.startswith("[") and not text.startswith("[==") and test:
            found = _KEY.match(text)
            key = found[1] if found is not None else key
            good = "./" in text or found is not None or not key
            _add(outcomes, "/".join(filter(None, (test, key))), Outcome(Status.PASS if good else Status.FAIL, text))
    return outcomes


def _add(outcomes: dict[str, Outcome], name: str, outcome: Outcome) -> None:
    number = 1
    while f"{name}/{number}" in outcomes:
        number += 1
    outcomes[f"{name}/{number}"] = outcome
