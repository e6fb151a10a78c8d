"""A context's stream to the token that its PIN has chosen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from keyway.cryptoki import call_named
from keyway.daemon.backend import BackendError
from keyway.daemon.link import OWN_IDS, LinkLost
from keyway.daemon.survey import survey
from keyway.observe.metrics import Answered
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER, HEADER_SIZE, MAX_BODY, Flags

if TYPE_CHECKING:
    from keyway.backend.stream import Stream
    from keyway.daemon.link import Frame
    from keyway.daemon.views.lead import Lead

__all__ = ["Far", "FarOwner", "reach"]

FAR_IDS: Final = OWN_IDS + (2 << 24)
"""Where the ids of the calls start that are made here: above those of the daemon and of the guard before it, which pass through."""
_FINALIZE: Final = call_named("C_Finalize").number
_UNPACK: Final = HEADER.unpack_from


class FarOwner(Protocol):
    """Who gets what comes from there."""

    def far_replied(self, data: bytes) -> None:
        """Take whole reply frames."""

    def far_lost(self, far: Far) -> None:
        """Take note that the other end has gone by itself."""

    def far_busy(self, busy: bool) -> None:
        """Take note that the other end reads slowly, or has caught up."""


class Far(asyncio.Protocol):
    """Passes frames on, and makes calls of its own among them.

    Attributes:
        name: The name of the backend, or pool.
        host: What is at the other end.
        answered: What the backend has answered so far.
        slot: The token's slot there.
        write: Sends whole frames.
    """

    def __init__(self, host: Stream, owner: FarOwner | None) -> None:
        """Take charge of a stream.

        Args:
            host: The stream.
            owner: Who passes frames on; None if nobody does.
        """
        self.name = host.name
        self.host = host
        self.answered = Answered()
        self.slot = 0
        self._owner = owner
        self._own: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._next_id = FAR_IDS
        self._rest = bytearray()
        self._need = 0
        self._is_ending = False
        self.attach()

    def attach(self) -> None:
        """Use the stream's transport as it is now: somebody has put a guard into it."""
        self.host.transport.set_protocol(self)
        self.write = self.host.transport.write

    async def call(self, number: int, body: bytes, target: int = 0) -> tuple[int, bytes]:
        """Make a call and return RV and body of the reply.

        Raises:
            LinkLost: The other end has gone.
        """
        if self.host.transport.is_closing():
            raise LinkLost
        self._next_id += 1
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self._own[self._next_id] = answer
        self.write(HEADER.pack(len(body), number, 0, self._next_id, target, 0) + body)
        return await answer

    async def finalise(self, seconds: float) -> None:
        """Call C_Finalize, and end the stream.

        Args:
            seconds: How long that may take.
        """
        self._is_ending = True
        try:
            async with asyncio.timeout(seconds):
                await self.call(_FINALIZE, b"")
        except (TimeoutError, LinkLost):
            pass
        self.end(seconds)

    def end(self, grace: float) -> None:
        """End the stream.

        Args:
            grace: Seconds that the other end has.
        """
        self._is_ending = True
        self.host.end(grace)

    # From the other end

    def data_received(self, data: bytes) -> None:
        """Take what comes, and pass it on but for the replies to calls made here."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        own = self._own
        at = start = 0
        end = len(data)
        self._need = HEADER_SIZE
        while end - at >= HEADER_SIZE:
            frame: Frame = _UNPACK(data, at)
            stop = at + HEADER_SIZE + frame[0]
            if stop > end:
                if frame[0] > MAX_BODY:
                    self.host.transport.abort()
                    return
                self._need = stop - at
                break
            if own and frame[3] in own and frame[2] & Flags.REPLY:
                if start < at:
                    self._pass(data[start:at])
                start = stop
                answer = own.pop(frame[3])
                if not answer.done():
                    answer.set_result((frame[5], data[at + HEADER_SIZE : stop]))
            at = stop
        if start < at:
            self._pass(data if start == 0 and at == end else data[start:at])
        if at < end:
            self._rest += data[at:]

    def _pass(self, data: bytes) -> None:
        if self._owner is not None:
            self._owner.far_replied(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        for answer in self._own.values():
            if not answer.done():
                answer.set_exception(LinkLost())
        self._own.clear()
        self.host.note_lost(exc)
        if self._owner is not None and not self._is_ending:
            self._owner.far_lost(self)

    def pause_writing(self) -> None:
        """Let no more requests come."""
        if self._owner is not None:
            self._owner.far_busy(True)

    def resume_writing(self) -> None:
        """Let them come again."""
        if self._owner is not None:
            self._owner.far_busy(False)


async def reach(lead: Lead, owner: FarOwner | None, grace: float) -> Far:
    """Open a stream to the token that a view leads to. Its module is initialised.

    Args:
        lead: The view.
        owner: Who passes frames on; None if nobody does.
        grace: Seconds that the other end has to end if something fails.

    Raises:
        BackendError: It can't be had, or has no such token.
    """
    # Spares may have died unnoticed, all at once for the same reason; a fresh one tells whether that reason lasts.
    for _ in range(lead.home.options.spares):
        try:
            return await _try(lead, owner, grace)
        except BackendError as error:
            if error.rv is not None:
                raise
    return await _try(lead, owner, grace)


async def _try(lead: Lead, owner: FarOwner | None, grace: float) -> Far:
    far = Far(await lead.home.stream(), owner)
    is_ready = False
    try:
        await lead.home.initialise(far)
        far.slot = await _slot(lead, far)
        is_ready = True
    except (TimeoutError, LinkLost, WireError) as error:
        raise BackendError(str(error) or "no answer") from error
    finally:
        if not is_ready:
            far.end(grace)
    return far


async def _slot(lead: Lead, far: Far) -> int:
    rule = lead.rule
    if rule is None:
        return 0  # A pool has one.
    turn = await lead.home.turns.take(exclusive=False)
    try:
        async with asyncio.timeout(lead.home.options.start_timeout):
            seen = await survey(far)
    finally:
        turn.end()
    place = next((each.place for each in seen if each.token is not None and rule.fits(each)), None)
    if place is None:
        raise BackendError("the token is not there")
    return place.slot
