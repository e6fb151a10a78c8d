"""What clients see of the backends: their slots, as the configuration says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import Uri
from keyway.daemon.backend import BackendError
from keyway.daemon.link import Link, LinkLost
from keyway.daemon.pool.names import HOME
from keyway.daemon.survey import survey
from keyway.daemon.views.home import ViewsHome
from keyway.daemon.views.names import home_name
from keyway.gateway.selection import Selection, TokenFilter
from keyway.gateway.slots import (
    BackendSlot,
    OwnSlots,
    SeenSlot,
    SlotMap,
    TokenRule,
    VirtualSlots,
    all_slots,
    chosen_slots,
    own_slots,
)
from keyway.observe.log import event
from keyway.wire.errors import WireError

if TYPE_CHECKING:
    from keyway.config import Config
    from keyway.daemon.binding import Binding, Home
    from keyway.daemon.pool.pool import Pool

__all__ = ["View"]


class View:
    """Makes the slot map of a context.

    Attributes:
        has_own_slots: Whether clients see the only backend's slots as they are.
        rules: The configured tokens.
        homes: Names of the backends and pools that clients use, the first of which is asked about what belongs to none of them.
        pools: The pools of these by name.
        backends: All of these by name.
    """

    def __init__(
        self,
        config: Config,
        backends: Mapping[str, Home],
        pools: Iterable[Pool],
        tokens: tuple[str, ...] = (),
        first_slot: int = -1,
    ) -> None:
        """Prepare the view of those who come in at one place.

        Args:
            config: The configuration.
            backends: The backends and pools by name.
            pools: Those of them that are pools.
            tokens: PKCS #11 URIs of the tokens that they see; none for all.
            first_slot: Number of their first slot; -1 for the numbers that the slots have anyway.
        """
        self.rules: Final = tuple(_rules(config))
        self._selection = Selection(tuple(map(TokenFilter.parse, tokens)), first_slot)
        self._numbered = _numbered(config, self.rules)
        self.has_own_slots = self._numbered is own_slots and self._selection.is_everything
        self._virtual: View | None = None
        self._told: set[object] = set()
        self._first = next(iter(config.backends))
        self.homes: Final = tuple({rule.backend: None for rule in self.rules}) or tuple(config.backends)
        self.pools: Final = {pool.name: pool for pool in pools if pool.name in self.homes}
        self.backends: Final = {name: backends[name] for name in self.homes}
        self._views = [home for home in self.backends.values() if isinstance(home, ViewsHome)]
        self._timeouts = {name: options.start_timeout for name, options in config.backends.items()}

    @property
    def with_virtual_slots(self) -> View:
        """The same with slots of the gateway's own, of which some may be hidden."""
        if self._virtual is None:
            self._virtual = copy(self)
            self._virtual.has_own_slots = False
        return self._virtual

    def is_news(self, fact: object) -> bool:
        """Tell whether nobody has asked this about a fact before: what is told once for all clients."""
        is_news = fact not in self._told
        self._told.add(fact)
        return is_news

    def start(self) -> SlotMap:
        """Return the slot map of a context that has asked no backend yet."""
        return OwnSlots(self._first) if self.has_own_slots else VirtualSlots({})

    async def look(self, binding: Binding) -> VirtualSlots:
        """Ask all backends that can be reached, at the same time, for their slots."""
        wanted = {rule.backend for rule in self.rules} or self._timeouts.keys()
        answers = await asyncio.gather(*(self._look_at(binding, name) for name in self._timeouts if name in wanted))
        seen = [each for answer in answers for each in answer]
        seen += [await pool.seen() for home, pool in self.pools.items() if home in wanted]
        seen += [home.seen() for home in self._views]
        before = binding.context.slots
        return self._selection.of(self._numbered(seen), before.given if isinstance(before, VirtualSlots) else {})

    async def _look_at(self, binding: Binding, name: str) -> Iterable[SeenSlot]:
        try:
            link: Link = await binding.reach(name)
            turn = await binding.backends[name].turns.take(exclusive=False)
            try:
                async with asyncio.timeout(self._timeouts[name]):
                    return await survey(link)
            finally:
                turn.end()
        except (BackendError, LinkLost):
            return ()  # Reported where it happened.
        except (TimeoutError, WireError) as error:
            event(logging.ERROR, "slots not listed", backend=name, reason=str(error) or "no answer in time")
            return ()


def _numbered(config: Config, rules: tuple[TokenRule, ...]) -> Callable[[Sequence[SeenSlot]], VirtualSlots]:
    """Return what gives slots their numbers."""
    if rules:
        return partial(chosen_slots, rules)
    return own_slots if len(config.backends) == 1 else all_slots


def _rules(config: Config) -> Iterable[TokenRule]:
    taken = {token.slot for token in config.tokens.values()}
    free = (number for number in range(len(config.tokens) * 2 + 1) if number not in taken)
    for name, token in config.tokens.items():
        number = token.slot if token.slot >= 0 else next(free)
        if not token.is_plain:
            home = HOME.format(name) if token.is_pool else home_name(name)
            yield TokenRule(
                name=name,
                number=number,
                backend=home,
                label=token.label,
                serial=token.serial,
                is_protected=token.is_pool and token.writes == "deny",
                place=BackendSlot(home, 0),
            )
            continue
        yield TokenRule(
            name=name,
            number=number,
            backend=token.backend,
            backend_slot=token.backend_slot if token.backend_slot >= 0 else None,
            label=token.label or None,
            serial=token.serial or None,
            uri=Uri.parse(token.uri) if token.uri else None,
        )
