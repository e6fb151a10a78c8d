"""PKCS #11 URIs of tokens, where a configuration names some."""

from collections.abc import Collection
from typing import Final

from keyway.cryptoki import Uri, UriError

__all__ = ["token_uri"]

_OF_MODULES: Final = ("library_manufacturer", "library_description", "library_version", "module_name", "module_path")


def token_uri(text: str, known: Collection[str] = ()) -> Uri:
    """Read a URI that says which token is meant, and nothing else.

    Args:
        text: The URI.
        known: Attributes of no standard that it may have in its query.

    Raises:
        ValueError: It is none, or says more. The message never holds a value.
    """
    try:
        uri = Uri.parse(text)
    except UriError as error:
        raise ValueError(f"no PKCS #11 URI: {error}") from None
    if uri.names_object:
        raise ValueError("names an object, not a token")
    if uri.pin_value is not None or uri.pin_source is not None:
        raise ValueError("must not hold a PIN")
    if any(getattr(uri, name) is not None for name in _OF_MODULES):
        raise ValueError("names a module, not a token")
    for name, _ in uri.vendor_query:
        if name not in known:
            raise ValueError(f"{name} is not known here")
    return uri
