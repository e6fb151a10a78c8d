"""Virtual slots: which slot of which backend a client's slot number means.

Numbers are stable: those of configured tokens come from the configuration, others from what identifies the token. So they are the same in
all contexts, and after a restart.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, Protocol
from zlib import crc32

from keyway.cryptoki import RV, SlotInfo, TokenInfo, Uri, stripped

__all__ = [
    "BackendSlot",
    "OwnSlots",
    "SeenSlot",
    "Slot",
    "SlotMap",
    "TokenRule",
    "VirtualSlots",
    "all_slots",
    "chosen_slots",
    "own_slots",
]


@dataclass(frozen=True, slots=True)
class BackendSlot:
    """A slot as a backend's module numbers it."""

    backend: str
    slot: int


@dataclass(frozen=True, slots=True)
class SeenSlot:
    """What a backend told about one of its slots.

    Attributes:
        place: The slot.
        info: Its CK_SLOT_INFO.
        token: The CK_TOKEN_INFO of the token in it; None if there is none.
    """

    place: BackendSlot
    info: SlotInfo
    token: TokenInfo | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRule:
    """Which token shall be in a virtual slot. All that is given must be true of it.

    Attributes:
        name: The token's name in the configuration.
        number: The virtual slot's number.
        backend: The backend's name.
        backend_slot: The slot's number in the module.
        label: The token's label.
        serial: The token's serial number.
        uri: A PKCS #11 URI that matches slot and token.
        is_protected: Whether clients may not change what is on it.
        place: Where to ask while no such token is seen; None if nobody is asked then. A pool may find one at any time.
    """

    name: str
    number: int
    backend: str
    backend_slot: int | None = None
    label: str | None = None
    serial: str | None = None
    uri: Uri | None = None
    is_protected: bool = False
    place: BackendSlot | None = None

    def fits(self, seen: SeenSlot) -> bool:
        """Tell whether a slot of a backend is the one meant."""
        token = seen.token
        return (
            seen.place.backend == self.backend
            and self.backend_slot in (None, seen.place.slot)
            and (self.label is None or (token is not None and stripped(token.label) == self.label.encode()))
            and (self.serial is None or (token is not None and stripped(token.serial_number) == self.serial.encode()))
            and (self.uri is None or self._fits_uri(self.uri, seen))
        )

    def promises(self, uri: Uri) -> bool:
        """Tell whether all that a URI asks for is given here, so that the token will match it whenever it is there."""
        of = self.uri or Uri()
        given = replace(
            of,
            token=of.token if self.label is None else self.label,
            serial=of.serial if self.serial is None else self.serial,
            slot_id=of.slot_id if self.backend_slot is None else self.backend_slot,
        )
        return not uri.vendor and all(getattr(uri, name) in (None, getattr(given, name)) for name in _OF_SLOTS)

    def _fits_uri(self, uri: Uri, seen: SeenSlot) -> bool:
        return seen.token is not None and uri.matches_slot(seen.place.slot, seen.info) and uri.matches_token(seen.token)


_OF_SLOTS: Final = ("token", "manufacturer", "serial", "model", "slot_id", "slot_description", "slot_manufacturer")
"""What a URI says of slots and tokens."""


class SlotMap(Protocol):
    """What a client's slot numbers mean."""

    def resolve(self, slot: int) -> BackendSlot | RV:
        """Return what a client's slot number means, or the RV that says why it means nothing."""

    def is_protected(self, slot: int) -> bool:
        """Tell whether the client may not change what is in a slot."""


@dataclass(frozen=True, slots=True)
class OwnSlots:
    """The only backend's slots under the module's own numbers."""

    backend: str

    def resolve(self, slot: int) -> BackendSlot | RV:
        """Return the same number: the module itself says whether it is a slot."""
        return BackendSlot(self.backend, slot)

    def is_protected(self, slot: int) -> bool:
        """Tell that the module alone says what may be changed."""
        return False


@dataclass(frozen=True, slots=True)
class Slot:
    """A virtual slot.

    Attributes:
        content: The backend's slot that it is; the rule of a configured token that is not there at present.
        is_protected: Whether the client may not change what is in it.
    """

    content: SeenSlot | TokenRule
    is_protected: bool = False


class VirtualSlots:
    """Numbers of the gateway's own, each for one slot of one backend, or for a token that is not there at present.

    Attributes:
        slots: The slots by number, in the order in which they are configured, or told by the modules.
        given: The numbers that a selection has given so far, by those that the slots had before.
    """

    def __init__(self, slots: Mapping[int, Slot], given: Mapping[int, int] = MappingProxyType({})) -> None:
        self.slots: Final = dict(slots)
        self.given: Final = given

    def resolve(self, slot: int) -> BackendSlot | RV:
        """Return what a client's slot number means, or the RV that says why it means nothing."""
        if slot not in self.slots:
            return RV.CKR_SLOT_ID_INVALID
        content = self.slots[slot].content
        return content.place or RV.CKR_TOKEN_NOT_PRESENT

    def is_protected(self, slot: int) -> bool:
        """Tell whether the client may not change what is in a slot."""
        return slot in self.slots and self.slots[slot].is_protected

    def absent(self, slot: int) -> TokenRule | None:
        """Return the rule of a token that is not there at present; None for any other number."""
        content = self.slots[slot].content if slot in self.slots else None
        return content if isinstance(content, TokenRule) else None

    def numbers(self, *, token_present: bool) -> tuple[int, ...]:
        """Return the numbers in ascending order.

        Args:
            token_present: Only those of slots with a token in them.
        """
        return tuple(
            number
            for number, slot in sorted(self.slots.items())
            if not token_present or (isinstance(slot.content, SeenSlot) and slot.content.token is not None)
        )


def chosen_slots(rules: Iterable[TokenRule], seen: Sequence[SeenSlot]) -> VirtualSlots:
    """Return a slot for each configured token. The first slot that fits is taken."""
    return VirtualSlots({rule.number: Slot(next(filter(rule.fits, seen), rule), rule.is_protected) for rule in rules})


def own_slots(seen: Iterable[SeenSlot]) -> VirtualSlots:
    """Return a slot for each slot of the only backend, under the module's own number."""
    return VirtualSlots({each.place.slot: Slot(each) for each in seen})


def all_slots(seen: Sequence[SeenSlot]) -> VirtualSlots:
    """Return a slot for each slot of several backends, with a number made from the token's serial number."""
    numbers: dict[int, BackendSlot] = {}
    for each in sorted(seen, key=lambda each: (each.place.backend, each.place.slot)):
        serial = stripped(each.token.serial_number) if each.token is not None else b""
        name = each.place.backend.encode() + b"/" + (serial or str(each.place.slot).encode())
        number = crc32(name) & 0x7FFFFFFF
        while number in numbers:
            number = (number + 1) & 0x7FFFFFFF
        numbers[number] = each.place
    number_of = {place: number for number, place in numbers.items()}
    return VirtualSlots({number_of[each.place]: Slot(each) for each in seen})
