"""What one context may do at one token, with what was found out while it did."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS, rv_name
from keyway.cryptoki.constants import (
    CKF_PROTECTED_AUTHENTICATION_PATH,
    CKF_RW_SESSION,
    CKF_SERIAL_SESSION,
    CKF_WRITE_PROTECTED,
)
from keyway.daemon.pin_file import read_pin_file
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.access.policy import TokenAccess
    from keyway.access.quota import Usage
    from keyway.access.role import ObjectFacts

__all__ = ["PinFile", "Reach"]

KNOWN_FOR: Final = 2.0
"""Seconds for which what is known of an object holds. Somebody may change or replace it by another way than this daemon."""
_MOST: Final = 4096
"""Objects and requests that are remembered, each."""


class PinFile:
    """A file with the PIN of a token. When the token has refused it, it is not tried again until the file is another one."""

    def __init__(self, path: Path, token: str) -> None:
        """Describe the file.

        Args:
            path: Its path.
            token: The name of the token's section.
        """
        self._path = path
        self._token = token
        self._refused: tuple[int, int] | None = None
        self._accepted: tuple[int, int] | None = None

    @property
    def is_proven(self) -> bool:
        """Whether the token has taken what is in the file now."""
        return self._accepted is not None and self._accepted == self._state()

    def read(self) -> bytes | None:
        """Return the PIN; None if there is none to be tried."""
        return (
            None
            if self._refused is not None and self._refused == self._state()
            else read_pin_file(self._path, self._token)
        )

    def accepted(self) -> None:
        """Take note that the token has taken it."""
        self._accepted = self._state()

    def refused(self, rv: int) -> None:
        """Take note that the token has refused it."""
        self._refused = self._state()
        event(logging.ERROR, "PIN of pin_file refused", token=self._token, rv=rv_name(rv))

    def _state(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


class Reach:
    """A token's policy, and what is known of its objects.

    Attributes:
        access: What is allowed.
        slot: The backend's slot.
        token: What the token is called, for logs.
        shown: The same with the view that was chosen, for who records what is done.
        has_several_pins: Whether the token has several PINs, each for something else.
        account: What wrong PINs are counted under; by default like the token, which has one PIN wherever it is seen.
        pin_file: Holds the PIN for whoever gives none; None if nobody does.
        token_flags: What CK_TOKEN_INFO has in addition.
        usage: What the identity has used of its quota.
        is_metered: Whether there is a limit for what is used in a second.
        refusals: By call number: the RV that refuses it whatever its arguments.
        objects: The objects that were looked at; None for one that is not there.
        used: What a witness knows of requests, by what they name.
    """

    def __init__(
        self,
        access: TokenAccess,
        slot: int,
        token: str,
        usage: Usage,
        pin_file: PinFile | None = None,
        *,
        account: str = "",
    ) -> None:
        self.has_several_pins: Final = bool(account)
        self.account: Final = account or token
        self.pin_file: Final = pin_file
        self.access: Final = access
        self.slot: Final = slot
        self.token: Final = token
        self.shown = token
        self.usage: Final = usage
        quota = access.quota
        is_protected = access.opening(CKF_RW_SESSION | CKF_SERIAL_SESSION) is not None
        self.token_flags: Final = (CKF_WRITE_PROTECTED if is_protected else 0) | (
            CKF_PROTECTED_AUTHENTICATION_PATH if pin_file is not None else 0
        )
        self.is_metered: Final = bool(quota.operations_per_second or quota.bytes_per_second)
        self.refusals: Final = {
            call.number: refusal for call in CALLS if (refusal := access.call(call.number)) is not None
        }
        self._allowed: set[tuple[object, ...]] = set()
        self.used: dict[tuple[object, ...], object] = {}
        self.objects: dict[int, ObjectFacts | None] = {}
        self._since = 0.0

    def chose(self, view: str) -> None:
        """Take note of the view that is chosen; empty for none."""
        self.shown = f"{self.token}/{view}" if view else self.token

    def allow(self, request: tuple[object, ...]) -> None:
        """Remember that a request was allowed.

        Args:
            request: What it names. One that names anything else must not be the same.
        """
        if not self.is_metered:
            self._allowed.add(request)

    def was_allowed(self, request: tuple[object, ...], now: float) -> bool:
        """Tell whether a request was allowed not long ago, and nothing has changed."""
        return request in self._allowed and now - self._since <= KNOWN_FOR

    def refresh(self, now: float) -> None:
        """Forget what may not be true any more.

        Args:
            now: Seconds of the monotonic clock.
        """
        if now - self._since > KNOWN_FOR or max(len(self.objects), len(self._allowed), len(self.used)) > _MOST:
            self.forget()
            self._since = now

    def forget_missing(self, handles: Iterable[int]) -> None:
        """Forget which objects were not there: the next one that is made, by whomever, may get the handle.

        Args:
            handles: Those that were looked at.
        """
        for handle in handles:
            if self.objects.get(handle) is None:
                self.objects.pop(handle, None)

    def forget(self) -> None:
        """Forget what is known of the objects."""
        self._allowed.clear()
        self.used.clear()
        self.objects.clear()
