"""Provisioning from Python: `keyway.Client`."""

from keyway.client.client import Client
from keyway.client.errors import ClientError

__all__ = ["Client", "ClientError"]
