"""Calls as `keyway trace` tells them: native frames in, facts for JSON out, and lines for people.

No fact holds a secret (`keyway.observe.show`), so they may be written anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from keyway.cryptoki import CALLS, Call, call_numbered, rv_name
from keyway.observe.show import Shown, requested, returned
from keyway.observe.show.text import hexadecimal, listed
from keyway.wire import WireError, decode_fused, decode_reply, decode_request
from keyway.wire.ahead import READ_AHEAD, decode_read_ahead
from keyway.wire.header import HEADER_SIZE, Flags

__all__ = ["Asked", "Facts", "answered", "asked", "asked_before", "lines", "waiting"]

MAX_BODY: Final = 65536
"""Bytes of a body that is decoded for a trace, so that one can't keep the daemon from its work."""

Facts = dict[str, Any]
"""One call, for JSON: `call`, `in`, `out`, `rv`, `us`, and `note` if there is something to say."""

_Header = tuple[int, int, int, int, int, int]


class _One(NamedTuple):
    """A call of a frame, and what it was asked with."""

    name: str
    call: Call | None
    shown: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it will be told.

    Attributes:
        calls: The call, or the two of a fused frame.
        is_posted: Whether no reply will come.
        note: Why arguments are missing; empty if they are not.
    """

    calls: tuple[_One, ...]
    is_posted: bool
    note: str = ""


def asked(header: _Header, frame: bytes) -> Asked:
    """Read a request.

    Args:
        header: Its header.
        frame: The whole frame.
    """
    _, number, flags, _, target, object_ = header
    is_posted = bool(flags & Flags.POSTED)
    body = memoryview(frame)[HEADER_SIZE:]
    call = call_numbered(number)
    if call is None:
        return _extension(number, target, body, is_posted)
    calls = [call]
    arguments: list[Sequence[Any]] = [()]
    note = ""
    if flags & Flags.FUSED and call.init:
        calls.insert(0, CALLS[call.init - 1])
        arguments.append(())
    try:
        if len(body) > MAX_BODY:
            note = f"a body of {len(body)} bytes is not read"
        elif len(calls) == 2:
            arguments = list(decode_fused(call, object_, body))
        else:
            arguments = [decode_request(call, object_, body)]
    except WireError as error:
        note = f"malformed: {error}"
    ones = (
        _One(each.name, each, requested(each, target, values)) for each, values in zip(calls, arguments, strict=True)
    )
    return Asked(tuple(ones), is_posted, note)


def asked_before(header: _Header) -> Asked:
    """Tell of a request that has passed already, and is not answered yet.

    Args:
        header: Its header.
    """
    call = call_numbered(header[1])
    shown = () if call is None else requested(call, header[4], ())
    name = f"call 0x{header[1]:x}" if call is None else call.name
    return Asked((_One(name, call, shown),), is_posted=False, note="was under way before the trace began")


def _extension(number: int, target: int, body: memoryview, is_posted: bool) -> Asked:
    name = "READ_AHEAD" if number == READ_AHEAD else f"call 0x{number:x}"
    shown = [Shown("hSession", hexadecimal(target))]
    note = ""
    if number == READ_AHEAD:
        try:
            ahead = decode_read_ahead(body)
            shown.append(Shown("objects", listed(ahead.objects, hexadecimal)))
            shown.append(Shown("queries", str(len(ahead.queries))))
        except WireError as error:
            note = f"malformed: {error}"
    return Asked((_One(name, None, tuple(shown)),), is_posted, note)


def answered(request: Asked, header: _Header | None, body: bytes | memoryview = b"", us: int = 0) -> Iterator[Facts]:
    """Tell a request with its reply: one call, or the two of a fused frame.

    Args:
        request: The request.
        header: The reply's header; None if none comes.
        body: The reply's body.
        us: Microseconds that passed between the two.
    """
    *inits, last = request.calls
    if header is None:
        for one in request.calls:
            yield _facts(one, request.note)
        return
    _, _, flags, _, _, rv = header
    if inits and flags & Flags.INIT:
        yield _facts(inits[0], request.note, rv, us, *_results(inits[0], body))
        return
    for one in inits:
        yield _facts(one, request.note, 0)
    yield _facts(last, request.note, rv, us, *_results(last, body))


def waiting(request: Asked, us: int) -> Facts:
    """Tell a request whose reply is a long time coming.

    Args:
        request: The request.
        us: Microseconds that have passed.
    """
    return _facts(request.calls[-1], request.note, us=us)


def _results(one: _One, body: bytes | memoryview) -> tuple[tuple[Shown, ...], str]:
    if one.call is None:
        return (), ""
    if len(body) > MAX_BODY:
        return (), f"a body of {len(body)} bytes is not read"
    try:
        return returned(one.call, decode_reply(one.call, body)), ""
    except WireError as error:
        return (), f"malformed: {error}"


def _facts(
    one: _One, note: str, rv: int | None = None, us: int | None = None, out: tuple[Shown, ...] = (), more: str = ""
) -> Facts:
    facts: Facts = {
        "call": one.name,
        "in": [_json(shown) for shown in one.shown],
        "out": [_json(shown) for shown in out],
        "rv": None if rv is None else rv_name(rv),
        "us": us,
    }
    if notes := "; ".join(filter(None, (note, more))):
        facts["note"] = notes
    return facts


def _json(shown: Shown) -> list[Any]:
    name, text, parts = shown
    return [name, text, [_json(part) for part in parts]] if parts else [name, text]


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Return the lines that tell what came from a daemon, in the manner of pkcs11-spy.

    Args:
        facts: A call with `time`, `context` and `application`; or `lost`, how many calls were left out.
    """
    if lost := facts.get("lost"):
        yield f"{lost} calls are not shown: they came faster than they were read"
        yield ""
    if "call" not in facts:
        return
    yield f"{facts['time']} context {facts['context'] or 'none'}, {_printable(facts['application'])}"
    yield facts["call"]
    for way in ("in", "out"):
        for shown in facts[way]:
            yield from _tree(f"[{way}]".ljust(6), *shown)
    if note := facts.get("note"):
        yield f"({_printable(note)})"
    yield _end(facts["rv"], facts["us"])
    yield ""


def _end(rv: str | None, us: int | None) -> str:
    if rv is None:
        return "No reply" if us is None else f"Has not returned after {us} us"
    return f"Returned {rv}" + ("" if us is None else f" after {us} us")


def _tree(margin: str, name: str, text: str, parts: Sequence[Any] = ()) -> Iterator[str]:
    yield f"{margin}{name}{' = ' if text else ''}{text}"
    for part in parts:
        yield from _tree(f"{' ' * len(margin)}  ", *part)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)
