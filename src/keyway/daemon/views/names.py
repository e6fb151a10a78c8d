"""What tokens with views are called among the backends."""

from typing import Final

__all__ = ["home_name", "is_home"]

_PREFIX: Final = "views:"
"""No backend has a colon in its name."""


def home_name(token: str) -> str:
    """Return what a token with views is called, by its name in the configuration."""
    return _PREFIX + token


def is_home(name: str) -> bool:
    """Tell whether a name is that of a token with views."""
    return name.startswith(_PREFIX)
