from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.cryptoki import (
    CALLS,
    RV,
    SECRET_ATTRIBUTES,
    SHAPES,
    Attribute,
    Kind,
    Mechanism,
    MechanismInfo,
    Null,
    RoomBytes,
    RoomNumbers,
    Structured,
    Unavailable,
    call_named,
)
from keyway.cryptoki.constants import (
    CKA_ALWAYS_AUTHENTICATE,
    CKA_CLASS,
    CKA_COPYABLE,
    CKA_DECAPSULATE,
    CKA_DECRYPT,
    CKA_DESTROYABLE,
    CKA_ENCAPSULATE,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_LOCAL,
    CKA_MODIFIABLE,
    CKA_MODULUS,
    CKA_MODULUS_BITS,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_SUBJECT,
    CKA_TOKEN,
    CKA_UNWRAP,
    CKA_UNWRAP_TEMPLATE,
    CKA_VALUE,
    CKA_VALUE_LEN,
    CKA_VENDOR_DEFINED,
    CKA_WRAP,
    CKA_WRAP_WITH_TRUSTED,
    CKF_ENCRYPT,
    CKF_UNWRAP,
    CKF_WRAP,
    CKK_AES,
    CKK_RSA,
    CKM_AES_CBC,
    CKM_AES_GCM,
    CKM_AES_KEY_GEN,
    CKM_AES_KEY_WRAP,
    CKM_AES_KEY_WRAP_KWP,
    CKM_AES_KEY_WRAP_PAD,
    CKM_DSA_PARAMETER_GEN,
    CKM_EC_KEY_PAIR_GEN,
    CKM_HOTP_KEY_GEN,
    CKM_HSS_KEY_PAIR_GEN,
    CKO_CERTIFICATE,
    CKO_DATA,
    CKO_DOMAIN_PARAMETERS,
    CKO_HW_FEATURE,
    CKO_OTP_KEY,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)
from keyway.gateway.pool import copying
from keyway.gateway.pool.replay import UNREPEATABLE
from keyway.gateway.pool.signals import SIGNALS, Signal

YES, NO = b"\1", b"\0"
VENDORS = CKA_VENDOR_DEFINED | 7
GENERATE, PAIR, COPY, UNWRAP, DERIVE = (
    call_named(name) for name in ("C_GenerateKey", "C_GenerateKeyPair", "C_CopyObject", "C_UnwrapKey", "C_DeriveKey")
)
KEYS = (CKO_PRIVATE_KEY, CKO_SECRET_KEY)


def template(values: dict[int, Any]) -> tuple[Attribute, ...]:
    return tuple(Attribute(type_, value) for type_, value in values.items())


def of_key(values: dict[int, Any], mechanism: int = CKM_AES_KEY_GEN) -> copying.Wish:
    """What C_GenerateKey is asked for."""
    (wish,) = copying.wishes(GENERATE, (Mechanism(mechanism), template(values), 0))
    return wish


DEFAULTED = {
    CKA_COPYABLE, CKA_DESTROYABLE, CKA_MODIFIABLE, CKA_ALWAYS_AUTHENTICATE, CKA_ENCAPSULATE, CKA_DECAPSULATE,
}  # fmt: skip
"""Not told where they are what the standard says of an object for which nothing was said."""
flags = st.sampled_from([YES, NO])
attributes = st.one_of(
    st.builds(Attribute, st.sampled_from([CKA_TOKEN, CKA_EXTRACTABLE, CKA_SIGN, CKA_MODIFIABLE]), flags),
    st.builds(Attribute, st.sampled_from([CKA_LABEL, CKA_ID, VENDORS]), st.binary(max_size=4)),
    st.builds(Attribute, st.sampled_from([CKA_VALUE_LEN, CKA_MODULUS_BITS]), st.integers(0, 4096)),
)
templates = st.one_of(st.builds(Null, st.integers(0, 9)), st.lists(attributes, max_size=8).map(tuple))


