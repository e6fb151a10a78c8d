"""`keyway strongswan render` and `check` at real tokens, through libkeyway.so."""

import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.daemon.harness import KEYWAY
from tests.daemon.pool.tokens import PIN
from tests.strongswan.authority import IkeAuthority
from tests.strongswan.gateway import MEMBERS, SLOT, Gateway, make_keys
from tests.strongswan.network import Here

from keyway.cli.strongswan import strongswan
from keyway.config.locate import module_library
from keyway.strongswan.diagnosis import diagnosis
from keyway.strongswan.gather import facts_of, module_environment
from keyway.strongswan.read import Reference, of_setup
from keyway.strongswan.reader import parse
from keyway.strongswan.surroundings import charon_of_unit

pytestmark = pytest.mark.timeout(240)
ABSENT = Path("/nonexistent/module.toml")


@pytest.fixture(scope="module")
def authority(home) -> IkeAuthority:
    return IkeAuthority(home)


@pytest.fixture(scope="module")
def gateway(home, authority) -> Iterator[Gateway]:
    """A gateway with certificates beside both keys: a good one, and one that must not sign."""
    made = Gateway(Here(), home / "moon", make_keys(home / "keys"), "moon", tls=False)
    made.start()
    made.store("rsa", authority.issue("me", made.public("rsa")))
    made.store("ec", authority.issue("me", made.public("ec"), digital_signature=False))
    yield made
    made.stop()


def config(gateway: Gateway, *, id_: str = "0001", token: str = f"slot = {SLOT}", more: str = "") -> str:
    return f"""
[module]
path = "{module_library()}"
[token.moon]
{token}
{more or f'pin = "{PIN}"'}
[key.node]
id = "{id_}"
[connection.edge]
local_id = "CN=me"
remote_id = "CN=you"
[child.edge]
"""


@pytest.fixture
def unit(tmp_path, gateway) -> Path:
    """A unit file that starts charon."""
    path = tmp_path / "strongswan.service"
    path.write_text(f'[Service]\nEnvironment="KEYWAY_ADDRESS=unix:{gateway.socket}" A=b\n')
    return path


def found(text: str, unit: Path, *references: Reference, login: bool = False) -> dict[str, str]:
    """What is wrong, by its code. An engine that is installed here is another affair."""
    setup = parse(text)
    charon = charon_of_unit(unit)
    assert charon
    facts = facts_of(setup, charon, module_environment(setup, charon, os.environ), ABSENT, login=login)
    findings = diagnosis(setup, references or of_setup(setup, {}), facts, datetime.now(UTC))
    return {each.code: each.what for each in findings if each.code != "engine"}


def run(*arguments: object) -> Result:
    return CliRunner().invoke(strongswan, list(map(str, arguments)))


def test_a_good_token_with_its_login(gateway, unit):
    assert found(config(gateway), unit, login=True) == {}


def test_a_wrong_pin_is_tried_once_and_only_if_asked_for(gateway, unit):
    wrong = config(gateway, more='pin = "wrong"')
    assert found(wrong, unit) == {}
    assert list(found(wrong, unit, login=True)) == ["login"]


def test_certificates_and_keys(gateway, unit, authority):
    assert list(found(config(gateway, id_="0002"), unit)) == ["certificate-usage"]
    assert list(found(config(gateway, id_="0009"), unit)) == ["key-missing"]
    assert list(found(config(gateway, token="slot = 5"), unit)) == ["slot-unknown"]
    gateway.store("ec", authority.issue("me", gateway.public("rsa")))
    assert list(found(config(gateway, id_="0002"), unit)) == ["certificate-other-key"]


def test_the_members_of_a_pool_have_the_same_keys(gateway, unit):
    told = found(config(gateway), unit, Reference("by hand", "swanctl", "0001"))
    assert list(told) == ["id-twice"]
    assert all(str(slot) in told["id-twice"] for slot in MEMBERS.values())


def test_a_module_that_is_none(gateway, unit, tmp_path):
    none = tmp_path / "none.so"
    none.write_text("no")
    assert list(found(config(gateway).replace(str(module_library()), str(none)), unit)) == ["module-unusable"]


