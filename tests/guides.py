"""Guides whose commands are run as they stand there."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.back.remotes import free_port

_GUIDES = Path(__file__).parents[1] / "docs" / "guides"


def follow(guide: str, home: Path, ports: Iterable[str], shown: Iterable[str], path: str) -> None:
    """Run all blocks of sh of a guide in a throw-away gateway, and see that they end well and show what they should.

    Args:
        guide: Name of the file.
        home: Where they run.
        ports: Port numbers in the guide, in whose place free ones are put.
        shown: Patterns of what must be printed.
        path: PATH, besides the directory of `keyway`.
    """
    text = (_GUIDES / guide).read_text()
    commands = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    for port in ports:
        commands = commands.replace(port, str(free_port()))
    script = home / "guide.sh"
    # What it has started must have ended before the token is removed.
    script.write_text(f"trap 'kill $(jobs -p); wait; cat *.log' EXIT\n{commands}")
    keyway = Path(sys.executable).with_name("keyway")
    done = subprocess.run(
        [keyway, "run", "--", "bash", "-eux", script],
        cwd=home,
        env={**os.environ, "HOME": str(home), "PATH": f"{keyway.parent}:{path}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for each in shown:
        assert re.search(each, done.stdout), f"{each}\n{done.stdout}"
    assert "Traceback" not in done.stdout
