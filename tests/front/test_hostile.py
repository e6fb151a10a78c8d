"""What no good client sends, at the real daemon: an error for it, a bound on what it costs, and nothing for anybody else."""

import contextlib
import os
import socket
import struct
import time
from pathlib import Path

import pytest
from tests.daemon.harness import softhsm, until
from tests.daemon.tokens import PIN, make
from tests.front.client import MessageClient
from tests.front.conftest import Front, listener
from tests.p11kit.test_vectors import MAGIC, request

from keyway.cryptoki import RV, Attribute, Fill, Mechanism, Room
from keyway.cryptoki import constants as c
from keyway.p11kit import MAX_BODY, MAX_OPTIONS, Frame, encode_error, pack

MIB = 1 << 20
INITIALIZE = request(1, "ayyay", f"{MAGIC} 00 01 00000001 00")
GET_INFO = request(3, "", "")


def failed(rv: int) -> bytes:
    return encode_error(rv)


def resident(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def hosts_of(front: Front) -> list[int]:
    return [pid for context in front.daemon.contexts() for pid in context["hosts"].values()]


@pytest.fixture
def bystander(front):
    """Another client, which notices nothing: its session, its login and its operation are there afterwards."""
    with front.connect() as client:
        session = client.start()
        client.login(session, PIN)
        client.good("C_DigestInit", Mechanism(c.CKM_SHA256), target=session)
        yield client
        (digest,) = client.good("C_Digest", b"", Room(32, True), target=session)
        assert digest.data.hex().startswith("e3b0c442")
        assert client.good("C_GetSessionInfo", True, target=session)[0].state == c.CKS_RW_USER_FUNCTIONS


@pytest.mark.usefixtures("bystander")
class TestFirstByte:
    @pytest.mark.parametrize("first", [0x16, 0x81, 0x47, 0xFF])
    def test_another_protocol_is_refused(self, front, first):
        with MessageClient(front.path, greet=False) as client:
            client.socket.sendall(bytes([first]) + b"ET / HTTP/1.1\r\n\r\n")
            assert client.is_closed()
        assert "does not speak" in front.daemon.events("client refused")[0]["reason"]

    @pytest.mark.parametrize(("first", "answered"), [(0, 0), (1, 1), (2, 2), (3, 2), (0x15, 2)])
    def test_versions(self, front, first, answered):
        with MessageClient(front.path, greet=False) as client:
            client.socket.sendall(bytes([first]) + pack(Frame(7, INITIALIZE)))
            assert client.socket.recv(1) == bytes([answered])
            assert client.receive() == Frame(7, request(1, "", ""))

    def test_native_clients_are_told_apart(self, front):
        with MessageClient(front.daemon.socket, greet=False) as client:
            client.socket.sendall(b"\x02")
            assert client.is_closed()


@pytest.mark.usefixtures("bystander")
class TestFraming:
    def test_one_byte_at_a_time(self, front):
        with front.connect() as client:
            for byte in pack(Frame(9, INITIALIZE, b"client")) + pack(Frame(10, GET_INFO, b"client")):
                client.socket.sendall(bytes([byte]))
            assert client.receive() == Frame(9, request(1, "", ""))
            assert client.receive().code == 10

    def test_frames_of_all_sizes_in_pieces_of_all_sizes(self, front):
        with front.connect() as client:
            session = client.start()
            stream = b"".join(
                pack(Frame(100 + n, client.message("C_SeedRandom", bytes(n * 37), target=session), b"x" * n))
                for n in range(60)
            )
            at, size = 0, 1
            while at < len(stream):
                client.socket.sendall(stream[at : at + size])
                at, size = at + size, size * 3 % 1009 + 1
            frames = [client.receive() for _ in range(60)]
            assert [frame.code for frame in frames] == list(range(100, 160))

    @pytest.mark.parametrize("size", [0x7FFFFFFF, 0xFFFFFFFF])
    def test_a_body_that_is_too_long_takes_no_memory(self, front, size):
        with front.connect() as client:
            client.initialize()
            before = front.daemon.memory()
            client.socket.sendall(struct.pack(">III", 77, 6, size) + b"client")
            assert client.receive() == Frame(77, failed(RV.CKR_HOST_MEMORY))
            piece = bytes(MIB)
            for _ in range(96):
                client.socket.sendall(piece)
            assert front.daemon.memory() - before < 16 * MIB

    def test_the_stream_goes_on_behind_a_body_that_is_too_long(self, front):
        with front.connect() as client:
            client.initialize()
            size = MAX_BODY + 5
            client.socket.sendall(
                struct.pack(">III", 77, 6, size) + b"client" + bytes(size) + pack(Frame(78, GET_INFO))
            )
            assert client.receive() == Frame(77, failed(RV.CKR_HOST_MEMORY))
            assert client.receive().body.startswith(GET_INFO[:4])

    @pytest.mark.parametrize("size", [MAX_OPTIONS + 1, 70_000, 0xFFFFFFFF])
    def test_options_that_are_too_long_end_the_connection(self, front, size):
        with front.connect() as client:
            client.initialize()
            client.socket.sendall(struct.pack(">III", 77, size, 8) + bytes(1000))
            assert client.is_closed()
        assert "above the limit" in front.daemon.events("client refused")[0]["reason"]

    def test_options_of_any_length_below_mean_nothing(self, front):
        with front.connect() as client:
            client.send(INITIALIZE, b"\xff\x00" * (MAX_OPTIONS // 2))
            assert client.receive().body == request(1, "", "")
            client.send(GET_INFO, bytes(MAX_OPTIONS))
            assert client.receive().body.startswith(GET_INFO[:4])
        assert len(front.daemon.events("context opened")[-1]["application"]) <= 300

    def test_the_code_0_ends_the_connection(self, front):
        with front.connect() as client:
            client.initialize()
            client.socket.sendall(pack(Frame(0, GET_INFO)))
            assert client.is_closed()
        assert "code 0" in front.daemon.events("client refused")[0]["reason"]

    def test_an_announced_body_that_does_not_come_takes_no_memory(self, front):
        before = front.daemon.memory()
        with front.connect() as client:
            client.initialize()
            client.socket.sendall(struct.pack(">III", 77, MAX_OPTIONS, MAX_BODY) + bytes(1000))
            with front.connect() as other:
                other.initialize()
            assert front.daemon.memory() - before < 16 * MIB

    @pytest.mark.parametrize("cut", [1, 11, 12, 15, 18, 20, 25])
    def test_a_connection_that_is_cut_inside_a_frame(self, front, cut):
        with front.connect() as client:
            client.initialize()
            client.socket.sendall(pack(Frame(77, GET_INFO, b"client"))[:cut])
            client.socket.shutdown(socket.SHUT_WR)
            assert client.is_closed()
        until(lambda: len(front.daemon.contexts()) == 1, "the context is closed")


MALFORMED = {
    "nothing": b"",
    "no letters": b"\0\0\0\3",
    "an unknown message": request(90, "", ""),
    "message 0": request(0, "u", f"{0:016x}"),
    "a far message": request(0xFFFFFFFF, "", ""),
    "other letters": request(11, "uu", f"{1:016x}{1:016x}"),
    "letters that are none": request(11, "\1", f"{1:016x}"),
    "many letters": b"\0\0\0\3\xff\xff\xff\xff",
    "arguments that end early": request(11, "u", "00000000"),
    "an array beyond the end": request(44, "uay", f"{1:016x} 01 7ffffffe 00"),
    "an array of 4 GiB": request(44, "uay", f"{1:016x} 01 fffffffe 00"),
    "a template of 4 billion": request(26, "uaA", f"{1:016x} ffffffff"),
    "a query of 4 billion": request(24, "uufA", f"{1:016x} {1:016x} ffffffff"),
    "a parameter without an end": request(42, "uMu", f"{1:016x} 00001082 01 7ffffffe"),
}
UNKNOWN = ("an unknown message", "message 0", "a far message")


@pytest.mark.usefixtures("bystander")
class TestMessages:
    @pytest.mark.parametrize("version", [0, 2])
    def test_malformed_ones_are_answered_and_the_stream_goes_on(self, front, version):
        with front.connect(version) as client:
            client.initialize()
            for what, body in MALFORMED.items():
                reply = client.exchange(body)
                assert len(reply) == 17, what
                rv = int.from_bytes(reply[-8:], "big")
                assert rv == (RV.CKR_FUNCTION_NOT_SUPPORTED if what in UNKNOWN else RV.CKR_ARGUMENTS_BAD), what
            client.good("C_GetInfo", True)

    def test_templates_that_are_nested_without_end(self, front):
        with front.connect() as client:
            session = client.start()
            for depth in (9, 1000, 100_000):
                levels = "40000211 01 00000018 00000001 " * depth
                reply = client.exchange(request(20, "uaA", f"{session:016x} 00000001 {levels} 00000108 01 00000001 01"))
                assert reply == failed(RV.CKR_ARGUMENTS_BAD)
                rooms = "40000211 00000018 00000001 " * depth
                reply = client.exchange(
                    request(24, "uufA", f"{session:016x} {1:016x} 00000001 {rooms} 00000108 00000001")
                )
                assert reply == failed(RV.CKR_ARGUMENTS_BAD)

    @pytest.mark.parametrize("version", [0, 1, 2])
    def test_a_request_of_31_bytes_for_2_gib(self, front, version):
        """The stock server makes room for as much, and fills it."""
        with front.connect(version) as client:
            session = client.start()
            until(lambda: len(hosts_of(front)) == 2, "both hosts are there")
            before = front.daemon.memory(), sum(map(resident, hosts_of(front)))
            random = request(64, "ufy", f"{session:016x} 7fffffff")
            assert len(random) <= 31
            assert client.exchange(random) == failed(RV.CKR_HOST_MEMORY)
            client.good("C_DigestInit", Mechanism(c.CKM_SHA256), target=session)
            reply = client.exchange(request(38, "uayfy", f"{session:016x} 01 00000001 00 7fffffff"))
            assert reply.startswith(request(38, "ay", "01 00000020"))
            found = client.exchange(request(27, "ufu", f"{session:016x} 7fffffff"))
            assert found == failed(RV.CKR_OPERATION_NOT_INITIALIZED)
            assert client.exchange(request(4, "yfu", "00 7fffffff"))[:4] == b"\0\0\0\4"
            assert front.daemon.memory() - before[0] < 16 * MIB
            assert sum(map(resident, hosts_of(front))) - before[1] < 64 * MIB

    def test_a_query_for_more_than_there_is_memory(self, front):
        with front.connect() as client:
            session = client.start()
            before = front.daemon.memory(), sum(map(resident, hosts_of(front)))
            entries = "00000003 7fffffff " * 4096
            reply = client.exchange(request(24, "uufA", f"{session:016x} {1:016x} 00001000 {entries}"))
            assert reply[:4] in (b"\0\0\0\0", b"\0\0\0\x18")
            client.good("C_GetSessionInfo", True, target=session)
            assert front.daemon.memory() - before[0] < 32 * MIB
            assert sum(map(resident, hosts_of(front))) - before[1] < 96 * MIB

    def test_pointers_in_the_parameters_of_messages(self, front):
        with front.connect() as client:
            session = client.start()
            pointers = f"01 00000030 {'41' * 48}"
            for id_, letters, rest in (
                (69, "uayayayfy", "01 00000000 01 00000000 00000020"),
                (70, "uayay", "01 00000000"),
                (71, "uayayfyu", f"01 00000000 00000020 {0:016x}"),
                (74, "uayayayfy", "01 00000000 01 00000000 00000020"),
                (79, "uayayfy", "01 00000000 00000020"),
                (80, "uay", ""),
                (84, "uayayay", "01 00000000 01 00000000"),
            ):
                reply = client.exchange(request(id_, letters, f"{session:016x} {pointers} {rest}"))
                assert reply == failed(RV.CKR_MECHANISM_PARAM_INVALID), id_

    def test_pointers_in_a_mechanism(self, front):
        """Memory of the peer's for a structure with pointers; an old client's, which knows no better."""
        with front.connect(0) as client:
            session = client.start()
            for mechanism, size in ((c.CKM_ECDH1_DERIVE, 40), (c.CKM_AES_GCM, 48)):
                memory = f"{mechanism:08x} {size:08x} {'41' * size}"
                reply = client.exchange(request(29, "uMu", f"{session:016x} {memory} {1:016x}"))
                assert reply == failed(RV.CKR_MECHANISM_PARAM_INVALID)

    def test_another_magic(self, front):
        with front.connect() as client:
            other = MAGIC.replace("KEYRING", "keyring")
            assert client.exchange(request(1, "ayyay", f"{other} 00 01 00000001 00")) == failed(RV.CKR_GENERAL_ERROR)
            assert client.exchange(INITIALIZE) == request(1, "", "")


class TestMany:
    @pytest.fixture
    def front(self, start, home):
        front = Front(
            start(softhsm(home) + listener(home) + "[limits]\nwrite_buffer = 65536\nending = 0.5\n"), home / "front"
        )
        make(front.daemon, "demo")
        return front

    @pytest.mark.parametrize("what", ["answered by the daemon", "answered by the module", "malformed"])
    def test_requests_without_end_whose_replies_nobody_reads(self, front, bystander, what):
        with front.connect() as client:
            session = client.start()
            body = {
                "answered by the daemon": INITIALIZE,
                "answered by the module": client.message("C_GenerateRandom", Fill(True, 65536), target=session),
                "malformed": b"",
            }[what]
            many = b"".join(pack(Frame(code, body)) for code in range(1, 2001))
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.socket.setblocking(False)
            before = front.daemon.memory(), sum(map(resident, hosts_of(front)))
            sent, full, rest = 0, 0, b""
            while full < 20 and sent < 64 * MIB:
                rest = rest or many
                try:
                    count = client.socket.send(rest)
                    sent, full, rest = sent + count, 0, rest[count:]
                except BlockingIOError:
                    # Full for now; the others go on, and it counts as full for good if it stays so.
                    bystander.good("C_GetInfo", True)
                    full += 1
            assert sent < 64 * MIB, "the daemon reads on and keeps the answers"
            assert front.daemon.memory() - before[0] < 32 * MIB
            assert sum(map(resident, hosts_of(front))) - before[1] < 32 * MIB

    def test_thousands_of_requests_are_all_answered(self, front, bystander):
        with front.connect() as client:
            session = client.start()
            body = client.message("C_GenerateRandom", Fill(True, 16), target=session)
            codes = list(range(1000, 6000))
            stream = memoryview(b"".join(pack(Frame(code, body, b"client")) for code in codes))
            received: list[Frame] = []
            client.socket.setblocking(False)
            at = 0
            deadline = time.monotonic() + 60
            while len(received) < len(codes):
                assert time.monotonic() < deadline
                with contextlib.suppress(BlockingIOError):
                    at += client.socket.send(stream[at : at + 10_000])
                try:
                    received += client.frames.feed(client.socket.recv(1 << 20))
                except BlockingIOError:
                    bystander.good("C_GetInfo", True)
            assert [frame.code for frame in received] == codes
            assert len({frame.body for frame in received}) == len(codes)


@pytest.mark.usefixtures("bystander")
class TestLeaving:
    @pytest.mark.parametrize("how", ["close", "reset", "in a frame", "in an operation", "in a long call"])
    def test_what_the_client_had_is_gone(self, front, how):
        others = {each["context"] for each in front.daemon.contexts()}
        with front.connect() as client:
            session = client.start()
            client.login(session, PIN)
            (mine,) = (each for each in front.daemon.contexts() if each["context"] not in others)
            context, host = mine["context"], mine["hosts"]["softhsm"]
            if how == "in an operation":
                client.good("C_DigestInit", Mechanism(c.CKM_SHA256), target=session)
                client.good("C_DigestUpdate", b"abc", target=session)
            elif how == "in a frame":
                client.socket.sendall(pack(Frame(77, GET_INFO))[:15])
            elif how == "in a long call":
                bits = (Attribute(c.CKA_MODULUS_BITS, 4096),)
                pair = Mechanism(c.CKM_RSA_PKCS_KEY_PAIR_GEN)
                client.send(client.message("C_GenerateKeyPair", pair, bits, (), 0, 0, target=session))
                until(lambda: any(each["in_flight"] for each in front.daemon.contexts()), "the call is under way")
            elif how == "reset":
                client.send(client.message("C_GenerateRandom", Fill(True, 1 << 20), target=session))
        until(lambda: len(front.daemon.contexts()) == 1, "the context is closed")
        until(lambda: not Path(f"/proc/{host}").exists(), "its host has ended")
        (entry,) = [entry for entry in front.daemon.events("context closed") if entry["context"] == context]
        assert (entry["how"], entry["sessions"]) == ("client gone", 1)
        with front.connect() as client:
            session = client.start()
            assert client.good("C_GetSessionInfo", True, target=session)[0].state == c.CKS_RW_PUBLIC_SESSION
