"""A command that answers on its standard input and output."""

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keyway.backend.greeting import Greeting
from keyway.backend.output import OutputReader
from keyway.backend.process import Process
from keyway.backend.stream import StreamError

__all__ = ["Command", "CommandSettings", "run"]

LATE: Final = 1.0
"""Seconds that are left to read what a command wrote before it ended. What else has its output open does not count."""


@dataclass(frozen=True, slots=True)
class CommandSettings:
    """What a command is started with.

    Attributes:
        name: The backend's name.
        arguments: The program and its arguments.
        environment: The whole environment of the process.
        working_directory: Where it runs.
        note: Called with each line of its standard error.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    working_directory: Path
    note: Callable[[str], None]


class _Errors:
    """The standard error of a command: passed on, and its last line kept, which tells why it ended."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.last = ""
        self.reader = OutputReader(self._take)
        self._note = note

    def _take(self, line: str) -> None:
        self.last = line
        self._note(line)


class Command(Process):
    """A running command, the leader of a process group of its own, which ends with it."""

    kind = "command"

    def __init__(
        self, name: str, process: subprocess.Popen[bytes], transport: asyncio.Transport, errors: _Errors
    ) -> None:
        """Take charge of a command. `run` starts one.

        Args:
            name: The backend's name.
            process: The process, not yet reaped.
            transport: The stream to it.
            errors: Its standard error.
        """
        super().__init__(name, process.pid)
        self.transport = transport
        self._errors = errors
        self.watch(process)

    def note_exit(self, status: int) -> None:
        """Take note that the process has ended and been reaped."""
        self._errors.reader.close()
        super().note_exit(status)
        self._loop.call_later(LATE, self.transport.abort)

    def _describe(self, status: int) -> str:
        how = super()._describe(status)
        return f"{how}: {self._errors.last}" if self._errors.last else how

    def _before_reaping(self) -> None:
        self._kill_group()

    def _cut_off(self) -> None:
        if not self.ended.done():
            self._kill_group()
        self.transport.abort()

    def _kill_group(self) -> None:
        # Until the process is reaped, the number can't belong to another group.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        except PermissionError:
            # With sudo, say. Nobody can wait for it to end; it is reaped when it does.
            if not self.ended.done():
                self._note_end("was left alone, as it belongs to another user")


async def run(settings: CommandSettings) -> tuple[Command, Greeting]:
    """Start a command, and return it with what waits for its first byte.

    Raises:
        StreamError: It can't be started.
    """
    greeting = Greeting()
    errors = _Errors(settings.note)
    try:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            transport, _ = await asyncio.get_running_loop().create_unix_connection(lambda: greeting, sock=ours)
            try:
                command = _started(settings, transport, theirs, errors)
            except BaseException:
                transport.abort()
                raise
    except OSError as error:
        errors.reader.close()
        raise StreamError(f"{error.filename or settings.arguments[0]}: {error.strerror}") from error
    except BaseException:
        errors.reader.close()
        raise
    greeting.serve(command)
    return command, greeting


def _started(
    settings: CommandSettings, transport: asyncio.Transport, stream: socket.socket, errors: _Errors
) -> Command:
    process = subprocess.Popen(  # Returns when exec is done, about a millisecond.
        settings.arguments,
        stdin=stream.fileno(),
        stdout=stream.fileno(),
        stderr=errors.reader.descriptor,
        env=settings.environment,
        cwd=settings.working_directory,
        start_new_session=True,
    )
    try:
        return Command(settings.name, process, transport, errors)
    except OSError:
        process.kill()
        process.wait()
        raise
