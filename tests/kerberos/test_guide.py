"""The commands of the Kerberos guide do what the guide says, as they stand there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.back.remotes import free_port
from tests.kerberos.realm import PATH, REALM

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "kerberos.md"
SHOWN = [
    "pkcs11/localhost@",  # the keytab
    r"token label +: keyway",  # over the agent
    "Signature is valid",
    f"context opened.*principal=alice@{REALM}",
]


@pytest.mark.timeout(300)
def test_kerberos_guide(home, alice):
    commands = "".join(re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL))
    commands = commands.replace("5660", str(free_port()))
    script = home / "guide.sh"
    # What it has started must have ended before the token is removed.
    script.write_text(f"trap 'kill $(jobs -p); wait; cat *.log' EXIT\n{commands}")
    keyway = Path(sys.executable).with_name("keyway")

    done = subprocess.run(
        [keyway, "run", "--", "bash", "-eux", script],
        cwd=home,
        env={**os.environ, "HOME": str(home), "PATH": f"{keyway.parent}:{PATH}"},
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
