"""A token with views: what all contexts know of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

from keyway.backend.turns import Turns
from keyway.config import BackendOptions
from keyway.config.views import MODEL
from keyway.cryptoki import CK_UNAVAILABLE_INFORMATION, MechanismInfo, SlotInfo, TokenInfo, Version, padded
from keyway.cryptoki.constants import (
    CKF_LOGIN_REQUIRED,
    CKF_RW_SESSION,
    CKF_TOKEN_INITIALIZED,
    CKF_TOKEN_PRESENT,
    CKF_USER_PIN_INITIALIZED,
)
from keyway.daemon.views.mechanisms import ask_mechanisms
from keyway.daemon.views.names import home_name
from keyway.daemon.views.stream import ViewsStream
from keyway.gateway.pool import merge
from keyway.gateway.slots import BackendSlot, SeenSlot

if TYPE_CHECKING:
    from keyway.config import TokenOptions
    from keyway.daemon.binding import Home
    from keyway.daemon.link import Caller
    from keyway.daemon.tasks import Tasks
    from keyway.daemon.views.lead import Lead

__all__ = ["ViewsHome", "any_outdated"]

_FLAGS: Final = CKF_LOGIN_REQUIRED | CKF_USER_PIN_INITIALIZED | CKF_TOKEN_INITIALIZED
_LONGEST_PIN: Final = 255
"""What clients are told; nobody measures. Some make room for so much."""


class ViewsHome:
    """Gives out streams as a backend does.

    Attributes:
        token_name: The token's name in the configuration.
        name: What it is called among the backends.
        leads: Where its PINs lead, in the order of the configuration.
        tasks: What runs beside the loop's callbacks.
        ending: Seconds that a host has to end.
        is_outdated: Whether the configuration has other views, or roles for them, by now.
        options: For those that take it for a backend: what holds behind all views.
        turns: For the same; the backends have turns of their own.
        crashes: For the same.
    """

    def __init__(self, name: str, options: TokenOptions, leads: Iterable[Lead], tasks: Tasks, ending: float) -> None:
        """Prepare it. Needs a running loop.

        Args:
            name: The token's name.
            options: Its section of the configuration.
            leads: Where its PINs lead.
            tasks: What runs beside the loop's callbacks.
            ending: Seconds that a host has to end before it is killed.
        """
        self.token_name: Final = name
        self.name = home_name(name)
        self.leads: Final = tuple(leads)
        self.tasks: Final = tasks
        self.ending = ending
        self.is_outdated = False
        self.turns = Turns(needed=False)
        self.crashes = 0
        behind = [lead.home.options for lead in self.leads]
        limits = [each.call_timeout for each in behind]
        self.options = BackendOptions(
            spares=0,
            read_ahead=all(each.read_ahead for each in behind),
            call_timeout=max(limits) if all(limits) else 0.0,
        )
        self._token = options
        self._asking = asyncio.Lock()

    @property
    def homes(self) -> set[Home]:
        """What its views lead to."""
        return {lead.home for lead in self.leads}

    async def stream(self) -> ViewsStream:
        """Return a stream; it belongs to the caller."""
        return ViewsStream(self)

    async def initialise(self, link: Caller) -> None:
        """Take note of who counts what is answered. Modules are initialised when a PIN leads to them."""
        assert isinstance(link.host, ViewsStream)
        link.host.context.link = link

    def seen(self) -> SeenSlot:
        """Return the slot, which is always there."""
        return SeenSlot(BackendSlot(self.name, 0), self.slot_info(), self.token_info(()))

    def slot_info(self) -> SlotInfo:
        """Return CK_SLOT_INFO."""
        name = padded(self.token_name, 64)
        return SlotInfo(name, padded("Keyway", 32), CKF_TOKEN_PRESENT, Version(0, 0), Version(0, 0))

    def token_info(self, sessions: Iterable[int]) -> TokenInfo:
        """Return CK_TOKEN_INFO, which tells nothing of the tokens behind.

        Args:
            sessions: The flags of the client's open sessions.
        """
        flags = list(sessions)
        unknown = CK_UNAVAILABLE_INFORMATION
        return TokenInfo(
            label=padded(self._token.label, 32),
            manufacturer_id=padded("Keyway", 32),
            model=padded(MODEL, 16),
            serial_number=padded(self._token.serial, 16),
            flags=_FLAGS,
            max_session_count=unknown,
            session_count=len(flags),
            max_rw_session_count=unknown,
            rw_session_count=sum(bool(each & CKF_RW_SESSION) for each in flags),
            max_pin_len=_LONGEST_PIN,
            min_pin_len=1,
            total_public_memory=unknown,
            free_public_memory=unknown,
            total_private_memory=unknown,
            free_private_memory=unknown,
            hardware_version=Version(0, 0),
            firmware_version=Version(0, 0),
            utc_time=padded("", 16),
        )

    async def mechanisms(self) -> Mapping[int, MechanismInfo] | None:
        """Return what all tokens behind that can be reached have in common; None if none can be."""
        async with self._asking:
            unknown = [lead for lead in self.leads if lead.mechanisms is None]
            await asyncio.gather(*(ask_mechanisms(lead, self.ending) for lead in unknown))
        known = [lead.mechanisms for lead in self.leads if lead.mechanisms is not None]
        if not known:
            return None
        types = merge.mechanisms([tuple(each) for each in known])
        return {type_: merge.mechanism_info([each[type_] for each in known]) for type_ in types}


def any_outdated(homes: Iterable[Home], sees: Callable[[str], bool]) -> bool:
    """Tell whether a context sees a token whose views, or their roles, are others by now.

    Args:
        homes: The backends, pools and tokens with views that the context has.
        sees: Tells by the name of one of them whether something of it is visible.
    """
    return any(isinstance(home, ViewsHome) and home.is_outdated and sees(home.name) for home in homes)
