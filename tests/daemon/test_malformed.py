"""Input that no good client sends: an error for it, and nothing for anybody else."""

import socket

import pytest
from tests.daemon.raw import RawClient
from tests.daemon.tokens import open_session, slots

from keyway.cryptoki import RV, Room, call_named
from keyway.wire.header import HEADER, VERSION_BYTE, Flags, Header

GET_INFO = call_named("C_GetInfo").number


@pytest.fixture
def bystander(daemon):
    """Another client, which notices nothing."""
    with RawClient(daemon.socket) as client:
        client.initialize()
        session = open_session(client, slots(client)[0])
        yield client
        client.good("C_GetSessionInfo", True, target=session)


@pytest.mark.usefixtures("bystander")
class TestFraming:
    @pytest.mark.parametrize("first", [b"\x00", b"\x01", b"\x16", b"\x7f", b"\x80"])
    def test_another_protocol_is_refused(self, daemon, first):
        with RawClient(daemon.socket, greet=False) as client:
            client.socket.sendall(first)
            assert client.is_closed()
        assert daemon.events("client refused")

    def test_a_later_version_gets_ours(self, daemon):
        with RawClient(daemon.socket, greet=False) as client:
            client.socket.sendall(b"\xff")
            assert client.socket.recv(1) == bytes([VERSION_BYTE])

    def test_frames_may_follow_the_version_at_once(self, daemon):
        with RawClient(daemon.socket, greet=False) as client:
            client.socket.sendall(b"\x81" + HEADER.pack(1, GET_INFO, 0, 5, 0, 0) + b"\x01")
            assert client.socket.recv(1) == b"\x81"
            assert client.receive().header.rv == RV.CKR_CRYPTOKI_NOT_INITIALIZED

    @pytest.mark.parametrize("length", [67_108_865, 0x7FFFFFFF, 0xFFFFFFFF])
    def test_an_absurd_length_ends_the_connection(self, daemon, length):
        with RawClient(daemon.socket) as client:
            client.initialize()
            client.socket.sendall(HEADER.pack(length, GET_INFO, 0, 9, 0, 0))
            assert client.is_closed()
        assert "above the limit" in daemon.events("client refused")[0]["reason"]

    def test_an_announced_body_that_does_not_come_takes_no_memory(self, daemon):
        with RawClient(daemon.socket) as client:
            client.initialize()
            before = daemon.memory()
            client.socket.sendall(HEADER.pack(67_108_864, GET_INFO, 0, 9, 0, 0) + bytes(1000))
            with RawClient(daemon.socket) as other:
                other.initialize()
            assert daemon.memory() - before < 16 << 20

    def test_a_stream_cut_inside_a_frame(self, daemon):
        for cut in (1, 31, 32):
            with RawClient(daemon.socket) as client:
                client.initialize()
                client.socket.sendall((HEADER.pack(5, GET_INFO, 0, 9, 0, 0) + b"12345")[:cut])
                client.socket.shutdown(socket.SHUT_WR)
                assert client.is_closed()

    def test_one_byte_at_a_time(self, daemon):
        with RawClient(daemon.socket) as client:
            client.initialize()
            for byte in HEADER.pack(1, GET_INFO, 0, 9, 0, 0) + b"\x01":
                client.socket.sendall(bytes([byte]))
            assert client.receive().header.rv == RV.CKR_OK

    def test_many_frames_at_a_time(self, daemon):
        with RawClient(daemon.socket) as client:
            client.initialize()
            session = open_session(client, slots(client)[0])
            number = call_named("C_GetSessionInfo").number
            frames = b"".join(HEADER.pack(1, number, 0, id_, session, 0) + b"\x01" for id_ in range(100, 600))
            client.socket.sendall(frames)
            replies = [client.receive().header for _ in range(500)]
            assert {reply.id for reply in replies} == set(range(100, 600))
            assert {reply.rv for reply in replies} == {RV.CKR_OK}


