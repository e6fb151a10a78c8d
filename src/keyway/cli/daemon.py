"""A daemon for the commands that run one."""

import os
from importlib.metadata import version
from pathlib import Path

from keyway.backend.process import INHERITED
from keyway.config import Config
from keyway.daemon.server import Daemon
from keyway.transport.listen import inherited as listening_sockets

__all__ = ["make_daemon"]


def make_daemon(config: Config, binary: Path) -> Daemon:
    """Return a daemon with what it needs of this process. Needs a running loop.

    Args:
        config: The configuration.
        binary: Path of keyway-host.
    """
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return Daemon(config, binary, inherited, version("keyway"), listening_sockets(os.environ, os.getpid()))
