"""The names and handles of one member in one context."""

from collections.abc import Iterable, Mapping

from keyway.gateway.pool.identity import Facts, is_alone, names

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

    def replace(self, listing: Mapping[int, Facts]) -> None:
        """Take a whole new listing. What was listed before and is not any more is dropped; what was added stays.

        Args:
            listing: The facts of all objects by handle.
        """
        for handle in self._facts:
            self._handles.pop(self._names.pop(handle), None)
        self._facts = {handle: facts for handle, facts in listing.items() if handle not in self._names}
        for handle, name in names(self._facts).items():
            self._names[handle] = name
            self._handles[name] = handle

    def handle(self, name: int) -> int | None:
        """Return the member's handle of an object, or None if it has no such object."""
        return self._handles.get(name)

    def name(self, handle: int) -> int | None:
        """Return the name of the object that has a handle, or None if that is not known."""
        return self._names.get(handle)

    def facts(self, handle: int) -> Facts | None:
        """Return what is known of a listed object."""
        return self._facts.get(handle)

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

    def unknown(self, handles: Iterable[int]) -> list[int]:
        """Return those handles that have no name, in their order."""
        return [handle for handle in handles if handle not in self._names]

    def clear(self) -> None:
        """Forget everything."""
        self._handles.clear()
        self._names.clear()
        self._facts.clear()

    def token_names(self) -> frozenset[int]:
        """Return the names of the token objects."""
        return frozenset(self._names[handle] for handle, facts in self._facts.items() if facts.is_token)
