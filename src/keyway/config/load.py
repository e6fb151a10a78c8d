"""From TOML to `Config`: everything is checked once, here, and every mistake in the file is reported at once."""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

from keyway.config.errors import ConfigError
from keyway.config.lines import line_of
from keyway.config.options import BackendOptions, Config, LimitOptions, ListenOptions, LogOptions, TokenOptions
from keyway.cryptoki import Uri, UriError

__all__ = ["load", "missing_modules", "parse"]

TYPE_NAMES = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a string",
    Path: "a path (a string)",
    MappingProxyType[str, str]: "a table of strings",
}
NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")


def load(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigError: It can't be read, or something in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([f"{path}: can't be read: {reason}"]) from error
    return parse(text, str(path))


def parse(text: str, name: str = "configuration") -> Config:
    """Turn the text of a configuration into objects.

    Args:
        text: TOML.
        name: What errors call the text: its file name.

    Raises:
        ConfigError: Something in it is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{name}: not TOML: {error}"]) from error
    reader = _Reader(text, name)
    reader.only_keys(document, (), ("listen", "backend", "token", "log", "limits"))
    config = Config(
        listen=reader.section(ListenOptions, document, ("listen",)),
        backends=MappingProxyType(dict(reader.named_sections(BackendOptions, document, "backend"))),
        tokens=MappingProxyType(dict(reader.named_sections(TokenOptions, document, "token"))),
        log=reader.section(LogOptions, document, ("log",)),
        limits=reader.section(LimitOptions, document, ("limits",)),
    )
    if not config.backends and not reader.problems:
        reader.wrong(("backend",), "at least one [backend.NAME] section with a module is needed")
    if not reader.problems:
        config = dataclasses.replace(config, tokens=reader.tokens(config))
    if reader.problems:
        raise ConfigError(reader.problems)
    return config


def missing_modules(path: Path, config: Config) -> list[str]:
    """Tell, as problems, which modules of a configuration are not there.

    Args:
        path: The file that the configuration was read from.
        config: The configuration.
    """
    reader = _Reader(path.read_text(encoding="utf-8"), str(path))
    for name, backend in config.backends.items():
        if not backend.module.is_file():
            reader.wrong(("backend", name, "module"), f"{backend.module}: no such file")
    return reader.problems


class _Reader:
    """Collects what is wrong on the way."""

    def __init__(self, text: str, name: str) -> None:
        self._text = text
        self._name = name
        self.problems: list[str] = []

    def wrong(self, path: tuple[str, ...], what: str) -> None:
        key = ".".join(path)
        self.problems.append(f"{self._name}:{line_of(self._text, path)}: {key}: {what}")

    def only_keys(self, table: Mapping[str, Any], path: tuple[str, ...], known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                self.wrong((*path, key), f"unknown; known here: {', '.join(known)}")

    def named_sections(self, kind: type[Any], document: Mapping[str, Any], key: str) -> Iterator[tuple[str, Any]]:
        table = document.get(key, {})
        if not isinstance(table, dict):
            self.wrong((key,), f"must be sections [{key}.NAME]")
            return
        for name, section in table.items():
            if not isinstance(section, dict):
                self.wrong((key, name), f"must be a section [{key}.{name}]")
            elif not name or not NAME_CHARACTERS.issuperset(name):
                self.wrong((key, name), "a name has letters, digits, '-', '_' and '.' only")
            else:
                yield name, self.section(kind, table, (key, name), section)

    def section(self, kind: type[Any], document: Mapping[str, Any], path: tuple[str, ...], table: Any = None) -> Any:
        table = document.get(path[-1], {}) if table is None else table
        if not isinstance(table, dict):
            self.wrong(path, f"must be a section [{'.'.join(path)}]")
            table = {}
        fields = dataclasses.fields(kind)
        self.only_keys(table, path, tuple(each.name for each in fields))
        values = {}
        for each in fields:
            if each.name in table:
                values[each.name] = self.value(each, table[each.name], (*path, each.name))
            elif each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING:
                self.wrong(path, f"{each.name} is missing")
                values[each.name] = None
        return kind(**values)

    def value(self, each: dataclasses.Field[Any], value: Any, path: tuple[str, ...]) -> Any:
        kind: Any = each.type
        if each.name == "mode":
            return self.mode(value, path)
        fits = {
            int: isinstance(value, int) and not isinstance(value, bool),
            float: isinstance(value, int | float) and not isinstance(value, bool),
            bool: isinstance(value, bool),
            str: isinstance(value, str),
            Path: isinstance(value, str) and bool(value),
            MappingProxyType[str, str]: isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
        }[kind]
        if not fits:
            self.wrong(path, f"must be {TYPE_NAMES[kind]}")
        elif isinstance(value, str) and "\0" in value:
            self.wrong(path, "must not hold a zero character")
        elif (choices := each.metadata["choices"]) and value not in choices:
            self.wrong(path, f"must be one of: {', '.join(choices)}")
        elif (least := each.metadata["at_least"]) is not None and value < least:
            self.wrong(path, f"must be at least {least}")
        elif (most := each.metadata["at_most"]) is not None and value > most:
            self.wrong(path, f"must be at most {most}")
        elif kind is Path:
            if not Path(value).is_absolute():
                self.wrong(path, "must be an absolute path")
            return Path(value)
        elif kind is float:
            return float(value)
        elif isinstance(value, dict):
            return MappingProxyType(value)
        return value

    def mode(self, value: Any, path: tuple[str, ...]) -> int:
        if isinstance(value, str):
            with suppress(ValueError):
                number = int(value, 8)
                if 0 <= number <= 0o777:
                    return number
        self.wrong(path, 'must be permissions as an octal string, such as "0660"')
        return 0

    def uri(self, text: str, path: tuple[str, ...]) -> None:
        try:
            uri = Uri.parse(text)
        except UriError as error:
            self.wrong(path, f"no PKCS #11 URI: {error}")
            return
        if uri.names_object:
            self.wrong(path, "names an object, not a token")
        elif uri.pin_value is not None or uri.pin_source is not None:
            self.wrong(path, "must not hold a PIN")

    def tokens(self, config: Config) -> MappingProxyType[str, TokenOptions]:
        """Check what sections say of one another, and fill in the only backend."""
        tokens: dict[str, TokenOptions] = {}
        slots: dict[int, str] = {}
        for name, token in config.tokens.items():
            path = ("token", name)
            if not token.backend and len(config.backends) == 1:
                token = dataclasses.replace(token, backend=next(iter(config.backends)))
            if not token.backend:
                self.wrong(path, "backend is missing, and there are several")
            elif token.backend not in config.backends:
                self.wrong((*path, "backend"), f"there is no section [backend.{token.backend}]")
            if not (token.uri or token.label or token.serial or token.backend_slot >= 0):
                self.wrong(path, "one of uri, label, serial and backend_slot is needed")
            if token.uri:
                self.uri(token.uri, (*path, "uri"))
            if token.slot in slots:
                self.wrong((*path, "slot"), f"slot {token.slot} is also that of token.{slots[token.slot]}")
            if token.slot >= 0:
                slots[token.slot] = name
            tokens[name] = token
        return MappingProxyType(tokens)
