"""One module host: a process of its own around one vendor module, and the stream to it."""

import asyncio
import socket
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keyway.backend.greeting import Greeting
from keyway.backend.process import Process
from keyway.backend.sandbox import Sandbox, arguments
from keyway.backend.segment import Segment
from keyway.backend.stream import StreamError
from keyway.wire.header import VERSION_BYTE

__all__ = ["Host", "HostError", "HostSettings", "greet", "new_segment", "spawn", "start"]


class HostError(StreamError):
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
        sandbox: What it may do. None: it is not confined.
        shared_memory: Bytes of memory for large bodies. 0: they go through the socket.
    """

    name: str
    binary: Path
    module: Path
    threads: int
    environment: Mapping[str, str]
    working_directory: Path
    timeout: float
    sandbox: Sandbox | None = field(default_factory=Sandbox)
    shared_memory: int = 0


class Host(Process):
    """A running module host with its module loaded."""

    kind = "module host"


async def start(settings: HostSettings, errors: int) -> Host:
    """Start a host and wait until its module is loaded; C_Initialize is not called.

    Args:
        settings: What to start.
        errors: Descriptor that the host's standard output and error go to.

    Raises:
        HostError: It could not be started, or did not load its module in time.
    """
    segment = new_segment(settings)
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = spawn(settings, theirs.fileno(), errors, segment=segment)
        except BaseException:
            ours.close()
            raise
        finally:
            if segment is not None:
                segment.hand_over()
    host = Host(settings.name, process.pid)
    host.segment = segment
    host.watch(process)
    await greet(host, ours, settings)
    return host


def new_segment(settings: HostSettings) -> Segment | None:
    """Return the memory to be shared with a new host; None if there is to be none.

    Args:
        settings: What the host is started with.

    Raises:
        HostError: It can't be had.
    """
    if not settings.shared_memory:
        return None
    try:
        return Segment(settings.shared_memory)
    except OSError as error:
        raise HostError(f"shared memory: {error.strerror}") from error


def spawn(
    settings: HostSettings, descriptor: int, errors: int, *options: str, segment: Segment | None = None
) -> subprocess.Popen[bytes]:
    """Start keyway-host.

    Args:
        settings: What to start.
        descriptor: The socket that it is to serve; the caller closes its own copy.
        errors: Descriptor for its standard output and error.
        options: More options for its command line.
        segment: Memory that it is to share.

    Raises:
        HostError: It could not be started.
    """
    descriptors = [descriptor]
    if segment is not None:
        descriptors.append(segment.descriptor)
        options = (*options, "--segment", str(segment.descriptor))
    command = [
        str(settings.binary),
        "--fd",
        str(descriptor),
        "--threads",
        str(settings.threads),
        *arguments(settings.sandbox),
        *options,
        str(settings.module),
    ]
    try:
        return subprocess.Popen(  # Returns when exec is done, about a millisecond.
            command,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
            env=settings.environment,
            cwd=settings.working_directory,
            pass_fds=descriptors,
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
    greeting = Greeting()
    stream.setblocking(False)
    try:
        host.transport, _ = await asyncio.get_running_loop().create_unix_connection(lambda: greeting, sock=stream)
    except BaseException:
        # The daemon may be told to stop just now; it shall leave no process behind.
        stream.close()
        host.kill()
        await host.wait_ended(1.0)
        raise
    greeting.serve(host)
    error = "the host speaks another version of the wire"
    try:
        host.transport.write(bytes([VERSION_BYTE]))
        async with asyncio.timeout(settings.timeout):
            if (await greeting.answer())[0] == VERSION_BYTE:
                return
    except StreamError:
        error = "the host ended"
    except BaseException as cause:
        host.transport.close()
        host.kill()
        await host.wait_ended(1.0)
        if isinstance(cause, TimeoutError):
            raise HostError(f"{settings.module}: not loaded after {settings.timeout:g} s") from cause
        raise
    host.transport.close()
    raise HostError(f"{settings.module}: {error}: it {await host.wait_ended(1.0)}")
