"""How an option is declared."""

from dataclasses import field
from types import MappingProxyType
from typing import Any, Final

__all__ = ["REQUIRED", "option"]

REQUIRED: Final = object()
"""The default of an option that must be given."""


def option(
    text: str,
    default: Any = REQUIRED,
    *,
    choices: tuple[str, ...] = (),
    at_least: float | None = None,
    at_most: float | None = None,
) -> Any:
    """Return a dataclass field that is an option.

    Args:
        text: What it does, one sentence or more, for the reference page.
        default: Its value when the file does not give it; left out when the file must.
        choices: The only values of a string.
        at_least: The smallest number.
        at_most: The largest number.
    """
    metadata = {"text": text, "choices": choices, "at_least": at_least, "at_most": at_most}
    if default is REQUIRED:
        return field(metadata=metadata)
    if isinstance(default, dict):
        return field(default_factory=lambda: MappingProxyType(default), metadata=metadata)
    return field(default=default, metadata=metadata)
