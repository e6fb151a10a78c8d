"""What a role must allow for each call of the standard. A call without a place here fails a test, and is refused until it has one."""

from collections.abc import Iterable, Mapping
from typing import Final

from keyway.cryptoki import CALLS, Step, call_named

__all__ = ["ADMINISTRATION", "EXPORTS", "FREE", "GROUPS", "STARTS", "UNJUDGED", "functions_named", "number_of"]


def number_of(name: str) -> int:
    """Return the number of a call.

    Raises:
        KeyError: The standard has no such function.
    """
    return call_named(name).number


def _numbers(names: str) -> frozenset[int]:
    return frozenset(map(number_of, names.split()))


FREE: Final = _numbers(
    "C_Initialize C_Finalize C_GetInfo C_GetFunctionList C_GetInterfaceList C_GetInterface C_GetSlotList C_GetSlotInfo C_GetTokenInfo "
    "C_GetMechanismList C_GetMechanismInfo C_WaitForSlotEvent C_OpenSession C_CloseSession C_CloseAllSessions C_GetSessionInfo "
    "C_GetSessionValidationFlags C_Login C_LoginUser C_Logout C_SessionCancel C_GetFunctionStatus C_CancelFunction "
    "C_AsyncComplete C_AsyncGetID"
)
"""Calls that every identity may make at a token that it sees: they use no key, or only end what was allowed when it began."""

ADMINISTRATION: Final = _numbers("C_InitToken C_InitPIN C_SetPIN")
"""Calls that need `administration`."""

UNJUDGED: Final = _numbers("C_SetOperationState C_AsyncJoin")
"""Calls that go on with something of which nobody can tell the key and the mechanism; for roles that are not limited in these."""

GROUPS: Final[Mapping[str, frozenset[int]]] = {
    name: _numbers(calls)
    for name, calls in {
        "find": "C_FindObjectsInit C_GetAttributeValue C_GetObjectSize",
        "manage": "C_CreateObject C_CopyObject C_SetAttributeValue C_DestroyObject",
        "generate": "C_GenerateKey C_GenerateKeyPair",
        "sign": "C_SignInit C_SignRecoverInit C_MessageSignInit",
        "verify": "C_VerifyInit C_VerifyRecoverInit C_MessageVerifyInit C_VerifySignatureInit",
        "encrypt": "C_EncryptInit C_MessageEncryptInit",
        "decrypt": "C_DecryptInit C_MessageDecryptInit",
        "digest": "C_DigestInit C_DigestKey",
        "wrap": "C_WrapKey C_WrapKeyAuthenticated",
        "unwrap": "C_UnwrapKey C_UnwrapKeyAuthenticated",
        "derive": "C_DeriveKey",
        "encapsulate": "C_EncapsulateKey",
        "decapsulate": "C_DecapsulateKey",
        "random": "C_GenerateRandom C_SeedRandom",
        "state": "C_GetOperationState",
    }.items()
}
"""Calls that `functions` of a role may name, by the name of their group."""

EXPORTS: Final[Mapping[int, str]] = {
    number_of("C_WrapKey"): "it gives a key away, encrypted",
    number_of("C_WrapKeyAuthenticated"): "it gives a key away, encrypted",
    number_of("C_DigestKey"): "the digest of a short key tells the key",
}
"""Calls that need `export`, and why."""

_GRANTED: Final = frozenset().union(*GROUPS.values())
_DUAL: Final = {
    "C_DigestEncryptUpdate": "C_DigestInit C_EncryptInit",
    "C_DecryptDigestUpdate": "C_DecryptInit C_DigestInit",
    "C_SignEncryptUpdate": "C_SignInit C_EncryptInit",
    "C_DecryptVerifyUpdate": "C_DecryptInit C_VerifyInit",
}


def _starts() -> Mapping[int, frozenset[int]]:
    begun = {call.operation: call.number for call in CALLS if call.step is Step.START}
    parts = {call.number: frozenset((begun[call.operation],)) for call in CALLS if call.operation in begun}
    dual = {number_of(name): _numbers(calls) for name, calls in _DUAL.items()}
    return {**parts, **dual, **{number: frozenset((number,)) for number in _GRANTED}}


STARTS: Final = _starts()
"""By call: the calls that `functions` must allow. Parts of an operation belong to the call that starts it, which was judged with key and mechanism."""


def functions_named(text: str) -> frozenset[int]:
    """Return the calls that a word in the configuration stands for.

    Args:
        text: A group, or the name of a function.

    Raises:
        ValueError: It is neither, or it can't be allowed by itself. The message says what to write instead.
    """
    if text in GROUPS:
        return GROUPS[text]
    try:
        number = number_of(text)
    except KeyError:
        raise ValueError(f"{text} is no function and no group of functions: {', '.join(GROUPS)}") from None
    if number in _GRANTED:
        return frozenset((number,))
    if number in STARTS:
        raise ValueError(f"{text} belongs to {_names(STARTS[number])}: name that, and all of the operation is allowed")
    if number in ADMINISTRATION:
        raise ValueError(f"{text} is allowed by administration = true")
    if number in UNJUDGED:
        raise ValueError(f"{text} is for roles only that are limited in nothing")
    raise ValueError(f"{text} needs no leave")


def _names(numbers: Iterable[int]) -> str:
    return " and ".join(CALLS[number - 1].name for number in sorted(numbers))
