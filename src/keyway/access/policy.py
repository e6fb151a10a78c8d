"""What an identity may do: whatever a single one of its roles allows as a whole.

Rights of two roles are never put together. If one role may sign with key X, and another may decrypt with key Y, then nobody decrypts with X;
so a call with all that it uses is judged at once, by `TokenAccess.allows`. The other methods judge one side of it, as early as that is known,
and are what `allows` begins with.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

from keyway.access import checks
from keyway.access.calls import FREE, number_of
from keyway.access.checks import Finding
from keyway.access.made import inner_mechanisms, inner_templates
from keyway.access.mechanisms import FLAGS
from keyway.access.role import ObjectFacts, Quota, Role, TokenFacts
from keyway.cryptoki import CALLS, RV, Mechanism, Parameter, Structured, Template

__all__ = ["Access", "TokenAccess"]

_READING: Final = number_of("C_GetAttributeValue")
_REMEMBERED: Final = 4096
_NOTHING: Final = ObjectFacts(on_token=False)
_RANK: Final = (RV.CKR_FUNCTION_NOT_SUPPORTED, RV.CKR_MECHANISM_INVALID, RV.CKR_OBJECT_HANDLE_INVALID)
"""Refusals that say less than others, least first. Of several the one is told that says most, whatever the order of roles."""


class Access:
    """What the roles of an identity allow."""

    def __init__(self, roles: Iterable[Role]) -> None:
        """Prepare.

        Args:
            roles: In any order.
        """
        self._roles = tuple(roles)
        self._known: dict[frozenset[int], TokenAccess] = {}

    def on(self, token: TokenFacts) -> "TokenAccess | None":
        """Return what is allowed at a token; None if it is not visible."""
        places = frozenset(place for place, role in enumerate(self._roles) if role.is_for(token))
        if not places:
            return None
        if places not in self._known:
            self._known[places] = TokenAccess([self._roles[place] for place in sorted(places)])
        return self._known[places]


class TokenAccess:
    """What roles allow at a token that all of them see.

    Attributes:
        sees_all_objects: Whether it makes no difference which object a call uses.
        allows_all_mechanisms: Whether it makes no difference which mechanism a call uses.
        exports: Whether keys may be read and made extractable, whichever they are.
        quota: How much: of each limit the widest of all roles.
    """

    def __init__(self, roles: Iterable[Role]) -> None:
        """Prepare.

        Args:
            roles: At least one.
        """
        roles = tuple(roles)
        self.quota: Final = Quota(
            *(0 if 0 in each else max(each) for each in zip(*(r.quota for r in roles), strict=True))
        )
        self._roles: Final = _without_included(roles)
        self.sees_all_objects: Final = all(role.objects is None for role in self._roles)
        self.allows_all_mechanisms: Final = all(
            role.mechanisms is None and not role.no_padding_oracles for role in self._roles
        )
        self.exports: Final = all(role.export for role in self._roles)
        self._remembered: dict[tuple[int, int | None, tuple[ObjectFacts, ...], bool], int | None] = {}
        self._calls: Final = tuple(map(self._call, range(len(CALLS) + 1)))

    def call(self, number: int) -> int | None:
        """Return the CK_RV that refuses a call whatever its arguments; None if it may be made.

        Args:
            number: Of the call. Those that the standard does not have are refused.
        """
        return self._calls[number] if 0 < number < len(self._calls) else RV.CKR_FUNCTION_NOT_SUPPORTED

    def opening(self, flags: int) -> int | None:
        """Return the CK_RV that refuses C_OpenSession with these flags."""
        return self._any(lambda role: checks.opening(role, flags))

    def login(self, user_type: int) -> int | None:
        """Return the CK_RV that refuses C_Login or C_LoginUser for this CK_USER_TYPE."""
        return self._any(lambda role: checks.login(role, user_type))

    def mechanism(self, number: int, mechanism: int, parameter: Parameter | None = None) -> int | None:
        """Return the CK_RV that refuses a mechanism for a call.

        Args:
            number: Of the call.
            mechanism: CK_MECHANISM_TYPE.
            parameter: Its parameter, in which there may be other mechanisms.
        """
        used = _used(None if parameter is None else Mechanism(mechanism, parameter)) or (mechanism,)
        return self._any(lambda role: checks.mechanism(role, number, used))

    def shows_mechanism(self, mechanism: int) -> bool:
        """Tell whether C_GetMechanismList and C_GetMechanismInfo know a mechanism."""
        return any(role.mechanisms is None or mechanism in role.mechanisms for role in self._roles)

    def mechanism_flags(self, mechanism: int, flags: int) -> int:
        """Return the flags of CK_MECHANISM_INFO without those that say what no role allows, whichever the key.

        Args:
            mechanism: CK_MECHANISM_TYPE.
            flags: What the token says. Flags that stand for no call stay.
        """
        return flags & ~self._hidden_flags(mechanism)

    def _hidden_flags(self, mechanism: int) -> int:
        return sum(flag for flag, calls in FLAGS.items() if not any(self._begins(each, mechanism) for each in calls))

    def _begins(self, number: int, mechanism: int) -> bool:
        return any(
            checks.call(role, number).rv is None and checks.mechanism(role, number, (mechanism,)).rv is None
            for role in self._roles
        )

    def object(self, facts: ObjectFacts) -> bool:
        """Tell whether an object is visible."""
        return any(role.sees(facts) for role in self._roles)

    def making(self, number: int, *templates: Template, base: ObjectFacts = _NOTHING) -> int | None:
        """Return the CK_RV that refuses what a call would make.

        Args:
            number: Of the call.
            templates: Its templates; of C_GenerateKeyPair first the public key's.
            base: The object that is copied or changed.
        """
        return self._any(lambda role: checks.making(role, number, templates, base))

    def reading(self, facts: ObjectFacts, attributes: Collection[int]) -> int | None:
        """Return the CK_RV that refuses C_GetAttributeValue of a visible object.

        Args:
            facts: The object.
            attributes: The types of the attributes that are asked for.
        """

        def judge(role: Role) -> Finding:
            return _first(
                checks.call(role, _READING), checks.sight(role, facts), checks.reading(role, facts, attributes)
            )

        return self._any(judge)

    def allows(
        self,
        number: int,
        *,
        mechanism: Mechanism | None = None,
        objects: Sequence[ObjectFacts] = (),
        templates: Sequence[Template] = (),
        read_write: bool = True,
    ) -> int | None:
        """Return the CK_RV that refuses a call with all that it uses; None if one role allows all of it.

        What is hidden is reported like what is not there, before anything that tells more.

        Args:
            number: Of the call.
            mechanism: Its mechanism. Of C_DigestKey that of the operation, if it is known.
            objects: The objects whose handles are in its arguments, also in the mechanism's parameter; first the one that is copied or changed.
            templates: Its templates, without those in the mechanism's parameter.
            read_write: Whether the session is a read-write one.
        """
        if templates or (mechanism is not None and isinstance(mechanism.parameter, Structured)):
            return self._judged(number, mechanism, tuple(objects), templates, read_write=read_write)
        # What a client does again and again is remembered: an answer depends on nothing else.
        key = (number, None if mechanism is None else mechanism.type, tuple(objects), read_write)
        if key not in self._remembered:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[key] = self._judged(number, mechanism, key[2], (), read_write=read_write)
        return self._remembered[key]

    def _judged(
        self,
        number: int,
        mechanism: Mechanism | None,
        objects: tuple[ObjectFacts, ...],
        templates: Sequence[Template],
        *,
        read_write: bool,
    ) -> int | None:
        refused = self.call(number)
        if refused is not None or number in FREE:
            return refused
        used = _used(mechanism)
        refused = self._any(lambda role: checks.mechanism(role, number, used))
        if refused is not None:
            return refused
        if not all(map(self.object, objects)):
            return RV.CKR_OBJECT_HANDLE_INVALID
        templates = (*templates, *inner_templates(mechanism))
        base = objects[0] if objects else _NOTHING

        def judge(role: Role) -> Finding:
            return _first(
                checks.call(role, number),
                checks.mechanism(role, number, used),
                *(checks.sight(role, facts) for facts in objects),
                checks.changes(role, number, objects, read_write=read_write),
                checks.making(role, number, templates, base, read_write=read_write),
            )

        refused = self._any(judge)
        # Each is visible, only not together.
        return RV.CKR_ACTION_PROHIBITED if refused in _RANK else refused

    def _call(self, number: int) -> int | None:
        return self._any(lambda role: checks.call(role, number))

    def _any(self, judge: Callable[[Role], Finding]) -> int | None:
        refused = []
        for role in self._roles:
            rv = judge(role).rv
            if rv is None:
                return None
            refused.append(rv)
        return max(refused, key=_says)


def _used(mechanism: Mechanism | None) -> tuple[int, ...]:
    return () if mechanism is None else (mechanism.type, *inner_mechanisms(mechanism))


def _first(*findings: Finding) -> Finding:
    return next((each for each in findings if each.rv is not None), findings[-1])


def _says(rv: int) -> tuple[int, int]:
    return (_RANK.index(RV(rv)) if rv in _RANK else len(_RANK), rv)


def _without_included(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    """Return roles without those that another one makes needless."""
    kept: list[Role] = []
    for role in roles:
        if any(other.includes(role) for other in kept):
            continue
        kept = [other for other in kept if not role.includes(other)]
        kept.append(role)
    return tuple(kept)
