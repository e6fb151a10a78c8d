"""PKCS #11 URIs (RFC 7512)."""

import traceback
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.cryptoki import Attribute, ModuleInfo, ObjectType, SlotInfo, TokenInfo, Uri, UriError, Version, padded
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_ID,
    CKA_LABEL,
    CKO_CERTIFICATE,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
vendor_names = st.from_regex(r"x-[A-Za-z0-9_-]{1,8}", fullmatch=True)
versions = st.builds(Version, st.integers(0, 255), st.integers(0, 255))


def maybe(strategy: Any) -> Any:
    return st.none() | strategy


@st.composite
def uris(draw: st.DrawFn) -> Uri:
    pin = draw(st.sampled_from(["pin_source", "pin_value", None]))
    return Uri(
        **{
            name: draw(maybe(texts))
            for name in (
                "token",
                "manufacturer",
                "serial",
                "model",
                "library_manufacturer",
                "library_description",
                "object",
                "slot_description",
                "slot_manufacturer",
                "module_name",
            )
        },
        library_version=draw(maybe(versions)),
        type=draw(maybe(st.sampled_from(ObjectType))),
        id=draw(maybe(st.binary(max_size=12))),
        slot_id=draw(maybe(st.integers(0, 2**64 - 1))),
        vendor=tuple(draw(st.dictionaries(vendor_names, texts, max_size=2)).items()),
        pin_source=draw(texts) if pin == "pin_source" else None,
        pin_value=draw(st.binary(max_size=12)) if pin == "pin_value" else None,
        module_path=draw(maybe(texts.map("/".__add__))),
        vendor_query=tuple(draw(st.lists(st.tuples(vendor_names, texts), max_size=3))),
    )


@given(uris())
def test_round_trip(uri: Uri) -> None:
    text = uri.format(with_pin=True)
    assert text.isascii()
    assert Uri.parse(text) == uri


@given(uris())
def test_a_pin_is_not_formatted_unless_asked_for(uri: Uri) -> None:
    assert Uri.parse(str(uri)) == replace(uri, pin_source=None, pin_value=None)


@given(uris())
def test_every_character_may_be_percent_encoded(uri: Uri) -> None:
    """Other writers encode more than is needed; what is read is the same."""
    plain = {"type", "slot-id", "library-version"}

    def encoded(part: str, delimiter: str) -> str:
        attributes = [attribute.partition("=") for attribute in part.split(delimiter) if attribute]
        return delimiter.join(
            f"{name}={value}" if name in plain else name + "=" + "".join(map(escape, split(value)))
            for name, _, value in attributes
        )

    def split(value: str) -> list[str]:
        pieces: list[str] = []
        while value:
            size = 3 if value[0] == "%" else 1
            pieces.append(value[:size])
            value = value[size:]
        return pieces

    def escape(piece: str) -> str:
        return piece.lower() if len(piece) == 3 else f"%{ord(piece):02x}"

    path, _, query = uri.format(with_pin=True).removeprefix("pkcs11:").partition("?")
    assert Uri.parse("PKCS11:" + encoded(path, ";") + "?" + encoded(query, "&")) == uri


@given(st.text(max_size=40) | st.text("pkcs11:;=&?%aZ0-_/token id", max_size=60).map("pkcs11:".__add__))
def test_arbitrary_text_is_a_uri_or_an_error(text: str) -> None:
    try:
        uri = Uri.parse(text)
    except UriError:
        return
    assert Uri.parse(uri.format(with_pin=True)) == uri


