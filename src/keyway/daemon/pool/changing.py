"""Other members for a pool that is in use: those that are new are probed first, those that go are drained."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Final

from keyway.daemon.pool.member import Member
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.config import MemberOptions, TokenOptions
    from keyway.daemon.backend import Backend
    from keyway.daemon.pool.pool import Pool

__all__ = ["change", "future_members"]

_NUMBERS: Final = count(1)


async def future_members(pool: Pool, members: Sequence[MemberOptions], backends: Mapping[str, Backend]) -> list[Member]:
    """Return what the members of a pool will be. Nothing is changed by that; new ones have been probed, so that they can serve at once.

    Args:
        pool: The pool.
        members: The configured members.
        backends: Their backends by name.
    """
    present = {(member.name, member.backend, member.rule.uri): member for member in pool.members}
    future = [
        present.get((each.name, backends[each.backend], each.uri)) or Member(each, backends[each.backend])
        for each in members
    ]
    if new := [member for member in future if member not in pool.members]:
        await pool.probe_all(new)
    return future


def change(pool: Pool, options: TokenOptions, members: Sequence[MemberOptions], future: Sequence[Member]) -> None:
    """Let a pool have other options and members. Contexts that have it see the new members with their next calls.

    Args:
        pool: The pool.
        options: Its section of the configuration.
        members: Its configured members.
        future: What `future_members` has returned for them.
    """
    pool.take_options(options)
    for member, settings in zip(future, members, strict=True):
        member.weight = settings.weight
        member.is_standby = settings.is_standby
    for member in pool.members:
        if member not in future:
            successor = next((each for each in future if each.name == member.name), None)
            if successor is not None and member.is_drained:
                successor.is_drained, successor.drained_since = True, member.drained_since
            _leave(pool, member)
    has_come = not set(future) <= set(pool.members)
    pool.members = list(future)
    pool.count_usable()
    pool.welcome()
    if has_come:
        pool.compare_soon()


def _leave(pool: Pool, member: Member) -> None:
    event(logging.INFO, "member leaves", token=pool.token_name, member=member.shown)
    member.is_drained = True
    member.drained_since = monotonic()
    # Its successor may have the same name, and is reached by that.
    before, member.name = member.name, f"{member.shown}~{next(_NUMBERS)}"
    for context in pool.contexts:
        context.rename(before, member.name)
    pool.leaving.append(member)
