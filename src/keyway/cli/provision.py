"""What the commands token, key, csr and cert have in common: where they ask, and how they get PINs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import click

from keyway.cli.look import unix_socket

if TYPE_CHECKING:
    from keyway.client import Client

__all__ = ["UserPin", "asking", "json_option", "kept_pin", "pin_options", "place_options", "so_pin_options", "told"]

PIN_VARIABLE: Final = "KEYWAY_PIN"
SO_PIN_VARIABLE: Final = "KEYWAY_SO_PIN"
BEARER_VARIABLE: Final = "KEYWAY_API_TOKEN"
MAX_FILE: Final = 1_048_576

Function = TypeVar("Function", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command asks.

    Attributes:
        socket: What --socket says.
        api: What --api says.
        bearer_file: File with the bearer token.
        ca: File with the CAs of the API's certificate.
        certificate: File with a client certificate.
        key: File with its key.
        kerberos: Whether to show a Kerberos ticket.
    """

    socket: str | None
    api: str | None
    bearer_file: Path | None
    ca: Path | None
    certificate: Path | None
    key: Path | None
    kerberos: bool


_FILE: Final = click.Path(path_type=Path, dir_okay=False)


def place_options(function: Function) -> Function:
    """Give a command the options that say where it asks; it gets a `Place` as `place`."""

    def wrapped(
        *,
        socket: str | None,
        api: str | None,
        bearer_file: Path | None,
        ca: Path | None,
        certificate: Path | None,
        key_file: Path | None,
        kerberos: bool,
        **others: Any,
    ) -> Any:
        return function(place=Place(socket, api, bearer_file, ca, certificate, key_file, kerberos), **others)

    wrapped.__doc__ = function.__doc__
    wrapped.__name__ = function.__name__
    wrapped.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    for option in (
        click.option("--kerberos", is_flag=True, help="Show our Kerberos ticket to --api, in place of a bearer token."),
        click.option("--key-file", type=_FILE, help="With https: file with the private key of --certificate."),
        click.option("--certificate", type=_FILE, help="With https: file with a client certificate."),
        click.option(
            "--ca", type=_FILE, help="With https: file with the CAs that the API's certificate may come from."
        ),
        click.option(
            "--bearer-file", type=_FILE, help=f"File with the bearer token for --api. Default: {BEARER_VARIABLE}."
        ),
        click.option("--api", metavar="URL", help="Ask keyway api at this address, not the daemon."),
        click.option(
            "--socket",
            metavar="PATH",
            help="The daemon's socket. Default: KEYWAY_ADDRESS, else /run/keyway/keyway.sock.",
        ),
    ):
        option(wrapped)
    return wrapped  # type: ignore[return-value]


class UserPin(NamedTuple):
    """A PIN, or the name of one that stays in the gateway; both may be empty. It does not show."""

    pin: str
    reference: str

    def __repr__(self) -> str:
        return "<a PIN>"

    @property
    def given(self) -> dict[str, str]:
        """What a client's methods take."""
        return {"pin": self.pin, "pin_ref": self.reference}


def pin_options(function: Function) -> Function:
    """Give a command the options of the user PIN."""
    click.option("--pin-ref", default="", metavar="NAME", help="Name of a PIN that stays in the gateway.")(function)
    click.option(
        "--pin-file", type=_FILE, help=f"File with the user PIN; - for standard input. Default: {PIN_VARIABLE}."
    )(function)
    return function


def so_pin_options(function: Function) -> Function:
    """Give a command the options of the security officer's PIN."""
    click.option("--so-pin-ref", default="", metavar="NAME", help="Name of an SO PIN that stays in the gateway.")(
        function
    )
    click.option(
        "--so-pin-file", type=_FILE, help=f"File with the PIN of the security officer. Default: {SO_PIN_VARIABLE}."
    )(function)
    return function


def kept_pin(
    file: Path | None, reference: str, *, variable: str = PIN_VARIABLE, prompt: str = "", confirm: bool = False
) -> UserPin:
    """Return the PIN that the options, or the environment, tell; or that somebody types.

    Args:
        file: What --pin-file says.
        reference: What --pin-ref says.
        variable: Name of the environment variable.
        prompt: What to ask for, where a PIN is needed and there is a terminal. Nothing typed means none.
        confirm: Whether it is to be typed twice.

    Raises:
        click.ClickException: The file can't be read.
        click.UsageError: Both options are there.
    """
    if file is not None and reference:
        raise click.UsageError("a file with a PIN and the name of a PIN in the gateway do not go together")
    if reference:
        return UserPin("", reference)
    if file is not None:
        return UserPin(_text(file).rstrip("\r\n"), "")
    if given := os.environ.get(variable, ""):
        return UserPin(given, "")
    if prompt and sys.stdin.isatty():
        typed: str = click.prompt(
            prompt, default="", show_default=False, hide_input=True, confirmation_prompt=confirm, err=True
        )
        return UserPin(typed, "")
    return UserPin("", "")


def _text(file: Path) -> str:
    try:
        if str(file) == "-":
            return sys.stdin.read(MAX_FILE)
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise click.ClickException(f"{file}: {reason}") from None


def read_pem(file: Path) -> str:
    """Return the certificates in a file as the API takes them: PEM as it is, DER as base64.

    Raises:
        click.ClickException: It can't be read.
    """
    from base64 import b64encode

    try:
        data = sys.stdin.buffer.read(MAX_FILE) if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise click.ClickException(f"{file}: {error.strerror}") from error
    return data.decode("ascii", "replace") if b"-----BEGIN" in data else b64encode(data).decode()


@contextmanager
def asking(place: Place) -> Iterator[Client]:
    """Give a client of the place that the options say; what it raises ends the command with a message.

    Raises:
        click.ClickException: Something went wrong.
    """
    from keyway.client import Client, ClientError

    if place.api is not None and place.socket is not None:
        raise click.UsageError("--api and --socket do not go together")
    if place.kerberos and place.api is None:
        raise click.UsageError("--kerberos needs --api")
    try:
        if place.api is not None:
            client = Client(
                place.api,
                bearer=_bearer(place),
                ca=place.ca,
                certificate=place.certificate,
                key=place.key,
                kerberos=place.kerberos,
            )
        else:
            client = Client(f"unix:{unix_socket(place.socket)}")
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error
    try:
        with client:
            yield client
    except ClientError as error:
        raise click.ClickException(f"{error} [{error.code}]") from error
    except OSError as error:
        raise click.ClickException(f"{place.api or 'the daemon'}: {error.strerror or error}") from error


def _bearer(place: Place) -> str:
    if place.bearer_file is not None:
        return _text(place.bearer_file).strip()
    return "" if place.kerberos else os.environ.get(BEARER_VARIABLE, "")


def told(answer: Any, as_json: bool, text: Callable[[Any], str]) -> None:
    """Print what the gateway answered.

    Args:
        answer: A model, or several.
        as_json: Whether as JSON.
        text: Makes a line for people of each.
    """
    import msgspec

    if as_json:
        click.echo(json.dumps(msgspec.to_builtins(answer), indent=2, ensure_ascii=False))
    elif isinstance(answer, tuple):
        for each in answer:
            click.echo(text(each))
    else:
        click.echo(text(answer))
