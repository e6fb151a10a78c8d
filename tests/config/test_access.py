"""Identities and roles in the configuration."""

import pytest

from keyway.access.calls import GROUPS
from keyway.access.identity import Evidence, identify
from keyway.access.mechanisms import FAMILIES
from keyway.access.role import ObjectRule, Quota, TokenRule
from keyway.config import ConfigError, IdentityOptions, RoleOptions, identity_rules_of, parse, resolved
from keyway.config.expectations import ExpectationOptions, Numbers, expectations, load_expectations, token_facts
from keyway.cryptoki import ObjectType, Uri
from keyway.cryptoki.constants import CKK_EC, CKM_ECDSA, CKO_CERTIFICATE, CKO_PRIVATE_KEY

BACKEND = (
    '[backend.s]\nmodule = "/m"\n[token.vault]\nlabel = "the vault"\n[listener.net]\naddress = "tcp://127.0.0.1:1"\n'
)
ROLE = '[role.r]\ntokens = ["pkcs11:"]\n'
IDENTITY = '[identity.web]\nuser = ["www-data"]\nroles = ["r"]\n'

NOBODY: dict[str, int] = {}


def problems(text):
    with pytest.raises(ConfigError) as raised:
        parse(text, "k.toml")
    return raised.value.problems


def test_everything():
    config = parse(f"""{BACKEND}
[identity.web]
user = ["www-data", 1000]
group = [27]
dns = ["*.example.org"]
uri = ["spiffe://example.org/ns/*"]
email = ["*@example.org"]
subject = ["CN=web"]
principal = ["web@EXAMPLE.ORG"]
listener = ["net", ""]
offer = ["plant"]
roles = ["signer", "all"]
[identity.rest]
anyone = true
roles = ["all"]
[role.signer]
tokens = ["vault", "pkcs11:token=old;serial=7"]
objects = [
    {{ class = "private", label = "web-*", id = "01aB", key_type = "CKK_EC" }},
    {{ class = "CKO_CERTIFICATE" }},
    {{ uri = "pkcs11:type=public;object=web" }},
]
mechanisms = ["ECDSA", "CKM_RSA_PKCS_PSS", "0x80000001"]
functions = ["sign", "C_GenerateRandom"]
read_only = true
export = true
no_padding_oracles = true
sessions = 1
operations_per_second = 2
bytes_per_second = 3
[role.all]
tokens = ["pkcs11:"]
administration = true
[limits]
pin_attempts = 3
""")
    web, rest = identity_rules_of(config)
    assert web.users == {"www-data", 1000}
    assert web.groups == {27}
    assert web.dns == {"*.example.org"}
    assert web.uris == {"spiffe://example.org/ns/*"}
    assert web.emails == {"*@example.org"}
    assert web.subjects == {"CN=web"}
    assert web.principals == {"web@EXAMPLE.ORG"}
    assert web.listeners == {"net", ""}
    assert web.offers == {"plant"}
    assert [role.name for role in web.roles] == ["signer", "all"]
    assert (rest.name, rest.users) == ("rest", frozenset())
    signer, everything = web.roles
    assert signer.tokens == (TokenRule(name="vault"), TokenRule(uri=Uri(token="old", serial="7")))
    assert signer.objects == (
        ObjectRule(class_=CKO_PRIVATE_KEY, label="web-*", id=b"\1\xab", key_type=CKK_EC),
        ObjectRule(class_=CKO_CERTIFICATE),
        ObjectRule(uri=Uri(type=ObjectType.PUBLIC, object="web")),
    )
    assert signer.mechanisms is not None
    assert signer.mechanisms > FAMILIES["ECDSA"] | {CKM_ECDSA, 0x80000001}
    assert signer.functions is not None
    assert signer.functions > GROUPS["sign"]
    assert (signer.read_only, signer.export, signer.no_padding_oracles, signer.administration) == (
        True,
        True,
        True,
        False,
    )
    assert signer.quota == Quota(1, 2, 3)
    assert everything.administration
    assert (everything.objects, everything.mechanisms, everything.functions) == (None, None, None)
    assert config.limits.pin_attempts == 3


