"""The specification tables as typed values: what spec/*.toml says, checked for consistency while loading."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGETS = ("none", "session", "slot")
STEPS = ("none", "start", "whole", "continue", "end")
EFFECTS = ("none", "session", "login", "objects", "token", "context")
ARGUMENT_KINDS = (
    "ulong",
    "bool",
    "object",
    "bytes",
    "pin",
    "name",
    "label",
    "mechanism",
    "parameter",
    "template",
    "template_out",
    "buffer",
    "fill",
    "bytes_out",
    "ulong_out",
    "object_out",
    "session_out",
    "ulongs_out",
    "objects_out",
    "info_out",
    "slot_info_out",
    "token_info_out",
    "session_info_out",
    "mechanism_info_out",
    "async_data_out",
    "reserved",
    "ignored",
)
# How an attribute's value is understood, and the kind in which it travels (docs/wire.md, section 4.2).
ATTRIBUTE_KINDS = {
    "bytes": "bytes",
    "bool": "bytes",
    "date": "bytes",
    "text": "bytes",
    "integer": "bytes",
    "version": "bytes",
    "ulong": "ulong",
    "ulongs": "ulongs",
    "template": "template",
}
# Kinds of members of a parameter structure: how many words follow the member's name.
MEMBER_KINDS = {
    "ulong": 0,
    "object": 0,
    "byte": 0,
    "bytes": 1,
    "ulongs": 1,
    "length": 0,
    "string": 1,
    "string_bits": 1,
    "string_sized": 1,
    "string_cell": 1,
    "text": 0,
    "cell": 0,
    "object_cell": 0,
    "version": 0,
    "struct": 1,
    "pointer": 1,
    "array": 2,
    "template": 1,
    "mechanism": 0,
    "choice": 2,
}


class SpecError(Exception):
    """A table contradicts itself or another one; the message names the entry."""


@dataclass(frozen=True)
class Argument:
    """One entry of a call's `args`: its kind and the C arguments that it stands for."""

    kind: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """One row of calls.toml."""

    number: int
    name: str
    since: tuple[int, int]
    target: str
    args: tuple[Argument, ...]
    local: bool
    operation: str
    step: str
    init: str
    effect: str
    repeat: bool


@dataclass(frozen=True)
class Member:
    """One member of a parameter structure: `words` are those that follow the name (see MEMBER_KINDS)."""

    kind: str
    name: str
    words: tuple[str, ...]
    out: bool


@dataclass(frozen=True)
class Shape:
    """A structure that a mechanism parameter may have, or that such a structure contains."""

    id: int
    name: str
    members: tuple[Member, ...]
    choices: tuple[tuple[int, str], ...]
    note: str

    def index(self, member: str) -> int:
        """The position of the member called `member`.

        Raises:
            SpecError: there is none.
        """
        for position, candidate in enumerate(self.members):
            if candidate.name == member:
                return position
        raise SpecError(f"{self.name}: no member {member}")


@dataclass(frozen=True)
class Mechanism:
    """A mechanism with a structured parameter: shapes by name, told apart by their C size."""

    name: str
    value: int
    parameter: tuple[str, ...]
    message: tuple[str, ...]


@dataclass(frozen=True)
class Attribute:
    """One row of attributes.toml."""

    name: str
    value: int
    kind: str
    immutable: bool
    secret: bool

    @property
    def wire(self) -> str:
        """The kind in which the value travels: bytes, ulong, ulongs or template."""
        return ATTRIBUTE_KINDS[self.kind]


@dataclass(frozen=True)
class Group:
    """Constants of one domain: within it a value has one name; `aliases` are other names for the same."""

    name: str
    title: str
    values: Mapping[str, int]
    aliases: Mapping[str, str]


@dataclass(frozen=True)
class Spec:
    """All tables."""

    calls: tuple[Call, ...]
    groups: tuple[Group, ...]
    attributes: tuple[Attribute, ...]
    shapes: tuple[Shape, ...]
    mechanisms: tuple[Mechanism, ...]

    def group(self, name: str) -> Group:
        """The constants of one domain, for example `rv`."""
        return next(group for group in self.groups if group.name == name)

    def call(self, name: str) -> Call:
        """The row of the function called `name`."""
        return next(call for call in self.calls if call.name == name)

    def shape(self, name: str) -> Shape:
        """The shape called `name`.

        Raises:
            SpecError: there is none.
        """
        for shape in self.shapes:
            if shape.name == name:
                return shape
        raise SpecError(f"no shape {name}")

    def outer_index(self, shape: Shape, member: str) -> int:
        """The position of `member` in the structures that contain or point to `shape`.

        Raises:
            SpecError: there is none, or the position is not the same in all of them.
        """
        outer = [other for other in self.shapes if any(shape.name in shape_names(other, m) for m in other.members)]
        positions = {other.index(member) for other in outer}
        if len(positions) != 1:
            raise SpecError(f"{shape.name}: ^{member} is at {sorted(positions)} of the enclosing structures")
        return positions.pop()

    def writes(self, shape: Shape) -> bool:
        """Whether the token writes to a member of `shape` or of a structure in it."""
        inner = {name for member in shape.members for name in shape_names(shape, member)}
        return any(member.out for member in shape.members) or any(self.writes(self.shape(name)) for name in inner)


