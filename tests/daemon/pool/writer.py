"""An application that makes objects at a pool, and a look at what the members have of them."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from tests.daemon.pool.app import WRITE, App
from tests.daemon.pool.members import Pools

from keyway.cryptoki import Attribute, Mechanism, Null, RoomNumbers
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_EC_PARAMS,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODULUS_BITS,
    CKA_PRIVATE,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_UNWRAP,
    CKA_VALUE,
    CKA_VALUE_LEN,
    CKA_VERIFY,
    CKA_WRAP,
    CKK_AES,
    CKM_AES_KEY_GEN,
    CKM_EC_KEY_PAIR_GEN,
    CKM_GENERIC_SECRET_KEY_GEN,
    CKM_RSA_PKCS_KEY_PAIR_GEN,
    CKO_DATA,
    CKO_SECRET_KEY,
)

KEK = "kek"
KEK_VALUE = bytes.fromhex("8f0c5e1d7a9b42638855a1c3d2e4f60718293a4b5c6d7e8f90a1b2c3d4e5f607")
P256 = bytes.fromhex("06082a8648ce3d030107")
YES, NO = b"\1", b"\0"

Values = dict[int, Any]


def template(values: Values, *more: Values) -> tuple[Attribute, ...]:
    """Return a template. Later values take the place of earlier ones; None leaves an attribute out."""
    told: Values = {}
    for each in (values, *more):
        told |= each
    return tuple(Attribute(type_, value) for type_, value in told.items() if value is not None)


def named(label: str, id_: bytes = b"\x77") -> Values:
    return {CKA_TOKEN: YES, CKA_LABEL: label.encode(), CKA_ID: id_}


def data(label: str, value: bytes = b"some data", **_: Any) -> Values:
    return {CKA_CLASS: CKO_DATA, CKA_TOKEN: YES, CKA_PRIVATE: NO, CKA_LABEL: label.encode(), CKA_VALUE: value}


def aes(label: str, value: bytes, id_: bytes = b"\x77") -> Values:
    """A key whose value is given."""
    return {CKA_CLASS: CKO_SECRET_KEY, CKA_KEY_TYPE: CKK_AES, CKA_VALUE: value, **named(label, id_)}


class Writer(App):
    """An application with a session for writing."""

    def __init__(self, pools: Pools, slot: int = 0, **options: Any) -> None:
        super().__init__(pools.daemon, slot, **{"flags": WRITE, **options})

    def create(self, *values: Values) -> int:
        (handle,) = self.good("C_CreateObject", template(*values), 0, target=1)
        return handle

    def kek(self, label: str = KEK, *more: Values) -> int:
        """Make a wrapping key."""
        rights = {CKA_WRAP: YES, CKA_UNWRAP: YES, CKA_SENSITIVE: YES, CKA_EXTRACTABLE: NO, CKA_PRIVATE: YES}
        return self.create(aes(label, KEK_VALUE), rights, *more)

    def try_key(self, label: str, *more: Values, type_: int = CKM_AES_KEY_GEN, length: int = 32) -> tuple[int, Any]:
        """Generate a secret key, and return RV and handle."""
        rv, values = self.call(
            "C_GenerateKey",
            Mechanism(type_, Null()),
            template(named(label), {CKA_VALUE_LEN: length}, *more),
            0,
            target=1,
        )
        return rv, values[-1] if values else None

    def key(self, label: str, *more: Values, **options: int) -> int:
        rv, handle = self.try_key(label, *more, **options)
        assert rv == 0, hex(rv)
        return handle

    def generic(self, label: str, *more: Values, length: int = 32) -> int:
        return self.key(label, {CKA_SIGN: YES}, *more, type_=CKM_GENERIC_SECRET_KEY_GEN, length=length)

    def try_pair(
        self,
        label: str,
        private: Values | None = None,
        public: Values | None = None,
        *,
        id_: bytes = b"\x77",
        bits: int = 0,
    ) -> tuple[int, Any]:
        """Generate an EC key pair, or an RSA one of so many bits, and return RV and handles."""
        mechanism = CKM_RSA_PKCS_KEY_PAIR_GEN if bits else CKM_EC_KEY_PAIR_GEN
        made_with = {CKA_MODULUS_BITS: bits} if bits else {CKA_EC_PARAMS: P256}
        rv, values = self.call(
            "C_GenerateKeyPair",
            Mechanism(mechanism, Null()),
            template(named(label, id_), made_with, {CKA_VERIFY: YES}, public or {}),
            template(named(label, id_), {CKA_SIGN: YES, CKA_PRIVATE: YES}, private or {}),
            0,
            0,
            target=1,
        )
        return rv, values[-2:] or (0, 0)

    def pair(self, label: str, *more: Values, **options: Any) -> tuple[int, int]:
        rv, (public, private) = self.try_pair(label, *more, **options)
        assert rv == 0, hex(rv)
        return public, private

    def number(self, handle: int, type_: int) -> Any:
        (answer,) = self.good("C_GetAttributeValue", handle, (Attribute(type_, RoomNumbers(1)),), target=1)
        assert isinstance(answer, tuple)
        return answer[0].value


class Alone(ExitStack):
    """Applications at each member alone, in the order of the members. Closed at the end of its `with` block.

    Attributes:
        apps: The applications.
    """

    def __init__(self, pools: Pools, first_slot: int) -> None:
        """Connect.

        Args:
            pools: The daemon.
            first_slot: The slot of the first member's token.
        """
        super().__init__()
        self.apps = [self.enter_context(Writer(pools, first_slot + at)) for at in range(len(pools.members))]

    def has(self, label: str) -> list[int]:
        """How many objects with a label each has."""
        return [len(app.find(Attribute(CKA_LABEL, label.encode()))) for app in self.apps]

    def all(self, label: str, class_: int) -> Iterable[tuple[Writer, int]]:
        """The object with a label and a class at each, which must have exactly one."""
        return [(app, app.object(label, class_)) for app in self.apps]
