"""What another configuration means for a daemon that runs: a decision, made from the old one and the new one alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from keyway.config import Config, ListenerOptions, MemberOptions, RoleOptions, TokenOptions, ViewOptions, members_of

__all__ = ["Changes", "Plan", "plan"]

_IDENTITY: Final = ("label", "serial")
"""What a pool shows itself by. One that shows itself otherwise is another token, which nobody has a context with yet."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What becomes of sections with names. Those that stay as they are are not in it.

    Attributes:
        added: Names that are new, or now mean something else.
        changed: Names whose options are others.
        removed: Names that are gone, or now mean something else.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What there is to do.

    Attributes:
        config: What is in force afterwards: the new configuration, but for what needs a restart.
        backends: The backends; one that is changed is another one for new contexts.
        pools: The pools; one that is changed stays, with other members or options.
        views: The tokens with views; one that is changed, in its views or in their roles, is another one, and contexts with the former are ended.
        tokens: The other tokens.
        listeners: The name that each listener has now, by that which it will have: where the address is the same, the socket stays.
        new_listeners: Names of those that are to be opened.
        changed_listeners: Names of those that stay and do something else for new clients.
        old_listeners: Names of those that are to be closed.
        offers: The offers; one that is changed is closed, and made anew.
        others: Sections without a name that are changed.
        needs_restart: What stays as it is until the daemon is started again, as `listen.mode`.
    """

    config: Config
    backends: Changes
    pools: Changes
    views: Changes
    tokens: Changes
    listeners: Mapping[str, str]
    new_listeners: tuple[str, ...]
    changed_listeners: tuple[str, ...]
    old_listeners: tuple[str, ...]
    offers: Changes
    others: tuple[str, ...]
    needs_restart: tuple[str, ...]

    def told(self) -> Iterator[str]:
        """Yield what changes, a line each."""
        for word, changes in (
            ("backend", self.backends),
            ("pool", self.pools),
            ("views of", self.views),
            ("token", self.tokens),
            ("listener", Changes(self.new_listeners, self.changed_listeners, self.old_listeners)),
            ("offer", self.offers),
        ):
            replaced = set(changes.added) & set(changes.removed)
            for done, names in (
                ("added", [name for name in changes.added if name not in replaced]),
                ("replaced", [name for name in changes.added if name in replaced]),
                ("changed", changes.changed),
                ("removed", [name for name in changes.removed if name not in replaced]),
            ):
                yield from (f"{word} {name}: {done}" for name in names)
        yield from (f"{name}: changed" for name in self.others)


def plan(old: Config, new: Config) -> Plan:
    """Return what there is to do.

    Args:
        old: The configuration in force.
        new: The one that shall be.
    """
    backends = _changes(old.backends, new.backends)
    pools = _pools(old, new, backends.changed)
    kept = _same_places(old.listeners, new.listeners)
    return Plan(
        config=dataclasses.replace(new, listen=old.listen, audit=old.audit, traces=old.traces),
        backends=backends,
        pools=pools,
        views=_changes(_with_views(old), _with_views(new)),
        tokens=_changes(_plain(old), _plain(new)),
        listeners=kept,
        new_listeners=tuple(name for name in new.listeners if name not in kept),
        changed_listeners=tuple(
            name for name, before in kept.items() if (before, old.listeners[before]) != (name, new.listeners[name])
        ),
        old_listeners=tuple(name for name in old.listeners if name not in kept.values()),
        offers=_changes(old.offers, new.offers),
        others=tuple(
            name
            for name in ("log", "metrics", "limits", "identities", "roles")
            if getattr(old, name) != getattr(new, name)
        ),
        needs_restart=tuple(_needs_restart(old, new)),
    )


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> Changes:
    return Changes(
        tuple(name for name in new if name not in old),
        tuple(name for name in new if name in old and old[name] != new[name]),
        tuple(name for name in old if name not in new),
    )


def _plain(config: Config) -> Mapping[str, TokenOptions]:
    return {name: token for name, token in config.tokens.items() if token.is_plain}


def _with_views(
    config: Config,
) -> Mapping[str, tuple[TokenOptions, tuple[tuple[ViewOptions, tuple[RoleOptions, ...]], ...]]]:
    """Return the tokens with views, and all that decides what a PIN leads to and what may be done there."""
    views = {name: (view, tuple(config.roles[role] for role in view.roles)) for name, view in config.views.items()}
    return {
        name: (token, tuple(views[view] for view in token.views))
        for name, token in config.tokens.items()
        if token.has_views
    }


def _pools(old: Config, new: Config, changed_backends: Collection[str]) -> Changes:
    before, after = _made_of(old), _made_of(new)
    changes = _changes(before, after)
    others = tuple(name for name in changes.changed if _identity(before[name][0]) != _identity(after[name][0]))
    moved = tuple(
        name
        for name, (_, members) in after.items()
        if before.get(name) == after[name] and any(each.backend in changed_backends for each in members)
    )
    changed = {*changes.changed, *moved} - set(others)
    return Changes(changes.added + others, tuple(name for name in after if name in changed), changes.removed + others)


def _made_of(config: Config) -> Mapping[str, tuple[TokenOptions, tuple[MemberOptions, ...]]]:
    return {name: (token, members_of(token, config)) for name, token in config.tokens.items() if token.is_pool}


def _identity(token: TokenOptions) -> tuple[str, ...]:
    return tuple(getattr(token, name) for name in _IDENTITY)


def _same_places(old: Mapping[str, ListenerOptions], new: Mapping[str, ListenerOptions]) -> Mapping[str, str]:
    """Return the old name by the new one of listeners at the same address. A port of 0 may be in several: then the name decides."""
    free = {name: str(listener.address) for name, listener in old.items()}
    places: dict[str, str] = {}
    for name in sorted(new, key=lambda name: name not in old):  # Who keeps the name comes first.
        address = str(new[name].address)
        before = name if free.get(name) == address else next((each for each in free if free[each] == address), None)
        if before is not None:
            places[name] = before
            del free[before]
    return places


def _needs_restart(old: Config, new: Config) -> Iterator[str]:
    if old.audit != new.audit:
        yield "audit"
    if old.traces != new.traces:
        yield "traces"
    if old.listen is None or new.listen is None:
        if old.listen != new.listen:
            yield "listen"
        return
    for each in dataclasses.fields(old.listen):
        if getattr(old.listen, each.name) != getattr(new.listen, each.name):
            yield f"listen.{each.name}"
