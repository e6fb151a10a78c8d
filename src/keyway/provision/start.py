"""The API from its configuration."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from keyway.config import Config
from keyway.provision.bearers import Bearers
from keyway.provision.compatible import Compatible, Defaults
from keyway.provision.dispatch import Dispatcher
from keyway.provision.pins import PinBook
from keyway.provision.routes import Places
from keyway.provision.server import ApiServer
from keyway.provision.service import Service

if TYPE_CHECKING:
    from keyway.address import Address

__all__ = ["api_server", "dispatcher"]


def dispatcher(service: Service, pins: PinBook, defaults: Defaults, version: str) -> Dispatcher:
    """Return what answers requests, whatever they come over.

    Args:
        service: Does the work.
        pins: PINs that stay in the gateway.
        defaults: Of the compatible API.
        version: Of the program.
    """
    return Dispatcher(Places(service, Compatible(service, pins, defaults)), version, time.monotonic)


def api_server(config: Config, daemon: Address, version: str) -> tuple[ApiServer, Service]:
    """Return the server of a configuration, and the service that is closed after it. Needs a running loop.

    Args:
        config: With a section [api].
        daemon: Where the daemon listens.
        version: Of the program.

    Raises:
        BearersError: The file of bearer tokens can't be used.
        TlsError: The TLS files can't be used.
    """
    options = config.api
    assert options is not None
    pins = PinBook(config.api_pins)
    service = Service(daemon, pins)
    defaults = Defaults(options.compatible_token, options.compatible_pin, options.compatible_so_pin)
    answering = dispatcher(service, pins, defaults, version)
    return ApiServer(options, answering, Bearers(options.tokens_file)), service
