"""Puts the hand-written values of kinds.json and members.json into calls: calls.json and shapes.json.

Only concatenation happens here (docs/wire.md, sections 3 and 4.1), so that no codec takes part in making what codecs are tested with.
`--check` compares instead of writing.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parents[1] / "src"))

from keyway.cryptoki import (  # noqa: E402
    CALLS,
    SHAPES,
    Call,
    MemberKind,
    Shape,
    table,
)

Entry = dict[str, Any]

HEADER_OBJECT = 0x2A7
"""The handle that stands in the header where a call has an object."""


def load(name: str) -> list[Entry]:
    """Read one of the hand-written catalogues."""
    entries: list[Entry] = json.loads((FOLDER / name).read_text())
    return entries


class Calls:
    """Requests and replies, from the entries of kinds.json."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], list[Entry]] = {}
        for entry in load("kinds.json"):
            self.entries.setdefault((entry["kind"], entry["direction"]), []).append(entry)

    def of(self, call: Call, direction: str) -> list[list[Entry]]:
        """Return the entries that each argument may have, for those that travel."""
        kinds = [argument.kind.value for argument in call.args]
        return [self.entries[kind, direction] for kind in kinds if (kind, direction) in self.entries]

    def all(self) -> Iterator[Entry]:
        """Yield for each call as many vectors as it takes to use every entry of its rarest kinds once."""
        used: set[str] = set()
        for direction in ("request", "reply"):
            # Calls with few arguments first, so that each entry stands in a vector that is easy to read.
            for call in sorted(CALLS, key=lambda call: (len(call.args), call.number)):
                if call.local:
                    continue
                choices = self.of(call, direction)
                rounds = max((len(column) for column in choices if self._fresh(column, used)), default=1)
                for turn in range(rounds):
                    row = [column[turn % len(column)] for column in choices]
                    yield self._vector(call, direction, row)
                used.update(json.dumps(entry) for column in choices for entry in column)

    @staticmethod
    def _fresh(column: list[Entry], used: set[str]) -> bool:
        return any(json.dumps(entry) not in used for entry in column)

    @staticmethod
    def _vector(call: Call, direction: str, row: list[Entry]) -> Entry:
        body: list[str] = []
        values: list[Entry] = []
        names: list[str] = []
        object_ = 0
        for entry in row:
            if entry["kind"] == "object" and not object_:
                object_ = HEADER_OBJECT
                values.append({"ulong": HEADER_OBJECT})
                names.append("object: a handle in the header")
                continue
            body.append(entry["bytes"])
            values.append(entry["value"])
            names.append(f"{entry['kind']}: {entry['name']}")
        return {
            "name": f"{call.name} {direction}" + (f" ({'; '.join(names)})" if names else ""),
            "call": call.name,
            "direction": direction,
            "object": object_,
            "body": " ".join(body),
            "values": values,
        }


class Shapes:
    """Parameters of every shape, from the entries of members.json."""

    def __init__(self) -> None:
        self.entries: dict[str, list[Entry]] = {}
        for entry in load("members.json"):
            self.entries.setdefault(entry["kind"], []).append(entry)

    def all(self) -> Iterator[Entry]:
        """Yield for each shape as many vectors as its most varied member has entries."""
        for shape in SHAPES.values():
            turns = max((self._variety(member) for member in travelling(shape)), default=1)
            for turn in range(turns):
                bytes_, members = self._members(shape, turn)
                yield {
                    "name": f"C_DigestInit request ({shape.name}, {turn + 1} of {turns})",
                    "call": "C_DigestInit",
                    "direction": "request",
                    "object": 0,
                    "body": f"01 0000000080000001 02 {shape.id:04x} {bytes_}".strip(),
                    "values": [
                        {
                            "mechanism": {
                                "type": 0x8000_0001,
                                "parameter": {"shape": shape.id, "members": members},
                            }
                        }
                    ],
                }

    def _variety(self, member: table.Member) -> int:
        if member.kind in (MemberKind.POINTER, MemberKind.ARRAY):
            return 3
        return len(self.entries.get(member.kind.value, [0]))

    def _members(self, shape: Shape, turn: int) -> tuple[str, list[Entry]]:
        pairs = [self._member(member, turn) for member in travelling(shape)]
        return " ".join(bytes_ for bytes_, _ in pairs), [value for _, value in pairs]

    def _member(self, member: table.Member, turn: int) -> tuple[str, Entry]:
        match member.kind:
            case MemberKind.BYTES:
                data = bytes((turn + position) & 0xFF for position in range(member.count)).hex()
                return data, {"array": data}
            case MemberKind.ULONGS:
                numbers = [turn + position for position in range(member.count)]
                return " ".join(f"{number:016x}" for number in numbers), {"ulongs": numbers}
            case MemberKind.STRUCT:
                bytes_, members = self._members(SHAPES[member.shape], turn)
                return bytes_, {"struct": members}
            case MemberKind.POINTER:
                if turn % 3 == 1:
                    return "00", {"pointer": None}
                bytes_, members = self._members(SHAPES[member.shape], turn)
                return f"01 {bytes_}", {"pointer": members}
            case MemberKind.ARRAY:
                if turn % 3 == 1:
                    return "ffffffff 0000000000000002", {"structs": {"null": 2}}
                rows = [self._members(SHAPES[member.shape], turn + row) for row in range(2 - turn % 3)]
                return f"{len(rows):08x} " + " ".join(b for b, _ in rows), {"structs": [m for _, m in rows]}
            case kind:
                column = self.entries[kind.value]
                entry = column[turn % len(column)]
                return entry["bytes"], entry["value"]


def travelling(shape: Shape) -> list[table.Member]:
    """Return the members of a shape that have a value on the wire."""
    return [member for member in shape.members if member.kind is not MemberKind.LENGTH]


def composed() -> dict[str, str]:
    """Return the content of the composed files by name."""
    files = {"calls.json": list(Calls().all()), "shapes.json": list(Shapes().all())}
    return {
        name: "[\n" + ",\n".join(json.dumps(vector) for vector in vectors) + "\n]\n" for name, vectors in files.items()
    }


def main(arguments: list[str]) -> int:
    """Write the composed files, or compare them with `--check`."""
    stale = [name for name, text in composed().items() if not _is(FOLDER / name, text)]
    if "--check" not in arguments:
        for name, text in composed().items():
            (FOLDER / name).write_text(text)
        return 0
    for name in stale:
        sys.stderr.write(f"{name} is stale: run python tests/vectors/compose.py\n")
    return 1 if stale else 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
