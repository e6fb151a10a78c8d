"""Memory that is shared with a host: its size stays, and a part is free when nobody uses it any more."""

import errno
import mmap
import os
from pathlib import Path

import pytest

from keyway.backend.segment import PARTS, Segment

SIZE = 1 << 20


@pytest.fixture
def segment():
    segment = Segment(SIZE)
    yield segment
    segment.hand_over()


def test_whoever_has_the_file_can_write_and_not_change_its_size(segment):
    for size in (0, SIZE - 1, SIZE + 1, 2 * SIZE):
        with pytest.raises(PermissionError):
            os.ftruncate(segment.descriptor, size)
    with pytest.raises(PermissionError):
        os.posix_fallocate(segment.descriptor, 0, SIZE + 1)
    part = segment.take(10)
    with mmap.mmap(segment.descriptor, SIZE) as other:
        other[part.offset : part.offset + 5] = b"hello"
    assert part.view[:5] == b"hello"
    assert segment.view(part.offset, 5) == b"hello"


def test_its_file_is_closed_once_the_host_has_it(segment):
    descriptor = segment.descriptor
    segment.hand_over()
    segment.hand_over()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(descriptor)
    assert segment.take(1).view[:1] == b"\0"


def test_parts_are_apart_and_there_are_so_many(segment):
    parts = [segment.take(SIZE // PARTS) for _ in range(PARTS)]
    assert sorted(part.offset for part in parts) == [index * SIZE // PARTS for index in range(PARTS)]
    assert segment.take(1) is None
    segment.give_back(parts[1])
    assert segment.take(1) is parts[1]
    assert segment.take(1) is None


def test_a_body_that_is_too_large_gets_none(segment):
    assert segment.take(SIZE // PARTS + 1) is None


def test_a_part_is_taken_as_long_as_somebody_refers_to_what_is_in_it(segment):
    parts = [segment.take(1) for _ in range(PARTS)]
    parts[0].view[:3] = b"abc"
    view = segment.until_sent(parts[0], 3)
    # As transports do with what they could not send at once.
    left = memoryview(view)[1:]
    again = left[1:]
    assert bytes(view) == b"abc"
    del view
    assert segment.take(1) is None
    del left
    assert segment.take(1) is None
    assert bytes(again) == b"c"
    del again
    assert segment.take(1) is parts[0]


def test_nothing_is_left_of_it_when_it_is_closed_and_its_parts_are_dropped(segment):
    def left() -> int:
        return sum(
            "memfd:keyway" in str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()
        )

    segment.hand_over()
    before = left()
    part = segment.take(10)
    view = segment.until_sent(segment.take(10), 10)
    part.view[:3] = b"abc"
    segment.close()
    assert left() == before
    assert segment.take(1) is None
    assert bytes(segment.view(0, 10)) == b""
    assert bytes(part.view[:3]) == b"abc"
    segment.give_back(part)
    assert segment.take(1) is None
    del part
    assert left() == before
    del view
    assert left() == before - 1


@pytest.mark.parametrize("size", [1, 4096, 5 * 4096 + 1])
def test_an_odd_size_is_made_of_whole_pages(size):
    segment = Segment(size)
    part = segment.take(1)
    assert part is not None
    room = part.room
    assert room % mmap.PAGESIZE == 0
    assert room > 0
    assert os.fstat(segment.descriptor).st_size == room * PARTS
    segment.hand_over()
