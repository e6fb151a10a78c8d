"""PKCS #11 URIs of tokens, where a configuration names some."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from keyway.cryptoki import ObjectType, Uri, UriError

__all__ = ["key_uri", "split_pin_source", "token_uri"]

_OF_MODULES: Final = ("library_manufacturer", "library_description", "library_version", "module_name", "module_path")


def token_uri(text: str, known: Collection[str] = ()) -> Uri:
    """Read a URI that says which token is meant, and nothing else.

    Args:
        text: The URI.
        known: Attributes of no standard that it may have in its query.

    Raises:
        ValueError: It is none, or says more. The message never holds a value.
    """
    uri = _uri(text, known)
    if uri.names_object:
        raise ValueError("names an object, not a token")
    return uri


def key_uri(text: str) -> Uri:
    """Read a URI that says which private key on which token is meant.

    Args:
        text: The URI.

    Raises:
        ValueError: It is none, or says less, or more. The message never holds a value.
    """
    uri = _uri(text)
    if uri.token is None and uri.serial is None:
        raise ValueError("must name a token, by token or serial")
    if uri.object is None and uri.id is None:
        raise ValueError("must name a key, by object or id")
    if uri.type not in (None, ObjectType.PRIVATE):
        raise ValueError("must name a private key")
    return uri


def split_pin_source(text: str) -> tuple[str, Path | None]:
    """Return a URI without its pin-source, and the file that this names (RFC 7512, section 2.4); None if there is none.

    Args:
        text: The URI. One that is none is returned as it is.

    Raises:
        ValueError: The PIN would come from something else than a file. The message never holds a value.
    """
    try:
        uri = Uri.parse(text)
    except UriError:
        return text, None
    if uri.pin_source is None:
        return text, None
    try:
        source = urlsplit(uri.pin_source)
    except ValueError:
        source = None
    path = uri.pin_source
    if source is not None and source.scheme == "file" and source.netloc in ("", "localhost"):
        path = "" if source.query or source.fragment else unquote(source.path)
    if not path.startswith("/") or "\0" in path:
        raise ValueError("pin-source must be a file here: an absolute path, or file:/path")
    return str(replace(uri, pin_source=None)), Path(path)


def _uri(text: str, known: Collection[str] = ()) -> Uri:
    try:
        uri = Uri.parse(text)
    except UriError as error:
        raise ValueError(f"no PKCS #11 URI: {error}") from None
    if uri.pin_value is not None or uri.pin_source is not None:
        raise ValueError("must not hold a PIN")
    if any(getattr(uri, name) is not None for name in _OF_MODULES):
        raise ValueError("names a module, not a token")
    for name, _ in uri.vendor_query:
        if name not in known:
            raise ValueError(f"{name} is not known here")
    return uri