class TestTables:
    def test_no_copy_is_made_with_a_secret(self):
        for object_class in KEYS:
            assert copying.is_wrapped(object_class)
            assert not SECRET_ATTRIBUTES.intersection(copying.COPIED[object_class])

    def test_what_is_not_wrapped_is_public(self):
        for object_class, table in copying.COPIED.items():
            if not copying.is_wrapped(object_class):
                # A value that is public in these classes.
                assert SECRET_ATTRIBUTES.intersection(table) <= {CKA_VALUE}

    @pytest.mark.parametrize("object_class", copying.COPIED)
    def test_each_class_is_asked_what_its_table_has(self, object_class):
        query = copying.query(object_class)
        assert tuple(attribute.type for attribute in query) == copying.COPIED[object_class]
        assert len({attribute.type for attribute in query}) == len(query)
        rooms = {attribute.type: attribute.value for attribute in query}
        assert rooms[CKA_CLASS] == RoomNumbers(1)
        assert isinstance(rooms[CKA_LABEL], RoomBytes)

    @pytest.mark.parametrize("object_class", copying.COPIED)
    def test_what_forbids_changes_comes_last(self, object_class):
        assert copying.COPIED[object_class][-1] == CKA_MODIFIABLE

    def test_no_wrapped_key_can_be_too_long_for_a_token_that_takes_28_attributes(self):
        assert all(len(copying.COPIED[object_class]) < 28 for object_class in KEYS)

    def test_given_calls_make_objects(self):
        for name in copying.GIVEN:
            assert any(argument.kind is Kind.OBJECT_OUT for argument in call_named(name).args)

    def test_the_keys_of_mechanisms_that_are_never_repeated_are_never_copied(self):
        """Each of these mechanisms has one that makes its keys."""
        for call, mechanism in ((PAIR, CKM_HSS_KEY_PAIR_GEN), (GENERATE, CKM_HOTP_KEY_GEN)):
            assert mechanism not in UNREPEATABLE
            values = (Mechanism(mechanism), *(template({CKA_TOKEN: YES, CKA_EXTRACTABLE: YES}),) * 2, 0, 0)
            assert copying.obstacle(call, mechanism, copying.wishes(call, values)[-1])


