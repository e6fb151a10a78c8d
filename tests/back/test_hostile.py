"""Far ends that say anything: whoever uses them gets errors, and nobody else notices."""

import os
import random
import signal
import socket
import struct
import threading
from contextlib import contextmanager, suppress

import pytest
from tests.back.relay import Relay
from tests.back.remotes import section
from tests.daemon.harness import freeze, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import PIN, label_of, slots

from keyway.cryptoki import RV, Attribute, Mechanism, Null, ObjectsRoom, Room, RoomBytes, call_named
from keyway.cryptoki import constants as c
from keyway.p11kit import Frame, pack
from keyway.wire.codec import encode_fused
from keyway.wire.header import HEADER, Flags

RULES = '[token.good]\nbackend = "good"\nlabel = "good"\n[token.demo]\nbackend = "far"\nlabel = "demo"\n'
GOOD, DEMO = 0, 1
FUZZED = 30
"""Connections whose answers are damaged."""
MEMORY = 300 << 20
"""Bytes that a daemon may have, whatever it is sent; one frame may have 64 MiB."""


def exercise(client: RawClient) -> None:
    """Make calls of all kinds at the far end, whatever they answer."""
    client.call("C_OpenSession", c.CKF_SERIAL_SESSION | c.CKF_RW_SESSION, 1, target=DEMO)
    client.call("C_GetTokenInfo", True, target=DEMO)
    client.call("C_GetMechanismList", Room(99, True), target=DEMO)
    for name, *values in (
        ("C_Login", c.CKU_USER, PIN.encode()),
        ("C_GetSessionInfo", True),
        ("C_FindObjectsInit", ()),
        ("C_FindObjects", ObjectsRoom(9, True, True)),
        ("C_FindObjectsFinal",),
        ("C_GetAttributeValue", 2, (Attribute(c.CKA_LABEL, RoomBytes(9)), Attribute(c.CKA_MODULUS, Null()))),
        ("C_DigestInit", Mechanism(c.CKM_SHA256)),
        ("C_Digest", b"abc", Room(64, True)),
        ("C_GenerateKey", Mechanism(c.CKM_AES_KEY_GEN), (Attribute(c.CKA_VALUE_LEN, 16),), 0),
    ):
        client.call(name, *values, target=1)


def check_others(daemon):
    """Whoever uses another backend is served, and the daemon is well."""
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert GOOD in slots(client)
        assert label_of(client, GOOD) == "good"
    assert daemon.memory() < MEMORY


@contextmanager
def serving(path, serve):
    """A server of nothing in particular: a function is given each connection."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    threads = []

    def run(connection):
        with connection, suppress(OSError):
            serve(connection)

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=run, args=(connection,), daemon=True))
            threads[-1].start()

    threads.append(threading.Thread(target=accept, daemon=True))
    threads[0].start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()
        listener.close()


def damaged(frame: Frame, dice: random.Random) -> bytes:
    """Return a server's frame with something wrong."""
    data = bytearray(pack(frame))
    match dice.randrange(8):
        case 0:
            for _ in range(dice.randrange(1, 9)):
                data[dice.randrange(len(data))] = dice.randrange(256)
        case 1:
            data[dice.randrange(12, len(data))] ^= 1 << dice.randrange(8)
        case 2:
            at = dice.randrange(12, len(data))
            return pack(frame._replace(body=bytes(data[12:at])))
        case 3:
            return pack(frame._replace(body=frame.body + dice.randbytes(dice.randrange(1, 40))))
        case 4:
            return pack(frame._replace(body=dice.randbytes(dice.randrange(60))))
        case 5:
            return bytes(data) + bytes(data)
        case 6:
            at = dice.randrange(12, len(data) + 1)
            data[at : at + 4] = dice.choice((b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"))
            return pack(frame._replace(body=bytes(data[12:])))
    return bytes(data)


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_answers(start, home, good, far, seed):
    dice = random.Random(seed)
    rate = [0.0]

    def altered(frame):
        return damaged(frame, dice) if dice.random() < rate[0] else pack(frame)

    with Relay(home / "relay.sock", far.remote_command(), far.environment, altered=altered) as relay:
        daemon = start(good + section("far", address=relay.address, protocol="p11-kit", call_timeout=1) + RULES)
        for number in range(FUZZED):
            rate[0] = (0.05, 0.3)[number % 2]
            with RawClient(daemon.socket) as client:
                client.initialize()
                exercise(client)
        check_others(daemon)
        assert daemon.events("connection ended")


class TestP11Kit:
    """Servers that answer the first byte well, and then anything."""

    @pytest.fixture
    def begin(self, start, home, good):
        """Starts a daemon before a server that does something after its first byte."""

        @contextmanager
        def begin(serve, **options):
            def greeted(connection):
                if offer := connection.recv(1):
                    connection.sendall(min(offer, b"\2"))
                    serve(connection)

            with serving(home / "hostile.sock", greeted):
                far = section("far", address=f"unix:{home}/hostile.sock", protocol="p11-kit", **options)
                yield start(good + far + RULES)

        return begin

    def check(self, daemon, how=""):
        with RawClient(daemon.socket) as client:
            client.initialize()
            assert GOOD in slots(client)
            exercise(client)
        check_others(daemon)
        errors = daemon.events("module not initialised") + daemon.events("connection ended")
        assert errors
        assert {error["backend"] for error in errors} == {"far"}

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            bytes(11),
            bytes(4096),
            b"\xff" * 12,
            struct.pack(">III", 1, 0, 0xFFFF_FFFF),
            struct.pack(">III", 1, 0xFFFF_FFFF, 0),
            struct.pack(">III", 1, 0, 0) * 3,
            struct.pack(">III", 99, 0, 4) + bytes(4),
            pack(Frame(1, b"\0\0\0\0\0\0\0\1u" + bytes(7))),
            random.Random(0).randbytes(100_000),
        ],
        ids=lambda answer: f"{len(answer)} bytes {answer[:12].hex()}",
    )
    def test_one_answer_and_the_end(self, begin, answer):
        def serve(connection):
            connection.recv(65536)
            connection.sendall(answer)

        with begin(serve) as daemon:
            self.check(daemon)

    def test_an_endless_frame(self, begin):
        """Of 64 MiB, which may be: it is taken, and no more."""

        def serve(connection):
            connection.recv(65536)
            connection.sendall(struct.pack(">III", 1, 0, 64 << 20))
            while True:
                connection.sendall(bytes(1 << 20))

        with begin(serve) as daemon:
            self.check(daemon)

    def test_endless_frames(self, begin):
        def serve(connection):
            connection.recv(65536)
            while True:
                connection.sendall(pack(Frame(1, bytes(1000))) * 100)

        with begin(serve) as daemon:
            self.check(daemon)

    def test_no_answer(self, begin):
        def serve(connection):
            while connection.recv(65536):
                pass

        with begin(serve, start_timeout=0.3) as daemon:
            self.check(daemon)

    def test_one_byte_now_and_then(self, begin):
        stop = threading.Event()

        def serve(connection):
            connection.recv(65536)
            while not stop.wait(0.01):
                connection.sendall(b"\0")

        with begin(serve, start_timeout=0.3) as daemon:
            self.check(daemon)
            stop.set()


