"""A client of the wire that has a call under way in each of its sessions, and counts the replies to each."""

import threading
import time
from typing import Any

from tests.daemon.harness import DEADLINE, RunningDaemon
from tests.daemon.pool.app import RSA, App

from keyway.cryptoki import Output, Room, call_named
from keyway.wire.codec import decode_reply, encode_fused
from keyway.wire.header import Flags

_SIGN = call_named("C_Sign")


class Pipelined(threading.Thread):
    """Signs in many sessions at a time.

    Attributes:
        operations: Replies so far.
        requests: Requests so far, without those whose connection was lost when it was to be.
        failures: What was wrong.
        is_cut_off: Whether its connection is lost, or will be, because the daemon ends.
    """

    def __init__(self, daemon: RunningDaemon, sessions: int) -> None:
        super().__init__(name="pipelined")
        self.operations = self.requests = 0
        self.failures: list[str] = []
        self._told_to_stop = threading.Event()
        self.is_cut_off = False
        self._daemon = daemon
        self._sessions = range(1, sessions + 1)
        self._begin()
        self._signature = self._app.sign(self._key)

    def run(self) -> None:
        """Keep a call under way in each session, until told to stop and all are answered."""
        while not self._told_to_stop.is_set():
            under_way: dict[int, int] = {}
            try:
                self._sign_on(under_way)
            except (EOFError, BrokenPipeError):
                if not self.is_cut_off:
                    self.failures.append("the connection was closed")
                    return
                # This client does not do what libkeyway.so does: what was under way is lost, and it begins anew.
                self.requests -= len(under_way)
                self._app.socket.close()
                self._begin()
                self.is_cut_off = False

    def _begin(self) -> None:
        self._app = _connected(self._daemon)
        self._app.socket.settimeout(None)
        self._key = self._app.object("rsa")
        for session in self._sessions[1:]:
            self._app.open(session)

    def _sign_on(self, under_way: dict[int, int]) -> None:
        for session in self._sessions:
            under_way[self._send(session)] = session
        while under_way:
            frame = self._app.receive()
            session = under_way.pop(frame.header.id, 0)
            if not session or not frame.header.is_reply or frame.header.target != session:
                self.failures.append(f"a reply to nothing that was asked: {frame.header}")
                return
            self.operations += 1
            output: Any = decode_reply(_SIGN, frame.body)[0] if frame.header.rv == 0 else None
            # RSA PKCS #1 v1.5: one message, one signature.
            if not isinstance(output, Output) or output.data != self._signature:
                self.failures.append(f"C_Sign: {frame.header.rv:#x}")
            if not self._told_to_stop.is_set():
                under_way[self._send(session)] = session

    def _send(self, session: int) -> int:
        object_, body = encode_fused(_SIGN, (RSA, self._key), (b"what is signed", Room(512, True)))
        number = self._app.send(_SIGN.number, body, target=session, object_=object_, flags=Flags.FUSED)
        self.requests += 1
        return number

    def stop(self) -> None:
        """Make no more requests, and wait until all are answered."""
        self._told_to_stop.set()
        self.join()
        self._app.socket.close()


def _connected(daemon: RunningDaemon) -> App:
    """Return an application at a daemon, as soon as that is there."""
    end = time.monotonic() + 6 * DEADLINE
    while True:
        try:
            return App(daemon)
        except (OSError, EOFError):
            if time.monotonic() > end:
                raise
            time.sleep(0.01)