class TestWishes:
    def test_a_key_pair(self):
        public = template({CKA_TOKEN: YES, CKA_LABEL: b"p"})
        private = template({CKA_TOKEN: YES, CKA_EXTRACTABLE: NO})
        values = (Mechanism(CKM_EC_KEY_PAIR_GEN), public, private, 0, 0)
        wanted = copying.wishes(PAIR, values)
        assert [wish.object_class for wish in wanted] == [CKO_PUBLIC_KEY, CKO_PRIVATE_KEY]
        assert [wish.is_to_wrap for wish in wanted] == [False, True]
        made = copying.made_with(PAIR, values, wanted)
        assert made == (values[0], public, template({CKA_TOKEN: YES, CKA_EXTRACTABLE: YES}), 0, 0)
        assert wanted[0].bytes_of(CKA_LABEL) == b"p"
        assert wanted[1].bytes_of(CKA_LABEL) == b""

    def test_what_is_not_for_the_token_is_made_as_it_is(self):
        values = (Mechanism(CKM_AES_KEY_GEN), template({CKA_EXTRACTABLE: NO}), 0)
        (wish,) = wanted = copying.wishes(GENERATE, values)
        assert not wish.is_to_wrap
        assert copying.made_with(GENERATE, values, wanted) == values

    @pytest.mark.parametrize(
        ("told", "expected"), [({}, False), ({CKA_EXTRACTABLE: NO}, False), ({CKA_EXTRACTABLE: YES}, True)]
    )
    def test_a_key_is_extractable_only_if_that_is_said(self, told, expected):
        assert of_key({CKA_TOKEN: YES} | told).is_extractable is expected

    @pytest.mark.parametrize(
        ("call", "told", "expected"),
        [
            (GENERATE, {}, CKO_SECRET_KEY),
            (DERIVE, {}, CKO_SECRET_KEY),
            (DERIVE, {CKA_CLASS: CKO_PRIVATE_KEY}, CKO_PRIVATE_KEY),
            (UNWRAP, {CKA_CLASS: CKO_PRIVATE_KEY}, CKO_PRIVATE_KEY),
            (COPY, {}, None),
        ],
    )
    def test_classes(self, call, told, expected):
        values = [
            template(told) if argument.kind is Kind.TEMPLATE else 0
            for argument in call.args
            if argument.kind not in (Kind.BYTES_OUT, Kind.IGNORED)
        ]
        (wish,) = copying.wishes(call, values)
        assert wish.object_class == expected

    def test_domain_parameters(self):
        wish = of_key({CKA_TOKEN: YES}, CKM_DSA_PARAMETER_GEN)
        assert wish.object_class == CKO_DOMAIN_PARAMETERS
        assert not wish.is_to_wrap
        assert wish.made_with == wish.template

    def test_a_copy_is_what_was_copied_where_nothing_else_is_said(self):
        origin = template({CKA_CLASS: CKO_SECRET_KEY, CKA_TOKEN: NO, CKA_EXTRACTABLE: YES})
        (stays,) = copying.wishes(COPY, (7, template({CKA_TOKEN: YES}), 0), origin)
        (sealed,) = copying.wishes(COPY, (7, template({CKA_TOKEN: YES, CKA_EXTRACTABLE: NO}), 0), origin)
        assert (stays.is_extractable, sealed.is_extractable) == (True, False)
        assert stays.made_with == sealed.made_with == template({CKA_TOKEN: YES})
        (null,) = wanted = copying.wishes(COPY, (7, Null(), 0), origin)
        assert not null.is_token
        assert copying.made_with(COPY, (7, Null(), 0), wanted) == (7, Null(), 0)

    @given(st.sampled_from([GENERATE, PAIR, COPY, UNWRAP, DERIVE]), st.data())
    def test_the_rest_of_a_request_is_left_alone(self, call, data):
        kinds = [each.kind for each in call.args if each.kind not in (Kind.BYTES_OUT, Kind.IGNORED)]
        values = [data.draw(templates) if kind is Kind.TEMPLATE else object() for kind in kinds]
        wanted = copying.wishes(call, values)  # type: ignore[arg-type]
        made = copying.made_with(call, values, wanted)  # type: ignore[arg-type]
        for kind, before, after in zip(kinds, values, made, strict=True):
            if kind is not Kind.TEMPLATE:
                assert after is before
                continue
            told = [each for each in before if each.type != CKA_EXTRACTABLE] if isinstance(before, tuple) else []
            left = [each for each in after if each.type != CKA_EXTRACTABLE] if isinstance(after, tuple) else []
            assert left == told
        for wish in wanted:
            extractable = [each.value for each in wish.made_with if each.type == CKA_EXTRACTABLE]
            if wish.is_to_wrap:
                assert extractable == ([] if call is COPY else [YES])
            else:
                assert wish.made_with == wish.template


