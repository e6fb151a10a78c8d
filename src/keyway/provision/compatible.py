"""The compatible API: one call makes token, key pair and request, another stores the certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from keyway.provision.labels import object_id, object_label, token_label
from keyway.provision.models import CompatibleRequest, CompatibleToken, Pin
from keyway.provision.pins import PinBook
from keyway.provision.problems import Problem
from keyway.provision.references import KeyRef, TokenRef
from keyway.provision.service import Service, UserPin

__all__ = ["Compatible", "Defaults"]

WELL_KNOWN_PIN: Final = "12345678"
"""What callers of this API expect when they give no PIN."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds when a request does not say otherwise.

    Attributes:
        token: Label of the token.
        pin: Reference to the user PIN; empty: the well-known one.
        so_pin: Reference to the PIN of the security officer; empty: the well-known one.
    """

    token: str = "sdewan-sgx"  # noqa: S105 (a label)
    pin: str = ""
    so_pin: str = ""


class Compatible:
    """Does what existing callers ask for."""

    def __init__(self, service: Service, pins: PinBook, defaults: Defaults) -> None:
        self._service = service
        self._pins = pins
        self._defaults = defaults

    async def csr(self, asked: CompatibleRequest, caller: str) -> str:
        """See to it that there are a token and a key pair; return a certificate request as PEM.

        Raises:
            Problem: It can't be done. If the request makes no sense, nothing has been made.
        """
        given = asked.token or CompatibleToken()
        token = token_label(given.label or self._defaults.token)
        pair = asked.cert.key_pair
        label = object_label(pair.label)
        id_ = object_id(pair.id) if pair.id else b""
        pin = self._pin(given.pin, self._defaults.pin, token, "user", caller)
        so_pin = self._pin(given.so_pin, self._defaults.so_pin, token, "so", caller)
        ref = TokenRef.parse(token)
        user = UserPin(pin, "", caller)
        # Mostly all is there. If not, this has looked at everything that was asked for before anything is made.
        try:
            return await self._service.compatible_csr(ref, user, label, id_, pair.key_type, asked.cert.subject)
        except Problem as problem:
            if problem.code not in ("token-missing", "pin-not-set"):
                raise
        await self._service.ensure_token(token, given.slot, so_pin, pin)
        return await self._service.compatible_csr(ref, user, label, id_, pair.key_type, asked.cert.subject)

    async def cert(self, asked: CompatibleRequest, caller: str) -> str:
        """Put a certificate beside its key pair, in place of another one that it may have.

        Raises:
            Problem: It can't be done.
        """
        given = asked.token or CompatibleToken()
        token = token_label(given.label or self._defaults.token)
        pin = self._pin(given.pin, self._defaults.pin, token, "user", caller)
        # The CKA_ID is that of the key: callers are known to send another one here.
        key = KeyRef.parse(object_label(asked.cert.key_pair.label))
        await self._service.store_certificate(
            TokenRef.parse(token), key, asked.cert.pem, UserPin(pin, "", caller), replaces=True
        )
        return "success"

    def _pin(self, given: str, reference: str, token: str, user: str, caller: str) -> Pin:
        if given:
            return Pin.of(given)
        if reference:
            return self._pins.named(reference, token, user, caller)
        return self._pins.default(token, user, caller) or Pin.of(WELL_KNOWN_PIN)
