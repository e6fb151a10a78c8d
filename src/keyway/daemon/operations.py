"""What is done to a running daemon by those who look after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from keyway.daemon.asking import Refusal
from keyway.daemon.pool.draining import drain, holders, resume
from keyway.daemon.status import pool_contexts

if TYPE_CHECKING:
    from keyway.daemon.connection import Connection
    from keyway.daemon.pool.context import PoolContext
    from keyway.daemon.pool.member import Member
    from keyway.daemon.pool.pool import Pool
    from keyway.daemon.server import Daemon

__all__ = ["check_pools", "drain_member", "reload_configuration", "resume_member"]

INTERVAL: Final = 0.1
"""Seconds between two looks whether a member is drained."""


async def drain_member(daemon: Daemon, asked: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Drain a member, and tell what still holds it whenever that is something else, until nothing does.

    Args:
        daemon: The daemon.
        asked: `member`: which; `wait`: whether to tell more than once, which is so if it is not said.
    """
    pool, member = _member(daemon, asked)
    drain(pool, member)
    told = None
    while True:
        state = _left(daemon, pool, member)
        more = not state["done"] and bool(asked.get("wait", True))
        if state != told:
            yield {**state, "more": more}
            told = state
        if not more:
            return
        await asyncio.sleep(INTERVAL)
        if not member.is_drained:
            raise Refusal(f"{state['member']}: was resumed before it was drained")


async def resume_member(daemon: Daemon, asked: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Give a member work again, and tell how it does.

    Args:
        daemon: The daemon.
        asked: `member`: which.
    """
    pool, member = _member(daemon, asked)
    await asyncio.shield(daemon.tasks.start(resume(pool, member), f"resuming {member.name}"))
    yield {**member.status(), "member": f"{pool.token_name}/{member.shown}"}


async def check_pools(daemon: Daemon, asked: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Compare what the members of pools have, and tell in what they differ.

    Args:
        daemon: The daemon.
        asked: `pool`: which; all if it is not said.
    """
    wanted = asked.get("pool")
    pools = {name: pool for name, pool in daemon.pools.items() if wanted in (None, name)}
    if wanted is not None and not pools:
        raise Refusal(f"{wanted}: no pool; there are: {', '.join(daemon.pools) or 'none'}")
    reports = await asyncio.gather(*(pool.compare() for pool in pools.values()))
    yield {
        "pools": {
            name: {**asdict(report), "agrees": report.agrees, "disagreements": report.disagreements}
            for name, report in zip(pools, reports, strict=True)
        }
    }


async def reload_configuration(daemon: Daemon, _: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Read the configuration again, and tell what came of it."""
    yield asdict(await asyncio.shield(daemon.reload_soon()))


def _member(daemon: Daemon, asked: Mapping[str, Any]) -> tuple[Pool, Member]:
    """Return the member that somebody means.

    Raises:
        Refusal: There is none, or more than one.
    """
    wanted = asked.get("member")
    every = {
        f"{pool.token_name}/{member.shown}": (pool, member) for pool in daemon.pools.values() for member in pool.members
    }
    found = [name for name in every if wanted in (name, name.partition("/")[2])]
    if len(found) == 1:
        return every[found[0]]
    if found:
        raise Refusal(f"{wanted}: is in several pools: {', '.join(found)}")
    raise Refusal(f"{wanted}: no member of a pool; there are: {', '.join(every) or 'none'}")


def _left(daemon: Daemon, pool: Pool, member: Member) -> dict[str, Any]:
    clients: dict[PoolContext, Connection] = {
        context: client for client in daemon.clients for context in pool_contexts(client)
    }
    return {
        "member": f"{pool.token_name}/{member.shown}",
        "done": not member.streams,
        "serving": [each.shown for each in pool.usable],
        "sessions": [
            {
                "context": clients[context].service.name,
                "application": clients[context].service.application,
                "session": session.handle,
                "reasons": pool.reasons(context, session),
            }
            for context, session in holders(pool, member)
            if context in clients
        ],
    }
