"""Files with secrets: bearer tokens and PINs."""

import os
from hashlib import sha256
from types import MappingProxyType

import pytest

from keyway.config import ApiPinOptions
from keyway.provision.bearers import Bearers, BearersError
from keyway.provision.pins import PinBook
from keyway.provision.private import PrivateFileError, read_private
from keyway.provision.problems import Problem

LINE = f"alice:{sha256(b'token').hexdigest()}\n"


def file(path, data, mode=0o600):
    path.write_bytes(data)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o620, 0o666])
def test_files_of_others(tmp_path, mode):
    path = file(tmp_path / "secret", b"1234", mode)
    with pytest.raises(PrivateFileError, match="others can read or write it") as caught:
        read_private(path, 10)
    assert str(path) in str(caught.value)


def test_what_is_read(tmp_path):
    assert read_private(file(tmp_path / "secret", b"1234\n", 0o640), 5) == b"1234\n"
    with pytest.raises(PrivateFileError, match="longer than 4 bytes"):
        read_private(tmp_path / "secret", 4)


def test_what_is_no_file(tmp_path):
    with pytest.raises(PrivateFileError, match="No such file"):
        read_private(tmp_path / "none", 5)
    os.mkfifo(tmp_path / "fifo", 0o600)
    for path in (tmp_path / "fifo", tmp_path):
        with pytest.raises(PrivateFileError):
            read_private(path, 5)


@pytest.mark.parametrize(
    ("data", "mode", "told"),
    [
        (LINE.encode(), 0o644, "others can read or write it"),
        (b"alice:1234\n", 0o600, "line 1 is not NAME:SHA-256"),
        (b"\xff", 0o600, "it is not UTF-8"),
    ],
)
def test_bearer_tokens_that_are_not_taken(tmp_path, data, mode, told):
    path = file(tmp_path / "tokens", data, mode)
    with pytest.raises(BearersError, match=told) as caught:
        Bearers(path)
    assert str(path) in str(caught.value)


def test_bearer_tokens(tmp_path):
    assert list(Bearers(file(tmp_path / "tokens", LINE.encode())).known().values()) == ["alice"]
    assert Bearers(None).known() == {}


def test_pins(tmp_path):
    path = file(tmp_path / "pin", b"4711\r\n")
    book = PinBook(
        MappingProxyType(
            {
                "mine": ApiPinOptions(file=path, token="vault", callers=("alice",)),
                "so": ApiPinOptions(file=path, token="vault", user="so"),
            }
        )
    )
    assert book.named("mine", "vault", "user", "alice") == b"4711"
    assert book.default("vault", "user", "alice") == b"4711"
    assert book.default("vault", "so", "bob") == b"4711"
    assert book.default("vault", "user", "bob") is None
    assert book.default("other", "user", "alice") is None
    for name, token, user, caller in (
        ("mine", "vault", "user", "bob"),
        ("mine", "other", "user", "alice"),
        ("mine", "vault", "so", "alice"),
        ("none", "vault", "user", "alice"),
    ):
        with pytest.raises(Problem) as caught:
            book.named(name, token, user, caller)
        assert caught.value.code == "pin-reference-missing"
    path.chmod(0o644)
    with pytest.raises(Problem) as caught:
        book.default("vault", "user", "alice")
    assert caught.value.code == "pin-reference-missing"
    assert "4711" not in str(caught.value)
