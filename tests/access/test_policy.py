import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.access.calls import ADMINISTRATION, EXPORTS, FREE, GROUPS, STARTS, UNJUDGED, number_of
from keyway.access.made import MAKES
from keyway.access.mechanisms import FLAGS, PADDING_ORACLES, UNPADS
from keyway.access.policy import Access, TokenAccess
from keyway.access.question import Question, answer, reasons
from keyway.access.role import ObjectFacts, ObjectRule, Quota, Role, TokenFacts, TokenRule
from keyway.cryptoki import CALLS, RV, Attribute, Mechanism, Null, NumberArray, Structured, Uri
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_DERIVE_TEMPLATE,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_SENSITIVE,
    CKA_TOKEN,
    CKA_VALUE,
    CKF_DECRYPT,
    CKF_DIGEST,
    CKF_HW,
    CKF_MESSAGE_DECRYPT,
    CKF_MESSAGE_SIGN,
    CKF_RW_SESSION,
    CKF_SERIAL_SESSION,
    CKF_SIGN,
    CKF_SIGN_RECOVER,
    CKF_UNWRAP,
    CKF_VERIFY,
    CKF_WRAP,
    CKK_AES,
    CKK_EC,
    CKM_AES_CBC_PAD,
    CKM_AES_GCM,
    CKM_ECDSA,
    CKM_KIP_DERIVE,
    CKM_RSA_PKCS,
    CKM_SHA256,
    CKM_SP800_108_COUNTER_KDF,
    CKO_CERTIFICATE,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
    CKU_SO,
    CKU_USER,
)

ANY = (TokenRule(),)
VAULT = TokenFacts(name="v", label="vault", manufacturer="Acme", model="M1", serial="17")
X = ObjectFacts(CKO_PRIVATE_KEY, CKK_EC, b"x", b"\1")
Y = ObjectFacts(CKO_PRIVATE_KEY, CKK_EC, b"y", b"\2")
SEES_X = (ObjectRule(label="x"),)
SEES_Y = (ObjectRule(label="y"),)
SIGN, DECRYPT = number_of("C_SignInit"), number_of("C_DecryptInit")
YES, NO = b"\1", b"\0"
EVERY_FLAG = 2**32 - 1


def role(name="r", tokens=ANY, **limits):
    return Role(name=name, tokens=tokens, **limits)


def at(*roles):
    return TokenAccess(roles)


def group(*names):
    return frozenset().union(*(GROUPS[name] for name in names))


class TestTokens:
    @pytest.mark.parametrize(
        ("rule", "sees"),
        [
            (TokenRule(), True),
            (TokenRule(name="v"), True),
            (TokenRule(name="vault"), False),
            (TokenRule(uri=Uri(token="vault")), True),
            (TokenRule(uri=Uri(token="vault ", manufacturer="Acme", model="M1", serial="17")), True),
            (TokenRule(uri=Uri(token="Vault")), False),
            (TokenRule(uri=Uri(token="vault", serial="18")), False),
            (TokenRule(uri=Uri(token="vault", manufacturer="Other")), False),
            (TokenRule(uri=Uri(token="vault", model="M2")), False),
            (TokenRule(uri=Uri(vendor=(("x", "y"),))), False),
        ],
    )
    def test_a_rule(self, rule, sees):
        assert (Access([role(tokens=(rule,))]).on(VAULT) is not None) is sees

    def test_without_roles_no_token_is_there(self):
        assert Access([]).on(VAULT) is None

    def test_only_roles_that_see_the_token_count(self):
        access = Access([role("a", (TokenRule(name="v"),), read_only=True), role("b", (TokenRule(name="w"),))])
        here, there = access.on(VAULT), access.on(TokenFacts(name="w"))
        assert here is not None
        assert there is not None
        assert here.opening(CKF_RW_SESSION) == RV.CKR_TOKEN_WRITE_PROTECTED
        assert there.opening(CKF_RW_SESSION) is None
        assert access.on(TokenFacts(name="u")) is None

    def test_what_is_known_is_kept(self):
        access = Access([role()])
        assert access.on(VAULT) is access.on(TokenFacts(label="other"))


