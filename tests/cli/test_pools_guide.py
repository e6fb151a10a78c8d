"""The commands of the guide to pools do what the guide says, as they stand there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cli.conftest import COMMAND

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "pools.md"
SHOWN = [
    "pool vault: failover, writes deny",
    "pool vault: the members agree: hsm1 has 2 objects, hsm2 has 2 objects",
    "warning: hsm1, hsm2 are copies of one token",
    "vault/hsm1: drained, nothing holds it",
    "vault/hsm1: serves",
    "pool vault: changed",
    "pool vault: balance, writes deny",
]


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("pkcs11-tool") is None, reason="pkcs11-tool (Debian: opensc) is not installed")
def test_pools_guide(home):
    commands = "".join(re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL))
    script = home / "guide.sh"
    # The daemon must have ended before its tokens are removed.
    script.write_text(f"trap 'kill $(jobs -p); wait; cat log' EXIT\n{commands}")

    done = subprocess.run(
        [COMMAND, "run", "--", "bash", "-eux", script],
        cwd=home,
        env={**os.environ, "HOME": str(home), "PATH": f"{Path(COMMAND).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    for text in SHOWN:
        assert text in done.stdout, f"{text}\n{done.stdout}"
    assert "Traceback" not in done.stdout
    assert (home / "signature").stat().st_size == 256
