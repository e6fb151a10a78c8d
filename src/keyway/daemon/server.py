"""The running daemon: its listeners, its backends, its clients."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from keyway.config import Config, EntranceOptions
from keyway.cryptoki import Version
from keyway.daemon.asking import Asking
from keyway.daemon.changes import Changes
from keyway.daemon.connection import Connection, Entrance
from keyway.daemon.guard.gate import Ledger, new_gate
from keyway.daemon.homes import Homes
from keyway.daemon.janitor import Janitor
from keyway.daemon.listener import OWN, Listener
from keyway.daemon.offer import Offer
from keyway.daemon.reload import Outcome, reload
from keyway.daemon.service import Service
from keyway.daemon.tasks import Tasks
from keyway.daemon.trace import Tracing
from keyway.daemon.view import View
from keyway.gateway.shares import Shares
from keyway.observe.log import event
from keyway.observe.metrics import Counters
from keyway.transport.peer import Peer, peer_behind

if TYPE_CHECKING:
    from keyway.access.identity import Identity
    from keyway.daemon.backend import Backend
    from keyway.daemon.http import Monitor
    from keyway.daemon.pool.pool import Pool
    from keyway.daemon.spans import Spans
    from keyway.observe.audit_sinks import AuditLog, Signer

__all__ = ["Daemon"]

SPARE_CONNECTIONS = 64
"""Connections beyond the limit of contexts: of clients that say hello or goodbye, and of `keyway status`."""


class Daemon:
    """Joins everything.

    Attributes:
        config: The configuration.
        path: Where it was read, and can be again; None if it was not.
        reloading: Held while another configuration is put in force.
        is_ending: Whether the daemon was told to stop.
        sockets: Descriptors of the listening sockets that the service manager hands over, by name.
        homes: The backends and pools.
        tasks: What runs beside the loop's callbacks.
        changes: Who is told of changed objects.
        tracing: Who is shown the calls that pass.
        asking: Who is told how something goes on that takes its time.
        counters: What is counted for monitoring.
        clients: The open connections.
        shares: Which of them may pass how many requests on now.
        listeners: Where clients connect.
        ledger: What identities have used and tried.
        gate: Tells who is who.
        monitor: What answers monitoring; None if nobody shall.
        audit: Where calls are recorded; None if they are not, or the daemon has not started.
        spans: Makes traces of contexts for others; None if none are made, or the daemon has not started.
        offers: Where this gateway connects to, for clients to come that way.
        now: The loop's clock, in seconds.
        since: When the daemon was made, by that clock.
        idle_since: Since when there is no client, by that clock; None while there are some.
        version_text: Keyway's version.
        version: The same as the standard has it.
    """

    def __init__(
        self,
        config: Config,
        binary: Path,
        environment: Mapping[str, str],
        version: str,
        sockets: Mapping[str, int],
        path: Path | None = None,
        signer: Callable[[Callable[[], socket.socket]], Signer] | None = None,
    ) -> None:
        """Prepare a daemon; nothing runs yet. Needs a running loop.

        Args:
            config: The configuration.
            binary: Path of keyway-host.
            environment: What module hosts inherit, before their backend's own variables.
            version: Keyway's version.
            sockets: Descriptors of the listening sockets that the service manager hands over, by name.
            path: Where the configuration was read, and can be again; None if it was not.
            signer: Makes what signs checkpoints of the audit log, from what connects it to this daemon.

        Raises:
            ConfigError: An identity is a user or group that is not there.
        """
        self.now = asyncio.get_running_loop().time
        self.since = self.now()
        self.idle_since: float | None = self.since
        self.version_text = version
        self.version = _version(version)
        self.config = config
        self.path = path
        self.reloading = asyncio.Lock()
        self.is_ending = False
        self.sockets = sockets
        self.tasks = Tasks()
        self.changes = Changes()
        self.tracing = Tracing(self)
        self.asking = Asking(self)
        self.counters = Counters()
        self.ledger = Ledger(self.now)
        self.gate = new_gate(config, self.ledger)
        self.monitor: Monitor | None = None
        self.audit: AuditLog | None = None
        self.spans: Spans | None = None
        self._signer = signer
        self.clients: set[Connection] = set()
        loop = asyncio.get_running_loop()
        self.shares: Shares[Connection] = Shares(lambda: loop.call_soon(self.next_turn))
        own = {OWN: config.listen.as_listener()} if config.listen is not None else {}
        self.homes = Homes(config, binary, environment, self.tasks, self.counters, self.ledger.pin_file)
        self.listeners = [
            Listener(self, name, options, self.view(options)) for name, options in {**own, **config.listeners}.items()
        ]
        self.offers = [Offer(self, name, options) for name, options in config.offers.items()]
        self._contexts: dict[str, Entrance] = {}
        self._context_count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def backends(self) -> Mapping[str, Backend]:
        """The backends that new contexts get, by name."""
        return self.homes.backends

    @property
    def pools(self) -> Mapping[str, Pool]:
        """The pools that new contexts get, by the token's name."""
        return self.homes.pools

    async def start(self) -> None:
        """Listen everywhere, and start spare hosts.

        Raises:
            AddressError: An address can't be listened on.
            AuditError: The audit log can't be opened.
            SpansError: Traces can't be sent.
        """
        raise_descriptor_limit()
        async with self.reloading:
            self._open_audit()
            try:
                self._open_spans()
                for listener in self.listeners:
                    listener.start(self.sockets)
                self.monitor = await self.new_monitor(self.config)
            except BaseException:
                self._close_listeners()
                await self._close_spans()
                self._say_stop()
                await self._close_audit()
                raise
            self.homes.start()
            for offer in self.offers:
                self.start_offer(offer)
        self.tasks.start(Janitor(self).run(), "janitor")
        event(logging.INFO, "ready", pid=os.getpid())

    async def stop(self, drain: float, hurry: asyncio.Event | None = None) -> None:
        """Take no more clients, let those that are there end, then end them and everything else.

        Args:
            drain: Seconds that clients have, and after them the last checkpoint of the audit log.
            hurry: Ends these times early when set.
        """
        self.is_ending = True
        self._close_listeners()
        if self.monitor is not None:
            self.monitor.drain()
        self.tracing.close()
        self.asking.close()
        if self.clients:
            event(logging.INFO, "draining", clients=len(self.clients), seconds=drain)
            try:
                async with asyncio.timeout(drain):
                    await self._idle_or(hurry)
            except TimeoutError:
                pass
        for client in list(self.clients):
            client.abort()
        await self.wait_idle()
        await self._seal_audit(drain, hurry)
        for client in list(self.clients):
            client.abort()
        await self.wait_idle()
        await self.tasks.stop()
        await self.homes.close()
        if self.monitor is not None:
            await self.monitor.close()
        await self._close_spans()
        await self._close_audit()
        event(logging.INFO, "stopped")

    def reload_soon(self) -> asyncio.Task[Outcome]:
        """Start to read the configuration again and to go by it; return the task, which tells what came of it."""
        return self.tasks.start(reload(self), "reload")

    def view(self, options: EntranceOptions) -> View:
        """Return what clients see who come in somewhere.

        Args:
            options: The section of the configuration that says where.
        """
        homes = self.homes
        return View(self.config, homes.by_name, homes.pools.values(), options.tokens, options.first_slot)

    async def new_monitor(self, config: Config) -> Monitor | None:
        """Return what answers monitoring, which listens already; None if nobody shall.

        Args:
            config: Says where.

        Raises:
            AddressError: It can't be listened on there.
        """
        if config.metrics.address is None:
            return None
        from keyway.daemon.http import Monitor  # What it needs takes long to load, and most do without.

        monitor = Monitor(self, config.metrics.address)
        await monitor.start()
        return monitor

    def start_offer(self, offer: Offer) -> None:
        """Let an offer open connections."""
        self.tasks.start(offer.run(), f"offer {offer.name}")

    def _open_audit(self) -> None:
        if self.config.audit.is_kept:
            from keyway.daemon.audit import open_audit  # What it needs takes long to load, and many do without.

            signer = None if self._signer is None else self._signer(self._connection_from_here)
            self.audit = open_audit(self.config.audit, signer, self.version_text)

    def _open_spans(self) -> None:
        if self.config.traces is not None:
            from keyway.daemon.spans import open_spans  # What it needs takes long to load, and most do without.

            self.spans = open_spans(self.config.traces, self.version_text)

    async def _close_spans(self) -> None:
        if self.spans is not None:
            await self.spans.close()

    def _connection_from_here(self) -> socket.socket:
        return next(listener for listener in self.listeners if listener.name == OWN).connect_from_here()

    async def _seal_audit(self, seconds: float, hurry: asyncio.Event | None) -> None:
        """Have the audit log signed to its end, while there is a token that can do so."""
        self._say_stop()
        if self.audit is None:
            return
        sealing = self.tasks.start(self.audit.seal(), "last checkpoint")
        waits = {sealing} if hurry is None else {sealing, self.tasks.start(hurry.wait(), "hurry")}
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not sealing.done():
            event(logging.WARNING, "audit log not signed to its end", reason="the token or a sink did not answer")
        for each in waits:
            each.cancel()
        await asyncio.gather(sealing, return_exceptions=True)

    def _say_stop(self) -> None:
        if self.audit is not None:
            self.audit.say("stop", f"process {os.getpid()}")

    async def _close_audit(self) -> None:
        if self.audit is not None:
            await self.audit.close()

    def _close_listeners(self) -> None:
        for listener in self.listeners:
            listener.close()
        for offer in self.offers:
            offer.close()

    async def _idle_or(self, hurry: asyncio.Event | None) -> None:
        loop = asyncio.get_running_loop()
        waits = [loop.create_task(event.wait()) for event in (self._idle, hurry) if event is not None]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    # From the clients

    def admit(self, client: Connection, transport: asyncio.Transport) -> Peer | None:
        """Return who has connected; None if the client can't be taken."""
        peer = peer_behind(transport)
        if peer is None:
            return None
        entrance = client.entrance
        limit = self.config.limits.contexts + SPARE_CONNECTIONS
        # Who looks after the daemon gets in when all others have filled it.
        limit += SPARE_CONNECTIONS if _is_own(peer) else 0
        own_limit = entrance.contexts + SPARE_CONNECTIONS if entrance.contexts else limit
        here = sum(other.entrance is entrance for other in self.clients) if entrance.contexts else 0
        if len(self.clients) >= limit or here >= own_limit:
            # Whoever is silent keeps nobody out.
            silent = self._oldest_silent(entrance if here >= own_limit else None)
            if silent is None:
                event(logging.WARNING, "connection refused", listener=entrance.name, reason="limit of connections")
                return None
            silent.refuse("limit of connections, and this one is the oldest without a context")
        self.clients.add(client)
        self._idle.clear()
        self.idle_since = None
        return peer

    def _oldest_silent(self, entrance: Entrance | None) -> Connection | None:
        """Return who has connected first of those that have no context and wait for nothing; the daemon's own user and root are left alone.

        Args:
            entrance: Where it came in; None for anywhere.
        """
        silent = (
            client
            for client in self.clients
            if not client.has_begun
            and not client.transport.is_closing()
            and (entrance is None or client.entrance is entrance)
            and not (client.peer and _is_own(client.peer))
        )
        return min(silent, key=lambda client: client.since, default=None)

    def dismiss(self, client: Connection) -> None:
        """Forget a connection that is closed."""
        self.clients.discard(client)
        self.tracing.leave(client)
        if self.spans is not None:
            self.spans.leave(client)
        self.asking.leave(client)
        if not self.clients:
            self._idle.set()
            self.idle_since = self.now()

    async def wait_idle(self) -> None:
        """Wait until no client is connected."""
        await self._idle.wait()

    def new_context(self, entrance: Entrance) -> str | None:
        """Return a name for a new context; None if there are too many.

        Args:
            entrance: Where its client came in.
        """
        here = sum(other is entrance for other in self._contexts.values()) if entrance.contexts else 0
        if len(self._contexts) >= self.config.limits.contexts or (entrance.contexts and here >= entrance.contexts):
            return None
        self._context_count += 1
        name = f"{os.getpid():x}-{self._context_count}"
        self._contexts[name] = entrance
        return name

    def has_room_for(self, identity: Identity | None) -> bool:
        """Tell whether an identity may have one more context.

        Args:
            identity: Who; None for nobody.
        """
        if identity is None or not identity.contexts:
            return True
        services = (client.service for client in self.clients)
        entrants = [service.entrant for service in services if service.binding is not None]
        return sum(each is not None and each.name == identity.name for each in entrants) < identity.contexts

    def next_turn(self) -> None:
        """Let those go on who have given way and whose turn it is."""
        with contextlib.closing(self.shares.turn()) as turn:
            for client in turn:
                client.next_turn()

    def note_reader(self, backend: str, reader: Service) -> None:
        """Note that a context reads ahead."""
        if self.changes.join(backend, reader):
            for client in self.clients:
                client.service.watch_changes()

    def end_context(self, name: str) -> None:
        """Forget a context."""
        self._contexts.pop(name, None)


def _is_own(peer: Peer) -> bool:
    return peer.uid in (0, os.geteuid())


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets us: each context needs four."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _version(text: str) -> Version:
    major, minor, *_ = (*text.split("."), "0", "0")
    return Version(*(min(int(part), 255) if part.isdecimal() else 0 for part in (major, minor)))
