"""What a policy is expected to say: the file that `keyway policy test` reads, and questions from words."""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from keyway.access.calls import number_of
from keyway.access.identity import Evidence
from keyway.access.mechanisms import mechanisms_named
from keyway.access.question import Question
from keyway.access.role import ObjectFacts, TokenFacts
from keyway.config.access import object_rule, token_rule
from keyway.config.errors import ConfigError, Wrong
from keyway.config.options import Config, option
from keyway.config.reader import Reader
from keyway.config.views import facts_of
from keyway.cryptoki import RV, Attribute, Template, Uri
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_SENSITIVE,
    CKA_TOKEN,
    CKU_SO,
    CKU_USER,
)
from keyway.cryptoki.uri import OBJECT_CLASSES

__all__ = ["Expectation", "ExpectationOptions", "expectations", "load_expectations", "question", "token_facts"]

OUTCOMES: Final = ("allowed", "refused", "invisible")
_FLAGS: Final = {"token": CKA_TOKEN, "extractable": CKA_EXTRACTABLE, "sensitive": CKA_SENSITIVE}
_UNNUMBERED: Final = 1 << 32
"""Above all numbers of users: names are numbered from here, so that a test needs no such accounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectationOptions:
    """What is expected: of an identity, or of who comes with this evidence."""

    identity: str = option(
        "Name of the identity. With evidence: the one that it must lead to; empty for none, where nothing is expected of a call.",
        "",
    )
    transport: str = option(
        "Evidence: how the client came.", "unix", choices=("unix", "tcp", "tls", "gss", "vsock", "stdio")
    )
    listener: str = option("Evidence: name of the listener.", "")
    user: tuple[int | str, ...] | None = option("Evidence: the user, one name or number.", None)
    group: tuple[int | str, ...] | None = option("Evidence: the user's groups.", None)
    dns: tuple[str, ...] = option("Evidence: DNS names of the certificate.", ())
    uri: tuple[str, ...] = option("Evidence: URIs of the certificate.", ())
    email: tuple[str, ...] = option("Evidence: email addresses of the certificate.", ())
    subject: str = option("Evidence: subject of the certificate.", "")
    principal: str = option("Evidence: Kerberos principal.", "")
    offer: str = option("Evidence: name of the [offer.NAME] section.", "")
    call: str = option("The call. Empty: only the identity is asked for.", "")
    token: str = option("The token: a PKCS #11 URI, or the name of a section [token.NAME].", "pkcs11:")
    view: str = option("Behind the PIN of which [view.NAME] of the token. Empty: without a PIN of that kind.", "")
    mechanism: str = option("The mechanism.", "")
    object: MappingProxyType[str, str] = option("The object that is used: class, label, id, key_type.", {})
    makes: tuple[MappingProxyType[str, str], ...] | None = option(
        "Templates of what is made: the same, and yes or no for token, extractable and sensitive.", None
    )
    read_write: bool = option("Whether the session is a read-write one.", False)
    login: str = option("Who logs in.", "user", choices=("user", "so"))
    expected: str = option("allowed, refused, invisible, or the return value (CKR_...).", "allowed")

    @property
    def has_evidence(self) -> bool:
        """Whether it says who comes."""
        texts = (self.listener, self.subject, self.principal, self.offer)
        return any((self.user, self.group, self.dns, self.uri, self.email, *texts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One section [expect.NAME].

    Attributes:
        where: FILE:LINE.
        name: NAME.
        identity: Name of the identity, or empty.
        evidence: Who comes; None if the identity is given alone.
        question: What is asked; None if only who it is.
        view: Behind the PIN of which view; empty for none.
        expected: The outcome, or the name of a return value.
    """

    where: str
    name: str
    identity: str
    evidence: Evidence | None
    question: Question | None
    view: str
    expected: str


class Numbers:
    """Numbers for users and groups that are known by name only."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}

    def of(self, name: str) -> int:
        """Return the number of a name; always the same."""
        return self._given.setdefault(name, _UNNUMBERED + len(self._given))

    def all_of(self, accounts: tuple[int | str, ...] | None) -> Iterator[int]:
        """Yield the numbers of accounts."""
        return (each if isinstance(each, int) else self.of(each) for each in accounts or ())


def load_expectations(path: Path, config: Config, numbers: Numbers) -> list[Expectation]:
    """Read a file of expectations.

    Args:
        path: The file.
        config: The configuration that they are about.
        numbers: For names of users and groups.

    Raises:
        ConfigError: It can't be read, or something in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([f"{path}: can't be read: {reason}"]) from error
    return expectations(text, str(path), config, numbers)


