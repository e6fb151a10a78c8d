"""From TOML to `Setup`: everything is checked once, here, and every mistake in the file is reported at once."""

import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from types import MappingProxyType
from typing import Any, TypeVar

from keyway.config.errors import ConfigError, Wrong
from keyway.config.reader import Reader
from keyway.strongswan.options import (
    AuthorityOptions,
    ChildOptions,
    ConnectionOptions,
    KeyOptions,
    ModuleOptions,
    PoolOptions,
    Setup,
    TokenOptions,
)
from keyway.strongswan.safety import NAME_RULE, is_hex_id, is_section_name, unsafe

__all__ = ["parse"]

_SECTIONS = {
    "token": TokenOptions,
    "key": KeyOptions,
    "connection": ConnectionOptions,
    "child": ChildOptions,
    "authority": AuthorityOptions,
    "pool": PoolOptions,
}

_Section = TypeVar("_Section")


def parse(text: str, name: str = "configuration") -> Setup:
    """Turn the text of a configuration into objects.

    Args:
        text: TOML.
        name: What errors call the text: its file name.

    Raises:
        ConfigError: Something in it is wrong.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f"{name}: not TOML: {error}"]) from error
    reader = Reader(text, name)
    reader.only_keys(document, (), ("module", *_SECTIONS))
    module = reader.section(ModuleOptions, document, ("module",))
    found = {key: dict(reader.named_sections(kind, document, key)) for key, kind in _SECTIONS.items()}
    if not reader.problems:
        found = _with_references(found, reader.wrong)
    if not reader.problems:
        _check_texts(module, found, reader.wrong)
        _check_sections(found, reader.wrong)
    if reader.problems:
        raise ConfigError(reader.problems)
    return Setup(
        module=module,
        tokens=MappingProxyType(found["token"]),
        keys=MappingProxyType(found["key"]),
        connections=MappingProxyType(found["connection"]),
        children=MappingProxyType(found["child"]),
        authorities=MappingProxyType(found["authority"]),
        pools=MappingProxyType(found["pool"]),
    )


def _with_references(found: dict[str, dict[str, Any]], wrong: Wrong) -> dict[str, dict[str, Any]]:
    """Return the sections with the names filled in that may be left out, and check those that are given."""
    for key in ("token", "key", "connection", "child"):
        if not found[key]:
            wrong((key,), f"at least one [{key}.NAME] section is needed")
    return found | {
        "key": _referring(found, "key", "token", wrong),
        "connection": _referring(found, "connection", "key", wrong),
        "child": _referring(found, "child", "connection", wrong),
    }


def _referring(found: Mapping[str, Mapping[str, _Section]], key: str, to: str, wrong: Wrong) -> dict[str, _Section]:
    known = found[to]
    sections: dict[str, Any] = {}
    for name, section in found[key].items():
        named = getattr(section, to)
        if not named and len(known) == 1:
            sections[name] = replace(section, **{to: next(iter(known))})  # type: ignore[type-var]
            continue
        sections[name] = section
        if not named:
            wrong((key, name, to), f"must be given, as there are several: {', '.join(known)}")
        elif named not in known:
            wrong((key, name, to), f"there is no [{to}.{named}]")
    return sections


def _check_texts(module: ModuleOptions, found: Mapping[str, Mapping[str, Any]], wrong: Wrong) -> None:
    """Check that names and values can be written."""
    if not is_section_name(module.name):
        wrong(("module", "name"), NAME_RULE)
    for key, sections in {**found, "": {"module": module}}.items():
        for name, section in sections.items():
            path = (key, name) if key else (name,)
            if not is_section_name(name):
                wrong(path, NAME_RULE)
            for each in fields(section):
                value = getattr(section, each.name)
                texts = value if isinstance(value, tuple) else (str(value),) if value is not None else ()
                for text in texts:
                    if reason := unsafe(text, in_list=isinstance(value, tuple)):
                        wrong((*path, each.name), reason)
                        break


def _check_sections(found: Mapping[str, Mapping[str, Any]], wrong: Wrong) -> None:
    for name, token in found["token"].items():
        if token.slot < 0 and not token.label:
            wrong(("token", name), "needs a slot or a label")
        if token.pin and token.pin_file:
            wrong(("token", name, "pin_file"), "not together with pin")
    for name, key in found["key"].items():
        if not is_hex_id(key.id):
            wrong(
                ("key", name, "id"),
                "must be the CKA_ID in hexadecimal with all of its bytes, two digits each, such as 0001; not a label, without 0x and colons",
            )
    for name, connection in found["connection"].items():
        for identity in ("local_id", "remote_id"):
            if not getattr(connection, identity):
                wrong(("connection", name, identity), "must not be empty")
        if connection.remote_ca and connection.remote_ca not in found["authority"]:
            wrong(("connection", name, "remote_ca"), f"there is no [authority.{connection.remote_ca}]")
        for pool in connection.pools:
            if pool not in found["pool"]:
                wrong(("connection", name, "pools"), f"there is no [pool.{pool}]")
        if not any(child.connection == name for child in found["child"].values()):
            wrong(("connection", name), "no [child.NAME] section has it")
    for name, child in found["child"].items():
        if child.start != "peer" and not found["connection"][child.connection].remote_addrs:
            wrong(("child", name, "start"), f"needs remote_addrs in [connection.{child.connection}]")
