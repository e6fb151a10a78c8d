"""The form in which the value of an attribute travels, by type (docs/p11-kit-wire.md, section 5)."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = ["FORMS_0", "FORMS_1", "FORMS_2", "Form"]


class Form(StrEnum):
    """The forms. Every type that has none of the others has BYTES, also where the standard has a number: peers depend on it."""

    BYTE = "byte"
    ULONG = "ulong"
    MECHANISMS = "mechanisms"
    DATE = "date"
    TEMPLATE = "template"
    BYTES = "bytes"


def _table(*groups: tuple[Form, Iterable[int]]) -> Mapping[int, Form]:
    return MappingProxyType({type_: form for form, types in groups for type_ in types})


_BYTE: Final = (
    *(0x1, 0x2, 0x86, 0x103, *range(0x104, 0x10D), 0x162, 0x163, 0x164, 0x165),
    *(0x170, 0x171, 0x200, 0x202, 0x210, 0x301, 0x302, 0x405),
)
_ULONG: Final = (
    *(0x0, 0x80, 0x87, 0x88, 0x100, 0x121, 0x133, 0x134, 0x160, 0x161, 0x166),
    *(0x201, 0x300, *range(0x400, 0x405), 0x406, 0x500),
)
_BASE: Final = (
    (Form.BYTE, _BYTE),
    (Form.ULONG, _ULONG),
    (Form.MECHANISMS, (0x4000_0600,)),
    (Form.DATE, (0x110, 0x111)),
    (Form.TEMPLATE, (0x4000_0211, 0x4000_0212)),
)
# Attributes of IBM's modules, and CKA_DERIVE_TEMPLATE.
_ADDED_1: Final = (
    (Form.BYTE, (0x8001_0001, 0x8001_0002, 0x8001_0003, 0x8001_0004, 0x8001_0008, 0x8001_000C, 0x8001_000D)),
    (Form.ULONG, (0x8001_0005, 0x8001_000A, 0x800D_0001)),
    (Form.TEMPLATE, (0x4000_0213,)),
)
_ADDED_2: Final = ((Form.ULONG, (0x800D_0009, 0x800D_0101)),)

FORMS_0: Final = _table(*_BASE)
"""Up to 0.24.1."""
FORMS_1: Final = _table(*_BASE, *_ADDED_1)
"""0.25.0 to 0.25.5."""
FORMS_2: Final = _table(*_BASE, *_ADDED_1, *_ADDED_2)
"""From 0.25.6 on. 0.25.6 and 0.25.7 alone have BYTE for two certificate attributes; nothing tells them from later ones."""
