"""Asking the members of a pool afresh what they have, and telling in what they differ."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import RV, TokenInfo, call_named, rv_name
from keyway.cryptoki.constants import CKF_SERIAL_SESSION, CKU_USER
from keyway.cryptoki.names import mechanism_name
from keyway.cryptoki.text import unpadded
from keyway.daemon.backend import BackendError
from keyway.daemon.link import LinkLost
from keyway.daemon.pool.context import open_lane
from keyway.daemon.pool.lane import Nobody
from keyway.daemon.pool.listing import Refused, read_objects
from keyway.daemon.pool.login import Login
from keyway.daemon.pool.mechanisms import ask_mechanisms
from keyway.gateway.pool.agreement import compare
from keyway.gateway.pool.signals import PIN_ERRORS
from keyway.observe.log import event
from keyway.wire.errors import WireError

if TYPE_CHECKING:
    from keyway.daemon.pool.lane import Lane
    from keyway.daemon.pool.member import Member
    from keyway.daemon.pool.pool import Pool
    from keyway.gateway.pool.identity import Facts

__all__ = ["Asked", "Finding", "Report", "check", "findings"]

_OPEN: Final = call_named("C_OpenSession")
_FINALIZE: Final = call_named("C_Finalize").number
_ENDING: Final = 60.0
"""Seconds that a member has to end when it has not told everything in time: it may be writing down that a PIN was wrong."""
_DIFFERENCES: Final = frozenset({"missing", "different", "twins", "mechanisms", "same"})
"""Kinds of findings that say in what the members differ; the others say why that is not known."""
_WARNINGS: Final = frozenset({"copy"})
"""Kinds that are no fault."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a member has told.

    Attributes:
        backend: Its backend.
        kind: What went wrong, as the kind of a finding; empty if nothing did.
        why: The same in words.
        token: The token; None if it did not get that far.
        mechanisms: What it can.
        objects: Its objects by handle.
    """

    backend: str
    kind: str = ""
    why: str = ""
    token: TokenInfo | None = None
    mechanisms: tuple[int, ...] = ()
    objects: Mapping[int, Facts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is to be told.

    Attributes:
        kind: `missing`, `different`, `twins`: as in `Disagreement`. `mechanisms`: the members lack these, which others have. `same`: the
            members are one token. `copy`: their tokens say that they are one, in different backends. `absent`: it can't be reached. `pin`: it
            can't be logged in there. `unused`: it is drained or parked, and was not asked.
        what: What it is about, in words.
        members: Whom it concerns; for `missing` and `mechanisms`, who lacks it.
    """

    kind: str
    what: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it.

    Attributes:
        findings: What is to be told.
        objects: How many token objects each member has that was asked.
        public_only: Whether nobody was logged in, so that private objects were not seen.
    """

    findings: tuple[Finding, ...]
    objects: Mapping[str, int]
    public_only: bool

    @property
    def agrees(self) -> bool:
        """Whether it is known that all members have the same."""
        return all(each.kind in _WARNINGS for each in self.findings)

    @property
    def disagreements(self) -> int:
        """In how much they differ."""
        return sum(each.kind in _DIFFERENCES for each in self.findings)


async def check(pool: Pool) -> Report:
    """Ask all members of a pool, and compare what they have. Each is asked on a lane of its own, and logged in to once at most."""
    members = {member.shown: member for member in pool.members}
    pin = pool.own_pin()
    tasks = [pool.tasks.start(_ask(pool, member, pin), f"check of {name}") for name, member in members.items()]
    asked = dict(zip(members, await asyncio.gather(*tasks), strict=True))
    report = Report(
        tuple(findings(asked)),
        {name: sum(facts.is_token for facts in each.objects.values()) for name, each in asked.items() if not each.kind},
        public_only=pin is None,
    )
    pool.disagreements = report.disagreements
    event(
        logging.INFO if report.agrees else logging.WARNING,
        "members compared",
        token=pool.token_name,
        disagreements=report.disagreements,
        found="; ".join(f"{each.kind}: {each.what} ({', '.join(each.members)})" for each in report.findings)
        or "nothing",
    )
    return report


def findings(asked: Mapping[str, Asked]) -> Iterator[Finding]:
    """Yield what is to be told of some members.

    Args:
        asked: What each of them has told.
    """
    for name, each in asked.items():
        if each.kind:
            yield Finding(each.kind, each.why, (name,))
    yield from _twice(asked)
    told = {name: each for name, each in asked.items() if not each.kind}
    yield from (
        Finding(each.kind, each.what, each.members) for each in compare({name: told[name].objects for name in told})
    )
    yield from _mechanisms({name: set(each.mechanisms) for name, each in told.items()})


def _twice(asked: Mapping[str, Asked]) -> Iterator[Finding]:
    """Tell of tokens that say that they are one."""
    alike: defaultdict[tuple[bytes, ...], list[str]] = defaultdict(list)
    for name, each in asked.items():
        if each.token is not None and unpadded(each.token.serial_number):
            alike[each.token.manufacturer_id, each.token.model, each.token.serial_number].append(name)
    for (*_, serial), names in alike.items():
        by_backend: defaultdict[str, list[str]] = defaultdict(list)
        for name in names:
            by_backend[asked[name].backend].append(name)
        what = f"serial number {unpadded(serial)}"
        for here in by_backend.values():
            if len(here) > 1:
                yield Finding("same", what, tuple(here))
        if len(by_backend) > 1:
            yield Finding("copy", what, tuple(names))


def _mechanisms(each: Mapping[str, set[int]]) -> Iterator[Finding]:
    lacking: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
    for type_ in sorted(set().union(*each.values())):
        if without := tuple(name for name, types in each.items() if type_ not in types):
            lacking[without].append(type_)
    for names, types in lacking.items():
        yield Finding("mechanisms", ", ".join(map(mechanism_name, types)), names)


class _PinRefused(Exception):
    """The member does not take the PIN. The text says why."""


async def _ask(pool: Pool, member: Member, pin: bytes | None) -> Asked:
    backend = member.backend.name
    if member.is_drained or member.parked:
        return Asked(backend, "unused", f"parked: {member.parked}" if member.parked else "drained")
    token = None
    member.backend.stock.end_pause()
    try:
        lane = await open_lane(member, Nobody())
        token = member.token
        grace = _ENDING
        try:
            async with asyncio.timeout(pool.long_deadline):
                await ask_mechanisms(lane)
                if pin is not None:
                    await _log_in(pool, lane, pin)
                objects = await read_objects(lane, CKF_SERIAL_SESSION, 0.0)
                lane.ending = True
                await lane.call(_FINALIZE, b"")
            grace = pool.ending
        finally:
            lane.end(grace)
    except _PinRefused as error:
        return Asked(backend, "pin", str(error), token)
    except (BackendError, LinkLost, Refused, TimeoutError, WireError) as error:
        why = rv_name(error.rv) if isinstance(error, Refused) else str(error)
        return Asked(backend, "absent", why or "no answer in time", token)
    return Asked(backend, token=token, mechanisms=member.mechanisms or (), objects=objects)


async def _log_in(pool: Pool, lane: Lane, pin: bytes) -> None:
    """Log in at a member with the gateway's own PIN. One that refuses it is parked.

    Raises:
        LinkLost: The member is gone.
        Refused: It does not open a session.
        WireError: It does not speak the wire.
        _PinRefused: It does not take the PIN.
    """
    member = lane.member
    session = lane.new_handle(0)
    reply = await lane.make(_OPEN, (CKF_SERIAL_SESSION, session), lane.slot, 0.0)
    if reply.rv != RV.CKR_OK:
        raise Refused(reply.rv)
    login = Login(CKU_USER, pin, None, is_own=True)
    try:
        digest = pool.digest(login)
        if digest in member.refused:
            raise _PinRefused("it has refused this PIN before")
        number, request = login.request()
        reply = await lane.ask(number, request.body, session)
        if reply.rv in PIN_ERRORS:
            member.refused.add(digest)
            pool.own_pin_refused(member, reply.rv)
    finally:
        login.wipe()
    if reply.rv not in (RV.CKR_OK, RV.CKR_USER_ALREADY_LOGGED_IN):
        raise _PinRefused(rv_name(reply.rv))
