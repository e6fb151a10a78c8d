"""One client's context joined with its backends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, Protocol

from keyway.cryptoki import call_named, rv_name
from keyway.daemon.backend import BackendError
from keyway.daemon.link import Caller, Link, LinkLost, Owner
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.backend.stream import Stream
    from keyway.backend.turns import Turns
    from keyway.config import BackendOptions
    from keyway.gateway.context import Context

__all__ = ["Binding", "Home"]

_FINALIZE: Final = call_named("C_Finalize").number


class Home(Protocol):
    """Where a context's streams lead: a backend, or a pool, which stands in the place of one.

    Attributes:
        name: The backend's name.
        options: Its section of the configuration.
        turns: At what its streams can't do at the same time.
        crashes: Streams that ended while a client had them.
    """

    name: str
    options: BackendOptions
    turns: Turns
    crashes: int

    async def stream(self) -> Stream:
        """Return a stream that is ready for C_Initialize; it belongs to the caller.

        Raises:
            BackendError: There is none to be had.
        """

    async def initialise(self, link: Caller) -> None:
        """Call C_Initialize of the module.

        Raises:
            BackendError: It failed, or did not return in time; then the stream is cut off.
        """


class Binding:
    """The streams that belong to one context (isolation = "client").

    Attributes:
        context: The decisions about its calls.
        backends: The backends by name.
        links: Its streams by the backend's name; a backend that is not reached has none.
    """

    def __init__(
        self,
        context: Context,
        backends: Mapping[str, Home],
        owner: Owner,
        name: str,
        ending: float,
        guard: Callable[[Stream], None] | None = None,
    ) -> None:
        """Join a context with nothing yet.

        Args:
            context: Its decisions.
            backends: The backends by name.
            owner: Who gets the replies.
            name: The context's name, for the log.
            ending: Seconds that a host has to end before it is killed.
            guard: Puts a guard into a stream; None if none is needed.
        """
        self.context = context
        self.links: dict[str, Link] = {}
        self.backends = backends
        self._owner = owner
        self._name = name
        self._ending = ending
        self._guard = guard
        self._closed = False
        self._reaching = {name: asyncio.Lock() for name in backends}

    async def reach(self, backend: str) -> Link:
        """Return the stream to a backend's host, which is started if there is none.

        Raises:
            BackendError: The backend can't be reached.
        """
        async with self._reaching[backend]:
            if self._closed:
                raise BackendError("the context is over")
            if (link := self.links.get(backend)) is not None:
                return link
            home = self.backends[backend]
            # Spares may have died unnoticed, all at once for the same reason; a fresh host tells whether that reason lasts.
            for _ in range(home.options.spares + 1):
                try:
                    return await self._try(home)
                except BackendError as error:
                    if error.rv is not None or self._closed:
                        raise
            return await self._try(home)

    async def _try(self, home: Home) -> Link:
        stream = await home.stream()
        if self._guard is not None:
            self._guard(stream)
        link = Link(stream, self._owner)
        if self._closed:
            # Nobody is left to end it.
            self._end(link)
            raise BackendError("the context is over")
        self.links[home.name] = link
        try:
            await home.initialise(link)
        except BackendError as error:
            self._end(link)
            if self._closed:
                raise
            rv = {} if error.rv is None else {"rv": rv_name(error.rv)}
            event(
                logging.ERROR, "module not initialised", backend=home.name, context=self._name, reason=str(error), **rv
            )
            raise
        return link

    async def finalise(self) -> int:
        """Call C_Finalize of the modules and end their hosts. Return the first RV that is not CKR_OK, or CKR_OK.

        A module that takes too long is ended without; the context is over in any case.
        """
        rvs = await asyncio.gather(*map(self._finalise, list(self.links.values())))
        self.close()
        return next(filter(None, rvs), 0)

    async def _finalise(self, link: Link) -> int:
        try:
            async with asyncio.timeout(self._ending):
                await link.closed()
                rv, _ = await link.call(_FINALIZE, b"")
        except TimeoutError:
            link.host.kill("C_Finalize took too long")
            return 0
        except LinkLost:
            return 0
        return rv

    def close(self) -> None:
        """End the hosts. No more are taken: a call that is being repeated may still ask for one."""
        self._closed = True
        for link in list(self.links.values()):
            self._end(link)

    def _end(self, link: Link) -> None:
        self.links.pop(link.name, None)
        link.ending = True
        link.host.end(self._ending)

    async def report_lost(self, link: Link, calls: list[str]) -> None:
        """Report a host that ended by itself.

        Args:
            link: The stream to it.
            calls: What it was executing.
        """
        self.backends[link.name].crashes += 1
        link.host.end(self._ending)
        how = await asyncio.shield(link.host.ended)  # The end is waited for elsewhere too.
        event(
            logging.ERROR,
            f"{link.host.kind} ended",
            backend=link.name,
            context=self._name,
            host=link.host.place,
            how=how,
            calls=",".join(calls),
        )
