"""The mechanisms that p11-kit knows, and how their parameters travel (docs/p11-kit-wire.md, section 6)."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

__all__ = ["BARE_0", "BARE_1", "FOREIGN", "LAYOUTS_0", "LAYOUTS_1", "LAYOUTS_2", "Layout"]


class Layout(NamedTuple):
    """How a parameter travels.

    Attributes:
        fields: `u` a u64, `b` bytes behind a length; one for each travelling member of the shape.
        shape: The shape that the fields make up (spec/mechanisms.toml); 0 for the plain bytes of one `b`, or the memory of one `u`.
        size: The length that every `b` must have; 0 for any.
        is_empty: Whether a `b` may be empty.
    """

    fields: str
    shape: int = 0
    size: int = 0
    is_empty: bool = True


_PSS: Final = Layout("uuu", 11)
_OAEP: Final = Layout("uuub", 10)
_ECDH: Final = Layout("ubb", 20)
_IV_16: Final = Layout("b", size=16)
_IV_8: Final = Layout("b", size=8)
_CTR: Final = Layout("ub", 40, size=16)
_GCM: Final = Layout("bubu", 42)
_LENGTH: Final = Layout("u", 2)
_DH: Final = Layout("b", is_empty=False)
_HANDLE: Final = Layout("u")

# Without a parameter in all releases.
_BARE: Final = (
    *range(0x9),
    *(0xA, 0xB, 0xC, 0x10, 0x11, 0x12, 0x20, 0x30, 0x40, 0x41, 0x42),
    *(0x100, 0x101, 0x103, 0x110, 0x111, 0x120, 0x121, 0x123, 0x130, 0x131, 0x132, 0x134, 0x140, 0x141, 0x143),
    *(0x200, 0x201, 0x210, 0x211, 0x220, 0x221, 0x230, 0x231, 0x240, 0x241, 0x250, 0x251, 0x260, 0x261, 0x270, 0x271),
    *(0x300, 0x301, 0x303, 0x310, 0x311, 0x313, 0x320, 0x321, 0x330, 0x331, 0x333, 0x340, 0x341, 0x343),
    *(0x350, 0x370, 0x374, 0x380, 0x381, 0x400),
    *(0x1000, 0x1008, 0x1010, 0x1020, 0x1030, 0x1036, 0x1040, 0x1041, 0x1042, 0x1060, 0x1065, 0x1070),
    *(0x1080, 0x1081, 0x1083, 0x2000, 0x2001, 0x2002),
)
# From 0.25.0 on; the last ones are IBM's.
_BARE_ADDED: Final = (
    *(
        0x46,
        0x48,
        0x49,
        0x4B,
        0x4C,
        0x4D,
        0x4F,
        0x50,
        0x51,
        0x53,
        0x138,
        0x255,
        0x256,
        0x392,
        0x393,
        0x394,
        0x395,
        0x396,
    ),
    *(0x1043, 0x1044, 0x1045, 0x1046, 0x108A),
    *(0x8001_0001, 0x8001_0002, 0x8001_0003, 0x8001_0004, 0x8001_0007, 0x8001_001C, 0x8001_001F, 0x8001_0023),
    *(0x8001_0025, 0x8001_0026, 0x8001_0027, 0x8001_0028),
)


def _table(*groups: tuple[Layout, Iterable[int]]) -> Mapping[int, Layout]:
    return MappingProxyType({type_: layout for layout, types in groups for type_ in types})


_SHAPED_0: Final = ((_PSS, (0xD,)), (_OAEP, (0x9,)))
_SHAPED_1: Final = (
    (_PSS, (0xE, 0x43, 0x44, 0x45, 0x47)),
    # The last two are IBM's X25519 and X448.
    (_ECDH, (0x1050, 0x8001_001B, 0x8001_001E)),
    (_IV_16, (0x1082, 0x1085, 0x1089, 0x2104, 0x2105, 0x2106, 0x2107, 0x2108)),
    (_IV_8, (0x122, 0x125, 0x133, 0x136, 0x150, 0x152, 0x153)),
    (_CTR, (0x1086,)),
    (_GCM, (0x1087,)),
    (_LENGTH, (0x4A, 0x4E, 0x135, 0x137, 0x222, 0x252, 0x257, 0x262, 0x272, 0x1084, 0x108B)),
    (_DH, (0x21,)),
    # IBM's attribute-bound wrapping: the handle of the key that signs.
    (_HANDLE, (0x8002_0004,)),
)
# IBM's ECDSA variants: the number of the one that is meant.
_SHAPED_2: Final = ((_HANDLE, (0x8001_0031,)),)

BARE_0: Final = frozenset(_BARE)
"""Mechanisms without a parameter, up to 0.24.1."""
BARE_1: Final = frozenset((*_BARE, *_BARE_ADDED))
"""From 0.25.0 on. In format B the meaning of a message depends on this list."""

LAYOUTS_0: Final = _table(*_SHAPED_0)
"""Mechanisms with a parameter of their own, up to 0.24.1."""
LAYOUTS_1: Final = _table(*_SHAPED_0, *_SHAPED_1)
"""0.25.0 to 0.25.5."""
LAYOUTS_2: Final = _table(*_SHAPED_0, *_SHAPED_1, *_SHAPED_2)
"""From 0.25.6 on."""

FOREIGN: Final = frozenset({0x8001_0024, 0x8007_0001})
"""IBM's Kyber and BTC derivation: clients from 0.25.6 on send their parameters, but no shape of ours can hold them."""