def test_parse() -> None:
    uri = Uri.parse(
        "pkcs11:token=Signing%20keys;manufacturer=Example,%20Inc.;serial=;object=a%3bb;type=secret-key;id=%00%ffA;"
        "library-version=3;slot-id=7;x-colour=blue?module-name=example&module-path=/usr/lib/e.so&pin-source=file:/run/pin"
        "&x-note=one&x-note=two"
    )
    assert uri == Uri(
        token="Signing keys",
        manufacturer="Example, Inc.",
        serial="",
        object="a;b",
        type=ObjectType.SECRET_KEY,
        id=b"\0\xffA",
        library_version=Version(3, 0),
        slot_id=7,
        vendor=(("x-colour", "blue"),),
        module_name="example",
        module_path="/usr/lib/e.so",
        pin_source="file:/run/pin",
        vendor_query=(("x-note", "one"), ("x-note", "two")),
    )


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        (Uri(), "pkcs11:"),
        (Uri(token=""), "pkcs11:token="),
        (Uri(token="a b;c/d?e#f%&ü"), "pkcs11:token=a%20b%3Bc%2Fd%3Fe%23f%25&%C3%BC"),
        (Uri(id=b"ab"), "pkcs11:id=%61%62"),
        (Uri(module_path="/a&b?c|d"), "pkcs11:?module-path=/a%26b?c|d"),
        (Uri(library_version=Version(2, 6), type=ObjectType.CERT), "pkcs11:library-version=2.6;type=cert"),
    ],
)
def test_format(uri: Uri, text: str) -> None:
    assert str(uri) == text
    assert Uri.parse(text) == uri


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pkcs11",
        "pkcs12:token=a",
        "https://example.org",
        "pkcs11:token",
        "pkcs11:token=a;",
        "pkcs11:;token=a",
        "pkcs11:token=a b",
        "pkcs11:token=ü",
        "pkcs11:token=%",
        "pkcs11:token=%4",
        "pkcs11:token=%zz",
        "pkcs11:token=%ff",
        "pkcs11:token=a#b",
        "pkcs11:token=a/b",
        "pkcs11:token=a;token=b",
        "pkcs11:x-a=1;x-a=2",
        "pkcs11:=a",
        "pkcs11:to.ken=a",
        "pkcs11:type=key",
        "pkcs11:type=%63ert",
        "pkcs11:slot-id=",
        "pkcs11:slot-id=-1",
        "pkcs11:slot-id=0x1",
        "pkcs11:slot-id=18446744073709551616",
        "pkcs11:library-version=",
        "pkcs11:library-version=2.",
        "pkcs11:library-version=2.3.4",
        "pkcs11:library-version=256",
        "pkcs11:module-name=a",
        "pkcs11:pin-value=1234",
        "pkcs11:?token=a",
        "pkcs11:?pin-value=1;2#3",
        "pkcs11:?pin-value=1&pin-value=2",
        "pkcs11:?pin-value=1&pin-source=a",
        "pkcs11:?module-path=lib/e.so",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(UriError):
        Uri.parse(text)


@pytest.mark.parametrize(
    "attributes",
    [
        {"token": "\udc80"},
        {"slot_id": -1},
        {"library_version": Version(300, 0)},
        {"pin_value": b"1", "pin_source": "a"},
        {"vendor": (("token", "a"),)},
        {"vendor": (("x", "1"), ("x", "2"))},
        {"vendor": (("a=b", "1"),)},
        {"vendor_query": (("pin-value", "1"),)},
        {"module_path": "relative"},
    ],
)
def test_what_can_not_be_written_can_not_be_made(attributes: dict[str, Any]) -> None:
    with pytest.raises(UriError):
        Uri(**attributes)


def test_a_pin_does_not_show() -> None:
    uri = Uri.parse("pkcs11:token=a?pin-value=%31%32%33secret")
    assert uri.pin_value == b"123secret"
    for text in (repr(uri), str(uri), repr(uri.pin_value), f"{uri.pin_value!s}"):
        assert "secret" not in text
    assert "hidden" not in repr(Uri(pin_source="file:/hidden"))


@pytest.mark.parametrize(
    "text",
    ["pkcs11:?pin-value=top%FFsecret&pin-source=secret", "pkcs11:?pin-value=secret secret", "pkcs11:pin-value=secret"],
)
def test_a_refused_pin_does_not_show(text: str) -> None:
    with pytest.raises(UriError) as caught:
        Uri.parse(text)
    shown = "".join(traceback.format_exception_only(caught.value)) + repr(caught.value.__cause__)
    assert "secret" not in shown
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


