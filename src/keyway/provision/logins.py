"""Contexts that are logged in, kept for the next request with the same token and PIN."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from secrets import token_bytes
from typing import Final, TypeVar

from keyway.address import Address
from keyway.cryptoki import RV, CkError, Null, TokenInfo, stripped
from keyway.cryptoki.constants import CKF_PROTECTED_AUTHENTICATION_PATH, CKF_USER_PIN_INITIALIZED, CKU_USER
from keyway.provision.keys import KeyPair
from keyway.provision.locks import Locks
from keyway.provision.problems import Problem
from keyway.provision.references import TokenRef
from keyway.provision.session import Context, ContextLost, Session, open_context
from keyway.provision.tokens import find_token

__all__ = ["APPLICATION", "Desk", "Logins"]

APPLICATION: Final = "keyway api"
"""What the contexts are called in the daemon's log."""
SESSIONS: Final = 16
"""Sessions of one login: requests of the same caller that are served at a time."""
KEPT: Final = 16
"""Logins that are kept."""
IDLE: Final = 30.0
"""Seconds that a login is kept without use."""
AGE: Final = 300.0
"""Seconds that a login is kept at most: whoever's PIN was changed elsewhere is not served for ever."""

Result = TypeVar("Result")

_STALE: Final = frozenset(
    {
        RV.CKR_DEVICE_ERROR,
        RV.CKR_DEVICE_REMOVED,
        RV.CKR_CRYPTOKI_NOT_INITIALIZED,
        RV.CKR_KEY_HANDLE_INVALID,
        RV.CKR_OBJECT_HANDLE_INVALID,
        RV.CKR_SESSION_CLOSED,
        RV.CKR_SESSION_HANDLE_INVALID,
        RV.CKR_TOKEN_NOT_PRESENT,
        RV.CKR_USER_NOT_LOGGED_IN,
    }
)
"""RVs that mean that what is kept is not worth keeping: the host has died, the token was taken away or wiped, the key is gone."""


class Desk:
    """What a request works with: a session that nobody else uses, and what belongs to its login.

    Attributes:
        session: The session.
        token: What is known of the token.
        pairs: Key pairs that were found with this login, by how they were asked for. Handles of keys that have gone are refused by the token.
    """

    __slots__ = ("pairs", "session", "token")

    def __init__(self, session: Session, login: _Login) -> None:
        self.session = session
        self.token = login.token
        self.pairs = login.pairs


class _Login:
    """A context that is logged in to one token, with its sessions."""

    def __init__(self, context: Context, slot: int, token: TokenInfo) -> None:
        self.context = context
        self.slot = slot
        self.token = token
        self.pairs: dict[str, KeyPair] = {}
        self.began = self.used = asyncio.get_running_loop().time()
        self.users = 0
        self._room = asyncio.Semaphore(SESSIONS)
        self._free: dict[bool, list[Session]] = {True: [], False: []}

    @asynccontextmanager
    async def session(self, *, writes: bool) -> AsyncIterator[Session]:
        """Give a session. One in which something failed is not used again."""
        async with self._room:
            free = self._free[writes]
            session = free.pop() if free else await self.context.session(self.slot, writes=writes)
            try:
                yield session
            except Problem:
                free.append(session)
                raise
            except BaseException:
                if not self.context.is_lost:
                    await _closed(session)
                raise
            free.append(session)


