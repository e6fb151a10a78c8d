"""What callers can have done: tokens, key pairs, certificate requests and certificates, over the daemon's socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from cryptography import x509

from keyway.address import Unix
from keyway.cryptoki import CkError, stripped
from keyway.provision import keys, stored, tokens
from keyway.provision.apart import Apart
from keyway.provision.certificates import check, read_certificates
from keyway.provision.keytypes import parse_key_type, parse_usages
from keyway.provision.labels import object_id, object_label, token_label
from keyway.provision.locks import Locks
from keyway.provision.logins import APPLICATION, Desk, Logins
from keyway.provision.models import (
    CertificateAnswer,
    CertificateList,
    CsrAnswer,
    CsrRequest,
    KeyAnswer,
    KeyList,
    KeyRequest,
    Pin,
    TokenAnswer,
    TokenList,
    TokenRequest,
)
from keyway.provision.pins import PinBook
from keyway.provision.problems import Problem, from_error
from keyway.provision.publickey import thumbprint_of
from keyway.provision.references import KeyRef, TokenRef
from keyway.provision.requests import Draft, Extensions, draft, scheme_of
from keyway.provision.session import Context, ContextLost, open_context
from keyway.provision.signing import is_lacking, signature_of, ways
from keyway.provision.subjects import parse_subject

if TYPE_CHECKING:
    from keyway.address import Address
    from keyway.provision.keys import KeyPair

__all__ = ["Service", "UserPin"]

Result = TypeVar("Result")

_INITIALIZING: Final = b"tokens that are initialised, and PINs that are set"
MAX_PAIRS: Final = 1024
"""Key pairs that are remembered with one login."""


class UserPin:
    """The user PIN that a request comes with: given, by reference, or none. It does not show.

    Attributes:
        pin: The PIN; None if it was not given.
        reference: Name of a section [api.pin.NAME]; empty for none.
        caller: Who asks.
    """

    __slots__ = ("caller", "pin", "reference")

    def __init__(self, pin: Pin | None, reference: str, caller: str) -> None:
        """Describe it.

        Raises:
            Problem: `bad-member`: both were given.
        """
        if pin is not None and reference:
            raise Problem("bad-member", "a PIN and a reference to one")
        self.pin = pin
        self.reference = reference
        self.caller = caller


class Service:
    """Does what requests ask for. All of its methods raise `Problem` and nothing else that is not a defect."""

    def __init__(
        self, address: Address, pins: PinBook, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """Describe it; nothing is connected before something is asked for.

        Args:
            address: Where the daemon listens.
            pins: PINs that stay in the gateway.
            now: Tells the time, with its zone.
        """
        self._pins = pins
        self._now = now
        self._logins = Logins(address)
        self._initializing = asyncio.Lock()
        self._changing = Locks()
        # A daemon that is reached in another way may be on another machine, where no lock of this one counts.
        self._apart = Apart(Path(address.path).resolve().parent) if isinstance(address, Unix) else None

    def close(self) -> None:
        """End all contexts."""
        self._logins.close()

    # Tokens

    async def list_tokens(self) -> TokenList:
        """Return the tokens that clients of the daemon see."""
        async with self._context() as context:
            seen, _ = await tokens.seen_tokens(context)
            return TokenList(tokens=tuple(tokens.answer_of(slot, info) for slot, info in seen.items()))

    async def show_token(self, ref: TokenRef) -> TokenAnswer:
        """Return one token."""
        async with self._context() as context:
            return tokens.answer_of(*await tokens.find_token(context, ref))

    async def initialize_token(self, asked: TokenRequest, caller: str) -> tuple[TokenAnswer, bool]:
        """See to it that there is a token; return it, and whether it was made now."""
        label = token_label(asked.label)
        so_pin = self._so_pin(asked.so_pin, asked.so_pin_ref, label, caller)
        pin = self._user_pin(UserPin(asked.pin, asked.pin_ref, caller), label)
        if pin is None:
            raise Problem("pin-missing", "a user PIN is needed for a new token")
        is_new = await self.ensure_token(label, asked.slot, so_pin, pin)
        return await self.show_token(TokenRef.parse(label)), is_new

    async def ensure_token(self, label: str, slot: int | None, so_pin: bytes, pin: bytes) -> bool:
        """See to it that there is a token; see `tokens.initialize`."""
        # One at a time, whatever the label: two might take the same slot.
        async with self._initializing, self._kept_apart(_INITIALIZING), self._context() as context:
            return await tokens.initialize(context, label, slot, so_pin, pin)

    async def set_pin(self, ref: TokenRef, new: Pin, old: UserPin, so_pin: Pin | None, so_pin_ref: str) -> None:
        """Set the user PIN of a token: as the security officer if their PIN is given, else as the user."""
        by_officer = so_pin is not None or bool(so_pin_ref)
        if by_officer and (old.pin is not None or old.reference):
            raise Problem("bad-member", "either the user's present PIN or that of the security officer")
        async with self._initializing, self._kept_apart(_INITIALIZING), self._context() as context:
            slot, info = await tokens.find_token(context, ref)
            label = stripped(info.label)
            if by_officer:
                await tokens.set_pin(context, slot, self._so_pin(so_pin, so_pin_ref, label.decode(), old.caller), new)
            else:
                present = self._user_pin(old, label.decode())
                if present is None:
                    raise Problem("pin-missing", "the present PIN is needed")
                await tokens.change_pin(context, slot, present, new)
        self._logins.forget(label)

    # Keys

    async def list_keys(self, ref: TokenRef, pin: UserPin) -> KeyList:
        """Return the key pairs of a token."""

        async def work(desk: Desk) -> KeyList:
            return KeyList(keys=tuple(map(keys.answer_of, await keys.list_pairs(desk.session))))

        return await self._on(ref, pin, work)

    async def show_key(self, ref: TokenRef, key: KeyRef, pin: UserPin) -> KeyAnswer:
        """Return one key pair."""

        async def work(desk: Desk) -> KeyAnswer:
            return keys.answer_of(await keys.find_pair(desk.session, key))

        return await self._on(ref, pin, work)

    async def create_key(self, ref: TokenRef, asked: KeyRequest, pin: UserPin) -> tuple[KeyAnswer, bool]:
        """See to it that there is a key pair; return it, and whether it was made now."""
        kind = parse_key_type(asked.type)
        usages = parse_usages(kind, asked.usage)
        label = object_label(asked.label)
        id_ = object_id(asked.id) if asked.id else b""
        pair, is_new = await self._ensure_key(
            ref,
            pin,
            lambda desk: keys.create_pair(desk.session, kind, label, id_, usages, extractable=asked.extractable),
        )
        if id_ and pair.id != id_:
            raise Problem("key-exists-with-other-id", f"{label!r} has the CKA_ID {pair.id.hex()}")
        return keys.answer_of(pair), is_new

    async def delete_key(self, ref: TokenRef, key: KeyRef, pin: UserPin) -> None:
        """Delete a key pair."""
        # When it is done once more because the connection broke, it may have been done.
        begun = False

        async def work(desk: Desk) -> bytes:
            nonlocal begun
            async with self._changes(desk):
                try:
                    await keys.delete_pair(desk.session, key)
                except Problem as problem:
                    if not (begun and problem.code == "key-missing"):
                        raise
                except (CkError, ContextLost):
                    begun = True
                    raise
                desk.pairs.clear()
                return stripped(desk.token.label)

        self._logins.forget(await self._on(ref, pin, work, writes=True))

    async def _ensure_key(
        self, ref: TokenRef, pin: UserPin, make: Callable[[Desk], Awaitable[tuple[KeyPair, bool]]]
    ) -> tuple[KeyPair, bool]:
        async def work(desk: Desk) -> tuple[KeyPair, bool]:
            async with self._changes(desk):
                return await make(desk)

        return await self._on(ref, pin, work, writes=True)

    # Certificate requests

    async def make_csr(self, ref: TokenRef, key: KeyRef, asked: CsrRequest, pin: UserPin) -> CsrAnswer:
        """Return a certificate request for a key pair, signed by it."""
        extensions = Extensions.parse(asked.names, asked.key_usage, asked.extended_key_usage)
        subject = _subject(asked, extensions)

        async def work(desk: Desk) -> CsrAnswer:
            return await _with_pair(desk, key, lambda pair: made(desk, pair))

        async def made(desk: Desk, pair: KeyPair) -> CsrAnswer:
            unsigned = draft(subject, extensions, pair.key, scheme_of(pair.type, asked.padding, asked.hash))
            return CsrAnswer(pem=await _sign(desk, pair, unsigned), public_key_thumbprint=thumbprint_of(pair.key))

        return await self._on(ref, pin, work)

    async def compatible_csr(
        self, ref: TokenRef, pin: UserPin, label: str, id_: bytes, kind_name: str, subject_text: str
    ) -> str:
        """Return a certificate request for the key pair with a label, which is made if it is not there."""
        kind = parse_key_type(kind_name)
        subject = parse_subject(subject_text)
        key = KeyRef(label, object_label(label))

        async def work(desk: Desk) -> str:
            return await _with_pair(desk, key, lambda pair: made(desk, pair))

        async def made(desk: Desk, pair: KeyPair) -> str:
            if pair.type != kind.name:
                raise Problem("key-exists-with-other-type", f"{label!r} is {pair.type}, not {kind.name}")
            return await _sign(desk, pair, draft(subject, Extensions(), pair.key, scheme_of(pair.type)))

        try:
            return await self._on(ref, pin, work)
        except Problem as problem:
            if problem.code != "key-missing":
                raise
        usages = frozenset({"sign"})
        await self._ensure_key(
            ref, pin, lambda desk: keys.create_pair(desk.session, kind, label, id_, usages, shares_id=True)
        )
        return await self._on(ref, pin, work)

    # Certificates

    async def list_certificates(self, ref: TokenRef, pin: UserPin) -> CertificateList:
        """Return the certificates of a token."""

        async def work(desk: Desk) -> CertificateList:
            found = await stored.list_certificates(desk.session)
            return CertificateList(certificates=tuple(map(stored.answer_of, found)))

        return await self._on(ref, pin, work)

    async def show_certificate(self, ref: TokenRef, fingerprint: str, pin: UserPin) -> CertificateAnswer:
        """Return one certificate."""

        async def work(desk: Desk) -> CertificateAnswer:
            return stored.answer_of((await stored.find_certificate(desk.session, fingerprint))[0])

        return await self._on(ref, pin, work)

    async def store_certificate(
        self, ref: TokenRef, key: KeyRef, text: str, pin: UserPin, *, replaces: bool
    ) -> tuple[CertificateAnswer, bool]:
        """Put a certificate beside its key; return it, and whether it was not there before."""
        certificates = read_certificates(text)

        async def work(desk: Desk) -> tuple[CertificateAnswer, bool]:
            async with self._changes(desk):
                pair = await keys.find_pair(desk.session, key)
                check(certificates, pair.key, self._now())
                there, is_new = await stored.store(desk.session, pair, certificates, replaces=replaces)
                return stored.answer_of(there), is_new

        return await self._on(ref, pin, work, writes=True)

    async def delete_certificate(self, ref: TokenRef, fingerprint: str, pin: UserPin) -> None:
        """Delete a certificate."""
        begun = False

        async def work(desk: Desk) -> None:
            nonlocal begun
            async with self._changes(desk):
                try:
                    await stored.delete_certificate(desk.session, fingerprint)
                except Problem as problem:
                    if not (begun and problem.code == "certificate-missing"):
                        raise
                except (CkError, ContextLost):
                    begun = True
                    raise

        await self._on(ref, pin, work, writes=True)

    # What all of them need

    async def _on(
        self, ref: TokenRef, pin: UserPin, work: Callable[[Desk], Awaitable[Result]], *, writes: bool = False
    ) -> Result:
        with _told():
            return await self._logins.use(ref, self._user_pin(pin, ref.label), work, writes=writes)

    @asynccontextmanager
    async def _context(self) -> AsyncIterator[Context]:
        """Give a context of its own, for what needs no login that is kept."""
        with _told():
            context = await open_context(self._logins.address, APPLICATION)
            try:
                yield context
            finally:
                context.close()

    @asynccontextmanager
    async def _changes(self, desk: Desk) -> AsyncIterator[None]:
        """Let nobody else change the same token meanwhile: in this process, and as far as possible on this machine."""
        name = desk.token.label + desk.token.serial_number
        async with self._changing.hold(name), self._kept_apart(name):
            yield

    def _kept_apart(self, name: bytes) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._apart is None else self._apart.hold(name)

    def _user_pin(self, given: UserPin, label: str) -> Pin | None:
        if given.pin is not None:
            return given.pin
        if given.reference:
            return self._pins.named(given.reference, label, "user", given.caller)
        return self._pins.default(label, "user", given.caller)

    def _so_pin(self, pin: Pin | None, reference: str, label: str, caller: str) -> Pin:
        if pin is not None and reference:
            raise Problem("bad-member", "a PIN and a reference to one")
        if pin is not None:
            return pin
        found = (
            self._pins.named(reference, label, "so", caller) if reference else self._pins.default(label, "so", caller)
        )
        if found is None:
            raise Problem("pin-missing", "the PIN of the security officer is needed")
        return found


def _subject(asked: CsrRequest, extensions: Extensions) -> x509.Name:
    if not asked.subject and extensions.names:
        return x509.Name([])
    return parse_subject(asked.subject)


async def _with_pair(desk: Desk, key: KeyRef, make: Callable[[KeyPair], Awaitable[Result]]) -> Result:
    """Do something with a key pair that may have been found before.

    The token refuses the handle of a key that has gone. If the handle means another key now, its signature gives it away.
    """
    known = desk.pairs.get(key.text)
    if known is not None:
        try:
            return await make(known)
        except Problem as problem:
            if problem.code not in ("key-pair-mismatch", "key-exists-with-other-type"):
                raise
            desk.pairs.pop(key.text, None)
    pair = await keys.find_pair(desk.session, key)
    if len(desk.pairs) < MAX_PAIRS:
        desk.pairs[key.text] = pair
    return await make(pair)


async def _sign(desk: Desk, pair: KeyPair, unsigned: Draft) -> str:
    possible = ways(unsigned.scheme, unsigned.to_sign)
    for way in possible:
        try:
            made = await desk.session.sign(way.mechanism, pair.private, way.data)
        except CkError as error:
            if is_lacking(error.rv) and way is not possible[-1]:
                continue
            raise
        return unsigned.signed(signature_of(unsigned.scheme, made))
    raise AssertionError


@contextmanager
def _told() -> Iterator[None]:
    """Turn the errors of calls into problems."""
    try:
        yield
    except CkError as error:
        raise from_error(error) from None
    except ContextLost as error:
        raise Problem("backend-down", f"the daemon is not there: {error}") from None
    except TimeoutError:
        raise Problem("backend-timeout") from None
