"""The tables against the call table, against one another, and against what is known of the releases."""

import pytest

from keyway.cryptoki import CALLS, SHAPES, MemberKind
from keyway.p11kit import DIALECTS, MESSAGES, DecodeError, Message, accept, offer_accepted
from keyway.p11kit.mechanisms import BARE_0, BARE_1, FOREIGN, LAYOUTS_0, LAYOUTS_2
from keyway.p11kit.reply import reply_letters
from keyway.p11kit.request import request_letters


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: f"{message.id}-{message.name}")
def test_the_codec_writes_the_letters_of_the_table(message: Message) -> None:
    assert (request_letters(message), reply_letters(message)) == (message.request, message.reply)


def test_all_calls_but_the_newest() -> None:
    assert [message.id for message in MESSAGES] == list(range(1, 90))
    carried = {message.name for message in MESSAGES}
    left = {call.name for call in CALLS if not call.local and call.since < (3, 2)} - carried
    # The clients answer these two themselves.
    assert left == {"C_GetFunctionStatus", "C_CancelFunction"}
    assert len(MESSAGES) == len(carried) + 2


def test_as_many_mechanisms_as_the_releases_know() -> None:
    assert len(BARE_0) == 89
    assert len(LAYOUTS_0) == 2
    assert len(BARE_1) == 124
    assert len(LAYOUTS_2) + len(FOREIGN) == 43
    for dialect in DIALECTS:
        assert not dialect.bare & set(dialect.layouts)


def test_layouts_are_those_of_the_shapes() -> None:
    letters = {MemberKind.ULONG: "u", MemberKind.OBJECT: "u", MemberKind.STRING: "b", MemberKind.BYTES: "b"}
    for layout in LAYOUTS_2.values():
        if layout.shape:
            members = [member for member in SHAPES[layout.shape].members if member.kind is not MemberKind.LENGTH]
            assert layout.fields == "".join(letters[member.kind] for member in members)
            for member in members:
                assert member.kind is not MemberKind.BYTES or member.count == layout.size


@pytest.mark.parametrize(("offered", "version"), [(0, 0), (1, 1), (2, 2), (3, 2), (0x15, 2)])
def test_a_client_is_told_by_its_byte(offered: int, version: int) -> None:
    assert accept(offered) is DIALECTS[version]
    assert DIALECTS[version].version == version


@pytest.mark.parametrize("offered", [0x16, 0x80, 0x81, 0xFF])
def test_other_protocols(offered: int) -> None:
    with pytest.raises(DecodeError):
        accept(offered)


@pytest.mark.parametrize(("offered", "answered"), [(2, 0), (2, 1), (2, 2), (0, 0)])
def test_a_server_is_told_by_its_answer(offered: int, answered: int) -> None:
    assert offer_accepted(offered, answered) is DIALECTS[answered]


@pytest.mark.parametrize(("offered", "answered"), [(0, 1), (2, 3), (2, 0x81)])
def test_a_server_that_answers_more_than_was_offered(offered: int, answered: int) -> None:
    with pytest.raises(DecodeError):
        offer_accepted(offered, answered)
