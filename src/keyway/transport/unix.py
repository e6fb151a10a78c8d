"""Listening on a unix socket."""

import errno
import grp
import os
import socket
import stat
from pathlib import Path
from typing import Final

from keyway.transport.errors import AddressError

__all__ = ["MAX_PATH", "AddressError", "listen", "permit"]

BACKLOG: Final = 512
MAX_PATH: Final = 107
"""Bytes that a socket's path may have: sun_path of Linux, less its terminator."""


def listen(path: Path, mode: int, group: str = "") -> socket.socket:
    """Create a unix socket, bind it and listen.

    A socket that a dead daemon left there is replaced; one that a daemon answers on is not, and neither is any other file.

    Args:
        path: Where.
        mode: Permissions.
        group: Group that shall own it; empty for the process's own.

    Raises:
        AddressError: It can't be done.
    """
    if len(os.fsencode(path)) > MAX_PATH:
        raise AddressError(f"{path}: too long for a unix socket, {MAX_PATH} bytes at most")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _remove_stale(path)
        # Created with no permissions for others, so that nobody gets in before mode and group are set.
        mask = os.umask(0o777)
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        permit(path, mode, group or None)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise AddressError(f"{path}: {error.strerror}") from error
    except AddressError:
        listener.close()
        raise
    return listener


def permit(path: Path, mode: int, group: str | None) -> None:
    """Set who may connect to a socket.

    Args:
        path: Where it is.
        mode: Permissions.
        group: Group that shall own it; empty for the process's own, None for the one that does.

    Raises:
        AddressError: It can't be done.
    """
    try:
        if group is not None:
            os.chown(path, -1, grp.getgrnam(group).gr_gid if group else os.getegid())
        path.chmod(mode)
    except KeyError as error:
        raise AddressError(f"{path}: there is no group {group}") from error
    except OSError as error:
        raise AddressError(f"{path}: {error.strerror}") from error


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise AddressError(f"{path}: there is a file which is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        refused = probe.connect_ex(str(path))
    if refused != errno.ECONNREFUSED:
        raise AddressError(f"{path}: another daemon listens there")
    path.unlink()
