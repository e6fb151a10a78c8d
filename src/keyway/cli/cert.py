"""`keyway cert`: certificates of a token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyway.cli.provision import Place, asking, json_option, kept_pin, pin_options, place_options, read_pem, told

if TYPE_CHECKING:
    from keyway.provision.models import CertificateAnswer

__all__ = ["cert"]

_token = click.argument("token")
_file = click.argument("file", type=click.Path(path_type=Path, allow_dash=True))


@click.group()
def cert() -> None:
    """List certificates of a token, import, replace and delete them."""


def _line(each: CertificateAnswer) -> str:
    return f"{each.label}: {each.subject}, until {each.not_after}, id {each.id or 'none'}, sha256 {each.sha256}"


@cert.command("list")
@_token
@pin_options
@json_option
@place_options
def list_(place: Place, token: str, pin_file: Path | None, pin_ref: str, as_json: bool) -> None:
    """List the certificates."""
    pin = kept_pin(pin_file, pin_ref)
    with asking(place) as client:
        told(client.certificates(token, **pin.given), as_json, _line)


@cert.command()
@_token
@click.argument("sha256")
@pin_options
@place_options
def show(place: Place, token: str, sha256: str, pin_file: Path | None, pin_ref: str) -> None:
    """Print the certificate with a fingerprint as PEM."""
    pin = kept_pin(pin_file, pin_ref)
    with asking(place) as client:
        click.echo(client.certificate(token, sha256, **pin.given).pem, nl=False)


@cert.command("import")
@_token
@click.argument("key")
@_file
@pin_options
@json_option
@place_options
def import_(place: Place, token: str, key: str, file: Path, pin_file: Path | None, pin_ref: str, as_json: bool) -> None:
    """Put the certificate of a FILE, and its chain behind it, beside a key pair that has none yet."""
    pem = read_pem(file)
    pin = kept_pin(pin_file, pin_ref, prompt="User PIN")
    with asking(place) as client:
        told(client.import_certificate(token, key, pem, **pin.given), as_json, _line)


@cert.command()
@_token
@click.argument("key")
@_file
@pin_options
@json_option
@place_options
def replace(place: Place, token: str, key: str, file: Path, pin_file: Path | None, pin_ref: str, as_json: bool) -> None:
    """Put the certificate of a FILE beside a key pair, in place of those that it has."""
    pem = read_pem(file)
    pin = kept_pin(pin_file, pin_ref, prompt="User PIN")
    with asking(place) as client:
        told(client.replace_certificate(token, key, pem, **pin.given), as_json, _line)


@cert.command()
@_token
@click.argument("sha256")
@pin_options
@place_options
def delete(place: Place, token: str, sha256: str, pin_file: Path | None, pin_ref: str) -> None:
    """Delete the certificate with a fingerprint."""
    pin = kept_pin(pin_file, pin_ref, prompt="User PIN")
    with asking(place) as client:
        client.delete_certificate(token, sha256, **pin.given)
    click.echo(f"{sha256}: deleted", err=True)
