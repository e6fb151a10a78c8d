"""`keyway strongswan`: configuration for IPsec gateways whose keys are behind Keyway, what is wrong with it, and loading it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from keyway.config import ConfigError
from keyway.strongswan.facts import slots_of
from keyway.strongswan.gather import PinFileError, facts_of, module_environment, read_pin, tokens_there
from keyway.strongswan.look import LookError
from keyway.strongswan.reader import parse
from keyway.strongswan.render import Profile, files
from keyway.strongswan.settled import RenderError, settled, unsettled
from keyway.strongswan.surroundings import charon_of_process, charon_of_unit, running_charon
from keyway.strongswan.write import ForeignFileError, write

if TYPE_CHECKING:
    from keyway.strongswan.facts import Charon, SeenSlot
    from keyway.strongswan.options import Setup
    from keyway.strongswan.read import Reference

__all__ = ["strongswan"]

MODULE_FILE: Final = Path("/etc/keyway/module.toml")
DEFAULT_VICI: Final = Path("/var/run/charon.vici")

_config = click.argument("config", type=click.Path(path_type=Path))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def strongswan() -> None:
    """Configure strongSwan for keys behind Keyway, find out what is wrong, and load it live."""


@strongswan.command()
@_config
@click.option("--profile", type=click.Choice([each.value for each in Profile]), required=True, help="Which files.")
@click.option("-o", "--output", "directory", type=click.Path(path_type=Path), required=True, help="Where they go.")
@click.option("--force", is_flag=True, help="Replace files of these names that this command did not write.")
def render(config: Path, profile: str, directory: Path, force: bool) -> None:
    """Write the files that make charon use the keys.

    swanctl: strongswan.conf and swanctl.conf. ipsec.conf: strongswan.conf, ipsec.conf and ipsec.secrets. They are to be included by the files of
    the same names in /etc.
    """
    setup = _complete(_read(config), None)
    try:
        written = write(files(setup, Profile(profile)), directory, replace_foreign=force)
    except RenderError as error:
        raise click.ClickException(f"{config}: {error}") from error
    except ForeignFileError as error:
        raise click.ClickException(f"{error}; --force replaces it") from error
    except OSError as error:
        raise click.ClickException(f"{error.filename or directory}: {error.strerror}") from error
    for path in written:
        click.echo(path)


@strongswan.command()
@_config
@click.option(
    "-f",
    "--file",
    "paths",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Look at this swanctl.conf, ipsec.conf or ipsec.secrets, too.",
)
@click.option("--pid", type=int, help="Process of charon. Default: the one that runs here.")
@click.option("--unit", type=click.Path(path_type=Path), help="Unit file that starts charon, instead of a process.")
@click.option("--login", is_flag=True, help="Try the PINs, once each: a wrong one counts.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    config: Path, paths: tuple[Path, ...], pid: int | None, unit: Path | None, login: bool, as_json: bool
) -> None:
    """Say what will keep charon from using the keys. The status is 1 if something will."""
    from keyway.strongswan.diagnosis import Weight, diagnosis
    from keyway.strongswan.read import of_setup

    setup = _read(config)
    charon = _charon(pid, unit)
    facts = facts_of(setup, charon, module_environment(setup, charon, os.environ), MODULE_FILE, login=login)
    references = [*of_setup(setup, slots_of(facts.slots)), *(each for path in paths for each in _references(path))]
    found = diagnosis(setup, references, facts, datetime.now(UTC))
    if as_json:
        click.echo(json.dumps({"findings": [asdict(each) for each in found]}, indent=2))
    else:
        for each in found:
            click.echo(f"{each.weight}: {each.where}: {each.what} [{each.code}]")
    if any(each.weight is Weight.ERROR for each in found):
        raise click.exceptions.Exit(1)
    if not as_json:
        click.echo(f"{config}: good: {len(references)} reference(s) to keys and certificates")


@strongswan.command()
@_config
@click.option(
    "--vici", type=click.Path(path_type=Path), default=DEFAULT_VICI, show_default=True, help="charon's vici socket."
)
@click.option("--wait", type=float, default=0.0, metavar="SECONDS", help="Wait so long for the tokens to be there.")
@click.option(
    "--rotate", is_flag=True, help="Let established IKE SAs change over to the certificates that are in the tokens now."
)
def apply(config: Path, vici: Path, wait: float, rotate: bool) -> None:
    """Load CAs, keys, pools and connections into a running charon. What is established stays."""
    from keyway.strongswan.live import ApplyError, Live

    setup = _read(config)
    try:
        with Live(vici) as live:
            setup = _complete(setup, _charon(live.process, None), wait=wait)
            for line in live.load(setup):
                click.echo(line)
            for line in live.rotate(setup) if rotate else ():
                click.echo(line)
    except ApplyError as error:
        raise click.ClickException(str(error)) from error


def _read(path: Path) -> Setup:
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except ConfigError as error:
        raise click.ClickException("\n".join(error.problems)) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise click.ClickException(f"{path}: can't be read: {reason}") from error


def _complete(setup: Setup, charon: Charon | None, *, wait: float = 0.0) -> Setup:
    """Return a set-up with all slots and PINs.

    Raises:
        click.ClickException: One can't be had.
    """
    pins = {}
    for name, token in setup.tokens.items():
        if token.pin_file is not None:
            try:
                pins[name] = read_pin(token.pin_file)
            except PinFileError as error:
                raise click.ClickException(f"token.{name}.pin_file: {error}") from error
    slots: tuple[SeenSlot, ...] = ()
    if wait or unsettled(setup):
        try:
            slots = tokens_there(setup, module_environment(setup, charon, os.environ), wait)
        except LookError as error:
            raise click.ClickException(str(error)) from error
    try:
        return settled(setup, slots_of(slots), pins)
    except RenderError as error:
        raise click.ClickException(str(error)) from error


def _charon(pid: int | None, unit: Path | None) -> Charon | None:
    """Return what is known of charon: the process or unit that is named, else the process that runs here, else its unit."""
    try:
        if unit is not None:
            return charon_of_unit(unit)
        if pid is None:
            pid = running_charon()
        return charon_of_process(pid) if pid is not None else charon_of_unit()
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from error


def _references(path: Path) -> tuple[Reference, ...]:
    from keyway.strongswan.read import SettingsError, of_ipsec, of_settings

    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise click.ClickException(f"{path}: can't be read: {error.strerror}") from error
    if path.name.startswith("ipsec.") or path.suffix == ".secrets":
        return of_ipsec(text, path.name)
    try:
        return of_settings(text, path.name)
    except SettingsError as error:
        raise click.ClickException(f"{path}: {error}") from error