class TestCalls:
    @pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
    def test_a_role_without_limits(self, call):
        limitless = at(role(export=True, administration=True))
        assert limitless.call(call.number) is None
        assert limitless.allows(call.number) is None

    @pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
    def test_a_role_that_is_given_nothing_more_than_a_token(self, call):
        refused = at(role()).call(call.number)
        if call.number in EXPORTS:
            assert refused == RV.CKR_ACTION_PROHIBITED
        elif call.number in ADMINISTRATION | UNJUDGED:
            assert refused == RV.CKR_FUNCTION_NOT_SUPPORTED
        else:
            assert refused is None

    @pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
    def test_a_role_that_may_sign_only(self, call):
        refused = at(role(functions=group("sign"))).call(call.number)
        if call.number in FREE or STARTS.get(call.number, {0}) <= group("sign"):
            assert refused is None
        else:
            assert refused == RV.CKR_FUNCTION_NOT_SUPPORTED

    @pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
    def test_a_role_that_only_reads(self, call):
        refused = at(role(read_only=True, export=True)).call(call.number)
        if call.number in ADMINISTRATION:
            assert refused == RV.CKR_TOKEN_WRITE_PROTECTED
        elif call.number in UNJUDGED:
            assert refused == RV.CKR_FUNCTION_NOT_SUPPORTED
        else:
            assert refused is None

    @pytest.mark.parametrize("number", [-1, 0, len(CALLS) + 1, 1 << 31])
    def test_no_call_of_the_standard(self, number):
        access = at(role(export=True, administration=True))
        assert access.call(number) == RV.CKR_FUNCTION_NOT_SUPPORTED
        assert access.allows(number) == RV.CKR_FUNCTION_NOT_SUPPORTED

    def test_two_operations_at_once_need_leave_for_both(self):
        dual = number_of("C_DigestEncryptUpdate")
        assert at(role(functions=group("digest", "encrypt"))).call(dual) is None
        assert at(role(functions=group("digest"))).call(dual) == RV.CKR_FUNCTION_NOT_SUPPORTED

    @pytest.mark.parametrize(
        "limit",
        [
            {"objects": SEES_X},
            {"mechanisms": frozenset()},
            {"functions": group("sign", "state")},
            {"export": False},
            {"read_only": True},
            {"no_padding_oracles": True},
        ],
    )
    def test_what_nobody_can_judge_needs_a_role_that_is_limited_in_nothing(self, limit):
        access = at(role(**{"export": True, **limit}))
        assert access.call(number_of("C_SetOperationState")) == RV.CKR_FUNCTION_NOT_SUPPORTED

    def test_sessions(self):
        assert at(role(read_only=True)).opening(CKF_SERIAL_SESSION) is None
        assert at(role(read_only=True)).opening(CKF_RW_SESSION) == RV.CKR_TOKEN_WRITE_PROTECTED
        assert at(role(read_only=True), role("w")).opening(CKF_RW_SESSION) is None

    def test_logins(self):
        assert at(role()).login(CKU_USER) is None
        assert at(role()).login(CKU_SO) == RV.CKR_USER_TYPE_INVALID
        assert at(role(administration=True)).login(CKU_SO) is None


