"""ipsec.conf and ipsec.secrets, the older form of strongSwan's configuration (ipsec.conf(5), ipsec.secrets(5))."""

import re
from collections.abc import Iterable, Iterator
from typing import Final

from keyway.strongswan.options import ChildOptions, Setup
from keyway.strongswan.safety import unsafe
from keyway.strongswan.settled import RenderError

__all__ = ["ipsec_conf", "ipsec_secrets", "smartcard"]

_AUTO: Final = {"peer": "add", "load": "start", "traffic": "route"}
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:,/%@*+!-]+")


def ipsec_conf(setup: Setup) -> str:
    """Return the text of ipsec.conf: a `conn` for each child, which charon joins to one connection where they agree, a `ca` for each CA.

    Raises:
        RenderError: A value can't be written safely.
    """
    sections = [
        *(
            _section("ca", name, [("cacert", str(each.certificate)), ("auto", "add")])
            for name, each in setup.authorities.items()
        ),
        *(_section("conn", name, _conn(setup, name, child)) for name, child in setup.children.items()),
    ]
    return "\n".join(sections)


def ipsec_secrets(setup: Setup) -> str:
    """Return the text of ipsec.secrets: a line for each key. charon stops reading the file at a line that it does not understand.

    Raises:
        RenderError: A value can't be written safely.
    """
    return "".join(f": PIN {smartcard(setup, name)} {_pin(setup, name)}\n" for name in setup.keys)


def smartcard(setup: Setup, key: str) -> str:
    """Return how these files name an object in a token; the slot is always decimal."""
    found = setup.keys[key]
    return f"%smartcard{setup.tokens[found.token].slot}@{setup.module.name}:{found.id.lower()}"


def _pin(setup: Setup, key: str) -> str:
    name = setup.keys[key].token
    pin = setup.tokens[name].pin
    if reason := unsafe(pin):
        raise RenderError(f"token.{name}.pin: {reason}")
    if " #" in pin:
        raise RenderError(f"token.{name}.pin: holds a # behind a space, which begins a comment in ipsec.secrets")
    return f'"{pin}"' if pin else "%prompt"


def _conn(setup: Setup, name: str, child: ChildOptions) -> Iterator[tuple[str, str]]:
    connection = setup.connections[child.connection]
    yield "keyexchange", "ikev2"
    if connection.proposals:
        yield "ike", _strict(connection.proposals)
    if child.esp_proposals:
        yield "esp", _strict(child.esp_proposals)
    yield "mobike", "yes" if connection.mobike else "no"
    if connection.reauth_time:
        yield "ikelifetime", f"{connection.reauth_time}s"
    elif connection.rekey_time:
        yield "ikelifetime", f"{connection.rekey_time}s"
    yield "reauth", "yes" if connection.reauth_time else "no"
    if connection.dpd_delay:
        yield "dpddelay", f"{connection.dpd_delay}s"
        yield "dpdaction", "clear"
    yield "left", _joined(connection.local_addrs, f"{name}.local_addrs") or "%any"
    yield "leftauth", "pubkey"
    yield "leftid", connection.local_id
    yield "leftcert", smartcard(setup, connection.key)
    yield "leftsendcert", "always"
    if connection.vips:
        yield "leftsourceip", _joined(connection.vips, f"{name}.vips")
    if child.local_ts:
        yield "leftsubnet", _joined(child.local_ts, f"{name}.local_ts")
    yield "right", _joined(connection.remote_addrs, f"{name}.remote_addrs") or "%any"
    yield "rightauth", "pubkey"
    yield "rightid", connection.remote_id
    if connection.remote_ca:
        raise RenderError(f"connection.{child.connection}.remote_ca: ipsec.conf has no place for it; leave it out")
    if connection.pools:
        yield "rightsourceip", _joined([setup.pools[each].addrs for each in connection.pools], f"{name}.pools")
        if dns := [each for pool in connection.pools for each in setup.pools[pool].dns]:
            yield "rightdns", _joined(dns, f"{name}.pools")
    if child.remote_ts:
        yield "rightsubnet", _joined(child.remote_ts, f"{name}.remote_ts")
    yield "auto", _AUTO[child.start]


def _strict(proposals: Iterable[str]) -> str:
    """Return proposals as the only ones."""
    return f"{','.join(proposals)}!"


def _joined(values: Iterable[str], where: str) -> str:
    for value in values:
        if reason := unsafe(value, in_list=True):
            raise RenderError(f"{where}: {reason}")
    return ",".join(values)


def _section(kind: str, name: str, settings: Iterable[tuple[str, str]]) -> str:
    lines = [f"{kind} {name}"]
    for key, value in settings:
        if reason := unsafe(value):
            raise RenderError(f"{kind} {name}: {key}: {reason}")
        quote = "" if _PLAIN.fullmatch(value) else '"'
        lines.append(f"  {key}={quote}{value}{quote}")
    return "".join(f"{line}\n" for line in lines)
