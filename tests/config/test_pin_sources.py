"""PINs in files that URIs name: pin-source of RFC 7512."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.config import ConfigError, parse
from keyway.config.uris import split_pin_source

TEXT = """\
[backend.hsm]
module = "/m"
[identity.web]
anyone = true
roles = ["all"]
[role.all]
tokens = ["pkcs11:"]
[token.vault]
uri = "pkcs11:token=vault{}"
"""
VIEWS = """\
[token.shown]
views = ["alice"]
[view.alice]
token = "pkcs11:token=a?pin-source=/a.pin&backend=hsm"
select = "/alice.pin"
"""


@pytest.mark.parametrize("source", ["file:/etc/pin", "file:///etc/pin", "file://localhost/etc/pin", "/etc/pin"])
def test_a_file_is_that_of_the_token(source):
    token = parse(TEXT.format(f"?pin-source={source}")).tokens["vault"]
    assert (token.uri, token.pin_file) == ("pkcs11:token=vault", Path("/etc/pin"))


def test_characters_that_are_written_with_a_percent_sign():
    assert split_pin_source("pkcs11:?pin-source=file:/a%2520b") == ("pkcs11:", Path("/a b"))
    assert split_pin_source("pkcs11:?pin-source=/a%20b%23c") == ("pkcs11:", Path("/a b#c"))


def test_that_of_a_view():
    view = parse(TEXT.format("") + VIEWS).views["alice"]
    assert (view.token, view.pin_file) == ("pkcs11:token=a?backend=hsm", Path("/a.pin"))


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("?pin-source=%7C/bin/echo", r":9: token.vault.uri: pin-source must be a file here"),
        ("?pin-source=file:pin", r":9: token.vault.uri: pin-source must be a file here"),
        ("?pin-source=https://example.org/pin", r":9: token.vault.uri: pin-source must be a file here"),
        ("?pin-source=file://elsewhere/pin", r":9: token.vault.uri: pin-source must be a file here"),
        ("?pin-source=file:/a%23b", r":9: token.vault.uri: pin-source must be a file here"),
        ("?pin-source=/a%00b", r":9: token.vault.uri: "),
        ('?pin-source=/a"\npin_file = "/b', r":9: token.vault.uri: has a pin-source, and there is pin_file"),
        ("?pin-value=1234", r":9: token.vault.uri: must not hold a PIN"),
    ],
)
def test_what_is_none(query, problem):
    with pytest.raises(ConfigError, match=problem) as caught:
        parse(TEXT.format(query))
    assert "1234" not in str(caught.value)


def test_it_needs_identities():
    text = '[backend.hsm]\nmodule = "/m"\n[token.vault]\nuri = "pkcs11:token=v?pin-source=/p"\n'
    with pytest.raises(ConfigError, match=r"token.vault.pin_file: is for pools, or for identities"):
        parse(text)


@given(st.text())
def test_any_text(text):
    for uri in (text, f"pkcs11:{text}", f"pkcs11:?pin-source={text}", f"pkcs11:?pin-source=file:{text}"):
        try:
            left, file = split_pin_source(uri)
        except ValueError:
            continue
        if file is None:
            assert left == uri
        else:
            assert file.is_absolute()
            assert "pin-source" not in left
