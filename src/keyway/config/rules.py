"""What options and sections say of one another."""

import dataclasses
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from keyway.address import Address, Gss, Inherited, Tcp, Tls
from keyway.config.access import check_access
from keyway.config.errors import Wrong
from keyway.config.options import (
    ApiOptions,
    AuditOptions,
    BackendOptions,
    Config,
    EntranceOptions,
    KerberosOptions,
    ListenerOptions,
    MetricsOptions,
    OfferOptions,
    SandboxOptions,
    TlsOptions,
    TokenOptions,
    TracesOptions,
)
from keyway.config.pin_sources import with_pin_sources
from keyway.config.pools import check_error_classes, pool
from keyway.config.uris import key_uri, token_uri
from keyway.config.views import check_views, token_with_views

__all__ = ["completed"]

MODULE_SPARES: Final = 2
_SOURCES: Final = ("module", "command", "address", "offered", "offered_principal")
_MODULE_ONLY: Final = ("threads", "start", "warm_up", "os_locking", "shared_memory", "sandbox")
_WRITE_PROTECTED: Final = "write-protected"
"""The attribute of p11-kit's that a URI in `tokens` may have in its query."""


def completed(config: Config, wrong: Wrong) -> Config:
    """Check what sections say of one another, and return them with what follows from them filled in.

    Args:
        config: Sections that are right each for itself.
        wrong: Told what is not.
    """
    config = with_pin_sources(config, wrong)
    for name, listener in config.listeners.items():
        _check_listener(listener, ("listener", name), wrong)
    for name, offer in config.offers.items():
        _check_offer(offer, ("offer", name), wrong)
    _check_offered(config, wrong)
    _check_metrics(config.metrics, ("metrics",), wrong)
    check_access(config, wrong)
    check_views(config, wrong)
    _check_audit(config.audit, config, ("audit",), wrong)
    if config.traces is not None:
        _check_traces(config.traces, ("traces",), wrong)
    if config.api is not None:
        _check_api(config.api, config, ("api",), wrong)
    backends = {name: _backend(each, ("backend", name), wrong) for name, each in config.backends.items()}
    return dataclasses.replace(config, backends=MappingProxyType(backends), tokens=_tokens(config, wrong))


def _check_listener(listener: ListenerOptions, path: tuple[str, ...], wrong: Wrong) -> None:
    address = listener.address
    speaks_tls = isinstance(address, Tls) or (isinstance(address, Inherited) and listener.certificate is not None)
    _check_plain(address, listener.insecure, path, wrong)
    _check_files(listener, path, wrong, has_tls=speaks_tls)
    _check_kerberos(listener, address, path, wrong)
    if speaks_tls and listener.certificate is None:
        wrong((*path, "address"), "TLS needs certificate and key")
    if speaks_tls and listener.ca is None and listener.client_certificates != "none":
        wrong((*path, "client_certificates"), 'needs ca, the file with the CAs that they may come from; or "none"')
    if not listener.outlive_ticket and not listener.speaks_kerberos:
        wrong((*path, "outlive_ticket"), "is for Kerberos only: a gss address, or a tls address with kerberos = true")
    knows_peers = listener.speaks_kerberos or (speaks_tls and listener.client_certificates == "required")
    if listener.protocol == "offer" and not knows_peers:
        wrong(
            (*path, "protocol"),
            "offer needs TLS with client certificates, or Kerberos: the certificate or the ticket tells who offers",
        )
    _check_filter(listener, path, wrong)


def _check_kerberos(options: KerberosOptions, address: Address | None, path: tuple[str, ...], wrong: Wrong) -> None:
    if options.kerberos and not isinstance(address, Gss | Tls | Inherited):
        wrong((*path, "kerberos"), "is for a gss or tls address only")
    for name in ("service", "keytab"):
        if getattr(options, name) and not (options.kerberos or isinstance(address, Gss)):
            wrong((*path, name), "is for Kerberos only: a gss address, or a tls address with kerberos = true")


def _check_filter(options: EntranceOptions, path: tuple[str, ...], wrong: Wrong) -> None:
    for text in options.tokens:
        try:
            uri = token_uri(text, (_WRITE_PROTECTED,))
        except ValueError as error:
            wrong((*path, "tokens"), str(error))
            continue
        if [value for _, value in uri.vendor_query] not in ([], ["yes"], ["no"]):
            wrong((*path, "tokens"), f"{_WRITE_PROTECTED} is yes or no")


