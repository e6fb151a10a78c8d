"""The verifier that the guide prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.audit.logs import a_log

GUIDE = (Path(__file__).resolve().parents[2] / "docs/guides/audit.md").read_text()


@pytest.fixture
def verifier(tmp_path):
    """Runs the guide's program on lines, and returns its status and what it prints."""
    (program,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "verify.py").write_text(program)

    def verifier(lines):
        (tmp_path / "log").write_bytes(b"".join(lines))
        done = subprocess.run(
            [sys.executable, tmp_path / "verify.py", tmp_path / "log"], capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    return verifier


def test_it_works(verifier):
    lines = a_log(5, checkpoint_every=2)
    status, output = verifier(lines)
    assert status == 0
    assert output.startswith("good up to line 7, ")
    lines[2] = lines[2].replace(b"who", b"now")
    assert "line 2 was changed" in verifier(lines)[1]
    del lines[2]
    assert "line 2 is not in its place" in verifier(lines)[1]
