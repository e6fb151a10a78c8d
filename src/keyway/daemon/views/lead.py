"""What the PINs of a token lead to: for each view the PIN that chooses it, the token behind, and that one's own PIN."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyway.daemon.guard.reach import PinFile
from keyway.daemon.pin_file import read_pin_file
from keyway.gateway.views import matching
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.cryptoki import MechanismInfo
    from keyway.daemon.binding import Home
    from keyway.gateway.slots import TokenRule

__all__ = ["Lead", "chosen"]


class Lead:
    """Where one view leads.

    Attributes:
        token_name: The name of the token with views.
        name: The view's name.
        home: The backend, or pool.
        rule: Which token it is; None for a pool.
        held: The PIN of the token behind.
        mechanisms: What the token there can; None while nobody has asked it.
        trying: Held while it is not known whether the token takes that PIN, so that a wrong one is tried once and not by all at a time.
    """

    def __init__(
        self, token_name: str, name: str, home: Home, rule: TokenRule | None, select: Path, held: PinFile
    ) -> None:
        """Describe it.

        Args:
            token_name: The name of the token with views.
            name: The view's name.
            home: The backend, or pool.
            rule: Which token it is; None for a pool.
            select: File with the PIN that chooses it.
            held: The PIN of the token behind.
        """
        self.token_name: Final = token_name
        self.name: Final = name
        self.home: Final = home
        self.rule: Final = rule
        self.held: Final = held
        self.mechanisms: dict[int, MechanismInfo] | None = None
        self.trying: Final = asyncio.Lock()
        self._select = select

    @property
    def shown(self) -> str:
        """What logs call it."""
        return f"{self.token_name}/{self.name}"

    def select(self) -> bytes | None:
        """Return the PIN that chooses it; None, which is logged, if there is none."""
        pin = read_pin_file(self._select, self.shown, "select")
        if pin == b"":
            event(logging.ERROR, "select can't be used", token=self.shown, file=str(self._select), reason="it is empty")
            return None
        return pin


def chosen(leads: Iterable[Lead], pin: bytes) -> Lead | None:
    """Return what a PIN leads to; None if it leads nowhere.

    Args:
        leads: All views of a token.
        pin: What the client gave.
    """
    by_name = {lead.name: lead for lead in leads}
    selects = {name: select for name, lead in by_name.items() if (select := lead.select()) is not None}
    found = matching(pin, selects)
    if len(found) > 1:
        token = by_name[found[0]].token_name
        event(logging.ERROR, "views have the same PIN, so none is chosen", token=token, views=",".join(found))
    return by_name[found[0]] if len(found) == 1 else None
