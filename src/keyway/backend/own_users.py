"""Which user the hosts of a backend run as where the daemon is root: one that nothing belongs to, for each backend another one."""

import zlib
from typing import Final

__all__ = ["COUNT", "FIRST", "OwnUsers"]

FIRST: Final = 60_600
COUNT: Final = 500
"""Numbers of users that neither distributions nor systemd give to anybody (systemd's UIDS-GIDS: 60578 to 61183 are unused)."""


class OwnUsers:
    """Gives numbers to backends: to each its own, and to one name always the same, as far as others leave it free."""

    def __init__(self) -> None:
        """Begin with nobody."""
        self._users: dict[str, int] = {}

    def of(self, backend: str) -> int:
        """Return the number of a backend's user.

        Args:
            backend: Its name. With more than COUNT of them, some share one.
        """
        user = self._users.get(backend)
        if user is None:
            wanted = zlib.crc32(backend.encode())
            taken = set(self._users.values())
            numbers = [FIRST + (wanted + step) % COUNT for step in range(COUNT)]
            user = self._users[backend] = next((number for number in numbers if number not in taken), numbers[0])
        return user
