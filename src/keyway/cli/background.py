"""Going on in the background, once it is sure that the service works."""

import os
import sys
from typing import Final

__all__ = ["Background", "detach"]

_OUTPUT: Final = 1


class Background:
    """The process that stays, as long as somebody waits for it to say that it is ready."""

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def report(self, text: str) -> None:
        """Let the parent print a text and end well."""
        with os.fdopen(self._parent, "wb") as channel:
            channel.write(text.encode())


def detach() -> Background:
    """Go on in a child process of its own session, without standard input and output; the parent never returns from here.

    The parent prints what the child reports and exits with status 0. When the child ends without a report, the parent exits as the child did.
    To be called before there are threads or an event loop.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        os.close(writing)
        with os.fdopen(reading, "rb") as channel:
            text = channel.read()
        if not text:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        sys.stdout.write(text.decode())
        sys.exit(0)
    os.close(reading)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, sys.stdin.fileno())
    os.dup2(nothing, _OUTPUT)
    os.close(nothing)
    return Background(writing)
