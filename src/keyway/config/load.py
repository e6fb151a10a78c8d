"""From TOML to `Config`: everything is checked once, here, and every mistake in the file is reported at once."""

import tomllib
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from keyway.config.errors import ConfigError
from keyway.config.options import (
    ApiOptions,
    ApiPinOptions,
    AuditOptions,
    BackendOptions,
    Config,
    IdentityOptions,
    LimitOptions,
    ListenerOptions,
    ListenOptions,
    LogOptions,
    MetricsOptions,
    OfferOptions,
    RoleOptions,
    TokenOptions,
    TracesOptions,
    ViewOptions,
)
from keyway.config.reader import Reader
from keyway.config.rules import completed
from keyway.config.users import ids_of

__all__ = ["load", "missing_modules", "parse"]


def load(path: Path, *, serves: bool = True) -> Config:
    """Read a configuration file.

    Args:
        path: The file.
        serves: Whether it is for a daemon, which needs a backend.

    Raises:
        ConfigError: It can't be read, or something in it is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError([f"{path}: can't be read: {reason}"]) from error
    return parse(text, str(path), serves=serves)


def parse(text: str, name: str = "configuration", *, serves: bool = True) -> Config:
    """Turn the text of a configuration into objects.

    Args:
        text: TOML.
        name: What errors call the text: its file name.
        serves: Whether it is for a daemon, which needs a backend.

    Raises:
        ConfigError: Something in it is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{name}: not TOML: {error}"]) from error
    reader = Reader(text, name)
    reader.only_keys(
        document,
        (),
        (
            "listen",
            "listener",
            "offer",
            "backend",
            "token",
            "log",
            "metrics",
            "audit",
            "traces",
            "api",
            "identity",
            "role",
            "view",
            "limits",
        ),
    )
    config = Config(
        listen=reader.section(ListenOptions, document, ("listen",)),
        backends=MappingProxyType(dict(reader.named_sections(BackendOptions, document, "backend"))),
        tokens=MappingProxyType(dict(reader.named_sections(TokenOptions, document, "token"))),
        listeners=MappingProxyType(dict(reader.named_sections(ListenerOptions, document, "listener"))),
        offers=MappingProxyType(dict(reader.named_sections(OfferOptions, document, "offer"))),
        log=reader.section(LogOptions, document, ("log",)),
        metrics=reader.section(MetricsOptions, document, ("metrics",)),
        audit=reader.section(AuditOptions, document, ("audit",)),
        traces=reader.section(TracesOptions, document, ("traces",)) if "traces" in document else None,
        api=_api(reader, document),
        api_pins=MappingProxyType(dict(reader.named_sections(ApiPinOptions, _api_table(document), "pin", ("api",)))),
        identities=MappingProxyType(dict(reader.named_sections(IdentityOptions, document, "identity"))),
        roles=MappingProxyType(dict(reader.named_sections(RoleOptions, document, "role"))),
        views=MappingProxyType(dict(reader.named_sections(ViewOptions, document, "view"))),
        limits=reader.section(LimitOptions, document, ("limits",)),
    )
    if serves and not config.backends and not reader.problems:
        reader.wrong(("backend",), "at least one [backend.NAME] section is needed")
    if not reader.problems:
        config = completed(config, reader.wrong)
    if reader.problems:
        raise ConfigError(reader.problems)
    return config


def _api_table(document: Mapping[str, Any]) -> Mapping[str, Any]:
    table = document.get("api", {})
    return table if isinstance(table, dict) else {}


def _api(reader: Reader, document: Mapping[str, Any]) -> ApiOptions | None:
    """Return the section [api] without the sections [api.pin.NAME] in it."""
    if "api" not in document:
        return None
    table = document["api"]
    own = {key: value for key, value in table.items() if key != "pin"} if isinstance(table, dict) else table
    options: ApiOptions = reader.section(ApiOptions, document, ("api",), own)
    return options


def missing_modules(path: Path, config: Config) -> list[str]:
    """Tell, as problems, which modules of a configuration are not there, nor users to run them, nor what traces need.

    Args:
        path: The file that the configuration was read from.
        config: The configuration.
    """
    reader = Reader(path.read_text(encoding="utf-8"), str(path))
    for name, backend in config.backends.items():
        if backend.module is not None and not backend.module.is_file():
            reader.wrong(("backend", name, "module"), f"{backend.module}: no such file")
        if backend.sandbox.user:
            try:
                ids_of(backend.sandbox.user)
            except LookupError as error:
                reader.wrong(("backend", name, "sandbox", "user"), str(error))
    if config.traces is not None and not _has_opentelemetry():
        reader.wrong(("traces",), "needs OpenTelemetry: pip install 'keyway[traces]'")
    return reader.problems


def _has_opentelemetry() -> bool:
    try:
        return all(map(find_spec, ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")))
    except ModuleNotFoundError:  # Not even the package above.
        return False
