"""Sections of the file as typed objects, checked one by one (what they say of one another: `keyway.config.rules`)."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from keyway.address import Address, Gss, Tcp, Tls
from keyway.address import parse as parse_address
from keyway.config.lines import line_of

__all__ = ["NAME_RULE", "Reader", "is_name"]

NAME_RULE: Final = "a name has letters, digits, '-', '_' and '.' only"
_NAME_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def is_name(text: str) -> bool:
    """Tell whether a text can be a name in the configuration: of a section, or of what a section names."""
    return bool(text) and _NAME_CHARACTERS.issuperset(text)


class _Kind(NamedTuple):
    """A type of an option.

    Attributes:
        name: What errors call it.
        fits: Whether what TOML gives is of that type.
        make: What the option holds; raises ValueError with the reason why it can't.
    """

    name: str
    fits: Callable[[Any], bool]
    make: Callable[[Any], Any] = lambda value: value


def _path(text: str) -> Path:
    if not Path(text).is_absolute():
        raise ValueError("must be an absolute path")
    return Path(text)


def _tcp(text: str) -> Tcp:
    if not isinstance(address := parse_address(text), Tcp):
        raise ValueError("must be tcp://host:port")
    return address


def _tls_or_gss(text: str) -> Tls | Gss:
    if not isinstance(address := parse_address(text), Tls | Gss):
        raise ValueError("must be tls://host:port or gss://host:port")
    return address


def _some(value: Any) -> tuple[Any, ...]:
    if not value:
        raise ValueError("is empty; leave it out if everything is meant")
    return tuple(value)


def _tables(value: list[dict[str, str]]) -> tuple[MappingProxyType[str, str], ...]:
    return tuple(map(MappingProxyType, _some(value)))


def _is_list_of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(type(each) in kinds for each in value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _paths(texts: list[str]) -> tuple[Path, ...]:
    return tuple(map(_path, texts))


_PATH: Final = _Kind("a path (a string)", _is_text, _path)
_ADDRESS: Final = _Kind("an address (a string)", _is_text, parse_address)

KINDS: Final[Mapping[Any, _Kind]] = {
    int: _Kind("an integer", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: _Kind("a number", lambda value: isinstance(value, int | float) and not isinstance(value, bool), float),
    bool: _Kind("true or false", lambda value: isinstance(value, bool)),
    bool | None: _Kind("true or false", lambda value: isinstance(value, bool)),
    str: _Kind("a string", lambda value: isinstance(value, str)),
    Path: _PATH,
    Path | None: _PATH,
    Address: _ADDRESS,
    Address | None: _ADDRESS,
    Tcp | None: _Kind("an address (a string)", _is_text, _tcp),
    Tls | Gss: _Kind("an address (a string)", _is_text, _tls_or_gss),
    tuple[str, ...]: _Kind("a list of strings", _is_list_of(str), tuple),
    tuple[str, ...] | None: _Kind("a list of strings", _is_list_of(str), _some),
    tuple[int | str, ...] | None: _Kind("a list of names and numbers", _is_list_of(int, str), _some),
    tuple[MappingProxyType[str, str], ...] | None: _Kind(
        "a list of tables of strings",
        lambda value: (
            _is_list_of(dict)(value) and all(isinstance(each, str) for table in value for each in table.values())
        ),
        _tables,
    ),
    tuple[Path, ...]: _Kind(
        "a list of paths", lambda value: isinstance(value, list) and all(map(_is_text, value)), _paths
    ),
    MappingProxyType[str, str]: _Kind(
        "a table of strings",
        lambda value: isinstance(value, dict) and all(isinstance(each, str) for each in value.values()),
        MappingProxyType,
    ),
}
"""The types of options."""


class Reader:
    """Turns tables into sections, and collects what is wrong on the way.

    Attributes:
        problems: What is wrong, with file, line and key.
    """

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self.problems: list[str] = []

    def wrong(self, path: tuple[str, ...], what: str) -> None:
        """Note what is wrong with a key."""
        self.problems.append(f"{self.where(path)}: {'.'.join(path)}: {what}")

    def where(self, path: tuple[str, ...]) -> str:
        """Return FILE:LINE of a key, or of the nearest table above it."""
        return f"{self._name}:{line_of(self._text, path)}"

    def only_keys(self, table: Mapping[str, Any], path: tuple[str, ...], known: tuple[str, ...]) -> None:
        """Note keys of a table that mean nothing."""
        for key in table:
            if key not in known:
                self.wrong((*path, key), f"unknown; known here: {', '.join(known)}")

    def named_sections(
        self, kind: type[Any], document: Mapping[str, Any], key: str, above: tuple[str, ...] = ()
    ) -> Iterator[tuple[str, Any]]:
        """Yield the sections [key.NAME] with their names; `above` are the keys of the table that `document` is."""
        table = document.get(key, {})
        title = ".".join((*above, key))
        if not isinstance(table, dict):
            self.wrong((*above, key), f"must be sections [{title}.NAME]")
            return
        for name, section in table.items():
            path = (*above, key, name)
            if not isinstance(section, dict):
                self.wrong(path, f"must be a section [{title}.{name}]")
            elif not is_name(name):
                self.wrong(path, NAME_RULE)
            else:
                yield name, self.section(kind, table, path, section)

    def section(self, kind: type[Any], document: Mapping[str, Any], path: tuple[str, ...], table: Any = None) -> Any:
        """Return a section as an object of a class of options."""
        table = document.get(path[-1], {}) if table is None else table
        if not isinstance(table, dict):
            self.wrong(path, f"must be a section [{'.'.join(path)}]")
            table = {}
        fields = dataclasses.fields(kind)
        self.only_keys(table, path, tuple(each.name for each in fields))
        values = {}
        for each in fields:
            if each.name in table:
                values[each.name] = self._value(each, table[each.name], (*path, each.name))
            elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
                self.wrong(path, f"{each.name} is missing")
                values[each.name] = None
        return kind(**values)

    def _value(self, each: dataclasses.Field[Any], value: Any, path: tuple[str, ...]) -> Any:
        kind: Any = each.type
        if each.name == "mode":
            return self._mode(value, path)
        if kind not in KINDS:
            return self.section(kind, {}, path, value)
        kinds = KINDS[kind]
        if not kinds.fits(value):
            self.wrong(path, f"must be {kinds.name}")
        elif "\0" in "".join(_texts(value)):
            self.wrong(path, "must not hold a zero character")
        elif (choices := each.metadata["choices"]) and value not in choices:
            self.wrong(path, f"must be one of: {', '.join(choices)}")
        elif (least := each.metadata["at_least"]) is not None and not value >= least:  # Neither is nan.
            self.wrong(path, f"must be at least {least}")
        elif (most := each.metadata["at_most"]) is not None and value > most:
            self.wrong(path, f"must be at most {most}")
        else:
            try:
                return kinds.make(value)
            except ValueError as error:
                self.wrong(path, str(error))
        return value

    def _mode(self, value: Any, path: tuple[str, ...]) -> int:
        if isinstance(value, str):
            with suppress(ValueError):
                number = int(value, 8)
                if 0 <= number <= 0o777:
                    return number
        self.wrong(path, 'must be permissions as an octal string, such as "0660"')
        return 0


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case list():
            for each in value:
                yield from _texts(each)
        case dict():
            yield from value
            yield from value.values()
