"""A connection that GSS-API protects: the handshake, and a transport that seals what is written (docs/wire.md, section 10)."""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol, TypeVar, cast

from keyway.transport.before import TransportBefore
from keyway.transport.errors import GssError
from keyway.transport.pieces import MAX_PLAIN, MAX_RECORD, Pieces, piece
from keyway.transport.thread import in_thread

__all__ = ["GssTransport", "Handshake", "Mechanism", "Party", "secure"]

MAX_STEPS: Final = 4
"""Steps of one end after which the handshake must be done. With Kerberos the end that begins needs two, the other one."""

_AnyProtocol = TypeVar("_AnyProtocol", bound=asyncio.Protocol)


class Mechanism(Protocol):
    """One end of one connection.

    Attributes:
        is_complete: Whether the other end is known, so that records may be sent.
        peer: The name of the other end, as soon as that is so.
        lifetime: Seconds that its credentials are good for from then on.
    """

    is_complete: bool
    peer: str
    lifetime: float

    def step(self, token: bytes) -> bytes:
        """Go on with the handshake; may block.

        Args:
            token: What the other end has sent; empty for the first step of the end that begins.

        Returns:
            What to send; empty for nothing.

        Raises:
            GssError: It fails.
        """

    def wrap(self, data: bytes) -> bytes:
        """Return a record.

        Raises:
            GssError: It can't be made.
        """

    def unwrap(self, record: bytes) -> bytes:
        """Return what is in a record.

        Raises:
            GssError: It was damaged, forged, not encrypted, or is not the next one.
        """


class Party(Protocol):
    """What one end has for all its connections: credentials, and the name of whom it talks to."""

    def begin(self, binding: bytes) -> Mechanism:
        """Return what a new connection needs.

        Args:
            binding: What both ends know of the channel below, which they must agree on (RFC 5056); empty for none.
        """


