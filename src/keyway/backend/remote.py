"""Streams to what is no module host: opened, and settled in their protocol and its version."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from keyway.backend.command import Command
from keyway.backend.greeting import Greeting
from keyway.backend.stream import HungUp, Stream, StreamError
from keyway.backend.translation import Translation
from keyway.p11kit import OFFERS, DecodeError, offer_accepted
from keyway.wire.header import VERSION_BASE, VERSION_BYTE

__all__ = ["Open", "RemoteSource", "agree_natively"]

Open = Callable[[], Awaitable[tuple[Stream, Greeting]]]
"""Opens a stream, on which nothing was sent yet. Raises StreamError."""

Agree = Callable[[Stream, Greeting], Awaitable[None]]
"""Exchanges the first bytes. Raises StreamError."""

NOT_RUN: Final = frozenset({126, 127, 255})
"""Exit statuses by which a shell, or ssh, says that the program was not run. Another version would not help."""
SHOWN: Final = 40
"""Bytes shown of what is no answer."""
LAST_WORDS: Final = 1.0
"""Seconds that what has closed its stream has to end, and to say why."""


class RemoteSource:
    """Opens streams, each on its own.

    Attributes:
        kind: What is at their other ends.
    """

    def __init__(self, kind: str, what: str, open_: Open, timeout: float, *, is_p11kit: bool, hint: str = "") -> None:
        """Describe the streams; nothing is opened yet.

        Args:
            kind: What is at their other ends, as in `Stream`.
            what: What errors call the other end.
            open_: Opens a stream.
            timeout: Seconds that this may take, up to the other end's answer.
            is_p11kit: Whether the other end speaks p11-kit's protocol, not the native wire.
            hint: What errors say when the other end closes the stream instead of answering.
        """
        self.kind = kind
        self._what = what
        self._open = open_
        self._timeout = timeout
        self._is_p11kit = is_p11kit
        self._hint = hint

    async def bring(self) -> Stream:
        """Return a new stream that is ready for C_Initialize; it belongs to the caller.

        Raises:
            StreamError: The other end can't be reached, or does not speak the protocol.
        """
        try:
            async with asyncio.timeout(self._timeout):
                if not self._is_p11kit:
                    return await self._opened(agree_natively)
                newest, oldest = OFFERS
                try:
                    return await self._opened(partial(agree_with_p11kit, newest))
                except HungUp:
                    return await self._opened(partial(agree_with_p11kit, oldest))
        except TimeoutError as error:
            raise StreamError(f"{self._what}: no answer in {self._timeout:g} s") from error

    async def close(self) -> None:
        """Do nothing: there is nothing but the streams."""

    async def _opened(self, agree: Agree) -> Stream:
        stream, greeting = await self._open()
        try:
            await agree(stream, greeting)
        except HungUp as error:
            how = await stream.wait_ended(LAST_WORDS)
            kind = StreamError if isinstance(stream, Command) and stream.status in NOT_RUN else HungUp
            raise kind(f"{self._what}: it {how}{self._hint}") from error
        except StreamError as error:
            if stream.is_gone:
                raise StreamError(f"{self._what}: it {await stream.wait_ended(LAST_WORDS)}") from error
            stream.kill()
            await stream.wait_ended(LAST_WORDS)
            raise StreamError(f"{self._what}: it {error}") from error
        except BaseException:
            stream.kill()
            await stream.wait_ended(LAST_WORDS)
            raise
        return stream


async def agree_natively(stream: Stream, greeting: Greeting) -> None:
    """Settle the version of the native wire.

    Raises:
        HungUp: The other end closed the stream.
        StreamError: It broke, or the other end answers something else.
    """
    stream.transport.write(bytes([VERSION_BYTE]))
    answer = await greeting.answer()
    if answer == bytes([VERSION_BYTE]):
        return
    if len(answer) == 1 and answer[0] > VERSION_BASE:
        raise StreamError(f"speaks version {answer[0] - VERSION_BASE} of the wire")
    raise StreamError(f'does not speak the protocol "keyway": it began with {answer[:SHOWN]!r}')


async def agree_with_p11kit(version: int, stream: Stream, greeting: Greeting) -> None:
    """Settle the version of p11-kit's protocol, and put a translation in front of the stream.

    Args:
        version: The version to offer.
        stream: The stream; gets another transport.
        greeting: Its protocol so far, and the translation's.

    Raises:
        HungUp: The other end closed the stream; maybe the version is above its own.
        StreamError: It broke, or the other end answers something else.
    """
    stream.transport.write(bytes([version]))
    answer = await greeting.answer()
    try:
        dialect = offer_accepted(version, answer[0])
    except DecodeError:
        dialect = None
    if dialect is None or len(answer) > 1:
        raise StreamError(f'does not speak the protocol "p11-kit": it began with {answer[:SHOWN]!r}')
    stream.transport = Translation(stream.transport, dialect, greeting, stream.kill)
