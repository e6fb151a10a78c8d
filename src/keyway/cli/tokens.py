"""Making tokens through a gateway."""

from pathlib import Path
from typing import Final

from keyway.cli.client import Client
from keyway.cryptoki import Null, Numbers, Room, TokenInfo, padded
from keyway.cryptoki.constants import CKF_RW_SESSION, CKF_SERIAL_SESSION, CKF_TOKEN_INITIALIZED, CKU_SO

__all__ = ["make_tokens", "slots_of"]

TIMEOUT: Final = 60.0
SESSION: Final = 1


def slots_of(client: Client) -> tuple[int, ...]:
    """Return all slots that a client sees."""
    (counted,) = client.call("C_GetSlotList", 1, Room(0, False))
    assert isinstance(counted, Numbers)
    (listed,) = client.call("C_GetSlotList", 1, Room(counted.count, True))
    assert isinstance(listed, Numbers)
    return listed.data or ()


def make_tokens(socket: Path, labels: tuple[str, ...], so_pin: str, pin: str) -> None:
    """Make those tokens that are not there yet.

    Args:
        socket: Where the gateway listens.
        labels: Labels of the tokens.
        so_pin: PIN of the security officer.
        pin: PIN of the user.

    Raises:
        CkError: A call failed.
        OSError: The connection broke.
    """
    for label in labels:
        with Client(socket, TIMEOUT) as client:
            client.call("C_Initialize", 0, Null(), b"keyway run")
            _make_token(client, label, so_pin.encode(), pin.encode())
            client.call("C_Finalize")


def _make_token(client: Client, label: str, so_pin: bytes, pin: bytes) -> None:
    wanted = padded(label, 32)
    empty = None
    for slot in slots_of(client):
        (token,) = client.call("C_GetTokenInfo", True, target=slot)
        assert isinstance(token, TokenInfo)
        if not token.flags & CKF_TOKEN_INITIALIZED:
            empty = slot if empty is None else empty
        elif token.label == wanted:
            return
    if empty is None:
        raise LookupError("the module has no slot for another token")
    client.call("C_InitToken", so_pin, wanted, target=empty)
    client.call("C_OpenSession", CKF_SERIAL_SESSION | CKF_RW_SESSION, SESSION, target=empty)
    client.call("C_Login", CKU_SO, so_pin, target=SESSION)
    client.call("C_InitPIN", pin, target=SESSION)
    client.call("C_CloseSession", target=SESSION)
