"""A configured backend in the running daemon: its stock of streams, and how the module behind them is initialised."""

import asyncio
import logging
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from keyway.backend.command import Command
from keyway.backend.connection import Connection
from keyway.backend.host import Host
from keyway.backend.offered import OfferedSource
from keyway.backend.stock import Stock
from keyway.backend.stream import Stream, StreamError
from keyway.backend.turns import Turns
from keyway.config import BackendOptions
from keyway.cryptoki import Null, call_named
from keyway.cryptoki.constants import CKF_OS_LOCKING_OK
from keyway.daemon.link import Caller, LinkLost
from keyway.daemon.sources import source_of
from keyway.observe.log import event
from keyway.observe.metrics import Answered
from keyway.wire.codec import encode_request

__all__ = ["Backend", "BackendError"]

_INITIALIZE: Final = call_named("C_Initialize")
_AT_ONCE: Final = 8
"""Streams to elsewhere that are opened at a time; sshd(8) drops some of more than ten. Modules are loaded one after another."""
_LAST_WORDS: Final = 1.0
"""Seconds that what has closed its stream has to end, and to say why."""
_FAILED: Final = {
    Host.kind: "module host can't be started",
    Command.kind: "command does not answer",
    Connection.kind: "connection can't be made",
}
"""What the log says when a stream can't be had."""


class BackendError(Exception):
    """A backend can't be reached. The text says why.

    Attributes:
        rv: What the module's C_Initialize answered, if it got that far.
    """

    def __init__(self, text: str, rv: int | None = None) -> None:
        super().__init__(text)
        self.rv = rv


class Backend:
    """Gives out streams, and initialises the modules behind them.

    Attributes:
        name: Its name in the configuration.
        options: Its section of the configuration.
        stock: Its streams that are not in use yet.
        turns: At what its streams can't do at the same time.
        crashes: Streams that ended while a client had them.
        answered: What they have answered so far.
    """

    def __init__(
        self,
        name: str,
        options: BackendOptions,
        binary: Path,
        environment: Mapping[str, str],
        own_user: int | None = None,
    ) -> None:
        """Prepare the backend; `run` starts it.

        Args:
            name: Its name.
            options: Its section of the configuration.
            binary: Path of keyway-host.
            environment: What hosts inherit of the daemon's environment.
            own_user: Number of the user that hosts run as unless the section says otherwise; None: that of the daemon.
        """
        self.name = name
        self.options = options
        # Another gateway has turns of its own.
        self.turns = Turns(needed=options.module is not None or options.protocol == "p11-kit")
        self.crashes = 0
        self.answered = Answered()
        flags = CKF_OS_LOCKING_OK if options.os_locking else 0
        reserved = options.init_string.encode() if options.init_string else Null()
        self._initialize = encode_request(_INITIALIZE, (flags, reserved, b"" if options.module else b"keyway")).body
        self.source = source_of(name, options, binary, environment, self._initialize, own_user)
        self.stock = Stock(self.source.bring, options.spares, self._failed, 1 if options.module else _AT_ONCE)

    async def stream(self) -> Stream:
        """Return a stream that is ready for C_Initialize; it belongs to the caller.

        Raises:
            BackendError: There is none to be had.
        """
        try:
            return await self.stock.take()
        except StreamError as error:
            raise BackendError(str(error)) from error

    async def initialise(self, link: Caller) -> None:
        """Call C_Initialize of the module.

        Raises:
            BackendError: It failed, or did not return in time; then the stream is cut off.
        """
        link.answered = self.answered
        turn = await self.turns.take(exclusive=True)
        try:
            async with asyncio.timeout(self.options.start_timeout):
                rv, _ = await link.call(_INITIALIZE.number, self._initialize)
        except TimeoutError as error:
            link.host.kill("C_Initialize took too long")
            reason = f"C_Initialize did not return in {self.options.start_timeout:g} s"
            self.stock.note_failure(reason)
            raise BackendError(reason) from error
        except LinkLost as error:
            how = await link.host.wait_ended(_LAST_WORDS)
            reason = f"the {link.host.kind} ended in C_Initialize: it {how}"
            if not link.host.has_waited:
                self.stock.note_failure(reason)
            raise BackendError(reason) from error
        finally:
            turn.end()
        self.stock.note_success()
        if rv:
            raise BackendError("C_Initialize failed", rv)

    def status(self) -> dict[str, object]:
        """Return how it goes, for `keyway status`."""
        return {
            "kind": self.source.kind,
            "source": _source(self.options),
            "hosts": self.stock.alive,
            "spares": self.stock.spares,
            **({"offered": self.source.offered} if isinstance(self.source, OfferedSource) else {}),
            "started": self.stock.started,
            "crashes": self.crashes,
            "failures": self.stock.failures,
            "error": self.stock.error,
        }

    async def close(self) -> None:
        """End the spares and wait until no stream is left: those of clients end with these."""
        self.stock.close()
        await self.stock.wait_ended()
        await self.source.close()

    def _failed(self, reason: str) -> None:
        event(logging.ERROR, _FAILED[self.source.kind], backend=self.name, reason=reason)


def _source(options: BackendOptions) -> str:
    """Return what a backend is, in the words of its section."""
    return shlex.join(options.command) or str(
        options.module or options.address or options.offered or options.offered_principal
    )
