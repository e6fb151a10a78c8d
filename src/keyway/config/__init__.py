"""The configuration: typed options, the loader, and where native parts are found."""

from keyway.config.errors import ConfigError
from keyway.config.load import load, missing_modules, parse
from keyway.config.options import BackendOptions, Config, LimitOptions, ListenOptions, LogOptions, TokenOptions

__all__ = [
    "BackendOptions",
    "Config",
    "ConfigError",
    "LimitOptions",
    "ListenOptions",
    "LogOptions",
    "TokenOptions",
    "load",
    "missing_modules",
    "parse",
]
