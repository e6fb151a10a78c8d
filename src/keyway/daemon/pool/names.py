"""What pools are called among the backends."""

from typing import Final

__all__ = ["HOME"]

HOME: Final = "pool:{}"
"""The name of a pool where backends have names. None of these has a colon in its own."""
