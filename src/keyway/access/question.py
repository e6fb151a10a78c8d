"""A question about a policy, its answer, and what each role says to it: for `keyway policy`."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from keyway.access import checks
from keyway.access.calls import FREE, number_of
from keyway.access.checks import Finding
from keyway.access.made import MAKES
from keyway.access.policy import Access, TokenAccess
from keyway.access.role import ObjectFacts, Role, TokenFacts
from keyway.cryptoki import RV, Mechanism, Template
from keyway.cryptoki.constants import CKF_RW_SESSION, CKF_SERIAL_SESSION, CKU_USER

__all__ = ["Answer", "Question", "Reason", "answer", "reasons"]

_SHOWING: Final = number_of("C_GetMechanismInfo")
_OPENING: Final = number_of("C_OpenSession")
_LOGINS: Final = frozenset(map(number_of, ("C_Login", "C_LoginUser")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whether a call may be made.

    Attributes:
        token: The token.
        number: The call.
        mechanism: Its mechanism, if it has one.
        object: The object that it uses, if it uses one.
        templates: Of what it makes.
        read_write: Whether its session is a read-write one.
        user_type: CK_USER_TYPE of who logs in.
    """

    token: TokenFacts
    number: int
    mechanism: int | None = None
    object: ObjectFacts | None = None
    templates: tuple[Template, ...] = ()
    read_write: bool = False
    user_type: int = CKU_USER

    @property
    def flags(self) -> int:
        """The flags of C_OpenSession."""
        return CKF_SERIAL_SESSION | (CKF_RW_SESSION if self.read_write else 0)

    @property
    def objects(self) -> tuple[ObjectFacts, ...]:
        """The objects that it uses."""
        return () if self.object is None else (self.object,)


class Answer(NamedTuple):
    """Whether a call may be made.

    Attributes:
        rv: The CK_RV that refuses it; None if it may.
        is_invisible: Whether token, mechanism or object are not there for the identity.
    """

    rv: int | None
    is_invisible: bool = False


class Reason(NamedTuple):
    """What a role says of one side of a call.

    Attributes:
        side: token, call, session, login, mechanism, object, change or template.
        finding: What it says.
    """

    side: str
    finding: Finding


def answer(access: Access, question: Question) -> Answer:
    """Answer a question.

    Args:
        access: What the roles of the identity allow.
        question: The question.
    """
    at_token = access.on(question.token)
    if at_token is None:
        return Answer(RV.CKR_SLOT_ID_INVALID, is_invisible=True)
    rv = _refusal(at_token, question)
    hides_mechanism = (
        rv == RV.CKR_MECHANISM_INVALID
        and question.mechanism is not None
        and not at_token.shows_mechanism(question.mechanism)
    )
    return Answer(rv, is_invisible=hides_mechanism or rv == RV.CKR_OBJECT_HANDLE_INVALID)


def _refusal(at_token: TokenAccess, question: Question) -> int | None:
    if question.number == _OPENING:
        return at_token.opening(question.flags)
    if question.number in _LOGINS:
        return at_token.login(question.user_type)
    if question.number == _SHOWING and question.mechanism is not None:
        return None if at_token.shows_mechanism(question.mechanism) else RV.CKR_MECHANISM_INVALID
    return at_token.allows(
        question.number,
        mechanism=None if question.mechanism is None else Mechanism(question.mechanism),
        objects=question.objects,
        templates=question.templates,
        read_write=question.read_write,
    )


def reasons(roles: Iterable[Role], question: Question) -> Iterator[tuple[Role, list[Reason]]]:
    """Yield, for each role, what it says to a question, up to its first no.

    Args:
        roles: Of the identity.
        question: The question.
    """
    for role in roles:
        said: list[Reason] = []
        for reason in _reasons(role, question):
            said.append(reason)
            if reason.finding.rv is not None:
                break
        yield role, said


def _reasons(role: Role, question: Question) -> Iterator[Reason]:
    number = question.number
    yield Reason("token", _token(role, question.token))
    yield Reason("call", checks.call(role, number))
    if number == _OPENING:
        yield Reason("session", checks.opening(role, question.flags))
    if number in _LOGINS:
        yield Reason("login", checks.login(role, question.user_type))
    if question.mechanism is not None and (number not in FREE or number == _SHOWING):
        yield Reason("mechanism", checks.mechanism(role, number, (question.mechanism,)))
    if question.object is not None and number not in FREE:
        yield Reason("object", checks.sight(role, question.object))
    if number in checks.CHANGES:
        yield Reason("change", checks.changes(role, number, question.objects, read_write=question.read_write))
    if question.templates and number in MAKES:
        base = question.object or ObjectFacts(on_token=False)
        made = checks.making(role, number, question.templates, base, read_write=question.read_write)
        yield Reason("template", made)


def _token(role: Role, token: TokenFacts) -> Finding:
    if role.is_for(token):
        return Finding(None, "tokens", "has one that matches it")
    return Finding(RV.CKR_SLOT_ID_INVALID, "tokens", "has none that matches it")
