"""A program that keeps a token open for long, as a web server or a certificate authority does."""

from __future__ import annotations

import PyKCS11

__all__ = ["Signer", "TokenError"]

TokenError = PyKCS11.PyKCS11Error


class Signer:
    """Loads the module once and signs with a private key, in one session after another."""

    def __init__(self, module: str, token: str, pin: str) -> None:
        self._pin = pin
        self._library = PyKCS11.PyKCS11Lib()
        self._library.load(module)
        self._slot = next(
            slot
            for slot in self._library.getSlotList(tokenPresent=True)
            if self._library.getTokenInfo(slot).label.rstrip(" \0") == token
        )
        self.open()

    def open(self) -> None:
        """Open a session and log in."""
        self._session = self._library.openSession(self._slot)
        self._session.login(self._pin)

    def sign(self, key: str, data: bytes) -> bytes:
        """Sign with the RSA private key of that label (CKM_SHA256_RSA_PKCS).

        Raises:
            TokenError: the RV was not CKR_OK.
        """
        template = [(PyKCS11.CKA_CLASS, PyKCS11.CKO_PRIVATE_KEY), (PyKCS11.CKA_LABEL, key)]
        handle = self._session.findObjects(template)[0]
        mechanism = PyKCS11.Mechanism(PyKCS11.CKM_SHA256_RSA_PKCS)
        return bytes(self._session.sign(handle, data, mechanism))
