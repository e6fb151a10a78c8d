"""Tokens with views in the configuration: every mistake has its line."""

from pathlib import Path

import pytest

from keyway.config import ConfigError, ViewTarget, parse, target_of
from keyway.cryptoki import Uri

TEXT = """\
[backend.hsm1]
module = "/m"
[backend.hsm2]
module = "/m"
[identity.web]
anyone = true
roles = ["all"]
[role.all]
tokens = ["pkcs11:"]
[role.signer]
tokens = ["vault"]
functions = ["sign"]
[token.vault]
views = ["alice", "bob"]
[token.pair]
members = ["pkcs11:token=v?backend=hsm1", "pkcs11:token=v?backend=hsm2"]
[view.alice]
token = "pkcs11:token=tenant-a?backend=hsm1"
select = "/alice.pin"
pin_file = "/tenant-a.pin"
roles = ["signer"]
[view.bob]
token = "pair"
select = "/bob.pin"
"""


def changed(*pairs):
    text = TEXT
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    return text


def line_of(text, start):
    return next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith(start))


def test_all_of_it():
    config = parse(TEXT)
    vault = config.tokens["vault"]
    assert (vault.views, vault.has_views, vault.is_pool, vault.is_plain) == (("alice", "bob"), True, False, False)
    assert (vault.label, len(vault.serial)) == ("vault", 16)
    alice, bob = config.views.values()
    assert (alice.select, alice.pin_file, alice.roles) == (Path("/alice.pin"), Path("/tenant-a.pin"), ("signer",))
    assert target_of(alice, config) == ViewTarget(backend="hsm1", uri=Uri(token="tenant-a"))
    assert target_of(bob, config) == ViewTarget(pool="pair")
    assert bob.pin_file is None


def test_the_only_backend_need_not_be_named():
    text = '[backend.only]\nmodule = "/m"\n[identity.web]\nanyone = true\nroles = ["all"]\n[role.all]\ntokens = ["vault"]\n'
    config = parse(
        f'{text}[token.vault]\nviews = ["a"]\nlabel = "shown"\n[view.a]\ntoken = "pkcs11:token=t"\nselect = "/s"\n'
    )
    assert target_of(config.views["a"], config) == ViewTarget(backend="only", uri=Uri(token="t"))
    assert config.tokens["vault"].label == "shown"


@pytest.mark.parametrize(
    ("pairs", "start", "problem"),
    [
        ([('["alice", "bob"]', '["alice", "bob", "carol"]')], "views", "there is no section [view.carol]"),
        ([('["alice", "bob"]', '["alice", "bob", "alice"]')], "views", "alice occurs twice"),
        ([('["alice", "bob"]', '["alice"]')], "[view.bob]", "no token has it in its views"),
        ([("/bob.pin", "/alice.pin")], 'select = "/alice.pin"\n', "is also that of view.alice"),
        ([('["signer"]\n[view', '["nobody"]\n[view')], 'roles = ["nobody"]', "there is no section [role.nobody]"),
        ([('tokens = ["vault"]', 'tokens = ["pair"]')], 'roles = ["signer"]', "none of them is for the token"),
        ([('token = "pair"', 'token = "none"')], 'token = "none"', "there is no section [token.none] with members"),
        ([('token = "pair"', 'token = "vault"')], 'token = "vault"', "there is no section [token.vault] with members"),
        ([("tenant-a?backend=hsm1", "tenant-a")], 'token = "pkcs11:token=tenant-a"', "backend= is missing"),
        ([("a?backend=hsm1", "a?backend=x")], 'token = "pkcs11:token=tenant-a', "there is no section [backend.x]"),
        ([("a?backend=hsm1", "a?weight=1")], 'token = "pkcs11:token=tenant-a', "weight is not known here"),
        ([("a?backend=hsm1", "a?pin-value=1")], 'token = "pkcs11:token=tenant-a', "must not hold a PIN"),
        ([("a?backend=hsm1", "a;object=k?backend=hsm1")], 'token = "pkcs11:token=tenant-a', "names an object"),
        ([("[token.pair]", 'backend = "hsm1"\n[token.pair]')], "backend", "is not for a token with views"),
        ([("[token.pair]", 'pin_file = "/p"\n[token.pair]')], "pin_file", "is not for a token with views"),
        ([("[token.pair]", 'policy = "balance"\n[token.pair]')], "policy", "is not for a token with views"),
        ([("members =", 'views = ["alice"]\nmembers =')], 'views = ["alice"]', "is not for a pool"),
        ([("[token.pair]", f'label = "{"x" * 33}"\n[token.pair]')], "label", "is longer than 32 bytes"),
        ([('"/alice.pin"', '"alice.pin"')], "select", "must be an absolute path"),
        ([('select = "/bob.pin"\n', "")], "[view.bob]", "select is missing"),
        ([('"/bob.pin"\n', '"/bob.pin"\nuser = "so"\n')], "user", "unknown; known here"),
    ],
)
def test_a_mistake(pairs, start, problem):
    text = changed(*pairs)
    with pytest.raises(ConfigError) as raised:
        parse(text, "k.toml")
    (told,) = [each for each in raised.value.problems if problem in each]
    lines = [number for number, line in enumerate(text.splitlines(), 1) if line.startswith(start.rstrip("\n"))]
    assert int(told.split(":")[1]) in lines


def test_two_selects_that_are_the_same_are_told_where_the_second_is():
    text = changed(("/bob.pin", "/alice.pin"))
    with pytest.raises(ConfigError) as raised:
        parse(text, "k.toml")
    (told,) = raised.value.problems
    assert (
        told
        == f"k.toml:{len(text.splitlines())}: view.bob.select: is also that of view.alice: the PIN could not tell them apart"
    )


def test_it_needs_identities():
    start, end = TEXT.index("[identity.web]"), TEXT.index("[token.vault]")
    text = (TEXT[:start] + TEXT[end:]).replace('roles = ["signer"]\n', "")
    with pytest.raises(ConfigError) as raised:
        parse(text, "k.toml")
    (told,) = raised.value.problems
    assert told.startswith(f"k.toml:{line_of(text, 'views')}: token.vault.views: needs identities")


def test_a_role_that_only_a_view_has_is_used():
    assert "signer" in parse(TEXT).roles
    with pytest.raises(ConfigError, match="no identity has it, and no view"):
        parse(changed(('roles = ["signer"]\n[view', "[view")))


@pytest.mark.parametrize("other", ["pin_file = 7", 'roles = "signer"', "select = []"])
def test_wrong_types(other):
    key = other.split()[0]
    text = (
        TEXT.replace(next(line for line in TEXT.splitlines() if line.startswith(key)), other, 1)
        if key != "roles"
        else changed(('roles = ["signer"]', other))
    )
    with pytest.raises(ConfigError) as raised:
        parse(text)
    assert f"view.alice.{key}: must be" in str(raised.value)
