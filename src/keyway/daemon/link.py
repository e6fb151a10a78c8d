"""The stream between one client's context and one of its backends."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from keyway.cryptoki import CALLS
from keyway.daemon.loans import Loans
from keyway.observe.metrics import Answered
from keyway.wire.ahead import NEWS, READ_AHEAD
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER, HEADER_SIZE, MAX_BODY, Flags

if TYPE_CHECKING:
    from keyway.backend.stream import Stream
    from keyway.backend.turns import Turn

__all__ = ["OWN_IDS", "Caller", "Frame", "Link", "LinkLost", "Owner", "Tracked", "call_name", "reply_frame"]

Frame = tuple[int, int, int, int, int, int]
"""A header as the struct gives it: length, call, flags, id, target, object. A plain tuple: a class would cost more than the look."""

_UNPACK: Final = HEADER.unpack_from
OWN_IDS: Final = 0x6B65_7977_6179_0000
"""Where the ids of the daemon's own calls start. What comes from a client never has one of these: guards go by that. Clients count from small numbers, but for another gateway's own
calls; these, and whoever comes here on purpose, get another id on their way (`Link.new_id`)."""
CLIENT_IDS: Final = OWN_IDS - (1 << 24)
"""Where those ids start."""


class LinkLost(Exception):
    """The host ended before it answered."""


class Caller(Protocol):
    """A stream on which calls are made for the daemon itself.

    Attributes:
        name: The backend's name.
        host: What is at the other end.
        answered: What it has answered so far.
    """

    name: str
    host: Stream
    answered: Answered

    async def call(self, number: int, body: bytes, target: int = 0) -> tuple[int, bytes]:
        """Make a call and return RV and body of the reply.

        Raises:
            LinkLost: The host ended first.
        """


class Owner(Protocol):
    """Who gets what a host sends."""

    def write(self, data: bytes) -> None:
        """Take whole reply frames."""

    def write_apart(self, header: bytes, body: bytes | memoryview) -> None:
        """Take a reply frame in two pieces. Nobody may refer to the body longer than it takes to send it."""

    def tracked_reply(self, link: Link, tracked: Tracked, frame: Frame, body: bytes) -> None:
        """Take the reply to a call that was marked for a look."""

    def link_lost(self, link: Link, unanswered: list[Frame], tracked: list[Tracked]) -> None:
        """Take note that the host has ended, or broke the protocol."""

    def host_told_news(self, link: Link) -> None:
        """Take note that objects have changed behind the link: another gateway is there, and told so."""

    def host_busy(self, link: Link, busy: bool) -> None:
        """Take note that the host reads slowly, or has caught up."""


@dataclass(frozen=True, slots=True)
class Tracked:
    """A request whose reply needs a look.

    Attributes:
        request: Its header as the client sent it.
        session: The session handle that it is about.
        turn: The turn that ends with it.
        again: The frame as the client sent it, if it may be sent to another host when this one ends.
    """

    request: Frame
    session: int = 0
    turn: Turn | None = None
    again: bytes | None = None


class Link(asyncio.Protocol):
    """Forwards replies to the client in whole frames, and knows which requests are unanswered.

    Attributes:
        name: The backend's name.
        host: What is at the other end: a module host, or something elsewhere.
        write: Sends whole frames to it.
        in_flight: The unanswered requests by id, as the client sent them.
        tracked: Those of them whose replies need a look.
        ending: Whether the end of the host is expected.
        answered: What it has answered so far; its backend counts all of its links together.
        closes: The unanswered ends of sessions that the client does not wait for, by id.
        loans: The unanswered requests whose bodies are in shared memory.
    """

    def __init__(self, host: Stream, owner: Owner) -> None:
        self.name = host.name
        self.host = host
        self.write = host.transport.write
        self.in_flight: dict[int, Frame] = {}
        self.tracked: dict[int, Tracked] = {}
        self.ending = False
        self.answered = Answered()
        self.closes: dict[int, asyncio.Future[None]] = {}
        self.loans = Loans(host)
        self._owner = owner
        self._own: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._next_id = OWN_IDS
        self._next_client_id = CLIENT_IDS
        self._rest = bytearray()
        self._need = 0
        host.transport.set_protocol(self)

    async def call(self, number: int, body: bytes, target: int = 0) -> tuple[int, bytes]:
        """Make a call of the daemon's own and return RV and body of the reply.

        Raises:
            LinkLost: The host ended first.
        """
        if self.host.transport.is_closing():
            raise LinkLost
        request = (len(body), number, 0, self._new_id(), target, 0)
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.in_flight[request[3]] = request
        self._own[request[3]] = answer
        self.write(HEADER.pack(*request) + body)
        return await answer

    def begin_close(self) -> int:
        """Return an id for a C_CloseSession that the client does not wait for: its own ones may all be the same."""
        number = self._new_id()
        self.closes[number] = asyncio.get_running_loop().create_future()
        return number

    def new_id(self) -> int:
        """Return an id for a client's call whose own id is among those of the daemon's calls."""
        while True:
            self._next_client_id = self._next_client_id + 1 if self._next_client_id < OWN_IDS - 1 else CLIENT_IDS
            if self._next_client_id not in self.in_flight:
                return self._next_client_id

    async def closed(self) -> None:
        """Wait until those that are under way now have been answered, or the host has ended."""
        if self.closes:
            await asyncio.wait(list(self.closes.values()))

    def _new_id(self) -> int:
        self._next_id += 1
        while self._next_id in self.in_flight:  # The client's; it must not get our answer, nor we its.
            self._next_id += 1
        return self._next_id

    def data_received(self, data: bytes) -> None:
        """Forward complete frames in one piece, cut only round those that need a look."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        in_flight = self.in_flight
        tracked = self.tracked
        own = self._own
        shared = self.loans.parts
        answered = self.answered
        at = start = 0
        end = len(data)
        self._need = HEADER_SIZE
        while end - at >= HEADER_SIZE:
            frame = _UNPACK(data, at)
            stop = at + HEADER_SIZE + frame[0]
            if stop > end:
                if frame[0] > MAX_BODY:
                    self._broken()
                    return
                self._need = stop - at
                break
            number = frame[3]
            if number not in in_flight:
                if data[at:stop] != NEWS:
                    self._broken()
                    return
                if start < at:
                    self._owner.write(data[start:at])
                self._owner.host_told_news(self)
                at = start = stop
                continue
            # The client's number of the call: the host could answer with any.
            call = in_flight.pop(number)[1]
            try:
                answered[call, frame[5]] += 1
            except KeyError:
                answered.add(call, frame[5])
            if (tracked and number in tracked) or (own and number in own) or (shared and number in shared):
                if start < at:
                    self._owner.write(data[start:at])
                self._look(number, frame, data[at + HEADER_SIZE : stop])
                start = stop
                if self.host.transport.is_closing():
                    return
            at = stop
        if start < at:
            self._owner.write(data if at - start == end else data[start:at])
        if at < end:
            self._rest += data[at:]

    def _look(self, number: int, frame: Frame, body: bytes) -> None:
        if number in self.loans.parts:
            self._take_back(number, frame, body)
            return
        answer = self._own.pop(number, None)
        if answer is None:
            tracked = self.tracked.pop(number)
            if tracked.turn is not None:
                tracked.turn.end()
            try:
                self._owner.tracked_reply(self, tracked, frame, body)
            except WireError:
                self._broken()
            if (closed := self.closes.pop(number, None)) is not None:
                closed.set_result(None)
        elif not answer.done():
            answer.set_result((frame[5], body))

    def _take_back(self, number: int, frame: Frame, body: bytes) -> None:
        """Take the reply to a request whose body was in shared memory."""
        try:
            frame, result = self.loans.take_back(frame, body)
        except WireError:
            self._broken()
            return
        if number in self.tracked:
            self._look(number, frame, bytes(result))
        else:
            self._owner.write_apart(HEADER.pack(*frame), result)

    def _broken(self) -> None:
        # What came is no reply to anything: the module has damaged its host, or the other end is none of ours.
        self.host.kill("it answered what was not asked")
        self.host.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        unanswered = [frame for number, frame in self.in_flight.items() if number not in self._own]
        tracked = list(self.tracked.values())
        for answer in self._own.values():
            if not answer.done():
                answer.set_exception(LinkLost())
        self.in_flight.clear()
        self.tracked.clear()
        self._own.clear()
        self.loans.parts.clear()
        self._rest.clear()
        self.host.note_lost(exc)
        for each in tracked:
            if each.turn is not None:
                each.turn.end()
        self._owner.link_lost(self, unanswered, tracked)
        for closed in self.closes.values():
            closed.set_result(None)
        self.closes.clear()

    def pause_writing(self) -> None:
        """Read no more from the client while the host is behind."""
        self._owner.host_busy(self, True)

    def resume_writing(self) -> None:
        """Read from the client again."""
        self._owner.host_busy(self, False)


def call_name(frame: Frame) -> str:
    """Return the name of the call that a request makes."""
    return "READ_AHEAD" if frame[1] == READ_AHEAD else CALLS[frame[1] - 1].name


def reply_frame(request: Frame, rv: int, body: bytes = b"") -> bytes:
    """Return the daemon's own reply to a request.

    Args:
        request: The request's header.
        rv: The RV.
        body: The reply's body; empty if nothing was executed.
    """
    return HEADER.pack(len(body), request[1], Flags.REPLY, request[3], request[4], rv) + body
