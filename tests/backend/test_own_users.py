"""Users of hosts."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.backend.own_users import COUNT, FIRST, OwnUsers

NAMES = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=40)


@given(NAMES)
def test_each_backend_has_one_of_its_own_and_keeps_it(names):
    users = OwnUsers()
    numbers = [users.of(name) for name in names]
    assert len(set(numbers)) == len(names)
    assert all(FIRST <= number < FIRST + COUNT for number in numbers)
    assert [users.of(name) for name in reversed(names)] == numbers[::-1]


@given(st.text(min_size=1))
def test_a_name_that_is_alone_has_the_same_one_in_each_daemon(name):
    assert OwnUsers().of(name) == OwnUsers().of(name)


def test_with_too_many_some_share_one():
    users = OwnUsers()
    numbers = [users.of(str(number)) for number in range(COUNT + 3)]
    assert len(set(numbers[:COUNT])) == COUNT
    assert set(numbers) == set(range(FIRST, FIRST + COUNT))


@pytest.mark.parametrize("page", ["guides/isolation.md", "reference/configuration.md"])
def test_the_numbers_are_those_that_the_documentation_names(page):
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    assert f"a number from {FIRST} to {FIRST + COUNT - 1}" in text
