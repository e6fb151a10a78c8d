"""What charon is to do, as typed objects, and the one table of options of the file that says so.

Each field of these classes is an option of the TOML file. Whoever has the data from elsewhere makes the objects himself; the renderers
check again whatever could break a file.
"""

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from keyway.config.option import option

__all__ = [
    "AuthorityOptions",
    "ChildOptions",
    "ConnectionOptions",
    "KeyOptions",
    "ModuleOptions",
    "PoolOptions",
    "Setup",
    "TokenOptions",
]

P11_KIT_CLIENT: Final = "p11-kit-client.so"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleOptions:
    """The PKCS #11 module that charon loads."""

    path: Path = option("Path of the module: what `keyway module` prints, or that of p11-kit-client.so.")
    name: str = option("What charon calls it.", "keyway")
    address: str = option(
        "Where the module finds the gateway. It has to be in charon's environment: as KEYWAY_ADDRESS, or P11_KIT_SERVER_ADDRESS for "
        "p11-kit-client.so. Empty: libkeyway.so finds it in its own file.",
        "",
    )

    @property
    def variable(self) -> str:
        """The environment variable by which the module finds the gateway."""
        return "P11_KIT_SERVER_ADDRESS" if self.is_p11_kit else "KEYWAY_ADDRESS"

    @property
    def is_p11_kit(self) -> bool:
        """Whether it is p11-kit's client."""
        return self.path.name == P11_KIT_CLIENT


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TokenOptions:
    """A token as charon sees it through the module."""

    slot: int = option(
        "Number of its slot. -1: it is found by its label when the files are written.",
        -1,
        at_least=-1,
        at_most=0x7FFFFFFF,
    )
    label: str = option("Its label.", "")
    pin: str = option("User PIN. Without it and pin_file charon asks for it.", "")
    pin_file: Path | None = option(
        "File with the user PIN in its first line. It must be a regular file that others can't read.", None
    )

    def __repr__(self) -> str:
        return f"TokenOptions(slot={self.slot}, label={self.label!r}, pin=..., pin_file={self.pin_file})"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOptions:
    """A private key in a token, and the certificate beside it, which has the same CKA_ID."""

    id: str = option("CKA_ID in hexadecimal, all of its bytes.")
    token: str = option("Name of the token. May be left out when there is only one.", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityOptions:
    """A CA whose certificates peers may have."""

    certificate: Path = option("PEM or DER file with the CA's certificate.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Addresses that peers are given."""

    addrs: str = option("The addresses: a subnet, or a range FIRST-LAST.")
    dns: tuple[str, ...] = option("Name servers that peers are told.", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """A peer, and how both sides prove who they are."""

    key: str = option("Name of the key. May be left out when there is only one.", "")
    local_addrs: tuple[str, ...] = option("Own addresses. Empty: any.", ())
    remote_addrs: tuple[str, ...] = option("Addresses of the peer. Empty: any, and the peer must begin.", ())
    local_id: str = option("Own identity: the certificate's subject, or one of its subjectAltNames.")
    remote_id: str = option("The peer's identity. %any: whoever has a certificate of one of the CAs.")
    remote_ca: str = option("Name of the CA that the peer's certificate must be of. Empty: any of them.", "")
    proposals: tuple[str, ...] = option("IKE proposals. Empty: charon's own.", ())
    pools: tuple[str, ...] = option("Names of the pools from which the peer gets an address.", ())
    vips: tuple[str, ...] = option("Addresses to ask the peer for; 0.0.0.0 is any.", ())
    reauth_time: int = option("Seconds until both sides prove anew who they are. 0: never.", 0, at_least=0)
    rekey_time: int = option("Seconds until the IKE keys are renewed. 0: charon's own default.", 0, at_least=0)
    dpd_delay: int = option("Seconds of silence until the peer is asked whether it is there. 0: never.", 0, at_least=0)
    mobike: bool = option("Whether the peers may change their addresses.", True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildOptions:
    """What goes through the tunnel."""

    connection: str = option("Name of the connection. May be left out when there is only one.", "")
    local_ts: tuple[str, ...] = option("Subnets at this end. Empty: the address of the tunnel's end.", ())
    remote_ts: tuple[str, ...] = option("Subnets at the other end. Empty: the address of the tunnel's end.", ())
    esp_proposals: tuple[str, ...] = option("ESP proposals. Empty: charon's own.", ())
    start: str = option(
        "When the tunnel is set up. peer: when the peer begins, or by command. load: at once. traffic: with the first packet.",
        "peer",
        choices=("peer", "load", "traffic"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """All of it. Names are the sections' names in the file."""

    module: ModuleOptions
    tokens: MappingProxyType[str, TokenOptions]
    keys: MappingProxyType[str, KeyOptions]
    connections: MappingProxyType[str, ConnectionOptions]
    children: MappingProxyType[str, ChildOptions]
    authorities: MappingProxyType[str, AuthorityOptions] = field(default_factory=lambda: MappingProxyType({}))
    pools: MappingProxyType[str, PoolOptions] = field(default_factory=lambda: MappingProxyType({}))