def test_without_identities_nothing_is_guarded():
    assert identity_rules_of(parse(BACKEND)) == ()


def test_names_of_accounts_become_numbers():
    rules = identity_rules_of(
        parse(BACKEND + IDENTITY.replace('["www-data"]', '["www-data", 7]\ngroup = ["g"]') + ROLE)
    )
    assert identify(rules, Evidence(transport="unix", uid=33, gids=frozenset({5}))) is None
    found = resolved(rules, {"www-data": 33}.__getitem__, {"g": 5}.__getitem__)
    assert found[0].users == {33, 7}
    assert identify(found, Evidence(transport="unix", uid=33, gids=frozenset({5})))
    with pytest.raises(ValueError, match=r"identity\.web: there is no group g"):
        resolved(rules, {"www-data": 33}.__getitem__, NOBODY.__getitem__)
    with pytest.raises(ValueError, match=r"identity\.web: there is no user www-data"):
        resolved(rules, NOBODY.__getitem__, NOBODY.__getitem__)


def test_accounts_of_this_machine():
    rules = identity_rules_of(parse(BACKEND + IDENTITY.replace("www-data", "root") + ROLE))
    assert resolved(rules)[0].users == {0}
    rules = identity_rules_of(parse(BACKEND + IDENTITY.replace("user", "group").replace("www-data", "root") + ROLE))
    assert resolved(rules)[0].groups == {0}


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        # Identities
        ("", ":7: identity.web: has no condition: user, group"),
        ("user = []", ":8: identity.web.user: is empty; leave it out"),
        ("user = [true]", ":8: identity.web.user: must be a list of names and numbers"),
        ("user = 7", ":8: identity.web.user: must be a list of names and numbers"),
        ("user = [-1]", ":8: identity.web.user: -1: is no number of a user or group"),
        ('user = ["7"]', ":8: identity.web.user: 7: is no name; write numbers without quotes"),
        ('group = [""]', ":8: identity.web.group: is no name"),
        ('user = ["a\\u0000"]', ":8: identity.web.user: must not hold a zero character"),
        ('dns = ["a..b"]', ":8: identity.web.dns: a..b: is no pattern of DNS names"),
        ('dns = ["w\u00e9b.test"]', ":8: identity.web.dns: w\u00e9b.test: is no pattern"),
        ('uri = ["web"]', ":8: identity.web.uri: web: is no pattern of URIs"),
        (
            'uri = ["spiffe://*.test/a"]',
            ":8: identity.web.uri: spiffe://*.test/a: a star is for the path, behind the host",
        ),
        ('uri = ["*://a/b"]', ":8: identity.web.uri: *://a/b: is no pattern"),
        ('email = ["example.org"]', ":8: identity.web.email: example.org: is no pattern of email addresses"),
        ('subject = [""]', ":8: identity.web.subject: an empty text is no name"),
        ('listener = ["nett"]', ":8: identity.web.listener: there is no section [listener.nett]"),
        ("anyone = true\nuser = [1]", ":8: identity.web.anyone: is not for an identity with conditions: user"),
        ("users = [1]", ":8: identity.web.users: unknown; known here: user, group"),
    ],
)
def test_identities_that_say_nonsense(lines, problem):
    found = problems(f'{BACKEND}[identity.web]\n{lines}\nroles = ["r"]\n{ROLE}')
    assert any(each.startswith(f"k.toml{problem}") for each in found), found


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("tokens = []", ':11: role.r.tokens: is empty; "pkcs11:" is all tokens'),
        ('tokens = ["safe"]', ":11: role.r.tokens: safe is no PKCS #11 URI, and there is no section [token.safe]"),
        ('tokens = ["pkcs11:object=x"]', ":11: role.r.tokens: names an object, not a token"),
        ('tokens = ["pkcs11:slot-id=1"]', ":11: role.r.tokens: says something that is not of the token"),
        ('tokens = ["pkcs11:x=1"]', ":11: role.r.tokens: says something that is not of the token"),
        ('tokens = ["pkcs11:?pin-value=1"]', ":11: role.r.tokens: must not hold a PIN"),
        ("objects = []", ":12: role.r.objects: is empty; leave it out"),
        ('objects = ["x"]', ":12: role.r.objects: must be a list of tables of strings"),
        ("objects = [{ id = 1 }]", ":12: role.r.objects: must be a list of tables of strings"),
        ('objects = [{ label = "\\u0000" }]', ":12: role.r.objects: must not hold a zero character"),
        ('objects = [{ label = "x" }, {}]', ":12: role.r.objects: rule 2: is empty; leave objects out"),
        ('objects = [{ lable = "x" }]', ":12: role.r.objects: rule 1: lable is unknown; known here: class"),
        ('objects = [{ class = "key" }]', ":12: role.r.objects: rule 1: key is no class: public, private"),
        ('objects = [{ class = "CKO_KEY" }]', ":12: role.r.objects: rule 1: CKO_KEY is no class"),
        ('objects = [{ key_type = "EC" }]', ":12: role.r.objects: rule 1: EC is no key type"),
        ('objects = [{ id = "1" }]', ":12: role.r.objects: rule 1: id 1 is not hexadecimal"),
        ('objects = [{ id = "01 02" }]', ":12: role.r.objects: rule 1: id 01 02 is not hexadecimal"),
        ('objects = [{ uri = "x" }]', ":12: role.r.objects: rule 1: no PKCS #11 URI"),
        ('objects = [{ uri = "pkcs11:token=x;object=y" }]', ":12: role.r.objects: rule 1: uri says something"),
        ('objects = [{ uri = "pkcs11:" }]', ":12: role.r.objects: rule 1: uri says something"),
        ('mechanisms = ["AES", "CKM_FOO"]', ":12: role.r.mechanisms: CKM_FOO is no mechanism"),
        ('functions = ["C_Sign"]', ":12: role.r.functions: C_Sign belongs to C_SignInit"),
        ('functions = ["signing"]', ":12: role.r.functions: signing is no function and no group"),
        ("read_only = true\nadministration = true", ":13: role.r.administration: is not for read_only = true"),
        ("sessions = -1", ":12: role.r.sessions: must be at least 0"),
        ("readonly = true", ":12: role.r.readonly: unknown; known here: tokens"),
    ],
)
def test_roles_that_say_nonsense(line, problem):
    role = f"[role.r]\n{line}\n" if line.startswith("tokens") else f"{ROLE}{line}\n"
    found = problems(BACKEND + IDENTITY + role)
    assert any(each.startswith(f"k.toml{problem}") for each in found), found


