"""One member in a write that is made at several: what it is asked for this, and what has been made there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import (
    RV,
    Attribute,
    Call,
    Mechanism,
    Output,
    Parameter,
    Room,
    Structured,
    Value,
    call_named,
    rv_name,
)
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_EXTRACTABLE,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_TOKEN,
    CKK_AES,
    CKO_SECRET_KEY,
)
from keyway.daemon.link import LinkLost
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.listing import Refused, search
from keyway.daemon.pool.naming import list_anew
from keyway.daemon.pool.preparing import prepare
from keyway.gateway.pool.signals import Signal, classify
from keyway.wire.codec import decode_reply
from keyway.wire.errors import WireError

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext
    from keyway.daemon.pool.member import Member
    from keyway.daemon.pool.session import PoolSession

__all__ = ["Site"]

_CREATE: Final = call_named("C_CreateObject")
_DESTROY: Final = call_named("C_DestroyObject")
_READ: Final = call_named("C_GetAttributeValue")
_SET: Final = call_named("C_SetAttributeValue")
_UNWRAP: Final = call_named("C_UnwrapKey")
_WRAP: Final = call_named("C_WrapKey")

_ANSWERED: Final = frozenset({RV.CKR_OK, RV.CKR_ATTRIBUTE_TYPE_INVALID, RV.CKR_ATTRIBUTE_SENSITIVE})
"""RVs of C_GetAttributeValue with which everything that can be told is told."""
_ROOM: Final = Room(65_536, has_buffer=True)
"""For a wrapped key."""


class Site:
    """A member, as the session of the client's sees it.

    Attributes:
        member: The member.
        handles: What the write has made there, as far as that is known: handle by name.
        why: Why it has failed; empty if it has not.
        rv: What it refused with; None if it did not.
        is_unknown: Whether nobody knows what it has made.
    """

    def __init__(self, context: PoolContext, session: PoolSession, member: Member, until: float) -> None:
        """Prepare a site.

        Args:
            context: The context.
            session: The session.
            member: The member.
            until: When to stop waiting, by the monotonic clock.
        """
        self.member = member
        self.handles: dict[int, int] = {}
        self.why = ""
        self.rv: int | None = None
        self.is_unknown = False
        self._context = context
        self._session = session
        self._until = until
        self._lane: Lane | None = None

    @property
    def lane(self) -> Lane:
        """The lane to it, which may be lost.

        Raises:
            LinkLost: There was none.
        """
        if self._lane is None:
            raise LinkLost
        return self._lane

    async def reach(self, names: Sequence[int] = ()) -> None:
        """Make the lane ready, a new one if it was lost.

        Args:
            names: Objects that the member must have.

        Raises:
            LinkLost: It can't be reached.
            Refused: It refuses a call that is needed for this.
            Lacking: It has not got one of the objects.
        """
        lane = await self._context.lane(self.member, self._until)
        if self._session.handle in lane.stuck:
            raise LinkLost
        await prepare(self._context, lane, self._session, names, self._until)
        self._lane = lane

    def wait_until(self, until: float) -> None:
        """Wait longer from now on.

        Args:
            until: When to stop, by the monotonic clock.
        """
        self._until = max(until, self._until)

    def failed(self, error: LinkLost | Refused | WireError) -> None:
        """Note that a call did not do what it should."""
        if isinstance(error, Refused):
            self.why = rv_name(error.rv)
            self.rv = None if classify(error.rv, self.member.vendor) is Signal.LOST else error.rv
        else:
            self.why = "lost" if isinstance(error, LinkLost) else "answers what nobody understands"

    # Calls

    async def call(self, row: Call, values: tuple[Value, ...]) -> Reply:
        """Make a call in the session and return the reply.

        Raises:
            LinkLost: The member is gone, or takes too long.
        """
        lane, pool = self.lane, self._context.pool
        session = lane.sessions.get(self._session.handle)
        if session is None:
            raise LinkLost  # It was closed meanwhile.
        sent = monotonic()
        self.member.outstanding += 1
        try:
            reply = await lane.make(row, values, session, max(0.001, self._until - sent))
        finally:
            self.member.outstanding -= 1
        self.member.served += 1
        pool.note(row.number, self.member, reply.rv, sent)
        if classify(reply.rv, self.member.vendor) is Signal.LOST:
            pool.member_failed(self.member, rv_name(reply.rv))
        return reply

    async def ask(self, row: Call, *values: Value) -> tuple[Value, ...]:
        """Make a call that must succeed and return the reply's values.

        Raises:
            LinkLost: The member is gone, or takes too long.
            Refused: It does not do it.
            WireError: It does not speak the wire.
        """
        reply = await self.call(row, values)
        if reply.rv != RV.CKR_OK:
            raise Refused(reply.rv)
        return decode_reply(row, reply.body)

    async def make(self, row: Call, values: tuple[Value, ...]) -> Reply:
        """Make a call that makes objects, and return the reply. Nobody knows what it has made until it is answered, and if the answer may mean anything.

        Raises:
            LinkLost: The member is gone, or takes too long.
        """
        self.is_unknown = True
        reply = await self.call(row, values)
        self.is_unknown = classify(reply.rv, self.member.vendor) is Signal.LOST
        return reply

    async def read(self, handle: int, query: tuple[Attribute, ...]) -> tuple[Attribute, ...]:
        """Return attributes of an object, as far as it has them and the token can tell them.

        Raises:
            LinkLost: The member is gone, or takes too long.
            WireError: It does not speak the wire.
        """
        reply = await self.call(_READ, (handle, query))
        if reply.rv not in _ANSWERED and len(query) > 1:
            # Some tokens stop at the first one that they can't tell.
            return tuple([each for one in query for each in await self.read(handle, (one,))])
        values = decode_reply(_READ, reply.body) if reply.rv in _ANSWERED else ()
        return values[0] if values and isinstance(values[0], tuple) else ()

    async def create(self, name: int, template: tuple[Attribute, ...]) -> None:
        """Make an object from its attributes, which is to have a name. Raises as `ask` does."""
        await self._make(name, _CREATE, template, 0)

    async def wrap(self, mechanism: Mechanism, wrapping_key: int, key: int) -> tuple[Mechanism, bytes]:
        """Wrap a key. Return the mechanism to unwrap it with, and the wrapped key. Raises as `ask` does."""
        parameter, output = await self.ask(_WRAP, mechanism, wrapping_key, key, _ROOM)
        if not isinstance(output, Output) or output.data is None:
            raise WireError("C_WrapKey gives no key")
        return _as_used(mechanism, parameter), output.data

    async def unwrap(
        self, name: int, mechanism: Mechanism, wrapping_key: int, wrapped: bytes, template: tuple[Attribute, ...]
    ) -> None:
        """Make a key from a wrapped one, which is to have a name. Raises as `ask` does."""
        await self._make(name, _UNWRAP, mechanism, wrapping_key, wrapped, template, 0)

    async def seal(self, handle: int) -> None:
        """Let a key not be extracted any more. Raises as `ask` does."""
        await self.ask(_SET, handle, (Attribute(CKA_EXTRACTABLE, b"\0"),))

    async def _make(self, name: int, row: Call, *values: Value) -> None:
        reply = await self.make(row, values)
        if reply.rv != RV.CKR_OK:
            raise Refused(reply.rv)
        self.is_unknown = True
        made = decode_reply(row, reply.body)
        handle = made[-1] if made else None
        if not isinstance(handle, int):
            raise WireError("the new object has no handle")
        self.handles[name] = handle
        self.is_unknown = False

    # Looking

    async def wrapping_keys(self, label: str) -> list[int]:
        """Return the AES keys with a label that are on the token. Raises as `ask` does."""
        template = (
            Attribute(CKA_CLASS, CKO_SECRET_KEY),
            Attribute(CKA_KEY_TYPE, CKK_AES),
            Attribute(CKA_TOKEN, b"\1"),
            Attribute(CKA_LABEL, label.encode()),
        )
        return await search(self.lane, self._session.flags, template, max(0.001, self._until - monotonic()))

    async def find(self, names: Iterable[int]) -> dict[int, int]:
        """List the objects again, having reached the member anew if need be. Return the handles of those with some names. Raises as `reach` and `ask` do."""
        await self.reach()
        await list_anew(self._context, self.lane, self._session)
        directory = self.lane.directory
        return {name: handle for name in names if (handle := directory.handle(name)) is not None}

    # Undoing

    async def take_away(self, names: Iterable[int]) -> dict[int, str]:
        """Destroy what the write has made.

        Args:
            names: What it was to make. If nobody knows whether it has, these are looked for.

        Returns:
            What may be there still, and why.
        """
        left = dict.fromkeys(names if self.is_unknown else self.handles, "lost")
        for _ in range(2):  # A lane that is lost meanwhile is opened again once.
            try:
                if self.is_unknown:
                    self.handles = await self.find(left)
                    self.is_unknown = False
                    left = {name: left[name] for name in self.handles}
                for name, handle in reversed(self.handles.items()):
                    if name in left and not (why := await self._destroy(handle)):
                        del left[name]
                    elif name in left:
                        left[name] = why
                break
            except (LinkLost, Refused, WireError):
                self.is_unknown = True
        for name in self.handles.keys() - left.keys():
            if self._lane is not None:
                self._lane.directory.remove_name(name)
        return left

    async def _destroy(self, handle: int) -> str:
        """Destroy an object, and return why it is still there."""
        reply = await self.call(_DESTROY, (handle,))
        is_gone = reply.rv in (RV.CKR_OK, RV.CKR_OBJECT_HANDLE_INVALID)
        return "" if is_gone else rv_name(reply.rv)


def _as_used(mechanism: Mechanism, parameter: Value) -> Mechanism:
    """Return a mechanism with what the token has written to its parameter: some choose the IV themselves."""
    written: Parameter | None = parameter if isinstance(parameter, Structured) else None
    return mechanism if written is None else Mechanism(mechanism.type, written)
