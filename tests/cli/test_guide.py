"""The commands of the guide on p11-kit do what it says, as they stand there."""

import re
import subprocess
from pathlib import Path

import pytest
from tests.cli.conftest import COMMAND, UNPRIVILEGED
from tests.daemon.tokens import PIN

from keyway.config.locate import softhsm_module

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "p11-kit.md"
SHOWN = [
    r"Slot 0 \(0x11\)",
    "P11_KIT_SERVER_ADDRESS=unix:path=/",
    "unset P11_KIT_SERVER_PID",
    "token=demo",
    "export KEYWAY_ADDRESS=unix:/tmp/keyway-",
]


@pytest.fixture
def programs(home, far, conf):
    """A directory with `keyway`, and an `ssh` that finds hsm.example.com."""
    words = far.sshd(f"SetEnv PATH={home}/bin:/usr/bin:/bin SOFTHSM2_CONF={conf}")
    port = words[words.index("-p") + 1]
    user = words[-1].partition("@")[0]
    options = [word.replace("=", " ", 1) for word in words if "=" in word]
    host = home / "ssh_config"
    host.write_text(
        "\n".join(["Host hsm.example.com", "HostName 127.0.0.1", f"Port {port}", f"User {user}", *options, ""])
    )
    programs = home / "bin"
    programs.mkdir()
    (programs / "keyway").symlink_to(COMMAND)
    (programs / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {host} "$@"\n')
    (programs / "ssh").chmod(0o755)
    return programs


def test_guide(programs, home, at_home):
    script = home / "guide.sh"
    script.write_text("".join(re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)))
    environment = {
        **at_home,
        "PATH": f"{programs}:/usr/bin:/bin",
        "XDG_CONFIG_HOME": f"{home}/config",
        "KEYWAY_TOKEN": "demo",
        "KEYWAY_PIN": PIN,
        "KEYWAY_DIRECT_MODULE": str(softhsm_module()),
    }

    done = subprocess.run(
        [*UNPRIVILEGED, "bash", "-eux", str(script)],
        cwd=home,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "Traceback" not in done.stdout
    for text in SHOWN:
        assert re.search(text, done.stdout), done.stdout
