"""A stream cut into frames."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.p11kit import MAX_OPTIONS, DecodeError, EncodeError, Frame, FrameBuffer, pack

frames = st.builds(Frame, st.integers(0, 0xFFFF_FFFF), st.binary(max_size=60), st.binary(max_size=20))


def test_bytes() -> None:
    expected = bytes.fromhex("00000010 00000006 00000002") + b"clientab"
    assert pack(Frame(0x10, b"ab", b"client")) == expected


@given(st.lists(frames, max_size=5), st.integers(1, 50))
def test_a_stream_in_pieces(sent: list[Frame], size: int) -> None:
    stream = b"".join(map(pack, sent))
    buffer = FrameBuffer()
    received = []
    for at in range(0, len(stream), size):
        received += buffer.feed(stream[at : at + size])
    assert received == sent
    assert buffer.is_between_frames


@given(frames)
def test_byte_by_byte(frame: Frame) -> None:
    buffer = FrameBuffer()
    stream = pack(frame)
    for byte in stream[:-1]:
        assert buffer.feed(bytes([byte])) == []
        assert not buffer.is_between_frames
    assert buffer.feed(stream[-1:]) == [frame]


@pytest.mark.parametrize("header", ["00000001 00000000 04000001", "00000001 00010001 00000000", "00000001" + "f" * 16])
def test_a_header_above_the_limits(header: str) -> None:
    with pytest.raises(DecodeError):
        FrameBuffer().feed(bytes.fromhex(header))


def test_the_receivers_own_limit() -> None:
    assert FrameBuffer(2).feed(pack(Frame(1, b"ab"))) == [Frame(1, b"ab")]
    with pytest.raises(DecodeError):
        FrameBuffer(2).feed(pack(Frame(1, b"abc")))


@pytest.mark.parametrize("frame", [Frame(1, b"", bytes(MAX_OPTIONS + 1)), Frame(-1, b""), Frame(2**32, b"")])
def test_a_frame_that_does_not_fit(frame: Frame) -> None:
    with pytest.raises(EncodeError):
        pack(frame)
