"""The form of strongswan.conf and swanctl.conf: sections in braces, one setting a line.

See strongswan.conf(5). A value runs to the end of its line, so there is never a second setting on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

from keyway.strongswan.safety import NAME_RULE, is_section_name, unsafe
from keyway.strongswan.settled import RenderError

__all__ = ["Tree", "rendered"]

Tree: TypeAlias = "Mapping[str, str | tuple[str, ...] | Tree]"
"""Settings by name; sections are trees themselves."""

_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/%@*+-]+")
"""Values that need no quotation marks."""


def rendered(tree: Tree) -> str:
    """Return the text of a file.

    Args:
        tree: What is in it.

    Raises:
        RenderError: A name or value can't be written safely.
    """
    return "".join(f"{line}\n" for line in _lines(tree, ()))


def _lines(tree: Tree, path: tuple[str, ...]) -> Iterator[str]:
    margin = "  " * len(path)
    for name, value in tree.items():
        where = (*path, name)
        if not is_section_name(name):
            raise RenderError(f"{'.'.join(where)}: {NAME_RULE}")
        match value:
            case str():
                yield f"{margin}{name} = {_value(value, where, in_list=False)}"
            case tuple():
                yield f"{margin}{name} = {', '.join(_value(each, where, in_list=True) for each in value)}"
            case _:
                yield f"{margin}{name} {{"
                yield from _lines(value, where)
                yield f"{margin}}}"


def _value(text: str, where: tuple[str, ...], *, in_list: bool) -> str:
    if reason := unsafe(text, in_list=in_list):
        raise RenderError(f"{'.'.join(where)}: {reason}")
    if _PLAIN.fullmatch(text):
        return text
    if in_list:
        raise RenderError(f"{'.'.join(where)}: holds a character that can't be written in a list")
    return f'"{text}"'
