"""What is copied of an object to the other members of a pool, how, and when that can't be done (`writes = "all"`).

What the client has given all values of is made by the same call everywhere. All else is made at one member. Public objects are read there and created
at the others; keys are wrapped there under a key that all members have, and unwrapped at the others.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from keyway.cryptoki import (
    ATTRIBUTE_KINDS,
    CALLS,
    RV,
    SHAPES,
    Attribute,
    AttributeKind,
    Call,
    Kind,
    Mechanism,
    MechanismInfo,
    Null,
    RoomBytes,
    RoomNumbers,
    Structured,
    Value,
)
from keyway.cryptoki.constants import (
    CKA_ALWAYS_AUTHENTICATE,
    CKA_ALWAYS_SENSITIVE,
    CKA_APPLICATION,
    CKA_BASE,
    CKA_CERTIFICATE_CATEGORY,
    CKA_CERTIFICATE_TYPE,
    CKA_CHECK_VALUE,
    CKA_CLASS,
    CKA_COPYABLE,
    CKA_DECAPSULATE,
    CKA_DECRYPT,
    CKA_DERIVE,
    CKA_DESTROYABLE,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_ENCAPSULATE,
    CKA_ENCRYPT,
    CKA_END_DATE,
    CKA_EXTRACTABLE,
    CKA_GOST28147_PARAMS,
    CKA_GOSTR3410_PARAMS,
    CKA_GOSTR3411_PARAMS,
    CKA_HASH_OF_ISSUER_PUBLIC_KEY,
    CKA_HASH_OF_SUBJECT_PUBLIC_KEY,
    CKA_ID,
    CKA_ISSUER,
    CKA_JAVA_MIDP_SECURITY_DOMAIN,
    CKA_KEY_GEN_MECHANISM,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_LOCAL,
    CKA_MODIFIABLE,
    CKA_MODULUS,
    CKA_MODULUS_BITS,
    CKA_NAME_HASH_ALGORITHM,
    CKA_NEVER_EXTRACTABLE,
    CKA_OBJECT_ID,
    CKA_PARAMETER_SET,
    CKA_PRIME,
    CKA_PRIME_BITS,
    CKA_PRIVATE,
    CKA_PUBLIC_EXPONENT,
    CKA_SEED,
    CKA_SENSITIVE,
    CKA_SERIAL_NUMBER,
    CKA_SIGN,
    CKA_SIGN_RECOVER,
    CKA_START_DATE,
    CKA_SUBJECT,
    CKA_SUBPRIME,
    CKA_SUBPRIME_BITS,
    CKA_TOKEN,
    CKA_UNIQUE_ID,
    CKA_UNWRAP,
    CKA_URL,
    CKA_VALUE,
    CKA_VALUE_BITS,
    CKA_VALUE_LEN,
    CKA_VERIFY,
    CKA_VERIFY_RECOVER,
    CKA_WRAP,
    CKA_WRAP_WITH_TRUSTED,
    CKF_UNWRAP,
    CKF_WRAP,
    CKM_ACTI_KEY_GEN,
    CKM_AES_GCM,
    CKM_AES_KEY_WRAP,
    CKM_AES_KEY_WRAP_KWP,
    CKM_AES_KEY_WRAP_PAD,
    CKM_DH_PKCS_PARAMETER_GEN,
    CKM_DSA_PARAMETER_GEN,
    CKM_DSA_PROBABILISTIC_PARAMETER_GEN,
    CKM_DSA_SHAWE_TAYLOR_PARAMETER_GEN,
    CKM_HOTP_KEY_GEN,
    CKM_HSS_KEY_PAIR_GEN,
    CKM_SECURID_KEY_GEN,
    CKM_X2RATCHET_INITIALIZE,
    CKM_X2RATCHET_RESPOND,
    CKM_X9_42_DH_PARAMETER_GEN,
    CKM_XMSS_KEY_PAIR_GEN,
    CKM_XMSSMT_KEY_PAIR_GEN,
    CKO_CERTIFICATE,
    CKO_DATA,
    CKO_DOMAIN_PARAMETERS,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKO_SECRET_KEY,
)
from keyway.gateway.pool.signals import Signal, classify

__all__ = [
    "COPIED",
    "GIVEN",
    "IV_SIZE",
    "ORIGIN_QUERY",
    "WRAPPING",
    "WRAPPING_KEY_QUERY",
    "Wish",
    "answer",
    "copied",
    "is_denied",
    "is_wrapped",
    "made_with",
    "mechanism_of",
    "obstacle",
    "query",
    "wishes",
    "wrapping",
    "wrapping_mechanism",
]

GIVEN: Final = frozenset({"C_CreateObject", "C_CopyObject", "C_UnwrapKey", "C_UnwrapKeyAuthenticated"})
"""Calls that make the same of the same everywhere, where all the objects that they name are."""

_STORED: Final = (CKA_TOKEN, CKA_PRIVATE, CKA_LABEL)
_OF_KEYS: Final = (CKA_KEY_TYPE, CKA_ID, CKA_START_DATE, CKA_END_DATE, CKA_DERIVE)
# The last one forbids all others, with some tokens also those behind it in the same template.
_RIGHTS: Final = (CKA_COPYABLE, CKA_DESTROYABLE, CKA_MODIFIABLE)

COPIED: Final[Mapping[int, tuple[int, ...]]] = {
    CKO_DATA: (CKA_CLASS, *_STORED, CKA_APPLICATION, CKA_OBJECT_ID, CKA_VALUE, *_RIGHTS),
    CKO_CERTIFICATE: (
        CKA_CLASS, *_STORED, CKA_CERTIFICATE_TYPE, CKA_CERTIFICATE_CATEGORY, CKA_ID, CKA_SUBJECT, CKA_ISSUER,
        CKA_SERIAL_NUMBER, CKA_START_DATE, CKA_END_DATE, CKA_URL, CKA_HASH_OF_SUBJECT_PUBLIC_KEY,
        CKA_HASH_OF_ISSUER_PUBLIC_KEY, CKA_NAME_HASH_ALGORITHM, CKA_JAVA_MIDP_SECURITY_DOMAIN, CKA_VALUE, *_RIGHTS,
    ),
    CKO_DOMAIN_PARAMETERS: (CKA_CLASS, *_STORED, CKA_KEY_TYPE, CKA_PRIME, CKA_SUBPRIME, CKA_BASE, *_RIGHTS),
    CKO_PUBLIC_KEY: (
        CKA_CLASS, *_STORED, *_OF_KEYS, CKA_SUBJECT, CKA_ENCRYPT, CKA_VERIFY, CKA_VERIFY_RECOVER, CKA_WRAP, CKA_ENCAPSULATE,
        CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_EC_PARAMS, CKA_EC_POINT, CKA_PRIME, CKA_SUBPRIME, CKA_BASE, CKA_GOSTR3410_PARAMS,
        CKA_GOSTR3411_PARAMS, CKA_GOST28147_PARAMS, CKA_PARAMETER_SET, CKA_VALUE, *_RIGHTS,
    ),
    CKO_PRIVATE_KEY: (
        CKA_CLASS, *_STORED, *_OF_KEYS, CKA_SUBJECT, CKA_SENSITIVE, CKA_DECRYPT, CKA_SIGN, CKA_SIGN_RECOVER, CKA_UNWRAP,
        CKA_DECAPSULATE, CKA_ALWAYS_AUTHENTICATE, *_RIGHTS,
    ),
    CKO_SECRET_KEY: (
        CKA_CLASS, *_STORED, *_OF_KEYS, CKA_SENSITIVE, CKA_ENCRYPT, CKA_DECRYPT, CKA_SIGN, CKA_VERIFY, CKA_WRAP, CKA_UNWRAP,
        *_RIGHTS,
    ),
}  # fmt: skip
"""By class: the attributes that a copy gets as the first object has them. Of keys that are wrapped none tells the key itself. CKA_EXTRACTABLE is
another matter, and what else was in the client's template goes along (`copied`)."""

