"""Telling the service manager how it goes (sd_notify(3))."""

import contextlib
import socket

__all__ = ["notify"]


def notify(address: str, state: str) -> None:
    """Send a state such as READY=1.

    Args:
        address: The value of NOTIFY_SOCKET; empty if nobody wants to know.
        state: What to tell.
    """
    if not address:
        return
    name = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.connect(name)
        channel.send(state.encode())
