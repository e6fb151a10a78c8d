"""The configuration: typed options, the loader, and where native parts are found."""

from keyway.config.access import identity_rules_of, roles_of
from keyway.config.accounts import resolved
from keyway.config.errors import ConfigError
from keyway.config.load import load, missing_modules, parse
from keyway.config.options import (
    ApiOptions,
    ApiPinOptions,
    AuditOptions,
    BackendOptions,
    Config,
    EntranceOptions,
    IdentityOptions,
    LimitOptions,
    ListenerOptions,
    ListenOptions,
    LogOptions,
    MetricsOptions,
    OfferOptions,
    RoleOptions,
    SandboxOptions,
    TlsOptions,
    TokenOptions,
    TracesOptions,
    ViewOptions,
)
from keyway.config.pools import MemberOptions, error_classes_of, members_of
from keyway.config.users import ids_of
from keyway.config.views import ViewTarget, target_of

__all__ = [
    "ApiOptions",
    "ApiPinOptions",
    "AuditOptions",
    "BackendOptions",
    "Config",
    "ConfigError",
    "EntranceOptions",
    "IdentityOptions",
    "LimitOptions",
    "ListenOptions",
    "ListenerOptions",
    "LogOptions",
    "MemberOptions",
    "MetricsOptions",
    "OfferOptions",
    "RoleOptions",
    "SandboxOptions",
    "TlsOptions",
    "TokenOptions",
    "TracesOptions",
    "ViewOptions",
    "ViewTarget",
    "error_classes_of",
    "identity_rules_of",
    "ids_of",
    "load",
    "members_of",
    "missing_modules",
    "parse",
    "resolved",
    "roles_of",
    "target_of",
]
