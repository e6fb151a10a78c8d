"""Virtual slots: which slot of which backend a client's slot number means."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

__all__ = ["BackendSlot", "OwnSlots", "SlotMap", "VirtualSlots"]


@dataclass(frozen=True, slots=True)
class BackendSlot:
    """A slot as a backend's module numbers it."""

    backend: str
    slot: int


class SlotMap(Protocol):
    """What a client's slot numbers mean."""

    def resolve(self, slot: int) -> BackendSlot | None:
        """Return what a client's slot number means; None if it means nothing."""

    def virtual(self, backend: str, slot: int) -> int | None:
        """Return the client's number of a backend's slot; None if clients do not see it."""


@dataclass(frozen=True, slots=True)
class OwnSlots:
    """The only backend's slots under the module's own numbers."""

    backend: str

    def resolve(self, slot: int) -> BackendSlot | None:
        """Return the same number: the module itself says whether it is a slot."""
        return BackendSlot(self.backend, slot)

    def virtual(self, backend: str, slot: int) -> int | None:
        """Return the same number."""
        return slot


class VirtualSlots:
    """Numbers of the gateway's own, each for one slot of one backend."""

    def __init__(self, slots: Mapping[int, BackendSlot]) -> None:
        self._slots: Final = dict(slots)
        self._numbers: Final = {(each.backend, each.slot): number for number, each in slots.items()}

    def resolve(self, slot: int) -> BackendSlot | None:
        """Return what a client's slot number means; None if it means nothing."""
        return self._slots.get(slot)

    def virtual(self, backend: str, slot: int) -> int | None:
        """Return the client's number of a backend's slot; None if clients do not see it."""
        return self._numbers.get((backend, slot))

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._slots))
