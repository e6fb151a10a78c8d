"""Copying what one member has made to others: what is needed for that, and how it is done."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from keyway.cryptoki import RV
from keyway.cryptoki.constants import CKA_UNWRAP, CKA_WRAP
from keyway.daemon.link import LinkLost
from keyway.daemon.pool.listing import Refused
from keyway.daemon.pool.site import Site
from keyway.gateway.pool import copying
from keyway.gateway.pool.identity import Facts
from keyway.wire.errors import WireError

__all__ = ["FAILURES", "Impossible", "Made", "Wrapping", "copy", "each", "find_wrapping", "seal"]

FAILURES: Final = (LinkLost, Refused, WireError)
"""What comes of a call that a member does not make as it should."""


class Impossible(Exception):
    """Keys can't be copied. The text says why."""


@dataclass(frozen=True, slots=True)
class Made:
    """An object that a call has made.

    Attributes:
        name: Its name.
        handle: Its handle at the member that has made it.
        facts: What it is.
        wish: What the client wants of it.
    """

    name: int
    handle: int
    facts: Facts
    wish: copying.Wish


@dataclass(frozen=True, slots=True)
class Wrapping:
    """How keys travel.

    Attributes:
        mechanism: The mechanism.
        keys: The handle of the wrapping key at each member that can wrap or unwrap with it.
    """

    mechanism: int
    keys: dict[Site, int]


async def each(sites: Iterable[Site], work: Callable[[Site], Awaitable[None]]) -> None:
    """Do something at several members at the same time, and note at which it fails."""

    async def one(site: Site) -> None:
        try:
            await work(site)
        except FAILURES as error:
            site.failed(error)

    await asyncio.gather(*map(one, sites))


async def find_wrapping(sites: Sequence[Site], source: Site, label: str, enough: int) -> Wrapping:
    """Return how keys can travel. Members that can't get any fail.

    Args:
        sites: The members.
        source: The one at which keys will be made.
        label: CKA_LABEL of the wrapping key; empty if there is none.
        enough: How many members must have the key afterwards.

    Raises:
        Impossible: They can't.
    """
    if not label:
        raise Impossible("keys can't be copied: the pool has no wrapping_key")
    mechanism = copying.wrapping_mechanism([site.member.mechanism_infos for site in sites])
    if mechanism is None:
        raise Impossible("keys can't be copied: the members have no mechanism for it in common")
    keys: dict[Site, int] = {}

    async def look(site: Site) -> None:
        right, word = (CKA_WRAP, "wrap") if site is source else (CKA_UNWRAP, "unwrap")
        found = await site.wrapping_keys(label)
        if len(found) != 1:
            site.why = f"has {len(found)} AES keys called {label!r}"
        elif copying.is_denied(await site.read(found[0], copying.WRAPPING_KEY_QUERY), right):
            site.why = f"its key {label!r} may not {word}"
        else:
            keys[site] = found[0]

    await each(sites, look)
    if source not in keys or len(keys) < enough:
        whys = [f"{site.member.shown}: {site.why}" for site in sites if site.why]
        raise Impossible(f"keys can't be copied: {'; '.join(whys)}")
    return Wrapping(mechanism, keys)


async def copy(made: Made, source: Site, sites: Sequence[Site], wrapping: Wrapping | None) -> None:
    """Copy an object to those members that have not failed, and note which fail.

    Args:
        made: The object.
        source: Where it is.
        sites: Where it is to be.
        wrapping: How keys travel; None if no key was to be copied.

    Raises:
        LinkLost: The source is gone.
        Refused: It does not give the object.
        WireError: It does not speak the wire.
    """
    object_class = made.facts.object_class
    if object_class is None or object_class not in copying.COPIED:
        raise Refused(RV.CKR_KEY_UNEXTRACTABLE)
    template = copying.copied(object_class, await source.read(made.handle, copying.query(object_class)), made.wish)
    if not copying.is_wrapped(object_class):
        await each(_well(sites), lambda site: site.create(made.name, template))
        return
    if wrapping is None:
        raise Refused(RV.CKR_KEY_UNEXTRACTABLE)
    mechanism = copying.wrapping(wrapping.mechanism, os.urandom(copying.IV_SIZE))
    used, wrapped = await source.wrap(mechanism, wrapping.keys[source], made.handle)
    await each(_well(sites), lambda site: site.unwrap(made.name, used, wrapping.keys[site], wrapped, template))


def _well(sites: Iterable[Site]) -> list[Site]:
    return [site for site in sites if not site.why]


async def seal(made: Iterable[Made], source: Site) -> None:
    """Let keys not be extracted any more that were made extractable to be copied. The copies were made as they are to be.

    Args:
        made: The objects.
        source: Where they were made.

    Raises:
        LinkLost: The member is gone.
        Refused: It does not do it.
        WireError: It does not speak the wire.
    """
    for each_ in made:
        if copying.is_wrapped(each_.facts.object_class) and not each_.wish.is_extractable:
            await source.seal(each_.handle)
