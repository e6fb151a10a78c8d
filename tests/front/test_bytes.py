"""Messages written by hand, as clients of each release write them, at the real daemon: the bytes that come back.

The meaning of every form is tested with the codec (tests/p11kit); these few show that the joined way keeps it.
"""

import hashlib
from collections.abc import Callable, Iterator

import pytest
from tests.daemon.tokens import PIN
from tests.front.client import MessageClient
from tests.front.conftest import Front
from tests.p11kit.test_vectors import MAGIC, request

from keyway.cryptoki import RV, Attribute, Mechanism, RoomBytes, stripped
from keyway.cryptoki import constants as c

EMPTY = hashlib.sha256(b"").hexdigest()
YES = b"\1"


class Hand(MessageClient):
    """A client whose messages are written by hand, with a session of the token demo."""

    session = 0

    def reply(self, id_: int, letters: str, arguments: str) -> bytes:
        return self.exchange(request(id_, letters, arguments))

    def prepare(self) -> None:
        self.session = self.start()
        self.login(self.session, PIN)

    def aes(self, *more: Attribute) -> int:
        template = (Attribute(c.CKA_VALUE_LEN, 32), Attribute(c.CKA_ENCRYPT, YES), *more)
        (_, key) = self.good("C_GenerateKey", Mechanism(c.CKM_AES_KEY_GEN), template, 0, target=self.session)
        return int(key)


@pytest.fixture
def hand(front: Front) -> Iterator[Callable[[int], Hand]]:
    """Connects clients of a version, prepared."""
    clients: list[Hand] = []

    def connect(version: int) -> Hand:
        clients.append(Hand(front.path, version))
        clients[-1].prepare()
        return clients[-1]

    yield connect
    for client in clients:
        client.socket.close()


def failed(rv: int) -> bytes:
    return request(0, "u", f"{rv:016x}")


@pytest.mark.parametrize("version", [0, 1, 2])
def test_the_first_calls(front, version):
    with Hand(front.path, version) as client:
        assert client.reply(3, "", "") == failed(RV.CKR_CRYPTOKI_NOT_INITIALIZED)
        other = MAGIC.replace("V-1", "V-2")
        assert client.reply(1, "ayyay", f"{other} 00 01 00000001 00") == failed(RV.CKR_GENERAL_ERROR)
        assert client.reply(1, "ayyay", f"{MAGIC} 00 01 00000001 00") == request(1, "", "")
        assert client.reply(1, "ayyay", f"{MAGIC} 00 01 00000001 00") == failed(RV.CKR_CRYPTOKI_ALREADY_INITIALIZED)
        assert client.reply(2, "", "") == request(2, "", "")


@pytest.mark.parametrize(
    ("version", "id_", "letters", "label"),
    [
        (0, 9, "uayz", f'00000024 {"4c" * 32} "more"'),
        (0, 9, "uayz", "00000001 4c"),
        (1, 88, "uays", f"00000020 {'4c' * 32}"),
        (2, 88, "uays", f"00000020 {'4c' * 32}"),
        (2, 9, "uayz", f"00000020 {'4c' * 32}"),
    ],
)
def test_init_token(hand, version, id_, letters, label):
    client = hand(version)
    empty = next(slot for slot in client.slots() if client.label_of(slot) == "")
    assert client.reply(id_, letters, f'{empty:016x} 01 00000008 "12345678" {label}') == request(id_, "", "")
    assert stripped(client.token_of(empty).label) == (b"L" * 32 if "4c4c" in label else b"L")


def curve_point(client: Hand) -> tuple[int, bytes]:
    """A private key for derivation, and the point of its public key without the OCTET STRING around it."""
    public = (Attribute(c.CKA_EC_PARAMS, bytes.fromhex("06082a8648ce3d030107")),)
    private = (Attribute(c.CKA_DERIVE, YES),)
    mechanism = Mechanism(c.CKM_EC_KEY_PAIR_GEN)
    _, public_key, key = client.good("C_GenerateKeyPair", mechanism, public, private, 0, 0, target=client.session)
    query = (Attribute(c.CKA_EC_POINT, RoomBytes(67)),)
    ((point,),) = client.good("C_GetAttributeValue", public_key, query, target=client.session)
    return key, point.value[2:]


SECRET = (
    f"00000003  00000000 01 00000008 {c.CKO_SECRET_KEY:016x}  00000100 01 00000008 {c.CKK_GENERIC_SECRET:016x}"
    f"  00000161 01 00000008 {32:016x}"
)


@pytest.mark.parametrize(("version", "id_", "presence"), [(1, 62, ""), (2, 62, "01"), (2, 89, "01")])
def test_derive_key(hand, version, id_, presence):
    client = hand(version)
    key, point = curve_point(client)
    mechanism = f"00001050 {presence} {c.CKD_NULL:016x} ffffffff {len(point):08x} {point.hex()}"
    reply = client.reply(id_, "uMuaA", f"{client.session:016x} {mechanism} {key:016x} {SECRET}")
    handle = int.from_bytes(reply[-8:], "big")
    assert handle > key
    if id_ == 62:
        assert reply == request(62, "u", f"{handle:016x}")
    else:
        assert reply == request(89, "uPu", f"{0:016x} 01 {handle:016x}")


