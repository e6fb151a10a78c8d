"""Numbers of the users and groups that rules for identities name: those of this machine, asked once."""

import dataclasses
import grp
import pwd
from collections.abc import Callable, Iterable

from keyway.access.identity import IdentityRule

__all__ = ["resolved"]

_Ask = Callable[[str], int]


def _user(name: str) -> int:
    return pwd.getpwnam(name).pw_uid


def _group(name: str) -> int:
    return grp.getgrnam(name).gr_gid


def resolved(rules: Iterable[IdentityRule], user: _Ask = _user, group: _Ask = _group) -> tuple[IdentityRule, ...]:
    """Return rules with numbers in place of names of users and groups.

    Args:
        rules: Rules as they are in the file.
        user: Gives the number of a user, or raises KeyError.
        group: The same for groups.

    Raises:
        ValueError: Somebody is not known here. The message says who, and in which identity.
    """
    return tuple(
        dataclasses.replace(
            rule,
            users=_numbers(rule.users, user, f"identity.{rule.name}: there is no user"),
            groups=_numbers(rule.groups, group, f"identity.{rule.name}: there is no group"),
        )
        for rule in rules
    )


def _numbers(accounts: Iterable[int | str], ask: _Ask, problem: str) -> frozenset[int | str]:
    return frozenset(each if isinstance(each, int) else _number(each, ask, problem) for each in accounts)


def _number(name: str, ask: _Ask, problem: str) -> int:
    try:
        return ask(name)
    except KeyError:
        raise ValueError(f"{problem} {name}") from None
