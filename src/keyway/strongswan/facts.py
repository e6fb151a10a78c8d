"""What was found on a machine: the token as charon sees it, and charon's surroundings."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["Charon", "Facts", "SeenObject", "SeenSlot", "slots_of"]


@dataclass(frozen=True, slots=True)
class SeenObject:
    """An object in a token.

    Attributes:
        kind: `certificate`, `public` or `private`.
        id: CKA_ID in hexadecimal.
        label: CKA_LABEL.
        certificate: CKA_VALUE of a certificate.
        public: The public key in a form in which equal keys are equal texts (`certificates.public_text`); empty if it can't be read.
    """

    kind: str
    id: str
    label: str = ""
    certificate: bytes = b""
    public: str = ""


@dataclass(frozen=True, slots=True)
class SeenSlot:
    """A slot with a token in it.

    Attributes:
        number: Its number.
        label: The token's label.
        is_initialised: Whether the token is.
        objects: What is seen without a login.
        login: What C_Login answered: a name such as CKR_OK; empty if nobody tried.
        private: What else is seen after the login.
    """

    number: int
    label: str
    is_initialised: bool = True
    objects: tuple[SeenObject, ...] = ()
    login: str = ""
    private: tuple[SeenObject, ...] = ()


def slots_of(slots: Iterable[SeenSlot]) -> dict[str, int]:
    """Return the slots of tokens by label; the first one of several."""
    found: dict[str, int] = {}
    for each in slots:
        found.setdefault(each.label, each.number)
    return found


@dataclass(frozen=True, slots=True)
class Charon:
    """charon, or what will start it.

    Attributes:
        name: What it is called in a report: a process or a file.
        environment: What it has in its environment.
    """

    name: str
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it.

    Attributes:
        slots: What the module shows.
        failure: Why the module shows nothing; empty if it does.
        charon: charon; None if there is none.
        has_own_file: Whether libkeyway.so has a file that tells it where the gateway is.
        engines: OpenSSL engines by which charon could load a key that it did not find.
        pin_files: What is wrong with files for PINs, by the name of the token's section.
    """

    slots: tuple[SeenSlot, ...] = ()
    failure: str = ""
    charon: Charon | None = None
    has_own_file: bool = False
    engines: tuple[str, ...] = ()
    pin_files: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
