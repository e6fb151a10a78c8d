"""Control calls that take their time: what is told comes in steps, each of them a reply."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from keyway.cryptoki import RV
from keyway.daemon.link import Frame, reply_frame

if TYPE_CHECKING:
    from keyway.daemon.connection import Connection
    from keyway.daemon.server import Daemon

__all__ = ["Asking", "Refusal"]


class Refusal(Exception):
    """Something that can't be done as it was asked for. The text says why."""


class Asking:
    """Knows who is being told."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._tasks: dict[Connection, set[asyncio.Task[None]]] = {}

    def __contains__(self, client: Connection) -> bool:
        return client in self._tasks

    def start(self, client: Connection, request: Frame, steps: AsyncIterator[Mapping[str, Any]], name: str) -> None:
        """Tell a client what comes, until there is no more, or the client has gone.

        Args:
            client: Who asks.
            request: The request's header.
            steps: What to tell. May raise Refusal.
            name: What it is, for the log.
        """
        task = self._daemon.tasks.start(_tell(client, request, steps), name)
        self._tasks.setdefault(client, set()).add(task)
        task.add_done_callback(lambda task: self._done(client, task))

    def leave(self, client: Connection) -> None:
        """Take note that a client has gone."""
        for task in self._tasks.get(client, ()):
            task.cancel()

    def close(self) -> None:
        """End the connections of those that are being told."""
        for client in self._tasks:
            client.close()

    def _done(self, client: Connection, task: asyncio.Task[None]) -> None:
        self._tasks[client].discard(task)
        if not self._tasks[client]:
            del self._tasks[client]


async def _tell(client: Connection, request: Frame, steps: AsyncIterator[Mapping[str, Any]]) -> None:
    end = reply_frame(request, RV.CKR_GENERAL_ERROR)  # Whoever waits learns of a defect as well.
    try:
        async for step in steps:
            client.transport.write(reply_frame(request, RV.CKR_OK, json.dumps(step).encode()))
        end = b""
    except Refusal as refusal:
        end = reply_frame(request, RV.CKR_ARGUMENTS_BAD, json.dumps({"error": str(refusal)}).encode())
    finally:
        if end and not client.transport.is_closing():
            client.transport.write(end)
