"""Which slots a listener shows, under which numbers, and which tokens can't be changed from there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Self

from keyway.cryptoki import Uri
from keyway.gateway.slots import SeenSlot, Slot, VirtualSlots

__all__ = ["KEPT_NUMBERS", "Selection", "TokenFilter"]

KEPT_NUMBERS: Final = -1
"""In place of the first number: the slots keep theirs."""
_PROTECTED: Final = ("write-protected", "yes")
"""What p11-kit has in the query of a URI for it."""


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """One of the URIs that say what is shown.

    Attributes:
        uri: The URI.
        is_protected: Whether what it matches can't be changed.
    """

    uri: Uri
    is_protected: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a URI that may have write-protected=yes in its query.

        Raises:
            UriError: It is none.
        """
        uri = Uri.parse(text)
        return cls(replace(uri, vendor_query=()), _PROTECTED in uri.vendor_query)

    def matches(self, slot: Slot) -> bool:
        """Tell whether the URI speaks of a slot. What it asks for of the token must be known to be true."""
        content, uri = slot.content, self.uri
        if not isinstance(content, SeenSlot):
            return content.promises(uri)
        if not uri.matches_slot(content.place.slot, content.info):
            return False
        if content.token is not None:
            return uri.matches_token(content.token)
        return uri.token is None and uri.manufacturer is None and uri.serial is None and uri.model is None


@dataclass(frozen=True, slots=True)
class Selection:
    """What a listener makes of the slots that there are.

    Attributes:
        filters: A slot is shown if one of them matches; the first that does decides about protection. Without any, all are shown.
        first: The number of the first slot, or KEPT_NUMBERS.
    """

    filters: tuple[TokenFilter, ...] = ()
    first: int = KEPT_NUMBERS

    @property
    def is_everything(self) -> bool:
        """Whether all slots are shown as they are."""
        return self.first == KEPT_NUMBERS and self.filters[:1] in ((), (TokenFilter(Uri()),))

    def of(self, slots: VirtualSlots, before: Mapping[int, int]) -> VirtualSlots:
        """Return what is shown.

        Args:
            slots: What there is.
            before: The numbers that the same client was given earlier (`VirtualSlots.given`). Slots that it knows keep them.
        """
        shown = {number: found for number, slot in slots.slots.items() if (found := self._shown(slot)) is not None}
        given = self._given(shown, before)
        return VirtualSlots({given[number]: slot for number, slot in shown.items()}, given)

    def _shown(self, slot: Slot) -> Slot | None:
        if not self.filters:
            return slot
        deciding = next((each for each in self.filters if each.matches(slot)), None)
        return None if deciding is None else replace(slot, is_protected=slot.is_protected or deciding.is_protected)

    def _given(self, numbers: Iterable[int], before: Mapping[int, int]) -> Mapping[int, int]:
        given = dict(before)
        for number in numbers:
            given.setdefault(number, number if self.first == KEPT_NUMBERS else self.first + len(given))
        return given
