"""The configuration: typed options, the loader, and where native parts are found."""

from keyway.config.errors import ConfigError
from keyway.config.load import load, missing_modules, parse
from keyway.config.options import (
    BackendOptions,
    Config,
    LimitOptions,
    ListenerOptions,
    ListenOptions,
    LogOptions,
    OfferOptions,
    TlsOptions,
    TokenOptions,
)

__all__ = [
    "BackendOptions",
    "Config",
    "ConfigError",
    "LimitOptions",
    "ListenOptions",
    "ListenerOptions",
    "LogOptions",
    "OfferOptions",
    "TlsOptions",
    "TokenOptions",
    "load",
    "missing_modules",
    "parse",
]
