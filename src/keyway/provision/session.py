"""An asynchronous client of the native wire: contexts, and sessions in them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from itertools import count
from typing import Final, cast

from keyway.address import Address
from keyway.cryptoki import (
    RV,
    Attribute,
    AttributeValue,
    Call,
    CkError,
    Mechanism,
    Null,
    Numbers,
    ObjectsRoom,
    Output,
    Room,
    RoomBytes,
    RoomNumbers,
    Template,
    TokenInfo,
    Value,
    call_named,
)
from keyway.cryptoki.constants import CKA_CLASS, CKA_KEY_TYPE, CKF_RW_SESSION, CKF_SERIAL_SESSION
from keyway.transport.connect import connect
from keyway.transport.errors import ConnectError
from keyway.wire import VERSION_BYTE, Flags, Frame, FrameBuffer, Header, WireError, decode_reply, encode_request, pack
from keyway.wire.codec import encode_fused

__all__ = ["Context", "ContextLost", "Session", "open_context"]

CONNECTING: Final = 10.0
"""Seconds until the daemon must have taken a connection."""
CALL: Final = 60.0
"""Seconds that a call may take."""
LONG_CALL: Final = 300.0
"""Seconds that making a key, a login or initialising a token may take."""
MAX_REPLY: Final = 4_194_304
"""Bytes of a reply's body."""
FOUND_AT_A_TIME: Final = 256
MAX_FOUND: Final = 65_536
"""Objects that a search may find."""
SIGNATURE_ROOM: Final = 1024
"""Bytes of the longest signature (RSA with 8192 bits)."""

_LONG: Final = frozenset(
    {"C_Initialize", "C_InitToken", "C_InitPIN", "C_SetPIN", "C_Login", "C_GenerateKeyPair", "C_OpenSession"}
)
_NUMBERS: Final = (CKA_CLASS, CKA_KEY_TYPE)
"""Attributes that are asked for here whose values are numbers."""
_VALUE_ROOM: Final = 2048
"""Bytes of an attribute that are asked for at first; longer ones take a second call."""


class ContextLost(Exception):
    """There is no daemon, or the connection to it broke. The text says which."""


