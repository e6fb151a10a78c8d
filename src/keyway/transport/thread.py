"""Calls that block, beside the loop."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["in_thread"]

_Result = TypeVar("_Result")


async def in_thread(function: Callable[[], _Result]) -> _Result:
    """Return what a call gives, or raise what it raises.

    The thread is one that a process does not wait for at its end, as it would for those of the loop's executor: a KDC that does not
    answer can keep it for long.

    Args:
        function: What to call. If nobody waits for it any more its result is dropped.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[_Result] = loop.create_future()

    def tell(set_it: Callable[[Any], None], what: object) -> None:
        if not done.done():
            set_it(what)

    def run() -> None:
        set_it: Callable[[Any], None]
        what: object
        try:
            set_it, what = done.set_result, function()
        except Exception as error:  # noqa: BLE001  # It is raised where the call was made.
            set_it, what = done.set_exception, error
        with contextlib.suppress(RuntimeError):  # The loop is closed.
            loop.call_soon_threadsafe(tell, set_it, what)

    threading.Thread(target=run, daemon=True, name="keyway-gss").start()
    return await done
