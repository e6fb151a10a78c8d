"""What the gateway decides about a call."""

from dataclasses import dataclass

from keyway.cryptoki import RV, Value

__all__ = ["Answer", "Decision", "Relay"]


@dataclass(frozen=True, slots=True)
class Relay:
    """Send it to a backend.

    Attributes:
        backend: The backend's name.
        target: The target as the backend knows it.
    """

    backend: str
    target: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer it without asking anybody.

    Attributes:
        rv: The RV.
        values: The reply's values; none if nothing was executed.
    """

    rv: RV
    values: tuple[Value, ...] = ()


Decision = Relay | Answer
