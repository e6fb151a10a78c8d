"""The names and handles of one member in one context."""

from collections.abc import Iterable, Iterator, Mapping

from keyway.gateway.pool.identity import Facts, alias, is_alone, names

__all__ = ["Directory"]


class Directory:
    """Which name stands for which handle of a member.

    Token objects come with a listing and have names made from it; session objects are added one by one under names that the caller
    has chosen.
    """

    def __init__(self) -> None:
        self._handles: dict[int, int] = {}
        self._names: dict[int, int] = {}
        self._facts: dict[int, Facts] = {}
        self._before: dict[int, int] | None = None
        """The names before the last listing, by handle; None once these were kept."""
        self._doubted: set[int] = set()

    def replace(self, listing: Mapping[int, Facts]) -> None:
        """Take a whole new listing. What was listed before and is not any more is dropped; what was added stays.

        Args:
            listing: The facts of all objects by handle.
        """
        self._before = {handle: self._names[handle] for handle in self._facts}
        for handle in self._facts:
            self._handles.pop(self._names.pop(handle), None)
        self._facts = {handle: facts for handle, facts in listing.items() if handle not in self._names}
        self._doubted.clear()
        for handle, name in names(self._facts).items():
            self._names[handle] = name
            self._handles[name] = handle

    def keep(self, kept: dict[int, int]) -> None:
        """Let objects have the names that they had first, after a listing.

        What a name is made from can change while a client has it: something gets another label, or a private key the public key beside it.

        Args:
            kept: The first name by the present one, for all members of a context. What this listing has changed is added, and another name for
                an object whose own is that which another one keeps.
        """
        if self._before is None:
            return
        chosen = {handle: self._before[handle] for handle in self._facts if handle in self._before}
        self._before = None
        for handle, name in chosen.items():
            if self._names[handle] != name:
                kept.setdefault(self._names[handle], name)
        taken = set(chosen.values())
        # Who has a name to keep comes before who would be called like that by right.
        for handle in sorted(
            self._facts.keys() - chosen.keys(), key=lambda each: (self._names[each] not in kept, each)
        ):
            present = self._names[handle]
            chosen[handle] = next(name for name in _candidates(present, kept) if name not in taken)
            if chosen[handle] != kept.get(present, present):
                kept[present] = chosen[handle]
            taken.add(chosen[handle])
        for handle in chosen:
            del self._handles[self._names[handle]]
        self._names |= chosen
        self._handles |= {name: handle for handle, name in chosen.items()}

    def handle(self, name: int) -> int | None:
        """Return the member's handle of an object, or None if it has no such object."""
        return self._handles.get(name)

    def name(self, handle: int) -> int | None:
        """Return the name of the object that has a handle, or None if that is not known."""
        return self._names.get(handle)

    def facts(self, handle: int) -> Facts | None:
        """Return what is known for sure of a listed object."""
        return None if handle in self._doubted else self._facts.get(handle)

    def doubt(self, name: int) -> None:
        """Note that an object may have been changed. It keeps its name, but is to be asked anew what it is."""
        handle = self._handles.get(name)
        if handle is not None:
            self._doubted.add(handle)

    def is_alone(self, handle: int) -> bool:
        """Tell whether a listed object is told from all others there (`identity.is_alone`)."""
        return is_alone(self._facts, handle)

    def add(self, name: int, handle: int) -> None:
        """Note a session object.

        Args:
            name: Its name, `FIRST_SESSION_OBJECT` or above.
            handle: The member's handle.
        """
        self.remove_name(name)
        # A handle that was given anew: what had it before is gone.
        before = self._names.get(handle)
        if before is not None:
            self.remove_name(before)
        self._handles[name] = handle
        self._names[handle] = name

    def remove_name(self, name: int) -> None:
        """Forget an object; nothing happens if it is not known."""
        handle = self._handles.pop(name, None)
        if handle is not None:
            self._names.pop(handle, None)
            self._facts.pop(handle, None)
            self._doubted.discard(handle)

    def unknown(self, handles: Iterable[int]) -> list[int]:
        """Return those handles that have no name, in their order."""
        return [handle for handle in handles if handle not in self._names]

    def clear(self) -> None:
        """Forget everything."""
        self._handles.clear()
        self._names.clear()
        self._facts.clear()
        self._doubted.clear()

    def token_names(self) -> frozenset[int]:
        """Return the names of the token objects."""
        return frozenset(self._names[handle] for handle, facts in self._facts.items() if facts.is_token)


def _candidates(present: int, kept: Mapping[int, int]) -> Iterator[int]:
    """Give the names that an object may have, the best first."""
    yield kept.get(present, present)
    yield present
    while True:
        present = alias(present)
        yield present
