"""What is known of the tokens: init calls that lead to success."""

from collections.abc import Callable
from typing import Final, NamedTuple

from keyway.cryptoki import SHAPES, MemberKind
from keyway.cryptoki.table import Shape

__all__ = ["Init", "Lessons", "is_repeatable"]

CAPACITY: Final = 64
"""How many init calls are kept in each of the two halves of what is known."""
LONGEST: Final = 256
"""Bytes of the body of an init call that is worth keeping: every client has what it knows."""

_PLAIN: Final = frozenset(
    {
        MemberKind.ULONG,
        MemberKind.BYTE,
        MemberKind.BYTES,
        MemberKind.ULONGS,
        MemberKind.LENGTH,
        MemberKind.STRING,
        MemberKind.STRING_BITS,
        MemberKind.STRING_SIZED,
        MemberKind.VERSION,
    }
)
_NULL_OR_FLAT: Final = (0, 1)
_STRUCTURED: Final = 2


class Init(NamedTuple):
    """An init call as it travels, on a token.

    Attributes:
        slot: The slot of the token.
        call: Call number.
        object: The key, from the header; 0 if there is none.
        body: The body.
    """

    slot: int
    call: int
    object: int
    body: bytes


class Lessons:
    """Init calls after which the operation has succeeded too. Those used lately are kept: when the young half is full, the old one goes.

    Attributes:
        age: How often something was forgotten. What was forgotten since an init call was made is not learned again from its success.
    """

    def __init__(self) -> None:
        self.age = 0
        self._young: set[Init] = set()
        self._old: set[Init] = set()

    def knows(self, init: Init) -> bool:
        """Tell whether an init call leads to success."""
        if init in self._young:
            return True
        if init not in self._old:
            return False
        self._old.remove(init)
        self._put(init)
        return True

    def learn(self, init: Init, age: int) -> None:
        """Remember an init call.

        Args:
            init: The call.
            age: The age when it was made.
        """
        if age == self.age and not self.knows(init):
            self._put(init)

    def forget(self, init: Init) -> None:
        """Forget one init call."""
        self._young.discard(init)
        self._old.discard(init)

    def forget_object(self, handle: int) -> None:
        """Forget what is known of a key. A module may take a handle from the sessions of any token."""
        self._keep(lambda init: init.object != handle)

    def forget_all(self) -> None:
        """Forget everything."""
        self._keep(lambda _: False)

    def _put(self, init: Init) -> None:
        if len(self._young) >= CAPACITY:
            self._old = self._young
            self._young = set()
        self._young.add(init)

    def _keep(self, is_kept: Callable[[Init], bool]) -> None:
        self.age += 1
        self._young = set(filter(is_kept, self._young))
        self._old = set(filter(is_kept, self._old))


def is_repeatable(body: bytes) -> bool:
    """Tell whether the mechanism at the start of a body means the same whenever it is given, and the body is not too long to be kept.

    It does not if the token writes into its parameter, which the reply to a fused call does not bring back, or if that names an object,
    which might go, and another come.

    Args:
        body: The native body of an init call.
    """
    if not 10 <= len(body) <= LONGEST or not body[0]:
        return False
    if body[9] in _NULL_OR_FLAT:
        return True
    shape = SHAPES.get(int.from_bytes(body[10:12], "big")) if body[9] == _STRUCTURED else None
    return shape is not None and _is_plain(shape)


def _is_plain(shape: Shape) -> bool:
    return not shape.out and all(member.kind in _PLAIN for member in shape.members)
