"""Values, texts, names and errors."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

import keyway.cryptoki
from keyway.cryptoki import (
    CALLS,
    RV,
    Attribute,
    CkError,
    Mechanism,
    Null,
    Opaque,
    Output,
    Structured,
    Version,
    attribute_name,
    call_named,
    call_numbered,
    mechanism_name,
    padded,
    rv_name,
    stripped,
    unpadded,
)
from keyway.cryptoki.constants import CKA_LABEL, CKM_ECDSA


@pytest.mark.parametrize(
    "value",
    [
        Opaque(b"secret"),
        Output(6, b"secret"),
        Mechanism(1, b"secret"),
        Mechanism(1, Structured(1, (b"secret", (b"secret",), Null(1)))),
        Attribute(1, b"secret"),
        Attribute(1, (Attribute(2, b"secret"),)),
        Structured(1, (Mechanism(1, b"secret"),)),
    ],
)
def test_contents_do_not_show(value: object) -> None:
    for text in (repr(value), str(value), f"{value}", f"{value!r}", f"{[value]}"):
        assert "secret" not in text
        assert "6 bytes" in text


def test_opaque_is_bytes() -> None:
    assert Opaque(b"a") == b"a"
    assert hash(Opaque(b"a")) == hash(b"a")
    assert Attribute(1, Opaque(b"a")) == Attribute(1, b"a")
    assert pickle.loads(pickle.dumps(Opaque(b"a"))) == b"a"
    assert f"{Opaque(b'abc'):>10}" == " <3 bytes>"


def test_absent_and_empty_differ() -> None:
    assert len({Null(0), b"", Null(1)}) == 3


def test_shown_structure_is_complete() -> None:
    assert (
        repr(Attribute(1, (Attribute(2, b"ab"),))) == "Attribute(type=1, value=(Attribute(type=2, value=<2 bytes>),))"
    )
    assert str(Version(2, 40)) == "2.40"


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 64))
def test_padding(text: str, width: int) -> None:
    field = padded(text, width)
    assert len(field) == width
    assert text.startswith(field.decode().rstrip(" ")) or text.strip(" ") == ""
    assert unpadded(field) == stripped(field).decode()


def test_padding_cuts_between_characters() -> None:
    assert padded("aü", 2) == b"a "
    assert padded("aü", 3) == b"a\xc3\xbc"
    assert unpadded(b"ab \0 ") == "ab"
    assert unpadded(b"\xff  ") == "�"


def test_names() -> None:
    assert rv_name(0xA0) == "CKR_PIN_INCORRECT"
    assert rv_name(0x8000_0007) == "CKR_VENDOR_DEFINED+0x7"
    assert rv_name(0x1234) == "0x1234"
    assert mechanism_name(CKM_ECDSA) == "CKM_ECDSA"
    assert mechanism_name(0x8000_0001) == "CKM_VENDOR_DEFINED+0x1"
    assert attribute_name(CKA_LABEL) == "CKA_LABEL"
    assert attribute_name(0x7777) == "0x7777"


def test_error() -> None:
    error = CkError(RV.CKR_DEVICE_ERROR, "the module host ended")
    assert str(error) == "CKR_DEVICE_ERROR: the module host ended"
    assert str(CkError(0x8000_0007)) == "CKR_VENDOR_DEFINED+0x7"
    assert pickle.loads(pickle.dumps(error)).rv == RV.CKR_DEVICE_ERROR


def test_lookup() -> None:
    for call in CALLS:
        assert call_named(call.name) is call
        assert call_numbered(call.number) is call
    for number in (-1, 0, len(CALLS) + 1, 0x4000):
        assert call_numbered(number) is None
    with pytest.raises(KeyError):
        call_named("C_Nothing")


def test_public_names_exist() -> None:
    assert [name for name in keyway.cryptoki.__all__ if not hasattr(keyway.cryptoki, name)] == []
