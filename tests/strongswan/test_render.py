"""The files of a set-up: as they are kept here, and whatever is in it."""

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.strongswan.ipsec import ipsec_conf, ipsec_secrets
from keyway.strongswan.options import Setup
from keyway.strongswan.read import Reference, SettingsError, of_ipsec, of_settings, parse_settings
from keyway.strongswan.reader import parse
from keyway.strongswan.render import MARK, Profile, files
from keyway.strongswan.safety import unsafe
from keyway.strongswan.settings import rendered
from keyway.strongswan.settled import RenderError, settled, unsettled
from keyway.strongswan.swanctl import swanctl

GOLDEN = Path(__file__).with_name("golden")
PIN = "pin 7391#for=tests"


def edge(text: str = "") -> Setup:
    return parse(text or (GOLDEN / "edge.toml").read_text(), "edge.toml")


@pytest.mark.parametrize("profile", Profile)
def test_files_are_as_they_are_kept(profile):
    kept = {path.name: path.read_text() for path in (GOLDEN / profile.value).iterdir()}
    assert {each.name: each.text for each in files(edge(), profile)} == kept


@pytest.mark.parametrize("profile", Profile)
def test_only_files_with_a_pin_are_secret(profile):
    for each in files(edge(), profile):
        assert each.is_secret == (PIN in each.text)
        assert each.text.startswith(f"{MARK}\n")
        assert PIN not in repr(each)


def test_the_module_gets_no_work_that_it_need_not_do():
    tree = parse_settings((GOLDEN / "swanctl" / "strongswan.conf").read_text())
    module = {"path": "/usr/lib/keyway/libkeyway.so", "os_locking": "yes", "load_certs": "yes"}
    assert tree == {"charon": {"plugins": {"pkcs11": {"load": "yes", "modules": {"keyway": module}}}}}


def test_p11_kit_has_a_variable_of_its_own():
    setup = edge()
    module = replace(setup.module, path=Path("/usr/lib/pkcs11/p11-kit-client.so"), address="unix:path=/run/p11")
    (environment,) = (
        each.text for each in files(replace(setup, module=module), Profile.SWANCTL) if each.name == "charon.env"
    )
    assert environment == f'{MARK}\nP11_KIT_SERVER_ADDRESS="unix:path=/run/p11"\n'


def test_every_reference_has_handle_slot_and_module():
    for text, read in (
        (rendered(swanctl(edge())), of_settings),
        (ipsec_conf(edge()) + ipsec_secrets(edge()), of_ipsec),
    ):
        assert {(each.handle, each.slot, each.module) for each in read(text, "f")} == {
            ("0a01", "17", "keyway"),
            ("02", "18", "keyway"),
        }


def test_slots_and_pins_that_the_file_leaves_open():
    setup = edge()
    token = replace(setup.tokens["vault"], slot=-1, label="hsm", pin="", pin_file=Path("/pin"))
    open_ = replace(setup, tokens=MappingProxyType({**setup.tokens, "vault": token}))
    assert unsettled(open_) == ("hsm",)
    with pytest.raises(RenderError, match=re.escape("token.vault: its slot")):
        files(open_, Profile.SWANCTL)
    with pytest.raises(RenderError, match=re.escape("token.vault.label: the module has no token hsm")):
        settled(open_, {"other": 1}, {})
    done = settled(open_, {"hsm": 21}, {"vault": "1234"})
    assert (done.tokens["vault"].slot, done.tokens["vault"].pin, done.tokens["old"].slot) == (21, "1234", 18)


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("pin", ["7391{", "7391\n", '73"91'])
def test_a_pin_that_can_not_be_written_is_in_no_error(profile, pin):
    setup = edge()
    tokens = {**setup.tokens, "vault": replace(setup.tokens["vault"], pin=pin)}
    with pytest.raises(RenderError, match=r"pin: holds") as raised:
        files(replace(setup, tokens=MappingProxyType(tokens)), profile)
    assert "73" not in str(raised.value)


# Whatever is in it

names = st.from_regex(r"[A-Za-z0-9_-]{1,31}", fullmatch=True)
texts = st.text(st.one_of(st.characters(max_codepoint=0x17F), st.sampled_from("\"\\{}\n\r\t #=,;%$'")), max_size=24)
trees = st.recursive(
    st.dictionaries(names, texts, max_size=3),
    lambda inner: st.dictionaries(names, st.one_of(texts, inner), max_size=3),
    max_leaves=12,
)


@given(trees)
def test_settings_are_read_as_they_were_meant_or_not_written(tree):
    if any(unsafe(value) for value in _values(tree)):
        with pytest.raises(RenderError):
            rendered(tree)
    else:
        assert parse_settings(rendered(tree)) == tree


def _values(tree):
    for value in tree.values():
        if isinstance(value, str):
            yield value
        else:
            yield from _values(value)


