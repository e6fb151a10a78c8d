"""What a pool tells of itself: what all of its members can do, and no more."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final

from keyway.cryptoki import CK_UNAVAILABLE_INFORMATION, MechanismInfo, TokenInfo, padded
from keyway.cryptoki.constants import (
    CK_EFFECTIVELY_INFINITE,
    CKF_CLOCK_ON_TOKEN,
    CKF_LOGIN_REQUIRED,
    CKF_PROTECTED_AUTHENTICATION_PATH,
    CKF_SEED_RANDOM_REQUIRED,
    CKF_SO_PIN_COUNT_LOW,
    CKF_SO_PIN_FINAL_TRY,
    CKF_SO_PIN_LOCKED,
    CKF_SO_PIN_TO_BE_CHANGED,
    CKF_USER_PIN_COUNT_LOW,
    CKF_USER_PIN_FINAL_TRY,
    CKF_USER_PIN_LOCKED,
    CKF_USER_PIN_TO_BE_CHANGED,
    CKF_WRITE_PROTECTED,
)

__all__ = ["mechanism_info", "mechanisms", "pool_serial", "token_info"]

_OF_ANY: Final = (
    CKF_LOGIN_REQUIRED
    | CKF_WRITE_PROTECTED
    | CKF_SEED_RANDOM_REQUIRED
    | CKF_USER_PIN_COUNT_LOW
    | CKF_USER_PIN_FINAL_TRY
    | CKF_USER_PIN_LOCKED
    | CKF_USER_PIN_TO_BE_CHANGED
    | CKF_SO_PIN_COUNT_LOW
    | CKF_SO_PIN_FINAL_TRY
    | CKF_SO_PIN_LOCKED
    | CKF_SO_PIN_TO_BE_CHANGED
)
"""Flags that a pool has if one member has them: demands and warnings. All others, vendors' ones too, it has if all members do."""


def mechanisms(lists: Iterable[Sequence[int]]) -> tuple[int, ...]:
    """Return the mechanisms that all members have, in the order of the first one.

    Args:
        lists: The mechanism list of each member.
    """
    each = list(lists)
    common = set(each[0]).intersection(*each[1:]) if each else set()
    return tuple(dict.fromkeys(type_ for type_ in each[0] if type_ in common)) if each else ()


def mechanism_info(infos: Sequence[MechanismInfo]) -> MechanismInfo:
    """Return what all members can do with a mechanism.

    Args:
        infos: What each member tells; at least one.
    """
    return MechanismInfo(
        max(_told([info.min_key_size for info in infos])),
        # A mechanism without a key has 0 here, and so have some that do not tell.
        min([size for info in infos if (size := info.max_key_size)], default=0),
        _of_all([info.flags for info in infos]),
    )


def token_info(
    name: str, label: str, serial: str, infos: Sequence[TokenInfo], *, is_protected: bool, has_own_pin: bool
) -> TokenInfo:
    """Return CK_TOKEN_INFO of a pool (PKCS #11 3.2, section 3.2).

    The numbers of open sessions are those of the member that has most.

    Args:
        name: The pool's name in the configuration.
        label: The label to show; the name if it is empty.
        serial: The serial number to show; one made from the name if it is empty.
        infos: What the members tell; at least one.
        is_protected: Whether the client may not change what is in the pool.
        has_own_pin: Whether the gateway itself has the PIN.
    """
    flags = _flags([info.flags for info in infos])
    if is_protected:
        flags |= CKF_WRITE_PROTECTED
    if has_own_pin:
        flags |= CKF_PROTECTED_AUTHENTICATION_PATH
    return TokenInfo(
        label=padded(label or name, 32),
        manufacturer_id=padded("Keyway", 32),
        model=padded("Pool", 16),
        serial_number=padded(serial or pool_serial(name), 16),
        flags=flags,
        max_session_count=_limit([info.max_session_count for info in infos]),
        session_count=max(_told([info.session_count for info in infos])),
        max_rw_session_count=_limit([info.max_rw_session_count for info in infos]),
        rw_session_count=max(_told([info.rw_session_count for info in infos])),
        max_pin_len=min(_told([info.max_pin_len for info in infos])),
        min_pin_len=max(_told([info.min_pin_len for info in infos])),
        total_public_memory=min(_told([info.total_public_memory for info in infos])),
        free_public_memory=min(_told([info.free_public_memory for info in infos])),
        total_private_memory=min(_told([info.total_private_memory for info in infos])),
        free_private_memory=min(_told([info.free_private_memory for info in infos])),
        hardware_version=min(info.hardware_version for info in infos),
        firmware_version=min(info.firmware_version for info in infos),
        utc_time=infos[0].utc_time if flags & CKF_CLOCK_ON_TOKEN else padded("", 16),
    )


def pool_serial(name: str) -> str:
    """Return a serial number for a pool: 16 hexadecimal digits made from its name."""
    return blake2b(name.encode(), digest_size=8).hexdigest()


def _flags(each: Sequence[int]) -> int:
    of_any = 0
    for flags in each:
        of_any |= flags
    return (of_any & _OF_ANY) | (_of_all(each) & ~_OF_ANY)


def _of_all(each: Sequence[int]) -> int:
    common = each[0]
    for flags in each[1:]:
        common &= flags
    return common


def _told(numbers: Sequence[int]) -> Sequence[int]:
    """Return the numbers that are some, or all if none is."""
    return [number for number in numbers if number != CK_UNAVAILABLE_INFORMATION] or numbers


def _limit(limits: Sequence[int]) -> int:
    """Return the smallest limit; that none is known if one is not, and there is no other."""
    finite = [limit for limit in limits if limit not in (CK_EFFECTIVELY_INFINITE, CK_UNAVAILABLE_INFORMATION)]
    return min(finite) if finite else max(limits)
