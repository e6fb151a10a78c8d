"""Who comes in, and what they see: an identity for each context, and a guard in each of its streams."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyway.access.attempts import Attempts
from keyway.access.identity import Evidence, Identity, IdentityRule, identify
from keyway.access.policy import Access, TokenAccess
from keyway.access.quota import Usage
from keyway.access.role import Quota, Role, TokenFacts
from keyway.access.role import TokenRule as AnyToken
from keyway.config import ConfigError, identity_rules_of, resolved, roles_of
from keyway.config.views import facts_of
from keyway.cryptoki import stripped
from keyway.daemon.guard.guard import Guard
from keyway.daemon.guard.reach import PinFile, Reach
from keyway.daemon.guard.transport import GuardedTransport
from keyway.daemon.views.names import home_name, is_home
from keyway.daemon.views.stream import ViewsStream
from keyway.gateway.slots import BackendSlot, SeenSlot, Slot, TokenRule, VirtualSlots
from keyway.observe.log import event

if TYPE_CHECKING:
    from keyway.backend.stream import Stream
    from keyway.config import Config
    from keyway.daemon.connection import Entrance
    from keyway.observe.audit_sinks import AuditLog
    from keyway.transport.peer import Peer

__all__ = ["Entrant", "Gate", "Ledger", "evidence_of", "new_gate"]

_NOBODY: Final = Access(())
_ANYTHING: Final = (Role(name="", tokens=(AnyToken(),), administration=True, export=True),)
"""For who is recorded only."""


class Ledger:
    """What identities have used and tried so far, in all of their contexts.

    Attributes:
        attempts: Which PINs were tried.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin with nothing.

        Args:
            clock: Tells seconds.
        """
        self.attempts = Attempts(0)
        self._free = 0
        self._clock = clock
        self._pin_files: dict[tuple[Path, str], PinFile] = {}
        self._usages: dict[tuple[str, str, Quota], Usage] = {}

    def allow(self, wrong_pins: int) -> None:
        """Say how many wrong PINs in a row are free. If it is as many as before, what was tried is not forgotten."""
        if wrong_pins != self._free:
            self._free = wrong_pins
            self.attempts = Attempts(wrong_pins)

    def pin_file(self, path: Path, token: str, behind: str = "") -> PinFile:
        """Return the file with the PIN of a configured token.

        Args:
            path: The file.
            token: What logs call the token.
            behind: Which token takes the PIN, if it is one behind a view: several views may lead to it.
        """
        return self._pin_files.setdefault((path, behind), PinFile(path, token))

    def usage(self, identity: str, token: str, quota: Quota) -> Usage:
        """Return what an identity has used of its quota at a token."""
        key = (identity, token, quota)
        if key not in self._usages:
            self._usages[key] = Usage(quota, self._clock())
        return self._usages[key]


class Gate:
    """Tells who is who, as the configuration has it."""

    def __init__(
        self,
        rules: Sequence[IdentityRule],
        ledger: Ledger,
        pin_files: Mapping[str, Path],
        views: Mapping[tuple[str, str], TokenAccess],
    ) -> None:
        """Prepare.

        Args:
            rules: Who is who. Without any, nobody is asked, and all may do what the token lets them.
            ledger: What identities have used.
            pin_files: Files with PINs, by the names of configured tokens.
            views: What the roles of views allow, by the names of token and view; views without roles are not there.
        """
        self._rules = tuple(rules)
        self._pin_files = pin_files
        self._views = views
        self._ledger = ledger

    def enter(
        self,
        peer: Peer | None,
        entrance: Entrance,
        audit: AuditLog | None = None,
        context: str = "",
    ) -> Entrant | None:
        """Return what guards a context that begins; None if it may do as it likes.

        Args:
            peer: Who connected.
            entrance: Where.
            audit: Where calls are recorded; None if they are not.
            context: Name of the context.
        """
        if not self._rules and audit is None:
            return None
        if peer is None:
            identity = None
        elif self._rules:
            identity = self._identity(peer, entrance)
        else:
            identity = Identity(_name_of(peer), _ANYTHING)
        return Entrant(identity, entrance.view.rules, self._ledger, self._pin_files, audit, context, self._views)

    def name_of(self, peer: Peer, entrance: Entrance) -> str:
        """Return the name of an identity; for nobody what to call the peer, wherever on its machine it is.

        Args:
            peer: Who connected.
            entrance: Where.
        """
        identity = self._identity(peer, entrance) if self._rules else None
        return identity.name if identity is not None else _name_of(peer, peer.address.rpartition(":")[0])

    def _identity(self, peer: Peer, entrance: Entrance) -> Identity | None:
        return identify(self._rules, evidence_of(peer, entrance.name, is_offer=entrance.is_offer))


class Entrant:
    """A context with an identity, or with none, which sees nothing.

    Attributes:
        identity: Who it is; None for nobody.
    """

    def __init__(
        self,
        identity: Identity | None,
        tokens: tuple[TokenRule, ...],
        ledger: Ledger,
        pin_files: Mapping[str, Path],
        audit: AuditLog | None,
        context: str,
        views: Mapping[tuple[str, str], TokenAccess],
    ) -> None:
        """Prepare.

        Args:
            identity: Who it is; None for nobody.
            tokens: The configured tokens.
            ledger: What identities have used.
            pin_files: Files with PINs, by the names of tokens.
            audit: Where calls are recorded; None if they are not.
            context: Name of the context.
            views: What the roles of views allow, by the names of token and view.
        """
        self._audit = audit
        self._views = views
        self._context = context
        self._ledger = ledger
        self._pin_files = pin_files
        self.identity: Final = identity
        self._access = Access(identity.roles) if identity is not None else _NOBODY
        self._tokens = tokens
        self._reaches: dict[str, dict[int, Reach]] = {}

    def see(self, slots: VirtualSlots) -> VirtualSlots:
        """Return what of the slots is visible.

        Args:
            slots: What there is.
        """
        shown: dict[int, Slot] = {}
        for number, slot in slots.slots.items():
            facts, place = self._facts(slot)
            access = self._access.on(facts)
            if access is None:
                continue
            shown[number] = slot
            if place is not None:
                reaches = self._reaches.setdefault(place.backend, {})
                reach = reaches.get(place.slot)
                if reach is None or reach.access is not access:
                    token = facts.label or facts.name
                    usage = self._ledger.usage(self.name, f"{token}/{facts.serial}", access.quota)
                    path = self._pin_files.get(facts.name)
                    pin_file = None if path is None else self._ledger.pin_file(path, facts.name)
                    account = place.backend if is_home(place.backend) else ""
                    reaches[place.slot] = Reach(access, place.slot, token, usage, pin_file, account=account)
        return VirtualSlots(shown, slots.given)

    @property
    def name(self) -> str:
        """The name of the identity; empty for nobody."""
        return self.identity.name if self.identity is not None else ""

    def guard(self, stream: Stream) -> None:
        """Put a guard into a stream to one of the context's backends."""
        witness = None
        if self._audit is not None:
            from keyway.daemon.guard.witness import Witness  # What it needs takes long to load, and many do without.

            witness = Witness(self._audit, self.name, self._context)
        guard = Guard(stream, self._reaches.setdefault(stream.name, {}), self.name, self._ledger.attempts, witness)
        stream.transport = GuardedTransport(guard, stream.transport)
        if isinstance(stream, ViewsStream):
            stream.context.guest = self

    def sees(self, home: str) -> bool:
        """Tell whether something of a backend is visible.

        Args:
            home: What the backend, pool or token with views is called.
        """
        return bool(self._reaches.get(home))

    # At tokens with views

    def enter(self, stream: Stream, token: str, view: str, slot: int) -> None:
        """Put a guard into a stream to the token behind a view, if there are roles for that view. It stands behind the first one: what passes both is allowed.

        Args:
            stream: The stream.
            token: The name of the token with views.
            view: The view's name.
            slot: The token's slot there.
        """
        access = self._views.get((token, view))
        if access is not None:
            shown = f"{token}/{view}"
            reach = Reach(access, slot, shown, self._ledger.usage(self.name, shown, access.quota))
            # The PIN that passes there is the gateway's own, which is not tried again when it is wrong.
            guard = Guard(stream, {slot: reach}, self.name, Attempts(0), is_inner=True)
            stream.transport = GuardedTransport(guard, stream.transport)

    def chose(self, token: str, view: str) -> None:
        """Take note of the view that a PIN has chosen; an empty one for none.

        Args:
            token: The name of the token with views.
            view: The view's name.
        """
        for reach in self._reaches.get(home_name(token), {}).values():
            reach.chose(view)
        if view:
            event(logging.INFO, "view chosen", token=token, view=view, identity=self.name, context=self._context)

    def _facts(self, slot: Slot) -> tuple[TokenFacts, BackendSlot | None]:
        content = slot.content
        if not isinstance(content, SeenSlot):
            return TokenFacts(name=content.name, label=content.label or "", serial=content.serial or ""), content.place
        name = next((rule.name for rule in self._tokens if rule.fits(content)), "")
        if (token := content.token) is None:
            return TokenFacts(name=name), content.place
        texts = (token.label, token.manufacturer_id, token.model, token.serial_number)
        label, manufacturer, model, serial = (stripped(each).decode(errors="replace") for each in texts)
        facts = TokenFacts(name=name, label=label, manufacturer=manufacturer, model=model, serial=serial)
        return facts, content.place