def test_an_environment_without_the_address(gateway, tmp_path):
    bare = tmp_path / "strongswan.service"
    bare.write_text("[Service]\n")
    drop_in = tmp_path / "strongswan.service.d"
    drop_in.mkdir()
    # charon and the module find nothing; the place where the module looks then is not there.
    assert "environment" in found(config(gateway), bare)
    (tmp_path / "charon.env").write_text(f"# where the gateway is\nKEYWAY_ADDRESS=unix:{gateway.socket}\n")
    (drop_in / "keyway.conf").write_text(f"[Service]\nEnvironmentFile=-{tmp_path}/charon.env\n")
    assert found(config(gateway), bare) == {}


def test_the_command_tells_it_as_text_and_as_json(gateway, unit, tmp_path):
    pin = tmp_path / "pin"
    pin.write_text(f"{PIN}\n")
    pin.chmod(0o640)
    path = tmp_path / "edge.toml"
    path.write_text(config(gateway, token='label = "moon"', more=f'pin_file = "{pin}"'))
    done = run("check", path, "--unit", unit)
    assert done.exit_code == 1
    assert "error: token.moon.pin_file:" in done.output
    assert "[pin-file]" in done.output
    assert PIN not in done.output
    pin.chmod(0o600)
    by_hand = tmp_path / "ipsec.secrets"
    by_hand.write_text(': PIN %smartcard0x11:0001 "1234"\n')
    done = run("check", path, "--unit", unit, "--json", "--file", by_hand)
    assert done.exit_code == 1
    errors = [each for each in json.loads(done.output)["findings"] if each["weight"] == "error"]
    assert [(each["code"], each["where"]) for each in errors] == [("slot-form", "ipsec.secrets:1")]


def test_files_are_rendered_with_the_slot_of_the_label_and_the_pin_of_the_file(gateway, tmp_path):
    pin = tmp_path / "pin"
    pin.write_text(f"{PIN}\n")
    pin.chmod(0o600)
    path = tmp_path / "edge.toml"
    label = config(gateway, token='label = "moon"', more=f'pin_file = "{pin}"')
    path.write_text(label.replace("[token.moon]", f'address = "unix:{gateway.socket}"\n[token.moon]'))
    done = run("render", path, "--profile", "ipsec.conf", "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    secrets = (tmp_path / "out" / "ipsec.secrets").read_text()
    assert f': PIN %smartcard{SLOT}@keyway:0001 "{PIN}"\n' in secrets
    assert done.output.split() == [
        str(tmp_path / "out" / name) for name in ("strongswan.conf", "charon.env", "ipsec.conf", "ipsec.secrets")
    ]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("[child.edge]", "[child.edge]\nx = 1"), ":13: child.edge.x: unknown"),
        ((f'pin = "{PIN}"', 'pin_file = "/nonexistent"'), "token.moon.pin_file: /nonexistent: No such file"),
        ((f'pin = "{PIN}"', 'pin_file = "/etc/passwd"'), "can be read by others"),
    ],
)
def test_what_can_not_be_rendered_is_said(gateway, tmp_path, change, what):
    path = tmp_path / "edge.toml"
    path.write_text(config(gateway).replace(*change))
    done = run("render", path, "--profile", "swanctl", "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert what in done.output
    assert not (tmp_path / "out").exists()


def test_a_file_of_somebody_else_is_not_replaced(gateway, tmp_path):
    path = tmp_path / "edge.toml"
    path.write_text(config(gateway))
    (tmp_path / "swanctl.conf").write_text("mine\n")
    done = run("render", path, "--profile", "swanctl", "-o", tmp_path)
    assert done.exit_code == 1
    assert "--force" in done.output
    assert run("render", path, "--profile", "swanctl", "-o", tmp_path, "--force").exit_code == 0


def test_apply_without_charon(gateway, tmp_path):
    path = tmp_path / "edge.toml"
    path.write_text(config(gateway))
    done = run("apply", path, "--vici", tmp_path / "nobody")
    assert done.exit_code == 1
    assert "no charon at" in done.output
    assert PIN not in done.output


def test_the_command_is_there():
    done = subprocess.run([*KEYWAY, "strongswan", "--help"], capture_output=True, text=True, check=True)
    assert all(word in done.stdout for word in ("render", "check", "apply"))