class TestObstacles:
    def test_a_plain_key_has_none(self):
        assert not copying.obstacle(GENERATE, CKM_AES_KEY_GEN, of_key({CKA_TOKEN: YES}))

    @pytest.mark.parametrize(
        ("told", "word"),
        [
            ({CKA_WRAP_WITH_TRUSTED: YES}, "CKA_WRAP_WITH_TRUSTED"),
            ({CKA_WRAP_WITH_TRUSTED: YES, CKA_EXTRACTABLE: YES}, "CKA_WRAP_WITH_TRUSTED"),
            ({CKA_MODIFIABLE: NO}, "CKA_MODIFIABLE"),
            ({CKA_MODIFIABLE: NO, CKA_EXTRACTABLE: NO}, "CKA_MODIFIABLE"),
        ],
    )
    def test_of_keys(self, told, word):
        assert word in copying.obstacle(GENERATE, CKM_AES_KEY_GEN, of_key({CKA_TOKEN: YES} | told))
        # In the session it may have all that.
        assert not copying.obstacle(GENERATE, CKM_AES_KEY_GEN, of_key(told))

    @pytest.mark.parametrize(
        "told",
        [{CKA_WRAP_WITH_TRUSTED: NO}, {CKA_MODIFIABLE: YES}, {CKA_MODIFIABLE: NO, CKA_EXTRACTABLE: YES}],
    )
    def test_that_are_none(self, told):
        assert not copying.obstacle(GENERATE, CKM_AES_KEY_GEN, of_key({CKA_TOKEN: YES} | told))

    def test_keys_that_change_by_being_used(self):
        wish = of_key({CKA_TOKEN: YES}, CKM_HOTP_KEY_GEN)
        assert "state" in copying.obstacle(GENERATE, CKM_HOTP_KEY_GEN, wish)

    def test_what_is_copied_can_not_be_extracted(self):
        origin = {CKA_CLASS: CKO_SECRET_KEY, CKA_TOKEN: NO}
        values = (7, template({CKA_TOKEN: YES}), 0)
        for told, is_possible in (({CKA_EXTRACTABLE: YES}, True), ({CKA_EXTRACTABLE: NO}, False)):
            known = template(origin | told)
            (wish,) = copying.wishes(COPY, values, known)
            assert bool(copying.obstacle(COPY, None, wish, known)) is not is_possible
        trusted = template(origin | {CKA_EXTRACTABLE: YES, CKA_WRAP_WITH_TRUSTED: YES})
        (wish,) = copying.wishes(COPY, values, trusted)
        assert "TRUSTED" in copying.obstacle(COPY, None, wish, trusted)

    @pytest.mark.parametrize("object_class", [CKO_OTP_KEY, CKO_HW_FEATURE, 0x8000_0001])
    def test_other_classes(self, object_class):
        origin = template({CKA_CLASS: object_class})
        (wish,) = copying.wishes(COPY, (7, template({CKA_TOKEN: YES}), 0), origin)
        assert "class" in copying.obstacle(COPY, None, wish, origin)

    @pytest.mark.parametrize("object_class", [CKO_DATA, CKO_CERTIFICATE, CKO_PUBLIC_KEY, CKO_DOMAIN_PARAMETERS])
    def test_public_objects_have_none(self, object_class):
        origin = template({CKA_CLASS: object_class})
        (wish,) = copying.wishes(COPY, (7, template({CKA_TOKEN: YES, CKA_MODIFIABLE: NO}), 0), origin)
        assert not copying.obstacle(COPY, None, wish, origin)


