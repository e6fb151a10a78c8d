"""Reading the configuration again, and going by it without dropping a client.

First comes everything that can fail, then, in one go, what can't. So a configuration is in force as a whole or not at all.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from keyway.config import Config, ConfigError, load, members_of, missing_modules
from keyway.daemon.guard.gate import Gate, new_gate
from keyway.daemon.listener import OWN, Listener
from keyway.daemon.offer import Offer
from keyway.daemon.pool.changing import change, future_members
from keyway.daemon.reload_plan import Plan, plan
from keyway.observe.log import configure, event
from keyway.transport.errors import AddressError

if TYPE_CHECKING:
    from pathlib import Path

    from keyway.daemon.backend import Backend
    from keyway.daemon.connection import Entrance
    from keyway.daemon.http import Monitor
    from keyway.daemon.pool.member import Member
    from keyway.daemon.pool.pool import Pool
    from keyway.daemon.server import Daemon
    from keyway.daemon.views.home import ViewsHome

__all__ = ["Outcome", "reload"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it.

    Attributes:
        problems: What is wrong with the configuration, a line each; then nothing has changed.
        changes: What has changed, a line each.
        needs_restart: What is other in the file and needs a restart.
    """

    problems: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


async def reload(daemon: Daemon) -> Outcome:
    """Read the daemon's configuration file again and go by it.

    Args:
        daemon: The daemon.
    """
    async with daemon.reloading:
        outcome = await _reload(daemon)
    for problem in outcome.problems:
        event(logging.ERROR, "not reloaded", problem=problem)
    if not outcome.problems:
        event(logging.INFO, "reloaded", changes="; ".join(outcome.changes) or "none")
    for name in outcome.needs_restart:
        event(logging.WARNING, "needs a restart", option=name)
    if daemon.audit is not None:
        from keyway.daemon.audit import reloaded

        reloaded(daemon.audit, outcome)
    return outcome


async def _reload(daemon: Daemon) -> Outcome:
    if daemon.path is None:
        return Outcome(problems=("this daemon was not started from a configuration file",))
    try:
        # Errors take long to be found a line.
        new, missing = await asyncio.to_thread(_read, daemon.path, daemon.config)
        if missing:
            return Outcome(problems=tuple(missing))
        decided = plan(daemon.config, new)
        async with AsyncExitStack() as undo:
            future = await _prepared(daemon, decided, undo)
            if daemon.is_ending:
                return Outcome(problems=("the daemon is being stopped",))
            _listen(daemon, decided, future, undo)
            undo.pop_all()
            _go_by(daemon, decided, future)
    except ConfigError as error:
        return Outcome(problems=tuple(error.problems))
    except AddressError as error:
        return Outcome(problems=(str(error),))
    return Outcome(changes=tuple(decided.told()), needs_restart=decided.needs_restart)


def _read(path: Path, old: Config) -> tuple[Config, list[str]]:
    """Return the configuration in a file, and which modules it newly names are not there."""
    new = load(path)
    others = {name: each for name, each in new.backends.items() if old.backends.get(name) != each}
    return new, missing_modules(path, dataclasses.replace(new, backends=MappingProxyType(others)))


@dataclass(slots=True)
class _Future:
    """What will be there.

    Attributes:
        gate: Tells who is who.
        backends: The backends by name.
        pools: The pools by the token's name.
        members: The members of those pools that change.
        views: The tokens with views by name.
        offers: The offers.
        monitor: What answers monitoring.
        listeners: The listeners.
        changes: What changes those of them that stay.
    """

    gate: Gate
    backends: dict[str, Backend] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    members: dict[str, list[Member]] = field(default_factory=dict)
    views: dict[str, ViewsHome] = field(default_factory=dict)
    offers: list[Offer] = field(default_factory=list)
    monitor: Monitor | None = None
    listeners: list[Listener] = field(default_factory=list)
    changes: list[Callable[[], None]] = field(default_factory=list)


