"""The files of a set-up, as texts."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from keyway.strongswan.ipsec import ipsec_conf, ipsec_secrets
from keyway.strongswan.options import Setup
from keyway.strongswan.safety import unsafe
from keyway.strongswan.settings import rendered
from keyway.strongswan.settled import RenderError
from keyway.strongswan.swanctl import charon, swanctl

__all__ = ["MARK", "Profile", "RenderedFile", "files"]

MARK: Final = "# Written by `keyway strongswan render`; changes are lost."
"""First line of each file, by which it is known when it is written anew."""


class Profile(StrEnum):
    """Which of strongSwan's two ways to be configured."""

    SWANCTL = "swanctl"
    IPSEC_CONF = "ipsec.conf"


@dataclass(frozen=True, slots=True)
class RenderedFile:
    """A file as it shall be.

    Attributes:
        name: Its name, without directory.
        text: What is in it.
        is_secret: Whether there is a PIN in it, so that its owner alone may read it.
    """

    name: str
    text: str
    is_secret: bool

    def __repr__(self) -> str:
        return f"RenderedFile({self.name!r}, {len(self.text)} characters, is_secret={self.is_secret})"


def files(setup: Setup, profile: Profile) -> tuple[RenderedFile, ...]:
    """Return the files that make charon use the keys.

    Args:
        setup: With all slots and PINs (`settled`).
        profile: Which files.

    Raises:
        RenderError: Something can't be written safely, or not at all in this form.
    """
    for name, token in setup.tokens.items():
        if token.slot < 0:
            raise RenderError(f"token.{name}: its slot is not known")
    has_pin = any(token.pin for token in setup.tokens.values())
    own = [_file("strongswan.conf", rendered(charon(setup)))]
    if setup.module.address:
        own.append(_file("charon.env", _environment(setup)))
    match profile:
        case Profile.SWANCTL:
            own.append(_file("swanctl.conf", rendered(swanctl(setup)), is_secret=has_pin))
        case Profile.IPSEC_CONF:
            own += [
                _file("ipsec.conf", ipsec_conf(setup)),
                _file("ipsec.secrets", ipsec_secrets(setup), is_secret=has_pin),
            ]
    return tuple(own)


def _file(name: str, text: str, *, is_secret: bool = False) -> RenderedFile:
    return RenderedFile(name, f"{MARK}\n{text}", is_secret)


def _environment(setup: Setup) -> str:
    """Return what has to be in charon's environment, in the form of systemd's EnvironmentFile."""
    if reason := unsafe(setup.module.address):
        raise RenderError(f"module.address: {reason}")
    return f'{setup.module.variable}="{setup.module.address}"\n'
