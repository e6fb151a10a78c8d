"""Making token objects at all members (`writes = "all"`): at one first, which decides, then at the others, and nowhere if they do not become enough."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from keyway.cryptoki import CALLS, RV, Attribute, Value, rv_name
from keyway.cryptoki.constants import CKA_ID, CKA_LABEL, NAMES
from keyway.daemon.pool.copies import FAILURES, Impossible, Made, copy, each, find_wrapping, seal
from keyway.daemon.pool.errors import Lacking
from keyway.daemon.pool.lane import Lane, Reply
from keyway.daemon.pool.listing import Refused
from keyway.daemon.pool.naming import named
from keyway.daemon.pool.preparing import names_in, translated
from keyway.daemon.pool.serving import serve
from keyway.daemon.pool.session import PoolCall
from keyway.daemon.pool.site import Site
from keyway.gateway.pool import copying
from keyway.gateway.pool.replay import Replay
from keyway.gateway.pool.translate import made_handles, with_handles
from keyway.observe.log import event
from keyway.wire.codec import decode_reply

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext

__all__ = ["create"]


async def create(context: PoolContext, call: PoolCall, values: Sequence[Value]) -> Reply:
    """Make token objects at all members, or at none.

    Args:
        context: The context.
        call: A call that makes objects, token objects among them.
        values: Its arguments.

    Raises:
        Unserved: Nobody can make it.
        WireError: The call is malformed.
    """
    with context.unfinished():
        return await _Write(context, call, values).make()


class _Over(Exception):
    """The call is over.

    Attributes:
        reply: What the client is told.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(rv_name(reply.rv))
        self.reply = reply


