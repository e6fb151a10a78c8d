"""A login of a context, kept so that it can be made again at another member."""

from __future__ import annotations

from typing import Final

from keyway.cryptoki import Null, call_named
from keyway.cryptoki.constants import CKU_SO
from keyway.daemon.pool.secret import LONGEST, Secret
from keyway.wire.codec import Request, encode_request

__all__ = ["Login"]

_LOGIN: Final = call_named("C_Login")
_LOGIN_USER: Final = call_named("C_LoginUser")


class Login:
    """Who is logged in, and the PIN.

    Attributes:
        user_type: CKU_USER, CKU_SO or a vendor's.
        user_name: The name that C_LoginUser was given; None for C_Login.
        is_own: Whether the PIN is the gateway's own.
    """

    def __init__(self, user_type: int, pin: bytes | Null, user_name: bytes | Null | None, *, is_own: bool) -> None:
        """Keep a login.

        Args:
            user_type: The user type.
            pin: The PIN; Null for one that is entered at the token.
            user_name: The name that C_LoginUser was given; None for C_Login.
            is_own: Whether the PIN is the gateway's own.
        """
        self.user_type = user_type
        self.user_name = user_name
        self._null = pin if isinstance(pin, Null) else None
        self.is_own = is_own
        # What is longer than a page is no PIN that a token takes.
        self._secret = Secret(pin) if isinstance(pin, bytes) and len(pin) <= LONGEST else None

    @property
    def is_so(self) -> bool:
        """Whether it is the security officer."""
        return self.user_type == CKU_SO

    @property
    def can_be_repeated(self) -> bool:
        """Whether the PIN is there to log in with."""
        return self._null is not None or self._secret is not None

    def request(self) -> tuple[int, Request]:
        """Return the number and the request of the call that logs in."""
        pin = self._null if self._secret is None else self._secret.reveal()
        assert pin is not None
        if self.user_name is None:
            return _LOGIN.number, encode_request(_LOGIN, (self.user_type, pin))
        return _LOGIN_USER.number, encode_request(_LOGIN_USER, (self.user_type, pin, self.user_name))

    def replace_pin(self, pin: bytes) -> None:
        """Keep another PIN: it was changed."""
        if self._secret is not None:
            self._secret.wipe()
            self._secret = Secret(pin)

    def key(self) -> bytes:
        """Return what tells this login from others; for digests only."""
        pin = b"" if self._secret is None else self._secret.reveal()
        return self.user_type.to_bytes(8) + len(pin).to_bytes(8) + pin + repr(self.user_name).encode()

    def wipe(self) -> None:
        """Forget the PIN."""
        if self._secret is not None:
            self._secret.wipe()
            self._secret = None

    def __repr__(self) -> str:
        return f"Login(user_type={self.user_type})"
