"""What charon is told over vici, and what swanctl.conf says: it is the same tree (swanctl.conf(5))."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from keyway.strongswan.options import ChildOptions, ConnectionOptions, Setup
from keyway.strongswan.settings import Tree

__all__ = ["authorities", "charon", "connections", "pools", "secrets", "swanctl"]

_START: Final = {"load": "start", "traffic": "trap"}


def charon(setup: Setup) -> Tree:
    """Return the section of strongswan.conf that makes charon load the module.

    Mutexes of the system's own, since modules behind a gateway refuse others; nothing else is left to the token: its hashing, random
    numbers and public keys would be round trips without use.
    """
    module: Tree = {"path": str(setup.module.path), "os_locking": "yes", "load_certs": "yes"}
    return {"charon": {"plugins": {"pkcs11": {"load": "yes", "modules": {setup.module.name: module}}}}}


def swanctl(setup: Setup) -> Tree:
    """Return all of swanctl.conf."""
    secret = {f"token-{name}": each for name, each in secrets(setup).items()}
    tree: dict[str, Tree] = {"connections": connections(setup), "secrets": secret}
    if setup.authorities:
        tree["authorities"] = authorities(setup)
    if setup.pools:
        tree["pools"] = pools(setup)
    return tree


def connections(setup: Setup) -> dict[str, Tree]:
    """Return the connections by name."""
    return {name: _connection(setup, name, each) for name, each in setup.connections.items()}


def secrets(setup: Setup) -> dict[str, Tree]:
    """Return the private keys by name, with their PINs. charon has no names for them over vici."""
    found: dict[str, Tree] = {}
    for name, key in setup.keys.items():
        pin = setup.tokens[key.token].pin
        found[name] = {**_handle(setup, name), **({"pin": pin} if pin else {})}
    return found


def authorities(setup: Setup) -> dict[str, Tree]:
    """Return the CAs by name."""
    return {name: {"file": str(each.certificate)} for name, each in setup.authorities.items()}


def pools(setup: Setup) -> dict[str, Tree]:
    """Return the pools by name."""
    return {
        name: {"addrs": each.addrs, **({"dns": each.dns} if each.dns else {})} for name, each in setup.pools.items()
    }


def _handle(setup: Setup, key: str) -> dict[str, str]:
    """Return what names an object in a token. All three: without a slot charon takes the first token that has such an object."""
    found = setup.keys[key]
    return {"handle": found.id.lower(), "slot": str(setup.tokens[found.token].slot), "module": setup.module.name}


def _connection(setup: Setup, name: str, connection: ConnectionOptions) -> Tree:
    remote: dict[str, Tree | str] = {"auth": "pubkey", "id": connection.remote_id}
    if connection.remote_ca:
        remote["cacert-1"] = {"file": str(setup.authorities[connection.remote_ca].certificate)}
    return {
        "version": "2",
        **dict(_lists(connection, "local_addrs", "remote_addrs", "proposals", "pools", "vips")),
        **dict(_times(connection)),
        "mobike": "yes" if connection.mobike else "no",
        "local": {"auth": "pubkey", "id": connection.local_id, "cert-1": _handle(setup, connection.key)},
        "remote": remote,
        "children": {key: _child(child) for key, child in setup.children.items() if child.connection == name},
    }


def _child(child: ChildOptions) -> Tree:
    tree = dict(_lists(child, "local_ts", "remote_ts", "esp_proposals"))
    if child.start in _START:
        return {**tree, "start_action": _START[child.start]}
    return tree


def _lists(options: object, *names: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the lists among the options that are not empty: charon has defaults of its own."""
    for name in names:
        if value := getattr(options, name):
            yield name, value


def _times(connection: ConnectionOptions) -> Iterator[tuple[str, str]]:
    for name in ("reauth_time", "rekey_time", "dpd_delay"):
        if value := getattr(connection, name):
            yield name, f"{value}s"
