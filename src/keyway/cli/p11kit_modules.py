"""The modules that p11-kit is configured to use on this machine (pkcs11.conf(5))."""

import re
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["ConfiguredModule", "chosen", "configured_modules", "find_module", "parse_settings"]

PROGRAMS: Final = frozenset({"keyway", "p11-kit-remote"})
"""Who we are for `enable-in` and `disable-in`: ourselves, and the program of p11-kit's whose work we do."""
OWN_ENDS: Final = frozenset({"p11-kit-client.so", "p11-kit-proxy.so"})
"""p11-kit's modules that lead to servers such as this one: served by it, they could ask it, and so on."""

PACKAGE: Final = Path("/usr/share/p11-kit/modules")
SYSTEM: Final = Path("/etc/pkcs11")
MODULE_PATHS: Final = (
    f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}/pkcs11",
    "/usr/lib64/pkcs11",
    "/usr/lib/pkcs11",
    "/usr/local/lib/pkcs11",
)
"""Where modules named without a path are: `p11_module_path` of p11-kit-1.pc on the usual systems."""

_SETTING: Final = re.compile(r"\s*([A-Za-z0-9._-]+)\s*:\s*(.*?)\s*")
_FILE_NAME: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9_,.-]*)\.module")

Settings = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ConfiguredModule:
    """A module as its file describes it.

    Attributes:
        name: Name of the file, without ending.
        module: The shared library, perhaps without a path; empty for one that is remote.
        remote: Where it runs instead: `|command`, or an address.
        init_reserved: Text for its C_Initialize.
        is_critical: Whether nothing may go on without it.
    """

    name: str
    module: str = ""
    remote: str = ""
    init_reserved: str = ""
    is_critical: bool = False


def parse_settings(text: str) -> dict[str, str]:
    """Return the settings of a configuration file. Lines that are none are passed over, as they are by p11-kit."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    found = filter(None, map(_SETTING.fullmatch, lines))
    return {match[1]: match[2] for match in found}


def chosen(files: Mapping[str, Settings]) -> tuple[ConfiguredModule, ...]:
    """Return the modules that are for this program, those with the highest priority first.

    Args:
        files: The settings of each module by its name.
    """
    of_us = [(name, each) for name, each in files.items() if _is_for_us(each)]
    ordered = sorted(of_us, key=lambda item: (-_priority(item[1]), item[0]))
    return tuple(
        ConfiguredModule(
            name=name,
            module="" if each.get("remote") else each["module"],
            remote=each.get("remote", ""),
            init_reserved=each.get("x-init-reserved", ""),
            is_critical=each.get("critical") == "yes",
        )
        for name, each in ordered
    )


def configured_modules(environment: Mapping[str, str], user: int) -> tuple[ConfiguredModule, ...]:
    """Return the modules that p11-kit would serve here.

    Args:
        environment: With HOME and perhaps XDG_CONFIG_HOME.
        user: Number of the user. The files of root's own are left out, as they are by p11-kit.
    """
    home = environment.get("XDG_CONFIG_HOME") or f"{environment.get('HOME', '')}/.config"
    own = Path(home) / "pkcs11"
    places = [PACKAGE, SYSTEM / "modules"]
    wanted = _read(SYSTEM / "pkcs11.conf").get("user-config", "merge")
    if user and own.is_absolute():
        wanted = _read(own / "pkcs11.conf").get("user-config", wanted) if wanted != "none" else wanted
        if wanted != "none":
            places = [own / "modules"] if wanted == "only" else [*places, own / "modules"]
    files: dict[str, dict[str, str]] = {}
    for place in places:
        for name, path in _module_files(place):
            files.setdefault(name, {}).update(_read(path))
    return chosen(files)


def find_module(name: str) -> Path:
    """Return the path of a module, which may be named as in p11-kit's configuration.

    Raises:
        FileNotFoundError: It is nowhere.
    """
    if "/" in name:
        path = Path(name).absolute()
        if path.is_file():
            return path
        raise FileNotFoundError(f"{name}: no such module")
    for place in MODULE_PATHS:
        if (path := Path(place) / name).is_file():
            return path
    if Path(name).is_file():
        return Path(name).absolute()
    raise FileNotFoundError(f"{name}: no such module, neither here nor where p11-kit has its modules")


def _is_for_us(settings: Settings) -> bool:
    if not settings.get("remote") and not settings.get("module"):
        return False
    if Path(settings.get("module", "")).name in OWN_ENDS:
        return False
    enabled, disabled = (_names(settings.get(key, "")) for key in ("enable-in", "disable-in"))
    return bool(PROGRAMS & enabled) if enabled else not PROGRAMS & disabled


def _names(text: str) -> frozenset[str]:
    return frozenset(text.replace(",", " ").split())


def _priority(settings: Settings) -> int:
    try:
        return int(settings.get("priority", ""))
    except ValueError:
        return 0


def _module_files(place: Path) -> Iterable[tuple[str, Path]]:
    try:
        found = sorted(place.iterdir())
    except OSError:
        return []
    return [(match[1], path) for path in found if (match := _FILE_NAME.fullmatch(path.name))]


def _read(path: Path) -> dict[str, str]:
    try:
        return parse_settings(path.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return {}
