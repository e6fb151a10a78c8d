"""The ways to tokens of a pool: two SoftHSM tokens with the same keys seen as one, one that is a pool by itself, and the same one as it is."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway import Daemon
from subjects import PLAIN, POOL, Environment, Subject

from keyway.cli.client import Client
from keyway.daemon.control import STATUS

__all__ = ["LABEL", "MEMBERS", "Pooled", "pooled"]

LABEL: Final = "bench-pool"
"""What the pools show."""
MEMBERS: Final = ("a", "b")
STATUS_DEADLINE: Final = 10.0
"""Seconds that `keyway status` may take."""

_GATEWAY: Final = """\
[log]
format = "json"
[listen]
socket = "{directory}/k.sock"
[limits]
drain = 0
ending = 2
"""
_BACKEND: Final = """\
[backend.{name}]
module = "{home}/{name}.so"
start = "copy"
environment = {{ SOFTHSM2_CONF = "{conf}" }}
"""


@dataclass(frozen=True)
class Pooled:
    """A daemon over copies of the token under test.

    Attributes:
        subject: The way to it.
        daemon: The daemon.
        home: Where its files are.
    """

    subject: Subject
    daemon: Daemon
    home: Path

    @property
    def socket(self) -> Path:
        """Where the daemon listens."""
        return self.home / "k.sock"

    def hosts(self, member: str) -> list[int]:
        """Return the module hosts of a member, spares among them, but not the process that they are copies of."""
        seeds = [child for child in _children(self.daemon.pid) if f"{self.home}/{member}.so" in _command(child)]
        return [copy for seed in seeds for copy in _children(seed)]

    def status(self) -> dict[str, Any]:
        """Return how the pool does."""
        with Client(self.socket, STATUS_DEADLINE) as client:
            _, body = client.exchange(STATUS)
        told: dict[str, Any] = json.loads(body)["pools"][LABEL]
        return told


@contextlib.contextmanager
def pooled(
    name: str,
    environment: Environment,
    directory: Path,
    policy: str = "balance",
    more: str = "",
    backend: str = "",
    variables: Mapping[str, str] | None = None,
) -> Iterator[Pooled]:
    """Run a daemon over copies of the token as it is now.

    Args:
        name: POOL, ONE or PLAIN.
        environment: Token and modules.
        directory: Where a directory for its files is made; a unix socket's path has to be short.
        policy: The pool's policy.
        more: More sections of the configuration.
        backend: More options of the backends.
        variables: What the daemon's environment needs in addition.

    Raises:
        RuntimeError: The daemon does not come up.
    """
    home = Path(tempfile.mkdtemp(dir=directory))
    names = MEMBERS if name == POOL else MEMBERS[:1]
    confs = {member: _copy(home, member) for member in names}
    config = _GATEWAY.format(directory=home)
    for member, conf in confs.items():
        # A path of its own, by which its hosts are known.
        (home / f"{member}.so").symlink_to(environment.direct_module)
        config += _BACKEND.format(name=member, home=home, conf=conf) + backend
    if name == PLAIN:
        config += f'[token.{LABEL}]\nbackend = "a"\nlabel = "{environment.token}"\n'
    else:
        uris = [f'"pkcs11:token={environment.token}?backend={member}"' for member in names]
        config += f'[token.{LABEL}]\nmembers = [{", ".join(uris)}]\npolicy = "{policy}"\n'
    with contextlib.closing(Daemon(home, config + more, variables)) as daemon:
        if why := daemon.start():
            raise RuntimeError(why)
        subject = Subject(
            name,
            environment.keyway_module or Path(),
            {} if name == PLAIN else {"KEYWAY_TOKEN": LABEL},
            server=daemon.pid,
            protocol="native",
            address_variable=("KEYWAY_ADDRESS", "unix:"),
        )
        yield Pooled(subject.through(str(home / "k.sock")), daemon, home)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def _copy(home: Path, member: str) -> Path:
    """Copy the token's files; return the configuration file of a SoftHSM that has the copy."""
    conf = Path(os.environ["SOFTHSM2_CONF"]).read_text()
    tokens = re.search(r"^\s*directories\.tokendir\s*=\s*(.+?)\s*$", conf, re.MULTILINE)
    if tokens is None:
        raise RuntimeError("SOFTHSM2_CONF names no directories.tokendir")
    copy = home / f"tokens-{member}"
    shutil.copytree(tokens[1], copy)
    path = home / f"{member}.conf"
    path.write_text(conf.replace(tokens[1], str(copy)))
    return path