@given(pin=texts, identity=texts, subnet=texts, certificate=texts)
def test_ipsec_files_are_read_as_they_were_meant_or_not_written(pin, identity, subnet, certificate):
    setup = edge()
    setup = replace(
        setup,
        tokens=MappingProxyType({**setup.tokens, "vault": replace(setup.tokens["vault"], pin=pin)}),
        connections=MappingProxyType(
            {**setup.connections, "road": replace(setup.connections["road"], local_id=identity)}
        ),
        children=MappingProxyType({**setup.children, "road": replace(setup.children["road"], local_ts=(subnet,))}),
        authorities=MappingProxyType(
            {"company": replace(setup.authorities["company"], certificate=Path("/", certificate))}
        ),
    )
    values = (pin, identity, str(setup.authorities["company"].certificate))
    if any(map(unsafe, values)) or unsafe(subnet, in_list=True) or " #" in pin:
        with pytest.raises(RenderError):
            (ipsec_conf(setup), ipsec_secrets(setup))
        return
    conf, secrets = ipsec_conf(setup), ipsec_secrets(setup)
    sections = _ipsec_conf(conf)
    assert sections["conn", "road"]["leftid"] == identity
    assert sections["conn", "road"]["leftsubnet"] == subnet
    assert sections["conn", "office"]["leftid"] == "C=DE, O=Example, CN=edge"
    assert sections["ca", "company"]["cacert"] == str(setup.authorities["company"].certificate)
    assert _ipsec_secrets(secrets) == [("%smartcard17@keyway:0a01", pin or None), ("%smartcard18@keyway:02", None)]


def _ipsec_conf(text: str) -> dict[tuple[str, str], dict[str, str]]:
    """The sections, as ipsec.conf(5) has them."""
    sections: dict[tuple[str, str], dict[str, str]] = {}
    for line in text.split("\n"):
        if not line:
            continue
        if not line[0].isspace():
            kind, name = line.split(" ")
            settings = sections.setdefault((kind, name), {})
            continue
        match = re.fullmatch(r'[ \t]+([a-z0-9]+)=(?:"([^"]*)"|([^"\s#]*))', line)
        assert match, line
        settings[match[1]] = match[2] if match[2] is not None else match[3]
    return sections


def _ipsec_secrets(text: str) -> list[tuple[str, str | None]]:
    """The object and PIN of each line, as ipsec.secrets(5) has them."""
    found = []
    for line in text.splitlines():
        match = re.fullmatch(r': PIN (%smartcard[0-9]+@[A-Za-z0-9_-]+:[0-9a-f]+) (?:"([^"]*)"|%prompt)', line)
        assert match, line
        found.append((match[1], match[2]))
    return found


# What may have been written by hand


def test_settings_written_by_hand_are_understood():
    text = """
    include conf.d/*.conf
    connections { # all of them
      a {
        local { auth = pubkey
          cert-1 { handle = 1
            module = keyway
          }
        }
        remote_addrs = 1.2.3.4, 5.6.7.8 # two
      }
    }
    secrets {
      token_1 {
        handle = "00:01"
        slot = 0x11
        pin = "a # b"
      }
    }
    """
    assert of_settings(text, "f") == (
        Reference("f: connections.a.local.cert-1", "swanctl", "1", "", "keyway", has_key=False),
        Reference("f: secrets.token_1", "swanctl", "00:01", "0x11", "", has_key=True),
    )
    tree: Any = parse_settings(text)
    assert tree["secrets"]["token_1"]["pin"] == "a # b"
    assert tree["connections"]["a"]["remote_addrs"] == "1.2.3.4, 5.6.7.8"


@pytest.mark.parametrize("text", ["a {", "}", "a { b }", "= 1", 'a = "x'])
def test_what_is_in_another_form_is_said_to_be(text):
    with pytest.raises(ValueError, match=r"^line 1: "):
        parse_settings(text)


@given(st.text(max_size=60))
def test_no_text_breaks_the_readers(text):
    of_ipsec(text, "f")
    with suppress(SettingsError):
        of_settings(text, "f")


@pytest.mark.parametrize(
    ("line", "slot", "module", "handle", "has_key"),
    [
        (': PIN %smartcard:0001 "1"', "", "", "0001", True),
        (': PIN %smartcard17:0001 "1"', "17", "", "0001", True),
        (': PIN %smartcard17@keyway:0001 "1"', "17", "keyway", "0001", True),
        (': PIN %smartcard0x11:0001 "1"', "0x11", "", "0001", True),
        (': PIN %smartcard:keyway:0001 "1"', "", "", "keyway:0001", True),
        (': PIN %smartcard#1 "1"', "%smartcard#1", "", "", True),
        ("  leftcert=%smartcard:0001", "", "", "0001", False),
    ],
)
def test_forms_of_ipsec_secrets(line, slot, module, handle, has_key):
    assert of_ipsec(f"# : PIN %smartcard:99 x\n{line} # a comment", "f") == (
        Reference("f:2", "ipsec", handle, slot, module, has_key),
    )
