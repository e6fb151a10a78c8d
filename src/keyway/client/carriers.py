"""The two ways of a request: HTTP, and the daemon's socket without HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ssl
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from keyway.address import Unix
from keyway.client.errors import ClientError
from keyway.provision.compatible import Defaults
from keyway.provision.dispatch import Incoming, make_dispatcher
from keyway.provision.pins import PinBook
from keyway.provision.service import Service

if TYPE_CHECKING:
    from keyway.client.tickets import Tickets

__all__ = ["Carrier", "HttpCarrier", "SocketCarrier"]

MAX_ANSWER: Final = 16_777_216
"""Bytes of the longest answer that is read."""


class Carrier(Protocol):
    """Takes requests to where they are answered."""

    def carry(self, request: Incoming) -> tuple[int, bytes]:
        """Return status and body of the answer.

        Raises:
            OSError: There is nobody who answers.
        """

    def close(self) -> None:
        """Let go of what is kept."""


class HttpCarrier:
    """By HTTP, to `keyway api`."""

    def __init__(
        self, url: str, bearer: str, tls: ssl.SSLContext | None, timeout: float, *, kerberos: bool = False
    ) -> None:
        """Describe it; it connects when there is a request.

        Args:
            url: http://host:port or https://host:port.
            bearer: The caller's bearer token; empty for none.
            tls: For https.
            timeout: Seconds that connecting, and each wait for data, may take.
            kerberos: Whether the caller shows a Kerberos ticket with each request, in place of a bearer token.

        Raises:
            ValueError: The URL is none, or the library for Kerberos is missing.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError(f"{url}: must be http://host:port or https://host:port")
        self._is_secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._tls = tls
        self._timeout = timeout
        self._headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        self._tickets: Tickets | None = None
        if kerberos:
            from keyway.client.tickets import Tickets  # What it needs is optional.

            self._tickets = Tickets(parts.hostname)
        self._connection: http.client.HTTPConnection | None = None

    def carry(self, request: Incoming) -> tuple[int, bytes]:
        """Send a request. One whose connection broke is sent once more: its Idempotency-Key sees to it that nothing is done twice."""
        try:
            return self._exchange(request)
        except (ConnectionError, http.client.BadStatusLine):
            self.close()
            return self._exchange(request)

    def _exchange(self, request: Incoming) -> tuple[int, bytes]:
        connection = self._connection or self._connect()
        self._connection = connection
        headers = {**request.headers, **self._headers}
        proof = None
        try:
            if self._tickets is not None:
                if connection.sock is None:
                    connection.connect()
                proof = self._tickets.show(connection.sock)
                headers["Authorization"] = proof.header
            connection.request(request.method, request.path, request.body or None, headers)
            response = connection.getresponse()
            body = response.read(MAX_ANSWER)
        except http.client.BadStatusLine:
            raise
        except http.client.HTTPException as error:
            self.close()
            raise ClientError("malformed-answer", 0, "the answer is no HTTP") from error
        except OSError:
            self.close()
            raise
        if response.will_close:
            self.close()
        # Who refuses may not have looked at the ticket.
        if proof is not None and response.status < http.HTTPStatus.BAD_REQUEST:
            proof.check(response.getheader("WWW-Authenticate"))
        return response.status, body

    def _connect(self) -> http.client.HTTPConnection:
        if self._is_secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)

    def close(self) -> None:
        """Close the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class SocketCarrier:
    """Over the daemon's socket: what `keyway api` does is done in this process."""

    def __init__(self, path: str) -> None:
        """Args: path: The daemon's socket."""
        self._runner = asyncio.Runner()
        pins = PinBook({})

        async def begin() -> Service:
            return Service(Unix(path), pins)

        self._service = self._runner.run(begin())
        self._dispatcher = make_dispatcher(self._service, pins, Defaults(), "")

    def carry(self, request: Incoming) -> tuple[int, bytes]:
        """Have a request answered."""
        answer = self._runner.run(self._dispatcher.answer(request, "local"))
        return answer.status, answer.body

    def close(self) -> None:
        """End the contexts that are open."""

        async def end() -> None:
            self._service.close()

        with contextlib.suppress(RuntimeError):
            self._runner.run(end())
        self._runner.close()