class TestMechanisms:
    def test_hidden(self):
        access = at(role(mechanisms=frozenset({CKM_ECDSA})))
        assert access.shows_mechanism(CKM_ECDSA)
        assert not access.shows_mechanism(CKM_RSA_PKCS)
        assert access.mechanism(SIGN, CKM_ECDSA) is None
        assert access.mechanism(SIGN, CKM_RSA_PKCS) == RV.CKR_MECHANISM_INVALID
        assert access.allows(SIGN, mechanism=Mechanism(CKM_RSA_PKCS), objects=[X]) == RV.CKR_MECHANISM_INVALID

    def test_unknown_ones_are_as_good_as_known_ones(self):
        assert at(role()).mechanism(SIGN, 0x8000_0001) is None
        assert at(role(mechanisms=frozenset({0x8000_0001}))).mechanism(SIGN, 0x8000_0001) is None

    def test_a_mechanism_within_a_parameter(self):
        access = at(role(mechanisms=frozenset({CKM_KIP_DERIVE, CKM_SHA256})))
        derive = number_of("C_DeriveKey")
        for inner, refused in ((CKM_SHA256, None), (CKM_AES_GCM, RV.CKR_MECHANISM_INVALID)):
            parameter = Structured(1, (Mechanism(inner, Null()), 5, b""))
            assert access.mechanism(derive, CKM_KIP_DERIVE, parameter) == refused
            assert access.allows(derive, mechanism=Mechanism(CKM_KIP_DERIVE, parameter)) == refused
        assert access.mechanism(derive, CKM_KIP_DERIVE, b"flat") is None

    @pytest.mark.parametrize("mechanism", PADDING_ORACLES)
    @pytest.mark.parametrize("number", sorted(UNPADS))
    def test_padding_oracles(self, mechanism, number):
        access = at(role(no_padding_oracles=True))
        assert access.mechanism(number, mechanism) == RV.CKR_MECHANISM_INVALID
        assert access.mechanism(SIGN, mechanism) is None
        assert access.shows_mechanism(mechanism)
        assert at(role()).mechanism(number, mechanism) is None
        assert access.mechanism(number, CKM_AES_GCM) is None

    @pytest.mark.parametrize("mechanism", PADDING_ORACLES)
    def test_flags_of_padding_oracles(self, mechanism):
        access = at(role(no_padding_oracles=True, export=True))
        hidden = CKF_DECRYPT | CKF_UNWRAP | CKF_MESSAGE_DECRYPT
        assert access.mechanism_flags(mechanism, EVERY_FLAG) == EVERY_FLAG & ~hidden
        assert access.mechanism_flags(CKM_AES_GCM, EVERY_FLAG) == EVERY_FLAG

    def test_flags_of_functions(self):
        access = at(role(functions=group("sign", "digest") | {number_of("C_VerifySignatureInit")}))
        shown = CKF_HW | CKF_SIGN | CKF_SIGN_RECOVER | CKF_MESSAGE_SIGN | CKF_DIGEST | CKF_VERIFY
        assert access.mechanism_flags(CKM_ECDSA, CKF_HW | sum(FLAGS)) == shown
        # Whoever may not take keys away can't wrap any.
        assert at(role()).mechanism_flags(CKM_AES_GCM, CKF_WRAP | CKF_UNWRAP) == CKF_UNWRAP

    def test_flags_of_a_mechanism_that_is_hidden_altogether(self):
        access = at(role(mechanisms=frozenset({CKM_ECDSA})))
        assert access.mechanism_flags(CKM_RSA_PKCS, CKF_HW | CKF_SIGN) == CKF_HW


