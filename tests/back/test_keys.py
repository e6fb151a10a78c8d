"""Keys at the far end are made and used as if they were here, whatever is in between."""

import hashlib
import os
import subprocess

import pytest
from tests.daemon.raw import RawClient
from tests.daemon.tokens import PIN, generate_rsa, login, open_session

from keyway.config.locate import module_library
from keyway.cryptoki import RV, Attribute, Mechanism, ObjectsRoom, Room, RoomBytes, Structured
from keyway.cryptoki import constants as c

YES, NO = b"\1", b"\0"
PRIME = int(
    "FFFFFFFFFFFFFFFFC90FDAA22168C234C4C6628B80DC1CD129024E088A67CC74020BBEA63B139B22514A08798E3404DDEF9519B3CD3A431B"
    "302B0A6DF25F14374FE1356D6D51C245E485B576625E7EC6F44C42E9A637ED6B0BFF5CB6F406B7EDEE386BFB5A899FA5AE9F24117C4B1FE6"
    "49286651ECE65381FFFFFFFFFFFFFFFF",
    16,
).to_bytes(128)
"""The second Oakley group (RFC 2409)."""
FEW = ("command", "gateway by tls", "p11-kit by tls")
"""Kinds for what passes unseen on the other ways."""


@pytest.fixture
def client(start, far, section):
    """A client of a gateway before the far end, with a session that is logged in."""
    daemon = start(section)
    with RawClient(daemon.socket) as client:
        open_session(client, far.slot(daemon, client))
        login(client, 1)
        yield client


def test_keys_are_made_found_and_used(client):
    id_ = generate_rsa(client, 1)
    assert client.receive().header.id == id_
    client.good("C_FindObjectsInit", (Attribute(c.CKA_CLASS, c.CKO_PRIVATE_KEY),), target=1)
    (found,) = client.good("C_FindObjects", ObjectsRoom(9, True, True), target=1)
    (private,) = found.data
    client.good("C_FindObjectsFinal", target=1)
    pss = Mechanism(c.CKM_RSA_PKCS_PSS, Structured(11, (c.CKM_SHA256, c.CKG_MGF1_SHA256, 32)))
    client.good("C_SignInit", pss, private, target=1)
    digest = hashlib.sha256(b"hello").digest()
    (asked,) = client.good("C_Sign", digest, Room(0, False), target=1)
    assert asked.length == 256
    rv, (short,) = client.call("C_Sign", digest, Room(10, True), target=1)
    assert (rv, short.length) == (RV.CKR_BUFFER_TOO_SMALL, 256)
    (signed,) = client.good("C_Sign", digest, Room(300, True), target=1)
    assert len(signed.data) == 256


@pytest.mark.parametrize("section", FEW, indirect=True)
def test_keys_are_derived(client):
    domain = (Attribute(c.CKA_PRIME, PRIME), Attribute(c.CKA_BASE, b"\2"), Attribute(c.CKA_TOKEN, NO))
    pairs = []
    for _ in range(2):
        generate = Mechanism(c.CKM_DH_PKCS_KEY_PAIR_GEN)
        private_template = (Attribute(c.CKA_DERIVE, YES), Attribute(c.CKA_TOKEN, NO))
        values = client.good("C_GenerateKeyPair", generate, domain, private_template, 0, 0, target=1)
        pairs.append(values[-2:])
    secrets = []
    for (_, private), (public, _) in (pairs, pairs[::-1]):
        (entries,) = client.good("C_GetAttributeValue", public, (Attribute(c.CKA_VALUE, RoomBytes(128)),), target=1)
        template = (
            Attribute(c.CKA_CLASS, c.CKO_SECRET_KEY),
            Attribute(c.CKA_KEY_TYPE, c.CKK_GENERIC_SECRET),
            Attribute(c.CKA_VALUE_LEN, 32),
            Attribute(c.CKA_SENSITIVE, NO),
            Attribute(c.CKA_EXTRACTABLE, YES),
            Attribute(c.CKA_TOKEN, NO),
        )
        derive = Mechanism(c.CKM_DH_PKCS_DERIVE, entries[0].value)
        key = client.good("C_DeriveKey", derive, private, template, 0, target=1)[-1]
        (entries,) = client.good("C_GetAttributeValue", key, (Attribute(c.CKA_VALUE, RoomBytes(99)),), target=1)
        secrets.append(entries[0].value)
    assert len(secrets[0]) == 32
    assert secrets[0] == secrets[1]


@pytest.mark.parametrize("section", FEW, indirect=True)
def test_keys_are_wrapped(client):
    def key(*attributes):
        template = (
            Attribute(c.CKA_CLASS, c.CKO_SECRET_KEY),
            Attribute(c.CKA_KEY_TYPE, c.CKK_AES),
            Attribute(c.CKA_TOKEN, NO),
            Attribute(c.CKA_SENSITIVE, NO),
            Attribute(c.CKA_EXTRACTABLE, YES),
        )
        return template + attributes

    value = bytes(range(16))
    (inner,) = client.good("C_CreateObject", key(Attribute(c.CKA_VALUE, value)), 0, target=1)
    wrapping = key(Attribute(c.CKA_VALUE, bytes(32)), Attribute(c.CKA_WRAP, YES), Attribute(c.CKA_UNWRAP, YES))
    (outer,) = client.good("C_CreateObject", wrapping, 0, target=1)
    wrap = Mechanism(c.CKM_AES_KEY_WRAP)
    wrapped = client.good("C_WrapKey", wrap, outer, inner, Room(64, True), target=1)[-1]
    assert wrapped.length == 24
    again = client.good("C_UnwrapKey", wrap, outer, wrapped.data, key(), 0, target=1)[-1]
    (entries,) = client.good("C_GetAttributeValue", again, (Attribute(c.CKA_VALUE, RoomBytes(99)),), target=1)
    assert entries[0].value == value


def test_an_application_does_not_notice(start, section, home):
    daemon = start(section)

    def tool(*arguments):
        done = subprocess.run(
            ["pkcs11-tool", "--module", str(module_library()), "--login", "--pin", PIN, *arguments],
            env={**os.environ, "KEYWAY_ADDRESS": f"unix:{daemon.socket}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    tool("--keypairgen", "--key-type", "EC:prime256v1", "--label", "web", "--id", "01")
    assert "web" in tool("--list-objects", "--type", "privkey")
    (home / "data").write_bytes(bytes(32))
    files = ("--input-file", str(home / "data"), "--signature-file", str(home / "signature"))
    tool("--sign", "--id", "01", "--mechanism", "ECDSA", *files[:2], "--output-file", files[3])
    assert "Signature is valid" in tool("--verify", "--id", "01", "--mechanism", "ECDSA", *files)