def new_gate(config: Config, ledger: Ledger) -> Gate:
    """Return what tells who is who.

    Args:
        config: The configuration.
        ledger: What identities have used.

    Raises:
        ConfigError: An identity is a user or group that is not there.
    """
    try:
        rules = resolved(identity_rules_of(config))
    except ValueError as error:
        raise ConfigError([str(error)]) from None
    ledger.allow(config.limits.pin_attempts)
    # Pools see to theirs themselves.
    pin_files = {
        name: token.pin_file for name, token in config.tokens.items() if token.pin_file is not None and token.is_plain
    }
    return Gate(rules, ledger, pin_files, _view_accesses(config))


def _view_accesses(config: Config) -> dict[tuple[str, str], TokenAccess]:
    """Return what the roles of views allow, by the names of token and view."""
    found = {}
    for name, token in config.tokens.items():
        for view in token.views:
            roles = roles_of(config.views[view].roles, config)
            access = Access(roles).on(facts_of(name, token))
            if roles:
                assert access is not None  # The configuration was checked.
                found[name, view] = access
    return found


def _name_of(peer: Peer, address: str | None = None) -> str:
    """Return what to call somebody where nobody has a name.

    Args:
        peer: Who.
        address: Where it connected from, if that is not to be told as exactly as it is known.
    """
    address = peer.address if address is None else address
    return (
        peer.principal or peer.certificate or (f"uid {peer.uid}" if peer.uid is not None else address or peer.transport)
    )


def evidence_of(peer: Peer, entrance: str, *, is_offer: bool) -> Evidence:
    """Return what is known for certain of who connected.

    Args:
        peer: What the transport told.
        entrance: Name of the listener where it connected, or of the offer that it came by.
        is_offer: Which of the two.
    """
    return Evidence(
        transport=peer.transport,
        listener=None if is_offer else entrance,
        offer=entrance if is_offer else "",
        uid=peer.uid,
        gids=peer.groups,
        dns=peer.dns,
        uris=peer.uris,
        emails=peer.emails,
        subject=peer.distinguished,
        principal=peer.principal,
    )
