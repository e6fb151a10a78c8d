"""What is asked of a token on behalf of a client that may not see all of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from keyway.access.role import ObjectFacts
from keyway.cryptoki import RV, Attribute, MechanismInfo, Numbers, Room, RoomBytes, RoomNumbers, call_named
from keyway.cryptoki.constants import CKA_CLASS, CKA_ID, CKA_KEY_TYPE, CKA_LABEL, CKA_TOKEN
from keyway.wire.codec import decode_fused, decode_reply, decode_request, encode_reply, encode_request
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER_SIZE, Flags

if TYPE_CHECKING:
    from keyway.access.policy import TokenAccess
    from keyway.daemon.guard.reach import Reach
    from keyway.daemon.link import Frame

__all__ = ["Told", "facts_of", "find", "list_mechanisms", "seen_mechanism"]

Ask = Callable[[int, bytes, int, int, int], Awaitable[tuple[Any, bytes]]]
"""Makes a call (number, body, target, object, flags), and returns header and body of the reply."""

_FIND: Final = call_named("C_FindObjects")
_READ: Final = call_named("C_GetAttributeValue")
_MECHANISM_LIST: Final = call_named("C_GetMechanismList")
_MECHANISM_INFO: Final = call_named("C_GetMechanismInfo")
_ROOM: Final = 4096
_QUERY: Final = encode_request(
    _READ,
    (
        0,
        (
            Attribute(CKA_CLASS, RoomNumbers(1)),
            Attribute(CKA_KEY_TYPE, RoomNumbers(1)),
            Attribute(CKA_TOKEN, RoomBytes(1)),
            Attribute(CKA_LABEL, RoomBytes(_ROOM)),
            Attribute(CKA_ID, RoomBytes(_ROOM)),
        ),
    ),
).body
_MOST_MECHANISMS: Final = 4096


class Told(NamedTuple):
    """What a request is to be answered.

    Attributes:
        rv: The RV.
        body: The body of the reply.
        flags: Flags of the reply.
    """

    rv: int
    body: bytes = b""
    flags: int = 0


async def find(ask: Ask, reach: Reach, frame: Frame, data: bytes) -> Told:
    """Go on with a search until there is something that the client may see, or nothing more.

    Args:
        ask: Makes calls.
        reach: The token's policy.
        frame: The header of C_FindObjects.
        data: The whole frame.

    Raises:
        WireError: The request or an answer is malformed.
    """
    flags, body, object_ = frame[2] & ~Flags.POSTED, data[HEADER_SIZE:], frame[5]
    again = encode_request(_FIND, decode_fused(_FIND, object_, body)[1]).body if flags & Flags.FUSED else body
    while True:
        reply, told = await ask(_FIND.number, body, frame[4], object_, flags)
        values = decode_reply(_FIND, told)
        found = values[0] if values else None
        handles = found.data if isinstance(found, Numbers) else None
        if reply[5] != RV.CKR_OK or not handles:
            return Told(reply[5], told, reply[2] & Flags.INIT)
        seen = [handle for handle in handles if _is_seen(reach, await facts_of(ask, reach, frame[4], handle))]
        reach.forget_missing(handles)
        if seen:
            return Told(RV.CKR_OK, encode_reply(_FIND, (Numbers(len(seen), tuple(seen)),)))
        flags, body, object_ = 0, again, 0


async def list_mechanisms(ask: Ask, reach: Reach, frame: Frame, data: bytes) -> Told:
    """List the mechanisms that the client may use. Arguments are those of `find`.

    Raises:
        WireError: The request or the answer is malformed.
    """
    row = _MECHANISM_LIST
    (room,) = decode_request(row, 0, data[HEADER_SIZE:])
    assert isinstance(room, Room)
    everything = encode_request(row, (Room(_MOST_MECHANISMS, True),)).body
    reply, told = await ask(row.number, everything, frame[4], 0, 0)
    values = decode_reply(row, told)
    if reply[5] != RV.CKR_OK or not values or not isinstance(values[0], Numbers):
        return Told(reply[5], told)
    shown = tuple(each for each in values[0].data or () if reach.access.shows_mechanism(each))
    if room.length is None:
        return Told(RV.CKR_ARGUMENTS_BAD)
    if room.has_buffer and room.length >= len(shown):
        return Told(RV.CKR_OK, encode_reply(row, (Numbers(len(shown), shown),)))
    rv = RV.CKR_BUFFER_TOO_SMALL if room.has_buffer else RV.CKR_OK
    return Told(rv, encode_reply(row, (Numbers(len(shown), None),)))


async def facts_of(ask: Ask, reach: Reach, session: int, handle: int) -> ObjectFacts | None:
    """Return what is known of an object, which is looked at if need be; None if it is not there.

    Args:
        ask: Makes calls.
        reach: The token's policy, which remembers it.
        session: A session.
        handle: The object's handle.

    Raises:
        WireError: The answer is malformed.
    """
    if handle not in reach.objects:
        reply, told = await ask(_READ.number, _QUERY, session, handle, 0)
        values = decode_reply(_READ, told)
        answer = values[0] if values else None
        is_there = isinstance(answer, tuple) and reply[5] != RV.CKR_OBJECT_HANDLE_INVALID
        reach.objects[handle] = _facts_of(cast(tuple[Attribute, ...], answer)) if is_there else None
    return reach.objects[handle]


def _is_seen(reach: Reach, facts: ObjectFacts | None) -> bool:
    return facts is not None and reach.access.object(facts)


def _facts_of(answer: tuple[Attribute, ...]) -> ObjectFacts:
    given = {attribute.type: attribute.value for attribute in answer}

    def number(type_: int) -> int | None:
        found = given.get(type_)
        return found if isinstance(found, int) else None

    def octets(type_: int) -> bytes:
        found = given.get(type_)
        return found if isinstance(found, bytes) else b""

    on_token = octets(CKA_TOKEN) != b"\0"
    return ObjectFacts(number(CKA_CLASS), number(CKA_KEY_TYPE), octets(CKA_LABEL), octets(CKA_ID), on_token)


def seen_mechanism(access: TokenAccess, mechanism: int, body: bytes) -> bytes:
    """Return a reply to C_GetMechanismInfo without the flags of what the client may not do.

    Args:
        access: What it may do.
        mechanism: CK_MECHANISM_TYPE.
        body: The reply's body.
    """
    try:
        values = decode_reply(_MECHANISM_INFO, body)
    except WireError:
        return body  # Whoever can't read it either says so.
    if not values or not isinstance(values[0], MechanismInfo):
        return body
    info = values[0]
    return encode_reply(_MECHANISM_INFO, (replace(info, flags=access.mechanism_flags(mechanism, info.flags)),))
