"""Bytes from a port or socket to the daemon's unix socket and back: TLS that is not Keyway's own, and failures on demand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path

PIECE = 65_536


class Relay:
    """A relay in a thread of its own.

    Args:
        daemon: The daemon's socket.
        context: Makes it TLS.
        path: Listens on this unix socket instead of a port.
        port: The port; 0 for any free one.
        host: The IP address of the port.
    """

    def __init__(
        self,
        daemon: Path,
        context: ssl.SSLContext | None = None,
        path: Path | None = None,
        port: int = 0,
        host: str = "127.0.0.1",
    ) -> None:
        self.requested = 0
        """Bytes that came from clients."""
        self.connections = 0
        """Connections accepted, after their handshakes."""
        self._daemon, self._context = daemon, context
        self._writers: set[asyncio.StreamWriter] = set()
        self._muted = False
        self._loop = asyncio.new_event_loop()
        # A handshake that fails is what some tests are about.
        self._loop.set_exception_handler(lambda *_: None)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._run(self._listen(path, host, port))
        self.port: int = 0 if path else self._server.sockets[0].getsockname()[1]

    def mute(self) -> None:
        """Let requests pass, and no reply any more."""
        self._muted = True

    def cut(self) -> None:
        """Break all connections; new ones are served again."""
        self._run(self._cut())

    def part(self) -> None:
        """Close all connections politely."""
        self._run(self._part())

    def close(self) -> None:
        """Break all connections and listen no more."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _listen(self, path: Path | None, host: str, port: int) -> asyncio.Server:
        if path:
            return await asyncio.start_unix_server(self._serve, path)
        return await asyncio.start_server(self._serve, host, port, ssl=self._context)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        behind, before = await asyncio.open_unix_connection(self._daemon)
        both = {writer, before}
        self._writers |= both
        with contextlib.suppress(OSError):
            await asyncio.gather(self._requests(reader, before), self._replies(behind, writer))
        for each in both:
            each.close()
        self._writers -= both

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            self.requested += len(data)
            writer.write(data)
            await writer.drain()
        writer.close()

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            if not self._muted:
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        # Before the next connection is accepted.
        self._muted = False

    async def _part(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.contextmanager
def doorkeeper(context: ssl.SSLContext) -> Iterator[int]:
    """A port behind which there is a handshake and nothing else; its port. Unlike asyncio, it sends alerts."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_shake_hands, args=(listening, context))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def _shake_hands(listening: socket.socket, context: ssl.SSLContext) -> None:
    # Until it is shut down.
    with contextlib.suppress(OSError):
        while True:
            accepted, _ = listening.accept()
            with accepted, contextlib.suppress(OSError), context.wrap_socket(accepted, server_side=True) as secured:
                secured.recv(1)