class Logins:
    """The logins that there are."""

    def __init__(self, address: Address) -> None:
        """Args: address: Where the daemon listens."""
        self.address = address
        # PINs are not kept, and what is kept can't be tried against guesses from elsewhere.
        self._key: Final = token_bytes(32)
        self._logins: dict[bytes, _Login] = {}
        self._opening = Locks()
        self._sweep: asyncio.TimerHandle | None = None

    async def use(
        self, ref: TokenRef, pin: bytes | None, work: Callable[[Desk], Awaitable[Result]], *, writes: bool = False
    ) -> Result:
        """Do something with a session on a token.

        If it turns out that what was kept is stale, it is done once more with a new login. So the work must look first at what is there.

        Args:
            ref: The token.
            pin: The user PIN; None: no login, unless the token asks for PINs itself.
            work: What to do.
            writes: Whether it changes token objects.

        Raises:
            Problem: It can't be done.
            CkError: The token refused something.
            ContextLost: The daemon is not there.
            TimeoutError: The token does not answer.
        """
        name = blake2b(ref.text.encode() + (b"" if pin is None else b"\0" + pin), key=self._key).digest()
        for is_last in (False, True):
            login = await self._login(name, ref, pin)
            login.users += 1
            try:
                async with login.session(writes=writes) as session:
                    return await work(Desk(session, login))
            except ContextLost:
                self._drop(name, login)
                if is_last:
                    raise
            except CkError as error:
                if error.rv in _STALE:
                    self._drop(name, login)
                    if not is_last:
                        continue
                raise
            finally:
                login.users -= 1
                login.used = asyncio.get_running_loop().time()
                if login.users == 0 and self._logins.get(name) is not login:
                    login.context.close()
        raise AssertionError

    def forget(self, label: bytes) -> None:
        """Keep no login of a token any more: its PINs have changed, or its keys.

        Args:
            label: The token's label, without its padding.
        """
        for name, login in list(self._logins.items()):
            if stripped(login.token.label) == label:
                self._drop(name, login)

    def close(self) -> None:
        """End all of them."""
        for name, login in list(self._logins.items()):
            del self._logins[name]
            login.context.close()
        if self._sweep is not None:
            self._sweep.cancel()

    async def _login(self, name: bytes, ref: TokenRef, pin: bytes | None) -> _Login:
        login = self._kept(name)
        if login is not None:
            return login
        async with self._opening.hold(name):
            login = self._kept(name)
            if login is None:
                login = await self._open(ref, pin)
                self._keep(name, login)
            return login

    def _kept(self, name: bytes) -> _Login | None:
        login = self._logins.get(name)
        if login is not None and (login.context.is_lost or self._is_old(login)):
            self._drop(name, login)
            return None
        return login

    async def _open(self, ref: TokenRef, pin: bytes | None) -> _Login:
        context = await open_context(self.address, APPLICATION)
        try:
            slot, token = await find_token(context, ref)
            given = pin
            if given is not None and not token.flags & CKF_USER_PIN_INITIALIZED:
                raise Problem("pin-not-set")
            if given is not None or token.flags & CKF_PROTECTED_AUTHENTICATION_PATH:
                # Stays open: with the last session the login would end.
                session = await context.session(slot, writes=False)
                await session.call("C_Login", CKU_USER, Null() if given is None else given)
            return _Login(context, slot, token)
        except BaseException:
            context.close()
            raise

    def _keep(self, name: bytes, login: _Login) -> None:
        for other in sorted(self._logins, key=lambda each: self._logins[each].used)[
            : max(0, len(self._logins) + 1 - KEPT)
        ]:
            self._drop(other, self._logins[other])
        self._logins[name] = login
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(IDLE, self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep = None
        for name, login in list(self._logins.items()):
            if login.users == 0 and self._is_old(login):
                self._drop(name, login)
        if self._logins:
            self._sweep = asyncio.get_running_loop().call_later(IDLE, self._sweep_now)

    @staticmethod
    def _is_old(login: _Login) -> bool:
        now = asyncio.get_running_loop().time()
        return now - login.began > AGE or now - login.used > IDLE

    def _drop(self, name: bytes, login: _Login) -> None:
        """Give a login to nobody any more; who has it may finish."""
        if self._logins.get(name) is login:
            del self._logins[name]
        if login.users == 0:
            login.context.close()


async def _closed(session: Session) -> None:
    try:
        await session.close()
    except (CkError, ContextLost, TimeoutError):
        session.context.close()
