"""What monitoring asks over HTTP: metrics, health, readiness.

Nobody needs to be trusted here: a connection has one request, little time and little room, and there are few connections at a time.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from keyway.config import ViewTarget, target_of
from keyway.daemon.status import status
from keyway.daemon.trial import try_backend
from keyway.observe.log import event
from keyway.observe.metrics_text import CONTENT_TYPE, metrics_text
from keyway.transport.listen import bound_address, listen

if TYPE_CHECKING:
    from keyway.address import Address, Tcp
    from keyway.config import Config
    from keyway.daemon.server import Daemon

__all__ = ["Monitor", "unserved"]

CONNECTIONS: Final = 32
"""Connections at a time. Beyond it the oldest one goes: whoever is silent keeps nobody out."""
SECONDS: Final = 10.0
"""What a connection has from its beginning to its end, however fast the other side reads and writes."""
LINE: Final = 4096
"""Bytes of the first line of a request, and of each header."""
AGE: Final = 1.0
"""Seconds for which metrics are not made anew, so that asking often costs the daemon little."""


class Monitor:
    """Answers monitoring.

    Attributes:
        address: Where it listens, with the port that was found if any would do.
    """

    def __init__(self, daemon: Daemon, address: Tcp) -> None:
        """Describe the place; `start` opens it."""
        self.address: Address = address
        self._daemon = daemon
        self._listening: asyncio.Server | None = None
        self._server = _Server(self._handle)
        self._draining = False
        self._metrics = b""
        self._made = float("-inf")
        self._trials: set[str] = set()

    async def start(self) -> None:
        """Listen.

        Raises:
            AddressError: It can't be listened on.
        """
        listener = listen(self.address)
        self.address = bound_address(self.address, listener)
        self._listening = await asyncio.get_running_loop().create_server(self._server, sock=listener)
        event(logging.INFO, "listening", address=str(self.address), protocol="http")

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._server.connections)

    def drain(self) -> None:
        """Be ready no more: the daemon takes no more clients."""
        self._draining = True

    async def close(self) -> None:
        """Listen no more, and cut off who is still connected."""
        if self._listening is not None:
            self._listening.close()
            self._server.cut_off()
            await self._server.shutdown(SECONDS)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        make = _PATHS.get(request.path)
        if make is None:
            response = web.Response(status=404, text=f"there are {', '.join(_PATHS)}\n")
        elif request.method not in ("GET", "HEAD"):
            response = web.Response(status=405, headers={"Allow": "GET, HEAD"})
        else:
            response = make(self)
        response.force_close()
        return response

    def _answer_metrics(self) -> web.Response:
        daemon = self._daemon
        if daemon.now() - self._made >= AGE:
            self._metrics = metrics_text(status(daemon), daemon.counters)
            self._made = daemon.now()
        return web.Response(body=self._metrics, headers={"Content-Type": CONTENT_TYPE})

    def _answer_health(self) -> web.Response:
        return web.Response(text="ok\n")

    def _answer_ready(self) -> web.Response:
        told = status(self._daemon)
        missing = unserved(self._daemon.config, told)
        for backend in missing["backends"]:
            self._try(backend)
        is_ready = not self._draining and not any(missing.values())
        text = json.dumps({"ready": is_ready, "draining": self._draining, **missing})
        return web.Response(status=200 if is_ready else 503, text=text + "\n", content_type="application/json")

    def _try(self, name: str) -> None:
        """Try a backend that failed: clients would, but while this gateway is not ready there may be none."""
        if name in self._trials or self._draining:
            return
        self._trials.add(name)
        task = self._daemon.tasks.start(try_backend(self._daemon.backends[name]), f"trial of {name}")
        task.add_done_callback(lambda _: self._trials.discard(name))


_PATHS: Final[Mapping[str, Callable[[Monitor], web.Response]]] = {
    "/metrics": Monitor._answer_metrics,
    "/health": Monitor._answer_health,
    "/ready": Monitor._answer_ready,
}


def unserved(config: Config, told: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what clients shall see and can't use at present: `tokens` and `backends` that were named, in the order of the file.

    A pool can be used if one of its members serves: one that is suspect still does. Another token can be used unless the last attempt to reach its backend failed; so can
    the tokens of all backends if no token is configured. A token with views can be used if one of those that its PINs lead to can be.

    Args:
        config: The configuration.
        told: The daemon's status.
    """
    pools = told.get("pools", {})
    backends = told.get("backends", {})
    failed = {name for name in config.backends if backends.get(name, {}).get("error")}
    targets = {
        name: [target_of(config.views[view], config) for view in token.views]
        if token.has_views
        else [ViewTarget(pool=name) if token.is_pool else ViewTarget(backend=token.backend)]
        for name, token in config.tokens.items()
    }
    used = {target.backend for each in targets.values() for target in each}
    needed = used if config.tokens else set(config.backends)

    def serves(target: ViewTarget) -> bool:
        return _serves(pools.get(target.pool, {})) if target.pool else target.backend not in failed

    return {
        "tokens": [name for name in config.tokens if not any(map(serves, targets[name]))],
        "backends": [name for name in config.backends if name in failed & needed],
    }


def _serves(pool: Mapping[str, Any]) -> bool:
    return any(
        member.get("state") in ("up", "suspect") and not member.get("drained") and not member.get("parked")
        for member in pool.get("members", ())
    )


class _Server(web.Server):
    """Cuts off connections that take too long, and the oldest when there are too many."""

    def __init__(self, handle: Callable[[web.BaseRequest], Any]) -> None:
        super().__init__(
            handle,
            access_log=None,
            logger=_LOG,
            max_line_size=LINE,
            max_field_size=LINE,
            lingering_time=0.0,
            auto_decompress=False,
        )
        self._open: dict[web.RequestHandler, tuple[asyncio.Transport, asyncio.TimerHandle]] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._open) >= CONNECTIONS:
            self._cut_off(next(iter(self._open)))
        # However slowly somebody reads or writes; aiohttp itself waits for ever in some places.
        timer = asyncio.get_running_loop().call_later(SECONDS, self._cut_off, handler)
        self._open[handler] = (transport, timer)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        if (found := self._open.pop(handler, None)) is not None:
            found[1].cancel()

    def cut_off(self) -> None:
        """Cut off all connections."""
        for handler in list(self._open):
            self._cut_off(handler)

    def _cut_off(self, handler: web.RequestHandler) -> None:
        transport, timer = self._open.pop(handler)
        timer.cancel()
        transport.abort()


class _Defects(logging.Handler):
    """Turns what aiohttp logs into events. What is wrong with a request is its sender's business, and may quote it."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or isinstance(error, HttpProcessingError):
            event(logging.DEBUG, "bad HTTP request", error=type(error).__name__)
        else:
            event(logging.ERROR, "internal error", task="http", error=type(error).__name__)


_LOG: Final = logging.getLogger("keyway.http")
_LOG.propagate = False
_LOG.handlers[:] = [_Defects()]
