"""What a module host may do, and how it is told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["LACKING", "Sandbox", "arguments"]

LACKING: Final = "keyway-host: not confined: "
"""What a line of a host's output begins with that says what the kernel can't do and nobody demands."""


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What a host may do; by default all but what no module needs, and the network, which few do.

    Attributes:
        user: Numbers of the user and the group that it becomes.
        own_user: Number of a user that it becomes if it can, and keeps root's way to files. Says nothing with `user`.
        read: What it may read. With this and `write` empty: whatever its user may.
        write: What it may read and change.
        network: Whether it may have sockets other than unix sockets. None: it may not, where the kernel can see to that.
        processes: Whether it may start processes.
        memory: Bytes of its address space. 0: no limit.
        files: Descriptors that it may have open. 0: as many as the daemon.
    """

    user: tuple[int, int] | None = None
    own_user: int | None = None
    read: tuple[Path, ...] = ()
    write: tuple[Path, ...] = ()
    network: bool | None = None
    processes: bool = True
    memory: int = 0
    files: int = 0


def arguments(sandbox: Sandbox | None) -> tuple[str, ...]:
    """Return what the command line of keyway-host says of a sandbox.

    Args:
        sandbox: The sandbox; None: the host is not confined at all.
    """
    if sandbox is None:
        return ("--unconfined",)
    told: list[str] = []
    if sandbox.user is not None:
        told += ("--user", "{}:{}".format(*sandbox.user))
    elif sandbox.own_user is not None:
        told += ("--own-user", str(sandbox.own_user))
    for path in sandbox.read:
        told += ("--read", str(path))
    for path in sandbox.write:
        told += ("--write", str(path))
    if sandbox.network is not None:
        told.append("--network" if sandbox.network else "--no-network")
    if not sandbox.processes:
        told.append("--no-processes")
    if sandbox.memory:
        told += ("--memory", str(sandbox.memory))
    if sandbox.files:
        told += ("--files", str(sandbox.files))
    return tuple(told)