def test_tokens_must_be_given():
    assert problems(f"{BACKEND}{IDENTITY}[role.r]\n") == ["k.toml:10: role.r: tokens is missing"]


def test_a_role_that_is_not_there():
    assert problems(BACKEND + IDENTITY) == ["k.toml:9: identity.web.roles: there is no section [role.r]"]
    assert "k.toml:9: identity.web.roles: is empty" in problems(BACKEND + IDENTITY.replace('"r"', "") + ROLE)


def test_a_role_that_nobody_has():
    assert problems(BACKEND + ROLE) == ["k.toml:7: role.r: no identity has it, and no view"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ('user = ["a", "b"]', 'user = ["a"]'),
        ('user = ["a"]', 'user = ["a"]\ngroup = [1]'),
        ('dns = ["*.example.org"]', 'dns = ["web*.example.org"]'),
        ('uri = ["spiffe://a/*/b"]', 'uri = ["spiffe://a/x/b"]'),
        ('email = ["*@a.test"]', 'email = ["x@a.test"]'),
        ("anyone = true", "user = [1]"),
        ("anyone = true", "anyone = true"),
    ],
)
def test_an_identity_that_is_never_reached(first, second):
    sections = f'[identity.a]\n{first}\nroles = ["r"]\n[identity.b]\n{second}\nroles = ["r"]\n'
    assert problems(BACKEND + sections + ROLE) == [
        "k.toml:10: identity.b: is never reached: identity.a is for all of these, and comes first"
    ]
    reordered = f'[identity.b]\n{second}\nroles = ["r"]\n[identity.a]\n{first}\nroles = ["r"]\n'
    if second != first:
        parse(BACKEND + reordered + ROLE)


