"""Each trap is told by its name, and a set-up without one has none."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.strongswan.authority import DAY, IkeAuthority

from keyway.strongswan.certificates import ec_text, seen
from keyway.strongswan.diagnosis import Weight, diagnosis
from keyway.strongswan.facts import Charon, Facts, SeenObject, SeenSlot
from keyway.strongswan.options import Setup
from keyway.strongswan.read import Reference, of_ipsec, of_settings, of_setup
from keyway.strongswan.reader import parse

CONFIG = """
[module]
path = "/m.so"
[token.t]
slot = 17
[key.k]
id = "0001"
[connection.c]
local_id = "CN=me"
remote_id = "CN=you"
[child.net]
"""
NOW = datetime.now(UTC)


def der(key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return IkeAuthority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def keys():
    return [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]


@pytest.fixture
def setup() -> Setup:
    return parse(CONFIG)


def objects(certificate: bytes, *, id_: str = "0001", public: str | None = None) -> tuple[SeenObject, ...]:
    text = seen(certificate).public if public is None else public
    return (SeenObject("certificate", id_, "c", certificate), SeenObject("public", id_, "k", public=text))


@pytest.fixture
def good(authority, keys) -> Facts:
    """What is found where all is well."""
    slot = SeenSlot(17, "vault", objects=objects(authority.issue("me", der(keys[0]))))
    return Facts(slots=(slot,), charon=Charon("charon, process 1", {"KEYWAY_ADDRESS": "unix:/s"}))


def codes(setup: Setup, facts: Facts, *references: Reference) -> list[str]:
    return [each.code for each in diagnosis(setup, references or of_setup(setup, {"vault": 17}), facts, NOW)]


def with_slot(facts: Facts, **changes) -> Facts:
    return replace(facts, slots=(replace(facts.slots[0], **changes),))


def test_where_all_is_well_nothing_is_said(setup, good):
    assert codes(setup, good) == []
    private = (*good.slots[0].objects, SeenObject("private", "0001"))
    assert codes(setup, with_slot(good, login="CKR_OK", private=private)) == []


def test_a_token_known_by_its_label(setup, good):
    token = replace(setup.tokens["t"], slot=-1, label="vault")
    by_label = replace(setup, tokens=MappingProxyType({"t": token}))
    assert codes(by_label, good) == []
    (finding,) = diagnosis(by_label, of_setup(by_label, {"other": 3}), good, NOW)
    assert finding.code == "token-unknown"
    assert "17 (vault)" in finding.what


def test_certificates(setup, good, authority, keys):
    mine, other = map(der, keys)
    cases = {
        "certificate-usage": authority.issue("me", mine, digital_signature=False),
        "certificate-expired": authority.issue("me", mine, begin=-2 * DAY, end=-DAY),
        "certificate-early": authority.issue("me", mine, begin=DAY),
    }
    for code, certificate in cases.items():
        assert codes(setup, with_slot(good, objects=objects(certificate))) == [code]
    others = objects(authority.issue("me", other), public=seen(cases["certificate-usage"]).public)
    assert codes(setup, with_slot(good, objects=others)) == ["certificate-other-key"]
    assert codes(setup, with_slot(good, objects=others[1:])) == ["certificate-missing"]
    broken = (SeenObject("certificate", "0001", certificate=b"no"), others[1])
    assert codes(setup, with_slot(good, objects=broken)) == ["certificate-malformed"]
    twice = (*good.slots[0].objects, good.slots[0].objects[0])
    assert codes(setup, with_slot(good, objects=twice)) == ["certificate-twice"]


def test_rsa_keys_are_compared_too(setup, good, authority):
    one, two = (rsa.generate_private_key(65537, 1024) for _ in range(2))
    mine, other = (authority.issue("me", der(each)) for each in (one, two))
    assert codes(setup, with_slot(good, objects=objects(mine))) == []
    assert codes(setup, with_slot(good, objects=objects(mine, public=seen(other).public))) == ["certificate-other-key"]


def test_a_point_is_the_same_with_and_without_its_octet_string():
    for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()):
        point = ec.generate_private_key(curve).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        length = bytes([len(point)]) if len(point) < 0x80 else bytes([0x81, len(point)])
        assert ec_text(b"\x04" + length + point) == ec_text(point) == f"ec:{point.hex()}"


def test_objects_that_charon_does_not_see(setup, good):
    seen_ = good.slots[0].objects
    hidden = with_slot(good, objects=(), login="CKR_OK", private=(*seen_, SeenObject("private", "0001")))
    assert codes(setup, hidden) == ["public-hidden"]
    (finding,) = diagnosis(
        setup, of_setup(setup, {}), with_slot(good, objects=tuple(replace(each, id="01") for each in seen_)), NOW
    )
    assert finding.code == "key-missing"
    assert "it has: 01" in finding.what
    assert codes(setup, with_slot(good, login="CKR_OK", private=seen_)) == ["private-missing"]


def test_tokens(setup, good):
    assert codes(setup, with_slot(good, is_initialised=False)) == ["token-empty"]
    assert codes(setup, with_slot(good, login="CKR_PIN_INCORRECT")) == ["login"]
    (finding,) = diagnosis(setup, of_setup(setup, {}), with_slot(good, number=0), NOW)
    assert finding.code == "slot-unknown"
    assert "0 (vault)" in finding.what


def test_a_key_that_is_in_another_token_is_said_to_be_there(setup, good):
    facts = replace(good, slots=(SeenSlot(17, "empty"), replace(good.slots[0], number=18)))
    (finding,) = diagnosis(setup, of_setup(setup, {}), facts, NOW)
    assert "slot 18 has it" in finding.what


def test_two_tokens_with_one_id(setup, good):
    both = replace(good, slots=(*good.slots, replace(good.slots[0], number=18)))
    assert codes(setup, both) == []
    assert codes(setup, both, Reference("f", "swanctl", "0001")) == ["id-twice"]
    assert codes(setup, good, Reference("f", "swanctl", "0001")) == []
    assert codes(setup, good, Reference("f", "swanctl", "99")) == ["key-missing"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("handle = 0001\nslot = 17\nmodule = keyway", []),
        ("handle = 00:01\nslot = 0x11\nmodule = keyway", []),
        ("handle = 0x0001\nslot = 17", []),
        ("handle = 1\nslot = 17", ["handle-form"]),
        ("handle = node\nslot = 17", ["handle-form"]),
        ("handle = 0001\nmodule = keyway", ["slot-missing"]),
        ("handle = 0001\nslot = 17\nmodule = ctk", ["module-unknown"]),
        ("handle = 0001\nslot = seventeen", ["slot-form"]),
        ("handle = 0001\nslot = 0", ["slot-unknown"]),
    ],
)
def test_forms_in_swanctl_conf(setup, good, text, expected):
    references = of_settings(f"secrets {{\ntoken1 {{\n{text}\n}}\n}}", "swanctl.conf")
    assert codes(setup, good, *references) == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("%smartcard17@keyway:0001", []),
        ("%smartcard17:0001", []),
        ("%smartcard:0001", []),
        ("%smartcard0x11:0001", ["slot-form"]),
        ("%smartcard#1", ["slot-form"]),
        ("%smartcard:keyway:0001", ["handle-form"]),
        ("%smartcard17@keyway:00:01", ["handle-form"]),
        ("%smartcard17@ctk:0001", ["module-unknown"]),
        ("%smartcard@keyway:0001", ["slot-missing"]),
    ],
)
def test_forms_in_ipsec_secrets(setup, good, form, expected):
    assert codes(setup, good, *of_ipsec(f': PIN {form} "1"', "ipsec.secrets")) == expected


def test_surroundings(setup, good):
    empty = Charon("charon", {})
    assert codes(setup, replace(good, failure="it is not there")) == ["module-unusable"]
    assert codes(setup, replace(good, charon=None)) == ["charon-absent"]
    assert codes(setup, replace(good, engines=("/e.so",))) == ["engine"]
    assert codes(setup, replace(good, pin_files={"t": "others read it"})) == ["pin-file"]
    assert codes(setup, replace(good, charon=empty)) == ["environment"]
    assert codes(setup, replace(good, charon=empty, has_own_file=True)) == []
    told = replace(setup, module=replace(setup.module, address="unix:/other"))
    assert codes(told, replace(good, charon=empty, has_own_file=True)) == ["environment"]
    assert codes(told, good) == ["environment"]


def test_p11_kit_asks_for_its_own_variable(setup, good):
    client = replace(setup, module=replace(setup.module, path=Path("/p11-kit-client.so")))
    (finding,) = diagnosis(client, of_setup(client, {}), replace(good, has_own_file=True), NOW)
    assert (finding.code, finding.weight) == ("environment", Weight.ERROR)
    assert "P11_KIT_SERVER_ADDRESS" in finding.what
    there = replace(good, charon=Charon("charon", {"P11_KIT_SERVER_ADDRESS": "unix:path=/s"}))
    assert codes(client, there) == []


def test_nothing_is_said_twice(setup, good):
    reference = Reference("f", "swanctl", "label", "17")
    assert codes(setup, good, reference, reference) == ["handle-form"]


ids = st.sampled_from(["", "0001", "01", "label", "0x0001", "zz"])
seen_objects = st.builds(
    SeenObject,
    st.sampled_from(["certificate", "public", "private"]),
    ids,
    st.just("l"),
    st.binary(max_size=8),
    st.sampled_from(["", "ec:04"]),
)
slots = st.builds(
    SeenSlot,
    st.integers(0, 2),
    st.just("vault"),
    st.booleans(),
    st.lists(seen_objects, max_size=3).map(tuple),
    st.sampled_from(["", "CKR_OK", "CKR_PIN_LOCKED"]),
    st.lists(seen_objects, max_size=3).map(tuple),
)
references = st.builds(
    Reference,
    st.just("f"),
    st.sampled_from(["swanctl", "ipsec"]),
    ids,
    st.sampled_from(["", "0", "1", "0x2", "x", "-1"]),
    st.sampled_from(["", "keyway", "m"]),
)


@given(st.lists(slots, max_size=3).map(tuple), st.lists(references, max_size=3))
def test_whatever_is_found_can_be_told(slots, references):
    found = diagnosis(parse(CONFIG), references, Facts(slots=slots), NOW)
    assert len(set(found)) == len(found)
    for each in found:
        assert re.fullmatch("[a-z-]+", each.code)
        assert each.what


def test_moments_are_compared_with_their_zones(setup, good, authority, keys):
    certificate = authority.issue("me", der(keys[0]), begin=-timedelta(hours=1), end=timedelta(hours=1))
    facts = with_slot(good, objects=objects(certificate))
    for hours, code in ((-2, "certificate-early"), (0, None), (2, "certificate-expired")):
        found = diagnosis(setup, of_setup(setup, {}), facts, NOW + timedelta(hours=hours))
        assert [each.code for each in found] == ([code] if code else [])


def test_findings_are_plain_data(setup, good):
    (finding,) = diagnosis(setup, of_setup(setup, {}), replace(good, charon=None), NOW)
    assert json.loads(json.dumps({"code": finding.code, "weight": finding.weight}))["weight"] == "warning"
