"""The guide to provisioning: its commands, sections and Python, as they stand there but for names and places."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.api.running import Caller

from keyway.config import parse

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "provisioning.md").read_text()


def blocks(language):
    return [
        re.sub(r"^ {2}", "", text, flags=re.MULTILINE) if text.startswith("  ") else text
        for text in re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)
    ]


@pytest.fixture
def at_home(home, daemon):
    """Variables with which commands find the gateway, and the `keyway` of this source tree."""
    programs = home / "bin"
    programs.mkdir()
    keyway = programs / "keyway"
    keyway.write_text(f'#!/bin/sh\nexec {sys.executable} -m keyway.cli "$@"\n')
    keyway.chmod(0o755)
    return {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "KEYWAY_ADDRESS": f"unix:{daemon.socket}"}


def test_commands(home, at_home, api):
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "".join(blocks("sh"))],
        cwd=home,
        env=at_home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"edge: slot \d+, .*", lines[0])
    assert lines[1] == "node-1: EC:prime256v1, id 0001"
    fingerprints = {line.split()[-1] for line in lines[2:]}
    assert all(line.startswith("node-1: CN=node-1,O=Example, until ") for line in lines[2:])
    assert (len(lines), len(fingerprints)) == (5, 2)
    assert len((home / "api-tokens").read_text().strip().partition(":")[2]) == 64
    (stored,) = api.ask("GET", "/v1/tokens/edge/certificates").json["certificates"]
    assert stored["pem"] == (home / "renewed.crt").read_text()


def test_python(api, daemon, ca, capsys):
    (text,) = blocks("python")
    text = text.replace("/run/keyway/keyway.sock", str(daemon.socket)).replace('"edge"', '"snake"')
    for _ in range(2):
        exec(compile(text, "the guide", "exec"), {"sign": ca.sign})
    keys = Caller(api).api.ask("GET", "/v1/tokens/snake/keys").json["keys"]
    assert capsys.readouterr().out == f"{keys[0]['public_key_pem']}\n" * 2


def test_sections():
    first, bearers, tickets, pins = blocks("toml")
    assert not parse(first).tokens
    config = parse(bearers + pins, serves=False)
    assert config.api is not None
    assert config.api_pins["edge"].callers == ("ansible",)
    config = parse(tickets, serves=False)
    assert config.api is not None
    assert config.api.kerberos


def test_what_is_said_of_python_is_there():
    from keyway import Client

    for name in re.findall(r"`(\w+)`", PAGE[PAGE.index("have the same methods:") : PAGE.index("They block")]):
        assert callable(getattr(Client, name))
