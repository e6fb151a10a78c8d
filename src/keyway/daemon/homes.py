"""The backends, pools and tokens with views of a daemon: those that new contexts get, and those that only older contexts still have."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keyway.backend.own_users import OwnUsers
from keyway.config import Config, members_of, target_of
from keyway.daemon.backend import Backend
from keyway.daemon.pool.pool import Pool
from keyway.daemon.views.home import ViewsHome
from keyway.daemon.views.lead import Lead
from keyway.gateway.slots import TokenRule
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.config import BackendOptions
    from keyway.daemon.binding import Home
    from keyway.daemon.guard.reach import PinFile
    from keyway.daemon.tasks import Tasks
    from keyway.observe.metrics import Counters

__all__ = ["Homes"]


class Homes:
    """Makes, runs and ends them.

    Attributes:
        backends: The backends by name.
        pools: The pools by the token's name.
        views: The tokens with views by name.
        by_name: All of these, by what clients' streams know them by. A context keeps the one that it began with.
        old_backends: Backends that are not configured any more, or not like that.
        old_pools: Such pools.
    """

    def __init__(
        self,
        config: Config,
        binary: Path,
        environment: Mapping[str, str],
        tasks: Tasks,
        counters: Counters,
        pin_file: Callable[[Path, str, str], PinFile],
    ) -> None:
        """Prepare those of a configuration. Needs a running loop.

        Args:
            config: The configuration.
            binary: Path of keyway-host.
            environment: What module hosts inherit, before their backend's own variables.
            tasks: What runs beside the loop's callbacks.
            counters: Where calls are counted.
            pin_file: Returns what is known of a file with a PIN, by its path, what logs call its token, and which one that is.

        Raises:
            AddressError: Files for TLS can't be used.
        """
        self._binary = binary
        self._environment = environment
        self._own_users = OwnUsers() if os.geteuid() == 0 else None
        self._tasks = tasks
        self._counters = counters
        self._pin_file = pin_file
        self._running: dict[Backend | Pool, asyncio.Task[None]] = {}
        self._ending: set[Backend] = set()
        self.old_backends: set[Backend] = set()
        self.old_pools: set[Pool] = set()
        self.backends: Mapping[str, Backend] = {
            name: self.new_backend(name, options) for name, options in config.backends.items()
        }
        self.pools: Mapping[str, Pool] = {
            name: self.new_pool(name, config, self.backends) for name, token in config.tokens.items() if token.is_pool
        }
        self.views: Mapping[str, ViewsHome] = {
            name: self.new_views(name, config, self.backends, self.pools)
            for name, token in config.tokens.items()
            if token.has_views
        }
        self.by_name = _by_name(self.backends, self.pools, self.views)
        self._count()

    def new_backend(self, name: str, options: BackendOptions) -> Backend:
        """Return a backend that does not run yet.

        Raises:
            AddressError: Files for TLS can't be used.
        """
        own_user = self._own_users.of(name) if self._own_users is not None else None
        return Backend(name, options, self._binary, self._environment, own_user)

    def new_pool(self, name: str, config: Config, backends: Mapping[str, Backend]) -> Pool:
        """Return a pool that does not run yet.

        Args:
            name: The token's name.
            config: The configuration.
            backends: Its backends by name.
        """
        token = config.tokens[name]
        return Pool(name, token, members_of(token, config), backends, self._tasks, self._counters, config.limits.ending)

    def new_views(
        self, name: str, config: Config, backends: Mapping[str, Backend], pools: Mapping[str, Pool]
    ) -> ViewsHome:
        """Return a token with views.

        Args:
            name: The token's name.
            config: The configuration.
            backends: Its backends by name.
            pools: Its pools by the token's name.
        """
        leads = []
        for each in config.tokens[name].views:
            view = config.views[each]
            target = target_of(view, config)
            held = self._pin_file(view.pin_file or view.select, view.token, view.token)
            rule = None if target.pool else TokenRule(name=each, number=0, backend=target.backend, uri=target.uri)
            home: Home = pools[target.pool] if target.pool else backends[target.backend]
            leads.append(Lead(name, each, home, rule, view.select, held))
        return ViewsHome(name, config.tokens[name], leads, self._tasks, config.limits.ending)

    def start(self) -> None:
        """Start what does not run yet."""
        for backend in self.backends.values():
            if backend not in self._running:
                self._running[backend] = self._tasks.start(backend.stock.keep_filled(), f"spares of {backend.name}")
        for pool in self.pools.values():
            if pool not in self._running:
                self._running[pool] = self._tasks.start(pool.run(), pool.name)

    def change(
        self, backends: Mapping[str, Backend], pools: Mapping[str, Pool], views: Mapping[str, ViewsHome]
    ) -> None:
        """Let new contexts get others from now on, and start them.

        Args:
            backends: The backends by name; those that stay are the same objects.
            pools: The pools by the token's name, likewise.
            views: The tokens with views by name.
        """
        gone = set(self.backends.values()) - set(backends.values())
        self.old_pools |= set(self.pools.values()) - set(pools.values())
        self.old_backends |= gone
        for name, backend in backends.items():
            if name in self.backends:
                backend.answered = self.backends[name].answered  # Whoever watches sees it go up only.
        self.backends, self.pools, self.views = backends, pools, views
        self.by_name = _by_name(backends, pools, views)
        self._count()
        self.start()
        for backend in gone:
            # It starts no more than its contexts ask for.
            self._running.pop(backend).cancel()
            backend.stock.close()

    def release(self, used: Collection[Home]) -> None:
        """End what is not configured any more, and not used.

        Args:
            used: What contexts have.
        """
        used = {*used, *(behind for home in used if isinstance(home, ViewsHome) for behind in home.homes)}
        for pool in list(self.old_pools):
            if pool.is_idle and pool not in used:
                self.old_pools.discard(pool)
                self._running.pop(pool).cancel()
        needed = {backend for pool in (*self.pools.values(), *self.old_pools) for backend in pool.backends()}
        for backend in self.old_backends - needed - self._ending:
            if backend not in used:
                self._ending.add(backend)
                self._tasks.start(self._end(backend), f"end of {backend.name}")

    async def close(self) -> None:
        """End everything, and wait for that. Nothing runs any more."""
        for pool in (*self.pools.values(), *self.old_pools):
            pool.close()
        for backend in (*self.backends.values(), *self.old_backends):
            await backend.close()

    async def _end(self, backend: Backend) -> None:
        await backend.close()
        self.old_backends.discard(backend)
        self._ending.discard(backend)
        event(logging.INFO, "backend ended", backend=backend.name)

    def _count(self) -> None:
        self._counters.answered = {name: backend.answered for name, backend in self.backends.items()}


def _by_name(
    backends: Mapping[str, Backend], pools: Mapping[str, Pool], views: Mapping[str, ViewsHome]
) -> Mapping[str, Home]:
    return {
        **backends,
        **{pool.name: pool for pool in pools.values()},
        **{home.name: home for home in views.values()},
    }
