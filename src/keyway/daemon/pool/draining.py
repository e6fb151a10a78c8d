"""Taking members out of use: what keeps them in use, and the end of their lanes when nothing does any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import call_named
from keyway.daemon.link import LinkLost
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext
    from keyway.daemon.pool.lane import Lane
    from keyway.daemon.pool.member import Member
    from keyway.daemon.pool.pool import Pool
    from keyway.daemon.pool.session import PoolSession

__all__ = ["drain", "holders", "member_of", "resume", "sweep"]

_FINALIZE: Final = call_named("C_Finalize").number


def drain(pool: Pool, member: Member) -> None:
    """Give a member no new work from now on. What is under way there goes on; `Pool.run` ends the lanes when nothing holds them."""
    if not member.is_drained:
        event(logging.INFO, "member drained", token=pool.token_name, member=member.shown)
    member.is_drained = True
    member.drained_since = monotonic()
    pool.count_usable()


async def resume(pool: Pool, member: Member) -> None:
    """Give a member work again that was drained or parked, if a probe finds it well.

    One that is not well is probed again and again from now on, as any other that is down. Logins that it has refused may be tried once more.
    """
    since = member.drained_since
    member.parked = ""
    member.refused.clear()
    for context in pool.contexts:
        context.late.pop(member.name, None)
        if (lane := context.lanes.get(member.name)) is not None:
            lane.refused = None
    await pool.probe(member, is_trusted=False)
    if member.drained_since == since:  # Else somebody has drained it again.
        member.is_drained = False
        event(
            logging.INFO,
            "member resumed",
            token=pool.token_name,
            member=member.shown,
            state=member.health.state.name.lower(),
        )
    pool.count_usable()
    if member.is_usable:
        pool.welcome()
        pool.compare_soon()


def holders(pool: Pool, member: Member) -> Iterator[tuple[PoolContext, PoolSession]]:
    """Yield the sessions that have something at a member which they would not find at another one."""
    for context in pool.contexts:
        lane = context.lanes.get(member.name)
        if lane is not None:
            for session in context.sessions.values():
                if _holds(session, lane):
                    yield context, session


def member_of(context: PoolContext, session: PoolSession) -> Member:
    """Return the member that a session stays at, if it has a reason to stay."""
    return next((lane.member for lane in context.lanes.values() if _holds(session, lane)), session.home)


def sweep(pool: Pool, member: Member) -> None:
    """End the lanes to a member that is out of use, as far as nothing holds them."""
    for context in list(pool.contexts):
        lane = context.lanes.get(member.name)
        if lane is not None and _is_free(context, lane):
            del context.lanes[member.name]
            lane.ending = True
            pool.tasks.start(_end(pool, lane), f"end of a lane to {member.name}")


def _holds(session: PoolSession, lane: Lane) -> bool:
    return session.bound is lane or any(lane.directory.handle(name) is not None for name in session.objects)


def _is_free(context: PoolContext, lane: Lane) -> bool:
    # A call that is older than the word to drain may have chosen this lane, and be about to use it.
    since = lane.member.drained_since
    return not (
        lane.in_flight
        or lane.preparing.locked()
        or any(call.since <= since for call in context.working.values())
        or any(_holds(session, lane) for session in context.sessions.values())
    )


async def _end(pool: Pool, lane: Lane) -> None:
    try:
        async with asyncio.timeout(pool.ending):
            await lane.ask(_FINALIZE, b"")
    except (TimeoutError, LinkLost):
        pass
    finally:
        lane.end(pool.ending)
