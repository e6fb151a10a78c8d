"""Patterns in which `*` stands for any characters: of labels as a whole, of names in certificates within one of their parts.

Matching takes time in proportion to the text, whatever the pattern: a name comes from a stranger.
"""

from collections.abc import Callable
from typing import Final

__all__ = ["covers_dns", "covers_email", "covers_uri", "dns_matches", "email_matches", "label_matches", "uri_matches"]

STAR: Final = "*"


def label_matches(pattern: str, label: bytes) -> bool:
    """Tell whether a CKA_LABEL matches; one that is no UTF-8 matches where a star takes the bytes that are none."""
    return _glob(pattern, label.decode("utf-8", "surrogateescape"))


def dns_matches(pattern: str, name: str) -> bool:
    """Tell whether a DNS name of a certificate matches. Case does not matter; a star stays within a label."""
    return _is_exact(name) and covers_dns(pattern, name)


def email_matches(pattern: str, name: str) -> bool:
    """Tell whether an email address of a certificate matches. Case matters before the @ only."""
    return _is_exact(name) and covers_email(pattern, name)


def uri_matches(pattern: str, name: str) -> bool:
    """Tell whether a URI of a certificate, such as a SPIFFE ID, matches. A star stays within a segment of the path."""
    return _is_exact(name) and covers_uri(pattern, name)


def covers_dns(pattern: str, other: str) -> bool:
    """Tell whether a pattern matches all that another pattern of DNS names matches; it may miss some that do."""
    return _each_part(pattern.lower().split("."), other.lower().split("."))


def covers_email(pattern: str, other: str) -> bool:
    """The same for patterns of email addresses."""
    local, at, domain = pattern.rpartition("@")
    other_local, other_at, other_domain = other.rpartition("@")
    return at == other_at and _each_part([local], [other_local]) and covers_dns(domain, other_domain)


def covers_uri(pattern: str, other: str) -> bool:
    """The same for patterns of URIs."""
    return _each_part(pattern.split("/"), other.split("/"))


Covers = Callable[[str, str], bool]


def _is_exact(name: str) -> bool:
    # A wildcard is no name of anybody. What is not printable, a NUL above all, was put there to be read in two ways.
    return name.isascii() and name.isprintable() and not {STAR, " "} & set(name)


def _each_part(patterns: list[str], parts: list[str]) -> bool:
    return len(patterns) == len(parts) and all(map(_part, patterns, parts))


def _part(pattern: str, text: str) -> bool:
    if STAR not in pattern:
        return pattern == text
    # No part at all, and the dots of a path, are no names.
    return text not in ("", ".", "..") and _glob(pattern, text)


def _glob(pattern: str, text: str) -> bool:
    first, *rest = pattern.split(STAR)
    if not rest:
        return text == first
    *middle, last = rest
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    start, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, start, end)
        if found < 0:
            return False
        start = found + len(piece)
    return True