_NOT_IN_REQUESTS: Final = frozenset({Kind.BYTES_OUT, Kind.IGNORED})
_TEMPLATES: Final = {
    call.number: [
        place
        for place, kind in enumerate(each.kind for each in call.args if each.kind not in _NOT_IN_REQUESTS)
        if kind is Kind.TEMPLATE
    ]
    for call in CALLS
}
"""By call number: places of the templates in a request's values."""

_DEFAULTS: Final = {
    CKA_COPYABLE: True,
    CKA_DESTROYABLE: True,
    CKA_MODIFIABLE: True,
    CKA_ALWAYS_AUTHENTICATE: False,
    CKA_ENCAPSULATE: False,
    CKA_DECAPSULATE: False,
}
"""Attributes that are told only where they are not what the standard says of an object for which nothing was said: a token of an older version refuses them."""

_OF_THE_MAKING: Final = frozenset(
    {
        CKA_CLASS, CKA_MODULUS_BITS, CKA_PUBLIC_EXPONENT, CKA_PRIME_BITS, CKA_SUBPRIME_BITS, CKA_VALUE_BITS, CKA_VALUE_LEN, CKA_EC_PARAMS,
        CKA_PRIME, CKA_SUBPRIME, CKA_BASE, CKA_PARAMETER_SET, CKA_SEED, CKA_EXTRACTABLE, CKA_CHECK_VALUE, CKA_UNIQUE_ID, CKA_LOCAL,
        CKA_NEVER_EXTRACTABLE, CKA_ALWAYS_SENSITIVE, CKA_KEY_GEN_MECHANISM,
    }
)  # fmt: skip
"""Attributes of a client's template that say how the first object is made, or that are the token's to say. They don't go along by themselves."""

