"""Kerberos by GSS-API (RFC 4121, RFC 2743), with the system's library: the one place that knows it.

The library is an optional dependency, and loaded when the first address needs it.
"""

import math
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any, Final

from keyway.transport.errors import GssError, KerberosError

__all__ = ["HTTP", "SERVICE", "Acceptor", "Initiator"]

SERVICE: Final = "pkcs11"
"""The first part of the principal that a gateway has: pkcs11/host@REALM."""
HTTP: Final = "HTTP"
"""The same of an HTTP server (RFC 4559, section 4)."""

_SPNEGO: Final = "1.3.6.1.5.5.2"
"""The mechanism that negotiates another (RFC 4178)."""

_KRB5: Final = 2_529_638_912
"""Where the numbers of krb5's errors start, as unsigned 32 bits (ERROR_TABLE_BASE_krb5)."""
_REASONS: Final = {
    7: "the KDC does not know this service",
    31: "a key does not fit: is the keytab that of the service, and as new as the KDC's?",
    32: "the ticket has expired: get a new one with kinit",
    33: "the ticket is not valid yet: compare the clocks",
    34: "the same ticket was shown before",
    35: "the ticket is for another service",
    37: "the clocks of the two machines differ too much",
    41: "the handshake was changed on the way",
    44: "the keytab lacks the key that the ticket is for",
    141: "there is no ticket: get one with kinit",
    156: "no KDC answers",
}
_EXPIRED: Final = frozenset({11 << 16, 12 << 16})
"""The major statuses GSS_S_CREDENTIALS_EXPIRED and GSS_S_CONTEXT_EXPIRED, which also tell of a ticket (RFC 2744, section 3.9.1)."""
_NUMBERS: Final = count()
_FAILURES: Final = 0xFFFF_0000
"""The bits of a major status that tell of failures. Those below tell that a record came twice, late or early (RFC 2743, section 1.2.3)."""


class Acceptor:
    """What a listener has: the name of a service, and the keys in a keytab, which is read for each connection."""

    def __init__(self, service: str, keytab: Path | None, *, is_http: bool = False) -> None:
        """See whether all is there; reads the keytab.

        Args:
            service: Its name: service, service@host or a whole principal; empty for pkcs11 or HTTP of any host whose key is in the keytab.
            keytab: The keytab; None for the system's.
            is_http: Whether it is for HTTP (RFC 4559), where the mechanism may be negotiated, and no records follow that would have to be protected.

        Raises:
            KerberosError: The library is missing, or there is no key for the name.
        """
        self._library = _loaded()
        self._is_http = is_http
        self._service = service or (HTTP if is_http else SERVICE)
        self._store = {"keytab": str(keytab)} if keytab is not None else None
        try:
            self._credentials()
        except self._library.exceptions.GSSError as error:
            raise KerberosError(f"no key for the Kerberos service {self._service}: {_text(error)}") from error

    def begin(self, binding: bytes = b"", *, must_bind: bool = True) -> "_Context":
        """Return what a new connection, or request, needs.

        Args:
            binding: What both ends know of the channel below, which they must agree on (RFC 5056); empty for none.
            must_bind: Whether the other end must give a binding, too. One that is another one is refused in any case.
        """
        library = self._library

        def make() -> Any:
            return library.SecurityContext(
                creds=self._credentials(), usage="accept", channel_bindings=_bindings(library, binding)
            )

        return _Context(
            library,
            make,
            lambda context: str(context.initiator_name),
            () if self._is_http else _flags(library),
            is_bound=bool(binding) and must_bind,
        )

    def _credentials(self) -> Any:
        library = self._library
        kerberos = library.MechType.kerberos
        mechanisms = [kerberos, library.OID.from_int_seq(_SPNEGO)] if self._is_http else [kerberos]
        found = library.Credentials(
            name=_name(library, self._service), usage="accept", mechs=mechanisms, store=self._store
        )
        if self._is_http:
            library.raw.set_neg_mechs(found, [kerberos])
        return found


