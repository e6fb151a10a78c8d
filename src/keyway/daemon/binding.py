"""One client's context joined with its module hosts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from keyway.backend.host import describe_exit
from keyway.cryptoki import call_named
from keyway.daemon.backend import Backend, BackendError
from keyway.daemon.link import Link, LinkLost, Owner
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.gateway.context import Context

__all__ = ["Binding"]

_FINALIZE: Final = call_named("C_Finalize").number


class Binding:
    """The hosts that belong to one context (isolation = "client").

    Attributes:
        context: The decisions about its calls.
        backends: The backends by name.
        links: The streams to its hosts by the backend's name; a backend that is not reached has none.
    """

    def __init__(
        self, context: Context, backends: Mapping[str, Backend], owner: Owner, name: str, ending: float
    ) -> None:
        """Join a context with nothing yet.

        Args:
            context: Its decisions.
            backends: The backends by name.
            owner: Who gets the replies.
            name: The context's name, for the log.
            ending: Seconds that a host has to end before it is killed.
        """
        self.context = context
        self.links: dict[str, Link] = {}
        self.backends = backends
        self._owner = owner
        self._name = name
        self._ending = ending

    async def reach(self, backend: str) -> Link:
        """Return the stream to a backend's host, which is started if there is none.

        Raises:
            BackendError: The backend can't be reached.
        """
        if (link := self.links.get(backend)) is not None:
            return link
        home = self.backends[backend]
        link = Link(await home.host(), self._owner)
        self.links[backend] = link
        try:
            await home.initialise(link)
        except BackendError as error:
            self._end(link)
            rv = "" if error.rv is None else f"{error.rv:#x}"
            event(
                logging.ERROR, "module not initialised", backend=backend, context=self._name, reason=str(error), rv=rv
            )
            raise
        return link

    async def finalise(self) -> int:
        """Call C_Finalize of the modules and end their hosts. Return the first RV that is not CKR_OK, or CKR_OK."""
        answer = 0
        for link in list(self.links.values()):
            try:
                rv, _ = await link.call(_FINALIZE, b"")
            except LinkLost:
                continue
            answer = answer or rv
        self.close()
        return answer

    def close(self) -> None:
        """End the hosts."""
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
        status = await link.host.exited
        event(
            logging.ERROR,
            "module host ended",
            backend=link.name,
            context=self._name,
            host=link.host.pid,
            how=describe_exit(status),
            calls=",".join(calls),
        )
