"""From TOML to `Config`: everything is checked once, here, and every mistake in the file is reported at once."""

import tomllib
from pathlib import Path
from types import MappingProxyType

from keyway.config.errors import ConfigError
from keyway.config.options import (
    BackendOptions,
    Config,
    LimitOptions,
    ListenerOptions,
    ListenOptions,
    LogOptions,
    MetricsOptions,
    OfferOptions,
    TokenOptions,
)
from keyway.config.reader import Reader
from keyway.config.rules import completed

__all__ = ["load", "missing_modules", "parse"]


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
    reader = Reader(text, name)
    reader.only_keys(document, (), ("listen", "listener", "offer", "backend", "token", "log", "metrics", "limits"))
    config = Config(
        listen=reader.section(ListenOptions, document, ("listen",)),
        backends=MappingProxyType(dict(reader.named_sections(BackendOptions, document, "backend"))),
        tokens=MappingProxyType(dict(reader.named_sections(TokenOptions, document, "token"))),
        listeners=MappingProxyType(dict(reader.named_sections(ListenerOptions, document, "listener"))),
        offers=MappingProxyType(dict(reader.named_sections(OfferOptions, document, "offer"))),
        log=reader.section(LogOptions, document, ("log",)),
        metrics=reader.section(MetricsOptions, document, ("metrics",)),
        limits=reader.section(LimitOptions, document, ("limits",)),
    )
    if not config.backends and not reader.problems:
        reader.wrong(("backend",), "at least one [backend.NAME] section is needed")
    if not reader.problems:
        config = completed(config, reader.wrong)
    if reader.problems:
        raise ConfigError(reader.problems)
    return config


def missing_modules(path: Path, config: Config) -> list[str]:
    """Tell, as problems, which modules of a configuration are not there.

    Args:
        path: The file that the configuration was read from.
        config: The configuration.
    """
    reader = Reader(path.read_text(encoding="utf-8"), str(path))
    for name, backend in config.backends.items():
        if backend.module is not None and not backend.module.is_file():
            reader.wrong(("backend", name, "module"), f"{backend.module}: no such file")
    return reader.problems