class TestObjects:
    @pytest.mark.parametrize(
        ("rule", "sees"),
        [
            ({}, True),
            ({"label": "x"}, True),
            ({"label": "*"}, True),
            ({"label": "y"}, False),
            ({"class_": CKO_PRIVATE_KEY}, True),
            ({"class_": CKO_SECRET_KEY}, False),
            ({"key_type": CKK_EC}, True),
            ({"key_type": CKK_AES}, False),
            ({"id": b"\1"}, True),
            ({"id": b"\2"}, False),
            ({"uri": Uri(object="x", id=b"\1")}, True),
            ({"uri": Uri(object="*")}, False),
            ({"class_": CKO_PRIVATE_KEY, "label": "y"}, False),
        ],
    )
    def test_a_rule(self, rule, sees):
        access = at(role(objects=(ObjectRule(**rule),)))
        assert access.object(X) is sees
        assert access.allows(SIGN, objects=[X]) == (None if sees else RV.CKR_OBJECT_HANDLE_INVALID)

    def test_an_object_without_anything(self):
        access = at(role(objects=(ObjectRule(class_=CKO_PRIVATE_KEY), ObjectRule(uri=Uri(object="x")))))
        assert not access.object(ObjectFacts())

    def test_two_rules(self):
        access = at(role(objects=SEES_X + SEES_Y))
        assert access.object(X)
        assert access.object(Y)
        assert access.allows(SIGN, objects=[X, Y]) is None

    def test_values_of_keys_are_not_read(self):
        access, attribute = at(role()), CKA_VALUE
        assert access.reading(X, [CKA_LABEL, attribute]) == RV.CKR_ATTRIBUTE_SENSITIVE
        assert access.reading(ObjectFacts(), [attribute]) == RV.CKR_ATTRIBUTE_SENSITIVE, "nobody knows what it is"
        assert access.reading(X, [CKA_LABEL, CKA_MODULUS]) is None
        assert access.reading(X._replace(class_=CKO_CERTIFICATE), [attribute]) is None
        assert at(role(export=True)).reading(X, [attribute]) is None
        both = at(role("a", objects=SEES_X, export=True), role("b", objects=SEES_Y))
        assert both.reading(X, [attribute]) is None
        assert both.reading(Y, [attribute]) == RV.CKR_ATTRIBUTE_SENSITIVE


