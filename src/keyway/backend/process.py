"""A process at the other end of a stream."""

import contextlib
import os
import signal
import subprocess
from asyncio import TimerHandle, get_running_loop
from typing import Final

from keyway.backend.stream import Stream

__all__ = ["INHERITED", "Process", "describe_exit"]

INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
"""What a process gets of the daemon's environment; the rest may hold secrets or change its behaviour by accident."""


class Process(Stream):
    """A process, and the stream to it.

    Attributes:
        pid: The process.
        status: Its exit status when it has ended and been reaped; negative is a signal's number.
    """

    def __init__(self, name: str, pid: int) -> None:
        """Take charge of a process. Somebody must call `note_exit` when it has been reaped.

        Args:
            name: The backend's name.
            pid: The process, not yet reaped.

        Raises:
            ProcessLookupError: It has been reaped.
        """
        super().__init__(name)
        self.pid = pid
        self.status: int | None = None
        self._loop = get_running_loop()
        self._ending: TimerHandle | None = None
        self._pidfd = os.pidfd_open(pid)

    @property
    def place(self) -> int:
        """The process."""
        return self.pid

    def watch(self, process: subprocess.Popen[bytes]) -> None:
        """Reap the process when it ends; for a child of this process."""

        def reap() -> None:
            self._before_reaping()
            if (status := process.poll()) is not None:
                self._loop.remove_reader(self._pidfd)
                self.note_exit(status)

        # A pidfd is readable once the process has ended: no signal handler, no thread, no zombie.
        self._loop.add_reader(self._pidfd, reap)

    def _before_reaping(self) -> None:
        """Do what needs the number of the process, which nobody else can get yet."""

    def note_exit(self, status: int) -> None:
        """Take note that the process has ended and been reaped.

        Args:
            status: Its exit status; negative is a signal's number.
        """
        if self.status is not None:
            return
        os.close(self._pidfd)
        if self._ending is not None:
            self._ending.cancel()
        self.status = status
        if not self.ended.done():
            self._note_end(self._describe(status))

    def _describe(self, status: int) -> str:
        """Return how it ended, in words."""
        return describe_exit(status)

    def note_lost(self, error: Exception | None) -> None:
        """Let go of the memory that was shared. Otherwise what counts is the end of the process."""
        if self.segment is not None:
            self.segment.close()

    def end(self, grace: float) -> None:
        """Close the stream, which tells the process to end, and kill it if it does not.

        Args:
            grace: Seconds until then.
        """
        self.transport.close()
        if not self.ended.done() and self._ending is None:
            self._ending = self._loop.call_later(grace, self.kill)

    def _cut_off(self) -> None:
        """Kill the process."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)


def describe_exit(status: int) -> str:
    """Return an exit status in words."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
