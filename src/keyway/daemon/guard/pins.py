"""PINs on their way to a token: whether an identity may give one, and what the token thought of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from keyway.cryptoki import CALLS, RV, Kind, Null, TokenInfo, call_named
from keyway.cryptoki.constants import CKF_SO_PIN_FINAL_TRY, CKF_USER_PIN_FINAL_TRY
from keyway.wire.codec import decode_reply, decode_request, encode_reply, encode_request, request_kinds
from keyway.wire.errors import WireError
from keyway.wire.header import HEADER_SIZE

if TYPE_CHECKING:
    from keyway.access.attempts import Attempts
    from keyway.daemon.guard.reach import PinFile
    from keyway.daemon.link import Frame

__all__ = ["Leave", "is_last_try", "judgement", "with_flags", "with_pin"]

_TOKEN_INFO: Final = call_named("C_GetTokenInfo")
_WRONG: Final = frozenset({RV.CKR_PIN_INCORRECT, RV.CKR_PIN_INVALID, RV.CKR_PIN_LEN_RANGE, RV.CKR_PIN_LOCKED})
_FINAL: Final = CKF_USER_PIN_FINAL_TRY | CKF_SO_PIN_FINAL_TRY


class Leave:
    """Leave for one identity to give one PIN to one token."""

    def __init__(
        self, attempts: Attempts, identity: str, token: str, clock: Callable[[], float], *, is_one_of_several: bool
    ) -> None:
        """Prepare.

        Args:
            attempts: What has been tried.
            identity: Who.
            token: What identifies the token.
            clock: Tells seconds.
            is_one_of_several: Whether the token has several PINs.
        """
        self._attempts = attempts
        self._identity = identity
        self._token = token
        self._clock = clock
        self._is_one_of_several = is_one_of_several
        self._is_given = False

    def begin(self, *, is_last: bool) -> bool:
        """Ask for it; then `end` must follow.

        Args:
            is_last: Whether the next wrong PIN locks the token.
        """
        self._is_given = not self._attempts.begin(self._identity, self._token, self._clock(), is_last=is_last)
        return self._is_given

    def end(self, is_right: bool | None) -> None:
        """Say what became of the PIN; None if the token has not judged it."""
        if self._is_given:
            self._is_given = False
            now = self._clock()
            self._attempts.end(self._identity, self._token, now, is_right, is_one_of_several=self._is_one_of_several)


def is_last_try(info: TokenInfo) -> bool:
    """Tell whether the next wrong PIN locks the token."""
    return bool(info.flags & _FINAL)


def judgement(rv: int) -> bool | None:
    """Return whether a token took a PIN; None if it did not come to judge it."""
    if rv == RV.CKR_OK:
        return True
    return False if rv in _WRONG else None


def with_pin(frame: Frame, data: bytes, pin_file: PinFile) -> bytes | None:
    """Return the body of a login with the PIN that the gateway holds; None if the client gives one, or none is to be had."""
    row = CALLS[frame[1] - 1]
    values = decode_request(row, 0, data[HEADER_SIZE:])
    place = next(place for place, kind in enumerate(request_kinds(row)) if kind is Kind.PIN)
    if not isinstance(values[place], Null) or (pin := pin_file.read()) is None:
        return None
    return encode_request(row, (*values[:place], pin, *values[place + 1 :])).body


def with_flags(flags: int, body: bytes) -> bytes:
    """Return a reply to C_GetTokenInfo with more flags in CK_TOKEN_INFO."""
    try:
        values = decode_reply(_TOKEN_INFO, body)
    except WireError:
        return body  # Whoever can't read it either says so.
    if not values or not isinstance(values[0], TokenInfo):
        return body
    info = replace(values[0], flags=values[0].flags | flags)
    return encode_reply(_TOKEN_INFO, (info,))