class Initiator:
    """What who connects has: the user's ticket, or a key to get one with."""

    def __init__(self, service: str, host: str, keytab: Path | None) -> None:
        """Note the names; nothing is asked of a KDC yet.

        Args:
            service: The name of whom to talk to; empty for pkcs11 at the host.
            host: Where that is.
            keytab: Keytab with this end's own key; None for the ticket that is there (KRB5CCNAME).

        Raises:
            KerberosError: The library is missing.
        """
        self._library = _loaded()
        self._service = service or f"{SERVICE}@{host}"
        self._keytab = keytab
        # The tickets that a keytab was good for are kept for this end alone.
        self._store = (
            {"client_keytab": str(keytab), "ccache": f"MEMORY:keyway-{next(_NUMBERS)}"} if keytab is not None else None
        )

    def begin(self, binding: bytes = b"") -> "_Context":
        """Return what a new connection needs."""
        library = self._library

        def make() -> Any:
            mechanism = library.MechType.kerberos
            credentials = self._credentials() if self._store is not None else None
            return library.SecurityContext(
                name=_name(library, self._service),
                creds=credentials,
                flags=_flags(library),
                mech=mechanism,
                usage="initiate",
                channel_bindings=_bindings(library, binding),
            )

        # Of a name of the form service@host the realm stays open: the KDC has chosen it, and nobody tells.
        return _Context(
            library,
            make,
            lambda context: str(context.target_name).removesuffix("@"),
            _flags(library),
            is_bound=False,
        )

    def _credentials(self) -> Any:
        library, keytab = self._library, self._keytab
        assert keytab is not None
        try:
            # The library would say that there is no cache.
            with keytab.open("rb"):
                pass
            return library.Credentials(usage="initiate", mechs=[library.MechType.kerberos], store=self._store)
        except OSError as error:
            raise GssError(f"{keytab}: {error.strerror}") from error
        except library.exceptions.GSSError as error:
            raise GssError(f"no ticket with the key in {keytab}: {_reason(error)}") from error


class _Context:
    """One end of one connection, as `keyway.transport.gss.Mechanism` has it."""

    def __init__(
        self,
        library: Any,
        make: Callable[[], Any],
        peer: Callable[[Any], str],
        demands: Iterable[Any],
        *,
        is_bound: bool,
    ) -> None:
        self.is_complete = False
        self.peer = ""
        self.lifetime = 0.0
        self._library = library
        self._make = make
        self._peer = peer
        self._demands = demands
        self._is_bound = is_bound
        self._context: Any = None

    def step(self, token: bytes) -> bytes:
        """Go on with the handshake."""
        try:
            if self._context is None:
                self._context = self._make()
                # Errors that have a token for the other end would be kept back. The class can't be told: its metaclass decides.
                self._context.__DEFER_STEP_ERRORS__ = False
            answer: bytes | None = self._context.step(token or None)
            if self._context.complete:
                self._complete()
        except self._library.exceptions.GSSError as error:
            raise GssError(_reason(error), error.token or b"") from error
        return answer or b""

    def wrap(self, data: bytes) -> bytes:
        """Return a record, encrypted."""
        try:
            message: bytes = self._library.raw.wrap(self._context, data, confidential=True).message
        except self._library.exceptions.GSSError as error:
            raise GssError(f"a record can't be sent: {_text(error)}") from error
        return message

    def unwrap(self, record: bytes) -> bytes:
        """Return what is in a record."""
        try:
            opened = self._library.raw.unwrap(self._context, record)
        except self._library.exceptions.GSSError as error:
            if error.maj_code & _FAILURES:
                raise GssError(f"a record is damaged or forged: {_text(error)}") from error
            raise GssError("a record came twice, or another one is missing") from error
        if not opened.encrypted:
            raise GssError("a record is not encrypted")
        message: bytes = opened.message
        return message

    def _complete(self) -> None:
        flag = self._library.RequirementFlag
        given = self._context.actual_flags
        if missing := [each.name.replace("_", " ") for each in self._demands if each not in given]:
            raise GssError(f"the other end does not agree to {', '.join(missing)}")
        if self._is_bound and flag.channel_bound not in given:
            raise GssError("the other end does not bind its ticket to the TLS connection")
        if flag.anonymity in given:
            raise GssError("the ticket is anonymous")
        self.peer = self._peer(self._context)
        seconds = self._context.lifetime
        self.lifetime = math.inf if seconds is None else float(seconds)
        self.is_complete = True


def _loaded() -> Any:
    try:
        import gssapi
    except ImportError as error:
        raise KerberosError(
            f"Kerberos needs the package gssapi, and MIT Kerberos: pip install 'keyway[kerberos]' ({error})"
        ) from error
    return gssapi


def _flags(library: Any) -> Any:
    """Return what both ends of a connection must agree to. That a ticket is handed on (delegated) is not among it."""
    flag = library.RequirementFlag
    return library.IntEnumFlagSet(
        flag,
        [
            flag.mutual_authentication,
            flag.replay_detection,
            flag.out_of_sequence_detection,
            flag.confidentiality,
            flag.integrity,
        ],
    )


def _name(library: Any, service: str) -> Any:
    kinds = library.NameType
    return library.Name(service, kinds.kerberos_principal if "/" in service else kinds.hostbased_service)


def _bindings(library: Any, binding: bytes) -> Any:
    return library.raw.ChannelBindings(application_data=binding) if binding else None


def _reason(error: Any) -> str:
    number = 32 if error.maj_code in _EXPIRED else (error.min_code & 0xFFFF_FFFF) - _KRB5
    known = _REASONS.get(number)
    return f"{known} ({_text(error)})" if known else _text(error)


def _text(error: Any) -> str:
    """Return the library's own words, which name files and principals."""
    if error.min_code:
        words = error.get_all_statuses(error.min_code, False)
        if words and words != ["Success"]:
            return ", ".join(words)
    return ", ".join(error.get_all_statuses(error.maj_code, True))