class TestMaking:
    @pytest.mark.parametrize("number", sorted(MAKES))
    def test_keys_that_could_leave_are_not_made(self, number):
        access, exporting = at(role()), at(role(export=True))
        for template, goes in [
            ((Attribute(CKA_EXTRACTABLE, YES),), False),
            ((Attribute(CKA_EXTRACTABLE, b"\2"),), False),
            ((Attribute(CKA_EXTRACTABLE, b""),), False),
            ((Attribute(CKA_EXTRACTABLE, Null(1)),), False),
            ((Attribute(CKA_EXTRACTABLE, NO),), True),
            ((Attribute(CKA_SENSITIVE, NO),), False),
            ((Attribute(CKA_SENSITIVE, b"\0\0"),), False),
            ((Attribute(CKA_SENSITIVE, YES),), True),
            ((Attribute(CKA_EXTRACTABLE, NO), Attribute(CKA_EXTRACTABLE, YES)), False),
            ((Attribute(CKA_DERIVE_TEMPLATE, (Attribute(CKA_EXTRACTABLE, YES),)),), False),
            ((Attribute(CKA_DERIVE_TEMPLATE, (Attribute(CKA_SENSITIVE, YES),)),), True),
            ((Attribute(CKA_LABEL, b"x"), Attribute(CKA_MODULUS, NumberArray(()))), True),
            (Null(3), True),
            ((), True),
        ]:
            assert (access.making(number, template) is None) is goes
            assert access.making(number, template) in (None, RV.CKR_ACTION_PROHIBITED)
            assert exporting.making(number, template) is None

    def test_the_second_template_counts_too(self):
        pair = number_of("C_GenerateKeyPair")
        assert at(role()).making(pair, (), (Attribute(CKA_EXTRACTABLE, YES),)) == RV.CKR_ACTION_PROHIBITED

    def test_other_calls_make_nothing(self):
        assert at(role()).making(SIGN, (Attribute(CKA_EXTRACTABLE, YES),)) is None

    def test_what_is_made_is_visible(self):
        generate = number_of("C_GenerateKey")
        access = at(role(objects=(ObjectRule(class_=CKO_SECRET_KEY, label="x*"),)))
        label = Attribute(CKA_LABEL, b"x1")
        assert access.making(generate, (label,)) is None
        assert access.making(generate, (label, Attribute(CKA_CLASS, CKO_SECRET_KEY))) is None
        assert access.making(generate, (label, Attribute(CKA_SENSITIVE, YES))) is None
        for template in ((), Null(0), (Attribute(CKA_LABEL, b"y"),), (label, Attribute(CKA_CLASS, CKO_PRIVATE_KEY))):
            assert access.making(generate, template) == RV.CKR_ACTION_PROHIBITED
        for template in ((label, label), (Attribute(CKA_LABEL, Null(2)),), (label, Attribute(CKA_CLASS, b"\4"))):
            assert access.making(generate, template) == RV.CKR_TEMPLATE_INCONSISTENT

    def test_each_template_of_a_pair_has_a_class_of_its_own(self):
        pair = number_of("C_GenerateKeyPair")
        both = at(role(objects=(ObjectRule(class_=CKO_PUBLIC_KEY), ObjectRule(class_=CKO_PRIVATE_KEY, label="x"))))
        assert both.making(pair, (), (Attribute(CKA_LABEL, b"x"),)) is None
        assert both.making(pair, (Attribute(CKA_LABEL, b"x"),), ()) == RV.CKR_ACTION_PROHIBITED

    def test_further_keys_in_a_parameter_are_made_too(self):
        derive, access = number_of("C_DeriveKey"), at(role(objects=SEES_X))
        own = (Attribute(CKA_LABEL, b"x"),)
        for further, refused in [
            ((Attribute(CKA_LABEL, b"x"), Attribute(CKA_KEY_TYPE, CKK_AES), Attribute(CKA_ID, b"3")), None),
            ((Attribute(CKA_LABEL, b"z"),), RV.CKR_ACTION_PROHIBITED),
            ((*own, Attribute(CKA_EXTRACTABLE, YES)), RV.CKR_ACTION_PROHIBITED),
        ]:
            mechanism = Mechanism(CKM_SP800_108_COUNTER_KDF, Structured(1, (7, ((further, 0),))))
            assert access.allows(derive, mechanism=mechanism, objects=[X], templates=[own]) == refused

    def test_copies_and_changes_begin_with_what_is_there(self):
        for number in map(number_of, ("C_CopyObject", "C_SetAttributeValue")):
            access = at(role(objects=SEES_X))
            assert access.allows(number, objects=[X], templates=[()]) is None
            assert access.making(number, (), base=X) is None
            away = [(Attribute(CKA_LABEL, b"y"),)]
            assert access.allows(number, objects=[X], templates=away) == RV.CKR_ACTION_PROHIBITED
            here = [(Attribute(CKA_LABEL, b"x"),)]
            assert access.allows(number, objects=[Y], templates=here) == RV.CKR_OBJECT_HANDLE_INVALID


class TestReadOnly:
    READER = role("reader", read_only=True)

    @pytest.mark.parametrize("number", sorted(MAKES))
    def test_nothing_is_made_on_the_token(self, number):
        access = at(self.READER)
        for template, goes in [
            ((Attribute(CKA_TOKEN, YES),), False),
            ((Attribute(CKA_TOKEN, Null(1)),), False),
            ((Attribute(CKA_TOKEN, NO), Attribute(CKA_TOKEN, YES)), False),
            ((Attribute(CKA_TOKEN, NO),), True),
            ((), True),
        ]:
            assert access.making(number, template) == (None if goes else RV.CKR_SESSION_READ_ONLY)

    @pytest.mark.parametrize("call", ["C_DestroyObject", "C_SetAttributeValue", "C_CopyObject"])
    def test_nothing_on_the_token_is_changed(self, call):
        number, writer = number_of(call), role("writer", objects=SEES_Y, export=True)
        access = at(self.READER, writer)
        templates = [] if call == "C_DestroyObject" else [()]
        assert access.allows(number, objects=[X], templates=templates) == RV.CKR_SESSION_READ_ONLY
        assert access.allows(number, objects=[Y], templates=templates) is None
        assert access.allows(number, objects=[X._replace(on_token=False)], templates=templates) is None
        # In a read-only session the token itself sees to it, and knows what is on it.
        assert access.allows(number, objects=[X], templates=templates, read_write=False) is None


