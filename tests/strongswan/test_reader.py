"""From TOML to a set-up: what is taken, and where a mistake is said to be."""

import re
from pathlib import Path

import pytest

from keyway.config import ConfigError
from keyway.strongswan.reader import parse

LEAST = """
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
"""The least that can be said."""


def test_what_may_be_left_out_is_filled_in():
    setup = parse(LEAST)
    assert setup.module.name == "keyway"
    assert setup.keys["k"].token == "t"
    assert setup.connections["c"].key == "k"
    assert setup.children["net"].connection == "c"


def test_a_token_may_be_known_by_its_label():
    setup = parse(LEAST.replace("slot = 17", 'label = "vault"\npin_file = "/pin"'))
    assert setup.tokens["t"].slot == -1
    assert setup.tokens["t"].pin_file == Path("/pin")


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "what"),
    [
        ('path = "/m.so"', 'path = "m.so"', 3, "module.path", "absolute"),
        ('path = "/m.so"', 'path = "/m.so"\nname = "a.b"', 4, "module.name", "a name has letters"),
        ('path = "/m.so"', 'path = "/m.so"\naddress = "a\\nb"', 4, "module.address", "line break"),
        ("slot = 17", "", 4, "token.t", "needs a slot or a label"),
        ("slot = 17", "slot = -2", 5, "token.t.slot", "at least"),
        ("slot = 17", 'slot = "0x11"', 5, "token.t.slot", "must be an integer"),
        ("slot = 17", 'slot = 17\npin = "a{b"', 6, "token.t.pin", "brace"),
        ("slot = 17", "slot = 17\npin = 'a\"b'", 6, "token.t.pin", "quotation mark"),
        ("slot = 17", 'slot = 17\npin = "1"\npin_file = "/p"', 7, "token.t.pin_file", "not together"),
        ("[token.t]", '[token."t.u"]', 4, "token.t.u", "a name has letters"),
        ('"0001"', '"1"', 7, "key.k.id", "all of its bytes"),
        ('"0001"', '"0x0001"', 7, "key.k.id", "without 0x"),
        ('"0001"', '"00:01"', 7, "key.k.id", "without 0x and colons"),
        ('"0001"', '"my key"', 7, "key.k.id", "not a label"),
        ('"0001"', '"0001"\ntoken = "u"', 8, "key.k.token", "there is no [token.u]"),
        ("[key.k]", "[token.u]\nslot = 1\n[key.k]\n", 8, "key.k.token", "as there are several: t, u"),
        ('"CN=me"', '""', 9, "connection.c.local_id", "must not be empty"),
        ('"CN=me"', '"CN=me"\nremote_ca = "x"', 10, "connection.c.remote_ca", "there is no [authority.x]"),
        ('"CN=me"', '"CN=me"\npools = ["x"]', 10, "connection.c.pools", "there is no [pool.x]"),
        ('"CN=me"', '"CN=me"\nproposals = ["aes128, sha256"]', 10, "connection.c.proposals", "comma"),
        ('"CN=me"', '"CN=me"\nremote_addr = "1.2.3.4"', 10, "connection.c.remote_addr", "unknown"),
        ("[child.net]", '[child.net]\nstart = "load"', 12, "child.net.start", "needs remote_addrs"),
        ("[child.net]", '[child.net]\nstart = "never"', 12, "child.net.start", "must be one of: peer"),
        ("[child.net]", "", 1, "child", "at least one"),
        (
            "[child.net]",
            '[connection.d]\nlocal_id = "a"\nremote_id = "b"\n[child.net]\nconnection = "c"',
            11,
            "connection.d",
            "no [child.NAME]",
        ),
        ("[child.net]", "[child.net]\n[tunnel.x]", 12, "tunnel", "unknown"),
    ],
)
def test_a_mistake_is_said_with_its_place(old, new, line, key, what):
    assert old in LEAST
    with pytest.raises(ConfigError) as raised:
        parse(LEAST.replace(old, new), "edge.toml")
    assert any(
        problem.startswith(f"edge.toml:{line}: {key}: ") and what in problem for problem in raised.value.problems
    ), raised.value.problems


def test_all_mistakes_are_said_at_once():
    text = LEAST.replace('"0001"', '"label"').replace('"CN=me"', '""')
    with pytest.raises(ConfigError) as raised:
        parse(text)
    assert len(raised.value.problems) == 2


def test_what_is_no_toml_is_said_to_be_none():
    with pytest.raises(ConfigError, match=re.escape("x: not TOML")):
        parse("= 1", "x")


@pytest.mark.parametrize("pin", ["secret-{-pin", "secret-pin\x07"])
def test_a_pin_is_in_no_error_and_no_repr(pin):
    with pytest.raises(ConfigError) as raised:
        parse(LEAST.replace("slot = 17", f"slot = 17\npin = {pin!r}".replace("'", '"').replace("\\x07", "\\u0007")))
    assert "secret" not in str(raised.value)
    good = parse(LEAST.replace("slot = 17", 'slot = 17\npin = "secret-pin"'))
    assert "secret" not in repr(good)
