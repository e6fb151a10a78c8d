"""What travels in the place of a body that is in shared memory."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.wire.errors import WireError
from keyway.wire.header import Flags
from keyway.wire.shared import lent, place_of, returned

NUMBERS = st.integers(0, 2**32 - 1)


@given(NUMBERS, NUMBERS, NUMBERS)
def test_a_place_is_read_as_it_was_told(offset, length, room):
    assert place_of(lent(offset, length, room)) == (offset, length)


@given(st.binary(max_size=20))
def test_anything_else_is_no_place(body):
    if len(body) == 12:
        assert lent(*place_of(body), 0)[:8] == body[:8]
    else:
        with pytest.raises(WireError):
            place_of(body)


@given(st.binary(max_size=8), st.integers(0, 2**16 - 1), NUMBERS)
def test_a_reply_is_there_if_it_can_be(body, flags, room):
    if not flags & Flags.SHARED:
        assert returned(body, flags, room) is None
    elif len(body) == 4 and int.from_bytes(body) <= room:
        assert returned(body, flags, room) == int.from_bytes(body)
    else:
        with pytest.raises(WireError):
            returned(body, flags, room)


def test_the_bytes_are_those_of_the_specification():
    assert lent(0x1000, 5, 0x10000).hex() == "000010000000000500010000"
    assert returned(bytes.fromhex("00000102"), Flags.REPLY | Flags.SHARED, 258) == 258