def test_the_text_of_options_names_all_families_and_groups():
    fields = {name: field.metadata["text"] for name, field in RoleOptions.__dataclass_fields__.items()}
    assert ", ".join(FAMILIES) in fields["mechanisms"]
    assert ", ".join(GROUPS) in fields["functions"]


class TestExpectations:
    CONFIG = parse(BACKEND + IDENTITY + ROLE)

    def read(self, text):
        return expectations(text, "e.toml", self.CONFIG, Numbers())

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("", "e.toml:1: expect: at least one [expect.NAME] section is needed"),
            ("x", "e.toml: not TOML"),
            ("[expected.a]", "e.toml:1: expected: unknown"),
            ("[expect.a]", "e.toml:1: expect.a: identity is missing"),
            ('[expect.a]\nidentity = "x"', "e.toml:2: expect.a.identity: there is no section [identity.x]"),
            ("[expect.a]\nuser = [1, 2]", "e.toml:2: expect.a.user: is one user"),
            ('[expect.a]\nuser = [1]\nexpected = "CKR_X"', "e.toml:3: expect.a.expected: must be one of"),
            ('[expect.a]\nuser = [1]\ncall = "C_X"', "e.toml:1: expect.a: C_X is no function"),
            ('[expect.a]\nuser = [1]\ncall = "C_Sign"\ntoken = "x"', "e.toml:1: expect.a: x is no PKCS #11 URI"),
            ('[expect.a]\nuser = [1]\ncall = "C_Sign"\nmechanism = "AES"', "e.toml:1: expect.a: AES is a family"),
            (
                '[expect.a]\nuser = [1]\ncall = "C_Sign"\nmakes = [{ token = "true" }]',
                "e.toml:1: expect.a: token is yes or no",
            ),
        ],
    )
    def test_what_is_wrong(self, text, problem):
        with pytest.raises(ConfigError) as raised:
            self.read(text)
        assert raised.value.problems[0].startswith(problem)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(ConfigError, match="can't be read: No such file"):
            load_expectations(tmp_path / "e", self.CONFIG, Numbers())

    def test_evidence(self):
        (found,) = self.read('[expect.a]\nuser = ["u"]\ngroup = ["g", 4]\ndns = ["d"]\ntransport = "tls"')
        evidence = found.evidence
        assert evidence is not None
        assert evidence.uid is not None
        assert (len(evidence.gids), evidence.dns, evidence.transport) == (2, ("d",), "tls")
        assert found.question is None

    def test_every_condition_may_be_evidence(self):
        conditions = set(IdentityOptions.__dataclass_fields__) - {"anyone", "roles", "contexts"}
        assert conditions <= set(ExpectationOptions.__dataclass_fields__)

    def test_a_token_by_name_has_what_its_section_says(self):
        facts = token_facts("vault", self.CONFIG)
        assert (facts.name, facts.label) == ("vault", "the vault")
        facts = token_facts("pkcs11:token=a;manufacturer=b;model=c;serial=d", self.CONFIG)
        assert (facts.name, facts.label, facts.manufacturer, facts.model, facts.serial) == ("", "a", "b", "c", "d")