def load(folder: Path) -> Spec:
    """Reads and checks calls.toml, constants.toml, attributes.toml and mechanisms.toml of `folder`.

    Raises:
        SpecError: an entry is inconsistent.
        OSError, tomllib.TOMLDecodeError: a file can't be read.
    """

    def read(name: str) -> dict[str, Any]:
        with (folder / name).open("rb") as file:
            return tomllib.load(file)

    groups = tuple(_group(row) for row in read("constants.toml")["group"])
    values = {group.name: dict(group.values) for group in groups}
    parameters = read("mechanisms.toml")
    spec = Spec(
        calls=tuple(_call(row) for row in read("calls.toml")["call"]),
        groups=groups,
        attributes=tuple(_attribute(row, values["attribute"]) for row in read("attributes.toml").get("attribute", [])),
        shapes=tuple(_shape(row, groups) for row in parameters.get("shape", [])),
        mechanisms=tuple(_mechanism(row, values["mechanism"]) for row in parameters.get("mechanism", [])),
    )
    _check_calls(spec)
    _check_shapes(spec)
    _unique("attribute", (attribute.name for attribute in spec.attributes))
    _unique("mechanism", (mechanism.name for mechanism in spec.mechanisms))
    return spec


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SpecError(message)


def _unique(what: str, items: Iterable[object]) -> None:
    seen: set[object] = set()
    for item in items:
        _require(item not in seen, f"{what} {item}: twice")
        seen.add(item)


def _call(row: Mapping[str, Any]) -> Call:
    name: str = row["name"]
    major, minor = row["since"].split(".")
    call = Call(
        number=row["number"],
        name=name,
        since=(int(major), int(minor)),
        target=row["target"],
        args=tuple(Argument(words[0], tuple(words[1:])) for words in (arg.split() for arg in row["args"])),
        local=row.get("local", False),
        operation=row.get("operation", ""),
        step=row.get("step", "none"),
        init=row.get("init", ""),
        effect=row["effect"],
        repeat=row["repeat"],
    )
    _require(call.target in TARGETS, f"{name}: target {call.target}")
    _require(call.step in STEPS, f"{name}: step {call.step}")
    _require(call.effect in EFFECTS, f"{name}: effect {call.effect}")
    for argument in call.args:
        _require(argument.kind in ARGUMENT_KINDS, f"{name}: kind {argument.kind}")
    return call


def _group(row: Mapping[str, Any]) -> Group:
    group = Group(row["name"], row["title"], row["values"], row.get("aliases", {}))
    _unique(f"{group.name}: value", group.values.values())
    for alias, name in group.aliases.items():
        _require(name in group.values, f"{alias}: stands for the unknown {name}")
        _require(alias not in group.values, f"{alias}: both a name and an alias")
    return group


def _attribute(row: Mapping[str, Any], values: Mapping[str, int]) -> Attribute:
    name: str = row["name"]
    _require(name in values, f"{name}: no such attribute in constants.toml")
    _require(row["kind"] in ATTRIBUTE_KINDS, f"{name}: kind {row['kind']}")
    return Attribute(name, values[name], row["kind"], row.get("immutable", False), row.get("secret", False))


def _mechanism(row: Mapping[str, Any], values: Mapping[str, int]) -> Mechanism:
    name: str = row["name"]
    _require(name in values, f"{name}: no such mechanism in constants.toml")
    return Mechanism(name, values[name], tuple(row.get("parameter", ())), tuple(row.get("message", ())))


def _member(owner: str, text: str) -> Member:
    words = text.split()
    out = words[-1] == "out"
    if out:
        words.pop()
    kind, name, rest = words[0], words[1], tuple(words[2:])
    _require(kind in MEMBER_KINDS, f"{owner}.{name}: kind {kind}")
    _require(len(rest) == MEMBER_KINDS[kind], f"{owner}.{name}: {kind} takes {MEMBER_KINDS[kind]} more words")
    return Member(kind, name, rest, out)


def _shape(row: Mapping[str, Any], groups: Iterable[Group]) -> Shape:
    numbers = {name: value for group in groups for name, value in group.values.items()}
    choices: Mapping[str, str] = row.get("choices", {})
    for name in choices:
        _require(name in numbers, f"{row['name']}: unknown constant {name}")
    return Shape(
        id=row["id"],
        name=row["name"],
        members=tuple(_member(row["name"], text) for text in row["members"]),
        choices=tuple((numbers[name], shape) for name, shape in choices.items()),
        note=row.get("note", ""),
    )


def _check_calls(spec: Spec) -> None:
    for position, call in enumerate(spec.calls, start=1):
        _require(call.number == position, f"{call.name}: number {call.number} at position {position}")
    names = {call.name for call in spec.calls}
    for call in spec.calls:
        _require(not call.init or call.init in names, f"{call.name}: init {call.init}")
    _unique("call", (call.name for call in spec.calls))


def _check_shapes(spec: Spec) -> None:
    _unique("shape id", (shape.id for shape in spec.shapes))
    _unique("shape", (shape.name for shape in spec.shapes))
    for shape in spec.shapes:
        _unique(f"{shape.name}: member", (member.name for member in shape.members))
        for member in shape.members:
            for name in shape_names(shape, member):
                spec.shape(name)
        kinds = {member.kind for member in shape.members}
        _require(bool(shape.choices) == ("choice" in kinds), f"{shape.name}: choices without a member, or the reverse")
        _require(shape.name not in _reached(spec, shape), f"{shape.name}: contains or points to itself")
    for mechanism in spec.mechanisms:
        for name in mechanism.parameter + mechanism.message:
            spec.shape(name)


def _reached(spec: Spec, shape: Shape) -> set[str]:
    reached: set[str] = set()
    pending = [shape]
    while pending:
        current = pending.pop()
        for name in {name for member in current.members for name in shape_names(current, member)} - reached:
            reached.add(name)
            pending.append(spec.shape(name))
    return reached


def shape_names(shape: Shape, member: Member) -> tuple[str, ...]:
    """The names of the shapes that `member` of `shape` contains or points to."""
    if member.kind in ("struct", "pointer", "array"):
        return (member.words[0],)
    if member.kind == "choice":
        return tuple(name for _, name in shape.choices)
    return ()
