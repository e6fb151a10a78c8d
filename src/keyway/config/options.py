"""The configuration as typed objects, and the one table of options.

Each field of these classes is an option of the TOML file: its name, type, default and text here drive the loader, `keyway check` and
docs/reference/configuration.md.
"""

from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from keyway.address import Address, Gss, Tcp, Tls, Unix
from keyway.config.hosted import AuditOptions, IdentityOptions, RoleOptions, TracesOptions, ViewOptions
from keyway.config.option import option

__all__ = [
    "ApiOptions",
    "ApiPinOptions",
    "AuditOptions",
    "BackendOptions",
    "Config",
    "EntranceOptions",
    "IdentityOptions",
    "LimitOptions",
    "ListenOptions",
    "ListenerOptions",
    "LogOptions",
    "MetricsOptions",
    "OfferOptions",
    "RoleOptions",
    "SandboxOptions",
    "TlsOptions",
    "TokenOptions",
    "TracesOptions",
    "ViewOptions",
    "option",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """What TLS needs at this end. The files are read again when they change."""

    certificate: Path | None = option(
        "TLS: PEM file with the certificate of this end, and those between it and the CA.", None
    )
    key: Path | None = option("TLS: PEM file with the private key of that certificate.", None)
    ca: Path | None = option(
        "TLS: PEM file with the certificates of the CAs that the other end's certificate may come from.", None
    )
    crl: Path | None = option(
        "TLS: PEM file with certificate revocation lists of these CAs. Without it nothing is taken for revoked.", None
    )


@dataclass(
    frozen=True, kw_only=True
)  # Without slots: it is the second base of others, which can't have two kinds of them.
class KerberosOptions:
    """What Kerberos needs at this end."""

    kerberos: bool = option(
        "Whether Kerberos is spoken inside TLS, bound to the server's certificate. A gss address speaks it anyway, and so does one of systemd's with this "
        "and no certificate.",
        False,
    )
    service: str = option(
        "Kerberos: name of the gateway that answers, as service@host or as principal service/host@REALM. Empty: where it answers, pkcs11 of any host whose "
        "key is in the keytab; where it is called, pkcs11@ and the host of the address.",
        "",
    )
    keytab: Path | None = option(
        "Kerberos: keytab with this end's key. Without it: that of the system (KRB5_KTNAME) where clients come in; for a backend or an offer, the ticket of "
        "the user that runs the gateway (KRB5CCNAME).",
        None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EntranceOptions(TlsOptions):
    """What clients see who come this way."""

    tokens: tuple[str, ...] = option(
        "PKCS #11 URIs (RFC 7512) of the tokens that clients see here, of those that there are. pkcs11: is all of them, as is an empty list. "
        "?write-protected=yes behind a URI: the token can't be changed from here.",
        (),
    )
    first_slot: int = option(
        "Number of the first slot; the others follow. -1: the numbers that the slots have anyway.",
        -1,
        at_least=-1,
        at_most=0x7FFFFFFF,
    )
    contexts: int = option(
        "Contexts at a time of clients that come this way, so that they leave some of limits.contexts to others. 0: as many as there are.",
        0,
        at_least=0,
        at_most=65_536,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerOptions(EntranceOptions, KerberosOptions):
    """One more place where clients connect, besides that of [listen]."""

    address: Address = option(
        "Where: unix:/path, tcp://host:port, tls://host:port, gss://host:port, vsock:cid=any;port=N, or systemd:NAME for a socket that systemd hands over; "
        "that one speaks TLS if there is a certificate."
    )
    protocol: str = option(
        "keyway: libkeyway.so and other gateways. p11-kit: p11-kit-client.so. offer: gateways that offer their tokens (section offer).",
        "keyway",
        choices=("keyway", "p11-kit", "offer"),
    )
    mode: int = option("Permissions of a unix socket, as an octal string.", 0o660)
    group: str = option("Name of the group that owns a unix socket. Empty: the group of the daemon.", "")
    insecure: bool = option(
        "Whether a tcp address may be outside loopback: everybody who can send packets there may use the tokens, and read along.",
        False,
    )
    client_certificates: str = option(
        "TLS: whether clients must show a certificate that comes from a CA of the file.",
        "required",
        choices=("required", "optional", "none"),
    )
    outlive_ticket: bool = option(
        "Kerberos: whether a connection may go on when the ticket that it was made with has expired. If not, it is broken off then, and its client has to "
        "come again with a new one.",
        True,
    )

    @property
    def speaks_kerberos(self) -> bool:
        """Whether clients show tickets here."""
        return self.kerberos or isinstance(self.address, Gss)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenOptions:
    """Where clients on this machine connect. `keyway status` asks here, too."""

    socket: Path = option("Path of the unix socket.", Path("/run/keyway/keyway.sock"))
    mode: int = option(
        "Permissions of the socket, as an octal string. Who may write to the socket may use the tokens.", 0o660
    )
    group: str = option("Name of the group that owns the socket. Empty: the group of the daemon.", "")

    def as_listener(self) -> ListenerOptions:
        """Return the same place as one of the others."""
        return ListenerOptions(address=Unix(str(self.socket)), mode=self.mode, group=self.group)


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxOptions:
    """What the hosts of a module may do, so that a module that is broken into hurts nobody else. Whatever is said here, they can't trace other processes, mount, change namespaces, load into the kernel and the like, and root's hosts lose most of root's capabilities. What is said here and can't be had, on an old kernel say, keeps hosts from starting; what holds without a word and can't be had is a warning."""

    enabled: bool = option(
        "Whether hosts are confined at all. Turn it off for a module that can't live with that, a driver of a PCI card say; then no other key may be given.",
        True,
    )
    user: str = option(
        "Name or number of the user that hosts run as, with that user's group and no other, if the daemon is root's. Empty: if the daemon is root's, a user of its own for each "
        "backend, a number from 60600 to 61099, which keeps root's way to files; else the daemon's. root: root.",
        "",
    )
    read: tuple[Path, ...] = option(
        "Files, and directories with all beneath, that hosts may read. If this or write is given, hosts can open nothing else but what the loader and the C library need "
        "(/usr, /lib, /proc, /dev/urandom and a few files in /etc) and the module's own directory. They must be there when a host starts.",
        (),
    )
    write: tuple[Path, ...] = option("The same for what hosts may read and change.", ())
    network: bool | None = option(
        "Whether hosts may have sockets other than unix sockets, as the module of an HSM in the network needs. Not given: they may not, where the system can see to that.",
        None,
    )
    processes: bool = option(
        "Whether hosts may start processes and run programs. Threads they may have anyway. With start = copy the process that is copied can fork, but run nothing.",
        True,
    )
    memory: int = option(
        "Bytes of address space of one host: all that it maps, its libraries and the stacks of its threads included. 0: no limit.",
        0,
        at_least=0,
        at_most=1 << 50,
    )
    open_files: int = option(
        "Files, sockets and the like that one host may have open. 0: as many as the daemon.",
        0,
        at_least=0,
        at_most=1_048_576,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions(TlsOptions, KerberosOptions):
    """What answers the calls: a vendor's module, loaded by module hosts, or something elsewhere. Give one of module, command, address, offered, offered_principal."""

    module: Path | None = option("Path of the module, a shared library.", None)
    command: tuple[str, ...] = option(
        'Program with its arguments that answers on its standard input and output, such as ["ssh", "hsm1", "p11-kit", "remote", "/usr/lib/m.so"]. '
        "It runs once for each client.",
        (),
    )
    address: Address | None = option(
        "Where something else listens that answers: unix:/path, vsock:cid=N;port=N, tcp://host:port, tls://host:port or gss://host:port.",
        None,
    )
    offered: str = option(
        "Name in the certificate of a gateway that offers its tokens on a listener with protocol = offer.", ""
    )
    offered_principal: str = option(
        "Kerberos principal of such a gateway, with its realm: pkcs11/site-3.example.org@EXAMPLE.ORG.", ""
    )
    protocol: str = option(
        "What command or address speaks: p11-kit (p11-kit remote, p11-kit server) or keyway (another gateway). Empty: p11-kit for a command, "
        "keyway for an address.",
        "",
        choices=("", "keyway", "p11-kit"),
    )
    insecure: bool = option(
        "Whether a tcp address may be outside loopback: PINs and data can be read on the way.", False
    )
    server_name: str = option(
        "TLS: name that the other end's certificate must have. Empty: the host of the address.", ""
    )
    threads: int = option(
        "How many calls one host executes at a time. 1 for a module that is not safe with several threads.",
        8,
        at_least=1,
        at_most=256,
    )
    shared_memory: int = option(
        "Bytes of memory that the daemon shares with each host, for requests and replies that are large: a quarter of it for each of up to four at a time. The system "
        "gives it when it is used. 0: they go through a socket, which is slower.",
        16_777_216,
        at_least=0,
        at_most=268_435_456,
    )
    environment: MappingProxyType[str, str] = option(
        "Environment variables for the hosts, or for the command. They inherit only PATH, HOME, LANG, LC_ALL and TZ from the daemon.",
        {},
    )
    working_directory: Path = option("Working directory of the hosts, or of the command.", Path("/"))
    init_string: str = option(
        "Text given to the module's C_Initialize as pReserved. Empty: NULL. What a client gives as pReserved is never passed on.",
        "",
    )
    os_locking: bool = option(
        "Whether C_Initialize asks for CKF_OS_LOCKING_OK. Turn it off, and set threads = 1, for a module that refuses the flag.",
        True,
    )
    spares: int = option(
        "How many hosts wait with the module loaded, so that a new client need not wait for that; for other backends, how many connections wait "
        "(another gateway closes them after its limits.greeting). "
        "-1: 2 for a module, none for the others.",
        -1,
        at_least=-1,
        at_most=64,
    )
    start: str = option(
        "How hosts start. load: each loads the module itself. copy: as copies of a process that has the module loaded, which is faster by "
        "far. Only for a module that notices when its process is forked: one with a random number generator of its own that does not would "
        "give all clients the same numbers. SoftHSM does notice. A module that leaves threads running is never copied.",
        "load",
        choices=("load", "copy"),
    )
    warm_up: bool = option(
        "With start = copy: whether C_Initialize and C_Finalize are called once before the first copy is made, so that no client waits for "
        "what a module does only the first time. Turn it off for a module that can't be initialised twice in one process.",
        True,
    )
    isolation: str = option(
        "How hosts are shared. client: each client has a host of its own.", "client", choices=("client",)
    )
    read_ahead: bool = option(
        "Whether clients may read attributes ahead while they list objects, which saves round trips. Turn it off for a module to which reading an "
        "attribute matters: one that logs or counts it.",
        True,
    )
    start_timeout: float = option(
        "Seconds that loading the module, or connecting, and then C_Initialize may take each.",
        15.0,
        at_least=0.1,
        at_most=600,
    )
    call_timeout: float = option(
        "Seconds that a call may take until its host is taken for hung and killed. 0: any time. Generating a key may take minutes.",
        0.0,
        at_least=0,
        at_most=86_400,
    )
    error_classes: MappingProxyType[str, str] = option(
        "Pools: what the vendor's own return values mean. Keys are numbers (0x80000383) or names of the standard, which changes what a pool "
        "takes them for; values are lost (the token can't be reached), session (the session is gone, the token is not), busy (later, or "
        "elsewhere) and caller (no fault of the token).",
        {},
    )
    sandbox: SandboxOptions = SandboxOptions()

    @property
    def speaks_kerberos(self) -> bool:
        """Whether the other end wants a ticket."""
        return self.kerberos or isinstance(self.address, Gss)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenOptions:
    """A token that clients see, in a slot of its own: one of a backend; a pool, several with the same keys that are seen as one; or views, where the PIN tells which token is meant. Without any such section clients see all slots of all backends."""

    backend: str = option(
        "Name of the backend. May be left out when there is only one. Not for a pool, nor for views.", ""
    )
    uri: str = option(
        "PKCS #11 URI (RFC 7512) that the token must match, such as pkcs11:token=demo;serial=01. Not for a pool, nor for views.",
        "",
    )
    label: str = option(
        "Label that the token must have. For a pool, or views: label that it shows, up to 32 bytes. Empty: NAME.", ""
    )
    serial: str = option(
        "Serial number that the token must have. For a pool, or views: serial number that it shows, up to 16 bytes. Empty: a number made from NAME.",
        "",
    )
    backend_slot: int = option(
        "Slot ID in the module. -1: any. Many modules number their slots anew, so prefer label or serial. Not for a pool, nor for views.",
        -1,
        at_least=-1,
    )
    slot: int = option(
        "Slot ID that clients see. -1: the first number that is free, counting from 0 in the order of the file.",
        -1,
        at_least=-1,
        at_most=0x7FFFFFFF,
    )
    views: tuple[str, ...] = option(
        "Makes the PIN tell which token is meant: names of [view.NAME] sections. It needs identities, for which wrong PINs are counted.",
        (),
    )
    members: tuple[str, ...] = option(
        "Makes the token a pool: PKCS #11 URIs of the tokens that belong to it, such as pkcs11:token=vault?backend=hsm1. Behind the question mark, "
        "joined by &: backend=NAME, which may be left out when there is only one; name=MEMBER, what the member is called, by default like its backend; "
        "weight=N, 1 to 1000, its share when calls are balanced, by default 1; standby=yes: it serves only when no other member can.",
        (),
    )
    policy: str = option(
        "Pools: who serves. failover: the first member in the order of the file that can. balance: all that can, each by its weight.",
        "failover",
        choices=("failover", "balance"),
    )
    writes: str = option(
        "Pools: whether clients may change objects on the token. deny: no. first: yes, on the member that serves, and keeping the others the same is up to you. "
        "all: yes, on all members.",
        "deny",
        choices=("deny", "first", "all"),
    )
    quorum: int = option(
        "Pools: on how many members a change must have been made for the call to succeed. 0: on all members.",
        0,
        at_least=0,
    )
    wrapping_key: str = option(
        "Pools with writes = all: label of a secret key that each member has. Keys that are made in one member are copied to the others wrapped under it.",
        "",
    )
    deadline: float = option(
        "Pools: seconds that a call may take, with all members that it is tried on.", 2.0, at_least=0.1, at_most=600
    )
    long_deadline: float = option(
        "Pools: the same for calls that take longer, such as generating and deriving keys, C_InitToken and logins.",
        120.0,
        at_least=0.1,
        at_most=86_400,
    )
    journal: int = option(
        "Pools: bytes of a multi-part operation that are kept for each session, so that another member can go on with it. 0: none.",
        1_048_576,
        at_least=0,
        at_most=1_073_741_824,
    )
    remember_pin: bool = option(
        "Pools: whether a client's PIN is kept in memory as long as the client is logged in, to log in at another member. Without it a client that loses "
        "its member must log in again.",
        True,
    )
    pin_file: Path | None = option(
        "File with the user PIN, for the gateway itself: to check members of a pool, and to log in clients that give no PIN. A token that is no pool needs identities for it. It must be a regular file "
        "that others can't read. Or pin-source=file:/path behind the question mark of uri.",
        None,
    )

    @property
    def is_pool(self) -> bool:
        """Whether this is a pool."""
        return bool(self.members)

    @property
    def has_views(self) -> bool:
        """Whether the PIN tells which token is meant."""
        return bool(self.views)

    @property
    def is_plain(self) -> bool:
        """Whether this is a token of a backend."""
        return not self.members and not self.views


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferOptions(EntranceOptions, KerberosOptions):
    """A gateway elsewhere to which this one connects, to offer its tokens there: for a gateway that can't be reached from outside."""

    to: Tls | Gss = option("Address of a listener with protocol = offer there: tls://host:port or gss://host:port.")
    server_name: str = option("TLS: name that the certificate there must have. Empty: the host of the address.", "")
    spares: int = option("How many connections wait there for clients.", 2, at_least=1, at_most=64)

    @property
    def speaks_kerberos(self) -> bool:
        """Whether a ticket is shown there."""
        return self.kerberos or isinstance(self.to, Gss)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """The log, on standard error."""

    level: str = option("The least severe messages to write.", "info", choices=("debug", "info", "warning", "error"))
    format: str = option(
        "console for people, json for programs: one object a line.", "console", choices=("console", "json")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsOptions:
    """Where monitoring asks, by HTTP: /metrics for Prometheus, /health and /ready."""

    address: Tcp | None = option("Where: tcp://127.0.0.1:9464. Without it nobody listens.", None)
    insecure: bool = option(
        "Whether the address may be outside loopback: everybody who can connect there sees names of tokens and how much they are used.",
        False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions(TlsOptions):
    """Provisioning over HTTP, by `keyway api`, a process of its own that is a client of the daemon. Someone must be let in: see tokens_file, ca and anonymous."""

    address: Address = option("Where: tcp://host:port, or tls://host:port.", Tcp("127.0.0.1", 8081))
    insecure: bool = option("Whether a tcp address may be outside loopback: PINs can be read on the way.", False)
    client_certificates: str = option(
        "TLS: whether callers must show a certificate that comes from a CA of the file. One that is shown is enough to be let in.",
        "required",
        choices=("required", "optional", "none"),
    )
    certificate_names: tuple[str, ...] = option(
        "TLS: names in client certificates that are let in. Empty: all that come from the CA.", ()
    )
    tokens_file: Path | None = option(
        "File with the bearer tokens of callers, NAME:SHA-256 in hexadecimal, one a line. It must be a regular file that others can't read, and is "
        "read again when it changes.",
        None,
    )
    kerberos: bool = option(
        "Whether callers are let in by Kerberos tickets (HTTP's Negotiate, RFC 4559). Over TLS a ticket is bound to the server's certificate.",
        False,
    )
    service: str = option(
        "Kerberos: name of this server, as service@host or as principal service/host@REALM. Empty: HTTP of any host whose key is in the keytab.",
        "",
    )
    keytab: Path | None = option(
        "Kerberos: keytab with the key of that name. Without it: that of the system (KRB5_KTNAME).", None
    )
    principals: tuple[str, ...] = option(
        "Kerberos: principals that are let in, with their realms. Empty: all that have a ticket.", ()
    )
    channel_binding: str = option(
        "Kerberos over TLS: whether callers must bind their tickets to the TLS connection. optional: those that know no binding are let in, too, as curl before 8.10 and browsers; "
        "then somebody between can pass a ticket on if the caller accepts his certificate.",
        "required",
        choices=("required", "optional"),
    )
    anonymous: str = option(
        "Who is let in without showing anything, on a tcp address on loopback: nobody, callers of the compatible API (/pkcs11), or all. Every user and "
        "program of this machine can be one of them.",
        "none",
        choices=("none", "compatible", "all"),
    )
    socket: Path | None = option("Socket of the daemon. Without it: that of [listen].", None)
    body: int = option("Bytes of a request's body.", 65_536, at_least=1024, at_most=1_048_576)
    requests: int = option(
        "Requests that are served at a time. Those beyond it are told to come again.", 64, at_least=1, at_most=4096
    )
    compatible_token: str = option("Label of the token of the compatible API when a request names none.", "sdewan-sgx")
    compatible_pin: str = option(
        "Name of the [api.pin.NAME] section with its user PIN when a request gives none. Empty: 12345678, as callers of that API expect.",
        "",
    )
    compatible_so_pin: str = option("The same for the PIN of the security officer.", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiPinOptions:
    """A PIN that stays in the gateway. Requests name it, or give no PIN at all."""

    file: Path = option(
        "File with the PIN, and perhaps a line end. It must be a regular file that others can't read. It is read each time."
    )
    token: str = option("Label of the token that it is for. It is never shown to another.")
    user: str = option("Whose PIN it is: the user's, or that of the security officer.", "user", choices=("user", "so"))
    callers: tuple[str, ...] = option(
        "Who may use it: names of bearer tokens, certificate:NAME for client certificates, kerberos:PRINCIPAL for tickets, anonymous. Empty: all who are let in.",
        (),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitOptions:
    """What clients may use up."""

    contexts: int = option("Contexts (initialised clients) at a time.", 1024, at_least=1, at_most=65_536)
    sessions: int = option("Open sessions of one context.", 4096, at_least=1, at_most=1_048_576)
    body: int = option("Bytes in the body of one frame.", 67_108_864, at_least=4096, at_most=67_108_864)
    write_buffer: int = option(
        "Bytes that may wait for a slow reader before the other side is no longer read.",
        1_048_576,
        at_least=4096,
        at_most=67_108_864,
    )
    greeting: float = option(
        "Seconds that a client has from connecting to C_Initialize.", 30.0, at_least=0.1, at_most=3600
    )
    idle: float = option(
        "Seconds without a request after which a client that has no session is closed. libkeyway.so connects again when it needs to, "
        "p11-kit-client.so does not. 0: never.",
        0.0,
        at_least=0,
        at_most=604_800,
    )
    ending: float = option(
        "Seconds that a host has to end after its client has gone, before it is killed.", 5.0, at_least=0, at_most=600
    )
    drain: float = option(
        "Seconds that clients have to end when the daemon is told to stop, and after them the last checkpoint of the audit log.",
        5.0,
        at_least=0,
        at_most=3600,
    )
    pin_attempts: int = option(
        "With identities: wrong PINs in a row that one may give to a token before it must wait, longer each time. Give less than the token allows before it locks. 0: no limit.",
        2,
        at_least=0,
        at_most=1000,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """A whole configuration."""

    listen: ListenOptions | None = field(default_factory=ListenOptions)
    backends: MappingProxyType[str, BackendOptions]
    tokens: MappingProxyType[str, TokenOptions] = field(default_factory=lambda: MappingProxyType({}))
    listeners: MappingProxyType[str, ListenerOptions] = field(default_factory=lambda: MappingProxyType({}))
    offers: MappingProxyType[str, OfferOptions] = field(default_factory=lambda: MappingProxyType({}))
    log: LogOptions = field(default_factory=LogOptions)
    metrics: MetricsOptions = field(default_factory=MetricsOptions)
    audit: AuditOptions = field(default_factory=AuditOptions)
    traces: TracesOptions | None = None
    api: ApiOptions | None = None
    api_pins: MappingProxyType[str, ApiPinOptions] = field(default_factory=lambda: MappingProxyType({}))
    identities: MappingProxyType[str, IdentityOptions] = field(default_factory=lambda: MappingProxyType({}))
    roles: MappingProxyType[str, RoleOptions] = field(default_factory=lambda: MappingProxyType({}))
    views: MappingProxyType[str, ViewOptions] = field(default_factory=lambda: MappingProxyType({}))
    limits: LimitOptions = field(default_factory=LimitOptions)
