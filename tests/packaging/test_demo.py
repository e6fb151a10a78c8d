"""The demonstration shows what it says, and fails when it does not."""

from __future__ import annotations

import importlib
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.strongswan.network import why_not

if TYPE_CHECKING:
    from pathlib import Path

MESSAGE = "payment 1 of thread 0"
MS = 1_000_000


@pytest.mark.timeout(300)
def test_the_demonstration_runs(root: Path, keyway: Path) -> None:
    done = subprocess.run(
        [str(keyway), "run", "--token", "demo", "--", str(keyway.with_name("python")), str(root / "demo" / "demo.py")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "the same signature as before the crash" in done.stdout
    for event in ("nothing happens", "hsm-a is killed", "hsm-b is killed", "the gateway is restarted"):
        row = re.search(rf"^ *{event}.*?  +([\d,]+) +(\d+)(?: |$)", done.stdout, re.MULTILINE)
        assert row, done.stdout
        assert int(row[1].replace(",", "")) > 0
        assert int(row[2]) == 0
    assert re.search(r"ok [\d,]+ signatures are good", done.stdout), done.stdout


@pytest.mark.timeout(300)
def test_the_demonstration_of_ipsec_runs(root: Path, keyway: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    done = subprocess.run(
        [str(keyway.with_name("python")), str(root / "demo" / "ipsec.py")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^ *([0-9]+) packets transmitted, \1 received, 0% packet loss", done.stdout, re.MULTILINE)
    for step in (
        "charon was not restarted",
        "the other HSM has signed",
        "the new SA was there before the old one ended",
    ):
        assert f"ok {step}" in done.stdout


@pytest.fixture
def two_hsms(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The module of the second act, in a scratch directory of its own."""
    monkeypatch.syspath_prepend(str(root / "demo"))
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("two_hsms")


def test_a_wrong_signature_ends_the_demonstration(two_hsms: Any, tmp_path: Path) -> None:
    rsa_key, ec_key = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
    for label, public in (("rsa", rsa_key.public_key()), ("ec", ec_key.public_key())):
        (tmp_path / f"{label}.der").write_bytes(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    r, s = decode_dss_signature(ec_key.sign(MESSAGE.encode(), ec.ECDSA(SHA256())))
    signatures = {
        "rsa": rsa_key.sign(MESSAGE.encode(), padding.PKCS1v15(), SHA256()),
        "ec": r.to_bytes(32) + s.to_bytes(32),
    }
    good = [{"key": label, "message": MESSAGE, "signature": each.hex()} for label, each in signatures.items()]
    two_hsms.judge(two_hsms.Stage(), good)
    for call in good:
        with pytest.raises(two_hsms.StepError, match="a wrong signature"):
            two_hsms.judge(two_hsms.Stage(), [*good, {**call, "message": "another"}])


def test_the_table_tells_what_each_event_cost(two_hsms: Any) -> None:
    def call(begin: int, end: int, error: str = "") -> dict[str, Any]:
        return {"key": "rsa", "begin": begin * MS, "end": end * MS, "error": error}

    calls = [*(call(at, at + 2) for at in range(0, 40, 2)), call(19, 31, "DeviceError")]
    events = [two_hsms.Event("calm", 5 * MS), two_hsms.Event("storm", 25 * MS)]
    _, calm, storm = two_hsms.table(calls, events)
    assert calm.split() == ["calm", "12", "0"]
    assert storm.split() == ["storm", "9", "1", "2", "5", "ms", "10", "ms"]