_WRAPPED: Final = frozenset({CKO_PRIVATE_KEY, CKO_SECRET_KEY})
_PARAMETER_GENERATIONS: Final = frozenset(
    {
        CKM_DSA_PARAMETER_GEN,
        CKM_DSA_PROBABILISTIC_PARAMETER_GEN,
        CKM_DSA_SHAWE_TAYLOR_PARAMETER_GEN,
        CKM_DH_PKCS_PARAMETER_GEN,
        CKM_X9_42_DH_PARAMETER_GEN,
    }
)
"""Mechanisms with which C_GenerateKey makes domain parameters."""
_STATEFUL: Final = frozenset(
    {
        CKM_HSS_KEY_PAIR_GEN,
        CKM_XMSS_KEY_PAIR_GEN,
        CKM_XMSSMT_KEY_PAIR_GEN,
        CKM_SECURID_KEY_GEN,
        CKM_HOTP_KEY_GEN,
        CKM_ACTI_KEY_GEN,
        CKM_X2RATCHET_INITIALIZE,
        CKM_X2RATCHET_RESPOND,
    }
)
"""Mechanisms that make keys which change by being used (`replay.UNREPEATABLE`)."""

WRAPPING: Final = (CKM_AES_KEY_WRAP_KWP, CKM_AES_KEY_WRAP_PAD, CKM_AES_KEY_WRAP, CKM_AES_GCM)
"""The mechanisms under which keys travel from one member to another, the best first. All of them tell when the two keys are not the same."""
IV_SIZE: Final = 12
"""Bytes of the IV of CKM_AES_GCM."""
_TAG_BITS: Final = 128
_GCM: Final = next(number for number, shape in SHAPES.items() if shape.name == "CK_GCM_PARAMS")

_ROOM: Final = 65_536
"""Bytes of an attribute that there is room for."""

_CLEAR: Final = frozenset(
    {
        RV.CKR_ATTRIBUTE_TYPE_INVALID,
        RV.CKR_ATTRIBUTE_VALUE_INVALID,
        RV.CKR_TEMPLATE_INCOMPLETE,
        RV.CKR_TEMPLATE_INCONSISTENT,
        RV.CKR_KEY_SIZE_RANGE,
        RV.CKR_KEY_NOT_WRAPPABLE,
        RV.CKR_KEY_UNEXTRACTABLE,
        RV.CKR_TOKEN_WRITE_PROTECTED,
        RV.CKR_SESSION_READ_ONLY,
        RV.CKR_USER_NOT_LOGGED_IN,
    }
)
"""RVs that mean the same to the client although the call that got them was the pool's own."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants of one object that a call makes.

    Attributes:
        object_class: CKA_CLASS; None if it is not told.
        is_token: CKA_TOKEN.
        is_extractable: CKA_EXTRACTABLE, or what becomes of a key for which it is not said.
        template: The client's template.
        made_with: The template that the first object is made with.
    """

    object_class: int | None
    is_token: bool
    is_extractable: bool
    template: tuple[Attribute, ...] = field(repr=False)
    made_with: tuple[Attribute, ...] = field(repr=False)

    @property
    def is_to_wrap(self) -> bool:
        """Whether it is copied wrapped."""
        return self.is_token and (self.object_class is None or self.object_class in _WRAPPED)

    def bytes_of(self, type_: int) -> bytes:
        """Return an attribute of the client's template; nothing if it is not there."""
        found = [each.value for each in self.template if each.type == type_ and isinstance(each.value, bytes)]
        return found[-1] if found else b""


