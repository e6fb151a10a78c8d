"""The API from its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyway.config import Config
from keyway.provision.bearers import Bearers
from keyway.provision.compatible import Defaults
from keyway.provision.dispatch import make_dispatcher
from keyway.provision.pins import PinBook
from keyway.provision.server import ApiServer
from keyway.provision.service import Service

if TYPE_CHECKING:
    from keyway.address import Address

__all__ = ["api_server"]


def api_server(config: Config, daemon: Address, version: str) -> tuple[ApiServer, Service]:
    """Return the server of a configuration, and the service that is closed after it. Needs a running loop.

    Args:
        config: With a section [api].
        daemon: Where the daemon listens.
        version: Of the program.

    Raises:
        BearersError: The file of bearer tokens can't be used.
        KerberosError: The keytab can't be used.
        TlsError: The TLS files can't be used.
    """
    options = config.api
    assert options is not None
    pins = PinBook(config.api_pins)
    service = Service(daemon, pins)
    defaults = Defaults(options.compatible_token, options.compatible_pin, options.compatible_so_pin)
    dispatcher = make_dispatcher(service, pins, defaults, version)
    return ApiServer(options, dispatcher, Bearers(options.tokens_file)), service
