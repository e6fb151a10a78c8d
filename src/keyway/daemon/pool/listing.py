"""The objects of a member as one context sees them: enumerated, and named."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

from keyway.cryptoki import (
    ATTRIBUTE_KINDS,
    RV,
    Attribute,
    AttributeKind,
    Numbers,
    ObjectsRoom,
    RoomBytes,
    RoomNumbers,
    Template,
    call_named,
)
from keyway.cryptoki.constants import CKA_TOKEN, CKA_VALUE
from keyway.daemon.link import LinkLost
from keyway.daemon.pool.lane import Lane
from keyway.gateway.pool.identity import IDENTITY_QUERY, Facts, facts_of, wants_value
from keyway.wire.codec import encode_request
from keyway.wire.header import MAX_HANDLES

__all__ = ["Refused", "find", "found", "list_objects", "read_objects", "search"]

_OPEN: Final = call_named("C_OpenSession")
_CLOSE: Final = call_named("C_CloseSession")
_FIND_INIT: Final = call_named("C_FindObjectsInit")
_FIND: Final = call_named("C_FindObjects")
_FIND_FINAL: Final = call_named("C_FindObjectsFinal")
_READ: Final = call_named("C_GetAttributeValue")

_OF_TOKEN: Final[Template] = (Attribute(CKA_TOKEN, b"\x01"),)
"""Session objects are left out: those of this context have their names from when they were made, and a module may take a handle for that of
the session which sees the object first (SoftHSM does), so that it would go with ours."""
_AT_ONCE: Final = 1024
"""Handles that are asked for in one call."""
_PIPELINED: Final = 64
"""Objects that are asked at a time."""
_ROOM: Final = 8192
"""Bytes of an attribute that there is room for. What is longer identifies nothing."""


class Refused(Exception):
    """A call that the pool made for itself was refused.

    Attributes:
        rv: The RV.
    """

    def __init__(self, rv: int) -> None:
        super().__init__(f"RV {rv:#x}")
        self.rv = rv


def _room(attribute: int) -> Attribute:
    is_number = ATTRIBUTE_KINDS.get(attribute) is AttributeKind.ULONG
    return Attribute(attribute, RoomNumbers(1) if is_number else RoomBytes(_ROOM))


_IDENTITY: Final = encode_request(_READ, (0, tuple(map(_room, IDENTITY_QUERY)))).body
_VALUE: Final = encode_request(_READ, (0, (_room(CKA_VALUE),))).body


async def list_objects(lane: Lane, flags: int, limit: float) -> None:
    """Make the directory of a lane anew. What is known of a handle already is not asked again.

    Args:
        lane: The lane; its `preparing` is held.
        flags: Those of the session to do it in, which is opened for this.
        limit: Seconds that each call may take.

    Raises:
        LinkLost: The member is gone.
        Refused: It does not let us.
    """
    began = monotonic()
    lane.directory.replace(await read_objects(lane, flags, limit))
    lane.listed = began


async def read_objects(lane: Lane, flags: int, limit: float) -> dict[int, Facts]:
    """Return the token objects of a member by handle. What is in the lane's directory is not asked again.

    Args:
        lane: The lane.
        flags: Those of the session to do it in, which is opened for this.
        limit: Seconds that each call may take.

    Raises:
        LinkLost: The member is gone.
        Refused: It does not let us.
    """
    async with _session(lane, flags, limit) as session:
        handles = await find(lane, session, _OF_TOKEN, limit)
        known = lane.directory
        listing = {handle: facts for handle in handles if (facts := known.facts(handle)) is not None}
        unknown = [handle for handle in handles if handle not in listing]
        for start in range(0, len(unknown), _PIPELINED):
            some = unknown[start : start + _PIPELINED]
            read = await asyncio.gather(*(_facts(lane, session, handle, limit) for handle in some))
            listing |= {handle: facts for handle, facts in zip(some, read, strict=True) if facts is not None}
        return listing


async def search(lane: Lane, flags: int, template: Template, limit: float) -> list[int]:
    """Return the handles of all objects that match, in whatever operation the sessions of the client are.

    Args:
        lane: Where.
        flags: Those of the session to do it in, which is opened for this.
        template: What they must match.
        limit: Seconds that each call may take.

    Raises:
        LinkLost: The member is gone.
        Refused: It does not let us.
    """
    async with _session(lane, flags, limit) as session:
        return await find(lane, session, template, limit)


@asynccontextmanager
async def _session(lane: Lane, flags: int, limit: float) -> AsyncIterator[int]:
    session = lane.new_handle(0)
    reply = await lane.make(_OPEN, (flags, session), lane.slot, limit)
    if reply.rv != RV.CKR_OK:
        raise Refused(reply.rv)
    try:
        yield session
    finally:
        if not lane.is_lost:
            await lane.ask(_CLOSE.number, b"", session, limit=limit)


async def find(lane: Lane, session: int, template: Template, limit: float) -> list[int]:
    """Return the handles of all objects that match.

    Args:
        lane: Where.
        session: A session there in which no search is active.
        template: What they must match.
        limit: Seconds that each call may take.

    Raises:
        LinkLost: The member is gone.
        Refused: It does not let us.
    """
    reply = await lane.make(_FIND_INIT, (template,), session, limit)
    if reply.rv != RV.CKR_OK:
        raise Refused(reply.rv)
    return await found(lane, session, limit)


async def found(lane: Lane, session: int, limit: float) -> list[int]:
    """Return the handles of an active search, and end it. Raises as `find` does."""
    handles: dict[int, None] = {}
    request = encode_request(_FIND, (ObjectsRoom(_AT_ONCE, has_count=True, has_buffer=True),)).body
    while True:
        reply = await lane.ask(_FIND.number, request, session, limit=limit)
        if reply.rv != RV.CKR_OK:
            await lane.ask(_FIND_FINAL.number, b"", session, limit=limit)
            raise Refused(reply.rv)
        values = lane.values(_FIND, reply)
        some = values[0].data if values and isinstance(values[0], Numbers) else None
        before = len(handles)
        handles.update(dict.fromkeys(some or ()))
        # A search that never ends tells the same again and again, or what can't be true.
        if len(handles) == before:
            break
        if len(handles) > MAX_HANDLES:
            lane.distrust()
            raise LinkLost
    await lane.ask(_FIND_FINAL.number, b"", session, limit=limit)
    return list(handles)


async def _facts(lane: Lane, session: int, handle: int, limit: float) -> Facts | None:
    """Return what an object tells of itself; None if it has gone."""
    answer = await _read(lane, session, handle, _IDENTITY, limit)
    if answer is None:
        return None
    facts = facts_of(answer)
    if not wants_value(facts):
        return facts
    value = await _read(lane, session, handle, _VALUE, limit)
    data = value[0].value if value else None
    return facts_of(answer, data) if isinstance(data, bytes) else facts


async def _read(lane: Lane, session: int, handle: int, body: bytes, limit: float) -> tuple[Attribute, ...] | None:
    reply = await lane.ask(_READ.number, body, session, object_=handle, limit=limit)
    if reply.rv == RV.CKR_OBJECT_HANDLE_INVALID:
        return None
    values = lane.values(_READ, reply)
    answer = values[0] if values else None
    return answer if isinstance(answer, tuple) else ()
