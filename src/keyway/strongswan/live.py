"""A running charon, over its vici socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

from keyway.strongswan.options import Setup
from keyway.strongswan.settings import Tree
from keyway.strongswan.swanctl import connections, pools, secrets

__all__ = ["ApplyError", "Live"]

TIMEOUT: Final = 120.0
"""Seconds that one command may take: a login at a distant token is part of it."""

_CREDENTIALS: Final = struct.Struct("3i")
"""Process, user and group (unix(7))."""

DUPLICATE: Final = "due to existing duplicate"
"""What charon says, in its log alone, when it is to set up a CHILD SA that it has."""


class ApplyError(Exception):
    """charon did not do what it was told. The text says what, and never a PIN."""


class _Refused(Exception):
    """charon could not do something. The text says what, and what its log says of it last.

    Attributes:
        is_duplicate: Whether it is there already.
    """

    def __init__(self, what: str, log: list[str]) -> None:
        super().__init__(": ".join([what, *log[-1:]]))
        self.is_duplicate = any(DUPLICATE in line for line in log)


class _Child(NamedTuple):
    id: str
    name: str


class _Sa(NamedTuple):
    """An IKE SA.

    Attributes:
        id: charon's number for it.
        is_ours: Whether this end began it.
        children: The CHILD SAs that carry packets.
    """

    id: str
    is_ours: bool
    children: tuple[_Child, ...]


class Live:
    """A conversation with charon; a context manager that ends it."""

    def __init__(self, path: Path) -> None:
        """Connect.

        Args:
            path: charon's vici socket.

        Raises:
            ApplyError: No charon is there.
        """
        try:
            import vici
        except ModuleNotFoundError as error:
            raise ApplyError("the vici package is not installed; install keyway[strongswan]") from error
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(TIMEOUT)
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise ApplyError(f"no charon at {path}: {error.strerror or error}") from error
        self._session = vici.Session(self._socket)
        self._refused = vici.exception.CommandException

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def process(self) -> int:
        """The process of charon."""
        pid: int = _CREDENTIALS.unpack(
            self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )[0]
        return pid

    def load(self, setup: Setup) -> Iterator[str]:
        """Load everything, and yield a line for each thing that was loaded. What is established stays as it is.

        Each PIN is tried once. Certificates are read from the tokens anew.

        Args:
            setup: With all slots and PINs.

        Raises:
            ApplyError: charon refuses something. What was loaded before it stays loaded.
        """
        for name, authority in setup.authorities.items():
            try:
                certificate = authority.certificate.read_bytes()
            except OSError as error:
                raise ApplyError(f"authority {name}: {authority.certificate}: {error.strerror}") from error
            yield self._told("authority", name, self._session.load_authority, {name: {"cacert": certificate}})
        for name, key in secrets(setup).items():
            yield self._told("key", name, self._session.load_token, key, hint="; charon's log says why")
        for name, pool in pools(setup).items():
            yield self._told("pool", name, self._session.load_pool, {name: _vici(pool)})
        for name, connection in connections(setup).items():
            yield self._told("connection", name, self._session.load_conn, {name: _vici(connection)})

    def rotate(self, setup: Setup) -> Iterator[str]:
        """Let established IKE SAs change over to what was loaded, certificates above all, and yield a line for each.

        An IKE SA keeps the configuration that it began with, also when it proves anew who it is. So another one is set up beside it, and the old one
        ends when that carries the tunnel. SAs that the peer began stay: it begins the next one, too, and that takes what is loaded.

        Args:
            setup: What was loaded.

        Raises:
            ApplyError: A new SA can't be set up; the old one stays.
        """
        for name in setup.connections:
            for sa in self._sas(name):
                yield self._renewed(name, sa) if sa.is_ours else f"IKE SA {sa.id} of {name}: stays, the peer began it"

    def _renewed(self, name: str, old: _Sa) -> str:
        known = {sa.id for sa in self._sas(name)}
        for child in {each.name for each in old.children}:
            try:
                self._control(self._session.initiate, {"ike": name, "child": child})
            except _Refused as error:
                if error.is_duplicate:
                    return f"IKE SA {old.id} of {name}: has this configuration already"
                raise ApplyError(f"connection {name}: {error}; IKE SA {old.id} stays") from None
        new = [sa.id for sa in self._sas(name) if sa.id not in known]
        if not new:
            # A charon that does not look for duplicates has made another CHILD SA in the SA that is there.
            self._end_children_but(name, old)
            return f"IKE SA {old.id} of {name}: has this configuration already"
        try:
            self._control(self._session.terminate, {"ike-id": old.id})
        except _Refused as error:
            raise ApplyError(f"connection {name}: IKE SA {old.id} beside the new one: {error}") from None
        return f"IKE SA {old.id} of {name}: replaced by {', '.join(new)}"

    def _end_children_but(self, name: str, sa: _Sa) -> None:
        kept = {each.id for each in sa.children}
        for now in self._sas(name):
            for child in now.children:
                if now.id == sa.id and child.id not in kept:
                    with suppress(_Refused):
                        self._control(self._session.terminate, {"child-id": child.id})

    def _sas(self, name: str) -> list[_Sa]:
        """Return the established IKE SAs of a connection."""
        try:
            listed = [each[name] for each in self._session.list_sas({"ike": name}) if name in each]
        except OSError as error:
            raise ApplyError(f"charon has gone: {error.strerror or error}") from None
        return [
            _Sa(
                id=sa["uniqueid"].decode(),
                is_ours=sa.get("initiator") == b"yes",
                children=tuple(
                    _Child(each["uniqueid"].decode(), each["name"].decode())
                    for each in sa.get("child-sas", {}).values()
                    if each["state"] in {b"INSTALLED", b"REKEYED", b"REKEYING"}
                ),
            )
            for sa in listed
            if sa["state"] == b"ESTABLISHED"
        ]

    def _control(self, command: Callable[[Any], Iterable[Mapping[str, bytes]]], message: dict[str, str]) -> None:
        """Let charon do something that takes its time, and wait until it is done.

        Raises:
            _Refused: It can't be done.
            ApplyError: charon has gone.
        """
        log: list[str] = []
        try:
            for event in command({**message, "timeout": str(int(TIMEOUT * 1000)), "loglevel": "1"}):
                log.append(event.get("msg", b"").decode(errors="replace"))
        except self._refused as error:
            raise _Refused(str(error), log) from None
        except OSError as error:
            raise ApplyError(f"charon has gone: {error.strerror or error}") from None

    def _told(self, kind: str, name: str, command: Callable[[Any], object], message: object, hint: str = "") -> str:
        try:
            command(message)
        except self._refused as error:
            raise ApplyError(f"{kind} {name}: {error}{hint}") from None
        except OSError as error:
            raise ApplyError(f"charon has gone: {error.strerror or error}") from None
        return f"{kind} {name}: loaded"


def _vici(tree: Tree) -> dict[str, Any]:
    """Return settings as vici has them: lists are lists."""
    return {
        name: value if isinstance(value, str) else list(value) if isinstance(value, tuple) else _vici(value)
        for name, value in tree.items()
    }
