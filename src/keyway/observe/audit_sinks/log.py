"""What the daemon has one of: takes records as calls go by, and writes them in batches.

Encoding is done in the loop, writing in a thread: a slow disk keeps nobody waiting until the backlog is full.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any, Final, Protocol

from keyway.observe.audit import Chain, Checkpoint, Record, signed_message
from keyway.observe.audit_errors import SignerError
from keyway.observe.audit_sinks.sink import Sink
from keyway.observe.log import event

__all__ = ["AuditLog", "Signer"]

DELAY: Final = 0.01
"""Seconds that a record waits for others."""
BATCH: Final = 256
"""Records that do not wait."""
SLICE: Final = 1024
"""Records that are encoded in one go."""
BACKLOG: Final = 16_384
"""Records that may wait for the sinks. From a half of them on no more calls are let through, if there is anybody to refuse them: the rest is for calls under way."""
RETRY: Final = 1.0
"""Seconds until a sink that could not be written is tried again."""


class Signer(Protocol):
    """Signs with a key that is on a token.

    Attributes:
        key: PKCS #11 URI of the key.
    """

    key: str

    async def sign(self, digest: bytes) -> bytes:
        """Return the signature of a SHA-256 digest: of an RSA key as PKCS #1 has it, of an EC key r and s as the token gives them.

        Raises:
            SignerError: It can't be had now.
        """


class AuditLog:
    """The audit log of a running gateway. All methods are for the loop's thread.

    Attributes:
        written: Records that all sinks have taken.
        dropped: Records that were lost because the backlog was full.
        error: Why the sinks can't be written; empty if they can.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        chain: Chain,
        *,
        refuses: bool,
        every: int = 10_000,
        seconds: float = 300.0,
        signer: Signer | None = None,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        """Begin to take records. Needs a running loop.

        Args:
            sinks: Where they go. If one of them can't take more, all wait.
            chain: Where the chain goes on.
            refuses: Whether calls shall be refused while records can't be written; else they are made, and records beyond the backlog counted.
            every: Records after which there is a checkpoint.
            seconds: Seconds after which there is one, if there was any record.
            signer: What signs checkpoints; None: they are not signed.
            now: The time in nanoseconds since 1970.
        """
        self.written = self.dropped = 0
        self.error = ""
        self._sinks = sinks
        self._chain = chain
        self._refuses = refuses
        self._every = every
        self._seconds = seconds
        self._signer = signer
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Record | Checkpoint] = []
        self._due = asyncio.Event()
        self._untold = 0
        """Records that were dropped, and no line says so yet."""
        self._unsigned = 0
        """Records since the last checkpoint was begun."""
        self._checkpoint: Checkpoint | None = None
        """The last one."""
        self._signing: asyncio.Task[None] | None = None
        self._flushing: list[asyncio.Future[None]] = []
        """Who waits until nothing waits for the sinks."""
        self._is_closing = False
        self._end = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "audit")
        self._tick_later = self._loop.call_later(seconds, self._tick)
        self._writer = self._loop.create_task(self._run(), name="audit")
        self._writer.add_done_callback(self._ended)

    @property
    def is_full(self) -> bool:
        """Whether calls that would be recorded are to be refused now."""
        return self._refuses and (bool(self.error) or len(self._waiting) >= BACKLOG // 2)

    def note(self, record: Record) -> None:
        """Take a record. It is written a little later, with others."""
        waiting = self._waiting
        count = len(waiting)
        if count >= BACKLOG:
            self.dropped += 1
            self._untold += 1
            return
        waiting.append(record)
        if not count:
            self._loop.call_later(DELAY, self._due.set)
        elif count == BATCH:
            self._due.set()

    def say(self, kind: str, reason: str) -> None:
        """Take a record of the gateway's own.

        Args:
            kind: "start", "stop", "configuration" or "recovered".
            reason: What is to be said of it.
        """
        self.note(Record(self._now(), kind, reason=reason))

    async def seal(self) -> None:
        """Write what waits, and have it signed if there is anything new: a last checkpoint. Does nothing if nobody signs, or lines can't be written.

        Takes as long as the sinks and the signer do, so whoever ends the gateway waits for it as long as he likes and cancels it then.
        """
        if self._signer is None or self.error:
            return
        if self._signing is not None:
            await asyncio.gather(self._signing, return_exceptions=True)
        await self._flushed()
        if self._unsigned:
            self._begin_checkpoint()
            if self._signing is not None:
                await self._signing

    async def close(self) -> None:
        """Write what waits, and let go of the sinks. Of one that can't be written the rest is lost."""
        if self._signing is not None:
            self._signing.cancel()
            await asyncio.gather(self._signing, return_exceptions=True)
        self._tick_later.cancel()
        self._is_closing = True
        self._end.set()
        self._due.set()
        await asyncio.gather(self._writer, return_exceptions=True)
        self._thread.shutdown()
        for sink in self._sinks:
            sink.close()
        if lost := len(self._waiting) + self._untold:
            event(logging.ERROR, "audit records lost", records=lost, error=self.error)

    def status(self) -> dict[str, Any]:
        """Return how it does, for `keyway status` and monitoring."""
        last = self._checkpoint
        return {
            "sinks": [sink.name for sink in self._sinks],
            "records": self.written,
            "dropped": self.dropped,
            "waiting": len(self._waiting),
            "full": self.is_full,
            "error": self.error,
            "seq": self._chain.seq,
            "hash": self._chain.hash.hex(),
            "checkpoint": None
            if last is None
            else {"of": last.of, "signed": bool(last.signature), "error": last.reason},
        }

    # Writing

    async def _run(self) -> None:
        while not self._is_closing or self._waiting or self._untold:
            await self._due.wait()
            self._due.clear()
            if not await self._write():
                return
            if not self._waiting:
                for each in self._flushing:
                    if not each.done():
                        each.set_result(None)
                self._flushing.clear()
            if self._unsigned >= self._every:
                self._begin_checkpoint()

    async def _flushed(self) -> None:
        """Wait until all that was noted so far is written."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._flushing.append(done)
        self._due.set()
        await done

    def _ended(self, writer: asyncio.Task[None]) -> None:
        """Say what is a defect; no call that is to be recorded goes unrecorded then, if they can be refused."""
        if not writer.cancelled() and (error := writer.exception()) is not None:
            self.error = f"internal error: {type(error).__name__}"
            event(logging.ERROR, "internal error", task=writer.get_name(), error=type(error).__name__)

    async def _write(self) -> bool:
        """Write what waits, or a part of it. Return whether it was: not, if the log is to be closed and can't be written."""
        records = self._waiting[:SLICE]
        del self._waiting[:SLICE]
        if self._waiting:
            self._due.set()
        elif self._untold:
            records.append(Record(self._now(), "dropped", reason=f"{self._untold} records: the sinks were full"))
            self._untold = 0
        lines = [self._chain.line(record) for record in records]
        left = [(sink, lines) for sink in self._sinks] if lines else []
        while left:
            left, error = await self._loop.run_in_executor(self._thread, _put, left)
            if left and not await self._is_worth_waiting(error):
                event(logging.ERROR, "audit records lost", records=len(lines), error=error)
                return False
        if self.error:
            event(logging.INFO, "audit log written again", dropped=self.dropped)
            self.error = ""
        self.written += len(lines)
        self._unsigned += sum(isinstance(record, Record) for record in records)
        return True

    async def _is_worth_waiting(self, error: str) -> bool:
        """Wait until the sinks are to be tried again; return whether they are."""
        if not self.error:
            event(logging.ERROR, "audit log can't be written", error=error, refuses=self._refuses)
        self.error = error
        if self._is_closing:
            return False
        try:
            async with asyncio.timeout(RETRY):
                await self._end.wait()
        except TimeoutError:
            pass
        return True

    # Checkpoints

    def _tick(self) -> None:
        self._tick_later = self._loop.call_later(self._seconds, self._tick)
        if self._unsigned and not self.error:
            self._begin_checkpoint()

    def _begin_checkpoint(self) -> None:
        if self._is_closing or (self._signing is not None and not self._signing.done()):
            return
        self._unsigned = 0
        # What the chain has now: lines that wait for a sink have their place in it already.
        self._signing = self._loop.create_task(self._sign(self._chain.seq, self._chain.hash.hex()), name="checkpoint")

    async def _sign(self, of: int, head: str) -> None:
        signature, key, reason = "", "", "no key is configured"
        if self._signer is not None:
            key, reason = self._signer.key, ""
            try:
                signature = (await self._signer.sign(sha256(signed_message(of, head)).digest())).hex()
            except SignerError as error:
                reason = str(error)
                event(logging.WARNING, "audit checkpoint not signed", reason=reason)
        self._checkpoint = Checkpoint(self._now(), of, head, key, signature, reason)
        self._waiting.append(self._checkpoint)
        self._due.set()


def _put(left: list[tuple[Sink, list[bytes]]]) -> tuple[list[tuple[Sink, list[bytes]]], str]:
    """Give lines to sinks; return those that were not taken, and why. Runs in the thread."""
    remaining: list[tuple[Sink, list[bytes]]] = []
    why = ""
    for sink, lines in left:
        try:
            while lines:
                lines = lines[sink.write(lines) :]
            sink.sync()
        except OSError as error:
            remaining.append((sink, lines))
            why = f"{sink.name}: {error.strerror or error}"
    return remaining, why