class _Write:
    """One call."""

    def __init__(self, context: PoolContext, call: PoolCall, values: Sequence[Value]) -> None:
        self._context = context
        self._pool = context.pool
        self._call = call
        self._row = CALLS[call.frame[1] - 1]
        self._values = values
        self._names = names_in(call.frame, call.data)
        self._until = call.since + context.pool.long_deadline
        self._sites: list[Site] = []
        """The members that can be asked, in their order."""
        self._source: Site | None = None
        """The one that has decided."""
        self._objects: list[Made] = []
        """The token objects that it has made."""

    async def make(self) -> Reply:
        """Make the call, and return the reply."""
        try:
            missed = await self._reach()
            holders = await self._holders()
            if not holders:
                return await self._error_of_names()
            is_given = self._row.name in copying.GIVEN and len(holders) == len(self._sites)
            reply = await (self._give() if is_given else self._copy(holders[0]))
            await self._settle(missed, is_given=is_given)
        except _Over as over:
            return over.reply
        return reply

    def _over(self, rv: int, why: str) -> _Over:
        """Return what ends the call before anything is made."""
        self._log(logging.WARNING, "pool write refused", rv=rv_name(rv), why=why)
        return _Over(self._told(rv))

    def _told(self, rv: int) -> Reply:
        return Reply((0, self._row.number, 0, 0, 0, rv), b"")

    def _log(self, level: int, message: str, **facts: object) -> None:
        event(level, message, token=self._pool.token_name, call=self._row.name, **facts)

    # Who is there

    async def _reach(self) -> dict[str, str]:
        """Make ready whoever can be asked. Return which members can't be, and why."""
        usable = list(self._pool.usable)
        missed = {member.shown: "does not serve" for member in self._pool.members if member not in usable}
        sites = [Site(self._context, self._call.session, member, self._until) for member in usable]
        if len(sites) >= self._pool.quorum:
            await each(sites, lambda site: site.reach())
        missed |= {site.member.shown: site.why for site in sites if site.why}
        self._sites = [site for site in sites if not site.why]
        if len(self._sites) < self._pool.quorum:
            refusals = [site.rv for site in sites if site.rv is not None]
            raise self._over(
                refusals[0] if refusals else RV.CKR_TOKEN_NOT_PRESENT, f"too few members: {_listed(missed)}"
            )
        return missed

    async def _holders(self) -> list[Site]:
        """Return the sites that have all objects which the call names."""

        async def has(site: Site) -> bool:
            try:
                await site.reach(self._names)
            except (Lacking, *FAILURES):
                return False
            return True

        if not self._names:
            return self._sites
        found = await asyncio.gather(*map(has, self._sites))
        return [site for site, is_holder in zip(self._sites, found, strict=True) if is_holder]

    async def _error_of_names(self) -> Reply:
        """Let a module say what it says of objects that nobody has."""
        frame, data = self._call.frame, self._call.data
        _, reply = await serve(
            self._context, self._call, self._names, lambda lane: translated(lane, frame, data), replay=Replay.NEVER
        )
        return reply

    # At the first member

    async def _begin(self, site: Site, values: Sequence[Value], wanted: Sequence[copying.Wish]) -> Reply | None:
        """Make the objects at the member that decides. Return the reply to the client; None if nobody knows what came of it.

        Raises:
            _Over: It refuses, or makes what can't be told from something else.
        """
        lane = site.lane
        try:
            reply = await site.make(self._row, self._at(lane, values))
            if reply.rv != RV.CKR_OK:
                if not site.is_unknown:
                    raise _Over(reply)
                raise Refused(reply.rv)
            handles = self._handles(reply)
            reply = await named(self._context, lane, self._call, reply, is_token=True)
        except FAILURES as error:
            site.failed(error)
            site.is_unknown = True
            return None
        self._source = site
        for place, handle in enumerate(handles):
            facts, name = lane.directory.facts(handle), lane.directory.name(handle)
            if name is not None:
                site.handles[name] = handle
            if name is not None and facts is not None and facts.is_token:
                self._objects.append(Made(name, handle, facts, wanted[min(place, len(wanted) - 1)]))
        if not all(lane.directory.is_alone(made.handle) for made in self._objects):
            site.why = "another object has the same class, key type, label and CKA_ID, and nothing tells the two apart"
            site.rv = RV.CKR_TEMPLATE_INCONSISTENT
            await self._roll_back(is_given=True)
        return reply

    def _at(self, lane: Lane, values: Sequence[Value]) -> tuple[Value, ...]:
        """Return the values of a request with the handles of a member."""
        return with_handles(self._row, values, lambda name: lane.directory.handle(name) or name)

    def _handles(self, reply: Reply) -> list[int]:
        """Return the handles of what a call has made."""
        return made_handles(self._row, decode_reply(self._row, reply.body))

    # What the client has given all values of

    async def _give(self) -> Reply:
        """Make the client's call everywhere."""
        wanted = copying.wishes(self._row, self._values, await self._origin(self._sites[0]))
        others = list(self._sites)
        reply = None
        # If one is lost with the call, nobody knows what came of that. The next one decides then, and tells the name to look for.
        while reply is None:
            try:
                reply = await self._begin(others.pop(0), self._values, wanted)
            except _Over:
                if not self._objects:
                    self._lose_sight(wanted)
                raise
            if reply is None and not others:
                raise self._lost(wanted)

        async def give(site: Site) -> None:
            reply = await site.make(self._row, self._at(site.lane, self._values))
            if reply.rv != RV.CKR_OK:
                raise Refused(reply.rv)
            names = (each.name for each in self._objects)
            site.handles = dict(zip(names, self._handles(reply), strict=False))

        await each(others, give)
        return reply

    # What a token makes

    async def _copy(self, source: Site) -> Reply:
        """Make the objects at one member, and copy them to the others."""
        origin = await self._origin(source)
        wanted = copying.wishes(self._row, self._values, origin)
        mechanism = copying.mechanism_of(self._values)
        for wish in wanted:
            if why := copying.obstacle(self._row, mechanism, wish, origin):
                raise self._over(RV.CKR_KEY_UNEXTRACTABLE, why)
        wrapping = None
        if any(wish.is_to_wrap for wish in wanted):
            try:
                wrapping = await find_wrapping(self._sites, source, self._pool.token.wrapping_key, self._pool.quorum)
            except Impossible as impossible:
                # Without a login nobody sees a private key.
                rv = RV.CKR_FUNCTION_NOT_SUPPORTED if self._context.login else RV.CKR_USER_NOT_LOGGED_IN
                raise self._over(rv, str(impossible)) from impossible
        reply = await self._begin(source, copying.made_with(self._row, self._values, wanted), wanted)
        if reply is None:
            raise self._lost(wanted)
        others = [site for site in self._sites if site is not source]
        try:
            for made in self._objects:
                await copy(made, source, others, wrapping)
        except FAILURES as error:
            source.failed(error)
        return reply

    async def _origin(self, source: Site) -> tuple[Attribute, ...]:
        """Return what matters of the object that C_CopyObject copies."""
        handle = source.lane.directory.handle(self._names[0]) if self._names else None
        if self._row.name != "C_CopyObject" or handle is None:
            return ()
        try:
            return await source.read(handle, copying.ORIGIN_QUERY)
        except FAILURES as error:
            raise self._over(RV.CKR_DEVICE_ERROR, "the object that is copied can't be read") from error

    # How it ends

    async def _settle(self, missed: dict[str, str], *, is_given: bool) -> None:
        """Leave the objects where they are if they are at enough members.

        Args:
            missed: The members that could not be asked, and why.
            is_given: Whether all of them were made by the client's call.

        Raises:
            _Over: They are not at enough members, and have been taken away again.
        """
        source = self._source
        assert source is not None
        # Where not all of it was made, there is nothing to see but what nobody knows of.
        others = [site for site in self._sites if site is not source]
        await asyncio.gather(*(self._look(site) for site in others if site.is_unknown or not (site.why or source.why)))
        done = [site for site in self._sites if not site.why]
        if source in done and len(done) >= self._pool.quorum and not is_given:
            await each([source], lambda site: seal(self._objects, site))
        if source.why or len(done) < self._pool.quorum:
            await self._roll_back(is_given=is_given)
        self._pool.objects_changed(self._context)
        failed = [site for site in self._sites if site.why]
        await asyncio.gather(*map(self._take_away, failed))
        missed |= {site.member.shown: site.why for site in failed}
        for member, why in missed.items():
            self._log(logging.WARNING, "pool write incomplete", member=member, why=why)

    async def _look(self, site: Site) -> None:
        """See whether a member has the objects under their names."""
        names = [made.name for made in self._objects]
        try:
            found = await site.find(names)
        except FAILURES:
            return  # What it has answered counts. Of what it has not, nobody knows.
        if len(found) == len(names):
            site.handles, site.why, site.rv = found, "", None
        elif site.is_unknown:
            site.handles = found
        else:
            site.why = "it shows what was made there as something else"
        site.is_unknown = False

    async def _roll_back(self, *, is_given: bool) -> None:
        """Take away what was made, everywhere, and end the call."""
        failed = {site: site.why for site in self._sites if site.why}
        rv = copying.answer([site.rv for site in failed], is_given=is_given)
        self._log(
            logging.WARNING,
            "pool write rolled back",
            rv=rv_name(rv),
            why=_listed({site.member.shown: why for site, why in failed.items()}),
        )
        await asyncio.gather(*map(self._take_away, self._sites))
        for name in () if self._source is None else self._source.handles:
            self._context.forget_object(name)
            self._call.session.objects.discard(name)
        self._pool.objects_changed(self._context)
        raise _Over(self._told(rv))

    async def _take_away(self, site: Site) -> None:
        """Destroy at one member what was made there, and tell what stays."""
        site.wait_until(monotonic() + self._pool.deadline)
        left = await site.take_away(made.name for made in self._objects)
        for made in self._objects:
            if made.name in left:
                facts = made.facts
                self._left_behind(site, facts.object_class, facts.label, facts.id, left[made.name])

    def _lost(self, wanted: Sequence[copying.Wish]) -> _Over:
        """Return what ends the call when nobody knows what came of it."""
        self._lose_sight(wanted)
        return _Over(self._told(RV.CKR_DEVICE_ERROR))

    def _lose_sight(self, wanted: Sequence[copying.Wish]) -> None:
        """Tell what members may have of which the name is not known either."""
        for site in self._sites:
            for wish in wanted:
                if site.is_unknown and wish.is_token:
                    label, id_ = wish.bytes_of(CKA_LABEL), wish.bytes_of(CKA_ID)
                    self._left_behind(site, wish.object_class, label, id_, f"{site.why}; it may have been made")

    def _left_behind(self, site: Site, object_class: int | None, label: bytes, id_: bytes, why: str) -> None:
        self._log(
            logging.ERROR,
            "object left behind",
            member=site.member.shown,
            why=why,
            object_class="unknown"
            if object_class is None
            else NAMES["object_class"].get(object_class, f"0x{object_class:x}"),
            label=label.decode("utf-8", "replace"),
            id=id_.hex(),
        )


def _listed(whys: Mapping[str, str]) -> str:
    return "; ".join(f"{member}: {why}" for member, why in whys.items())
