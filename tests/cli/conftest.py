import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

KEYWAY = [sys.executable, "-m", "keyway.cli"]


@pytest.fixture
def scratch():
    """A directory for temporary files, which must be empty at the end. Short, for the sake of unix sockets."""
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)
        assert list(Path(name).iterdir()) == []


@pytest.fixture
def start(scratch):
    """Starts the command."""
    environment = {"TMPDIR": str(scratch), "PATH": "/usr/bin:/bin"}
    processes = []

    def start(*arguments, env=None, **options):
        process = subprocess.Popen(
            [*KEYWAY, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, **(env or {})},
            **options,
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def keyway(start):
    """Runs the command to its end."""

    def keyway(*arguments, **options):
        process = start(*arguments, **options)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    return keyway
