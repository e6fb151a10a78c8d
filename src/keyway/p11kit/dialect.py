"""The dialects of the protocol, and how the two ends find theirs (docs/p11-kit-wire.md, section 1).

A dialect is told by one byte: of a client by the one it sends, of a server by the one it answers. It is all that ever decides about a form.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from keyway.p11kit.attributes import FORMS_0, FORMS_1, FORMS_2, Form
from keyway.p11kit.errors import DecodeError
from keyway.p11kit.mechanisms import BARE_0, BARE_1, LAYOUTS_0, LAYOUTS_1, LAYOUTS_2, Layout

__all__ = ["DIALECTS", "MAX_VERSION", "OFFERS", "Dialect", "Nesting", "Reading", "accept", "offer_accepted"]

MAX_VERSION: Final = 2
"""The highest version of the protocol that this package speaks."""
OFFERS: Final = (2, 0)
"""What a client sends: servers up to 0.24.0 close on the first, and get the second on a connection of its own."""


class Reading(StrEnum):
    """The ways to lay out a mechanism.

    Format A is that of releases up to 0.25.5, format B that of later ones.
    """

    A = "A"
    A_NULL_AS_0 = "A, and type 0 alone is a NULL pointer"
    B = "B"
    B_BARE = "B, and a type that is not in our list has no parameter"
    B_TAGGED = "B, and a type that is in our list has a parameter"


class Nesting(StrEnum):
    """Where the rooms of a nested template are told in a query."""

    NEVER = "never"
    ROOM = "if there is room"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Dialect:
    """How to speak with a peer.

    Attributes:
        version: The version of the protocol.
        readings: How a mechanism may be laid out: the first one is written, all are tried in order to read.
        nestings: How a query may be laid out, all of them tried in order to read.
        nesting: How a query is written.
        has_empty_mark: Whether the peer tells an empty buffer from none, and writes NULL arrays in the newer way.
        has_null_mechanism: Whether a NULL mechanism can be sent.
        has_templates: Whether the peer takes templates as values of attributes.
        forms: The form of each type of attribute.
        bare: The mechanisms without a parameter.
        layouts: The layout of the parameters of others.
        order: The byte order of the peer's memory, in which what the protocol takes for plain bytes travels.
    """

    version: int
    readings: tuple[Reading, ...]
    nestings: tuple[Nesting, ...]
    nesting: Nesting
    has_empty_mark: bool
    has_null_mechanism: bool
    has_templates: bool
    forms: Mapping[int, Form]
    bare: frozenset[int]
    layouts: Mapping[int, Layout]
    order: Literal["little", "big"] = sys.byteorder

    def form(self, type_: int) -> Form:
        """Return the form of a type of attribute."""
        return self.forms.get(type_, Form.BYTES)

    def serialises(self, mechanism: int) -> bool:
        """Whether the stock client of this dialect can send a mechanism; it hides others from its application."""
        return mechanism in self.bare or mechanism in self.layouts


_FORMAT_A: Final = (Reading.A,)
_FORMAT_B: Final = (Reading.B, Reading.B_BARE, Reading.B_TAGGED)

DIALECTS: Final[tuple[Dialect, ...]] = (
    # Up to 0.24.1. A later client falls back to the byte 0 when its first try fails, and speaks format B all the same.
    Dialect(
        version=0,
        readings=(*_FORMAT_A, *_FORMAT_B),
        nestings=(Nesting.NEVER, Nesting.ROOM, Nesting.ALWAYS),
        nesting=Nesting.NEVER,
        has_empty_mark=False,
        has_null_mechanism=False,
        has_templates=False,
        forms=FORMS_0,
        bare=BARE_0,
        layouts=LAYOUTS_0,
    ),
    # 0.25.0 to 0.25.5.
    Dialect(
        version=1,
        readings=(*_FORMAT_A, Reading.A_NULL_AS_0, *_FORMAT_B),
        nestings=(Nesting.ALWAYS, Nesting.NEVER, Nesting.ROOM),
        nesting=Nesting.ROOM,
        has_empty_mark=True,
        has_null_mechanism=True,
        has_templates=True,
        forms=FORMS_1,
        bare=BARE_1,
        layouts=LAYOUTS_1,
    ),
    # 0.25.6 and later.
    Dialect(
        version=2,
        readings=(*_FORMAT_B, *_FORMAT_A),
        nestings=(Nesting.ROOM, Nesting.ALWAYS, Nesting.NEVER),
        nesting=Nesting.ROOM,
        has_empty_mark=True,
        has_null_mechanism=True,
        has_templates=True,
        forms=FORMS_2,
        bare=BARE_1,
        layouts=LAYOUTS_2,
    ),
)
"""The dialects by version."""


def accept(offered: int) -> Dialect:
    """Return the dialect of a client that sent a byte; a server answers its version.

    Raises:
        DecodeError: The byte opens another protocol (Keyway's own has 0x81 to 0xff, TLS 0x16).
    """
    if not 0 <= offered < 0x16:
        raise DecodeError("the peer does not speak this protocol")
    return DIALECTS[min(offered, MAX_VERSION)]


def offer_accepted(offered: int, answered: int) -> Dialect:
    """Return the dialect of a server.

    Args:
        offered: The byte that was sent.
        answered: The byte that came back.

    Raises:
        DecodeError: The server answers with a version that it was not offered.
    """
    if not 0 <= answered <= min(offered, MAX_VERSION):
        raise DecodeError(f"the server answers {answered} to {offered}")
    return DIALECTS[answered]
