"""PINs in files that URIs name: pin-source of RFC 7512, in the place of `pin_file`."""

import dataclasses
from pathlib import Path
from types import MappingProxyType

from keyway.config.errors import Wrong
from keyway.config.options import Config
from keyway.config.uris import split_pin_source

__all__ = ["with_pin_sources"]


def with_pin_sources(config: Config, wrong: Wrong) -> Config:
    """Return a configuration whose tokens and views have in `pin_file` what their URIs say of it.

    Args:
        config: Sections as they are in the file.
        wrong: Told what is wrong.
    """
    tokens, views = dict(config.tokens), dict(config.views)
    for name, token in config.tokens.items():
        if (split := _split(token.uri, token.pin_file, ("token", name, "uri"), wrong)) is not None:
            tokens[name] = dataclasses.replace(token, uri=split[0], pin_file=split[1])
    for name, view in config.views.items():
        if (split := _split(view.token, view.pin_file, ("view", name, "token"), wrong)) is not None:
            views[name] = dataclasses.replace(view, token=split[0], pin_file=split[1])
    return dataclasses.replace(config, tokens=MappingProxyType(tokens), views=MappingProxyType(views))


def _split(text: str, pin_file: Path | None, path: tuple[str, ...], wrong: Wrong) -> tuple[str, Path] | None:
    """Return a URI and the file that it names for the PIN; None if it names none."""
    try:
        uri, file = split_pin_source(text)
    except ValueError as error:
        wrong(path, str(error))
        return None
    if file is None:
        return None
    if pin_file is not None:
        wrong(path, "has a pin-source, and there is pin_file: it is one or the other")
    return uri, file
