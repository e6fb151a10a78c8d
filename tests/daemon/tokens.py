"""Tokens for tests."""

from keyway.cli.tokens import make_tokens
from keyway.cryptoki import Mechanism, Null, Numbers, Room, TokenInfo, stripped
from keyway.cryptoki.constants import (
    CKF_RW_SESSION,
    CKF_SERIAL_SESSION,
    CKM_RSA_PKCS_KEY_PAIR_GEN,
    CKU_USER,
)
from keyway.cryptoki.values import Attribute

PIN = "pin-7391-for-tests"
OPEN = CKF_SERIAL_SESSION | CKF_RW_SESSION


def make(daemon, *labels):
    make_tokens(daemon.socket, labels, PIN, PIN)


def slots(client, token_present=1):
    client.good("C_GetSlotList", token_present, Room(0, False))  # The call that makes a module look.
    (listed,) = client.good("C_GetSlotList", token_present, Room(64, True))
    assert isinstance(listed, Numbers)
    return listed.data


def label_of(client, slot):
    (token,) = client.good("C_GetTokenInfo", True, target=slot)
    assert isinstance(token, TokenInfo)
    return stripped(token.label).decode()


def slot_of(client, label):
    return next(slot for slot in slots(client) if label_of(client, slot) == label)


def open_session(client, slot, handle=1):
    client.good("C_OpenSession", OPEN, handle, target=slot)
    return handle


def login(client, session):
    client.good("C_Login", CKU_USER, PIN.encode(), target=session)


def generate_rsa(client, session, bits=2048):
    """Start an RSA key generation, which takes its time, and return the request's id."""
    from keyway.cryptoki.constants import CKA_MODULUS_BITS

    return client.send_call(
        "C_GenerateKeyPair",
        Mechanism(CKM_RSA_PKCS_KEY_PAIR_GEN, Null()),
        (Attribute(CKA_MODULUS_BITS, bits),),
        (),
        0,
        0,
        target=session,
    )
