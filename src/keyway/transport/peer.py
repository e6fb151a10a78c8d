"""Who is at the other end of a connection."""

import asyncio
import ctypes
import errno
import re
import select
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = [
    "Peer",
    "address_text",
    "certificate_names",
    "distinguished_name",
    "has_hung_up",
    "peer_behind",
    "peer_of",
]

UCRED: Final = struct.Struct("iII")
"""struct ucred of Linux: pid, uid, gid, as they were when the peer connected."""


_SHORT: Final = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
"""Names of attribute types that have a short one (RFC 4514, section 3)."""
_SPECIAL: Final = re.compile(r'[,+"\\<>;]')
_SO_PEERGROUPS: Final = 59
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What is known of who connected. Only what the kernel or a verified certificate says is evidence.

    Attributes:
        transport: unix, tcp, tls, gss, vsock or stdio.
        address: Where it connected from; empty for a unix socket.
        pid: Process number at the other end of a unix socket; 0 if it is not visible from here, None if nobody tells.
        uid: User number there; None if nobody tells.
        gid: Group number there; None if nobody tells.
        program: Path of its program; empty if that can't be seen. A help for readers of logs, not evidence.
        names: The names in the verified certificate: the DNS names, then the common name. Empty without a certificate.
        subject: The whole subject of that certificate, for one that has no such name.
        groups: Numbers of all groups of the user at the other end of a unix socket; empty if nobody tells.
        distinguished: The subject of the certificate as a string (RFC 4514); empty without a certificate.
        dns: DNS names of the certificate.
        uris: URIs of the certificate, SPIFFE IDs among them.
        emails: Email addresses of the certificate.
        principal: The Kerberos principal that has shown a ticket, with its realm. For a connection that was made from here, that of the service which has
            answered, with a realm only if it was asked for with one. Empty without Kerberos.
    """

    transport: str
    address: str = ""
    pid: int | None = None
    uid: int | None = None
    gid: int | None = None
    program: str = ""
    names: tuple[str, ...] = ()
    subject: str = ""
    groups: frozenset[int] = frozenset()
    distinguished: str = ""
    dns: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    principal: str = ""

    @property
    def certificate(self) -> str:
        """What to call the verified certificate: its first name, else its subject. Empty without one."""
        return self.names[0] if self.names else self.subject

    def facts(self) -> dict[str, object]:
        """Return what is known, for the log."""
        known = {
            "transport": self.transport if self.transport != "unix" else "",
            "address": self.address,
            "certificate": self.certificate,
            "principal": self.principal,
            "program": self.program,
        }
        numbers = {"pid": self.pid, "uid": self.uid, "gid": self.gid}
        return {
            **{name: number for name, number in numbers.items() if number is not None},
            **{name: text for name, text in known.items() if text},
        }


def peer_behind(transport: asyncio.Transport) -> Peer | None:
    """Return who is at the other end of a transport; None if it is gone already.

    Args:
        transport: The transport, after the handshakes.
    """
    known: Peer | None = transport.get_extra_info("peer")
    if known is not None:
        return known
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is None:
        return Peer(transport="stdio")
    has_tls = transport.get_extra_info("sslcontext") is not None
    try:
        certificate = transport.get_extra_info("peercert") or {} if has_tls else None
        return peer_of(connection, certificate, transport.get_extra_info("principal") or "")
    except OSError:
        return None  # It has reset the connection already.


def peer_of(connection: socket.socket, certificate: Mapping[str, Any] | None = None, principal: str = "") -> Peer:
    """Return who is at the other end of a connected socket.

    Args:
        connection: The socket.
        certificate: The verified certificate as `ssl.SSLSocket.getpeercert` gives it; None without TLS, empty without certificate.
        principal: The Kerberos principal that has shown a ticket; empty without Kerberos.

    Raises:
        OSError: The kernel does not tell.
    """
    match connection.family:
        case socket.AF_UNIX:
            pid, uid, gid = UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))
            groups = frozenset((gid, *_groups(connection)))
            return Peer(transport="unix", pid=pid, uid=uid, gid=gid, groups=groups, program=_program(pid))
        case socket.AF_VSOCK:
            return Peer(transport="vsock", address=address_text(connection.getpeername()))
        case _:
            address = address_text(connection.getpeername())
            if certificate is None:
                return Peer(transport="gss" if principal else "tcp", address=address, principal=principal)
            subject = ", ".join(f"{kind}={value}" for part in certificate.get("subject", ()) for kind, value in part)
            return Peer(
                transport="tls",
                address=address,
                names=certificate_names(certificate),
                subject=subject,
                distinguished=distinguished_name(certificate),
                dns=_alternative(certificate, "DNS"),
                uris=_alternative(certificate, "URI"),
                emails=_alternative(certificate, "email"),
                principal=principal,
            )


def address_text(address: object) -> str:
    """Return a socket's address as text: host:port or cid:port; empty for what has no number.

    Args:
        address: As `socket.accept` or `socket.getpeername` gives it.
    """
    match address:
        case (str(host), int(port), *_):
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        case (int(cid), int(port)):
            return f"{cid}:{port}"
    return ""


def certificate_names(certificate: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names in a certificate: the DNS names, then the common name.

    Args:
        certificate: As `ssl.SSLSocket.getpeercert` gives it.
    """
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    common = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    return tuple(dict.fromkeys(names + common))


def distinguished_name(certificate: Mapping[str, Any]) -> str:
    """Return the subject of a certificate as a string (RFC 4514): the last part first, values escaped.

    Args:
        certificate: As `ssl.SSLSocket.getpeercert` gives it.
    """
    parts = [
        "+".join(f"{_SHORT.get(kind, kind)}={_escaped(value)}" for kind, value in part)
        for part in certificate.get("subject", ())
    ]
    return ",".join(reversed(parts))


def _escaped(value: str) -> str:
    text = _SPECIAL.sub(r"\\\g<0>", value).replace("\0", "\\00")
    if text.startswith((" ", "#")):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if text.endswith(" ") and not text.endswith("\\ ") else text


def _alternative(certificate: Mapping[str, Any], wanted: str) -> tuple[str, ...]:
    return tuple(value for kind, value in certificate.get("subjectAltName", ()) if kind == wanted)


def _groups(connection: socket.socket) -> tuple[int, ...]:
    """Return the supplementary groups that a peer had when it connected; none if the kernel does not tell.

    Called in C: `socket.getsockopt` has no room for more than 256.
    """
    size = ctypes.c_uint32(0)
    for _ in range(2):
        # Told too little room, the kernel says how much it needs.
        groups = (ctypes.c_uint32 * (size.value // 4))()
        number = (socket.SOL_SOCKET, _SO_PEERGROUPS)
        if _LIBC.getsockopt(connection.fileno(), *number, groups, ctypes.byref(size)) == 0:
            return tuple(groups[: size.value // 4])
        if ctypes.get_errno() != errno.ERANGE:
            return ()
    return ()


def has_hung_up(connection: socket.socket) -> bool:
    """Return whether the peer has closed a connection, whatever is left to be read."""
    poll = select.poll()
    # POLLHUP and POLLERR are told without being asked for; over TCP a peer's end shows as POLLRDHUP alone.
    poll.register(connection.fileno(), 0 if connection.family == socket.AF_UNIX else select.POLLRDHUP)
    return bool(poll.poll(0))


def _program(pid: int) -> str:
    for entry in ("exe", "comm"):
        try:
            path = Path(f"/proc/{pid}/{entry}")
            return str(path.readlink()) if entry == "exe" else path.read_text(errors="replace").strip()
        except OSError:
            continue
    return ""
