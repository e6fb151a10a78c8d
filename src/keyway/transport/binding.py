"""What both ends of a TLS connection know of it, for an authentication inside to be bound to it (RFC 5056)."""

import hashlib
import ssl
from typing import Final

from cryptography import x509

from keyway.transport.alert import AlertingContext

__all__ = ["binding_at_client", "binding_at_server", "end_point"]

_PREFIX: Final = b"tls-server-end-point:"


def end_point(certificate: bytes) -> bytes:
    """Return the binding to a server's certificate, tls-server-end-point of RFC 5929, section 4.

    Python tells no binding of TLS 1.3 that is of one connection (tls-exporter of RFC 9266). This one keeps who has another certificate from
    passing a ticket on, which is what matters here: TLS itself does the rest.

    Args:
        certificate: The certificate, DER.
    """
    algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    name = algorithm.name if algorithm is not None else "sha256"
    return _PREFIX + hashlib.new("sha256" if name in ("md5", "sha1") else name, certificate).digest()


def binding_at_server(context: ssl.SSLContext) -> bytes:
    """Return the binding of a connection that came in.

    Args:
        context: The context that its handshake was made with, which has a certificate.
    """
    assert isinstance(context, AlertingContext)
    return end_point(context.own)


def binding_at_client(connection: ssl.SSLObject) -> bytes:
    """Return the binding of a connection that was made from here.

    Args:
        connection: It, after the handshake.
    """
    certificate = connection.getpeercert(binary_form=True)
    assert certificate is not None
    return end_point(certificate)
