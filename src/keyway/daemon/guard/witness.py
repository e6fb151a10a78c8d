"""Tells the audit log what passes a guard, what becomes of it, and what does not pass."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from keyway.access.role import ObjectFacts
from keyway.cryptoki import CALLS, Effect, Step, mechanism_name, rv_name
from keyway.cryptoki.constants import CKA_CLASS, CKA_ID, CKA_KEY_TYPE, CKA_LABEL
from keyway.daemon.guard.judge import KEYED, asked
from keyway.observe.audit import AUDITED, Record
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER_SIZE, Flags

if TYPE_CHECKING:
    from keyway.daemon.guard.reach import Reach
    from keyway.daemon.link import Frame
    from keyway.observe.audit_sinks import AuditLog

__all__ = ["Witness", "described"]

_ROWS: Final = (CALLS[0], *CALLS)
"""By call number, which count from 1."""
_TYPE: Final = slice(HEADER_SIZE, HEADER_SIZE + 9)
"""Where a mechanism's type is."""
_CLASSES: Final = {0: "data", 1: "certificate", 2: "public key", 3: "private key", 4: "secret key"}
_MAKING: Final = frozenset(call.number for call in CALLS if call.effect is Effect.OBJECTS)
_OPERATIONS: Final = frozenset(call.operation for call in CALLS if call.number in AUDITED and call.operation)
_BEGINNING: Final = frozenset(
    call.number
    for call in CALLS
    if (call.number in AUDITED and not call.operation) or (call.operation in _OPERATIONS and call.step is Step.START)
)
"""Calls of which comes what has to be recorded."""
_FUSED: Final = frozenset(call.number for call in CALLS if call.operation in _OPERATIONS)
_STARTING: Final = frozenset(call.number for call in CALLS if call.step is Step.START) & KEYED


class _Used(NamedTuple):
    mechanism: str
    object: str


class _Pending(NamedTuple):
    since: int
    number: int
    token: str
    used: _Used


_NOTHING: Final = _Used("", "")


class Witness:
    """Sees the requests of one stream, and what they were answered."""

    def __init__(self, log: AuditLog, identity: str, context: str) -> None:
        """Begin.

        Args:
            log: Takes records.
            identity: Who asks.
            context: Name of the context.
        """
        self._log = log
        self._note = log.note
        self._identity = identity
        self._context = context
        self._pending: dict[int, _Pending] = {}
        self._active: dict[int, dict[str, _Used]] = {}

    def lets_no_more(self, frame: Frame) -> bool:
        """Tell whether a call begins what would have to be recorded, and can't be. What has begun goes on, and is."""
        return frame[1] in (_FUSED if frame[2] & Flags.FUSED else _BEGINNING) and self._log.is_full

    def asked(self, frame: Frame, data: bytes, reach: Reach | None) -> None:
        """See a request that passes.

        Args:
            frame: Its header.
            data: The whole frame.
            reach: The token's policy; None for a call about none.
        """
        number = frame[1]
        if number >= len(_ROWS) or reach is None:
            return
        is_fused = frame[2] & Flags.FUSED
        if number in _STARTING:
            self._active.setdefault(frame[4], {})[_ROWS[number].operation] = _used(frame, data, reach)
        if number not in AUDITED or frame[2] & Flags.POSTED:
            return
        if is_fused or number in KEYED:
            key = (number, frame[5], data[_TYPE])
            used = cast(_Used | None, reach.used.get(key)) or _used(frame, data, reach)
            if number not in _MAKING:
                reach.used[key] = used
        elif number in _MAKING:
            used = _Used("", _made(frame, data, reach))
        else:
            used = self._active.get(frame[4], {}).get(_ROWS[number].operation, _NOTHING)
        self._pending[frame[3]] = _Pending(time.perf_counter_ns(), number, reach.shown, used)

    def closed(self, session: int) -> None:
        """Take note that a session has ended, and with it what was active there."""
        self._active.pop(session, None)

    def answered(self, frame: Frame) -> None:
        """See a reply.

        Args:
            frame: Its header.
        """
        pending = self._pending.pop(frame[3], None)
        if pending is not None:
            self._tell("call", pending, frame[3], rv_name(frame[5]) if frame[5] else "CKR_OK")

    def refused(self, frame: Frame, data: bytes, reach: Reach | None, rv: int) -> None:
        """See a request that does not pass, and what it is answered."""
        if reach is None or frame[1] >= len(_ROWS):
            return
        is_keyed = frame[2] & Flags.FUSED or frame[1] in KEYED
        used = _used(frame, data, reach) if is_keyed else _NOTHING
        pending = _Pending(time.perf_counter_ns(), frame[1], reach.shown, used)
        self._tell("refused", pending, frame[3], rv_name(rv), "the policy does not allow it")

    def lost(self) -> None:
        """Take note that nothing more will be answered."""
        for request, pending in self._pending.items():
            self._tell("call", pending, request, "", "the backend ended before it answered")
        self._pending.clear()

    def _tell(self, event: str, pending: _Pending, request: int, rv: str, reason: str = "") -> None:
        self._note(
            Record(
                time.time_ns(),
                event,
                self._identity,
                self._context,
                pending.token,
                pending.used.object,
                pending.used.mechanism,
                _ROWS[pending.number].name,
                rv,
                (time.perf_counter_ns() - pending.since) // 1000,
                request,
                reason,
            )
        )


def described(facts: ObjectFacts | None) -> str:
    """Return a short text that says which object is meant; empty if nothing is known of it."""
    if facts is None:
        return ""
    class_ = _CLASSES.get(facts.class_, "object") if facts.class_ is not None else "object"
    label = f" {facts.label.decode(errors='backslashreplace')!r}" if facts.label else ""
    identifier = f" id {facts.id.hex()}" if facts.id else ""
    return f"{class_}{label}{identifier}"


def _used(frame: Frame, data: bytes, reach: Reach) -> _Used:
    """Return mechanism and key of a request that begins with a mechanism."""
    if len(data) < HEADER_SIZE + 9 or data[HEADER_SIZE] != 1:
        return _NOTHING
    mechanism = int.from_bytes(data[HEADER_SIZE + 1 : HEADER_SIZE + 9])
    made = _made(frame, data, reach) if frame[1] in _MAKING and not frame[5] else ""
    return _Used(mechanism_name(mechanism), described(reach.objects.get(frame[5])) or made)


def _made(frame: Frame, data: bytes, reach: Reach) -> str:
    """Return what a request is about that makes or changes an object."""
    if (known := described(reach.objects.get(frame[5]))) or frame[2] & Flags.FUSED:
        return known
    try:
        templates = asked(frame, data).templates
    except WireError:
        return ""
    given = {each.type: each.value for template in templates if isinstance(template, tuple) for each in template}
    label, identifier = given.get(CKA_LABEL), given.get(CKA_ID)
    class_, type_ = given.get(CKA_CLASS), given.get(CKA_KEY_TYPE)
    return described(
        ObjectFacts(
            class_ if isinstance(class_, int) else None,
            type_ if isinstance(type_, int) else None,
            label if isinstance(label, bytes) else b"",
            identifier if isinstance(identifier, bytes) else b"",
        )
    )
