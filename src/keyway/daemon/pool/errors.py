"""Why the pool can't make a call."""

from keyway.cryptoki import RV
from keyway.daemon.link import LinkLost

__all__ = ["Lacking", "OperationLost", "Overdue", "Unserved"]


class Unserved(Exception):
    """No member can make a call, or not in time.

    Attributes:
        rv: What the client is told.
    """

    def __init__(self, rv: RV) -> None:
        super().__init__(rv.name)
        self.rv = rv


class Overdue(LinkLost):
    """A member has not answered in time. It may do so later."""


class OperationLost(Exception):
    """The operations of a session went with a member, and can't be made again elsewhere."""


class Lacking(Exception):
    """A member lacks an object."""
