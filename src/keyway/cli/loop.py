"""The event loop that commands run in."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["run_loop"]

Result = TypeVar("Result")


def run_loop(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end, with uvloop where it is installed."""
    # A freed block of this size makes the allocator keep what it gets: else asyncio's read buffer of 256 KiB
    # is mapped and unmapped at each read, which costs more than the rest of the relay.
    block = bytes(1 << 20)
    del block
    try:
        from uvloop import new_event_loop
    except ImportError:
        factory = asyncio.new_event_loop
    else:
        factory = new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)
