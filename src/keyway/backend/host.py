"""One module host: a process of its own around one vendor module, and the stream to it."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keyway.wire.header import VERSION_BYTE

__all__ = ["INHERITED", "Host", "HostError", "HostSettings", "describe_exit", "start"]

INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
"""What a host gets of the daemon's environment; the rest may hold secrets or change the module's behaviour by accident."""


class HostError(Exception):
    """A module host that could not be started. The text says why."""


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What a host is started with.

    Attributes:
        name: The backend's name.
        binary: Path of keyway-host.
        module: Path of the vendor's module.
        threads: Calls executed at a time.
        environment: The whole environment of the process.
        working_directory: Where it runs.
        timeout: Seconds that it may take to load the module.
    """

    name: str
    binary: Path
    module: Path
    threads: int
    environment: Mapping[str, str]
    working_directory: Path
    timeout: float


class Host:
    """A running module host with its module loaded.

    Attributes:
        name: The backend's name.
        pid: The process.
        transport: The stream to it. Whoever takes the host sets its own protocol on it.
        exited: Done with the exit status when the process has ended and been reaped; negative is a signal's number.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self.pid = process.pid
        self.transport: asyncio.Transport
        self.exited: asyncio.Future[int] = loop.create_future()
        self._loop = loop
        self._process = process
        self._ending: asyncio.TimerHandle | None = None
        # A pidfd is readable once the process has ended: no signal handler, no thread, no zombie.
        self._pidfd = os.pidfd_open(process.pid)
        loop.add_reader(self._pidfd, self._reap)

    def end(self, grace: float) -> None:
        """Close the stream, which tells the host to end, and kill it if it does not.

        Args:
            grace: Seconds until then.
        """
        self.transport.close()
        if not self.exited.done() and self._ending is None:
            self._ending = self._loop.call_later(grace, self.kill)

    def kill(self) -> None:
        """End the process at once."""
        if not self.exited.done():
            self._process.kill()

    async def wait_ended(self, grace: float) -> int:
        """Wait until the process has ended, killing it after a while, and return its exit status."""
        try:
            async with asyncio.timeout(grace):
                return await asyncio.shield(self.exited)
        except TimeoutError:
            self.kill()
            return await self.exited

    def _reap(self) -> None:
        status = self._process.poll()
        if status is None:
            return
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        if self._ending is not None:
            self._ending.cancel()
        self.exited.set_result(status)


def describe_exit(status: int) -> str:
    """Return an exit status in words."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"


class _Greeting(asyncio.Protocol):
    """Waits for the byte by which a host says that its module is loaded."""

    def __init__(self, ready: asyncio.Future[None]) -> None:
        self._ready = ready

    def data_received(self, data: bytes) -> None:
        if not self._ready.done():
            if data[0] == VERSION_BYTE:
                self._ready.set_result(None)
            else:
                self._ready.set_exception(HostError("the host speaks another version of the wire"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ready.done():
            self._ready.set_exception(HostError("the host ended"))


async def start(settings: HostSettings, errors: int) -> Host:
    """Start a host and wait until its module is loaded; C_Initialize is not called.

    Args:
        settings: What to start.
        errors: Descriptor that the host's standard output and error go to.

    Raises:
        HostError: It could not be started, or did not load its module in time.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            arguments = [
                str(settings.binary),
                "--fd",
                str(theirs.fileno()),
                "--threads",
                str(settings.threads),
                str(settings.module),
            ]
            process = subprocess.Popen(  # noqa: ASYNC220 - returns when exec is done, about a millisecond
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=settings.environment,
                cwd=settings.working_directory,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
    except OSError as error:
        ours.close()
        raise HostError(f"{error.filename or settings.binary}: {error.strerror}") from error
    host = Host(settings.name, process, loop)
    ready: asyncio.Future[None] = loop.create_future()
    ours.setblocking(False)
    transport, _ = await loop.create_unix_connection(lambda: _Greeting(ready), sock=ours)
    host.transport = transport
    try:
        transport.write(bytes([VERSION_BYTE]))
        async with asyncio.timeout(settings.timeout):
            await ready
    except BaseException as error:
        transport.close()
        if not isinstance(error, HostError):
            host.kill()
        status = await host.wait_ended(1.0)
        if isinstance(error, TimeoutError):
            raise HostError(f"{settings.module}: not loaded after {settings.timeout:g} s") from error
        if isinstance(error, HostError):
            raise HostError(f"{settings.module}: {error}: it {describe_exit(status)}") from error
        raise
    return host
