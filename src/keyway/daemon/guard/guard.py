"""The guard of one stream: every request is judged before it reaches the token, and what is hidden does not come back.

A request that can be judged at once passes or is refused. What needs a look at the token first (which objects does it name?) holds all
requests behind it, so their order stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from keyway.access.calls import FREE
from keyway.cryptoki import (
    CALLS,
    RV,
    Target,
    TokenInfo,
    call_named,
)
from keyway.cryptoki.constants import (
    CKF_RW_SESSION,
    CKU_USER,
)
from keyway.daemon.guard.judge import NAMING, REMEMBERED, Unknown, asked, is_simple, judge, judge_ahead
from keyway.daemon.guard.looking import Told, facts_of, find, list_mechanisms, seen_mechanism
from keyway.daemon.guard.pins import Leave, is_last_try, judgement, with_flags, with_pin
from keyway.daemon.link import OWN_IDS, Frame, LinkLost
from keyway.daemon.loans import whole
from keyway.observe.log import event
from keyway.wire.ahead import NEWS, READ_AHEAD
from keyway.wire.codec import decode_reply, decode_request, encode_request
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER, HEADER_SIZE, MAX_BODY, Flags
from keyway.wire.shared import place_of

if TYPE_CHECKING:
    from keyway.access.attempts import Attempts
    from keyway.backend.stream import Stream
    from keyway.daemon.guard.reach import Reach
    from keyway.daemon.guard.witness import Witness

__all__ = ["Guard"]

GUARD_IDS: Final = OWN_IDS + (1 << 24)
"""Where the ids of the guard's own calls start: above those of the daemon's own calls on the same stream."""
INNER_IDS: Final = OWN_IDS + (3 << 24)
"""The same for a guard behind another one."""
_NONE: Final = 1 << 64
"""Above all ids."""

_BEGIN: Final = slice(HEADER_SIZE, HEADER_SIZE + 12)
"""Where a mechanism's type is, and whether there is a parameter, and of what shape (docs/wire.md, section 4.1)."""
MOST_WAITING: Final = 1 << 18
"""Bytes of requests that may wait here until no more are read from the client."""
_UNPACK: Final = HEADER.unpack_from
_OPEN: Final = call_named("C_OpenSession").number
_CLOSE: Final = call_named("C_CloseSession").number
_CLOSE_ALL: Final = call_named("C_CloseAllSessions").number
_SET_PIN: Final = call_named("C_SetPIN").number
_TOKEN_INFO: Final = call_named("C_GetTokenInfo")
_TOKEN_QUERY: Final = encode_request(_TOKEN_INFO, (True,)).body
_LOGINS: Final = frozenset(call_named(name).number for name in ("C_Login", "C_LoginUser"))
_FIND: Final = call_named("C_FindObjects")
_READ: Final = call_named("C_GetAttributeValue")
_MECHANISM_LIST: Final = call_named("C_GetMechanismList")
_MECHANISM_INFO: Final = call_named("C_GetMechanismInfo").number
_FORGETTING: Final = frozenset(
    call_named(name).number
    for name in ("C_Login", "C_LoginUser", "C_Logout", "C_DestroyObject", "C_SetAttributeValue", "C_InitToken")
)
"""Calls after which an object that was looked at may be another one, or be gone."""


class _Session(NamedTuple):
    reach: Reach
    read_write: bool


