"""The configuration: typed options, the loader, and where native parts are found."""

from keyway.config.errors import ConfigError
from keyway.config.load import load, missing_modules, parse
from keyway.config.options import (
    ApiOptions,
    ApiPinOptions,
    AuditOptions,
    BackendOptions,
    Config,
    EntranceOptions,
    LimitOptions,
    ListenerOptions,
    ListenOptions,
    LogOptions,
    MetricsOptions,
    OfferOptions,
    TlsOptions,
    TokenOptions,
)
from keyway.config.pools import MemberOptions, error_classes_of, members_of

__all__ = [
    "ApiOptions",
    "ApiPinOptions",
    "AuditOptions",
    "BackendOptions",
    "Config",
    "ConfigError",
    "EntranceOptions",
    "LimitOptions",
    "ListenOptions",
    "ListenerOptions",
    "LogOptions",
    "MemberOptions",
    "MetricsOptions",
    "OfferOptions",
    "TlsOptions",
    "TokenOptions",
    "error_classes_of",
    "load",
    "members_of",
    "missing_modules",
    "parse",
]
