"""A gateway in front of two HSMs with the same keys, which can be broken in several ways."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from stage import StepError

__all__ = ["HSMS", "Gateway"]

HSMS: Final = ("hsm-a", "hsm-b")
DEADLINE: Final = 60.0
"""Seconds that anything may take which is waited for."""

_HSM: Final = """\
[backend.{hsm}]
module = "{home}/{hsm}.so"
environment = {{ SOFTHSM2_CONF = "{home}/{hsm}.conf" }}
start = "copy"
"""
_POOL: Final = """\
[token.demo]
members = ["pkcs11:token=demo?backend=hsm-a", "pkcs11:token=demo?backend=hsm-b"]
policy = "balance"
"""


class Gateway:
    """A daemon of our own.

    Attributes:
        variables: What tells programs where it is.
        pool: The part of its configuration that makes two tokens one.
    """

    pool: Final = _POOL

    def __init__(self, home: Path) -> None:
        """Make the two HSMs, each a SoftHSM with a copy of the token's files, and write the configuration.

        Args:
            home: Where all this goes; short, since a unix socket is there.
        """
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        # A machine that is busy with something else may be slow: that is not what is shown here.
        self.variables = {"KEYWAY_ADDRESS": f"unix:{home}/k.sock", "KEYWAY_TOKEN": "demo", "KEYWAY_RENEWAL": "60"}
        conf = Path(os.environ["SOFTHSM2_CONF"]).read_text()
        (tokens,) = re.findall(r"^directories\.tokendir = (.+)$", conf, re.MULTILINE)
        config = f'[listen]\nsocket = "{home}/k.sock"\n[log]\nlevel = "error"\n[limits]\ndrain = 0.0\n{_POOL}deadline = 20.0\n'
        for hsm in HSMS:
            shutil.copytree(tokens, home / hsm)
            (home / f"{hsm}.conf").write_text(conf.replace(tokens, str(home / hsm)))
            # A path of its own, by which its processes are known.
            (home / f"{hsm}.so").symlink_to(os.environ["KEYWAY_DIRECT_MODULE"])
            config += _HSM.format(home=home, hsm=hsm)
        (home / "keyway.toml").write_text(config)

    def start(self) -> None:
        """Start it, and wait until both HSMs can serve.

        Raises:
            StepError: It does not come up.
        """
        command = [sys.executable, "-m", "keyway.cli", "serve", "-c", str(self._home / "keyway.toml")]
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        self._wait(lambda: [each["serves"] for each in self.members().values()] == [True, True], "both HSMs can serve")

    def stop(self) -> None:
        """Have it end."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def members(self) -> dict[str, dict[str, Any]]:
        """Return how the HSMs do, by name, as `keyway status --json` tells; nothing while the gateway does not answer."""
        command = ["keyway", "status", "--json", "--socket", str(self._home / "k.sock")]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode != 0:
            return {}
        pool = json.loads(done.stdout)["pools"]["demo"]
        return {each["member"]: each for each in pool["members"]}

    def kill(self, hsm: str) -> list[int]:
        """Kill the processes in which the module of an HSM serves; return which they were."""
        killed = self._hosts(hsm)
        for host in killed:
            with suppress(ProcessLookupError):
                os.kill(host, signal.SIGKILL)
        return killed

    def wait_served(self, hsm: str) -> None:
        """Wait until an HSM signs.

        Raises:
            StepError: It does not.
        """
        before = self.members()[hsm]["served"]
        self._wait(lambda: self.members()[hsm]["served"] > before, f"{hsm} signs again")

    def _hosts(self, hsm: str) -> list[int]:
        assert self._process is not None
        module = f"{self._home}/{hsm}.so"
        parents = [child for child in _children(self._process.pid) if module in _command(child)]
        return [copy for parent in parents for copy in _children(parent)]

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > deadline or (self._process is not None and self._process.poll() is not None):
                raise StepError(f"not so: {what}\n{(self._home / 'log').read_text()}")
            time.sleep(0.02)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []
