"""How much an identity may do at a token: sessions at a time, calls and bytes a second. Time comes in as an argument, in seconds of any clock that never goes back."""

from typing import Final

from keyway.access.role import Quota

__all__ = ["Bucket", "Usage"]


class Bucket:
    """A token bucket that holds what one second brings.

    A single amount may be more than it holds: it is taken when there is anything, and the next one waits until that has been paid for.
    """

    __slots__ = ("_level", "_rate", "_since")

    def __init__(self, rate: int, now: float) -> None:
        """Start with a full bucket.

        Args:
            rate: How much comes in a second; 0 is without a limit.
            now: The time.
        """
        self._rate: Final = rate
        self._level = float(rate)
        self._since = now

    def wait(self, now: float) -> float:
        """Return how many seconds are left until something may be taken; 0 for now."""
        if not self._rate:
            return 0.0
        self._level = min(float(self._rate), self._level + max(0.0, now - self._since) * self._rate)
        self._since = max(now, self._since)
        # Whole pieces: half a call is none. What is left of rounding must not make anybody come again for nothing.
        return max(0.0, 1.0 - self._level) / self._rate if self._level < 1.0 - 1e-6 else 0.0

    def take(self, amount: int) -> None:
        """Take an amount, after `wait` said that it may be taken."""
        self._level -= amount


class Usage:
    """What an identity has used of its quota at a token.

    Attributes:
        sessions: Open sessions.
    """

    __slots__ = ("_bytes", "_operations", "_quota", "sessions")

    def __init__(self, quota: Quota, now: float) -> None:
        """Start with nothing used.

        Args:
            quota: How much.
            now: The time.
        """
        self._quota: Final = quota
        self._operations: Final = Bucket(quota.operations_per_second, now)
        self._bytes: Final = Bucket(quota.bytes_per_second, now)
        self.sessions = 0

    def open(self) -> bool:
        """Count a session; False, and nothing is counted, if there are as many as there may be."""
        if self._quota.sessions and self.sessions >= self._quota.sessions:
            return False
        self.sessions += 1
        return True

    def close(self, sessions: int = 1) -> None:
        """Count sessions that are closed."""
        self.sessions = max(0, self.sessions - sessions)

    def use(self, now: float, size: int, operations: int = 1) -> float:
        """Count a call; return 0, or how many seconds it must wait, and then nothing is counted.

        Args:
            now: The time.
            size: Bytes of the request.
            operations: How many calls it stands for.
        """
        wait = max(self._operations.wait(now), self._bytes.wait(now))
        if not wait:
            self._operations.take(operations)
            self._bytes.take(size)
        return wait
