"""TLS 1.3 from files that may change while the daemon runs (RFC 8446)."""

import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from keyway.transport.alert import AlertingContext
from keyway.transport.errors import TlsError

__all__ = ["Credentials", "Files", "describe_refusal"]


class Files(Protocol):
    """The files that TLS is set up with: what the configuration's sections have in common."""

    @property
    def certificate(self) -> Path | None:
        """This end's certificate and those between it and the CA, PEM."""

    @property
    def key(self) -> Path | None:
        """Its private key, PEM, not encrypted."""

    @property
    def ca(self) -> Path | None:
        """The CAs that the other end's certificate may come from, PEM."""

    @property
    def crl(self) -> Path | None:
        """The revocation lists of these CAs, PEM."""


_VERIFY: Final = {"required": ssl.CERT_REQUIRED, "optional": ssl.CERT_OPTIONAL, "none": ssl.CERT_NONE}

_State = tuple[tuple[int, int, int], ...]


@dataclass(slots=True)
class _Built:
    state: _State
    context: ssl.SSLContext


class Credentials:
    """The TLS context of one end, made anew when its files change.

    When changed files are wrong, the last good ones stay in use, and that is reported once for each change. When they are noticed is when
    the next connection asks for the context; those that are there stay as they are.
    """

    def __init__(
        self,
        files: Files,
        *,
        is_server: bool,
        clients: str = "required",
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Read the files.

        Args:
            files: Their paths.
            is_server: Whether this end accepts connections.
            clients: Whether a server's clients must show a certificate: required, optional or none.
            report: Called with a sentence when changed files have been taken, or can't be, or when anybody may read the key.

        Raises:
            TlsError: A file can't be read, or does not fit the others.
        """
        self._files = files
        self._is_server = is_server
        self._clients = clients
        self._report = report
        state = self._state()
        self._built = _Built(state, self._build())

    def context(self) -> ssl.SSLContext:
        """Return the context for a new connection."""
        state = self._state()
        if state != self._built.state:
            try:
                self._built = _Built(state, self._build())
                self._report("the changed TLS files are in use")
            except TlsError as error:
                self._built.state = state
                self._report(f"the changed TLS files are not used: {error}")
        return self._built.context

    def _state(self) -> _State:
        state = []
        for path in (self._files.certificate, self._files.key, self._files.ca, self._files.crl):
            try:
                found = path.stat() if path is not None else None
            except OSError:
                found = None
            state.append((found.st_mtime_ns, found.st_ino, found.st_size) if found else (0, 0, 0))
        return tuple(state)

    def _build(self) -> ssl.SSLContext:
        files = self._files
        context = AlertingContext(ssl.PROTOCOL_TLS_SERVER if self._is_server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if files.certificate is not None and files.key is not None:
            _load_own(context, files.certificate, files.key)
            context.own = _first(files.certificate.read_text())
            if files.key.stat().st_mode & stat.S_IROTH:
                self._report(f"{files.key}: everybody on this machine may read this private key")
        if files.ca is not None:
            _load_trusted(context, files.ca, "x509", "certificate")
        if files.crl is not None:
            _load_trusted(context, files.crl, "crl", "revocation list")
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        if self._is_server:
            context.verify_mode = _VERIFY[self._clients]
            # Nothing is resumed: a certificate that was revoked since would be believed once more.
            context.num_tickets = 0
        return context


def _load_own(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for path in (certificate, key):
        _readable(path)
    try:
        # A key with a passphrase would make OpenSSL ask for it on the terminal.
        context.load_cert_chain(certificate, key, password=_no_passphrase(key))
    except ssl.SSLError as error:
        reason = "they do not belong together" if error.reason == "KEY_VALUES_MISMATCH" else error.reason or "not PEM"
        raise TlsError(f"{certificate} and {key}: {reason}") from error


def _first(pem: str) -> bytes:
    """Return the first certificate of a file that has one: its own, as `load_cert_chain` sees it. DER."""
    head, foot = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    start = pem.index(head)
    return ssl.PEM_cert_to_DER_cert(pem[start : pem.index(foot, start)] + foot)


def _no_passphrase(key: Path) -> Callable[[], bytes]:
    def refuse() -> bytes:
        raise TlsError(f"{key}: the key is encrypted")

    return refuse


def _load_trusted(context: ssl.SSLContext, path: Path, kind: str, what: str) -> None:
    _readable(path)
    before = context.cert_store_stats()[kind]
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError as error:
        raise TlsError(f"{path}: holds no {what}") from error
    if context.cert_store_stats()[kind] == before:
        raise TlsError(f"{path}: holds no {what}")


def _readable(path: Path) -> None:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise TlsError(f"{path}: {error.strerror}") from error


_REASONS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it shows no certificate",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "NO_PROTOCOLS_AVAILABLE": "it does not speak TLS 1.3",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "HTTP_REQUEST": "it speaks HTTP, not TLS",
    "HTTPS_PROXY_REQUEST": "it speaks HTTP, not TLS",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it demands a certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the CA of our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our certificate has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "our certificate is revoked",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it refuses our certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it refuses our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "our certificate is not for this end of a connection",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it has no algorithm in common with us",
    "TLSV1_UNRECOGNIZED_NAME": "it has not the name that we call it by",
    "UNEXPECTED_EOF_WHILE_READING": "it ended the connection during the TLS handshake",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak TLS 1.3",
}


def describe_refusal(error: BaseException) -> str:
    """Return in words why a handshake failed.

    Args:
        error: What was raised: an `ssl.SSLError`, an `OSError`, a `TimeoutError`.
    """
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is refused: {error.verify_message}"
        case ssl.SSLError():
            reason = getattr(error, "reason", None) or "TLS failed"
            return _REASONS.get(reason, reason)
        case TimeoutError() | ConnectionAbortedError():
            return "the TLS handshake took too long"
        case ConnectionResetError() | EOFError():
            return "it ended the connection during the TLS handshake"
        case OSError():
            return error.strerror or "the connection failed"
    return type(error).__name__
