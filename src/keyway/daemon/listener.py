"""One place where clients connect."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyway.address import Unix
from keyway.daemon.client import ClientConnection
from keyway.daemon.p11kit_client import P11KitConnection
from keyway.observe.log import event
from keyway.transport.unix import listen

if TYPE_CHECKING:
    from keyway.config import ListenerOptions
    from keyway.daemon.connection import Connection
    from keyway.daemon.server import Daemon
    from keyway.daemon.view import View

__all__ = ["Listener"]

_PROTOCOLS: Final[Mapping[str, type[Connection]]] = {"keyway": ClientConnection, "p11-kit": P11KitConnection}


class Listener:
    """Accepts connections.

    Attributes:
        name: Its name in the configuration; empty for that of [listen].
        options: Its section of the configuration.
        view: What clients see that connect here.
    """

    def __init__(self, daemon: Daemon, name: str, options: ListenerOptions, view: View) -> None:
        """Describe the place; `start` opens it."""
        self.name = name
        self.options = options
        self.view = view
        self._daemon = daemon
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            AddressError: It can't be listened on.
        """
        address = self.options.address
        assert isinstance(address, Unix)
        listener = listen(Path(address.path), self.options.mode, self.options.group)
        connection = _PROTOCOLS[self.options.protocol]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: connection(self._daemon, self), sock=listener)
        event(logging.INFO, "listening", address=str(address), protocol=self.options.protocol)

    def close(self) -> None:
        """Take no more clients. Those that are there stay."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        if isinstance(self.options.address, Unix):
            Path(self.options.address.path).unlink(missing_ok=True)