def expectations(text: str, name: str, config: Config, numbers: Numbers) -> list[Expectation]:
    """Read the text of a file of expectations.

    Args:
        text: TOML.
        name: What errors call it.
        config: The configuration that they are about.
        numbers: For names of users and groups.

    Raises:
        ConfigError: Something in it is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{name}: not TOML: {error}"]) from error
    reader = Reader(text, name)
    reader.only_keys(document, (), ("expect",))
    sections = list(reader.named_sections(ExpectationOptions, document, "expect"))
    if not sections and not reader.problems:
        reader.wrong(("expect",), "at least one [expect.NAME] section is needed")
    found = []
    # Sections are looked into when each of them has values of the right types.
    for title, options in [] if reader.problems else sections:
        path = ("expect", title)
        asked = _asked(options, config, path, reader.wrong)
        found.append(
            Expectation(
                where=reader.where(path),
                name=title,
                identity=options.identity,
                evidence=_evidence(options, numbers) if options.has_evidence else None,
                question=asked,
                view=options.view,
                expected=options.expected,
            )
        )
    if reader.problems:
        raise ConfigError(reader.problems)
    return found


def question(
    token: TokenFacts, call: str, mechanism: str = "", used: Mapping[str, str] = MappingProxyType({})
) -> Question:
    """Return a question from words.

    Args:
        token: The token.
        call: Name of the function.
        mechanism: Name of the mechanism, or empty.
        used: Class, label, id and key_type of the object that is used, as in `objects` of a role; empty for none.

    Raises:
        ValueError: A word means nothing.
    """
    try:
        number = number_of(call)
    except KeyError:
        raise ValueError(f"{call} is no function") from None
    mechanisms = mechanisms_named(mechanism) if mechanism else ()
    if len(mechanisms) > 1:
        raise ValueError(f"{mechanism} is a family; one mechanism is needed")
    return Question(
        token=token, number=number, mechanism=next(iter(mechanisms), None), object=_object(used) if used else None
    )


def token_facts(text: str, config: Config) -> TokenFacts:
    """Return what is known of a token from a URI or the name of a section.

    Args:
        text: The URI or name.
        config: The configuration with the sections.

    Raises:
        ValueError: It is neither.
    """
    rule = token_rule(text)
    if not rule.name:
        return _facts(rule.uri)
    if rule.name not in config.tokens:
        raise ValueError(f"{text} is no PKCS #11 URI, and there is no section [token.{text}]")
    options = config.tokens[rule.name]
    if options.has_views:
        return facts_of(rule.name, options)
    uri = token_rule(options.uri or "pkcs11:").uri
    return _facts(uri, rule.name, options.label, options.serial)


def _facts(uri: Uri, name: str = "", label: str = "", serial: str = "") -> TokenFacts:
    return TokenFacts(
        name=name,
        label=label or uri.token or "",
        manufacturer=uri.manufacturer or "",
        model=uri.model or "",
        serial=serial or uri.serial or "",
    )


def _asked(options: ExpectationOptions, config: Config, path: tuple[str, ...], wrong: Wrong) -> Question | None:
    if options.identity and options.identity not in config.identities:
        wrong((*path, "identity"), f"there is no section [identity.{options.identity}]")
    if not options.identity and not options.has_evidence:
        wrong(path, "identity is missing, or who comes: user, dns and so on")
    if len(options.user or ()) > 1:
        wrong((*path, "user"), "is one user")
    if options.expected not in OUTCOMES and options.expected not in RV.__members__:
        wrong((*path, "expected"), f"must be one of: {', '.join(OUTCOMES)}, or CKR_...")
    if options.view and options.view not in getattr(config.tokens.get(options.token), "views", ()):
        wrong((*path, "view"), f"{options.token} is no token with the view {options.view}")
    if not options.call:
        return None
    try:
        asked = question(token_facts(options.token, config), options.call, options.mechanism, options.object)
        templates = tuple(map(_template, options.makes or ()))
    except ValueError as error:
        wrong(path, str(error))
        return None
    return Question(
        token=asked.token,
        number=asked.number,
        mechanism=asked.mechanism,
        object=asked.object,
        templates=templates,
        read_write=options.read_write,
        user_type=CKU_SO if options.login == "so" else CKU_USER,
    )


def _evidence(options: ExpectationOptions, numbers: Numbers) -> Evidence:
    return Evidence(
        transport=options.transport,
        listener=None if options.offer else options.listener,
        uid=next(numbers.all_of(options.user), None),
        gids=frozenset(numbers.all_of(options.group)),
        dns=options.dns,
        uris=options.uri,
        emails=options.email,
        subject=options.subject,
        principal=options.principal,
        offer=options.offer,
    )


def _object(table: Mapping[str, str]) -> ObjectFacts:
    rule = object_rule(table)
    uri = rule.uri or Uri()
    class_ = OBJECT_CLASSES[uri.type] if uri.type else rule.class_
    label = uri.object if rule.label is None else rule.label
    return ObjectFacts(class_, rule.key_type, (label or "").encode(), rule.id or uri.id or b"")


def _template(table: Mapping[str, str]) -> Template:
    facts = _object(known) if (known := {key: text for key, text in table.items() if key not in _FLAGS}) else None
    template = [Attribute(_FLAGS[key], _yes(key, text)) for key, text in table.items() if key in _FLAGS]
    if facts is not None:
        values = {CKA_CLASS: facts.class_, CKA_KEY_TYPE: facts.key_type, CKA_LABEL: facts.label, CKA_ID: facts.id}
        template += [Attribute(kind, value) for kind, value in values.items() if value is not None and value != b""]
    return tuple(template)


def _yes(key: str, text: str) -> bytes:
    if text not in ("yes", "no"):
        raise ValueError(f"{key} is yes or no")
    return b"\1" if text == "yes" else b"\0"