MODULE = ModuleInfo(Version(2, 40), padded("Example", 32), 0, padded("Example module", 32), Version(2, 6))
SLOT = SlotInfo(padded("Slot one", 64), padded("Maker", 32), 1, Version(1, 0), Version(1, 0))
TOKEN = TokenInfo(
    padded("Signing", 32),
    padded("Maker", 32),
    padded("M1", 16),
    padded("0042", 16),
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    Version(1, 0),
    Version(1, 0),
    b"0" * 16,
)


@pytest.mark.parametrize(
    ("text", "library", "slot", "token"),
    [
        ("pkcs11:", True, True, True),
        ("pkcs11:token=Signing", True, True, True),
        ("pkcs11:token=Signing%20", True, True, True),
        ("pkcs11:token=signing", True, True, False),
        ("pkcs11:token=", True, True, False),
        ("pkcs11:token=Signing;serial=0042;model=M1;manufacturer=Maker", True, True, True),
        ("pkcs11:token=Signing;serial=0043", True, True, False),
        ("pkcs11:model=M2", True, True, False),
        ("pkcs11:manufacturer=Other", True, True, False),
        ("pkcs11:slot-id=5", True, True, True),
        ("pkcs11:slot-id=0", True, False, True),
        ("pkcs11:slot-description=Slot%20one;slot-manufacturer=Maker", True, True, True),
        ("pkcs11:slot-description=Slot", True, False, True),
        ("pkcs11:slot-manufacturer=Other", True, False, True),
        ("pkcs11:library-version=2.6;library-manufacturer=Example", True, True, True),
        ("pkcs11:library-version=2", False, True, True),
        ("pkcs11:library-description=Other", False, True, True),
        ("pkcs11:library-manufacturer=Other", False, True, True),
        ("pkcs11:x-unknown=1", False, False, False),
        ("pkcs11:?x-unknown=1", True, True, True),
        ("pkcs11:object=key", True, True, True),
    ],
)
def test_matching(text: str, *, library: bool, slot: bool, token: bool) -> None:
    uri = Uri.parse(text)
    assert uri.matches_library(MODULE) is library
    assert uri.matches_slot(5, SLOT) is slot
    assert uri.matches_token(TOKEN) is token


def test_a_field_padded_with_zeros_matches() -> None:
    assert Uri(token="Signing").matches_token(replace(TOKEN, label=b"Signing".ljust(32, b"\0")))


@pytest.mark.parametrize(
    ("text", "object_class", "label", "id_", "expected"),
    [
        ("pkcs11:", CKO_PUBLIC_KEY, None, None, True),
        ("pkcs11:type=private;object=key;id=%01", CKO_PRIVATE_KEY, b"key", b"\1", True),
        ("pkcs11:type=private", CKO_PUBLIC_KEY, b"key", b"\1", False),
        ("pkcs11:object=key", CKO_PRIVATE_KEY, b"keys", b"\1", False),
        ("pkcs11:object=key", CKO_PRIVATE_KEY, None, b"\1", False),
        ("pkcs11:object=", CKO_PRIVATE_KEY, b"", None, True),
        ("pkcs11:object=", CKO_PRIVATE_KEY, None, None, False),
        ("pkcs11:id=", CKO_PRIVATE_KEY, None, b"", True),
        ("pkcs11:id=", CKO_PRIVATE_KEY, None, None, False),
        ("pkcs11:id=%02", CKO_PRIVATE_KEY, b"key", b"\1", False),
        ("pkcs11:x-unknown=1", CKO_PRIVATE_KEY, b"key", b"\1", False),
    ],
)
def test_matching_objects(
    text: str, object_class: int, label: bytes | None, id_: bytes | None, *, expected: bool
) -> None:
    assert Uri.parse(text).matches_object(object_class, label, id_) is expected


def test_object_template() -> None:
    assert Uri().object_template() == ()
    assert not Uri(token="a").names_object
    uri = Uri(object="ü", type=ObjectType.CERT, id=b"\1")
    assert uri.names_object
    assert uri.object_template() == (
        Attribute(CKA_CLASS, CKO_CERTIFICATE),
        Attribute(CKA_LABEL, b"\xc3\xbc"),
        Attribute(CKA_ID, b"\1"),
    )
