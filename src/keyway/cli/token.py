"""`keyway token`: tokens of a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyway.cli.provision import (
    SO_PIN_VARIABLE,
    Place,
    asking,
    json_option,
    kept_pin,
    pin_options,
    place_options,
    so_pin_options,
    told,
)

if TYPE_CHECKING:
    from keyway.provision.models import TokenAnswer

__all__ = ["token"]

NEW_PIN_VARIABLE = "KEYWAY_NEW_PIN"


@click.group()
def token() -> None:
    """List tokens, initialise them, set their PINs."""


def _line(each: TokenAnswer) -> str:
    if not each.initialized:
        return f"slot {each.slot}: a token that is not initialised ({each.model})"
    notes = [
        *([] if each.user_pin_set else ["no user PIN"]),
        *(["user PIN locked"] if each.user_pin_locked else []),
        *(["write-protected"] if each.write_protected else []),
    ]
    return f"{each.label}: slot {each.slot}, {each.model}, serial number {each.serial_number}" + "".join(
        f", {note}" for note in notes
    )


@token.command("list")
@json_option
@place_options
def list_(place: Place, as_json: bool) -> None:
    """List all tokens."""
    with asking(place) as client:
        told(client.tokens(), as_json, _line)


@token.command()
@click.argument("label", metavar="TOKEN")
@json_option
@place_options
def show(place: Place, label: str, as_json: bool) -> None:
    """Show a token."""
    with asking(place) as client:
        told(client.token(label), as_json, _line)


@token.command()
@click.argument("label")
@click.option("--slot", type=click.IntRange(0), help="The slot. Default: the first that has a token to initialise.")
@so_pin_options
@pin_options
@json_option
@place_options
def init(
    place: Place,
    label: str,
    slot: int | None,
    so_pin_file: Path | None,
    so_pin_ref: str,
    pin_file: Path | None,
    pin_ref: str,
    as_json: bool,
) -> None:
    """Initialise a token, unless there is one with this label. A token is never initialised twice."""
    so_pin = kept_pin(
        so_pin_file, so_pin_ref, variable=SO_PIN_VARIABLE, prompt="PIN of the security officer", confirm=True
    )
    pin = kept_pin(pin_file, pin_ref, prompt="User PIN", confirm=True)
    with asking(place) as client:
        made = client.init_token(label, so_pin=so_pin.pin, so_pin_ref=so_pin.reference, slot=slot, **pin.given)
        told(made, as_json, _line)


@token.command()
@click.argument("label", metavar="TOKEN")
@click.option(
    "--new-pin-file", type=click.Path(path_type=Path), help=f"File with the new PIN. Default: {NEW_PIN_VARIABLE}."
)
@so_pin_options
@pin_options
@place_options
def set_pin(
    place: Place,
    label: str,
    new_pin_file: Path | None,
    so_pin_file: Path | None,
    so_pin_ref: str,
    pin_file: Path | None,
    pin_ref: str,
) -> None:
    """Set the user PIN: as the user, or as the security officer if there is a PIN of theirs."""
    so_pin = kept_pin(so_pin_file, so_pin_ref, variable=SO_PIN_VARIABLE)
    by_officer = any(so_pin)
    pin = kept_pin(pin_file, pin_ref, prompt="" if by_officer else "Present user PIN")
    if by_officer and (pin_file is not None or pin_ref):
        raise click.UsageError("either the user's present PIN or that of the security officer")
    new = kept_pin(new_pin_file, "", variable=NEW_PIN_VARIABLE, prompt="New user PIN", confirm=True)
    if not new.pin:
        raise click.UsageError("the new PIN is missing: --new-pin-file")
    with asking(place) as client:
        if by_officer:
            client.set_pin(label, new.pin, so_pin=so_pin.pin, so_pin_ref=so_pin.reference)
        else:
            client.set_pin(label, new.pin, **pin.given)
    click.echo(f"{label}: the user PIN is set", err=True)
