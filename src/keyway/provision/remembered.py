"""Answers that are remembered by Idempotency-Key."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from keyway.provision.problems import Problem

__all__ = ["MAX_KEY", "Remembered", "idempotency_key"]

MAX_KEY: Final = 255
_Answer = TypeVar("_Answer")


def idempotency_key(text: str) -> str:
    """Return the key of a header Idempotency-Key.

    Raises:
        Problem: `bad-idempotency-key`.
    """
    if not 0 < len(text) <= MAX_KEY or not text.isascii() or not text.isprintable():
        raise Problem("bad-idempotency-key", f"1 to {MAX_KEY} printable ASCII characters")
    return text


@dataclass(frozen=True, slots=True)
class _Entry(Generic[_Answer]):
    request: bytes
    answer: _Answer
    until: float


class Remembered(Generic[_Answer]):
    """What was answered to whom: at most so many, each for so long. Time comes in as an argument."""

    def __init__(self, size: int, seconds: float) -> None:
        """Args: size: Answers. seconds: For how long."""
        self._size = size
        self._seconds = seconds
        self._entries: OrderedDict[tuple[str, str], _Entry[_Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def recall(self, caller: str, key: str, request: bytes, now: float) -> _Answer | None:
        """Return what was answered, None if nobody remembers.

        Args:
            caller: Who asks.
            key: The key.
            request: Digest of the request.
            now: The time, in seconds.

        Raises:
            Problem: `idempotency-key-reused`: the key came with another request.
        """
        self._forget(now)
        entry = self._entries.get((caller, key))
        if entry is None:
            return None
        if entry.request != request:
            raise Problem("idempotency-key-reused")
        return entry.answer

    def note(self, caller: str, key: str, request: bytes, answer: _Answer, now: float) -> None:
        """Remember an answer; see `recall`."""
        self._entries.pop((caller, key), None)
        self._entries[caller, key] = _Entry(request, answer, now + self._seconds)
        self._forget(now)

    def _forget(self, now: float) -> None:
        while self._entries:
            oldest = next(iter(self._entries))
            if len(self._entries) <= self._size and self._entries[oldest].until > now:
                return
            del self._entries[oldest]
