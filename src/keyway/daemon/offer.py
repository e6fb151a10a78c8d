"""Offering this gateway's tokens to one that can't reach it: connections are opened from here, and served as if they had come in."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import ssl
from typing import TYPE_CHECKING, Final

from keyway.address import Tls
from keyway.backend.greeting import describe_error
from keyway.daemon.client import ClientConnection
from keyway.observe.log import event
from keyway.transport.connect import connect
from keyway.transport.errors import AddressError, ConnectError, KerberosError, TlsError
from keyway.transport.kerberos import Initiator
from keyway.transport.tls import Credentials, describe_refusal

if TYPE_CHECKING:
    from keyway.config import OfferOptions
    from keyway.daemon.server import Daemon

__all__ = ["Offer", "pause_after"]

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
PROOF: Final = 1.0
"""Seconds after which a connection counts as a success. With TLS 1.3 one that is refused is made first, and ends then."""
DIAL_TIME: Final = 15.0
"""Seconds that connecting may take."""


def pause_after(failures: int, luck: float) -> float:
    """Return how many seconds to wait after so many failures in a row.

    Args:
        failures: How many.
        luck: From 0 to 1: so that many gateways do not come back in the same moment.
    """
    if failures == 0:
        return 0.0
    return min(FIRST_PAUSE * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE) * (0.5 + luck / 2)


class Offer:
    """Keeps some connections to a gateway waiting for its clients.

    Attributes:
        name: Its name in the configuration.
        options: Its section of the configuration.
        view: What clients see that come this way.
        contexts: How many contexts they may have at a time; 0 for no limit but that for all.
        is_offer: That it is one, and no listener.
    """

    is_offer = True

    def __init__(self, daemon: Daemon, name: str, options: OfferOptions) -> None:
        """Describe it; `run` opens the connections."""
        self.name = name
        self.view = daemon.view(options)
        self.contexts = options.contexts
        self._daemon = daemon
        self.options = options
        self._waiting: set[OfferedConnection] = set()
        self._missing = asyncio.Event()
        self._failures = 0
        self._error = ""
        self._is_up = False
        self._is_closed = False
        self._credentials: Credentials | None = None
        self._kerberos: Initiator | None = None
        try:
            if isinstance(options.to, Tls):
                self._credentials = Credentials(options, is_server=False, report=self._report)
            if options.speaks_kerberos:
                self._kerberos = Initiator(options.service, options.to.host, options.keytab)
        except (TlsError, KerberosError) as error:
            raise AddressError(f"{options.to}: {error}") from error

    async def run(self) -> None:
        """Connect whenever a connection is missing; runs until cancelled, or closed."""
        while not self._is_closed:
            if len(self._waiting) < self.options.spares:
                await asyncio.sleep(pause_after(self._failures, random.random()))  # noqa: S311
                await self._open()
            else:
                self._missing.clear()
                await self._missing.wait()

    def close(self) -> None:
        """Connect no more, and end the connections that wait. Those that have been taken stay."""
        self._is_closed = True
        self._missing.set()
        for connection in list(self._waiting):
            connection.abort()

    def status(self) -> dict[str, object]:
        """Return how it goes, for `keyway status`."""
        return {"to": str(self.options.to), "waiting": len(self._waiting), "error": self._error}

    def taken(self, connection: OfferedConnection) -> None:
        """Note that a client uses a connection from here on."""
        self._works()
        self._waiting.discard(connection)
        self._missing.set()

    def lost(self, connection: OfferedConnection, error: Exception | None) -> None:
        """Note that a connection has ended."""
        if connection not in self._waiting:
            return
        self._waiting.discard(connection)
        self._missing.set()
        self._failed(self._reason(error))

    async def _open(self) -> None:
        options = self.options
        try:
            _, connection = await connect(
                options.to,
                lambda: OfferedConnection(self._daemon, self),
                credentials=self._credentials,
                server_name=options.server_name,
                kerberos=self._kerberos,
                seconds=DIAL_TIME,
            )
        except ConnectError as error:
            self._failed(str(error).removeprefix(f"{options.to}: "))
            return
        if self._is_closed:
            connection.abort()
        elif connection.is_lost:
            self._failed(self._reason(connection.error))
        elif connection.transport.is_closing():
            self._failed("too many clients are connected here")
        else:
            self._waiting.add(connection)
            if not self._is_up:
                await asyncio.wait([connection.decided], timeout=PROOF)
                if connection in self._waiting:
                    self._works()

    def _reason(self, error: Exception | None) -> str:
        if isinstance(error, ssl.SSLError):
            return describe_refusal(error)
        if not self._is_up:
            wanted = "offered_principal = our principal" if self._kerberos else "offered = the name in our certificate"
            return f"it closes the connection: does one of its backends have {wanted}?"
        return f"the connection broke: {describe_error(error)}" if error is not None else "it closed the connection"

    def _works(self) -> None:
        self._failures = 0
        self._error = ""
        if not self._is_up:
            self._is_up = True
            event(logging.INFO, "tokens offered", offer=self.name, to=str(self.options.to))

    def _failed(self, reason: str) -> None:
        if self._is_closed:
            return
        self._failures += 1
        self._error = reason
        # Told once until it works again: the attempts go on.
        if self._is_up or self._failures == 1:
            event(logging.WARNING, "tokens not offered", offer=self.name, to=str(self.options.to), reason=reason)
        self._is_up = False

    def _report(self, what: str) -> None:
        event(logging.WARNING, "TLS files", offer=self.name, what=what)


class OfferedConnection(ClientConnection):
    """A connection that was opened from here, and waits for the gateway at the other end to use it.

    Attributes:
        decided: Done when a client uses it, or it has ended.
        is_lost: Whether it has ended.
        error: Why it has, if none of the two ends wanted it.
    """

    def __init__(self, daemon: Daemon, offer: Offer) -> None:
        super().__init__(daemon, offer)
        self.decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_lost = False
        self.error: Exception | None = None
        self._offer = offer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a client as long as it takes."""
        super().connection_made(transport)
        self.since = math.inf

    def data_received(self, data: bytes) -> None:
        """Take the first byte for the sign that a client is there."""
        if not self.decided.done():
            self.decided.set_result(None)
            self.since = self.daemon.now()
            self._offer.taken(self)
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the offer."""
        super().connection_lost(exc)
        self.is_lost = True
        self.error = exc
        self._offer.lost(self, exc)
        if not self.decided.done():
            self.decided.set_result(None)