class TestCopies:
    def test_a_public_key(self):
        wish = copying.wishes(PAIR, (None, template({CKA_TOKEN: YES, CKA_MODULUS_BITS: 2048}), (), 0, 0))[0]
        answer = {
            CKA_CLASS: CKO_PUBLIC_KEY, CKA_TOKEN: YES, CKA_LABEL: b"p", CKA_KEY_TYPE: CKK_RSA, CKA_SUBJECT: b"", CKA_MODULUS: b"\x99",
            CKA_ENCAPSULATE: NO, CKA_VALUE: Unavailable(), CKA_COPYABLE: YES, CKA_MODIFIABLE: YES,
        }  # fmt: skip
        assert copying.copied(CKO_PUBLIC_KEY, template(answer), wish) == template(
            {CKA_CLASS: CKO_PUBLIC_KEY, CKA_TOKEN: YES, CKA_LABEL: b"p", CKA_KEY_TYPE: CKK_RSA, CKA_MODULUS: b"\x99"}
        )

    def test_a_key(self):
        nested = (Attribute(CKA_EXTRACTABLE, NO),)
        told = {
            CKA_TOKEN: YES, CKA_MODIFIABLE: NO, CKA_EXTRACTABLE: YES, CKA_VALUE_LEN: 32, VENDORS: b"vendor's", CKA_UNWRAP_TEMPLATE: nested,
            CKA_LABEL: b"as told",
        }  # fmt: skip
        answer = {
            CKA_CLASS: CKO_SECRET_KEY, CKA_TOKEN: YES, CKA_LABEL: b"as it is", CKA_KEY_TYPE: CKK_AES, CKA_SENSITIVE: YES, CKA_SIGN: NO,
            CKA_COPYABLE: NO, CKA_MODIFIABLE: NO,
        }  # fmt: skip
        copy = copying.copied(CKO_SECRET_KEY, template(answer), of_key(told))
        assert {each.type: each.value for each in copy} == {
            **answer, CKA_EXTRACTABLE: YES, VENDORS: b"vendor's", CKA_UNWRAP_TEMPLATE: nested,
        }  # fmt: skip
        assert copy[-1] == Attribute(CKA_MODIFIABLE, NO)

    def test_what_the_token_does_not_tell_is_as_the_client_said(self):
        wish = of_key({CKA_TOKEN: YES, CKA_SENSITIVE: YES, CKA_SUBJECT: b"not of its class"})
        copy = copying.copied(CKO_SECRET_KEY, template({CKA_CLASS: CKO_SECRET_KEY, CKA_SENSITIVE: Unavailable()}), wish)
        assert {each.type: each.value for each in copy} == {
            CKA_CLASS: CKO_SECRET_KEY,
            CKA_TOKEN: YES,
            CKA_SENSITIVE: YES,
            CKA_SUBJECT: b"not of its class",
            CKA_EXTRACTABLE: NO,
        }

    @given(
        st.sampled_from(sorted(copying.COPIED)),
        st.dictionaries(
            st.sampled_from([*copying.COPIED[CKO_PRIVATE_KEY], CKA_VALUE, CKA_LOCAL]),
            st.one_of(flags, st.binary(max_size=3), st.just(Unavailable()), st.integers(0, 9)),
        ),
        st.lists(attributes, max_size=6),
    )
    def test_any(self, object_class, answer, told):
        origin = template({CKA_CLASS: object_class, CKA_TOKEN: YES, CKA_EXTRACTABLE: YES})
        (wish,) = copying.wishes(COPY, (7, tuple(told), 0), origin)
        copy = copying.copied(object_class, template(answer), wish)
        types = [each.type for each in copy]
        table = copying.COPIED[object_class]
        # Nothing twice of what is read, nothing without a value, nothing that the token says of itself.
        assert len([type_ for type_ in types if type_ in table]) == len({type_ for type_ in types if type_ in table})
        assert not {CKA_LOCAL, CKA_VALUE_LEN, CKA_MODULUS_BITS}.intersection(types)
        assert not any(isinstance(each.value, Unavailable) for each in copy)
        if copying.is_wrapped(object_class):
            assert CKA_VALUE not in types
            assert copy.count(Attribute(CKA_EXTRACTABLE, YES if wish.is_extractable else NO)) == 1
            assert types.count(CKA_EXTRACTABLE) == 1
        for type_, value in answer.items():
            if type_ in table and isinstance(value, bytes) and value and type_ not in DEFAULTED:
                assert type_ in types or value in (YES, NO)
        assert CKA_MODIFIABLE not in types or types[-1] == CKA_MODIFIABLE