def test_pointers_of_an_old_client_go_nowhere(hand):
    client = hand(0)
    key, _ = curve_point(client)
    memory = f"{1:016x} {0:016x} {0:016x} {65:016x} 00007fff00000000"
    reply = client.reply(62, "uMuaA", f"{client.session:016x} 00001050 00000028 {memory} {key:016x} {SECRET}")
    assert reply == failed(RV.CKR_MECHANISM_PARAM_INVALID)


@pytest.mark.parametrize(("version", "mechanism"), [(1, "00000000"), (1, "ffffffff"), (2, "ffffffff")])
def test_a_null_mechanism(hand, version, mechanism):
    client = hand(version)
    # SoftHSM has no cancelling.
    assert client.reply(37, "uM", f"{client.session:016x} {mechanism}") == failed(RV.CKR_ARGUMENTS_BAD)


@pytest.mark.parametrize(
    ("version", "data", "rv"),
    [
        (0, "00 00000000", RV.CKR_ARGUMENTS_BAD),
        (1, "01 ffffffff", RV.CKR_ARGUMENTS_BAD),
        (2, "01 ffffffff", RV.CKR_ARGUMENTS_BAD),
        (0, "01 00000000", RV.CKR_OK),
        (1, "01 00000000", RV.CKR_OK),
        (2, "01 00000000", RV.CKR_OK),
    ],
)
def test_absent_and_empty_are_two_things(hand, version, data, rv):
    client = hand(version)
    client.good("C_DigestInit", Mechanism(c.CKM_SHA256), target=client.session)
    reply = client.reply(38, "uayfy", f"{client.session:016x} {data} 00000020")
    assert reply == (failed(rv) if rv else request(38, "ay", f"01 00000020 {EMPTY}"))


@pytest.mark.parametrize("version", [0, 1, 2])
def test_lengths_are_asked_for(hand, version):
    client = hand(version)
    mechanism = "00000250" if version == 2 else "00000250 ffffffff"
    assert client.reply(37, "uM", f"{client.session:016x} {mechanism}") == request(37, "", "")
    for room in ("00000000", "0000001f", *(["ffffffff"] if version else [])):
        reply = client.reply(38, "uayfy", f"{client.session:016x} 01 00000000 {room}")
        assert reply == request(38, "ay", "00 00000020")
    reply = client.reply(38, "uayfy", f"{client.session:016x} 01 00000000 7fffffff")
    assert reply == request(38, "ay", f"01 00000020 {EMPTY}")
    counted = client.reply(7, "ufu", f"{client.slot_of('demo'):016x} 00000000")
    assert counted == request(7, "au", f"00 {70:08x}")


@pytest.mark.parametrize("version", [1, 2])
def test_templates_in_templates(hand, version):
    client = hand(version)
    nested = f"40000211 01 00000030 00000002  00000108 01 00000001 01  00000161 01 00000008 {16:016x}"
    template = f"00000002  00000161 01 00000008 {32:016x}  {nested}"
    mechanism = "00001080" if version == 2 else "00001080 ffffffff"
    made = client.reply(58, "uMaA", f"{client.session:016x} {mechanism} {template}")
    key = int.from_bytes(made[-8:], "big")
    assert made == request(58, "u", f"{key:016x}")
    # The length alone. 0.25.4 and 0.25.5 tell an empty template with it.
    length = "40000211 00000000" if version == 2 else "40000211 00000000 00000000"
    asked = client.reply(24, "uufA", f"{client.session:016x} {key:016x} 00000001 {length}")
    assert asked == request(24, "aAu", f"00000001 40000211 01 00000030 00000000 {0:016x}")
    # Which attributes there are, and how long: SoftHSM tells no more.
    rooms = f"40000211 00000030 00000002 {0:016x} {0:016x}"
    asked = client.reply(24, "uufA", f"{client.session:016x} {key:016x} 00000001 {rooms}")
    inside = f"00000108 01 00000001 00  00000161 01 00000008 {0:016x}"
    assert asked == request(24, "aAu", f"00000001 40000211 01 00000030 00000002 {inside} {0:016x}")


def test_an_old_client_gets_no_template(hand):
    client = hand(0)
    key = client.aes()
    asked = client.reply(24, "uufA", f"{client.session:016x} {key:016x} 00000001 40000211 00000000")
    assert asked == request(24, "aAu", f"00000001 40000211 00 {RV.CKR_ATTRIBUTE_TYPE_INVALID:016x}")


@pytest.mark.parametrize("version", [0, 1, 2])
def test_the_length_of_a_list_of_mechanisms(hand, version):
    client = hand(version)
    allowed = f"40000600 01 00000010 00000002 {0x1081:016x} {0x1082:016x}"
    mechanism = "00001080" if version == 2 else "00001080 ffffffff"
    template = f"00000002  00000161 01 00000008 {32:016x}  {allowed}"
    made = client.reply(58, "uMaA", f"{client.session:016x} {mechanism} {template}")
    key = int.from_bytes(made[-8:], "big")
    entries = "00000002  40000600 00000000  00000161 00000008"
    asked = client.reply(24, "uufA", f"{client.session:016x} {key:016x} {entries}")
    # Items that stock servers leave out, and every client reads.
    items = f"40000600 01 00000010 00000002 {0:016x} {0:016x}"
    assert asked == request(24, "aAu", f"00000002 {items} 00000161 01 00000008 {32:016x} {0:016x}")
    asked = client.reply(24, "uufA", f"{client.session:016x} {key:016x} 00000001 40000600 00000010")
    assert asked == request(24, "aAu", f"00000001 {allowed} {0:016x}")
