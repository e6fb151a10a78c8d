"""Calls as spans of OpenTelemetry: native frames in; names, attributes and errors out.

No attribute holds what a client gave or got: of data there is the length, and not even that of a PIN.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from keyway.cryptoki import (
    CALLS,
    Call,
    Kind,
    Mechanism,
    Output,
    Step,
    Target,
    Value,
    call_numbered,
    mechanism_name,
    rv_name,
)
from keyway.wire import WireError, decode_fused, decode_reply, decode_request, reply_kinds, request_kinds
from keyway.wire.ahead import READ_AHEAD
from keyway.wire.header import HEADER_SIZE, Flags

__all__ = ["Asked", "Attributes", "Operations", "Span", "Told", "answered", "asked"]

MAX_BODY: Final = 65_536
"""Bytes of a body that is decoded for a span. The length of a longer one stands for the length of the data in it."""

Attributes = dict[str, str | int]
"""What is said of a span."""

_Header = tuple[int, int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class Span:
    """A span.

    Attributes:
        name: A function of the standard, or "context".
        trace: What the spans of one context have in common, 128 bits.
        id: Its own, 64 bits.
        parent: The id of the span that it belongs to; 0 for none.
        start: When it began, in nanoseconds since 1970.
        end: When it ended, likewise.
        attributes: What is said of it.
        error: Why its status is an error; empty if it is not.
    """

    name: str
    trace: int
    id: int
    parent: int
    start: int
    end: int
    attributes: Attributes
    error: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        calls: The call, or the two of a fused frame; none of a frame that no table has.
        name: What the last of them is called.
        target: The session or slot.
        is_posted: Whether no reply will come.
        mechanism: Name of the mechanism that is given, or would be used; empty for none.
        sent: Bytes of data in the request.
    """

    calls: tuple[Call, ...]
    name: str
    target: int
    is_posted: bool
    mechanism: str = ""
    sent: int = 0

    @property
    def place(self) -> Target:
        """What the target is."""
        return self.calls[-1].target if self.calls else Target.SESSION


@dataclass(frozen=True, slots=True)
class Told:
    """What is said of one call.

    Attributes:
        name: Name of the function.
        attributes: What is known of it.
        error: Name of the RV if that is not CKR_OK, or what happened instead; empty if nothing is wrong.
    """

    name: str
    attributes: Attributes = field(default_factory=dict)
    error: str = ""


class Operations:
    """Knows with which mechanisms the active operations of a context's sessions have begun."""

    def __init__(self) -> None:
        self._active: dict[int, dict[str, str]] = {}

    def of(self, request: Asked) -> str:
        """Return the mechanism that a call of an operation uses; empty if it is not known."""
        if not request.calls:
            return ""
        return self._active.get(request.target, {}).get(request.calls[-1].operation, "")

    def note(self, request: Asked, rv: int) -> None:
        """Take note of what a call was answered."""
        if not request.calls or rv:
            return
        call = request.calls[0]
        if call.step is Step.START and request.mechanism:
            self._active.setdefault(request.target, {})[call.operation] = request.mechanism
        elif call.name == "C_CloseSession":
            self._active.pop(request.target, None)
        elif call.name == "C_CloseAllSessions":
            self._active.clear()


def asked(header: _Header, frame: bytes) -> Asked:
    """Read a request.

    Args:
        header: Its header.
        frame: The whole frame.
    """
    _, number, flags, _, target, object_ = header
    is_posted = bool(flags & Flags.POSTED)
    call = call_numbered(number)
    if call is None:
        name = "READ_AHEAD" if number == READ_AHEAD else f"call 0x{number:x}"
        return Asked((), name, target, is_posted)
    calls = [call]
    if flags & Flags.FUSED and call.init:
        calls.insert(0, CALLS[call.init - 1])
    body = memoryview(frame)[HEADER_SIZE:]
    if len(body) > MAX_BODY:
        return Asked(tuple(calls), call.name, target, is_posted, sent=len(body))
    try:
        if len(calls) == 2:
            arguments: Sequence[Sequence[Value]] = decode_fused(call, object_, body)
        else:
            arguments = [decode_request(call, object_, body)]
    except WireError:
        arguments = []
    values = [value for each in arguments for value in each]
    return Asked(
        tuple(calls),
        call.name,
        target,
        is_posted,
        next((mechanism_name(value.type) for value in values if isinstance(value, Mechanism)), ""),
        sum(_sent(each, given) for each, given in zip(calls, arguments, strict=False)),
    )


def answered(request: Asked, header: _Header | None, body: bytes | memoryview = b"") -> Iterator[Told]:
    """Tell a request with its reply: one call, or the two of a fused frame.

    Args:
        request: The request.
        header: The reply's header; None if none comes.
        body: The reply's body.
    """
    inits = request.calls[:-1]
    used: Attributes = {"pkcs11.mechanism": request.mechanism} if request.mechanism else {}
    if header is not None and inits and header[2] & Flags.INIT:
        yield from (_told(each.name, used, header[5]) for each in inits)
        return
    yield from (_told(each.name, used, 0) for each in inits)
    attributes = used | ({"pkcs11.bytes_in": request.sent} if request.sent else {})
    if header is None:
        yield Told(request.name, attributes, "" if request.is_posted else "no reply")
        return
    if length := _returned(request, body):
        attributes |= {"pkcs11.bytes_out": length}
    yield _told(request.name, attributes, header[5])


def _told(name: str, attributes: Attributes, rv: int) -> Told:
    text = rv_name(rv)
    return Told(name, {**attributes, "pkcs11.rv": text}, text if rv else "")


def _sent(call: Call, values: Sequence[Value]) -> int:
    pairs = zip(request_kinds(call), values, strict=False)
    return sum(len(value) for kind, value in pairs if kind is Kind.BYTES and isinstance(value, bytes))


def _returned(request: Asked, body: bytes | memoryview) -> int:
    """Return how many bytes of data a reply brings."""
    if not request.calls or not body:
        return 0
    call = request.calls[-1]
    kinds = reply_kinds(call)
    if Kind.BUFFER not in kinds and Kind.FILL not in kinds:
        return 0
    if len(body) > MAX_BODY:
        return len(body)
    try:
        values = decode_reply(call, body)
    except WireError:
        return 0
    length = 0
    for kind, value in zip(kinds, values, strict=False):
        if kind is Kind.FILL and isinstance(value, bytes):
            length += len(value)
        elif kind is Kind.BUFFER and isinstance(value, Output) and value.data is not None:
            length += len(value.data)
    return length
