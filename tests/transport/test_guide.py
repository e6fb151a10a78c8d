"""The commands of the network guide do what the guide says, as they stand there."""

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "network.md"
SHOWN = [
    r"token label +: keyway",  # pkcs11-tool over TLS
    "Private Key Object; EC|Public Key Object; EC",  # a key was made there
    "connection refused: .*it shows no certificate",
    "certificate=alice",
    "connection refused: .*certificate revoked",
    "the changed TLS files are in use",
    "tokens offered",
]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("pkcs11-tool") is None, reason="pkcs11-tool (Debian: opensc) is not installed")
def test_network_guide(home):
    page = GUIDE.read_text()
    commands = "".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    for port in ("5658", "5659"):
        commands = commands.replace(port, str(free_port()))
    script = home / "guide.sh"
    # What it has started must have ended before the token is removed.
    script.write_text(f"trap 'kill $(jobs -p); wait; cat *.log' EXIT\n{commands}")
    keyway = Path(sys.executable).with_name("keyway")

    done = subprocess.run(
        [keyway, "run", "--", "bash", "-eux", script],
        cwd=home,
        env={**os.environ, "HOME": str(home), "PATH": f"{keyway.parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    for text in SHOWN:
        assert re.search(text, done.stdout), f"{text}\n{done.stdout}"
    assert "Traceback" not in done.stdout
