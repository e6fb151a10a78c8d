"""`keyway policy`: what a configuration file lets identities do, and why."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import click

from keyway.access.calls import FREE
from keyway.access.identity import Identity, IdentityRule, identify
from keyway.access.policy import Access
from keyway.access.question import Answer, Question, answer, reasons
from keyway.access.role import Role, TokenFacts
from keyway.cli.serve import DEFAULT_FILE
from keyway.config import Config, ConfigError, identity_rules_of, load, resolved, roles_of
from keyway.config.expectations import Expectation, Numbers, load_expectations, question, token_facts
from keyway.config.lines import line_of
from keyway.cryptoki import CALLS, rv_name
from keyway.cryptoki.constants import CKU_SO, CKU_USER

__all__ = ["policy"]

config_option = click.option(
    "-c", "--config", "path", type=click.Path(path_type=Path), default=DEFAULT_FILE, show_default=True
)


@click.group()
def policy() -> None:
    """Ask what a configuration file lets identities do. No daemon is needed."""


@policy.command()
@click.argument("identity")
@click.argument("calls", metavar="[CALL ...]", nargs=-1)
@config_option
@click.option(
    "--token",
    metavar="TOKEN",
    help="PKCS #11 URI, or NAME of [token.NAME]. Default: the first of the identity's roles.",
)
@click.option("--view", metavar="NAME", default="", help="Behind the PIN of [view.NAME]: its roles must allow it, too.")
@click.option("--mechanism", metavar="CKM_...", default="", help="The mechanism that is used.")
@click.option("--class", "class", metavar="CLASS", help="Class of the object that is used: private, CKO_... and so on.")
@click.option("--label", metavar="LABEL", help="Its label.")
@click.option("--id", "id", metavar="HEX", help="Its CKA_ID.")
@click.option("--key-type", metavar="CKK_...", help="Its key type.")
@click.option("--read-write", is_flag=True, help="In a read-write session.")
@click.option("--so", is_flag=True, help="For logins: as the security officer.")
def explain(
    identity: str,
    calls: tuple[str, ...],
    path: Path,
    token: str | None,
    view: str,
    mechanism: str,
    *,
    read_write: bool,
    so: bool,
    **used: str | None,
) -> None:
    """Say whether IDENTITY may make each CALL, and what each of its roles says to it. Without a CALL: which calls are open to it at all."""
    config = _load(path)
    rule = next((each for each in identity_rules_of(config) if each.name == identity), None)
    if rule is None:
        raise click.ClickException(f"{path}: there is no section [identity.{identity}]")
    names = ", ".join(role.name for role in rule.roles)
    click.echo(f"identity {identity} ({_place(path, 'identity', identity)}): roles {names}")
    behind = _behind(path, config, rule, view)
    token = (
        token
        or next((name for name, each in config.tokens.items() if view in each.views), None)
        or config.roles[rule.roles[0].name].tokens[0]
    )
    try:
        facts = token_facts(token, config)
        if view and (facts.name not in config.tokens or view not in config.tokens[facts.name].views):
            raise ValueError(f"{token} is no token with the view {view}")
        given = {key: value for key, value in used.items() if value is not None}
        asked = [
            replace(
                question(facts, call, mechanism, given), read_write=read_write, user_type=CKU_SO if so else CKU_USER
            )
            for call in calls
        ]
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"token {token}")
    for each in asked:
        for who in behind:
            place = f"view {view}: " if who is not rule else ""
            click.echo(place + "\n".join(_explained(path, who, each, answer(Access(who.roles), each))))
    if not calls:
        click.echo("\n".join(_overview([Access(who.roles) for who in behind], facts)))


@policy.command()
@click.argument("expected", metavar="FILE", type=click.Path(path_type=Path))
@config_option
def test(expected: Path, path: Path) -> None:
    """Compare what the policy says with what FILE expects of it. The exit status is 0 if all is as expected."""
    config = _load(path)
    numbers = Numbers()
    try:
        expectations = load_expectations(expected, config, numbers)
    except ConfigError as error:
        raise click.ClickException("\n".join(error.problems)) from error
    rules = resolved(identity_rules_of(config), numbers.of, numbers.of)
    failures = [
        line
        for each in expectations
        for line in _failures(each, rules, roles_of(config.views[each.view].roles if each.view else (), config))
    ]
    for line in failures:
        click.echo(line)
    click.echo(f"{expected}: {len(expectations)} expectations, {len(failures)} not met")
    sys.exit(bool(failures))


def _behind(path: Path, config: Config, rule: IdentityRule, view: str) -> list[IdentityRule]:
    """Return whose roles must allow what is done behind a view: those of the identity, and those of the view, if it has some."""
    if not view:
        return [rule]
    if view not in config.views:
        raise click.ClickException(f"{path}: there is no section [view.{view}]")
    roles = roles_of(config.views[view].roles, config)
    names = ", ".join(role.name for role in roles) or "none, so whatever the identity may do"
    click.echo(f"view {view} ({_place(path, 'view', view)}): roles {names}")
    return [rule, *([replace(rule, name=view, roles=roles)] if roles else [])]


def _load(path: Path) -> Config:
    try:
        config = load(path, serves=False)
    except ConfigError as error:
        raise click.ClickException("\n".join(error.problems)) from error
    if not config.identities:
        raise click.ClickException(f"{path}: there is no [identity.NAME] section: everybody may do everything")
    return config


def _failures(expectation: Expectation, rules: tuple[IdentityRule, ...], behind: tuple[Role, ...]) -> Iterator[str]:
    start = f"{expectation.where}: {expectation.name}:"
    if expectation.evidence is None:
        found = next(Identity(rule.name, rule.roles) for rule in rules if rule.name == expectation.identity)
    else:
        who = identify(rules, expectation.evidence)
        wanted = expectation.identity
        if (wanted or not expectation.question) and wanted != (who.name if who else ""):
            yield f"{start} is {who.name if who else 'nobody'}, not {wanted or 'nobody'}"
            return
        found = who or Identity("", ())
    if expectation.question is None:
        return
    told = answer(Access(found.roles), expectation.question)
    if told.rv is None and behind:
        told = answer(Access(behind), expectation.question)
    if not _meets(told, expectation.expected):
        yield f"{start} {_shown(told)}, not {expectation.expected}"


def _meets(told: Answer, expected: str) -> bool:
    match expected:
        case "allowed":
            return told.rv is None
        case "refused":
            return told.rv is not None and not told.is_invisible
        case "invisible":
            return told.is_invisible
        case _:
            return told.rv is not None and rv_name(told.rv) == expected


def _explained(path: Path, rule: IdentityRule, asked: Question, told: Answer) -> Iterator[str]:
    said = list(reasons(rule.roles, asked))
    granting = [role.name for role, findings in said if all(each.finding.rv is None for each in findings)]
    alone = f": role {granting[0]} allows all of it" if granting else ""
    yield f"{CALLS[asked.number - 1].name}: {_shown(told)}{alone}"
    for role, findings in said:
        yield f"  role {role.name} ({_place(path, 'role', role.name)})"
        for side, finding in findings:
            option = f"{_place(path, 'role', role.name, finding.option)}: {finding.option} " if finding.option else ""
            answered = "yes" if finding.rv is None else "no"
            yield f"    {side}: {answered}: {option}{finding.why}"


def _overview(accesses: Sequence[Access], facts: TokenFacts) -> Iterator[str]:
    for call in CALLS:
        if call.number not in FREE and not call.local:
            told = [answer(access, Question(token=facts, number=call.number)) for access in accesses]
            yield f"  {call.name}: {_shown(next((each for each in told if each.rv is not None), told[0]))}"


def _shown(told: Answer) -> str:
    if told.rv is None:
        return "allowed"
    return f"{'invisible' if told.is_invisible else 'refused'} ({rv_name(told.rv)})"


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _place(path: Path, *keys: str) -> str:
    """Return FILE:LINE of a section or option; of the section if the option is not given."""
    return f"{path}:{line_of(_text(path), keys)}"
