"""Views: tokens whose PIN tells which token is meant."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from keyway.access.policy import Access
from keyway.access.role import TokenFacts
from keyway.config.access import roles_of
from keyway.config.errors import Wrong
from keyway.config.options import Config, TokenOptions, ViewOptions
from keyway.config.pools import shown
from keyway.config.uris import token_uri
from keyway.cryptoki import Uri

__all__ = ["MODEL", "ViewTarget", "check_views", "facts_of", "target_of", "token_with_views"]

MODEL: Final = "Views"
"""CK_TOKEN_INFO.model of such a token."""
_OF_VIEWS: Final = ("views", "label", "serial", "slot")
_SCHEME: Final = "pkcs11:"


@dataclass(frozen=True, slots=True)
class ViewTarget:
    """The token that a view leads to: one of a backend, or a pool.

    Attributes:
        backend: Name of the backend; empty for a pool.
        uri: What the token there must match.
        pool: Name of the pool's [token.NAME] section; empty for a token of a backend.
    """

    backend: str = ""
    uri: Uri = dataclasses.field(default_factory=Uri)
    pool: str = ""


def target_of(view: ViewOptions, config: Config) -> ViewTarget:
    """Return which token a view leads to.

    Raises:
        ValueError: That can't be told. Never of a configuration that was loaded.
    """
    if not view.token.lower().startswith(_SCHEME):
        if view.token not in config.tokens or not config.tokens[view.token].is_pool:
            raise ValueError(
                f"{view.token} is no PKCS #11 URI, and there is no section [token.{view.token}] with members"
            )
        return ViewTarget(pool=view.token)
    uri = token_uri(view.token, ("backend",))
    if uri.vendor:
        raise ValueError(
            f"{uri.vendor[0][0]} is not known here; attributes of Keyway's own stand behind a question mark"
        )
    names = [value for _, value in uri.vendor_query] or [
        next(iter(config.backends)) if len(config.backends) == 1 else ""
    ]
    if len(names) > 1:
        raise ValueError("backend occurs twice")
    if not names[0]:
        raise ValueError("backend= is missing, and there are several")
    if names[0] not in config.backends:
        raise ValueError(f"there is no section [backend.{names[0]}]")
    return ViewTarget(backend=names[0], uri=dataclasses.replace(uri, vendor_query=()))


def facts_of(name: str, token: TokenOptions) -> TokenFacts:
    """Return what roles know a token with views by.

    Args:
        name: The token's name.
        token: Its section, with label and serial number filled in.
    """
    return TokenFacts(name=name, label=token.label, manufacturer="Keyway", model=MODEL, serial=token.serial)


def check_views(config: Config, wrong: Wrong) -> None:
    """Check what views say, of themselves and of other sections.

    Args:
        config: Sections that are right each for itself.
        wrong: Told what is not.
    """
    used = {name for token in config.tokens.values() for name in token.views}
    for name, view in config.views.items():
        path = ("view", name)
        if name not in used:
            wrong(path, "no token has it in its views")
        try:
            target_of(view, config)
        except ValueError as error:
            wrong((*path, "token"), str(error))
        for role in view.roles:
            if role not in config.roles:
                wrong((*path, "roles"), f"there is no section [role.{role}]")


def token_with_views(name: str, token: TokenOptions, config: Config, wrong: Wrong) -> TokenOptions:
    """Check a token with views, and return it with what it shows filled in.

    Args:
        name: The token's name.
        token: Its section.
        config: The configuration.
        wrong: Told what is wrong.
    """
    path = ("token", name)
    for each in dataclasses.fields(TokenOptions):
        if each.name not in _OF_VIEWS and getattr(token, each.name) != each.default:
            wrong((*path, each.name), "is not for a token with views")
    if not config.identities:
        wrong(
            (*path, "views"), "needs identities, for which wrong PINs are counted; there is no section [identity.NAME]"
        )
    token = shown(name, token, wrong)
    selected: dict[Path, str] = {}
    for place, view in enumerate(token.views):
        if view not in config.views:
            wrong((*path, "views"), f"there is no section [view.{view}]")
        elif view in token.views[:place]:
            wrong((*path, "views"), f"{view} occurs twice")
        else:
            select = config.views[view].select
            if (other := selected.setdefault(select, view)) != view:
                wrong(("view", view, "select"), f"is also that of view.{other}: the PIN could not tell them apart")
            _check_roles(view, facts_of(name, token), config, wrong)
    return token


def _check_roles(view: str, token: TokenFacts, config: Config, wrong: Wrong) -> None:
    names = config.views[view].roles
    known = [name for name in names if name in config.roles]
    if not names or len(known) < len(names):
        return
    try:
        access = Access(roles_of(names, config)).on(token)
    except ValueError:
        return  # Told of the role.
    if access is None:
        wrong(("view", view, "roles"), f'none of them is for the token: give one of them tokens = ["{token.name}"]')
