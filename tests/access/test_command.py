"""`keyway policy`."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from keyway.cli import main

GUIDE = Path(__file__).resolve().parents[2] / "docs/guides/access.md"
POLICY = """\
[backend.hsm]
module = "/m"
[token.vault]
label = "vault"
[identity.web]
user = ["www-data"]
roles = ["signer", "reader"]
[identity.gateways]
dns = ["*.gw.example.org"]
roles = ["reader"]
[role.signer]
tokens = ["vault"]
objects = [{ class = "private", label = "web" }]
mechanisms = ["ECDSA"]
functions = ["sign", "generate"]
[role.reader]
tokens = ["pkcs11:token=vault"]
objects = [{ class = "public" }]
read_only = true
"""


@pytest.fixture
def policy(tmp_path):
    """Runs the command with a configuration and perhaps a file of expectations."""

    def run(command, *arguments, text=POLICY, expected=None):
        (tmp_path / "k.toml").write_text(text)
        if expected is not None:
            (tmp_path / "e.toml").write_text(expected)
            arguments = (str(tmp_path / "e.toml"), *arguments)
        done = CliRunner().invoke(main, ["policy", command, "-c", str(tmp_path / "k.toml"), *arguments])
        return done.exit_code, done.output.replace(f"{tmp_path}/", "")

    return run


class TestExplain:
    def test_which_rule_of_which_role_decides(self, policy):
        status, output = policy(
            "explain", "web", "C_SignInit", "--mechanism", "CKM_ECDSA", "--class", "private", "--label", "web"
        )
        assert status == 0
        assert output.splitlines() == [
            "identity web (k.toml:5): roles signer, reader",
            "token vault",
            "C_SignInit: allowed: role signer allows all of it",
            "  role signer (k.toml:11)",
            "    token: yes: k.toml:12: tokens has one that matches it",
            "    call: yes: k.toml:15: functions names it",
            "    mechanism: yes: k.toml:14: mechanisms names it",
            "    object: yes: k.toml:13: objects has rule 1, which matches it",
            "  role reader (k.toml:16)",
            "    token: yes: k.toml:17: tokens has one that matches it",
            "    call: yes: k.toml:16: functions is not given, so all are allowed",
            "    mechanism: yes: k.toml:16: mechanisms is not given, so all are allowed",
            "    object: no: k.toml:18: objects has no rule that matches it",
        ]

    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (("C_SignInit", "--label", "other"), "C_SignInit: invisible (CKR_OBJECT_HANDLE_INVALID)"),
            (
                ("C_GenerateKey", "--class", "public"),
                "C_GenerateKey: allowed: role reader allows all of it",
            ),
            (("C_OpenSession", "--read-write"), "C_OpenSession: allowed: role signer allows all of it"),
            (("C_Login", "--so"), "C_Login: refused (CKR_USER_TYPE_INVALID)"),
            (("C_InitToken",), "C_InitToken: refused (CKR_TOKEN_WRITE_PROTECTED)"),
            (("C_SignInit", "--token", "pkcs11:token=x"), "C_SignInit: invisible (CKR_SLOT_ID_INVALID)"),
        ],
    )
    def test_outcomes(self, policy, arguments, line):
        status, output = policy("explain", "web", *arguments)
        assert status == 0
        assert line in output.splitlines()

    def test_several_calls(self, policy):
        _, output = policy("explain", "web", "C_Login", "C_WrapKey")
        assert "C_Login: allowed" in output
        assert "C_WrapKey: refused (CKR_ACTION_PROHIBITED)" in output

    def test_without_a_call_all_are_told(self, policy):
        _, output = policy("explain", "gateways")
        assert "  C_SignInit: allowed\n" in output
        assert "  C_WrapKey: refused (CKR_ACTION_PROHIBITED)\n" in output
        assert "C_GetSlotList" not in output

    @pytest.mark.parametrize(
        ("arguments", "problem"),
        [
            (("nobody",), "there is no section [identity.nobody]"),
            (("web", "C_X"), "C_X is no function"),
            (("web", "C_Login", "--token", "x"), "there is no section [token.x]"),
            (("web", "C_SignInit", "--mechanism", "RSA"), "RSA is a family"),
            (("web", "C_SignInit", "--id", "x"), "id x is not hexadecimal"),
        ],
    )
    def test_what_means_nothing(self, policy, arguments, problem):
        status, output = policy("explain", *arguments)
        assert status == 1
        assert problem in output

    def test_a_configuration_that_is_wrong(self, policy):
        status, output = policy("explain", "web", text=POLICY.replace("ECDSA", "ECDSSA"))
        assert status == 1
        assert "k.toml:14: role.signer.mechanisms: ECDSSA is no mechanism" in output

    def test_a_configuration_that_guards_nothing(self, policy):
        status, output = policy("explain", "web", text='[backend.s]\nmodule = "/m"\n')
        assert status == 1
        assert "everybody may do everything" in output


class TestTest:
    MET = """\
