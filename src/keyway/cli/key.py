"""`keyway key` and `keyway csr`: key pairs of a token, and certificate requests for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from keyway.cli.provision import Place, asking, json_option, kept_pin, pin_options, place_options, told

if TYPE_CHECKING:
    from keyway.provision.models import KeyAnswer

__all__ = ["csr", "key"]

_token = click.argument("token")
_key = click.argument("label", metavar="KEY")


@click.group()
def key() -> None:
    """List key pairs of a token, make and delete them."""


def _line(each: KeyAnswer) -> str:
    return f"{each.label}: {each.type}, id {each.id or 'none'}" + ("" if each.has_private_key else ", public key only")


@key.command("list")
@_token
@pin_options
@json_option
@place_options
def list_(place: Place, token: str, pin_file: Path | None, pin_ref: str, as_json: bool) -> None:
    """List the key pairs. Without a PIN: what the public keys tell."""
    pin = kept_pin(pin_file, pin_ref)
    with asking(place) as client:
        told(client.keys(token, **pin.given), as_json, _line)


@key.command()
@_token
@_key
@click.option("--jwk", "as_jwk", is_flag=True, help="Print the public key as a JSON Web Key, not as PEM.")
@pin_options
@place_options
def public(place: Place, token: str, label: str, as_jwk: bool, pin_file: Path | None, pin_ref: str) -> None:
    """Print a public key."""
    pin = kept_pin(pin_file, pin_ref, prompt="User PIN")
    with asking(place) as client:
        found = client.key(token, label, **pin.given)
        if as_jwk:
            told(found.public_key_jwk, True, str)
        else:
            click.echo(found.public_key_pem, nl=False)


@key.command()
@_token
@_key
@click.option("--type", "kind", default="rsa:2048", show_default=True, help="rsa:BITS, EC:CURVE or Ed25519.")
@click.option("--id", "id_", default="", metavar="HEX", help="CKA_ID. Default: one that is made from the label.")
@click.option("--usage", multiple=True, default=("sign",), show_default=True, help="sign, decrypt, unwrap or derive.")
@click.option("--extractable", is_flag=True, help="Let the private key leave the token, wrapped.")
@pin_options
@json_option
@place_options
def create(
    place: Place,
    token: str,
    label: str,
    kind: str,
    id_: str,
    usage: tuple[str, ...],
    extractable: bool,
    pin_file: Path | None,
    pin_ref: str,
    as_json: bool,
) -> None:
    """Make a key pair, unless there is one with this label and type."""
    pin = kept_pin(pin_file, pin_ref, prompt="User PIN")
    with asking(place) as client:
        made = client.create_key(token, label, kind, id=id_, usage=usage, extractable=extractable, **pin.given)
        told(made, as_json, _line)


@key.command()
@_token
@_key
@click.option("--yes", is_flag=True, help="Do not ask.")
@pin_options
@place_options
def delete(place: Place, token: str, label: str, yes: bool, pin_file: Path | None, pin_ref: str) -> None:
    """Delete a key pair for good. Its certificates stay."""
    if not yes:
        click.confirm(f"Delete the key pair {label} of {token}? Nothing brings it back", abort=True, err=True)
    pin = kept_pin(pin_file, pin_ref, prompt="User PIN")
    with asking(place) as client:
        client.delete_key(token, label, **pin.given)
    click.echo(f"{label}: deleted", err=True)


@click.command()
@_token
@_key
@click.option("--subject", default="", help="CN=node-1,O=Example or /O=Example/CN=node-1.")
@click.option("--name", "names", multiple=True, help="Subject alternative name: dns:, ip:, email: or uri: and a value.")
@click.option("--key-usage", multiple=True, help="digitalSignature and so on.")
@click.option(
    "--extended-key-usage", multiple=True, help="serverAuth, clientAuth, ipsecIKE and so on, or dotted numbers."
)
@click.option("--padding", type=click.Choice(["pkcs1", "pss"]), default=None, help="RSA keys. Default: pkcs1.")
@click.option(
    "--hash",
    "hash_",
    type=click.Choice(["sha256", "sha384", "sha512"]),
    default=None,
    help="Default: what fits the key.",
)
@pin_options
@place_options
def csr(
    place: Place,
    token: str,
    label: str,
    subject: str,
    names: tuple[str, ...],
    key_usage: tuple[str, ...],
    extended_key_usage: tuple[str, ...],
    padding: str | None,
    hash_: str | None,
    pin_file: Path | None,
    pin_ref: str,
) -> None:
    """Print a certificate request for a key pair, signed by the token."""
    pin = kept_pin(pin_file, pin_ref, prompt="User PIN")
    with asking(place) as client:
        pem = client.csr(
            token,
            label,
            subject,
            names=names,
            key_usage=key_usage,
            extended_key_usage=extended_key_usage,
            padding=padding or "",
            hash=hash_ or "",
            **pin.given,
        )
    click.echo(pem, nl=False)
