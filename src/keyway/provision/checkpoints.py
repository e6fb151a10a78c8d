"""Signs the checkpoints of the audit log with a key on a token, as a client of the daemon that writes it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from keyway.config.uris import key_uri
from keyway.cryptoki import RV, Attribute, CkError, Mechanism, Null
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_KEY_TYPE,
    CKF_TOKEN_INITIALIZED,
    CKK_EC,
    CKK_RSA,
    CKM_ECDSA,
    CKM_RSA_PKCS,
    CKO_PRIVATE_KEY,
    CKU_USER,
)
from keyway.observe.audit_errors import SignerError
from keyway.provision.models import MAX_PIN
from keyway.provision.private import PrivateFileError, read_private
from keyway.provision.session import Context, ContextLost, Session, context_over
from keyway.provision.signing import DIGEST_INFO
from keyway.provision.tokens import seen_tokens

__all__ = ["TokenSigner"]

SIGNING: Final = 60.0
"""Seconds that all of it may take."""
_PIN_ERRORS: Final = (
    RV.CKR_PIN_INCORRECT,
    RV.CKR_PIN_INVALID,
    RV.CKR_PIN_LEN_RANGE,
    RV.CKR_PIN_EXPIRED,
    RV.CKR_PIN_LOCKED,
)


class TokenSigner:
    """A key that is named by a URI.

    Each signature has a context of its own. Checkpoints are rare, so nothing is kept open that would hold a token, or the daemon when it is to end.

    Attributes:
        key: The URI.
    """

    def __init__(self, connect: Callable[[], socket.socket], key: str, pin_file: Path | None) -> None:
        """Describe it.

        Args:
            connect: Returns a connection to the daemon, which does not block.
            key: PKCS #11 URI of the private key.
            pin_file: File with the user PIN, read each time; None: nobody logs in.

        Raises:
            ValueError: The URI names no key.
        """
        self.key = key
        self._uri = key_uri(key)
        self._connect = connect
        self._pin_file = pin_file
        self._refused: bytes | None = None

    async def sign(self, digest: bytes) -> bytes:
        """Return the signature of a SHA-256 digest.

        Raises:
            SignerError: It can't be had now.
        """
        try:
            async with asyncio.timeout(SIGNING):
                context = await context_over(self._connect(), "keyway audit")
                try:
                    return await self._signature(context, digest)
                finally:
                    context.close()
        except CkError as error:
            raise SignerError(f"the token refuses: {error}") from None
        except ContextLost as error:
            raise SignerError(f"no daemon: {error}") from None
        except TimeoutError:
            raise SignerError("the token does not answer") from None
        except PrivateFileError as error:
            raise SignerError(str(error)) from None

    async def _signature(self, context: Context, digest: bytes) -> bytes:
        session = await context.session(await self._slot(context), writes=False)
        if self._pin_file is not None:
            await self._login(session, self._pin_file)
        key, key_type = await self._private_key(session)
        if key_type == CKK_EC:
            return await session.sign(Mechanism(CKM_ECDSA, Null()), key, digest)
        if key_type == CKK_RSA:
            return await session.sign(Mechanism(CKM_RSA_PKCS, Null()), key, DIGEST_INFO["sha256"] + digest)
        raise SignerError("the key is neither EC nor RSA")

    async def _login(self, session: Session, pin_file: Path) -> None:
        pin = (await asyncio.to_thread(read_private, pin_file, MAX_PIN + 2)).rstrip(b"\r\n")
        if pin == self._refused:
            # Another attempt with it at each checkpoint would lock the token.
            raise SignerError(f"the PIN in {pin_file} was refused, and is not tried again until the file changes")
        try:
            await session.login(CKU_USER, pin)
        except CkError as error:
            if error.rv in _PIN_ERRORS:
                self._refused = pin
            raise
        self._refused = None

    async def _slot(self, context: Context) -> int:
        seen, _ = await seen_tokens(context)
        slots = [
            slot
            for slot, info in seen.items()
            if info.flags & CKF_TOKEN_INITIALIZED
            and self._uri.matches_token(info)
            and self._uri.slot_id in (None, slot)
        ]
        if len(slots) != 1:
            raise SignerError(f"{len(slots)} tokens match the URI")
        return slots[0]

    async def _private_key(self, session: Session) -> tuple[int, int]:
        """Return handle and CKA_KEY_TYPE."""
        wanted = {each.type: each for each in self._uri.object_template()} | {
            CKA_CLASS: Attribute(CKA_CLASS, CKO_PRIVATE_KEY)
        }
        keys = await session.find(*wanted.values())
        if len(keys) != 1:
            raise SignerError(f"{len(keys)} private keys match the URI")
        told = await session.attributes(keys[0], CKA_KEY_TYPE)
        key_type = told.get(CKA_KEY_TYPE)
        return keys[0], key_type if isinstance(key_type, int) else -1
