"""What is told of what members have told."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.pool import strategies

from keyway.cryptoki import TokenInfo, Version, padded
from keyway.cryptoki.constants import CKK_AES, CKM_AES_CBC, CKM_RSA_PKCS, CKM_SHA256, CKO_SECRET_KEY
from keyway.daemon.pool.check import Asked, Finding, Report, findings
from keyway.gateway.pool.identity import Facts

KEY = Facts(CKO_SECRET_KEY, CKK_AES, b"\x03", b"aes", is_token=True, is_private=True, public=b"")
ABSENT = Asked("hsm3", "absent", "no answer in time")


TOKEN = TokenInfo(
    padded("vault", 32),
    padded("a maker", 32),
    b"",
    b"",
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
    Version(0, 0),
    Version(0, 0),
    bytes(16),
)


def token(serial="1", model="a model"):
    return replace(TOKEN, model=padded(model, 16), serial_number=padded(serial, 16))


def asked(backend="hsm1", serial="1", mechanisms=(CKM_SHA256,), objects=(), **options):
    return Asked(
        backend, token=token(serial, **options), mechanisms=mechanisms, objects=dict(enumerate(objects, start=1))
    )


def found(**members):
    return list(findings(members))


def report(**members):
    return Report(tuple(findings(members)), {}, public_only=False)


def test_nothing_is_told_of_members_that_agree():
    members = {"one": asked(serial="1", objects=[KEY]), "two": asked("hsm2", serial="2", objects=[KEY])}
    assert found(**members) == []
    assert report(**members).agrees


def test_what_one_lacks():
    members = {"one": asked(serial="1", objects=[KEY]), "two": asked("hsm2", serial="2")}
    assert found(**members) == [Finding("missing", "secret key 'aes' with CKA_ID 03", ("two",))]
    assert (report(**members).agrees, report(**members).disagreements) == (False, 1)


def test_who_was_not_asked_lacks_nothing():
    members = {"one": asked(objects=[KEY]), "three": ABSENT}
    assert found(**members) == [Finding("absent", "no answer in time", ("three",))]
    assert (report(**members).agrees, report(**members).disagreements) == (False, 0)


def test_mechanisms_are_told_together():
    assert found(
        one=asked(serial="1", mechanisms=(CKM_AES_CBC, CKM_RSA_PKCS)),
        two=asked("hsm2", serial="2", mechanisms=(CKM_SHA256,)),
        three=asked("hsm3", serial="3", mechanisms=(CKM_SHA256, CKM_AES_CBC)),
    ) == [
        Finding("mechanisms", "CKM_RSA_PKCS", ("two", "three")),
        Finding("mechanisms", "CKM_SHA256", ("one",)),
        Finding("mechanisms", "CKM_AES_CBC", ("two",)),
    ]


def test_one_token_twice():
    members = {"one": asked(), "two": asked()}
    assert found(**members) == [Finding("same", "serial number 1", ("one", "two"))]
    assert not report(**members).agrees


def test_a_copy_in_another_backend_is_no_fault():
    members = {"one": asked(), "two": asked("hsm2"), "three": asked("hsm3", serial="2")}
    assert found(**members) == [Finding("copy", "serial number 1", ("one", "two"))]
    assert (report(**members).agrees, report(**members).disagreements) == (True, 0)


def test_both_at_a_time():
    assert found(one=asked(), two=asked(), three=asked("hsm2")) == [
        Finding("same", "serial number 1", ("one", "two")),
        Finding("copy", "serial number 1", ("one", "two", "three")),
    ]


def test_tokens_of_different_makes_may_have_the_same_number():
    assert found(one=asked(), two=asked("hsm2", model="another")) == []


def test_no_number_is_no_sign():
    assert found(one=asked(serial=""), two=asked(serial="")) == []


def test_who_can_not_be_logged_in_may_be_the_same_token_all_the_same():
    two = Asked("hsm1", "pin", "CKR_PIN_INCORRECT", token())
    assert found(one=asked(objects=[KEY]), two=two) == [
        Finding("pin", "CKR_PIN_INCORRECT", ("two",)),
        Finding("same", "serial number 1", ("one", "two")),
    ]


@given(st.dictionaries(st.sampled_from("abcd"), strategies.listings))
def test_members_that_were_all_asked_agree_if_they_have_the_same(listings):
    members = {
        name: Asked(name, token=token(name), mechanisms=(CKM_SHA256,), objects=listing)
        for name, listing in listings.items()
    }
    told = list(findings(members))
    assert {each.kind for each in told} <= {"missing", "different", "twins"}
    assert all(set(each.members) <= set(members) for each in told)
    if len(set(map(str, listings.values()))) <= 1:
        assert {each.kind for each in told} <= {"twins"}
