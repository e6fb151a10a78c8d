"""Control calls: what Keyway's own commands ask a running daemon (docs/wire.md, section 9).

They travel on the socket that clients use, and are for the daemon's own user and root only.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from keyway.cryptoki import RV
from keyway.daemon.control_numbers import CHECK, DRAIN, RELOAD, RESUME, STATUS, TRACE
from keyway.daemon.link import Frame, reply_frame
from keyway.daemon.operations import check_pools, drain_member, reload_configuration, resume_member
from keyway.daemon.status import status
from keyway.observe.metrics import counted
from keyway.wire.header import HEADER_SIZE

if TYPE_CHECKING:
    from keyway.daemon.connection import Connection
    from keyway.daemon.server import Daemon

__all__ = ["CHECK", "DRAIN", "RELOAD", "RESUME", "STATUS", "TRACE", "answer"]


def _status(daemon: Daemon, _: Connection, frame: Frame, __: bytes) -> bytes:
    return reply_frame(frame, RV.CKR_OK, json.dumps(counted(status(daemon), daemon.counters)).encode())


def _trace(daemon: Daemon, client: Connection, frame: Frame, body: bytes) -> bytes:
    return daemon.tracing.start(client, frame, body)


_CALLS: Final[dict[int, Callable[[Daemon, Connection, Frame, bytes], bytes]]] = {STATUS: _status, TRACE: _trace}
_OPERATIONS: Final[dict[int, Callable[[Daemon, Mapping[str, Any]], AsyncIterator[Mapping[str, Any]]]]] = {
    DRAIN: drain_member,
    RESUME: resume_member,
    RELOAD: reload_configuration,
    CHECK: check_pools,
}


def answer(daemon: Daemon, client: Connection, frame: Frame, data: bytes) -> bytes:
    """Return the reply to a control call, or nothing if the replies come later.

    Args:
        daemon: The daemon.
        client: Who asks.
        frame: The request's header.
        data: The whole frame.
    """
    number, body = frame[1], data[HEADER_SIZE:]
    if number not in _CALLS and number not in _OPERATIONS:
        return reply_frame(frame, RV.CKR_FUNCTION_NOT_SUPPORTED)
    if client.peer is None or client.peer.uid not in (0, os.geteuid()):
        return reply_frame(frame, RV.CKR_ACTION_PROHIBITED)
    if (call := _CALLS.get(number)) is not None:
        return call(daemon, client, frame, body)
    asked = _asked(body)
    if asked is None:
        return reply_frame(frame, RV.CKR_ARGUMENTS_BAD)
    daemon.asking.start(client, frame, _OPERATIONS[number](daemon, asked), _OPERATIONS[number].__name__)
    return b""


def _asked(body: bytes) -> Mapping[str, Any] | None:
    """Return what a request says, nothing if it is empty; None if it is no JSON object."""
    try:
        asked = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        return None
    return asked if isinstance(asked, dict) else None