@pytest.mark.usefixtures("bystander")
class TestRequests:
    @pytest.fixture
    def client(self, daemon):
        with RawClient(daemon.socket) as client:
            client.initialize()
            yield client
            client.good("C_GetInfo", True)

    def rv(self, client, number, body=b"", **fields):
        id_ = client.send(number, body, **fields)
        frame = client.receive()
        assert (frame.header.id, frame.header.call, frame.body) == (id_, number, b"")
        return frame.header.rv

    @pytest.mark.parametrize("number", [0, 4, 69, 70, 105, 500, 0x3FFF, 0x4006, 0xFFFF])
    def test_an_unknown_call(self, client, number):
        assert self.rv(client, number) == RV.CKR_FUNCTION_NOT_SUPPORTED

    @pytest.mark.parametrize("flags", [Flags.REPLY, Flags.INIT, 0x0010, 0x8000, Flags.FUSED])
    def test_a_flag_that_a_request_can_not_have(self, client, flags):
        assert self.rv(client, GET_INFO, b"\x01", flags=flags) == RV.CKR_ARGUMENTS_BAD

    @pytest.mark.parametrize("body", [b"", b"\x02", b"\x01\x01"])
    def test_a_body_that_can_not_be_decoded(self, client, body):
        assert self.rv(client, GET_INFO, body) == RV.CKR_ARGUMENTS_BAD

    @pytest.mark.parametrize("body", [b"", bytes(8), bytes(8) + b"\x01", bytes(8) + b"\x05" + bytes(8), bytes(18)])
    def test_a_session_can_not_be_opened_with_a_bad_body(self, client, body):
        slot = slots(client)[0]
        assert self.rv(client, call_named("C_OpenSession").number, body, target=slot) == RV.CKR_ARGUMENTS_BAD

    def test_a_second_initialize(self, client):
        assert client.call("C_Initialize", 0, b"x", b"")[0] == RV.CKR_CRYPTOKI_ALREADY_INITIALIZED

    def test_a_handle_must_be_new(self, client):
        slot = slots(client)[0]
        open_session(client, slot, 5)
        assert client.call("C_OpenSession", 4, 5, target=slot)[0] == RV.CKR_ARGUMENTS_BAD
        assert client.call("C_OpenSession", 4, 0, target=slot)[0] == RV.CKR_ARGUMENTS_BAD

    def test_no_place_for_the_handle_is_the_modules_business(self, client):
        assert client.call("C_OpenSession", 4, None, target=slots(client)[0])[0] == RV.CKR_ARGUMENTS_BAD

    def test_posted_requests_are_never_answered(self, client):
        client.send(500, flags=Flags.POSTED)
        client.send(GET_INFO, b"\x07", flags=Flags.POSTED)
        client.send_call("C_GetInfo", True, flags=Flags.POSTED)
        client.send_call("C_CloseSession", target=77, flags=Flags.POSTED)

    def test_a_posted_close_is_noted(self, client, daemon):
        session = open_session(client, slots(client)[0])
        client.send_call("C_CloseSession", target=session, flags=Flags.POSTED)
        assert client.call("C_GetSessionInfo", True, target=session)[0] == RV.CKR_SESSION_HANDLE_INVALID
        assert sorted(context["sessions"] for context in daemon.contexts()) == [0, 1]


def test_the_same_id_twice_ends_the_connection(daemon):
    with RawClient(daemon.socket) as client:
        client.initialize()
        session = open_session(client, slots(client)[0])
        wait = call_named("C_GetSessionInfo").number
        frame = Header(1, wait, 0, 1 << 40, session, 0).pack() + b"\x01"
        client.socket.sendall(frame + frame)
        assert client.is_closed()
    assert daemon.events("client refused")


def test_calls_before_initialize_and_after_finalize(daemon):
    with RawClient(daemon.socket) as client:
        for _ in range(2):
            assert client.call("C_GetInfo", True)[0] == RV.CKR_CRYPTOKI_NOT_INITIALIZED
            assert client.call("C_GetSlotList", 0, Room(0, False))[0] == RV.CKR_CRYPTOKI_NOT_INITIALIZED
            assert client.call("C_Finalize")[0] == RV.CKR_CRYPTOKI_NOT_INITIALIZED
            client.initialize()
            client.good("C_Finalize")
