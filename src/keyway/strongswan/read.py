"""References to objects in tokens, found in files that strongSwan reads: swanctl.conf, ipsec.conf and ipsec.secrets.

These files may have been written by hand, so nothing here objects to what it finds: `diagnosis` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from keyway.strongswan.options import Setup

__all__ = ["Form", "Reference", "SettingsError", "of_ipsec", "of_settings", "of_setup", "parse_settings"]

Settings: TypeAlias = "dict[str, str | Settings]"

Form: TypeAlias = str
"""Which rules a reference follows: `swanctl`, `ipsec`, or `setup` for our own file."""

_TOKEN: Final = re.compile(
    r"""[ \t\r\n]+ | \#[^\n]* | (?P<mark>[{}]) | (?P<word>[^\s.,:{}="\#]+) | (?P<value>=[ \t]*(?:"(?:[^"\\]|\\.)*"|[^\n\#{}"]*)) | (?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_INCLUDE: Final = re.compile(r"^[ \t]*include[ \t]+[^\n]*$", re.MULTILINE)
_SMARTCARD: Final = re.compile(r"%smartcard(?P<slot>[^@:\s\"]*)(?:@(?P<module>[^:\s\"]*))?:(?P<handle>[^\s\"]*)")
_BARE: Final = re.compile(r"%smartcard[^\s\"]*")


@dataclass(frozen=True, slots=True)
class Reference:
    """An object in a token, as a file names it.

    Attributes:
        where: File and section or line.
        form: Whose rules it follows.
        handle: CKA_ID.
        slot: Number of the slot; empty if none is given.
        module: Name of the module; empty if none is given.
        has_key: Whether the private key is meant; else the certificate.
    """

    where: str
    form: Form
    handle: str
    slot: str = ""
    module: str = ""
    has_key: bool = True


class SettingsError(ValueError):
    """A text that is not in the form of swanctl.conf. It says on which line, and shows nothing of it."""


def of_setup(setup: Setup, slots: Mapping[str, int]) -> tuple[Reference, ...]:
    """Return what a set-up names: each key, with its certificate.

    Args:
        setup: What charon is to do.
        slots: Slots by the label of their token. One that is not there has the label in the place of its number.
    """
    found = []
    for name, key in setup.keys.items():
        token = setup.tokens[key.token]
        slot = token.slot if token.slot >= 0 else slots.get(token.label, token.label)
        found.append(Reference(f"key.{name}", "setup", key.id, str(slot), setup.module.name))
    return tuple(found)


def of_settings(text: str, name: str) -> tuple[Reference, ...]:
    """Return what swanctl.conf names.

    Args:
        text: What is in the file.
        name: Its name.

    Raises:
        SettingsError: It is not in that form.
    """
    return tuple(_handles(parse_settings(text), (), name))


def of_ipsec(text: str, name: str) -> tuple[Reference, ...]:
    """Return what ipsec.conf or ipsec.secrets names.

    Args:
        text: What is in the file.
        name: Its name.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        bare = re.sub(r"(^|\s)#.*", "", line)
        if not (meant := _BARE.search(bare)):
            continue
        match = _SMARTCARD.match(meant[0])
        slot, module, handle = (match["slot"], match["module"] or "", match["handle"]) if match else (meant[0], "", "")
        found.append(Reference(f"{name}:{number}", "ipsec", handle, slot, module, ": PIN" in bare or ":PIN" in bare))
    return tuple(found)


def parse_settings(text: str) -> Settings:
    """Return the settings of a text in the form of strongswan.conf and swanctl.conf. Includes are passed over.

    Raises:
        SettingsError: It is not in that form.
    """
    text = _INCLUDE.sub("", text)
    root: Settings = {}
    stack = [root]
    word = ""
    for match in _TOKEN.finditer(text):
        if match.lastgroup is None:
            continue
        kind, found = match.lastgroup, match[0]
        if kind == "word" and not word:
            word = found
        elif kind == "value" and word:
            stack[-1][word] = _value(found[1:].strip())
            word = ""
        elif found == "{" and word:
            inner = stack[-1].get(word)
            if not isinstance(inner, dict):
                inner = stack[-1][word] = {}
            stack.append(inner)
            word = ""
        elif found == "}" and not word and len(stack) > 1:
            stack.pop()
        else:
            raise SettingsError(f"line {text.count(chr(10), 0, match.start()) + 1}: not in the form of swanctl.conf")
    if len(stack) > 1 or word:
        raise SettingsError(f"line {text.count(chr(10)) + 1}: the file ends in a section")
    return root


def _value(text: str) -> str:
    if text.startswith('"'):
        return re.sub(r"\\(.)", lambda match: {"n": "\n", "t": "\t", "r": "\r"}.get(match[1], match[1]), text[1:-1])
    return text


def _handles(tree: Mapping[str, str | Settings], path: tuple[str, ...], name: str) -> Iterator[Reference]:
    handle = tree.get("handle")
    if isinstance(handle, str):
        slot, module = (value if isinstance(value := tree.get(key, ""), str) else "" for key in ("slot", "module"))
        has_key = path[-1].startswith("token") if path else False
        yield Reference(f"{name}: {'.'.join(path)}", "swanctl", handle, slot, module, has_key)
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _handles(value, (*path, key), name)