[expect.web-signs]
user = ["www-data"]
identity = "web"
call = "C_SignInit"
token = "vault"
mechanism = "CKM_ECDSA"
object = { class = "private", label = "web", id = "01" }
[expect.roles-are-not-put-together]
identity = "web"
call = "C_SignInit"
token = "vault"
mechanism = "CKM_RSA_PKCS"
object = { uri = "pkcs11:object=web;type=private" }
expected = "refused"
[expect.other-keys-are-hidden]
identity = "web"
call = "C_SignInit"
token = "vault"
object = { class = "private", label = "other" }
expected = "invisible"
[expect.no-key-that-could-leave]
identity = "web"
call = "C_GenerateKeyPair"
token = "vault"
mechanism = "CKM_EC_KEY_PAIR_GEN"
makes = [{ label = "web" }, { label = "web", class = "private", extractable = "yes" }]
expected = "CKR_ACTION_PROHIBITED"
[expect.no-officer]
dns = ["a.gw.example.org"]
call = "C_Login"
token = "vault"
login = "so"
expected = "CKR_USER_TYPE_INVALID"
[expect.nobody]
user = ["mallory"]
group = ["www-data"]
[expect.nobody-sees-a-token]
user = [7]
call = "C_FindObjectsInit"
token = "vault"
expected = "invisible"
[expect.a-wildcard-is-nobody]
dns = ["*.gw.example.org"]
identity = ""
"""

    def test_all_is_met(self, policy):
        assert policy("test", expected=self.MET) == (0, "e.toml: 8 expectations, 0 not met\n")

    def test_what_is_not_met_is_told_with_its_line(self, policy):
        status, output = policy(
            "test",
            expected=self.MET.replace('"CKM_RSA_PKCS"', '"CKM_ECDSA"')
            .replace('login = "so"', "")
            .replace('["mallory"]', '["www-data"]')
            .replace('identity = ""', 'identity = "gateways"'),
        )
        assert status == 1
        assert output.splitlines() == [
            "e.toml:8: roles-are-not-put-together: allowed, not refused",
            "e.toml:28: no-officer: allowed, not CKR_USER_TYPE_INVALID",
            "e.toml:34: nobody: is web, not nobody",
            "e.toml:42: a-wildcard-is-nobody: is nobody, not gateways",
            "e.toml: 8 expectations, 4 not met",
        ]

    def test_a_file_that_is_wrong(self, policy):
        status, output = policy("test", expected="[expect.a]\n")
        assert status == 1
        assert "e.toml:1: expect.a: identity is missing" in output


@pytest.mark.parametrize(
    ("user", "status", "told"),
    [
        ("root", 0, "identity web: signer, reader\n"),
        ("no-such-user", 1, "identity.web: there is no user no-such-user\n"),
    ],
)
def test_check_looks_for_the_accounts(tmp_path, user, status, told):
    path = tmp_path / "k.toml"
    path.write_text(POLICY.replace('"/m"', f'"{path}"').replace("www-data", user))
    done = CliRunner().invoke(main, ["check", str(path)])
    assert done.exit_code == status
    assert told in done.output


def test_what_the_guide_shows_works(policy):
    blocks = re.findall(r"^```toml\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)
    configuration = "".join(block for block in blocks if "[expect." not in block)
    expected = "".join(block for block in blocks if "[expect." in block)
    status, output = policy("test", text=configuration, expected=expected)
    assert status == 0, output


def test_what_the_guide_shows_is_told(policy):
    text = GUIDE.read_text()
    (configuration, *_) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    command, told = re.findall(r"^```console\n\$ keyway policy ([^\n]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
    status, output = policy(*command.removesuffix(" -c keyway.toml").split(), text=configuration)
    assert status == 0
    assert output.replace("k.toml", "keyway.toml") == told


class TestViews:
    TEXT = f"""{POLICY}
