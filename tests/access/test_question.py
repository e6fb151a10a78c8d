import pytest

from keyway.access.calls import GROUPS, number_of
from keyway.access.policy import Access
from keyway.access.question import Question, answer, reasons
from keyway.access.role import ObjectFacts, ObjectRule, Role, TokenFacts, TokenRule
from keyway.cryptoki import RV, Attribute
from keyway.cryptoki.constants import CKA_EXTRACTABLE, CKM_ECDSA, CKM_RSA_PKCS, CKU_SO

TOKEN = TokenFacts(name="v")
SIGNER = Role(
    name="signer",
    tokens=(TokenRule(name="v"),),
    objects=(ObjectRule(label="x"), ObjectRule(label="y")),
    mechanisms=frozenset({CKM_ECDSA}),
    functions=GROUPS["sign"] | GROUPS["manage"] | GROUPS["generate"],
)
READER = Role(name="reader", tokens=(TokenRule(),), read_only=True)


def said(role, call, **details):
    ((found, findings),) = reasons([role], Question(token=TOKEN, number=number_of(call), **details))
    assert found is role
    return [(side, finding.rv is None, finding.option) for side, finding in findings]


@pytest.mark.parametrize(
    ("role", "call", "details", "sides"),
    [
        (
            SIGNER,
            "C_SignInit",
            {"mechanism": CKM_ECDSA, "object": ObjectFacts(label=b"y")},
            [
                ("token", True, "tokens"),
                ("call", True, "functions"),
                ("mechanism", True, "mechanisms"),
                ("object", True, "objects"),
            ],
        ),
        (
            SIGNER,
            "C_SignInit",
            {"mechanism": CKM_RSA_PKCS, "object": ObjectFacts(label=b"y")},
            [("token", True, "tokens"), ("call", True, "functions"), ("mechanism", False, "mechanisms")],
        ),
        (SIGNER, "C_VerifyInit", {}, [("token", True, "tokens"), ("call", False, "functions")]),
        (
            SIGNER,
            "C_Login",
            {"user_type": CKU_SO, "mechanism": CKM_ECDSA, "object": ObjectFacts()},
            [("token", True, "tokens"), ("call", True, ""), ("login", False, "administration")],
        ),
        (
            READER,
            "C_OpenSession",
            {"read_write": True},
            [("token", True, "tokens"), ("call", True, ""), ("session", False, "read_only")],
        ),
        (
            READER,
            "C_DestroyObject",
            {"read_write": True, "object": ObjectFacts()},
            [
                ("token", True, "tokens"),
                ("call", True, "functions"),
                ("object", True, "objects"),
                ("change", False, "read_only"),
            ],
        ),
        (
            READER,
            "C_GenerateKey",
            {"templates": ((Attribute(CKA_EXTRACTABLE, b"\1"),),)},
            [("token", True, "tokens"), ("call", True, "functions"), ("template", False, "export")],
        ),
        (
            READER,
            "C_GetMechanismInfo",
            {"mechanism": CKM_ECDSA},
            [("token", True, "tokens"), ("call", True, ""), ("mechanism", True, "mechanisms")],
        ),
        (SIGNER, "C_InitToken", {}, [("token", True, "tokens"), ("call", False, "administration")]),
        (SIGNER, "C_AsyncJoin", {}, [("token", True, "tokens"), ("call", False, "")]),
    ],
)
def test_what_a_role_says(role, call, details, sides):
    assert said(role, call, **details) == sides


def test_a_role_for_another_token_says_no_more():
    question = Question(token=TokenFacts(name="w"), number=number_of("C_SignInit"))
    told = {role.name: findings for role, findings in reasons([SIGNER, READER], question)}
    assert [side for side, _ in told["signer"]] == ["token"]
    assert [side for side, _ in told["reader"]] == ["token", "call"]


@pytest.mark.parametrize(
    ("call", "details", "told"),
    [
        ("C_SignInit", {"mechanism": CKM_ECDSA, "object": ObjectFacts(label=b"x")}, (None, False)),
        ("C_SignInit", {"mechanism": CKM_RSA_PKCS}, (RV.CKR_MECHANISM_INVALID, True)),
        ("C_SignInit", {"object": ObjectFacts(label=b"z")}, (RV.CKR_OBJECT_HANDLE_INVALID, True)),
        ("C_VerifyInit", {}, (RV.CKR_FUNCTION_NOT_SUPPORTED, False)),
        ("C_Login", {"user_type": CKU_SO}, (RV.CKR_USER_TYPE_INVALID, False)),
        ("C_OpenSession", {"read_write": True}, (None, False)),
    ],
)
def test_answers(call, details, told):
    assert answer(Access([SIGNER]), Question(token=TOKEN, number=number_of(call), **details)) == told
