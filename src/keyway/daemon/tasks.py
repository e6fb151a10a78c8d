"""Tasks that have a name and an owner, and whose errors are seen."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from keyway.observe.log import event

__all__ = ["Tasks"]


_T = TypeVar("_T")


class Tasks:
    """Keeps tasks until they are done, and reports those that fail."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[Any]] = set()

    def start(
        self, work: Coroutine[Any, Any, _T], name: str, expected: tuple[type[Exception], ...] = ()
    ) -> asyncio.Task[_T]:
        """Run a coroutine in the running loop.

        Args:
            work: What to do; an exception that leaves it is a defect, and logged as one.
            name: What to call it in the log.
            expected: Exceptions that are no defects: whoever waits for the task gets them.
        """
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(lambda done: self._done(done, expected))
        return task

    async def stop(self) -> None:
        """Cancel what runs and wait for its end."""
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any], expected: tuple[type[Exception], ...]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, expected):
            event(
                logging.ERROR, "internal error", task=task.get_name(), error=type(error).__name__, where=_place(error)
            )


def _place(error: BaseException) -> str:
    """Where an exception came from. Its text stays out of the log: it may quote what a client sent."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace is not None else "unknown"
