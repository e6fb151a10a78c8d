"""A policy that changes holds for those who are there, too."""

import tempfile
from pathlib import Path

import pytest
from tests.daemon.conftest import starting
from tests.daemon.guard.guests import CONFIG, Guests
from tests.daemon.harness import until
from tests.daemon.pool import tokens

from keyway.cli.client import Client
from keyway.daemon.control_numbers import RELOAD


@pytest.fixture
def changing(made):
    with tempfile.TemporaryDirectory(prefix="kt-") as name, starting(Path(name)) as start:
        home = Path(name)
        told = tokens.member(home, made, "hsm") + CONFIG.format(home=home)
        guests = Guests(start(told), home)

        def change(old, new):
            path = home / "keyway.toml"
            text = path.read_text()
            assert old in text
            path.write_text(text.replace(old, new))
            with Client(guests.daemon.socket, 60) as client:
                rv, body = client.exchange(RELOAD)
            assert rv == 0, body

        yield guests, change


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    home = tmp_path_factory.mktemp("made")
    tokens.original(home)
    return home


def test_who_may_do_less_is_cut_off_and_nobody_else(changing):
    guests, change = changing
    with guests.app("signer") as signer, guests.app("reader") as reader:
        key = signer.object("rsa")
        signer.sign(key)
        change('objects = [{label = "rsa"}]', 'objects = [{label = "ec"}]')
        assert signer.is_closed()
        reader.sign(reader.object("rsa"))
    with guests.app("signer") as signer:
        assert len(signer.find()) == 2
        (told,) = {entry["reason"] for entry in guests.daemon.events("client ended")}
        assert "changed" in told


def test_a_user_that_is_not_there(changing):
    guests, change = changing
    path = Path(guests.daemon.socket).parent / "keyway.toml"
    text = path.read_text()
    path.write_text(text.replace("[identity.left]\n", '[identity.left]\nuser = ["nobody-is-called-so"]\n'))
    with Client(guests.daemon.socket, 60) as client:
        _, body = client.exchange(RELOAD)
    assert b"nobody-is-called-so" in body
    with guests.app("left"):
        pass
    until(lambda: guests.daemon.events("not reloaded"), "it is said")
    assert change
