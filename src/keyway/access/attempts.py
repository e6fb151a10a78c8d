"""Wrong PINs, so that no client locks a token for others. Time comes in as an argument, in seconds of any clock that never goes back."""

from dataclasses import dataclass
from math import inf
from typing import Final

__all__ = ["FIRST_WAIT", "LONGEST_WAIT", "Attempts"]

FIRST_WAIT: Final = 30.0
LONGEST_WAIT: Final = 86_400.0
_DOUBLINGS: Final = 12
"""Enough to get from the first wait to the longest."""


@dataclass(slots=True)
class _Account:
    """Of one identity at one token.

    Attributes:
        wrong: Wrong PINs in a row.
        pending: PINs that the token has been given and has not judged.
        until: When it may try again.
        last: When the last wrong one was given.
    """

    wrong: int = 0
    pending: int = 0
    until: float = -inf
    last: float = -inf


class Attempts:
    """Which identity may give a PIN to which token.

    So many wrong ones in a row are free. After each one more the identity waits, twice as long as before, from half a minute up to a day. What the token has not yet
    judged counts as wrong, so guessing in many sessions at a time gains nothing. When the token says that the next wrong PIN locks it, only
    those may log in who have given no wrong one.

    A right PIN makes wrong ones before it forgotten. Where a token has several, each for something else, it does not: who knows one of them could guess at the others for ever. There they are forgotten when there was none for a day.
    """

    def __init__(self, free: int) -> None:
        """Start with no wrong PIN.

        Args:
            free: Wrong PINs in a row after which an identity must wait; 0 for no limit.
        """
        self._free: Final = free
        self._accounts: dict[tuple[str, str], _Account] = {}

    def begin(self, identity: str, token: str, now: float, *, is_last: bool = False) -> float:
        """Ask for leave to give a PIN to the token.

        Args:
            identity: Its name.
            token: What identifies the token.
            now: The time.
            is_last: Whether the token says that the next wrong PIN locks it (CKF_USER_PIN_FINAL_TRY, CKF_SO_PIN_FINAL_TRY).

        Returns:
            0 if it may, and then `end` must follow. Else seconds to wait; infinity if only another identity's right PIN helps.
        """
        if not self._free:
            return 0.0
        account = self._accounts.setdefault((identity, token), _Account())
        used = account.wrong + account.pending
        if is_last and used:
            return inf
        if used >= self._free and (now < account.until or account.pending):
            return max(account.until - now, FIRST_WAIT if account.pending else 0.0)
        account.pending += 1
        return 0.0

    def end(
        self, identity: str, token: str, now: float, is_right: bool | None, *, is_one_of_several: bool = False
    ) -> None:
        """Say what became of a PIN.

        Args:
            identity: Its name.
            token: What identifies the token.
            now: The time.
            is_right: Whether the token took it; None if it judged no PIN.
            is_one_of_several: Whether the token has several PINs.
        """
        account = self._accounts.get((identity, token))
        if account is None:
            return
        account.pending -= 1
        if is_right and (not is_one_of_several or now - account.last >= LONGEST_WAIT):
            account.wrong, account.until = 0, -inf
        elif is_right is False:
            account.wrong += 1
            account.last = now
            beyond = account.wrong - self._free
            if beyond >= 0:
                account.until = now + min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(beyond, _DOUBLINGS))
        if not account.wrong and not account.pending:
            del self._accounts[identity, token]