class _Connection(asyncio.Protocol):
    """Sends requests, and hands replies to those who wait for them."""

    def __init__(self) -> None:
        self._frames = FrameBuffer(MAX_REPLY)
        self._waiting: dict[int, asyncio.Future[Frame]] = {}
        self._ids = count(1)
        self._greeted = False
        self._transport: asyncio.Transport | None = None
        self.lost = ""
        """Why the connection is over; empty while it is not."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(bytes([VERSION_BYTE]))

    def data_received(self, data: bytes) -> None:
        if not self._greeted:
            if data[0] != VERSION_BYTE:
                self.fail("the daemon speaks another version of the wire")
                return
            self._greeted = True
            data = data[1:]
        try:
            frames = self._frames.feed(data)
        except WireError as error:
            self.fail(f"the daemon's reply can't be followed: {error}")
            return
        for frame in frames:
            waiting = self._waiting.pop(frame.header.id, None)
            if waiting is not None and not waiting.done():
                waiting.set_result(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail("the daemon closed the connection")

    def fail(self, why: str) -> None:
        """Give up: whoever waits, and whoever comes, gets an error."""
        self.lost = self.lost or why
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            if not each.done():
                each.set_exception(ContextLost(self.lost))

    async def exchange(self, number: int, target: int, object_: int, body: bytes, flags: int, seconds: float) -> Frame:
        """Send a request and return its reply.

        Raises:
            ContextLost: The connection is over.
            TimeoutError: There is no reply.
        """
        if self.lost or self._transport is None:
            raise ContextLost(self.lost or "not connected")
        id_ = next(self._ids)
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Frame] = loop.create_future()
        self._waiting[id_] = waiting
        self._transport.write(pack(Header(0, number, flags, id_, target, object_), body))
        timer = loop.call_later(seconds, self._expire, id_)
        try:
            return await waiting
        finally:
            timer.cancel()
            self._waiting.pop(id_, None)

    def _expire(self, id_: int) -> None:
        waiting = self._waiting.get(id_)
        if waiting is not None and not waiting.done():
            waiting.set_exception(TimeoutError())


class Context:
    """One application in the sense of the standard, from C_Initialize on; closing it ends its sessions and logins."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self._sessions = count(1)

    @property
    def is_lost(self) -> bool:
        """Whether its connection is over."""
        return bool(self._connection.lost)

    def close(self) -> None:
        """End it. Calls under way are answered by `ContextLost`."""
        self._connection.fail("closed")

    async def call(self, name: str, *values: Value, target: int = 0) -> tuple[Value, ...]:
        """Make a call and return the reply's values.

        Args:
            name: The function.
            values: A value for each argument that a request has.
            target: The session or slot.

        Raises:
            CkError: The RV is not CKR_OK.
            ContextLost: The connection broke.
            TimeoutError: No answer came in time. The context is of no use any more.
        """
        row = call_named(name)
        return self._values(row, await self.exchange(row, target, *encode_request(row, values)))

    async def fused(
        self, init_values: Sequence[Value], name: str, *values: Value, target: int = 0
    ) -> tuple[Value, ...]:
        """Make an operation's init call and the call itself in one round trip (docs/wire.md, section 5), and return the reply's values.

        Raises:
            CkError: One of the two failed.
            ContextLost: The connection broke.
            TimeoutError: No answer came in time.
        """
        row = call_named(name)
        request = encode_fused(row, init_values, values)
        return self._values(row, await self.exchange(row, target, *request, Flags.FUSED))

    async def exchange(self, row: Call, target: int, object_: int, body: bytes, flags: int = 0) -> Frame:
        """Send a request and return its reply, whatever its RV.

        Raises:
            ContextLost: The connection broke.
            TimeoutError: No answer came in time.
        """
        seconds = LONG_CALL if row.name in _LONG else CALL
        try:
            return await self._connection.exchange(row.number, target, object_, body, flags, seconds)
        except TimeoutError:
            # What the call has done, or will do, is not known: nothing may be built on this context.
            self._connection.fail(f"{row.name} was not answered")
            raise

    def _values(self, row: Call, frame: Frame) -> tuple[Value, ...]:
        if frame.header.rv != RV.CKR_OK:
            raise CkError(frame.header.rv, row.name)
        try:
            return decode_reply(row, frame.body)
        except WireError as error:
            self._connection.fail("a reply can't be decoded")
            raise ContextLost("a reply can't be decoded") from error

    def template(self, row: Call, frame: Frame) -> tuple[Attribute, ...]:
        """Return the attributes in a reply of C_GetAttributeValue.

        Raises:
            ContextLost: It can't be decoded.
        """
        try:
            values = decode_reply(row, frame.body)
        except WireError as error:
            self._connection.fail("a reply can't be decoded")
            raise ContextLost("a reply can't be decoded") from error
        return values[0] if values and isinstance(values[0], tuple) else ()

    async def slots(self, *, with_token: bool) -> tuple[int, ...]:
        """Return the slots that there are (C_GetSlotList).

        Raises:
            CkError: It failed.
        """
        while True:
            (counted,) = await self.call("C_GetSlotList", int(with_token), Room(0, False))
            assert isinstance(counted, Numbers)
            try:
                (listed,) = await self.call("C_GetSlotList", int(with_token), Room(counted.count, True))
            except CkError as error:
                if error.rv != RV.CKR_BUFFER_TOO_SMALL:
                    raise
                continue  # One has come between the two calls.
            assert isinstance(listed, Numbers)
            return listed.data or ()

    async def token_info(self, slot: int) -> TokenInfo:
        """Return what is known of the token in a slot (C_GetTokenInfo).

        Raises:
            CkError: It failed.
        """
        (info,) = await self.call("C_GetTokenInfo", True, target=slot)
        assert isinstance(info, TokenInfo)
        return info

    async def session(self, slot: int, *, writes: bool) -> Session:
        """Open a session.

        Args:
            slot: The slot.
            writes: Whether it may change token objects.

        Raises:
            CkError: It failed.
        """
        handle = next(self._sessions)
        await self.call("C_OpenSession", CKF_SERIAL_SESSION | (CKF_RW_SESSION if writes else 0), handle, target=slot)
        return Session(self, handle)