def test_an_answer_is_the_same_the_second_time_and_after_many_others():
    access = at(role(objects=SEES_X))
    for _ in range(2):
        assert access.allows(SIGN, objects=[X]) is None
        assert access.allows(SIGN, objects=[X]) is None
        assert access.allows(SIGN, objects=[Y]) == RV.CKR_OBJECT_HANDLE_INVALID
        for number in range(5000):
            other = Y._replace(id=number.to_bytes(2, "big"))
            assert access.allows(SIGN, objects=[other]) == RV.CKR_OBJECT_HANDLE_INVALID


class TestTogether:
    """What one role allows with one thing, and another one with another, is never put together."""

    def test_a_key_of_one_role_and_the_mechanism_of_another(self):
        access = at(
            role("a", objects=SEES_X, mechanisms=frozenset({CKM_ECDSA})),
            role("b", objects=SEES_Y, mechanisms=frozenset({CKM_RSA_PKCS})),
        )
        assert access.object(X)
        assert access.mechanism(SIGN, CKM_RSA_PKCS) is None
        assert access.allows(SIGN, mechanism=Mechanism(CKM_ECDSA), objects=[X]) is None
        assert access.allows(SIGN, mechanism=Mechanism(CKM_RSA_PKCS), objects=[X]) == RV.CKR_ACTION_PROHIBITED
        hidden = X._replace(label=b"z")
        assert access.allows(SIGN, mechanism=Mechanism(CKM_RSA_PKCS), objects=[hidden]) == RV.CKR_OBJECT_HANDLE_INVALID

    def test_a_key_of_one_role_and_the_function_of_another(self):
        access = at(
            role("a", objects=SEES_X, functions=group("sign")), role("b", objects=SEES_Y, functions=group("decrypt"))
        )
        assert access.call(DECRYPT) is None
        assert access.allows(SIGN, objects=[X]) is None
        assert access.allows(DECRYPT, objects=[X]) == RV.CKR_ACTION_PROHIBITED

    def test_keys_of_two_roles(self):
        access = at(role("a", objects=SEES_X, export=True), role("b", objects=SEES_Y, export=True))
        wrap = number_of("C_WrapKey")
        assert access.allows(wrap, objects=[X, Y]) == RV.CKR_ACTION_PROHIBITED
        assert access.allows(wrap, objects=[X, X]) is None

    def test_reading_by_one_role_and_export_by_another(self):
        access = at(role("a", functions=group("find")), role("b", functions=group("sign"), export=True))
        assert access.reading(X, [CKA_LABEL]) is None
        assert access.reading(X, [CKA_VALUE]) == RV.CKR_ATTRIBUTE_SENSITIVE

    def test_export_of_one_role_and_a_key_of_another(self):
        access = at(role("a", objects=SEES_X, export=True), role("b", objects=SEES_Y))
        wrap = number_of("C_WrapKey")
        assert access.call(wrap) is None
        assert access.allows(wrap, objects=[X]) is None
        assert access.allows(wrap, objects=[Y]) == RV.CKR_ACTION_PROHIBITED

    def test_what_makes_no_difference(self):
        limited = role("a", objects=SEES_X, mechanisms=frozenset({CKM_ECDSA}))
        assert not at(limited).sees_all_objects
        assert not at(limited).allows_all_mechanisms
        wide = at(limited, role("b"))
        assert wide.sees_all_objects
        assert wide.allows_all_mechanisms
        assert not wide.exports
        # Which object it is makes a difference: to one the mechanism, to the other the export is open.
        crossed = at(limited, role("b", mechanisms=frozenset({CKM_RSA_PKCS})))
        assert not crossed.sees_all_objects
        assert not at(role(no_padding_oracles=True)).allows_all_mechanisms
        assert at(role(export=True)).exports

    @pytest.mark.parametrize(
        ("quotas", "quota"),
        [
            ([(1, 2, 3)], (1, 2, 3)),
            ([(1, 20, 3), (2, 10, 0)], (2, 20, 0)),
            ([(0, 0, 0), (5, 5, 5)], (0, 0, 0)),
        ],
    )
    def test_quotas(self, quotas, quota):
        roles = [role(str(place), quota=Quota(*each)) for place, each in enumerate(quotas)]
        assert at(*roles).quota == Quota(*quota)
        assert at(*reversed(roles)).quota == Quota(*quota)


