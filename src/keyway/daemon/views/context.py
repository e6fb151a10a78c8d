"""One context at a token with views: answers its native frames until a PIN has chosen a view, and then passes them on.

What passes on is not read but for its header; a large body is in memory that is shared with the host of the token that was chosen. What takes time
(a login, a session there, the end of the choice) holds all that comes behind it, so the order of a client's calls stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final, Protocol

from keyway.cryptoki import CALLS, RV, Numbers, ObjectsRoom, call_named
from keyway.daemon.backend import BackendError
from keyway.daemon.link import LinkLost
from keyway.daemon.loans import whole
from keyway.daemon.views import works
from keyway.daemon.views.answers import Reply, arguments, told
from keyway.daemon.views.far import Far
from keyway.gateway.views import WAYS, ViewSessions, Way
from keyway.observe.log import event
from keyway.observe.metrics import Answered
from keyway.wire.ahead import READ_AHEAD
from keyway.wire.codec import decode_fused, encode_reply
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER, HEADER_SIZE, Flags

if TYPE_CHECKING:
    from keyway.backend.segment import Segment
    from keyway.backend.stream import Stream
    from keyway.daemon.link import Caller, Frame
    from keyway.daemon.views.home import ViewsHome
    from keyway.daemon.views.lead import Lead

__all__ = ["Guest", "ViewsContext"]

MOST_WAITING: Final = 1 << 18
"""Bytes of requests that may wait here until no more are read from the client."""
_UNPACK: Final = HEADER.unpack_from
_PASSED_ON: Final = frozenset(
    number for number, way in WAYS.items() if way in (Way.INFO, Way.SEARCH, Way.NOTHING, Way.KEYS)
) | {READ_AHEAD}
_FIND_INIT: Final = call_named("C_FindObjectsInit").number
_FIND: Final = call_named("C_FindObjects").number
_FIND_FINAL: Final = call_named("C_FindObjectsFinal").number


class Transport(Protocol):
    """Where replies go."""

    is_paused: bool

    def deliver(self, data: bytes) -> None:
        """Hand over whole reply frames."""

    def lost(self) -> None:
        """Say that the stream is over."""

    def set_busy(self, reason: str, busy: bool) -> None:
        """Say that no more requests can be taken for now, for one more reason, or that a reason is gone."""


class Guest(Protocol):
    """Whose context it is."""

    def enter(self, stream: Stream, token: str, view: str, slot: int) -> None:
        """Put a guard into a stream to the token behind a view, if there are roles for that view."""

    def chose(self, token: str, view: str) -> None:
        """Take note of the view that was chosen; empty for none."""


class ViewsContext:
    """The end of a stream to a token with views.

    Attributes:
        home: The token.
        sessions: What the client has.
        far: The stream to the token that was chosen; None while there is none.
        coming: The one that will be, if the login there succeeds.
        link: The daemon's side of the stream, which counts what is answered.
        guest: Whose context it is; None if nobody is guarded.
        is_closed: Whether the client has gone.
    """

    def __init__(self, home: ViewsHome, transport: Transport) -> None:
        """Begin without sessions.

        Args:
            home: The token.
            transport: Where replies go.
        """
        self.home = home
        self.sessions = ViewSessions()
        self.far: Far | None = None
        self.coming: Far | None = None
        self.link: Caller | None = None
        self.guest: Guest | None = None
        self.is_closed = False
        self.lead: Lead | None = None
        self._transport = transport
        self._work: asyncio.Task[None] | None = None
        self._waiting: deque[bytes] = deque()
        self._waiting_size = 0

    # From the client

    def receive(self, data: bytes) -> None:
        """Take whole request frames."""
        at = start = 0
        end = len(data)
        while at < end:
            frame: Frame = _UNPACK(data, at)
            stop = at + HEADER_SIZE + frame[0]
            if self.far is None or self._work is not None or frame[1] not in _PASSED_ON:
                if start < at and self.far is not None:
                    self.far.write(data[start:at])
                start = stop
                # When it is worked on the memory may be gone, and with it the host that has it.
                frame, request = whole(frame, data[at:stop], self._segment)
                if self._work is not None:
                    self._waiting.append(request)
                    self._waiting_size += len(request)
                else:
                    self._take(frame, request)
            at = stop
        if start < end and self.far is not None:
            self.far.write(data if start == 0 else data[start:])
        if self._waiting_size > MOST_WAITING:
            self._transport.set_busy("queue", True)

    @property
    def _segment(self) -> Segment | None:
        return None if self.far is None else self.far.host.segment

    def _take(self, frame: Frame, data: bytes) -> None:
        """Answer a request, or do what it takes to answer it."""
        try:
            if frame[1] == READ_AHEAD:
                self._answer(frame, Reply(self._needs_login(frame[4])))
                return
            way = WAYS[frame[1]]
            work = self._works(way, frame, data)
            if work is None:
                self._answer(frame, self._answered(way, frame, data))
            else:
                self._hold(work, frame)
        except WireError:
            self._answer(frame, Reply(RV.CKR_ARGUMENTS_BAD))

    def _works(self, way: Way, frame: Frame, data: bytes) -> Coroutine[Any, Any, Reply] | None:
        """Return what has to be done before there is an answer; None if there is one at once."""
        sessions = self.sessions
        match way:
            case Way.LOGIN:
                return works.login(self, frame, data)
            case Way.LOGOUT if sessions.logging_out(frame[4]) == RV.CKR_OK:
                return works.logout(self)
            case Way.CLOSE if sessions.view and frame[4] in sessions.flags:
                return works.close(self, frame)
            case Way.CLOSE_ALL if sessions.view:
                return works.close_all(self)
            case Way.OPEN if sessions.view:
                return works.open_session(self, frame, data)
            case Way.MECHANISMS:
                return works.mechanisms(self, frame, data)
            case Way.FINALIZE:
                return works.finalise(self)
        return None

    def _answered(self, way: Way, frame: Frame, data: bytes) -> Reply:
        sessions = self.sessions
        handle = frame[4]
        match way:
            case Way.SLOT_INFO:
                return told(frame, data, self.home.slot_info())
            case Way.TOKEN_INFO:
                return told(frame, data, self.home.token_info(sessions.flags.values()))
            case Way.NEVER | Way.ELSEWHERE:
                return Reply(RV.CKR_FUNCTION_NOT_SUPPORTED)
            case Way.OPEN:
                flags, chosen = arguments(frame, data)
                assert isinstance(flags, int)
                place = chosen if isinstance(chosen, int) else None
                rv = sessions.opening(flags, place)
                if rv == RV.CKR_OK and place is not None:
                    sessions.opened(flags, place)
                return Reply(rv)
            case Way.CLOSE_ALL:
                sessions.closed_all()
                return Reply(RV.CKR_OK)
            case Way.LOGOUT:
                return Reply(sessions.logging_out(handle))
            case _ if handle not in sessions.flags:
                return Reply(RV.CKR_SESSION_HANDLE_INVALID)
            case Way.CLOSE:
                sessions.closed(handle)
                return Reply(RV.CKR_OK)
            case Way.INFO:
                return told(frame, data, sessions.info(handle, 0))
            case Way.SEARCH:
                return self._search(frame, data)
            case Way.NOTHING:
                sessions.cancelled(handle)
                return Reply(RV.CKR_OK)
        return Reply(self._needs_login(handle))

    def _search(self, frame: Frame, data: bytes) -> Reply:
        number = frame[1]
        is_fused = bool(frame[2] & Flags.FUSED)
        row = CALLS[number - 1]
        values = decode_fused(row, frame[5], memoryview(data)[HEADER_SIZE:])[1] if is_fused else arguments(frame, data)
        room = values[0] if values else None
        if isinstance(room, ObjectsRoom) and not (room.has_count and room.has_buffer):
            return Reply(RV.CKR_ARGUMENTS_BAD)
        rv = self.sessions.search(
            frame[4],
            begins=is_fused or number == _FIND_INIT,
            goes_on=number == _FIND,
            ends=number == _FIND_FINAL,
        )
        if rv != RV.CKR_OK or number != _FIND:
            return Reply(rv)
        return Reply(rv, encode_reply(row, (Numbers(0, ()),)))

    def _needs_login(self, handle: int) -> RV:
        return RV.CKR_USER_NOT_LOGGED_IN if handle in self.sessions.flags else RV.CKR_SESSION_HANDLE_INVALID

    # What takes time

    def _hold(self, work: Coroutine[Any, Any, Reply], frame: Frame) -> None:
        self._work = self.home.tasks.start(self._worked(work, frame), f"{CALLS[frame[1] - 1].name} at {self.home.name}")

    async def _worked(self, work: Coroutine[Any, Any, Reply], frame: Frame) -> None:
        reply = Reply(RV.CKR_GENERAL_ERROR)
        try:
            reply = await work
        except WireError:
            reply = Reply(RV.CKR_ARGUMENTS_BAD)
        except (BackendError, LinkLost):
            reply = Reply(RV.CKR_DEVICE_ERROR)
        finally:
            self._work = None
            self._answer(frame, reply)
            while self._waiting and self._work is None:
                data = self._waiting.popleft()
                self._waiting_size -= len(data)
                self.receive(data)
            if self._waiting_size <= MOST_WAITING:
                self._transport.set_busy("queue", False)

    def _answer(self, frame: Frame, reply: Reply) -> None:
        if frame[2] & Flags.POSTED or self.is_closed:
            return
        # Here it is always the init call that fails.
        failed = Flags.INIT if frame[2] & Flags.FUSED and reply.rv != RV.CKR_OK else 0
        head = HEADER.pack(len(reply.body), frame[1], Flags.REPLY | failed, frame[3], frame[4], reply.rv)
        self._transport.deliver(head + reply.body)

    # The choice

    def choose(self, lead: Lead, far: Far) -> None:
        """Pass frames on from now on.

        Args:
            lead: The view that was chosen.
            far: The stream to its token, where the sessions are open and somebody is logged in.
        """
        self.lead = lead
        self.far = far
        self.sessions.chose(lead.name)
        if self.link is not None:
            self.link.answered = far.answered
            self.link.host.segment = self._segment
        self._tell(lead.name)
        if self._transport.is_paused:
            far.host.transport.pause_reading()

    def leave(self) -> Far | None:
        """Pass nothing on any more; return the stream where it went, which somebody has to end."""
        far, self.far, self.lead = self.far, None, None
        self.sessions.left()
        if self.link is not None:
            self.link.answered = Answered()
            self.link.host.segment = None
        self._tell("")
        if far is not None and self._transport.is_paused:
            far.host.transport.resume_reading()  # Nobody else will, and its last answers are waited for.
        self._transport.set_busy("far", False)
        return far

    def _tell(self, view: str) -> None:
        if self.guest is not None:
            self.guest.chose(self.home.token_name, view)

    # From the token that was chosen

    def far_replied(self, data: bytes) -> None:
        """Hand replies on."""
        self._transport.deliver(data)

    def far_lost(self, far: Far) -> None:
        """Take note that the token has gone, and with it the sessions."""
        if far is not self.far or self.is_closed:
            return
        assert self.lead is not None
        if self.link is not None:
            self.link.host.segment = None
        self.lead.home.crashes += 1
        event(
            logging.ERROR,
            "view lost",
            token=self.home.token_name,
            view=self.lead.name,
            backend=far.name,
            host=far.host.place,
        )
        self._transport.lost()

    def far_busy(self, busy: bool) -> None:
        """Take no more requests while the token is slow to read them."""
        self._transport.set_busy("far", busy)

    # The end

    def close(self) -> None:
        """End the stream to the token that was chosen, or is about to be."""
        self.is_closed = True
        self._waiting.clear()
        self._waiting_size = 0
        for far in self.far, self.coming:
            if far is not None:
                far.end(self.home.ending)

    async def wait_ended(self) -> str:
        """Wait until nothing of it is left, and return how the stream to the token has ended."""
        while self._work is not None:
            await asyncio.wait({self._work})
        return "closed" if self.far is None else await self.far.host.wait_ended(self.home.ending)
