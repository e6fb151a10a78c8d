"""One module host: a process of its own around one vendor module, and the stream to it."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keyway.wire.header import VERSION_BYTE

__all__ = ["INHERITED", "Host", "HostError", "HostSettings", "describe_exit", "greet", "spawn", "start"]

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
        has_waited: Whether it was a spare. What is wrong with one may be long past, and says little about the next host.
    """

    def __init__(self, name: str, pid: int) -> None:
        """Take charge of a process. Somebody must call `note_exit` when it has been reaped.

        Args:
            name: The backend's name.
            pid: The process, not yet reaped.

        Raises:
            ProcessLookupError: It has been reaped.
        """
        self._loop = asyncio.get_running_loop()
        self.name = name
        self.pid = pid
        self.transport: asyncio.Transport
        self.exited: asyncio.Future[int] = self._loop.create_future()
        self.has_waited = False
        self._ending: asyncio.TimerHandle | None = None
        self._pidfd = os.pidfd_open(pid)

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """Reap the process when it ends; for a child of this process."""

        def reap() -> None:
            if (status := process.poll()) is not None:
                self._loop.remove_reader(self._pidfd)
                self.note_exit(status)

        # A pidfd is readable once the process has ended: no signal handler, no thread, no zombie.
        self._loop.add_reader(self._pidfd, reap)

    def note_exit(self, status: int) -> None:
        """Take note that the process has ended and been reaped.

        Args:
            status: Its exit status; negative is a signal's number.
        """
        if self.exited.done():
            return
        os.close(self._pidfd)
        if self._ending is not None:
            self._ending.cancel()
        self.exited.set_result(status)

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended, or has closed the stream, which is often seen first."""
        return self.exited.done() or self.transport.is_closing()

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
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def wait_ended(self, grace: float) -> int:
        """Wait until the process has ended, killing it after a while, and return its exit status."""
        try:
            async with asyncio.timeout(grace):
                return await asyncio.shield(self.exited)
        except TimeoutError:
            self.kill()
            return await self.exited


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
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = spawn(settings, theirs.fileno(), errors)
        except BaseException:
            ours.close()
            raise
    host = Host(settings.name, process.pid)
    host.watch(process)
    await greet(host, ours, settings)
    return host


def spawn(settings: HostSettings, descriptor: int, errors: int, *options: str) -> subprocess.Popen[bytes]:
    """Start keyway-host.

    Args:
        settings: What to start.
        descriptor: The socket that it is to serve; the caller closes its own copy.
        errors: Descriptor for its standard output and error.
        options: More options for its command line.

    Raises:
        HostError: It could not be started.
    """
    arguments = [
        str(settings.binary),
        "--fd",
        str(descriptor),
        "--threads",
        str(settings.threads),
        *options,
        str(settings.module),
    ]
    try:
        return subprocess.Popen(  # Returns when exec is done, about a millisecond.
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env=settings.environment,
            cwd=settings.working_directory,
            pass_fds=(descriptor,),
            start_new_session=True,
        )
    except OSError as error:
        raise HostError(f"{error.filename or settings.binary}: {error.strerror}") from error


async def greet(host: Host, stream: socket.socket, settings: HostSettings) -> None:
    """Settle the version with a new host, which answers once its module is loaded. A host that does not is ended.

    Args:
        host: The host; gets its transport.
        stream: Our end of the stream to it.
        settings: What it was started with.

    Raises:
        HostError: It ended, speaks another version, or took too long.
    """
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    stream.setblocking(False)
    host.transport, _ = await loop.create_unix_connection(lambda: _Greeting(ready), sock=stream)
    try:
        host.transport.write(bytes([VERSION_BYTE]))
        async with asyncio.timeout(settings.timeout):
            await ready
    except BaseException as error:
        host.transport.close()
        if not isinstance(error, HostError):
            host.kill()
        status = await host.wait_ended(1.0)
        if isinstance(error, TimeoutError):
            raise HostError(f"{settings.module}: not loaded after {settings.timeout:g} s") from error
        if isinstance(error, HostError):
            raise HostError(f"{settings.module}: {error}: it {describe_exit(status)}") from error
        raise
