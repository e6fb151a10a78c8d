"""A client of the wire that has a call under way in each of its sessions, and counts the replies to each."""

import threading
from typing import Any

from tests.daemon.harness import RunningDaemon
from tests.daemon.pool.app import RSA, App

from keyway.cryptoki import Output, Room, call_named
from keyway.wire.codec import decode_reply, encode_fused
from keyway.wire.header import Flags

_SIGN = call_named("C_Sign")


class Pipelined(threading.Thread):
    """Signs in many sessions at a time.

    Attributes:
        operations: Replies so far.
        requests: Requests so far.
        failures: What was wrong.
    """

    def __init__(self, daemon: RunningDaemon, sessions: int) -> None:
        super().__init__(name="pipelined")
        self.operations = self.requests = 0
        self.failures: list[str] = []
        self._told_to_stop = threading.Event()
        self._app = App(daemon)
        self._app.socket.settimeout(None)
        self._key = self._app.object("rsa")
        self._signature = self._app.sign(self._key)
        self._sessions = [1, *(self._app.open(handle) for handle in range(2, sessions + 1))]

    def run(self) -> None:
        """Keep a call under way in each session, until told to stop and all are answered."""
        try:
            self._sign_on()
        except EOFError:
            self.failures.append("the connection was closed")

    def _sign_on(self) -> None:
        under_way = {self._send(session): session for session in self._sessions}
        while under_way:
            frame = self._app.receive()
            session = under_way.pop(frame.header.id, None)
            if session is None or not frame.header.is_reply or frame.header.target != session:
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
        self.requests += 1
        object_, body = encode_fused(_SIGN, (RSA, self._key), (b"what is signed", Room(512, True)))
        return self._app.send(_SIGN.number, body, target=session, object_=object_, flags=Flags.FUSED)

    def stop(self) -> None:
        """Make no more requests, and wait until all are answered."""
        self._told_to_stop.set()
        self.join()
        self._app.socket.close()
