"""The numbers of control calls (docs/wire.md, section 9)."""

from typing import Final

__all__ = ["CHECK", "DRAIN", "RELOAD", "RESUME", "STATUS", "TRACE"]

STATUS: Final = 0x4000
"""Empty body; the reply's body is a JSON object."""
TRACE: Final = 0x4001
"""Empty body, or a JSON object that names a context; the replies are as many as there are calls."""
DRAIN: Final = 0x4002
"""A JSON object that names a member; a reply whenever what holds the member has changed, until nothing does."""
RESUME: Final = 0x4003
"""A JSON object that names a member; one reply."""
RELOAD: Final = 0x4004
"""Empty body; one reply."""
CHECK: Final = 0x4005
"""Empty body, or a JSON object that names a pool; one reply."""
