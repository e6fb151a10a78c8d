"""Keyway, a PKCS #11 gateway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keyway.client import Client, ClientError

__all__ = ["Client", "ClientError"]


def __getattr__(name: str) -> Any:
    # Late: the commands, and `keyway remote` above all, shall start without what provisioning needs.
    if name in __all__:
        from keyway import client

        return getattr(client, name)
    raise AttributeError(f"module 'keyway' has no attribute {name!r}")