[token.many]
views = ["alice", "bob"]
[view.alice]
token = "pkcs11:token=a"
select = "/alice.pin"
roles = ["few"]
[view.bob]
token = "pkcs11:token=b"
select = "/bob.pin"
[identity.guest]
anyone = true
roles = ["guest"]
[role.guest]
tokens = ["many"]
[role.few]
tokens = ["pkcs11:token=many;manufacturer=Keyway"]
functions = ["sign"]
"""

    def test_both_must_allow_it(self, policy):
        status, output = policy("explain", "guest", "C_SignInit", "C_DecryptInit", "--view", "alice", text=self.TEXT)
        assert status == 0
        lines = [line for line in output.splitlines() if not line.startswith(" ")]
        assert lines == [
            "identity guest (k.toml:30): roles guest",
            "view alice (k.toml:23): roles few",
            "token many",
            "C_SignInit: allowed: role guest allows all of it",
            "view alice: C_SignInit: allowed: role few allows all of it",
            "C_DecryptInit: allowed: role guest allows all of it",
            "view alice: C_DecryptInit: refused (CKR_FUNCTION_NOT_SUPPORTED)",
        ]

    def test_a_list_of_all_calls(self, policy):
        def shown(view):
            status, output = policy("explain", "guest", "--view", view, text=self.TEXT)
            assert status == 0
            return {line.strip() for line in output.splitlines() if line.startswith(" ")}

        assert {"C_SignInit: allowed", "C_DecryptInit: refused (CKR_FUNCTION_NOT_SUPPORTED)"} <= shown("alice")
        assert {"C_SignInit: allowed", "C_DecryptInit: allowed"} <= shown("bob")

    def test_expectations(self, policy):
        def expected(**given):
            lines = "\n".join(f'{key} = "{value}"' for key, value in given.items())
            return f'[expect.it]\nidentity = "guest"\ntoken = "many"\n{lines}\n'

        for given in (
            {"call": "C_SignInit", "view": "alice"},
            {"call": "C_DecryptInit", "view": "alice", "expected": "refused"},
            {"call": "C_DecryptInit", "view": "bob"},
            {"call": "C_DecryptInit"},
        ):
            assert policy("test", text=self.TEXT, expected=expected(**given))[0] == 0, given
        status, output = policy("test", text=self.TEXT, expected=expected(call="C_DecryptInit", view="alice"))
        assert (status, output.splitlines()[0]) == (
            1,
            "e.toml:1: it: refused (CKR_FUNCTION_NOT_SUPPORTED), not allowed",
        )
        status, output = policy("test", text=self.TEXT, expected=expected(call="C_SignInit", view="carol"))
        assert status == 1
        assert "e.toml:5: expect.it.view: many is no token with the view carol" in output

    def test_a_view_that_is_not_there(self, policy):
        status, output = policy("explain", "guest", "--view", "carol", text=self.TEXT)
        assert (status, output.splitlines()[-1]) == (1, "Error: k.toml: there is no section [view.carol]")
        status, output = policy("explain", "guest", "--view", "alice", "--token", "vault", text=self.TEXT)
        assert (status, output.splitlines()[-1]) == (1, "Error: vault is no token with the view alice")