async def _prepared(daemon: Daemon, decided: Plan, undo: AsyncExitStack) -> _Future:
    """Make what is new, as far as nobody can see it.

    Raises:
        AddressError: Something can't be had.
        ConfigError: An identity is a user or group that is not there.
    """
    future = _Future(new_gate(decided.config, daemon.ledger), monitor=daemon.monitor)
    config, homes = decided.config, daemon.homes
    for name, options in config.backends.items():
        if name in decided.backends.added or name in decided.backends.changed:
            future.backends[name] = homes.new_backend(name, options)
            undo.push_async_callback(future.backends[name].close)
        else:
            future.backends[name] = homes.backends[name]
    present = {offer.name: offer for offer in daemon.offers}
    for name, offered in config.offers.items():
        is_new = name in decided.offers.added or name in decided.offers.changed
        future.offers.append(Offer(daemon, name, offered) if is_new else present[name])
    if daemon.config.metrics.address != config.metrics.address:
        future.monitor = await daemon.new_monitor(config)
        if future.monitor is not None:
            undo.push_async_callback(future.monitor.close)
    for name, token in config.tokens.items():
        if name in decided.pools.added:
            future.pools[name] = homes.new_pool(name, config, future.backends)
        elif token.is_pool:
            future.pools[name] = homes.pools[name]
    for name, token in config.tokens.items():
        if token.has_views:
            future.views[name] = _views(daemon, decided, future, name)
    for name in decided.pools.changed:
        members = members_of(config.tokens[name], config)
        future.members[name] = await future_members(future.pools[name], members, future.backends)
    return future


def _views(daemon: Daemon, decided: Plan, future: _Future, name: str) -> ViewsHome:
    """Return a token with views: the one that is there, unless it has changed, or what it leads to is another one now."""
    made = daemon.homes.new_views(name, decided.config, future.backends, future.pools)
    present = daemon.homes.views.get(name)
    stays = present is not None and name not in decided.views.changed and present.homes == made.homes
    return present if present is not None and stays else made


def _listen(daemon: Daemon, decided: Plan, future: _Future, undo: AsyncExitStack) -> None:
    """Open new listeners, and prepare the change of others. Nobody comes in before the caller has gone on.

    Raises:
        AddressError: Something can't be listened on.
    """
    present = {listener.name: listener for listener in daemon.listeners}
    if OWN in present:
        future.listeners.append(present[OWN])
    for name, options in decided.config.listeners.items():
        if name in decided.new_listeners:
            listener = Listener(daemon, name, options, daemon.view(options))
            listener.start(daemon.sockets)
            undo.callback(listener.close)
        else:
            listener = present[decided.listeners[name]]
            if name in decided.changed_listeners:
                future.changes.append(listener.prepare(name, options))
        future.listeners.append(listener)


def _go_by(daemon: Daemon, decided: Plan, future: _Future) -> None:
    """Let the new configuration be in force. This can't fail, and nothing else happens meanwhile."""
    config = decided.config
    if "log" in decided.others:
        configure(config.log.level, config.log.format)
    for name, members in future.members.items():
        token = config.tokens[name]
        change(future.pools[name], token, members_of(token, config), members)
    for pool in (*daemon.pools.values(), *future.pools.values()):
        pool.ending = config.limits.ending
    for name in (*decided.views.changed, *decided.views.removed):
        daemon.homes.views[name].is_outdated = True
    for home in future.views.values():
        home.ending = config.limits.ending
    daemon.homes.change(future.backends, future.pools, future.views)
    daemon.config = config
    daemon.gate = future.gate
    for listener in daemon.listeners:
        if listener not in future.listeners:
            listener.close()
    for offer in daemon.offers:
        if offer not in future.offers:
            offer.close()
    if daemon.monitor is not None and daemon.monitor is not future.monitor:
        daemon.tasks.start(daemon.monitor.close(), "end of monitoring")
    for do in future.changes:
        do()
    new_offers = [offer for offer in future.offers if offer not in daemon.offers]
    daemon.listeners, daemon.offers, daemon.monitor = future.listeners, future.offers, future.monitor
    entrances: list[Entrance] = [*daemon.listeners, *daemon.offers, *(client.entrance for client in daemon.clients)]
    for entrance in entrances:
        entrance.view = daemon.view(entrance.options)
    for client in list(daemon.clients):
        client.service.look_who_it_is()
    for offer in new_offers:
        daemon.start_offer(offer)
