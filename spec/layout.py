"""Where the members of a shape lie in C: natural alignment, for a CK_ULONG and a pointer of the given widths."""

from __future__ import annotations

from dataclasses import dataclass

from model import Shape, Spec, SpecError

NUMBERS = ("ulong", "object", "length")


@dataclass(frozen=True)
class Platform:
    """Widths in bytes; both are also the alignment."""

    ulong: int
    pointer: int


LP64 = Platform(ulong=8, pointer=8)
ILP32 = Platform(ulong=4, pointer=4)


@dataclass(frozen=True)
class Layout:
    """Size and alignment of a structure and the offset of each of its members, in bytes."""

    size: int
    align: int
    offsets: tuple[int, ...]


def layout(spec: Spec, shape: Shape, platform: Platform) -> Layout:
    """The layout of `shape`.

    Raises:
        SpecError: a structure is in place in itself.
    """
    end, align = 0, 1
    offsets = []
    for member in shape.members:
        if member.kind in NUMBERS:
            size, member_align = platform.ulong, platform.ulong
        elif member.kind == "byte":
            size, member_align = 1, 1
        elif member.kind == "bytes":
            size, member_align = int(member.words[0]), 1
        elif member.kind == "ulongs":
            size, member_align = int(member.words[0]) * platform.ulong, platform.ulong
        elif member.kind == "struct":
            inner = layout(spec, spec.shape(member.words[0]), platform)
            size, member_align = inner.size, inner.align
        else:
            size, member_align = platform.pointer, platform.pointer
        offset = _round_up(end, member_align)
        offsets.append(offset)
        end, align = offset + size, max(align, member_align)
    return Layout(_round_up(end, align), align, tuple(offsets))


def check(spec: Spec) -> None:
    """Checks what the senders' choice of a shape by size relies on.

    Raises:
        SpecError: two shapes of one mechanism have the same size.
    """
    for mechanism in spec.mechanisms:
        for platform in (LP64, ILP32):
            for names in (mechanism.parameter, mechanism.message):
                sizes = [layout(spec, spec.shape(name), platform).size for name in names]
                if len(set(sizes)) != len(sizes):
                    raise SpecError(f"{mechanism.name}: {', '.join(names)} are not told apart by their size")


def _round_up(value: int, align: int) -> int:
    return -(-value // align) * align