class Guard(asyncio.Protocol):
    """Stands in a stream between a client's context and a backend.

    Attributes:
        near: Gets the replies.
    """

    near: asyncio.Protocol

    def __init__(
        self,
        stream: Stream,
        reaches: Mapping[int, Reach],
        identity: str,
        attempts: Attempts,
        witness: Witness | None = None,
        *,
        is_inner: bool = False,
    ) -> None:
        """Stand before a stream. Needs a running loop.

        Args:
            stream: The stream, whose transport is still that of the other end.
            reaches: What the client may do, by the backend's slot. Slots may come and go.
            identity: Who it is.
            attempts: Which PINs were tried.
            witness: Is told what was asked and what became of it; None if nobody wants to know.
            is_inner: Whether it stands behind another guard. Then calls of the daemon and of that guard are judged as well: what they tell comes to the client.
        """
        self._far = stream.transport
        self._send = stream.transport.write
        self._stream = stream
        self._reaches = reaches
        self._identity = identity
        self._attempts = attempts
        self._witness = witness
        self._pins: dict[int, Leave] = {}
        self._infos: dict[int, Callable[[bytes], bytes]] = {}
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[int, _Session] = {}
        self._opening: dict[int, tuple[int, _Session]] = {}
        self._own: dict[int, asyncio.Future[tuple[Frame, bytes]]] = {}
        self._next_id = INNER_IDS if is_inner else GUARD_IDS
        self._unjudged = _NONE if is_inner else OWN_IDS
        self._waiting: deque[tuple[Frame, bytes]] = deque()
        self._waiting_size = 0
        self._pauses: set[str] = set()
        self._work: asyncio.Task[None] | None = None
        self._rest = bytearray()
        self._need = HEADER_SIZE

    # Requests

    def take(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Take whole request frames."""
        data = bytes(data)
        at = start = 0
        end = len(data)
        while at < end:
            frame: Frame = _UNPACK(data, at)
            stop = at + HEADER_SIZE + frame[0]
            if self._work is not None:
                waiting = whole(frame, data[at:stop], self._stream.segment)
                self._waiting.append(waiting)
                self._waiting_size += len(waiting[1])
                passes = False
            else:
                passes = self._decide(frame, data if at == 0 and stop == end else data[at:stop])
            if not passes:
                if start < at:
                    self._send(data[start:at])
                start = stop
            at = stop
        if start < end:
            self._send(data if start == 0 else data[start:])
        if self._waiting_size > MOST_WAITING:
            self._pause("queue")

    def _decide(self, frame: Frame, data: bytes) -> bool:
        """Tell whether a request passes; else it is refused, or being worked on."""
        if frame[3] >= self._unjudged:
            if frame[1] == _CLOSE:
                self._closed(frame[4])
            return True
        if frame[2] & Flags.SHARED:
            return self._decide_shared(frame, data)
        session = self._sessions.get(frame[4])
        if session is not None and session.reach.was_allowed((*frame[1:3], frame[5], data[_BEGIN]), self._loop.time()):
            return self._passes(frame, data, session.reach)
        reach, missing = self._reach(frame)
        verdict: int | Coroutine[Any, Any, None] | None = missing
        if reach is not None:
            try:
                verdict = self._judged(reach, frame, data)
            except WireError:
                verdict = RV.CKR_ARGUMENTS_BAD
        if isinstance(verdict, int):
            self._refuse(frame, data, reach, verdict)
            return False
        if verdict is not None:
            self._hold(verdict)
            return False
        if not self._passes(frame, data, reach):
            return False
        if frame[1] == _CLOSE:
            self._closed(frame[4])  # Whatever becomes of it: it is not used any more.
        return True

    def _decide_shared(self, frame: Frame, data: bytes) -> bool:
        """Tell whether a request passes whose body is in shared memory. One that has to wait goes through the socket then."""
        segment = self._stream.segment
        assert segment is not None
        body = segment.view(*place_of(data[HEADER_SIZE:]))
        flags = frame[2] & ~Flags.SHARED
        session = self._sessions.get(frame[4])
        head: Frame = (len(body), frame[1], flags, *frame[3:])
        begin = HEADER.pack(*head) + body[: _BEGIN.stop - _BEGIN.start]
        # What is remembered does not depend on more of it.
        if session is not None and session.reach.was_allowed(
            (frame[1], flags, frame[5], begin[_BEGIN]), self._loop.time()
        ):
            return self._passes(head, begin, session.reach)
        return self._decide(*whole(frame, data, segment))

    def _passes(self, frame: Frame, data: bytes, reach: Reach | None) -> bool:
        """Tell whether a request that is allowed may be made now, or nobody could record it."""
        witness = self._witness
        if witness is not None:
            if witness.lets_no_more(frame):
                self._answer(frame, RV.CKR_DEVICE_ERROR, flags=Flags.INIT if frame[2] & Flags.FUSED else 0)
                return False
            witness.asked(frame, data, reach)
        return True

    def _reach(self, frame: Frame) -> tuple[Reach | None, int | None]:
        """Return the policy that a request is under, or the RV that refuses it."""
        number = frame[1]
        target = Target.SESSION if number == READ_AHEAD else CALLS[number - 1].target
        if target is Target.SESSION:
            session = self._sessions.get(frame[4])
            return (session.reach, None) if session is not None else (None, RV.CKR_SESSION_HANDLE_INVALID)
        if target is Target.SLOT:
            reach = self._reaches.get(frame[4])
            return (reach, None) if reach is not None else (None, RV.CKR_SLOT_ID_INVALID)
        return None, None

    def _judged(self, reach: Reach, frame: Frame, data: bytes) -> int | Coroutine[Any, Any, None] | None:
        """Return the RV that refuses a request, or what has to be done in its place; None if it passes."""
        number = frame[1]
        access = reach.access
        if number == READ_AHEAD:
            return judge_ahead(access, data)
        if number in reach.refusals:
            return reach.refusals[number]
        if frame[2] & Flags.FUSED and (init := CALLS[number - 1].init) in reach.refusals:
            return reach.refusals[init]
        if reach.is_metered and number not in FREE and (wait := reach.usage.use(self._loop.time(), len(data))):
            return self._wait(frame, data, wait)
        if number in _FORGETTING:
            reach.forget()
        match number:
            case _FIND.number if not access.sees_all_objects:
                reach.refresh(self._loop.time())
                return self._answered_by(find(self._call, reach, frame, data), frame, data, reach)
            case _MECHANISM_LIST.number if not access.allows_all_mechanisms:
                return self._answered_by(list_mechanisms(self._call, reach, frame, data), frame, data, reach)
        if number == _MECHANISM_INFO:
            mechanism = cast(int, decode_request(CALLS[number - 1], 0, data[HEADER_SIZE:])[0])
            if not access.shows_mechanism(mechanism):
                return RV.CKR_MECHANISM_INVALID
            self._infos[frame[3]] = partial(seen_mechanism, access, mechanism)
            return None
        if number == _TOKEN_INFO.number and reach.token_flags:
            self._infos[frame[3]] = partial(with_flags, reach.token_flags)
        if number == _OPEN:
            return self._opens(reach, frame, data)
        if number in _LOGINS or number == _SET_PIN:
            return self._logs_in(reach, frame, data)
        if number == _CLOSE_ALL:
            for session in [session for session, of in self._sessions.items() if of.reach is reach]:
                self._closed(session)
        if number in NAMING or frame[2] & Flags.FUSED:
            return self._names(reach, frame, data)
        return None

    def _opens(self, reach: Reach, frame: Frame, data: bytes) -> int | None:
        flags, handle = decode_request(CALLS[_OPEN - 1], 0, data[HEADER_SIZE:])
        if (refusal := reach.access.opening(cast(int, flags))) is not None:
            return refusal
        if isinstance(handle, int):
            if not reach.usage.open():
                return RV.CKR_SESSION_COUNT
            self._opening[frame[3]] = handle, _Session(reach, bool(cast(int, flags) & CKF_RW_SESSION))
        return None

    def _closed(self, handle: int) -> None:
        if (session := self._sessions.pop(handle, None)) is not None:
            session.reach.usage.close()
        if self._witness is not None:
            self._witness.closed(handle)

    def _logs_in(self, reach: Reach, frame: Frame, data: bytes) -> int | Coroutine[Any, Any, None]:
        if frame[1] in _LOGINS:
            user, *_ = decode_request(CALLS[frame[1] - 1], 0, data[HEADER_SIZE:])
            if (refusal := reach.access.login(cast(int, user))) is not None:
                return refusal
            if reach.pin_file is not None and user == CKU_USER and (held := with_pin(frame, data, reach.pin_file)):
                return self._give_held_pin(reach, frame, held)
        return self._give_pin(reach, frame, data)

    def _names(self, reach: Reach, frame: Frame, data: bytes) -> int | Coroutine[Any, Any, None] | None:
        """Judge a request by what it names."""
        reach.refresh(self._loop.time())
        deciding = CALLS[frame[1] - 1].init if frame[2] & Flags.FUSED else frame[1]
        key = None
        if deciding in REMEMBERED and is_simple(data):
            key = (*frame[1:3], frame[5], data[_BEGIN])
        verdict = self._verdict(reach, frame, data)
        if isinstance(verdict, Unknown):
            return self._look(reach, frame, data, verdict)
        if verdict is None and key is not None:
            reach.allow(key)
        return verdict

    def _verdict(self, reach: Reach, frame: Frame, data: bytes) -> int | Unknown | None:
        return judge(
            reach.access,
            asked(frame, data),
            reach.objects,
            read_write=self._sessions[frame[4]].read_write,
            is_told=self._witness is not None,
        )

    # What takes longer

    def _hold(self, work: Coroutine[Any, Any, None]) -> None:
        self._work = self._loop.create_task(work)
        self._work.add_done_callback(self._go_on)

    def _go_on(self, done: asyncio.Task[None]) -> None:
        self._work = None
        if done.cancelled() or self._far.is_closing():
            self._drop_waiting()
            return
        if (error := done.exception()) is not None:
            self._drop_waiting()
            self._far.abort()
            if not isinstance(error, (LinkLost, WireError)):
                raise error
            return
        while self._waiting and self._work is None:
            frame, data = self._waiting.popleft()
            self._waiting_size -= len(data)
            if self._decide(frame, data):
                self._send(data)
        if self._waiting_size <= MOST_WAITING:
            self._resume("queue")

    def _drop_waiting(self) -> None:
        self._waiting.clear()
        self._waiting_size = 0

    async def _look(self, reach: Reach, frame: Frame, data: bytes, unknown: Unknown) -> None:
        """Look at objects, and judge the request again."""
        for handle in unknown.objects:
            await facts_of(self._call, reach, frame[4], handle)
        verdict = self._verdict(reach, frame, data)
        reach.forget_missing(unknown.objects)
        if isinstance(verdict, int):
            self._refuse(frame, data, reach, verdict)
        elif verdict is None:
            self._pass(frame, data, reach)
            self._send(data)
        else:  # It was forgotten meanwhile: whatever happens, nothing passes that was not looked at.
            self._refuse(frame, data, reach, RV.CKR_OBJECT_HANDLE_INVALID)

    async def _wait(self, frame: Frame, data: bytes, seconds: float) -> None:
        """Let a request wait, and all behind it, until the quota has room."""
        await asyncio.sleep(seconds)
        self._waiting.appendleft((frame, data))
        self._waiting_size += len(data)

    async def _give_pin(self, reach: Reach, frame: Frame, data: bytes) -> None:
        """Let the token judge a PIN if the identity has not given it too many wrong ones."""
        leave = Leave(
            self._attempts, self._identity, reach.account, self._loop.time, is_one_of_several=reach.has_several_pins
        )
        reply, told = await self._call(_TOKEN_INFO.number, _TOKEN_QUERY, reach.slot, 0, 0)
        values = decode_reply(_TOKEN_INFO, told)
        info = values[0] if values and reply[5] == RV.CKR_OK else None
        if not leave.begin(is_last=isinstance(info, TokenInfo) and is_last_try(info)):
            event(
                logging.WARNING, "PIN not tried", identity=self._identity, token=reach.token, reason="wrong PINs before"
            )
            self._refuse(frame, data, reach, RV.CKR_PIN_LOCKED)
            return
        self._pins[frame[3]] = leave
        self._pass(frame, data, reach)
        self._send(data)

    async def _give_held_pin(self, reach: Reach, frame: Frame, body: bytes) -> None:
        """Log in with the PIN that the gateway holds, for whom is known without one."""
        assert reach.pin_file is not None
        self._pass(frame, HEADER.pack(*frame), reach)
        reply, told = await self._call(frame[1], body, frame[4], 0, 0)
        if judgement(reply[5]) is False:
            reach.pin_file.refused(reply[5])
        if self._witness is not None:
            self._witness.answered((*reply[:3], frame[3], *reply[4:]))
        self._answer(frame, reply[5], told)

    async def _answered_by(self, work: Coroutine[Any, Any, Told], frame: Frame, data: bytes, reach: Reach) -> None:
        """Answer a request with what comes of some work."""
        try:
            told = await work
        except WireError:
            self._refuse(frame, data, reach, RV.CKR_ARGUMENTS_BAD)
        else:
            self._answer(frame, told.rv, told.body, told.flags)

    async def _call(self, number: int, body: bytes, target: int, object_: int, flags: int) -> tuple[Frame, bytes]:
        if self._far.is_closing():
            raise LinkLost
        self._next_id += 1
        answer: asyncio.Future[tuple[Frame, bytes]] = self._loop.create_future()
        self._own[self._next_id] = answer
        self._send(HEADER.pack(len(body), number, flags, self._next_id, target, object_) + body)
        return await answer

    # Answers

    def _pass(self, frame: Frame, data: bytes, reach: Reach | None) -> None:
        if self._witness is not None:
            self._witness.asked(frame, data, reach)

    def _refuse(self, frame: Frame, data: bytes, reach: Reach | None, rv: int) -> None:
        if self._witness is not None:
            self._witness.refused(frame, data, reach, rv)
        self._answer(frame, rv, flags=Flags.INIT if frame[2] & Flags.FUSED else 0)

    def _answer(self, frame: Frame, rv: int, body: bytes = b"", flags: int = 0) -> None:
        if frame[2] & Flags.POSTED:
            return
        reply = HEADER.pack(len(body), frame[1], Flags.REPLY | flags, frame[3], frame[4], rv) + body
        # Whoever asks is still about to note that he did.
        self._loop.call_soon(self._deliver, reply)

    def _deliver(self, data: bytes) -> None:
        if not self._far.is_closing():
            self.near.data_received(data)

    # Replies

    def data_received(self, data: bytes) -> None:
        """Take what comes from the other end."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return
            data = bytes(self._rest)
            self._rest.clear()
        at = start = 0
        end = len(data)
        self._need = HEADER_SIZE
        while end - at >= HEADER_SIZE:
            frame: Frame = _UNPACK(data, at)
            stop = at + HEADER_SIZE + frame[0]
            if stop > end:
                if frame[0] > MAX_BODY:
                    self._far.abort()
                    return
                self._need = stop - at
                break
            number = frame[3]
            if number in self._own:
                if start < at:
                    self.near.data_received(data[start:at])
                start = stop
                answer = self._own.pop(number)
                if not answer.done():
                    answer.set_result((frame, data[at + HEADER_SIZE : stop]))
            else:
                if number in self._opening:
                    handle, session = self._opening.pop(number)
                    if frame[5] == RV.CKR_OK:
                        self._sessions[handle] = session
                    else:
                        session.reach.usage.close()
                elif number in self._infos:
                    edit = self._infos.pop(number)
                    if start < at:
                        self.near.data_received(data[start:at])
                    start = stop
                    body = edit(data[at + HEADER_SIZE : stop])
                    self.near.data_received(HEADER.pack(len(body), *frame[1:]) + body)
                elif number in self._pins:
                    self._pins.pop(number).end(judgement(frame[5]))
                elif data[at:stop] == NEWS:
                    for reach in self._reaches.values():
                        reach.forget()
                if self._witness is not None:
                    self._witness.answered(frame)
            at = stop
        if start < at:
            self.near.data_received(data if start == 0 and at == end else data[start:at])
        if at < end:
            self._rest += data[at:]

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell everybody who waits."""
        for answer in self._own.values():
            if not answer.done():
                answer.set_exception(LinkLost())
        self._own.clear()
        self._drop_waiting()
        for session in (*self._sessions.values(), *(session for _, session in self._opening.values())):
            session.reach.usage.close()
        self._sessions.clear()
        self._opening.clear()
        for leave in self._pins.values():
            leave.end(None)
        self._pins.clear()
        if self._witness is not None:
            self._witness.lost()
        self.near.connection_lost(exc)

    def pause_writing(self) -> None:
        """Let the client wait while the other end is behind."""
        self._pause("far")

    def resume_writing(self) -> None:
        """Let it go on."""
        self._resume("far")

    def _pause(self, reason: str) -> None:
        if not self._pauses:
            self.near.pause_writing()
        self._pauses.add(reason)

    def _resume(self, reason: str) -> None:
        if reason in self._pauses:
            self._pauses.discard(reason)
            if not self._pauses:
                self.near.resume_writing()
