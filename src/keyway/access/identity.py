"""Who a client is: from what is known for certain of a connection to a name and its roles."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from keyway.access.patterns import Covers, covers_dns, covers_email, covers_uri, dns_matches, email_matches, uri_matches
from keyway.access.role import Role

__all__ = ["Evidence", "Identity", "IdentityRule", "covers", "identify"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known for certain of who connected.

    Attributes:
        transport: unix, tcp, tls, gss, vsock or stdio.
        listener: Name of the listener; empty for [listen], None if it came by none.
        uid: Number of the user at the other end of a unix socket.
        gids: Numbers of all groups of that user.
        dns: DNS names of a verified certificate.
        uris: URIs of that certificate, SPIFFE IDs among them.
        emails: Its email addresses.
        subject: Its subject, as in RFC 4514.
        principal: Kerberos principal.
        offer: Name of the offer that it came by; empty if it came by none.
    """

    transport: str
    listener: str | None = ""
    uid: int | None = None
    gids: frozenset[int] = frozenset()
    dns: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    subject: str = ""
    principal: str = ""
    offer: str = ""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a client is.

    Attributes:
        name: That of the section [identity.NAME] which matched.
        roles: What it may do: whatever one of them allows.
        contexts: How many contexts it may have at a time; 0 for no limit. Another limit makes it no other identity.
    """

    name: str
    roles: tuple[Role, ...]
    contexts: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityRule:
    """Conditions, all of which the evidence must meet. Each has alternatives; an empty one is not given. Without any the rule matches everybody.

    Attributes:
        name: Of the identity.
        roles: Of the identity.
        users: Numbers of users. A name that nobody has turned into a number never matches.
        groups: The same for groups; one of the client's groups is enough.
        dns: Patterns of DNS names.
        uris: Patterns of URIs.
        emails: Patterns of email addresses.
        subjects: Subjects, exactly.
        principals: Kerberos principals, exactly.
        listeners: Names of listeners.
        offers: Names of offers.
        contexts: How many contexts the identity may have at a time; 0 for no limit.
    """

    name: str
    roles: tuple[Role, ...]
    users: frozenset[int | str] = frozenset()
    groups: frozenset[int | str] = frozenset()
    dns: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()
    emails: frozenset[str] = frozenset()
    subjects: frozenset[str] = frozenset()
    principals: frozenset[str] = frozenset()
    listeners: frozenset[str] = frozenset()
    offers: frozenset[str] = frozenset()
    contexts: int = 0


def identify(rules: Sequence[IdentityRule], evidence: Evidence) -> Identity | None:
    """Return the identity of the first rule that matches; None for nobody, who sees nothing.

    Args:
        rules: In the order of the file.
        evidence: What is known.
    """
    for rule in rules:
        if _matches(rule, evidence):
            return Identity(rule.name, rule.roles, rule.contexts)
    return None


def covers(earlier: IdentityRule, later: IdentityRule) -> bool:
    """Tell whether the first rule matches whenever the second does, so that the second is never reached; it may miss cases."""
    return (
        _within(later.users, earlier.users)
        and _within(later.groups, earlier.groups)
        and _within(later.subjects, earlier.subjects)
        and _within(later.principals, earlier.principals)
        and _within(later.listeners, earlier.listeners)
        and _within(later.offers, earlier.offers)
        and _covered(later.dns, earlier.dns, covers_dns)
        and _covered(later.uris, earlier.uris, covers_uri)
        and _covered(later.emails, earlier.emails, covers_email)
    )


def _matches(rule: IdentityRule, evidence: Evidence) -> bool:
    return (
        (not rule.users or evidence.uid in rule.users)
        and (not rule.groups or not rule.groups.isdisjoint(evidence.gids))
        and _one(rule.dns, evidence.dns, dns_matches)
        and _one(rule.uris, evidence.uris, uri_matches)
        and _one(rule.emails, evidence.emails, email_matches)
        and (not rule.subjects or evidence.subject in rule.subjects)
        and (not rule.principals or evidence.principal in rule.principals)
        and (not rule.listeners or evidence.listener in rule.listeners)
        and (not rule.offers or evidence.offer in rule.offers)
    )


def _one(patterns: Iterable[str], names: tuple[str, ...], matches: Covers) -> bool:
    patterns = tuple(patterns)
    return not patterns or any(matches(pattern, name) for pattern in patterns for name in names)


def _within(later: frozenset[int | str] | frozenset[str], earlier: frozenset[int | str] | frozenset[str]) -> bool:
    return not earlier or (bool(later) and later <= earlier)


def _covered(later: frozenset[str], earlier: frozenset[str], covers_one: Covers) -> bool:
    return not earlier or (bool(later) and all(any(covers_one(each, other) for each in earlier) for other in later))