OBJECT_RULES = st.builds(
    ObjectRule,
    class_=st.sampled_from([None, CKO_PRIVATE_KEY, CKO_SECRET_KEY]),
    label=st.sampled_from([None, "x", "y", "*"]),
)
ROLES = st.builds(
    Role,
    name=st.sampled_from("abc"),
    tokens=st.lists(st.sampled_from([TokenRule(), TokenRule(name="v"), TokenRule(name="w")]), max_size=2).map(tuple),
    objects=st.none() | st.lists(OBJECT_RULES, max_size=2).map(tuple),
    mechanisms=st.none() | st.frozensets(st.sampled_from([CKM_ECDSA, CKM_RSA_PKCS, CKM_AES_CBC_PAD])),
    functions=st.none() | st.sets(st.sampled_from(sorted(GROUPS))).map(lambda names: group(*names)),
    read_only=st.booleans(),
    administration=st.booleans(),
    export=st.booleans(),
    no_padding_oracles=st.booleans(),
    quota=st.builds(Quota, st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
)
FACTS = st.builds(
    ObjectFacts,
    class_=st.sampled_from([None, CKO_PRIVATE_KEY, CKO_SECRET_KEY, CKO_CERTIFICATE]),
    label=st.sampled_from([b"", b"x", b"y"]),
    on_token=st.booleans(),
)
TEMPLATES = st.lists(
    st.builds(Attribute, st.sampled_from([CKA_EXTRACTABLE, CKA_SENSITIVE, CKA_TOKEN]), st.sampled_from([YES, NO]))
    | st.builds(Attribute, st.just(CKA_LABEL), st.sampled_from([b"x", b"y"])),
    max_size=3,
).map(tuple)
QUESTIONS = st.builds(
    Question,
    token=st.just(VAULT),
    number=st.sampled_from([call.number for call in CALLS]),
    mechanism=st.sampled_from([None, CKM_ECDSA, CKM_RSA_PKCS, CKM_AES_CBC_PAD]),
    object=st.none() | FACTS,
    templates=st.lists(TEMPLATES, max_size=1).map(tuple),
    read_write=st.booleans(),
    user_type=st.sampled_from([CKU_SO, CKU_USER]),
)
SOME_ROLES = st.lists(ROLES, max_size=3)


@given(SOME_ROLES, ROLES, QUESTIONS)
def test_another_role_takes_nothing_away(roles, more, question):
    if answer(Access(roles), question).rv is None:
        assert answer(Access([*roles, more]), question).rv is None


@given(SOME_ROLES, st.randoms(use_true_random=False), QUESTIONS)
def test_the_order_of_roles_does_not_matter(roles, random, question):
    shuffled = random.sample(roles, len(roles))
    assert answer(Access(shuffled), question) == answer(Access(roles), question)


@given(SOME_ROLES, QUESTIONS)
def test_what_is_allowed_is_allowed_by_a_single_role(roles, question):
    allowed = answer(Access(roles), question).rv is None
    alone = any(answer(Access([each]), question).rv is None for each in roles)
    assert allowed is alone
    said = [[each.finding.rv for each in findings] for _, findings in reasons(roles, question)]
    assert allowed is any(all(rv is None for rv in each) for each in said), "the reasons say the same"


@given(SOME_ROLES, ROLES, QUESTIONS)
def test_a_role_for_another_token_changes_nothing(roles, more, question):
    elsewhere = Role(**{name: getattr(more, name) for name in Role.__slots__} | {"tokens": (TokenRule(name="u"),)})
    assert answer(Access([*roles, elsewhere]), question) == answer(Access(roles), question)


@given(SOME_ROLES, QUESTIONS, FACTS)
def test_a_hidden_object_is_like_any_other_hidden_object(roles, question, other):
    at_token = Access(roles).on(VAULT)
    if at_token is None or question.object is None:
        return
    if not at_token.object(question.object) and not at_token.object(other):
        changed = Question(**{name: getattr(question, name) for name in Question.__slots__} | {"object": other})
        assert answer(Access(roles), changed) == answer(Access(roles), question)


@given(SOME_ROLES, QUESTIONS, FACTS)
def test_what_makes_no_difference_makes_none(roles, question, other):
    at_token = Access(roles).on(VAULT)
    if at_token is None or not at_token.sees_all_objects or question.object is None or question.templates:
        return
    changed = Question(
        **{name: getattr(question, name) for name in Question.__slots__}
        | {"object": other._replace(on_token=question.object.on_token)}
    )
    assert answer(Access(roles), changed) == answer(Access(roles), question)


@given(SOME_ROLES, QUESTIONS)
def test_each_side_is_refused_as_the_whole_is(roles, question):
    """A guard that asks about each side as early as it can refuses nothing that is allowed, and says the same."""
    at_token = Access(roles).on(VAULT)
    if at_token is None or question.number in FREE:
        return
    whole = answer(Access(roles), question).rv
    early = at_token.call(question.number)
    if early is None and question.mechanism is not None:
        early = at_token.mechanism(question.number, question.mechanism)
    if early is None and question.object is not None and not at_token.object(question.object):
        early = RV.CKR_OBJECT_HANDLE_INVALID
    if early is not None:
        assert whole == early


@given(SOME_ROLES, st.sampled_from([CKM_ECDSA, CKM_RSA_PKCS, CKM_AES_CBC_PAD]), st.integers(0, 2**32 - 1))
def test_a_flag_that_is_shown_is_allowed_for_some_key_and_no_other_is(roles, mechanism, flags):
    at_token = Access(roles).on(VAULT)
    if at_token is None:
        return
    shown = at_token.mechanism_flags(mechanism, flags)
    stands_for_calls = sum(FLAGS)
    assert shown & ~stands_for_calls == flags & ~stands_for_calls
    for flag, calls in FLAGS.items():
        if flags & flag:
            allowed = any(
                answer(Access([_without_objects(each)]), Question(token=VAULT, number=number, mechanism=mechanism)).rv
                is None
                for each in roles
                for number in calls
            )
            assert bool(shown & flag) is allowed


def _without_objects(one):
    """The same role as it is to somebody with a key that it sees, and the right to change the token."""
    return Role(**{name: getattr(one, name) for name in Role.__slots__} | {"objects": None, "read_only": False})


def test_who_is_nobody_sees_nothing():
    for call in CALLS:
        assert answer(Access([]), Question(token=VAULT, number=call.number)) == (RV.CKR_SLOT_ID_INVALID, True)


def test_the_mechanism_that_is_asked_about_is_there_or_not():
    asked = Question(token=VAULT, number=number_of("C_GetMechanismInfo"), mechanism=CKM_ECDSA)
    assert answer(Access([role()]), asked) == (None, False)
    assert answer(Access([role(mechanisms=frozenset())]), asked) == (RV.CKR_MECHANISM_INVALID, True)
