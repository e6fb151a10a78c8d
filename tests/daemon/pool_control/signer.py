"""A client of a pool that signs again and again, and counts what fails."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

from tests.daemon.harness import until
from tests.daemon.pool.tokens import PIN
from tests.daemon.raw import RawClient

from keyway.cryptoki import Attribute, Mechanism, Null, Numbers, ObjectsRoom, Output, Room
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_LABEL,
    CKF_SERIAL_SESSION,
    CKM_SHA256_RSA_PKCS,
    CKO_PRIVATE_KEY,
    CKU_USER,
)

RSA = Mechanism(CKM_SHA256_RSA_PKCS, Null())
OPEN = CKF_SERIAL_SESSION
DATA = b"what is signed"


def begin(client: RawClient, slot: int = 0, session: int = 1) -> int:
    """Open a context and a session at a pool, log in, and return the handle of its RSA key."""
    client.initialize()
    return log_in(client, slot, session)


def log_in(client: RawClient, slot: int = 0, session: int = 1) -> int:
    """Open a session, log in, and return the handle of the RSA key."""
    client.good("C_OpenSession", OPEN, session, target=slot)
    client.good("C_Login", CKU_USER, PIN.encode(), target=session)
    (key,) = find(client, Attribute(CKA_CLASS, CKO_PRIVATE_KEY), Attribute(CKA_LABEL, b"rsa"), session=session)
    return key


def find(client: RawClient, *template: Attribute, session: int = 1) -> tuple[int, ...]:
    """Search, and return the handles."""
    client.good("C_FindObjectsInit", template, target=session)
    (found,) = client.good("C_FindObjects", ObjectsRoom(100, has_count=True, has_buffer=True), target=session)
    client.good("C_FindObjectsFinal", target=session)
    assert isinstance(found, Numbers)
    return found.data or ()


def sign(client: RawClient, key: int, session: int = 1, data: bytes = DATA) -> bytes:
    """Sign in one part."""
    client.good("C_SignInit", RSA, key, target=session)
    return end(client, "C_Sign", data, session=session)


def end(client: RawClient, name: str, *values: Any, session: int = 1) -> bytes:
    """Make a call that gives bytes."""
    (output,) = client.good(name, *values, Room(512, True), target=session)
    assert isinstance(output, Output)
    assert output.data is not None
    return output.data


class Signer:
    """Signs until the end of its `with` block, which fails if a signature did.

    Attributes:
        signed: How many signatures were made, all of them the same.
    """

    def __init__(self, client: RawClient, key: int) -> None:
        self.signed = 0
        self._client = client
        self._key = key
        self._is_over = False
        self._thread = ThreadPoolExecutor(1)

    def __enter__(self) -> Self:
        self._work = self._thread.submit(self._sign)
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.shutdown()
        self._work.result()

    def go_on(self, count: int = 20) -> None:
        """Wait until so many more signatures were made."""
        enough = self.signed + count
        until(lambda: self.signed >= enough or self._work.done(), f"{count} more signatures")
        assert not self._work.done(), self._work.exception()

    def _sign(self) -> None:
        first = sign(self._client, self._key)
        while not self._is_over:
            assert sign(self._client, self._key) == first
            self.signed += 1