class Session:
    """A session. One call at a time.

    Attributes:
        context: What it belongs to.
        handle: Its handle.
    """

    __slots__ = ("context", "handle")

    def __init__(self, context: Context, handle: int) -> None:
        self.context = context
        self.handle = handle

    async def call(self, name: str, *values: Value) -> tuple[Value, ...]:
        """Make a call in this session; see `Context.call`."""
        return await self.context.call(name, *values, target=self.handle)

    async def login(self, user: int, pin: bytes) -> None:
        """Log in (C_Login).

        Raises:
            CkError: It failed.
        """
        await self.call("C_Login", user, pin)

    async def close(self) -> None:
        """Close it (C_CloseSession).

        Raises:
            CkError: It failed.
        """
        await self.call("C_CloseSession")

    async def find(self, *wanted: Attribute) -> tuple[int, ...]:
        """Return the objects that have all these attributes (C_FindObjects).

        Raises:
            CkError: It failed.
        """
        await self.call("C_FindObjectsInit", wanted)
        found: list[int] = []
        try:
            while len(found) < MAX_FOUND:
                (some,) = await self.call("C_FindObjects", ObjectsRoom(FOUND_AT_A_TIME, True, True))
                assert isinstance(some, Numbers)
                if not some.data:
                    break
                found += some.data
        finally:
            await self.call("C_FindObjectsFinal")
        return tuple(found)

    async def attributes(self, object_: int, *types: int) -> dict[int, AttributeValue]:
        """Return attributes of an object (C_GetAttributeValue): those that it has, and shows.

        Raises:
            CkError: It failed, with something else than an attribute that the object does not have or show.
        """
        told = await self._attributes(object_, tuple(Attribute(each, _room(each)) for each in types))
        longer = tuple(
            Attribute(each.type, RoomBytes(each.value.length))
            for each in told
            if isinstance(each.value, Null) and each.value.length
        )
        if longer:
            told += await self._attributes(object_, longer)
        return {each.type: each.value for each in told if isinstance(each.value, bytes | int)}

    async def _attributes(self, object_: int, query: Template) -> tuple[Attribute, ...]:
        row = call_named("C_GetAttributeValue")
        frame = await self.context.exchange(row, self.handle, *encode_request(row, (object_, query)))
        if frame.header.rv not in _PARTLY:
            raise CkError(frame.header.rv, row.name)
        return self.context.template(row, frame)

    async def create(self, *attributes: Attribute) -> int:
        """Make an object (C_CreateObject) and return its handle.

        Raises:
            CkError: It failed.
        """
        (handle,) = await self.call("C_CreateObject", attributes, 0)
        assert isinstance(handle, int)
        return handle

    async def destroy(self, object_: int) -> None:
        """Delete an object (C_DestroyObject).

        Raises:
            CkError: It failed.
        """
        await self.call("C_DestroyObject", object_)

    async def generate_pair(self, mechanism: int, public: Template, private: Template) -> None:
        """Make a key pair (C_GenerateKeyPair).

        Raises:
            CkError: It failed.
        """
        await self.call("C_GenerateKeyPair", Mechanism(mechanism), public, private, 0, 0)

    async def sign(self, mechanism: Mechanism, key: int, data: bytes) -> bytes:
        """Sign in one round trip (C_SignInit and C_Sign).

        Raises:
            CkError: It failed.
        """
        (made,) = await self.context.fused(
            (mechanism, key), "C_Sign", data, Room(SIGNATURE_ROOM, True), target=self.handle
        )
        assert isinstance(made, Output)
        return made.data or b""


_PARTLY: Final = (
    RV.CKR_OK,
    RV.CKR_ATTRIBUTE_SENSITIVE,
    RV.CKR_ATTRIBUTE_TYPE_INVALID,
    RV.CKR_BUFFER_TOO_SMALL,
)
"""RVs of C_GetAttributeValue with which some attributes may have come all the same."""


def _room(type_: int) -> AttributeValue:
    return RoomNumbers(1) if type_ in _NUMBERS else RoomBytes(_VALUE_ROOM)


async def open_context(address: Address, application: str) -> Context:
    """Connect to a daemon and begin a context (C_Initialize).

    Args:
        address: Where it listens.
        application: What it shall be called in the daemon's log.

    Raises:
        ContextLost: No daemon is there.
        CkError: C_Initialize failed.
        TimeoutError: No answer came in time.
    """
    try:
        _, connection = await connect(address, _Connection, seconds=CONNECTING)
    except ConnectError as error:
        raise ContextLost(str(error)) from error
    return await _begun(connection, application)


async def context_over(connection: socket.socket, application: str) -> Context:
    """Begin a context (C_Initialize) on a connection that is there.

    Args:
        connection: A connected socket, which does not block. It belongs to the context.
        application: What it shall be called in the daemon's log.

    Raises:
        ContextLost: No daemon is at the other end.
        CkError: C_Initialize failed.
        TimeoutError: No answer came in time.
    """
    _, protocol = await asyncio.get_running_loop().create_connection(_Connection, sock=connection)
    return await _begun(protocol, application)


async def _begun(connection: _Connection, application: str) -> Context:
    context = Context(connection)
    try:
        await context.call("C_Initialize", 0, Null(), application.encode())
    except BaseException:
        context.close()
        raise
    return context