class Handshake(asyncio.Protocol):
    """The protocol of a connection until its peer is known: one token at a time, and no reading ahead of it.

    Attributes:
        pieces: What was received and not used.
        transport: The connection.
        has_ended: Whether the other end has ended it.
    """

    def __init__(self) -> None:
        self.pieces = Pieces()
        self.transport: asyncio.Transport
        self.has_ended = False
        self._news: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note where tokens go."""
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Keep bytes, and read no more until they are looked at."""
        self.pieces.feed(data)
        self.transport.pause_reading()
        self._tell()

    def eof_received(self) -> None:
        """Note that no more tokens come."""
        self.has_ended = True
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the same."""
        self.has_ended = True
        self._tell()

    async def token(self) -> bytes:
        """Return the next token.

        Raises:
            GssError: None comes, or it is none.
        """
        while (token := self.pieces.take()) is None:
            self.check()
            self._news = asyncio.get_running_loop().create_future()
            self.transport.resume_reading()
            await self._news
        return token

    def check(self) -> None:
        """See whether the connection is still there.

        Raises:
            GssError: It is not.
        """
        if self.has_ended or self.transport.is_closing():
            raise GssError("it ended the connection during the handshake")

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


async def secure(
    handshake: Handshake,
    mechanism: Mechanism,
    factory: Callable[[], _AnyProtocol],
    *,
    begins: bool,
    seals: bool = True,
    outlives: bool = True,
) -> tuple["GssTransport", _AnyProtocol]:
    """Return the protected transport of a connection, with its protocol, after the handshake.

    Args:
        handshake: The connection's protocol so far. If it fails, the connection is closed.
        mechanism: This end.
        factory: Makes the protocol.
        begins: Whether this end sends the first token.
        seals: Whether what is sent from then on is sealed; not if the channel below does so already.
        outlives: Whether the connection may go on when the other end's credentials have expired.

    Raises:
        GssError: It fails.
    """
    transport = handshake.transport
    try:
        for number in range(MAX_STEPS):
            token = b"" if begins and number == 0 else await handshake.token()
            answer = await in_thread(partial(mechanism.step, token))
            handshake.check()
            if answer:
                transport.write(piece(answer))
                handshake.check()
            if mechanism.is_complete:
                break
        else:
            raise GssError("the handshake takes too many steps")
    except BaseException as error:
        if isinstance(error, GssError) and error.token and not transport.is_closing():
            transport.write(piece(error.token))
            transport.close()
        else:
            transport.abort()
        raise
    protocol = factory()
    transport.pause_reading()
    seconds = math.inf if outlives else mechanism.lifetime
    seal = mechanism if seals else None
    return GssTransport(transport, handshake.pieces, seal, mechanism.peer, protocol, seconds), protocol


class GssTransport(TransportBefore, asyncio.Protocol):
    """A transport that seals what is written, and the protocol of the real transport below it, which gets records."""

    def __init__(
        self,
        transport: asyncio.Transport,
        pieces: Pieces,
        mechanism: Mechanism | None,
        principal: str,
        protocol: asyncio.Protocol,
        seconds: float = math.inf,
    ) -> None:
        """Put itself in front of a transport, and begin to read.

        Args:
            transport: The real one, not reading.
            pieces: What was received behind the handshake.
            mechanism: Seals and opens records; None if the real transport protects what it sends.
            principal: The name of the other end.
            protocol: Who gets what is in the records.
            seconds: After which the connection is broken off, since the other end's ticket has expired then.
        """
        super().__init__(transport, protocol)
        self._pieces = pieces
        self._mechanism = mechanism
        self._principal = principal
        self._error: GssError | None = None
        self._expiry: asyncio.TimerHandle | None = None
        if seconds < math.inf:
            expired = GssError("the ticket has expired")
            self._expiry = asyncio.get_running_loop().call_later(seconds, self._break, expired)
        pieces.limit = MAX_RECORD
        transport.set_protocol(self)
        protocol.connection_made(self)
        if self._is_reading and not transport.is_closing():
            self.resume_reading()

    # For the protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Seal bytes and send them."""
        if self._transport.is_closing() or not data:
            return
        if self._mechanism is None:
            self._transport.write(data)
            return
        wrap = self._mechanism.wrap
        try:
            if len(data) <= MAX_PLAIN:
                self._transport.write(piece(wrap(bytes(data))))
            else:
                parts = [bytes(data[at : at + MAX_PLAIN]) for at in range(0, len(data), MAX_PLAIN)]
                self._transport.write(b"".join(piece(wrap(part)) for part in parts))
        except GssError as error:
            self._break(error)

    def resume_reading(self) -> None:
        """Deliver again."""
        if self._pieces:
            asyncio.get_running_loop().call_soon(self._deliver)
        super().resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known of the connection: `principal` is the name of the other end, the rest is told by the real transport."""
        return self._principal if name == "principal" else super().get_extra_info(name, default)

    # For the real transport

    def data_received(self, data: bytes) -> None:
        """Open the records that are complete, and deliver what is in them."""
        self._pieces.feed(data)
        self._deliver()

    def eof_received(self) -> None:
        """Tell the protocol, unless the stream was cut within a record. Either way the connection is closed."""
        if self._pieces and self._mechanism is not None and self._is_reading:
            self._break(GssError("the stream ends within a record"))
        else:
            self._protocol.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._protocol.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the protocol, with what is wrong with records or ticket if that is why."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._protocol.connection_lost(self._error or exc)

    # Inside

    def _deliver(self) -> None:
        # In one piece: a protocol that pauses while it takes it expects nothing more.
        if not self._is_reading or self._error is not None or self._transport.is_closing():
            return
        try:
            if data := self._opened():
                self._protocol.data_received(data)
        except GssError as error:
            self._break(error)

    def _opened(self) -> bytes:
        if self._mechanism is None:
            return self._pieces.drain()
        opened = []
        while (record := self._pieces.take()) is not None:
            opened.append(self._mechanism.unwrap(record))
        return opened[0] if len(opened) == 1 else b"".join(opened)

    def _break(self, error: GssError) -> None:
        self._error = error
        self._transport.abort()
