"""Making token objects at all members (`writes = "all"`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keyway.cryptoki import RV, Value
from keyway.daemon.pool.lane import Reply
from keyway.daemon.pool.session import PoolCall

if TYPE_CHECKING:
    from keyway.daemon.pool.context import PoolContext

__all__ = ["create"]


async def create(context: PoolContext, call: PoolCall, values: Sequence[Value]) -> Reply:
    """Make token objects at all members."""
    return Reply((0, call.frame[1], 0, 0, 0, RV.CKR_FUNCTION_NOT_SUPPORTED), b"")
