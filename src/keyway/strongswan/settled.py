"""What the file leaves open until files are written: slots that are known by their label, PINs that are in files."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from keyway.strongswan.options import Setup

__all__ = ["RenderError", "settled", "unsettled"]


class RenderError(ValueError):
    """Something that can't be written. The text says where it is, and never what a PIN is."""


def unsettled(setup: Setup) -> tuple[str, ...]:
    """Return the labels of tokens whose slot is not known yet."""
    return tuple(token.label for token in setup.tokens.values() if token.slot < 0)


def settled(setup: Setup, slots: Mapping[str, int], pins: Mapping[str, str]) -> Setup:
    """Return a set-up in which all slots and PINs are known.

    Args:
        setup: As it was read.
        slots: Slots by the label of their token.
        pins: What is in the files for PINs, by the name of the token's section.

    Raises:
        RenderError: A label is not among the slots.
    """
    tokens = {}
    for name, token in setup.tokens.items():
        if token.slot < 0 and token.label not in slots:
            raise RenderError(f"token.{name}.label: the module has no token {token.label}")
        slot = token.slot if token.slot >= 0 else slots[token.label]
        tokens[name] = replace(token, slot=slot, pin=pins.get(name, token.pin), pin_file=None)
    return replace(setup, tokens=MappingProxyType(tokens))