def _check_offered(config: Config, wrong: Wrong) -> None:
    for key in ("offered", "offered_principal"):
        names: dict[str, str] = {}
        for name, backend in config.backends.items():
            offerer = getattr(backend, key)
            if offerer and names.setdefault(offerer, name) != name:
                wrong(("backend", name, key), f"{offerer} offers to backend.{names[offerer]} already")
    for name, backend in config.backends.items():
        if backend.offered_principal and not _is_principal(backend.offered_principal):
            wrong(("backend", name, "offered_principal"), "must be a principal with its realm: name@REALM")


def _is_principal(text: str) -> bool:
    name, _, realm = text.rpartition("@")
    return bool(name and realm)


def _check_offer(offer: OfferOptions, path: tuple[str, ...], wrong: Wrong) -> None:
    _check_filter(offer, path, wrong)
    has_tls = isinstance(offer.to, Tls)
    _check_files(offer, path, wrong, has_tls=has_tls)
    _check_kerberos(offer, offer.to, path, wrong)
    if has_tls and offer.ca is None:
        wrong(path, "ca is missing")
    if has_tls and offer.certificate is None and not offer.kerberos:
        wrong(path, "certificate is missing; or say kerberos = true")


def _check_metrics(metrics: MetricsOptions, path: tuple[str, ...], wrong: Wrong) -> None:
    if metrics.address is not None and not metrics.address.is_loopback and not metrics.insecure:
        wrong(
            (*path, "address"),
            "plain HTTP outside loopback lets others see the names of tokens: say insecure = true if they may",
        )


def _check_audit(audit: AuditOptions, config: Config, path: tuple[str, ...], wrong: Wrong) -> None:
    if not audit.is_kept:
        if audit != AuditOptions():
            wrong(path, "one of file, syslog and stdout is needed")
        return
    if audit.checkpoint_pin_file is not None and not audit.checkpoint_key:
        wrong((*path, "checkpoint_pin_file"), "needs checkpoint_key")
    if audit.checkpoint_key:
        try:
            key_uri(audit.checkpoint_key)
        except ValueError as error:
            wrong((*path, "checkpoint_key"), str(error))
        if config.listen is None:
            wrong((*path, "checkpoint_key"), "needs a section [listen]")


def _check_traces(traces: TracesOptions, path: tuple[str, ...], wrong: Wrong) -> None:
    try:
        url = urlsplit(traces.endpoint)
        host, port = url.hostname, url.port
    except ValueError as error:
        wrong((*path, "endpoint"), str(error))
        return
    if url.scheme not in ("http", "https") or not host:
        wrong((*path, "endpoint"), "must be http://host:port/path or https://host:port/path")
        return
    if url.username is not None or url.query or url.fragment:
        wrong((*path, "endpoint"), "has scheme, host, port and path only")
    if url.scheme == "http" and not Tcp(host, port or 80).is_loopback and not traces.insecure:
        wrong(
            (*path, "endpoint"), "plain http outside loopback lets others read along: use https, or say insecure = true"
        )
    for name in ("ca", "certificate", "key"):
        if getattr(traces, name) is not None and url.scheme != "https":
            wrong((*path, name), "is for https only")
    if (traces.certificate is None) is not (traces.key is None):
        wrong(path, "certificate and key belong together")


def _check_api(api: ApiOptions, config: Config, path: tuple[str, ...], wrong: Wrong) -> None:
    address = api.address
    speaks_tls = isinstance(address, Tls)
    if not isinstance(address, Tcp | Tls):
        wrong((*path, "address"), "must be tcp://host:port or tls://host:port")
    _check_plain(address, api.insecure, path, wrong)
    _check_files(api, path, wrong, has_tls=speaks_tls)
    if speaks_tls and api.certificate is None:
        wrong((*path, "address"), "TLS needs certificate and key")
    if speaks_tls and api.ca is None and api.client_certificates != "none":
        wrong((*path, "client_certificates"), 'needs ca, the file with the CAs that they may come from; or "none"')
    if api.anonymous != "none" and not (isinstance(address, Tcp) and address.is_loopback):
        wrong((*path, "anonymous"), "is for a tcp address on loopback only")
    knows_certificates = speaks_tls and api.client_certificates != "none"
    for name, default in (("service", ""), ("keytab", None), ("principals", ()), ("channel_binding", "required")):
        if getattr(api, name) != default and not api.kerberos:
            wrong((*path, name), "is for Kerberos only: kerberos = true")
    if api.channel_binding != "required" and not speaks_tls:
        wrong((*path, "channel_binding"), "is for TLS only")
    for name in api.principals:
        if not _is_principal(name):
            wrong((*path, "principals"), f"{name}: must be a principal with its realm: name@REALM")
    if api.tokens_file is None and api.anonymous == "none" and not knows_certificates and not api.kerberos:
        wrong(
            path,
            'nobody would be let in: give tokens_file, or TLS with ca, or kerberos = true, or say anonymous = "compatible" if every program on this machine may use '
            "the compatible API",
        )
    for name in ("compatible_pin", "compatible_so_pin"):
        reference, user = getattr(api, name), "so" if name.endswith("so_pin") else "user"
        if reference and (reference not in config.api_pins or config.api_pins[reference].user != user):
            wrong((*path, name), f"there is no section [api.pin.{reference}] with user = {user}")