class TestWrapping:
    BOTH = MechanismInfo(16, 32, CKF_WRAP | CKF_UNWRAP | CKF_ENCRYPT)
    ONE_WAY = MechanismInfo(16, 32, CKF_WRAP | CKF_ENCRYPT)

    @pytest.mark.parametrize(
        ("members", "expected"),
        [
            ([{CKM_AES_KEY_WRAP: BOTH, CKM_AES_KEY_WRAP_PAD: BOTH, CKM_AES_GCM: BOTH}], CKM_AES_KEY_WRAP_PAD),
            ([{CKM_AES_KEY_WRAP: BOTH, CKM_AES_KEY_WRAP_PAD: BOTH}, {CKM_AES_KEY_WRAP: BOTH}], CKM_AES_KEY_WRAP),
            ([{CKM_AES_KEY_WRAP: BOTH, CKM_AES_GCM: BOTH}, {CKM_AES_GCM: BOTH}], CKM_AES_GCM),
            ([{CKM_AES_KEY_WRAP_PAD: ONE_WAY, CKM_AES_KEY_WRAP: BOTH}], CKM_AES_KEY_WRAP),
            ([{CKM_AES_KEY_WRAP_PAD: None}], CKM_AES_KEY_WRAP_PAD),
            ([{CKM_AES_KEY_WRAP_PAD: BOTH, CKM_AES_KEY_WRAP_KWP: BOTH}], CKM_AES_KEY_WRAP_KWP),
            ([{CKM_AES_CBC: BOTH}], None),
            ([{CKM_AES_KEY_WRAP: BOTH}, {}], None),
            ([{CKM_AES_KEY_WRAP: BOTH}, {CKM_AES_GCM: BOTH}], None),
        ],
    )
    def test_the_mechanism_is_one_that_all_have(self, members, expected):
        assert copying.wrapping_mechanism(members) == expected

    def test_parameters(self):
        iv = bytes(range(copying.IV_SIZE))
        for mechanism in copying.WRAPPING:
            made = copying.wrapping(mechanism, iv)
            assert made.type == mechanism
            if mechanism != CKM_AES_GCM:
                assert made.parameter == Null()
                continue
            assert isinstance(made.parameter, Structured)
            assert SHAPES[made.parameter.shape].name == "CK_GCM_PARAMS"
            assert made.parameter.members == (iv, 96, b"", 128)

    def test_a_key_that_says_nothing_of_its_rights_is_tried(self):
        assert not copying.is_denied((), CKA_WRAP)
        assert not copying.is_denied(template({CKA_WRAP: YES, CKA_UNWRAP: NO}), CKA_WRAP)
        assert copying.is_denied(template({CKA_WRAP: YES, CKA_UNWRAP: NO}), CKA_UNWRAP)
        assert {each.type for each in copying.WRAPPING_KEY_QUERY} == {CKA_WRAP, CKA_UNWRAP}


class TestAnswers:
    @pytest.mark.parametrize("is_given", [True, False])
    @pytest.mark.parametrize(
        ("refusals", "expected"),
        [
            ([RV.CKR_DEVICE_MEMORY], RV.CKR_DEVICE_MEMORY),
            ([RV.CKR_DEVICE_MEMORY, RV.CKR_DEVICE_MEMORY], RV.CKR_DEVICE_MEMORY),
            ([RV.CKR_DEVICE_MEMORY, None], RV.CKR_DEVICE_ERROR),
            ([RV.CKR_DEVICE_MEMORY, RV.CKR_HOST_MEMORY], RV.CKR_DEVICE_ERROR),
            ([None], RV.CKR_DEVICE_ERROR),
            ([RV.CKR_ATTRIBUTE_TYPE_INVALID], RV.CKR_ATTRIBUTE_TYPE_INVALID),
            ([RV.CKR_DEVICE_REMOVED], RV.CKR_DEVICE_ERROR),
        ],
    )
    def test_a_clear_one_is_passed_on(self, refusals, expected, is_given):
        assert copying.answer(refusals, is_given=is_given) == expected

    def test_what_a_client_has_not_asked_for_is_not_told(self):
        assert copying.answer([RV.CKR_WRAPPED_KEY_INVALID], is_given=False) == RV.CKR_DEVICE_ERROR
        assert copying.answer([RV.CKR_WRAPPED_KEY_INVALID], is_given=True) == RV.CKR_WRAPPED_KEY_INVALID

    @given(
        st.lists(st.one_of(st.none(), st.sampled_from(RV), st.integers(0x8000_0000, 0x8000_0009)), min_size=1),
        st.booleans(),
    )
    def test_it_is_never_success(self, refusals, is_given):
        told = [rv for rv in refusals if rv != RV.CKR_OK]
        rv = copying.answer(told or [None], is_given=is_given)
        assert rv != RV.CKR_OK
        assert rv == RV.CKR_DEVICE_ERROR or SIGNALS.get(rv, Signal.CALLER) is not Signal.LOST


def test_every_call_that_makes_objects_has_its_templates_found():
    for call in CALLS:
        kinds = [each.kind for each in call.args if each.kind not in (Kind.BYTES_OUT, Kind.IGNORED)]
        values = [template({CKA_TOKEN: YES, CKA_DECRYPT: YES}) if kind is Kind.TEMPLATE else 0 for kind in kinds]
        if Kind.OBJECT_OUT in kinds:
            assert len(copying.wishes(call, values)) == kinds.count(Kind.TEMPLATE)
