"""What callers send: JSON, members, labels, references, PINs."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.provision.outcome import outcome

from keyway.provision import models
from keyway.provision.jsontext import parse_json
from keyway.provision.labels import object_id, object_label, token_label
from keyway.provision.models import Pin, convert
from keyway.provision.problems import Problem
from keyway.provision.references import KeyRef, TokenRef

SECRET = "pin-4711-never-shown"
REQUESTS = [
    models.CertificateImport,
    models.CertificateReplacement,
    models.CompatibleRequest,
    models.CsrRequest,
    models.KeyRequest,
    models.PinRequest,
    models.TokenRequest,
]
NAMES = [
    "label",
    "slot",
    "so_pin",
    "pin",
    "pin_ref",
    "new_pin",
    "type",
    "id",
    "usage",
    "key",
    "pem",
    "subject",
    "names",
]
NAMES += ["cert", "token", "key_pair", "key_type", "hash", "padding", "extractable"]
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=4)), inner)
    ),
    max_leaves=12,
)


def code_of(function, *values):
    with pytest.raises(Problem) as caught:
        function(*values)
    assert SECRET not in str(caught.value)
    assert SECRET not in json.dumps(caught.value.document())
    return caught.value.code


class TestJson:
    @given(JSON)
    def test_what_json_writes_is_read(self, value):
        assert parse_json(json.dumps(value).encode()) == value
        assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value

    @given(st.binary(max_size=60))
    def test_any_bytes_are_json_or_a_problem(self, data):
        assert outcome(parse_json, data)[1] in ("", "malformed-json", "duplicate-member")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{",
            b"\xff",
            b"\xef\xbb\xbf{}",
            b"NaN",
            b"[Infinity]",
            b'"\\ud800"',
            b'{"\\udc00": 1}',
            b"[" * 100_000,
            b"9" * 60_000,
            b"{'a': 1}",
            b"{} {}",
        ],
        ids=range(12),
    )
    def test_what_is_none(self, data):
        assert code_of(parse_json, data) == "malformed-json"

    @pytest.mark.parametrize("data", [b'{"a":1,"a":1}', b'{"b":{"a":1,"\\u0061":2}}', b'[{"":1,"":2}]'])
    def test_members_twice(self, data):
        assert code_of(parse_json, data) == "duplicate-member"

    def test_many_members(self):
        many = {str(number): number for number in range(30_000)}
        text = json.dumps(many).encode()
        assert parse_json(text) == many
        assert code_of(parse_json, text[:-1] + b', "0": 1}') == "duplicate-member"


class TestMembers:
    @settings(max_examples=300)
    @given(kind=st.sampled_from(REQUESTS), value=JSON)
    def test_any_json_is_a_request_or_a_problem(self, kind, value):
        made, code = outcome(convert, value, kind)
        assert isinstance(made, kind) or code in ("bad-member", "pin-invalid")

    @pytest.mark.parametrize(
        ("kind", "value"),
        [
            (models.KeyRequest, {"label": "a"}),
            (models.KeyRequest, {"label": "a", "type": "rsa:2048", "pim": SECRET}),
            (models.KeyRequest, {"label": "a", "type": "rsa:2048", "pin": 1}),
            (models.KeyRequest, {"label": "a", "type": "rsa:2048", "pin": [SECRET]}),
            (models.KeyRequest, {"label": "a", "type": "rsa:2048", "extractable": 1}),
            (models.CsrRequest, {"hash": SECRET}),
            (models.CsrRequest, {"padding": SECRET}),
            (models.TokenRequest, {"label": "a", "slot": True}),
            (models.TokenRequest, {"label": "a", "slot": -1}),
            (models.TokenRequest, {"label": "a", "slot": 1 << 64}),
            (models.TokenRequest, {"label": "a", "slot": 0.5}),
            (models.TokenRequest, {"label": "a", "slot": "0"}),
            (models.CompatibleRequest, {}),
            (models.CompatibleRequest, {"cert": {"key_pair": {}}}),
            (models.CompatibleRequest, {"cert": {"key_pair": {"label": 1}}}),
            (models.CompatibleRequest, {"cert": {"key_pair": {"label": "a"}}, "token": {"pin": 1}}),
            (models.CompatibleRequest, {"cert": {"key_pair": {"label": "a"}}, "token": []}),
        ],
    )
    def test_what_does_not_fit(self, kind, value):
        assert code_of(convert, value, kind) == "bad-member"

    @pytest.mark.parametrize("text", ["", "\0", "a\0", "x" * 256, "ä" * 128])
    def test_pins_that_are_none(self, text):
        assert code_of(convert, {"new_pin": text}, models.PinRequest) == "pin-invalid"

    def test_pins_do_not_show(self):
        requests = [
            convert({"label": "a", "so_pin": SECRET, "pin": SECRET}, models.TokenRequest),
            convert({"new_pin": SECRET, "pin": SECRET}, models.PinRequest),
            convert({"cert": {"key_pair": {"label": "a"}}, "token": {"pin": SECRET}}, models.CompatibleRequest),
        ]
        for request in (*requests, Pin.of(SECRET)):
            for text in (repr(request), str(request), f"{request}", f"{request!r}"):
                assert SECRET not in text

    def test_existing_callers_may_send_more(self):
        made = convert(
            {"cert": {"key_pair": {"label": "a", "x": 1}, "DX": 1}, "other": 2, "token": None}, models.CompatibleRequest
        )
        assert made.cert.key_pair.key_type == "rsa:2048"


class TestNames:
    @pytest.mark.parametrize(("text", "made"), [("0001", b"\0\1"), ("00", b"\0"), ("aBcD", b"\xab\xcd")])
    def test_ids(self, text, made):
        assert object_id(text) == made

    @pytest.mark.parametrize("text", ["", "1", "0x01", "00:01", "zz", " 01", "\u0660\u0661", "0" * 130])
    def test_what_is_no_id(self, text):
        assert code_of(object_id, text) == "bad-id"

    @given(st.text(max_size=40))
    def test_any_text_is_an_id_or_a_problem(self, text):
        made, code = outcome(object_id, text)
        assert code == "bad-id" or made.hex() == text.lower()

    def test_labels(self):
        assert token_label("x" * 32) == "x" * 32
        assert token_label("ä" * 16) == "ä" * 16
        assert object_label("x" * 255) == "x" * 255
        for make, size in ((token_label, 32), (object_label, 255)):
            for text in ("", "x" * (size + 1), "ä" * (size // 2 + 1), "a\0", "a\nb", " a", "a ", "\ud800"):
                assert code_of(make, text) == "bad-label"

    def test_references(self):
        assert TokenRef.parse("demo").uri.token == "demo"
        assert TokenRef.parse("pkcs11:serial=01;token=demo").label == "demo"
        assert KeyRef.parse("node-1").label == "node-1"
        assert KeyRef.parse("pkcs11:id=%00%01").id == b"\0\1"
        assert KeyRef.parse("pkcs11:object=a").label == "a"

    @pytest.mark.parametrize(
        ("kind", "text"),
        [
            (TokenRef, "pkcs11:object=a"),
            (TokenRef, f"pkcs11:token=a?pin-value={SECRET}"),
            (TokenRef, "pkcs11:token=a;token=b"),
            (TokenRef, "pkcs11:token=%zz"),
            (TokenRef, "pkcs11:x-y=1"),
            (KeyRef, "pkcs11:"),
            (KeyRef, "pkcs11:token=a"),
            (KeyRef, f"pkcs11:object=a?pin-value={SECRET}"),
        ],
    )
    def test_what_is_no_reference(self, kind, text):
        assert code_of(kind.parse, text) == "bad-reference"
