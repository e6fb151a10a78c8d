"""Large bodies go through memory that daemon and host share; what comes out is what would come out anyway."""

import hashlib
import itertools
import os
import signal
import socket
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from tests.daemon.conftest import starting
from tests.daemon.harness import RunningDaemon, freeze, softhsm, until
from tests.daemon.pool import tokens
from tests.daemon.pool.app import App
from tests.daemon.raw import RawClient
from tests.daemon.test_trace import Tracer
from tests.daemon.tokens import login, make, open_session, slot_of
from tests.front.client import MessageClient
from tests.front.conftest import listener

from keyway.backend.segment import LARGE, PARTS
from keyway.cryptoki import RV, Attribute, Mechanism, Null, Output, Room, call_named
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_ENCRYPT,
    CKA_KEY_TYPE,
    CKA_TOKEN,
    CKA_VALUE,
    CKK_AES,
    CKM_AES_ECB,
    CKM_SHA256,
    CKO_SECRET_KEY,
)
from keyway.wire.codec import decode_reply, encode_request
from keyway.wire.header import HEADER, Flags

MEMORY = 4 << 20
PART = MEMORY // PARTS
SHA256 = Mechanism(CKM_SHA256, Null())
ECB = Mechanism(CKM_AES_ECB, Null())
KEY = bytes(range(16))
SIZES = (LARGE - 64, LARGE, LARGE + 16, 300_000 // 16 * 16, PART - 64, PART, PART + 16, 3 * PART)


def data_of(size: int, seed: int = 0) -> bytes:
    return (bytes((seed + each) % 251 for each in range(1000)) * (size // 1000 + 1))[:size]


def encrypted(data: bytes) -> bytes:
    # What SoftHSM has to come to.
    cipher = Cipher(algorithms.AES(KEY), modes.ECB()).encryptor()
    return cipher.update(data) + cipher.finalize()


def digest(client, data: bytes, session: int = 1) -> bytes:
    client.good("C_DigestInit", SHA256, target=session)
    (result,) = client.good("C_Digest", data, Room(32, True), target=session)
    return result.data


def new_key(client, session: int = 1) -> int:
    template = (
        Attribute(CKA_CLASS, CKO_SECRET_KEY),
        Attribute(CKA_KEY_TYPE, CKK_AES),
        Attribute(CKA_TOKEN, b"\0"),
        Attribute(CKA_ENCRYPT, b"\1"),
        Attribute(CKA_VALUE, KEY),
    )
    (key,) = client.good("C_CreateObject", template, 0, target=session)
    return key


def encrypt(client, key: int, data: bytes, session: int = 1) -> bytes:
    client.good("C_EncryptInit", ECB, key, target=session)
    (result,) = client.good("C_Encrypt", data, Room(len(data), True), target=session)
    return result.data


def newest(daemon: RunningDaemon) -> dict:
    """The last context; those that tokens were made in may still be about to end."""
    return max(daemon.contexts(), key=lambda each: int(each["context"].partition("-")[2]))


def host(daemon: RunningDaemon) -> int:
    (pid,) = newest(daemon)["hosts"].values()
    return pid


def shared(pid: int) -> tuple[int, int]:
    """Bytes of shared memory that a process has mapped, and that are used."""
    size = used = 0
    is_it = False
    with Path(f"/proc/{pid}/smaps").open() as lines:
        for line in lines:
            words = line.split()
            if "-" in words[0]:
                is_it = words[-1] == "(deleted)" and words[-2] == "/memfd:keyway"
            elif is_it and words[0] == "Size:":
                size += int(words[1]) << 10
            elif is_it and words[0] == "Rss:":
                used += int(words[1]) << 10
    return size, used


@pytest.fixture(params=["load", "copy"])
def served(start, home, request):
    daemon = start(softhsm(home, start=f'"{request.param}"', shared_memory=MEMORY))
    make(daemon, "demo")
    return daemon


@pytest.fixture
def client(served):
    with RawClient(served.socket) as client:
        client.initialize()
        open_session(client, slot_of(client, "demo"))
        login(client, 1)
        yield client


def test_bodies_of_all_sizes(served, client):
    key = new_key(client)
    assert shared(host(served)) == (MEMORY, 0)
    for size in SIZES:
        data = data_of(size)
        assert digest(client, data) == hashlib.sha256(data).digest()
        assert encrypt(client, key, data) == encrypted(data)
    size, used = shared(host(served))
    assert size == MEMORY
    assert PART <= used <= MEMORY


def test_a_length_is_asked_for_and_a_buffer_is_too_small(client):
    key = new_key(client)
    data = data_of(PART // 2)
    client.good("C_EncryptInit", ECB, key, target=1)
    (length,) = client.good("C_Encrypt", data, Room(0, False), target=1)
    assert length.length == len(data)
    rv, (length,) = client.call("C_Encrypt", data, Room(16, True), target=1)
    assert (rv, length.length, length.data) == (RV.CKR_BUFFER_TOO_SMALL, len(data), None)
    (result,) = client.good("C_Encrypt", data, Room(len(data), True), target=1)
    assert result.data == encrypted(data)


def test_it_comes_byte_by_byte_and_others_behind_it(client):
    data = data_of(LARGE + 5)
    client.good("C_DigestInit", SHA256, target=1)
    call = call_named("C_Digest")
    _, body = encode_request(call, (data, Room(32, True)))
    frame = HEADER.pack(len(body), call.number, 0, 900, 1, 0) + body
    behind = HEADER.pack(0, 0x3FFF, 0, 901, 0, 0)
    stream = frame + behind + HEADER.pack(0, 0x3FFF, 0, 902, 0, 0)
    cuts = [0, 1, 31, 32, 33, 40, LARGE, len(frame) - 1, len(frame), len(frame) + 7, len(stream)]
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for start_, stop in itertools.pairwise(cuts):
        client.socket.sendall(stream[start_:stop])
    replies = {frame.header.id: frame for frame in (client.receive() for _ in range(3))}
    (result,) = decode_reply(call, replies[900].body)
    assert isinstance(result, Output)
    assert result.data == hashlib.sha256(data).digest()
    assert replies[901].header.rv == replies[902].header.rv == RV.CKR_FUNCTION_NOT_SUPPORTED


def test_more_at_a_time_than_there_are_parts_and_a_client_that_reads_late(served, client):
    key = new_key(client)
    slot = slot_of(client, "demo")
    count = 3 * PARTS
    for session in range(2, count + 2):
        open_session(client, slot, session)
        client.good("C_EncryptInit", ECB, key, target=session)
    asked = {}

    def send() -> None:
        for session in range(2, count + 2):
            data = data_of(PART - 100 * 16, session)
            asked[client.send_call("C_Encrypt", data, Room(len(data), True), target=session)] = data

    sending = threading.Thread(target=send)
    sending.start()
    client.socket.recv(1, socket.MSG_PEEK)  # There is more than can be written now, and nobody has read.
    replies = [client.receive() for _ in range(count)]
    sending.join()
    for frame in replies:
        assert frame.header.rv == 0
        (result,) = decode_reply(call_named("C_Encrypt"), frame.body)
        assert isinstance(result, Output)
        assert result.data == encrypted(asked[frame.header.id])


def test_a_host_that_is_killed_with_a_body(served, client):
    freeze(host(served))
    client.send_call("C_DigestInit", SHA256, target=1)
    id_ = client.send_call("C_Digest", data_of(PART), Room(32, True), target=1)
    until(lambda: newest(served)["in_flight"] == 2, "the daemon has passed it on")
    os.kill(host(served), signal.SIGKILL)
    answers = [client.receive().header for _ in range(2)]
    assert [(each.rv, each.id) for each in answers][1] == (RV.CKR_DEVICE_ERROR, id_)
    open_session(client, slot_of(client, "demo"), 2)
    assert digest(client, data_of(PART), 2) == hashlib.sha256(data_of(PART)).digest()


def test_a_host_that_is_killed_while_a_body_comes(served, client):
    call = call_named("C_Digest")
    _, body = encode_request(call, (data_of(PART // 2), Room(32, True)))
    frame = HEADER.pack(len(body), call.number, 0, 900, 1, 0) + body
    client.socket.sendall(frame[:-1])
    os.kill(host(served), signal.SIGKILL)
    until(lambda: served.events("module host ended"), "the daemon knows")
    client.socket.sendall(frame[-1:])
    assert client.receive().header.rv == RV.CKR_DEVICE_REMOVED


def test_somebody_begins_to_watch_while_a_reply_is_waited_for(served, client):
    key = new_key(client)
    data = data_of(PART // 2)
    client.good("C_EncryptInit", ECB, key, target=1)
    pid = host(served)
    freeze(pid)
    client.send_call("C_Encrypt", data, Room(len(data), True), target=1)
    until(lambda: newest(served)["in_flight"], "the daemon has passed it on")
    with Tracer(served.socket) as tracer:
        os.kill(pid, signal.SIGCONT)
        frame = client.receive()
        (result,) = decode_reply(call_named("C_Encrypt"), frame.body)
        assert isinstance(result, Output)
        assert result.data == encrypted(data)
        digest(client, data)
        tracer.until("C_Digest")


def test_a_client_that_goes_while_a_body_comes(served, client):
    with RawClient(served.socket) as other:
        other.initialize()
        open_session(other, slot_of(other, "demo"))
        other.socket.sendall(HEADER.pack(PART, call_named("C_Digest").number, 0, 900, 1, 0) + bytes(LARGE * 2))
        until(lambda: len(served.contexts()) == 2, "both are there")
    until(lambda: len(served.contexts()) == 1, "one has gone")
    assert digest(client, b"small") == hashlib.sha256(b"small").digest()


def test_a_client_can_not_say_that_a_body_is_somewhere(client):
    place = bytes.fromhex("00000000 00000010 00001000")
    client.send(call_named("C_DigestInit").number, place, target=1, flags=Flags.SHARED)
    assert client.receive().header.rv == RV.CKR_ARGUMENTS_BAD


def test_an_id_that_is_used_twice_ends_the_connection(served, client):
    call = call_named("C_Digest")
    _, body = encode_request(call, (data_of(LARGE), Room(32, True)))
    frame = HEADER.pack(len(body), call.number, 0, 900, 1, 0) + body
    pid = host(served)
    freeze(pid)  # So that the first is not answered before the second comes.
    client.socket.sendall(frame + frame)
    assert client.is_closed()
    os.kill(pid, signal.SIGCONT)


def test_without_shared_memory(start, home):
    daemon = start(softhsm(home, shared_memory=0))
    make(daemon, "demo")
    with RawClient(daemon.socket) as client:
        client.initialize()
        open_session(client, slot_of(client, "demo"))
        assert digest(client, data_of(PART)) == hashlib.sha256(data_of(PART)).digest()
        assert shared(host(daemon)) == (0, 0)


def test_clients_of_p11_kit(start, home):
    daemon = start(softhsm(home, shared_memory=MEMORY) + listener(home))
    make(daemon, "demo")
    with MessageClient(home / "front", 2) as client:
        session = client.start()
        data = data_of(PART // 2)
        client.good("C_DigestInit", SHA256, target=session)
        (result,) = client.good("C_Digest", data, Room(32, True), target=session)
        assert result.data == hashlib.sha256(data).digest()
        assert shared(host(daemon))[1] >= len(data)


def test_members_of_pools(home):
    with starting(home) as start:
        sections = [tokens.member(home, home, name, shared_memory=MEMORY) for name in ("one", "two")]
        daemon = start("".join(sections) + tokens.pool("one", "two"))
        with App(daemon) as app:
            data = data_of(PART // 2)
            assert digest(app, data) == hashlib.sha256(data).digest()
            used = [shared(pid)[1] for pid in daemon.hosts()]
            assert max(used) >= len(data)


def test_memory_is_given_back_with_the_context(served, client):
    digest(client, data_of(PART))
    mine = lambda: shared(served.process.pid)[0]  # noqa: E731
    before = mine()
    for _ in range(3):
        with RawClient(served.socket) as other:
            other.initialize()
            open_session(other, slot_of(other, "demo"))
            digest(other, data_of(PART))
    until(lambda: mine() <= before, "what others had is unmapped")