class TestNative:
    """Something that speaks the native wire, but badly."""

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            bytes(31),
            bytes(32),
            HEADER.pack(1 << 32 - 1, 1, Flags.REPLY, 1, 0, 0),
            HEADER.pack(0, 1, Flags.REPLY, 77, 0, 0),
            random.Random(0).randbytes(100_000),
        ],
        ids=lambda answer: f"{len(answer)} bytes {answer[:12].hex()}",
    )
    def test_one_answer_and_the_end(self, start, home, good, answer):
        def serve(connection):
            connection.sendall(connection.recv(1))
            connection.recv(65536)
            connection.sendall(answer)

        with serving(home / "hostile.sock", serve):
            daemon = start(good + section("far", address=f"unix:{home}/hostile.sock") + RULES)
            with RawClient(daemon.socket) as client:
                client.initialize()
                assert slots(client) == (GOOD,)
            check_others(daemon)

    def test_it_goes_on_talking_while_nobody_asks(self, start, home, good):
        def serve(connection):
            connection.sendall(connection.recv(1))
            connection.sendall(bytes(100))
            connection.recv(65536)

        with serving(home / "hostile.sock", serve):
            daemon = start(good + section("far", address=f"unix:{home}/hostile.sock", spares=1) + RULES)
            check_others(daemon)
            until(lambda: daemon.status()["backends"]["far"]["spares"] == 0, "the connection is given up")


def test_a_far_end_that_reads_nothing_stops_its_client_only(start, good, far):
    """What can't be sent is not taken from the client; when it can be, all is answered."""
    daemon = start(good + far.section("command") + RULES)
    with RawClient(daemon.socket) as client:
        client.initialize()
        client.good("C_OpenSession", c.CKF_SERIAL_SESSION, 1, target=DEMO)
        client.good("C_DigestInit", Mechanism(c.CKM_SHA256), target=1)
        (worker,) = (context["hosts"]["far"] for context in daemon.contexts())
        freeze(worker)
        before = daemon.memory()
        count = 600
        sender = threading.Thread(
            target=lambda: [client.send_call("C_DigestUpdate", bytes(65536), target=1) for _ in range(count)]
        )
        sender.start()
        until(lambda: daemon.contexts()[0]["in_flight"], "calls are under way")
        check_others(daemon)
        assert sender.is_alive()
        assert daemon.memory() - before < 20 << 20
        os.kill(worker, signal.SIGCONT)
        assert {client.receive().header.rv for _ in range(count)} == {RV.CKR_OK}
        sender.join()


def test_calls_that_wait_for_an_init_that_hangs_are_bounded(start, good, far):
    """The second half of a fused pair is sent when the first has succeeded, and the session's other calls behind it."""
    daemon = start(good + far.section("command") + RULES)
    with RawClient(daemon.socket) as client:
        client.initialize()
        client.good("C_OpenSession", c.CKF_SERIAL_SESSION, 1, target=DEMO)
        (worker,) = (context["hosts"]["far"] for context in daemon.contexts())
        freeze(worker)
        before = daemon.memory()
        digest = call_named("C_Digest")
        init, data = (Mechanism(c.CKM_SHA256),), (b"abc", Room(32, True))
        object_, body = encode_fused(digest, init, data)
        client.send(digest.number, body, target=1, object_=object_, flags=Flags.FUSED)

        def send():
            with suppress(OSError):
                for _ in range(20_000):
                    client.send_call("C_GetSessionInfo", True, target=1)

        sender = threading.Thread(target=send)
        sender.start()
        # Long enough for all of them, if they were taken.
        sender.join(2)
        check_others(daemon)
        assert sender.is_alive()
        assert daemon.memory() - before < 20 << 20
        os.kill(worker, signal.SIGKILL)
        assert client.receive().header.rv == RV.CKR_DEVICE_ERROR
        client.socket.shutdown(socket.SHUT_RDWR)
        sender.join()
