"""Sections for those who host tokens for others: who is who, who may do what, and what is recorded."""

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from keyway.config.option import option

__all__ = ["AuditOptions", "IdentityOptions", "RoleOptions", "TracesOptions", "ViewOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOptions:
    """A record of who did what with which key, one JSON object a line, each bound to the one before by a hash. It is kept if file, syslog or stdout says where. Changes need a restart."""

    file: Path | None = option("File that lines are appended to. Best in a directory of its own.", None)
    max_size: int = option(
        "Bytes up to which the file grows. Then it gets the number of its first line behind its name, and another one is begun.",
        104_857_600,
        at_least=4096,
    )
    keep: int = option("How many of the older files stay. 0: all.", 10, at_least=0)
    sync: bool = option(
        "Whether what was written to the file is forced to the disk, so that it outlasts the machine's crash.", True
    )
    syslog: Path | None = option("Socket of syslog, or of journald: /dev/log.", None)
    stdout: bool = option("Whether lines go to standard output, for one who collects them there.", False)
    when_full: str = option(
        "What happens while lines can't be written. refuse: calls that would be recorded fail with CKR_DEVICE_ERROR. count: they are made, and records "
        "for which there is no room are counted.",
        "refuse",
        choices=("refuse", "count"),
    )
    checkpoint_every: int = option("Records after which there is a checkpoint.", 10_000, at_least=100, at_most=100_000)
    checkpoint_seconds: float = option(
        "Seconds after which there is one, if anything was recorded meanwhile.", 300.0, at_least=1, at_most=86_400
    )
    checkpoint_key: str = option(
        "PKCS #11 URI of the private key that signs checkpoints, EC or RSA, on a token that clients of [listen] see: pkcs11:token=vault;object=audit. "
        "Empty: they are not signed.",
        "",
    )
    checkpoint_pin_file: Path | None = option(
        "File with the user PIN of that token. It must be a regular file that others can't read, and is read each time.",
        None,
    )

    @property
    def is_kept(self) -> bool:
        """Whether there is a log at all."""
        return self.file is not None or self.syslog is not None or self.stdout


@dataclass(frozen=True, slots=True, kw_only=True)
class TracesOptions:
    """Where a span is sent for each call of clients, and one for each of their contexts, as OpenTelemetry has them (OTLP over HTTP). Needs the extra `keyway[traces]`. Changes need a restart."""

    endpoint: str = option("URL of the receiver, such as http://127.0.0.1:4318/v1/traces.")
    insecure: bool = option(
        "Whether an http URL may be outside loopback: others on the way see names of tokens, of applications and of calls.",
        False,
    )
    share: float = option(
        "Share of the contexts whose calls are sent, 1 for all. Contexts are chosen at random; the others pay nothing.",
        1.0,
        at_least=0,
        at_most=1,
    )
    service: str = option("Name of the service (service.name) that the spans are of.", "keyway")
    ca: Path | None = option(
        "https: PEM file with the CAs that the receiver's certificate may come from. Without it: those of the Python package certifi.",
        None,
    )
    certificate: Path | None = option("https: PEM file with the certificate that is shown to the receiver.", None)
    key: Path | None = option("https: PEM file with the private key of that certificate.", None)


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityOptions:
    """Who a client is: the first of these sections, in the order of the file, all of whose conditions it meets. With any such section, clients that are none of these see nothing; without, all may do everything. In patterns `*` stands for any characters within one part of a name."""

    user: tuple[int | str, ...] | None = option("Users at the other end of a unix socket, by name or number.", None)
    group: tuple[int | str, ...] | None = option("Groups, one of which that user is in, by name or number.", None)
    dns: tuple[str, ...] | None = option(
        'Patterns of DNS names in the client\'s certificate, such as "*.apps.example.org". Names with a wildcard in the certificate itself match nothing.',
        None,
    )
    uri: tuple[str, ...] | None = option(
        'Patterns of URIs in that certificate, such as the SPIFFE ID "spiffe://example.org/ns/web/sa/*". A star is in the path only.',
        None,
    )
    email: tuple[str, ...] | None = option("Patterns of email addresses in that certificate.", None)
    subject: tuple[str, ...] | None = option(
        'Subjects of that certificate as in RFC 4514, such as "CN=web,O=Example", exactly.', None
    )
    principal: tuple[str, ...] | None = option("Kerberos principals, exactly.", None)
    listener: tuple[str, ...] | None = option(
        "Names of [listener.NAME] sections that the client comes in by. An empty one is that of [listen].", None
    )
    offer: tuple[str, ...] | None = option("Names of [offer.NAME] sections that the client comes by.", None)
    anyone: bool = option("Whether everybody is meant; then there are no conditions.", False)
    roles: tuple[str, ...] = option("Names of the [role.NAME] sections. What one of them allows as a whole is allowed.")
    contexts: int = option(
        "Contexts of its clients at a time, so that they leave some of limits.contexts to others. 0: as many as there are.",
        0,
        at_least=0,
        at_most=65_536,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleOptions:
    """What some identities may do. What is not given is not limited; what is not allowed is not visible where the standard lets it be, and refused otherwise."""

    tokens: tuple[str, ...] = option(
        'Tokens that it sees: PKCS #11 URIs (RFC 7512), or names of [token.NAME] sections. "pkcs11:" is all of them.'
    )
    objects: tuple[MappingProxyType[str, str], ...] | None = option(
        "Objects that it sees, each as a table: class (private, public, secret-key, cert, data, or CKO_...), label (a pattern with `*`), id (in hexadecimal), key_type (CKK_...), "
        "uri (PKCS #11 URI of an object). All that one table gives must match. What it makes must match, too.",
        None,
    )
    mechanisms: tuple[str, ...] | None = option(
        "Mechanisms that it sees: CKM_..., 0x... for a vendor's, or a family: RSA, DSA, ECDSA, EDDSA, ECDH, DH, AES, DES, CAMELLIA, ARIA, SEED, ChaCha20, HMAC, MD5, SHA-1, SHA-2, SHA-3, BLAKE2, KDF, TLS, IKE, ML-DSA, ML-KEM, SLH-DSA, HSS, XMSS, GOST.",
        None,
    )
    functions: tuple[str, ...] | None = option(
        "Functions that it may use, besides those that need no leave: C_..., for operations the one that starts it, or a group: find, manage, generate, sign, verify, encrypt, decrypt, digest, wrap, unwrap, derive, encapsulate, decapsulate, random, state.",
        None,
    )
    read_only: bool = option("Whether it can't change the token.", False)
    administration: bool = option(
        "Whether it may use C_InitToken, C_InitPIN and C_SetPIN, and log in as the security officer.", False
    )
    export: bool = option(
        "Whether keys may leave the token: C_WrapKey, C_DigestKey, templates with CKA_EXTRACTABLE true or CKA_SENSITIVE false, reading the values of keys.",
        False,
    )
    no_padding_oracles: bool = option(
        "Whether to refuse decrypting and unwrapping where errors tell about the padding: RSA with PKCS #1 v1.5 or none, and CBC with padding.",
        False,
    )
    sessions: int = option(
        "Open sessions at a time of each identity at each token. 0: no limit.", 0, at_least=0, at_most=1_048_576
    )
    operations_per_second: int = option(
        "Calls a second of each identity at each token. 0: no limit.", 0, at_least=0, at_most=1_000_000_000
    )
    bytes_per_second: int = option(
        "Bytes of these calls a second. 0: no limit.", 0, at_least=0, at_most=1_000_000_000_000
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewOptions:
    """What one PIN of a token with `views` leads to: a token behind, and what may be done there."""

    token: str = option(
        "The token behind: a PKCS #11 URI such as pkcs11:token=tenant-a?backend=hsm1, where backend=NAME may be left out when there is only one backend; or NAME of a "
        "[token.NAME] section with members."
    )
    select: Path = option(
        "File with the PIN that leads here, in its first line. It must be a regular file that others can't read, and is read at each login."
    )
    pin_file: Path | None = option(
        "The same with the user PIN of the token behind; or pin-source=file:/path behind the question mark of its URI. Without either the PIN in select is that, too.",
        None,
    )
    roles: tuple[str, ...] = option(
        "Names of [role.NAME] sections: what one of them allows as a whole can be done behind this PIN, if a role of the identity allows it as well. Empty: whatever the identity may do.",
        (),
    )
