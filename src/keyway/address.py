"""Where to listen or connect, as text and as values, without I/O."""

from dataclasses import dataclass
from ipaddress import ip_address
from re import compile as regex
from typing import ClassVar, Final
from urllib.parse import unquote

__all__ = ["ANY_CID", "Address", "AddressError", "Gss", "Inherited", "Tcp", "TcpPort", "Tls", "Unix", "Vsock", "parse"]

ANY_CID: Final = 0xFFFF_FFFF
"""The context ID that stands for all of a machine's own; to listen only."""

_HOST_AND_PORT: Final = regex(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\[\]:/\s]+)):(\d{1,5})")
_MAX_U32: Final = 0xFFFF_FFFF


class AddressError(ValueError):
    """Text that is no address. The message says why."""


@dataclass(frozen=True, slots=True)
class Unix:
    """A unix socket.

    Attributes:
        path: Absolute path.
    """

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True, slots=True)
class TcpPort:
    """A TCP port, whatever is spoken there.

    Attributes:
        host: Name or IP address.
        port: Port number; 0 to listen on any free one.
        scheme: What its address begins with.
    """

    host: str
    port: int
    scheme: ClassVar[str]

    def __str__(self) -> str:
        return f"{self.scheme}://{_bracketed(self.host)}:{self.port}"


class Tcp(TcpPort):
    """One without protection."""

    __slots__ = ()
    scheme = "tcp"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody outside this machine can be at the other end."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


class Tls(TcpPort):
    """One with TLS."""

    __slots__ = ()
    scheme = "tls"


class Gss(TcpPort):
    """One with GSS-API, which is Kerberos here."""

    __slots__ = ()
    scheme = "gss"


@dataclass(frozen=True, slots=True)
class Vsock:
    """A port of a virtual machine or of its host (vsock(7)).

    Attributes:
        cid: Context ID; `ANY_CID` to listen on all.
        port: Port number.
    """

    cid: int
    port: int

    def __str__(self) -> str:
        return f"vsock:cid={'any' if self.cid == ANY_CID else self.cid};port={self.port}"


@dataclass(frozen=True, slots=True)
class Inherited:
    """A listening socket that the service manager hands over (sd_listen_fds(3)).

    Attributes:
        name: Its name in LISTEN_FDNAMES; empty for the only one.
    """

    name: str

    def __str__(self) -> str:
        return f"systemd:{self.name}"


Address = Unix | Tcp | Tls | Gss | Vsock | Inherited


def parse(text: str) -> Address:
    """Read an address.

    Args:
        text: `unix:/path`, p11-kit's `unix:path=/path` with percent encoding, or a bare absolute path; `tcp://host:port`; `tls://host:port`;
            `gss://host:port`; p11-kit's `vsock:cid=N;port=N`, or `vsock://cid:port`, where cid may be `any`; `systemd:NAME`.

    Raises:
        AddressError: It is none of them.
    """
    scheme, colon, rest = text.partition(":")
    if text.startswith("/"):
        return _unix(text)
    match scheme if colon else "":
        case "unix":
            return _unix(unquote(rest.removeprefix("path=")) if rest.startswith("path=") else rest)
        case "tcp":
            return Tcp(*_host_and_port(rest, scheme))
        case "tls":
            return Tls(*_host_and_port(rest, scheme))
        case "gss":
            return Gss(*_host_and_port(rest, scheme))
        case "vsock":
            return _vsock(rest)
        case "systemd":
            return Inherited(rest)
    raise AddressError(
        "an address is unix:/path, tcp://host:port, tls://host:port, gss://host:port, vsock:cid=N;port=N or systemd:NAME"
    )


def _unix(path: str) -> Unix:
    if not path.startswith("/") or "\0" in path:
        raise AddressError("the path of a unix socket must be absolute")
    return Unix(path)


def _host_and_port(rest: str, scheme: str) -> tuple[str, int]:
    found = _HOST_AND_PORT.fullmatch(rest.removeprefix("//")) if rest.startswith("//") else None
    if found is None:
        raise AddressError(f"{scheme} needs a host and a port: {scheme}://host:port, an IPv6 address in brackets")
    port = int(found[3])
    if port > 65_535:
        raise AddressError(f"{port} is no port, 65535 is the last")
    return found[1] or found[2], port


def _vsock(rest: str) -> Vsock:
    if rest.startswith("//"):
        cid, _, port = rest.removeprefix("//").partition(":")
    else:
        given = dict(part.partition("=")[::2] for part in rest.split(";") if part)
        if not given.keys() <= {"cid", "port"}:
            raise AddressError("vsock has cid and port only")
        cid, port = given.get("cid", ""), given.get("port", "")
    return Vsock(ANY_CID if cid == "any" else _u32(cid, "cid"), _u32(port, "port"))


def _u32(text: str, name: str) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) > _MAX_U32:
        raise AddressError(f"vsock needs {name}=NUMBER")
    return int(text)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
