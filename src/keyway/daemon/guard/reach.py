"""What one context may do at one token, with what was found out while it did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS

if TYPE_CHECKING:
    from keyway.access.policy import TokenAccess
    from keyway.access.quota import Usage
    from keyway.access.role import ObjectFacts

__all__ = ["Reach"]

KNOWN_FOR: Final = 2.0
"""Seconds for which what is known of an object holds. Somebody may change or replace it by another way than this daemon."""
_MOST: Final = 4096
"""Objects and requests that are remembered, each."""


class Reach:
    """A token's policy, and what is known of its objects.

    Attributes:
        access: What is allowed.
        slot: The backend's slot.
        token: What the token is called, for logs.
        usage: What the identity has used of its quota.
        is_metered: Whether there is a limit for what is used in a second.
        refusals: By call number: the RV that refuses it whatever its arguments.
        good: Requests that were allowed, by what they name.
        objects: The objects that were looked at; None for one that is not there.
    """

    def __init__(self, access: TokenAccess, slot: int, token: str, usage: Usage) -> None:
        self.access: Final = access
        self.slot: Final = slot
        self.token: Final = token
        self.usage: Final = usage
        quota = access.quota
        self.is_metered: Final = bool(quota.operations_per_second or quota.bytes_per_second)
        self.refusals: Final = {
            call.number: refusal for call in CALLS if (refusal := access.call(call.number)) is not None
        }
        self.good: set[tuple[int, ...]] = set()
        self.objects: dict[int, ObjectFacts | None] = {}
        self._since = 0.0

    def refresh(self, now: float) -> None:
        """Forget what may not be true any more.

        Args:
            now: Seconds of the monotonic clock.
        """
        if now - self._since > KNOWN_FOR or max(len(self.objects), len(self.good)) > _MOST:
            self.forget()
            self._since = now

    def forget(self) -> None:
        """Forget what is known of the objects."""
        self.good.clear()
        self.objects.clear()
