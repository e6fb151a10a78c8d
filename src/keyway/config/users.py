"""Users of this system, by name or number."""

import pwd

__all__ = ["ids_of"]


def ids_of(user: str) -> tuple[int, int]:
    """Return the numbers of a user and of that user's group.

    Args:
        user: A name, or a number.

    Raises:
        LookupError: There is no such user. The text says so.
    """
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise LookupError(f"there is no user {user}") from None
    return entry.pw_uid, entry.pw_gid
