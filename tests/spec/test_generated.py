"""What is generated is fresh, and the generator refuses tables that contradict themselves."""

import shutil
from pathlib import Path

import emit_limits
import generate
import layout
import model
import pytest


def test_generated_files_are_fresh(spec: model.Spec) -> None:
    assert generate.stale(generate.generate(spec)) == []


def test_a_changed_file_is_stale(spec: model.Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"fresh.txt": "a", "changed.txt": "b", "missing.txt": "c"}
    (tmp_path / "fresh.txt").write_text("a")
    (tmp_path / "changed.txt").write_text("B")
    monkeypatch.setattr(generate, "TOP", tmp_path)
    assert generate.stale(files) == ["changed.txt", "missing.txt"]


def test_a_limit_that_nobody_tells_of(spec: model.Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    title = "Who connects"
    rows = tuple(row for row in emit_limits.SECTIONS[title] if row[0] != "limits.idle")
    monkeypatch.setitem(emit_limits.SECTIONS, title, rows)
    with pytest.raises(SystemExit, match=r"when limits\.idle is reached"):
        emit_limits.emit(spec)


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """A copy of the tables."""
    for path in generate.FOLDER.glob("*.toml"):
        shutil.copy(path, tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("table", "before", "after", "complaint"),
    [
        ("calls.toml", "number = 44\n", "number = 45\n", "C_Sign: number 45 at position 44"),
        ("calls.toml", '"label pLabel"', '"tag pLabel"', "C_InitToken: kind tag"),
        ("calls.toml", 'init = "C_SignInit"', 'init = "C_Signinit"', "C_Sign: init C_Signinit"),
        ("constants.toml", "CKR_CANCEL = 0x00000001", "CKR_CANCEL = 0x00000000", "rv: value 0: twice"),
        ("constants.toml", '"CKK_EC"', '"CKK_ECX"', "CKK_ECDSA: stands for the unknown CKK_ECX"),
        ("attributes.toml", 'name = "CKA_TOKEN"', 'name = "CKA_TOKENS"', "CKA_TOKENS: no such attribute"),
        ("attributes.toml", 'name = "CKA_TOKEN"', 'name = "CKA_CLASS"', "attribute CKA_CLASS: twice"),
        ("mechanisms.toml", "id = 11\n", "id = 10\n", "shape id 10: twice"),
        ("mechanisms.toml", '"ulong sLen"', '"number sLen"', "CK_RSA_PKCS_PSS_PARAMS.sLen: kind number"),
        ("mechanisms.toml", "pOAEPParams CK_RSA_PKCS_OAEP_PARAMS", "pOAEPParams CK_NONE", "no shape CK_NONE"),
        (
            "mechanisms.toml",
            "pOAEPParams CK_RSA_PKCS_OAEP_PARAMS",
            "pOAEPParams CK_RSA_AES_KEY_WRAP_PARAMS",
            "CK_RSA_AES_KEY_WRAP_PARAMS: contains or points to itself",
        ),
    ],
)
def test_a_contradiction_is_refused(tables: Path, table: str, before: str, after: str, complaint: str) -> None:
    text = (tables / table).read_text()
    assert before in text
    (tables / table).write_text(text.replace(before, after, 1))
    with pytest.raises(model.SpecError, match=complaint.replace(".", r"\.")):
        model.load(tables)


def test_shapes_of_one_size_are_refused(tables: Path) -> None:
    table = tables / "mechanisms.toml"
    before = 'parameter = ["CK_PKCS5_PBKD2_PARAMS2"]'
    text = table.read_text()
    assert before in text
    table.write_text(text.replace(before, 'parameter = ["CK_PKCS5_PBKD2_PARAMS2", "CK_PKCS5_PBKD2_PARAMS"]'))
    with pytest.raises(model.SpecError, match=r"CKM_PKCS5_PBKD2: .* not told apart"):
        layout.check(model.load(tables))


def test_a_member_that_is_missing_is_refused(tables: Path) -> None:
    table = tables / "mechanisms.toml"
    text = table.read_text()
    assert "string_bits pTag ulTagBits out" in text
    table.write_text(text.replace("string_bits pTag ulTagBits out", "string_bits pTag ulTagBites out"))
    with pytest.raises(model.SpecError, match="CK_GCM_MESSAGE_PARAMS: no member ulTagBites"):
        generate.generate(model.load(tables))
