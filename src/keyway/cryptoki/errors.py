"""The error at the Cryptoki boundary."""

from keyway.cryptoki.names import rv_name


class CkError(Exception):
    """A call whose CK_RV is not CKR_OK.

    Attributes:
        rv: The CK_RV; also vendor-defined and unknown ones.
        reason: What happened, for logs. Never a PIN, a key or data.
    """

    def __init__(self, rv: int, reason: str = "") -> None:
        super().__init__(rv, reason)
        self.rv = rv
        self.reason = reason

    @property
    def name(self) -> str:
        """The RV's name in the standard, or its number."""
        return rv_name(self.rv)

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" if self.reason else self.name
