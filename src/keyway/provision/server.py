"""The HTTP server: connections, and what of a request matters."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from keyway.observe.log import event
from keyway.provision.bearers import Bearers
from keyway.provision.callers import Evidence, Gate, ticket_in
from keyway.provision.dispatch import Dispatcher, Incoming, Outgoing, refusal
from keyway.provision.problems import Problem
from keyway.provision.routes import COMPATIBLE
from keyway.transport.accept import accept
from keyway.transport.errors import AcceptError
from keyway.transport.listen import bound_address, listen
from keyway.transport.peer import certificate_names
from keyway.transport.tls import Credentials

if TYPE_CHECKING:
    from keyway.address import Address
    from keyway.config import ApiOptions
    from keyway.provision.tickets import Tickets

__all__ = ["ApiServer"]

CONNECTIONS: Final = 512
"""Connections at a time. Beyond it the one that has been silent for longest goes."""
SILENCE: Final = 30.0
"""Seconds that a connection may be there without a request, and that a request may take to arrive."""
HANDSHAKE: Final = 10.0
LINGERING: Final = 2.0
"""Seconds in which what is left of a refused body is read, so that its sender can read why."""
LINE: Final = 8190
"""Bytes of the first line of a request, and of each header where no tickets are taken."""


class ApiServer:
    """Listens, and has requests answered.

    Attributes:
        address: Where it listens, with the port that was found if any would do.
    """

    def __init__(self, options: ApiOptions, dispatcher: Dispatcher, bearers: Bearers) -> None:
        """Describe it; `start` opens it.

        Raises:
            KerberosError: The keytab can't be used.
            TlsError: The TLS files can't be used.
        """
        self.address: Address = options.address
        self._options = options
        self._dispatcher = dispatcher
        self._bearers = bearers
        self._gate = Gate(options.anonymous, options.certificate_names, options.principals)
        self._tickets: Tickets | None = None
        line = LINE
        if options.kerberos:
            from keyway.provision import tickets  # What it needs is optional.

            self._tickets = tickets.Tickets(options)
            line = tickets.LINE
        self._credentials = (
            Credentials(
                options,
                is_server=True,
                clients=options.client_certificates,
                report=lambda text: event(logging.WARNING, "TLS files", text=text),
            )
            if options.certificate is not None
            else None
        )
        self._server = _Server(self._handle, line)
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def start(self) -> None:
        """Listen.

        Raises:
            AddressError: It can't be listened on.
        """
        listener = listen(self.address)
        self.address = bound_address(self.address, listener)
        self._start(self._accept(listener))
        event(logging.INFO, "listening", address=str(self.address), protocol="http")

    async def stop(self, seconds: float) -> None:
        """Take no more connections, let the requests under way end, and close.

        Args:
            seconds: How long they have.
        """
        for task in list(self._tasks):
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        self._server.cut_off()
        await self._server.shutdown(LINGERING)

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:
                    # Out of descriptors, mostly: others will be given back.
                    event(logging.WARNING, "connection not accepted", error=error.strerror)
                    await asyncio.sleep(0.1)
                    continue
                connection.setblocking(False)
                if self._credentials is None:
                    await self._take(connection)
                else:
                    self._start(self._take(connection))

    async def _take(self, connection: socket.socket) -> None:
        try:
            await accept(connection, self._server, credentials=self._credentials, seconds=HANDSHAKE)
        except AcceptError as error:
            event(logging.INFO, "connection refused", error=str(error))

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._server.busy(request.protocol)
        self._running += 1
        self._idle.clear()
        caller = proof = ""
        try:
            # Before its body is read: who is not let in need not send it.
            if self._running > self._options.requests:
                raise Problem("overloaded")
            evidence, proof = await self._with_ticket(request)
            caller = self._admit(request, evidence)
            answer = await self._answer(request, caller)
        except Problem as problem:
            answer = refusal(problem)
        finally:
            self._running -= 1
            if self._running == 0:
                self._idle.set()
            self._server.silent(request.protocol)
        event(
            logging.INFO if answer.status < 500 else logging.WARNING,
            "request",
            method=request.method,
            path=_path(request),
            status=answer.status,
            code=answer.code,
            caller=caller,
            ms=round((loop.time() - began) * 1000, 1),
        )
        headers = dict(answer.headers)
        if answer.content_type:
            headers["Content-Type"] = answer.content_type
        if proof:
            headers["WWW-Authenticate"] = proof
            # Clients such as curl would take the connection for theirs from here on, and show no other ticket.
            headers["Persistent-Auth"] = "false"
        elif self._tickets is not None and "WWW-Authenticate" in headers:
            headers["WWW-Authenticate"] = f"Negotiate, {headers['WWW-Authenticate']}"
        # Certificates and keys change; answers are of the moment.
        headers["Cache-Control"] = "no-store"
        response = web.Response(status=answer.status, body=answer.body or None, headers=headers)
        if not request.content.at_eof():
            response.force_close()
        return response

    async def _with_ticket(self, request: web.BaseRequest) -> tuple[Evidence, str]:
        """Return what a request shows of its sender, and the header that proves to a sender with a ticket who answers."""
        shown = _evidence(request)
        if self._tickets is None or (token := ticket_in(shown.authorization)) is None:
            return shown, ""
        tls = request.transport.get_extra_info("sslcontext") if request.transport is not None else None
        principal, proof = await self._tickets.accept(token, tls)
        return replace(shown, authorization=None, principal=principal), proof

    def _admit(self, request: web.BaseRequest, evidence: Evidence) -> str:
        is_compatible = request.raw_path.startswith(COMPATIBLE)
        return self._gate.admit(evidence, self._bearers.known(), is_compatible=is_compatible)

    async def _answer(self, request: web.BaseRequest, caller: str) -> Outgoing:
        path, _, query = request.raw_path.partition("?")
        if not path.startswith("/"):
            raise Problem("malformed-request", "the target must be a path")
        if query:
            raise Problem("malformed-request", "no path has a query")
        body = await _body(request, self._options.body)
        method = "GET" if request.method == "HEAD" else request.method
        headers = {name: request.headers[name] for name in _HEADERS if name in request.headers}
        return await self._dispatcher.answer(Incoming(method, path, headers, body), caller)


_HEADERS: Final = ("content-type", "idempotency-key", "keyway-pin", "keyway-pin-ref")


def _path(request: web.BaseRequest) -> str:
    """Return the path for the log; a query may hold anything, and is not shown."""
    return request.raw_path.partition("?")[0]


def _evidence(request: web.BaseRequest) -> Evidence:
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    names = certificate_names(certificate) if certificate else ()
    return Evidence(
        authorization=request.headers.get("Authorization"),
        certificate=names[0] if names else ("without a name" if certificate else ""),
        host=request.headers.get("Host", ""),
        has_origin="Origin" in request.headers,
    )


async def _body(request: web.BaseRequest, limit: int) -> bytes:
    if (request.content_length or 0) > limit:
        raise Problem("body-too-large", f"{limit} bytes at most")
    if request.content.is_eof():
        # It has come with the headers, as most do.
        data = request.content.read_nowait()
        if len(data) > limit:
            raise Problem("body-too-large", f"{limit} bytes at most")
        return data
    read = bytearray()
    try:
        async with asyncio.timeout(SILENCE):
            async for chunk in request.content.iter_any():
                read += chunk
                if len(read) > limit:
                    raise Problem("body-too-large", f"{limit} bytes at most")
    except TimeoutError:
        raise Problem("malformed-request", "the body did not arrive") from None
    except (web.PayloadAccessError, HttpProcessingError, OSError):
        raise Problem("malformed-request", "the body can't be read") from None
    return bytes(read)


class _Server(web.Server):
    """Cuts off connections that are silent for too long, and the most silent one when there are too many."""

    def __init__(self, handle: Callable[[web.BaseRequest], Any], line: int) -> None:
        super().__init__(
            handle,
            access_log=None,
            logger=_LOG,
            max_line_size=LINE,
            max_field_size=line,
            lingering_time=LINGERING,
            auto_decompress=False,
            tcp_keepalive=False,
        )
        self._open: dict[Any, asyncio.Transport] = {}
        self._silent: dict[Any, asyncio.TimerHandle] = {}

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self._open) >= CONNECTIONS and self._silent:
            self._cut_off(next(iter(self._silent)))
        self._open[handler] = transport
        self.silent(handler)

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self.busy(handler)
        self._open.pop(handler, None)

    def busy(self, handler: Any) -> None:
        """A request has begun."""
        if (timer := self._silent.pop(handler, None)) is not None:
            timer.cancel()

    def silent(self, handler: Any) -> None:
        """There is no request."""
        if handler in self._open and handler not in self._silent:
            self._silent[handler] = asyncio.get_running_loop().call_later(SILENCE, self._cut_off, handler)

    def cut_off(self) -> None:
        """Cut off all connections."""
        for handler in list(self._open):
            self._cut_off(handler)

    def _cut_off(self, handler: Any) -> None:
        self.busy(handler)
        if (transport := self._open.pop(handler, None)) is not None:
            transport.abort()


class _Defects(logging.Handler):
    """Turns what aiohttp logs into events. What is wrong with a request is its sender's business, and may quote it."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or isinstance(error, HttpProcessingError):
            event(logging.DEBUG, "bad HTTP request", error=type(error).__name__)
        else:
            event(logging.ERROR, "internal error", task="http", error=type(error).__name__)


_LOG: Final = logging.getLogger("keyway.api.http")
_LOG.propagate = False
_LOG.handlers[:] = [_Defects()]
