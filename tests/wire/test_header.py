"""The header, and a stream cut into frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.wire.strategies import u64

from keyway.wire import VERSION_BYTE, Flags, Frame, FrameBuffer, Header, WireError, chosen_version, pack
from keyway.wire.header import HEADER, HEADER_SIZE, MAX_BODY, OFFSET_OBJECT, OFFSET_TARGET

u16 = st.integers(0, 0xFFFF)
headers = st.builds(Header, st.integers(0, MAX_BODY), u16, u16, u64, u64, u64)
frames = st.builds(
    lambda header, body: Frame(header._replace(length=len(body)), body), headers, st.binary(max_size=100)
)


@given(headers)
def test_round_trip(header: Header) -> None:
    assert len(header.pack()) == HEADER_SIZE == 32
    assert Header.unpack(header.pack()) == header
    assert Header.unpack_from(b"xyz" + header.pack() + b"...", 3) == header


@given(headers, u64)
def test_offsets_are_those_of_the_fields(header: Header, number: int) -> None:
    """A relay rewrites target and object in place."""
    for offset, changed in (
        (OFFSET_TARGET, header._replace(target=number)),
        (OFFSET_OBJECT, header._replace(object=number)),
    ):
        data = bytearray(header.pack())
        data[offset : offset + 8] = number.to_bytes(8, "big")
        assert Header(*HEADER.unpack(data)) == changed


def test_reply() -> None:
    request = Header(5, 44, Flags.FUSED, 9, 7, 0x2A7)
    reply = request.reply(0x60, 3, Flags.INIT)
    assert reply == Header(3, 44, Flags.REPLY | Flags.INIT, 9, 7, 0x60)
    assert reply.is_reply
    assert not request.is_reply
    assert reply.rv == 0x60


def test_limit() -> None:
    header = Header(MAX_BODY + 1, 1, 0, 1, 0, 0).pack()
    with pytest.raises(WireError):
        Header.unpack(header)
    with pytest.raises(WireError):
        Header.unpack_from(Header(100, 1, 0, 1, 0, 0).pack(), limit=99)
    with pytest.raises(WireError):
        Header.unpack(header[:31])


@pytest.mark.parametrize("byte", [0x00, 0x01, 0x02, 0x16, 0x80])
def test_other_protocols(byte: int) -> None:
    with pytest.raises(WireError):
        chosen_version(byte)


@pytest.mark.parametrize("byte", [0x81, 0x82, 0xFF])
def test_versions(byte: int) -> None:
    assert chosen_version(byte) == VERSION_BYTE == 0x81


@given(st.lists(frames, max_size=5), st.data())
def test_framing_in_any_pieces(sent: list[Frame], data: st.DataObject) -> None:
    stream = b"".join(pack(frame.header, frame.body) for frame in sent)
    buffer = FrameBuffer()
    received: list[Frame] = []
    at = 0
    while at < len(stream):
        size = data.draw(st.integers(1, 60))
        received += buffer.feed(stream[at : at + size])
        at += size
    assert received == sent
    assert buffer.is_between_frames


@given(st.lists(frames, min_size=1, max_size=3))
def test_framing_byte_at_a_time(sent: list[Frame]) -> None:
    buffer = FrameBuffer()
    received: list[Frame] = []
    for frame in sent:
        data = pack(frame.header, frame.body)
        for byte in data[:-1]:
            assert buffer.feed(bytes([byte])) == []
            assert not buffer.is_between_frames
        received += buffer.feed(data[-1:])
    assert received == sent


def test_a_frame_above_the_limit_ends_the_stream_before_its_body() -> None:
    with pytest.raises(WireError):
        FrameBuffer(limit=10).feed(Header(11, 1, 0, 1, 0, 0).pack())
