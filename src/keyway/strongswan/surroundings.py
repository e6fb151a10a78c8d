"""charon's surroundings on this machine: its process, its unit files, OpenSSL's engines."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from keyway.strongswan.facts import Charon

__all__ = ["charon_of_process", "charon_of_unit", "engines", "running_charon"]

PROGRAMS: Final = frozenset({"charon", "charon-systemd"})
UNITS: Final = ("strongswan.service", "strongswan-starter.service")
UNIT_PLACES: Final = (
    Path("/etc/systemd/system"),
    Path("/run/systemd/system"),
    Path("/usr/lib/systemd/system"),
    Path("/lib/systemd/system"),
)
ENGINE_PLACES: Final = (Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib"))
PROCESSES: Final = Path("/proc")

_SETTING: Final = re.compile(r"(Environment|EnvironmentFile)\s*=\s*(.*)")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)")


def charon_of_process(pid: int, processes: Path = PROCESSES) -> Charon:
    """Return what is known of a running charon.

    Args:
        pid: Its process.
        processes: Where processes are seen.

    Raises:
        OSError: It has gone, or belongs to somebody else.
    """
    text = (processes / str(pid) / "environ").read_bytes().decode(errors="surrogateescape")
    return Charon(f"charon, process {pid}", dict(each.split("=", 1) for each in text.split("\0") if "=" in each))


def running_charon(processes: Path = PROCESSES) -> int | None:
    """Return the process of a charon that runs here; None if there is none."""
    for each in sorted(processes.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if (each / "comm").read_text().strip() in PROGRAMS:
                return int(each.name)
        except OSError:
            continue
    return None


def charon_of_unit(path: Path | None = None) -> Charon | None:
    """Return what is known of a charon that systemd will start; None if there is no unit.

    Args:
        path: The unit file; None: strongSwan's own on this machine. What `FILE.d` has beside it counts, too.

    Raises:
        OSError: A file can't be read.
    """
    files = (
        [path]
        if path is not None
        else [each / name for name in UNITS for each in UNIT_PLACES if (each / name).is_file()][:1]
    )
    if not files:
        return None
    (unit,) = files
    places = {unit.parent, *(UNIT_PLACES if path is None else ())}
    drop_ins = [each for place in places for each in (place / f"{unit.name}.d").glob("*.conf")]
    environment: dict[str, str] = {}
    for each in (unit, *sorted(drop_ins, key=lambda drop_in: drop_in.name)):
        environment |= dict(_variables(each.read_text(encoding="utf-8", errors="replace")))
    return Charon(f"charon, unit {unit}", environment)


def _variables(text: str) -> Iterator[tuple[str, str]]:
    """Yield the variables that a unit file sets (systemd.exec(5))."""
    for line in text.replace("\\\n", " ").splitlines():
        if not (setting := _SETTING.fullmatch(line.strip())):
            continue
        if setting[1] == "Environment":
            yield from _assignments(setting[2])
        else:
            file = Path(setting[2].removeprefix("-").strip().strip('"'))
            if file.is_file():
                for each in file.read_text(encoding="utf-8", errors="replace").splitlines():
                    if not each.lstrip().startswith(("#", ";")):
                        yield from _assignments(each)


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    try:
        words = shlex.split(text)
    except ValueError:
        return
    for word in words:
        if match := _ASSIGNMENT.fullmatch(word):
            yield match[1], match[2]


def engines() -> tuple[str, ...]:
    """Return the OpenSSL engines for PKCS #11 that are installed here."""
    return tuple(
        str(found)
        for place in ENGINE_PLACES
        for pattern in ("engines-*/pkcs11.so", "*/engines-*/pkcs11.so")
        for found in sorted(place.glob(pattern))
    )