def _backend(backend: BackendOptions, path: tuple[str, ...], wrong: Wrong) -> BackendOptions:
    given = [name for name in _SOURCES if getattr(backend, name)]
    if len(given) != 1:
        wrong(path, f"one of {', '.join(_SOURCES)} is needed" + (f", not {' and '.join(given)}" if given else ""))
        return backend
    address = backend.address
    if address is not None:
        if isinstance(address, Inherited):
            wrong((*path, "address"), "systemd: is for listeners only")
        _check_plain(address, backend.insecure, path, wrong)
    _check_files(backend, path, wrong, has_tls=isinstance(address, Tls))
    _check_kerberos(backend, address, path, wrong)
    check_error_classes(backend, path, wrong)
    if isinstance(address, Tls) and backend.ca is None:
        wrong(path, "ca is missing: without it nobody knows who answers")
    for each in dataclasses.fields(BackendOptions):
        if each.name in _MODULE_ONLY and not backend.module and getattr(backend, each.name) != each.default:
            wrong((*path, each.name), "is for a module only")
    _check_sandbox(backend.sandbox, (*path, "sandbox"), wrong)
    if backend.protocol and given[0] not in ("command", "address"):
        wrong((*path, "protocol"), f"is not for {given[0]}")
    return dataclasses.replace(
        backend,
        protocol=backend.protocol or ("p11-kit" if backend.command else "keyway"),
        spares=(MODULE_SPARES if backend.module else 0) if backend.spares < 0 else backend.spares,
    )


def _check_sandbox(sandbox: SandboxOptions, path: tuple[str, ...], wrong: Wrong) -> None:
    for each in dataclasses.fields(SandboxOptions):
        if not sandbox.enabled and each.name != "enabled" and getattr(sandbox, each.name) != each.default:
            wrong((*path, each.name), "says nothing with enabled = false")


def _check_plain(address: Address, insecure: bool, path: tuple[str, ...], wrong: Wrong) -> None:
    if isinstance(address, Tcp) and not address.is_loopback and not insecure:
        wrong(
            (*path, "address"), "plain tcp outside loopback lets others read PINs: use tls://, or say insecure = true"
        )


def _check_files(options: TlsOptions, path: tuple[str, ...], wrong: Wrong, *, has_tls: bool) -> None:
    given = [each.name for each in dataclasses.fields(TlsOptions) if getattr(options, each.name) is not None]
    if given and not has_tls:
        wrong((*path, given[0]), "is for TLS only")
    if (options.certificate is None) is not (options.key is None):
        wrong(path, "certificate and key belong together")
    if options.crl is not None and options.ca is None:
        wrong((*path, "crl"), "needs ca")


def _tokens(config: Config, wrong: Wrong) -> MappingProxyType[str, TokenOptions]:
    tokens: dict[str, TokenOptions] = {}
    slots: dict[int, str] = {}
    for name, token in config.tokens.items():
        if token.has_views and not token.is_pool:
            token = token_with_views(name, token, config, wrong)
        else:
            token = pool(name, token, config, wrong)
        if token.is_plain:
            token = _plain_token(name, token, config, wrong)
        if token.slot in slots:
            wrong(("token", name, "slot"), f"slot {token.slot} is also that of token.{slots[token.slot]}")
        if token.slot >= 0:
            slots[token.slot] = name
        tokens[name] = token
    return MappingProxyType(tokens)


def _plain_token(name: str, token: TokenOptions, config: Config, wrong: Wrong) -> TokenOptions:
    path = ("token", name)
    if not token.backend and len(config.backends) == 1:
        token = dataclasses.replace(token, backend=next(iter(config.backends)))
    if not token.backend:
        wrong(path, "backend is missing, and there are several")
    elif token.backend not in config.backends:
        wrong((*path, "backend"), f"there is no section [backend.{token.backend}]")
    if not (token.uri or token.label or token.serial or token.backend_slot >= 0):
        wrong(path, "one of uri, label, serial and backend_slot is needed; or members, for a pool; or views")
    if token.uri:
        try:
            token_uri(token.uri)
        except ValueError as error:
            wrong((*path, "uri"), str(error))
    return token