def mechanism_of(values: Iterable[Value]) -> int | None:
    """Return the type of the mechanism among a request's values; None if there is none."""
    return next((value.type for value in values if isinstance(value, Mechanism)), None)


def wishes(call: Call, values: Sequence[Value], origin: Sequence[Attribute] = ()) -> tuple[Wish, ...]:
    """Return what a client wants, for each template of a call.

    Args:
        call: The call's row.
        values: The request's values.
        origin: Of C_CopyObject: what the object that is copied answers to `ORIGIN_QUERY`.
    """
    mechanism = mechanism_of(values)
    return tuple(
        _wish(call.name, mechanism, _attributes(values[place]), origin, count)
        for count, place in enumerate(_TEMPLATES[call.number])
    )


def made_with(call: Call, values: Sequence[Value], wanted: Sequence[Wish]) -> tuple[Value, ...]:
    """Return the values of the request that makes the first objects.

    Args:
        call: The call's row.
        values: The values of the client's request.
        wanted: Its wishes.
    """
    changed = list(values)
    for place, wish in zip(_TEMPLATES[call.number], wanted, strict=True):
        if not isinstance(values[place], Null) or wish.made_with:
            changed[place] = wish.made_with
    return tuple(changed)


def _attributes(template: Value) -> tuple[Attribute, ...]:
    return template if isinstance(template, tuple) else ()


def _wish(
    call: str, mechanism: int | None, template: tuple[Attribute, ...], origin: Sequence[Attribute], place: int
) -> Wish:
    object_class = _number(template, CKA_CLASS)
    if object_class is None:
        object_class = _number(origin, CKA_CLASS)
    if call == "C_GenerateKeyPair":
        object_class = (CKO_PUBLIC_KEY, CKO_PRIVATE_KEY)[place]
    elif call == "C_GenerateKey" and mechanism in _PARAMETER_GENERATIONS:
        object_class = CKO_DOMAIN_PARAMETERS
    elif object_class is None and call != "C_CopyObject":
        object_class = CKO_SECRET_KEY
    is_token = _flag(template, CKA_TOKEN, _flag(origin, CKA_TOKEN))
    is_extractable = _flag(template, CKA_EXTRACTABLE, _flag(origin, CKA_EXTRACTABLE))
    made_with = template
    if is_token and (object_class is None or object_class in _WRAPPED):
        made_with = tuple(attribute for attribute in template if attribute.type != CKA_EXTRACTABLE)
        if call != "C_CopyObject":  # There it stays as it is, which is true, or nothing is copied.
            made_with += (Attribute(CKA_EXTRACTABLE, _bool(True)),)
    return Wish(object_class, is_token, is_extractable, template, made_with)


def obstacle(call: Call, mechanism: int | None, wish: Wish, origin: Sequence[Attribute] = ()) -> str:
    """Return why an object can't be copied once it is made; an empty string if nothing is known against it.

    Args:
        call: The call's row.
        mechanism: The type of the mechanism, if the call has one.
        wish: What the client wants.
        origin: As in `wishes`.
    """
    if not wish.is_token:
        return ""
    if wish.object_class is not None and wish.object_class not in COPIED:
        return f"objects of class 0x{wish.object_class:x} can't be copied"
    if not wish.is_to_wrap:
        return ""
    if mechanism in _STATEFUL:
        return "its state would be used at several members"
    if _flag(wish.template, CKA_WRAP_WITH_TRUSTED, _flag(origin, CKA_WRAP_WITH_TRUSTED)):
        return "CKA_WRAP_WITH_TRUSTED forbids to wrap it for the other members"
    if call.name == "C_CopyObject" and not _flag(origin, CKA_EXTRACTABLE):
        return "CKA_EXTRACTABLE of what is copied is false"
    if not wish.is_extractable and not _flag(wish.template, CKA_MODIFIABLE, True):
        return "with CKA_MODIFIABLE false CKA_EXTRACTABLE can't be made false after it has been copied"
    return ""


def is_wrapped(object_class: int | None) -> bool:
    """Tell whether objects of a class are copied wrapped. Others are read and created anew."""
    return object_class in _WRAPPED


def _room(attribute: int) -> Attribute:
    is_number = ATTRIBUTE_KINDS.get(attribute) is AttributeKind.ULONG
    return Attribute(attribute, RoomNumbers(1) if is_number else RoomBytes(_ROOM))


