"""What a role allows, and the facts about tokens and objects that it speaks of."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from keyway.access.patterns import label_matches
from keyway.cryptoki import Uri

__all__ = ["NO_QUOTA", "ObjectFacts", "ObjectRule", "Quota", "Role", "TokenFacts", "TokenRule"]

_ANY: Final = Uri()
_NO_CLASS: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What identifies a token.

    Attributes:
        name: NAME of its section [token.NAME], or empty.
        label: Its label, without padding, as the other texts.
        manufacturer: Its manufacturer.
        model: Its model.
        serial: Its serial number.
    """

    name: str = ""
    label: str = ""
    manufacturer: str = ""
    model: str = ""
    serial: str = ""


class ObjectFacts(NamedTuple):
    """What identifies an object, as far as it has it.

    Attributes:
        class_: CKA_CLASS.
        key_type: CKA_KEY_TYPE.
        label: CKA_LABEL; empty if there is none.
        id: CKA_ID; empty if there is none.
        on_token: CKA_TOKEN; true also where nobody knows.
    """

    class_: int | None = None
    key_type: int | None = None
    label: bytes = b""
    id: bytes = b""
    on_token: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRule:
    """Tokens that a role is for: by the name of the section, or by what a URI says of the token.

    Attributes:
        name: Of a section [token.NAME]; empty if `uri` says it.
        uri: A URI that names no object.
    """

    name: str = ""
    uri: Uri = _ANY

    def matches(self, token: TokenFacts) -> bool:
        """Tell whether a token is one of these."""
        if self.name:
            return self.name == token.name
        uri = self.uri
        return not uri.vendor and all(
            wanted is None or wanted.rstrip(" \0") == text.rstrip(" \0")
            for wanted, text in (
                (uri.token, token.label),
                (uri.manufacturer, token.manufacturer),
                (uri.model, token.model),
                (uri.serial, token.serial),
            )
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRule:
    """Objects that a role is for; all that is given must match.

    Attributes:
        class_: CKA_CLASS.
        key_type: CKA_KEY_TYPE.
        label: Pattern of CKA_LABEL.
        id: CKA_ID.
        uri: A URI that says it of the object; its label is no pattern.
    """

    class_: int | None = None
    key_type: int | None = None
    label: str | None = None
    id: bytes | None = None
    uri: Uri | None = None

    def matches(self, facts: ObjectFacts) -> bool:
        """Tell whether an object is one of these."""
        return (
            self.class_ in (None, facts.class_)
            and self.key_type in (None, facts.key_type)
            and self.id in (None, facts.id)
            and (self.label is None or label_matches(self.label, facts.label))
            and (
                self.uri is None
                or self.uri.matches_object(_NO_CLASS if facts.class_ is None else facts.class_, facts.label, facts.id)
            )
        )


class Quota(NamedTuple):
    """How much; 0 is without a limit.

    Attributes:
        sessions: Open sessions at a time.
        operations_per_second: Calls that use a key, a mechanism or an object.
        bytes_per_second: Bytes of requests.
    """

    sessions: int = 0
    operations_per_second: int = 0
    bytes_per_second: int = 0


NO_QUOTA: Final = Quota()


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a role allows. None means without a limit.

    Attributes:
        name: Of the section [role.NAME].
        tokens: The tokens that it sees.
        objects: The objects that it sees.
        mechanisms: The mechanisms that it sees.
        functions: Call numbers that it may use; of an operation, the one that starts it.
        read_only: Whether it can't change the token.
        administration: Whether it may initialise the token and set PINs.
        export: Whether keys may leave the token.
        no_padding_oracles: Whether it can't decrypt where the answer tells something about the padding.
        quota: How much.
    """

    name: str
    tokens: tuple[TokenRule, ...]
    objects: tuple[ObjectRule, ...] | None = None
    mechanisms: frozenset[int] | None = None
    functions: frozenset[int] | None = None
    read_only: bool = False
    administration: bool = False
    export: bool = False
    no_padding_oracles: bool = False
    quota: Quota = NO_QUOTA

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing that the token does for its user is kept from the role."""
        return (
            self.objects is None
            and self.mechanisms is None
            and self.functions is None
            and self.export
            and not self.read_only
            and not self.no_padding_oracles
        )

    def is_for(self, token: TokenFacts) -> bool:
        """Tell whether the role sees a token."""
        return any(rule.matches(token) for rule in self.tokens)

    def sees(self, facts: ObjectFacts) -> bool:
        """Tell whether the role sees an object of a token that it sees."""
        return self.objects is None or any(rule.matches(facts) for rule in self.objects)

    def includes(self, other: "Role") -> bool:
        """Tell whether the role allows, at a token that both see, all that another one does; it may miss cases."""
        return (
            (self.objects is None or (other.objects is not None and set(other.objects) <= set(self.objects)))
            and _includes(self.mechanisms, other.mechanisms)
            and _includes(self.functions, other.functions)
            and self.read_only <= other.read_only
            and self.administration >= other.administration
            and self.export >= other.export
            and self.no_padding_oracles <= other.no_padding_oracles
        )


def _includes(wide: frozenset[int] | None, narrow: frozenset[int] | None) -> bool:
    return wide is None or (narrow is not None and narrow <= wide)