ORIGIN_QUERY: Final = tuple(map(_room, (CKA_CLASS, CKA_TOKEN, CKA_EXTRACTABLE, CKA_WRAP_WITH_TRUSTED)))
"""What is asked of an object that C_CopyObject copies."""
WRAPPING_KEY_QUERY: Final = tuple(map(_room, (CKA_WRAP, CKA_UNWRAP)))
"""What is asked of a key under which others are to be wrapped."""


def is_denied(answer: Sequence[Attribute], right: int) -> bool:
    """Tell whether a key says of itself that it may not be used for something.

    Args:
        answer: What it answers to `WRAPPING_KEY_QUERY`.
        right: CKA_WRAP or CKA_UNWRAP.
    """
    return not _flag(answer, right, True)


def query(object_class: int) -> tuple[Attribute, ...]:
    """Return what to ask of an object so that it can be copied."""
    return tuple(map(_room, COPIED[object_class]))


def copied(object_class: int, answer: Sequence[Attribute], wish: Wish) -> tuple[Attribute, ...]:
    """Return the template that a copy is made with.

    Args:
        object_class: CKA_CLASS.
        answer: What the first object answers to `query`.
        wish: What the client wants of it.
    """
    found = {attribute.type: attribute for attribute in answer if _is_there(attribute)}
    given = {attribute.type: attribute for attribute in wish.template}
    table = COPIED[object_class]
    # What the token does not tell it has all the same if the client has said it.
    known = [each for type_ in table if (each := found.get(type_) or given.get(type_)) is not None and _is_said(each)]
    others = [each for each in wish.template if each.type not in table and each.type not in _OF_THE_MAKING]
    if object_class in _WRAPPED:
        others.append(Attribute(CKA_EXTRACTABLE, _bool(wish.is_extractable)))
    rights = [each for each in known if each.type in _RIGHTS]
    return (*(each for each in known if each.type not in _RIGHTS), *others, *rights)


def _is_there(attribute: Attribute) -> bool:
    """Tell whether an attribute in an answer has a value. One that is empty is as good as not there."""
    return isinstance(attribute.value, int) or (isinstance(attribute.value, bytes) and bool(attribute.value))


def _is_said(attribute: Attribute) -> bool:
    default = _DEFAULTS.get(attribute.type)
    return default is None or not isinstance(attribute.value, bytes) or any(attribute.value) is not default


def wrapping_mechanism(members: Sequence[Mapping[int, MechanismInfo | None]]) -> int | None:
    """Return the mechanism under which keys can go from each of some members to each other; None if there is none.

    Args:
        members: The mechanisms of each with what is told of them; None for one of which nothing is.
    """
    needed = CKF_WRAP | CKF_UNWRAP
    for type_ in WRAPPING:
        if all(type_ in each and ((info := each[type_]) is None or info.flags & needed == needed) for each in members):
            return type_
    return None


def wrapping(mechanism: int, iv: bytes) -> Mechanism:
    """Return a mechanism of `WRAPPING` with its parameter.

    Args:
        mechanism: Its type.
        iv: `IV_SIZE` bytes that are not used again with this key; only CKM_AES_GCM has it.
    """
    if mechanism != CKM_AES_GCM:
        return Mechanism(mechanism)
    return Mechanism(mechanism, Structured(_GCM, (iv, 8 * len(iv), b"", _TAG_BITS)))


def answer(refusals: Iterable[int | None], *, is_given: bool) -> int:
    """Return what the client is told of an object that could not be made at enough members.

    Args:
        refusals: What each member that has it not has answered; None for one that was lost.
        is_given: Whether it was the client's own call that these were asked to make.
    """
    rvs = set(refusals)
    rv = rvs.pop() if len(rvs) == 1 else None
    if rv is None:
        return RV.CKR_DEVICE_ERROR
    signal = classify(rv)
    is_clear = signal is Signal.BUSY or (signal is Signal.CALLER and is_given) or rv in _CLEAR
    return rv if is_clear else RV.CKR_DEVICE_ERROR


def _bool(value: bool) -> bytes:
    return b"\1" if value else b"\0"


def _number(attributes: Iterable[Attribute], type_: int) -> int | None:
    found = [each.value for each in attributes if each.type == type_ and isinstance(each.value, int)]
    return found[-1] if found else None


def _flag(attributes: Iterable[Attribute], type_: int, default: bool = False) -> bool:
    found = [any(each.value) for each in attributes if each.type == type_ and isinstance(each.value, bytes)]
    return found[-1] if found else default
