from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.gateway.pool import strategies

from keyway.cryptoki.constants import CKK_EC, CKO_DATA, CKO_PRIVATE_KEY, CKO_PUBLIC_KEY
from keyway.gateway.pool.directory import Directory
from keyway.gateway.pool.identity import FIRST_SESSION_OBJECT, Facts, names

DATA = Facts(CKO_DATA, None, b"", b"data", is_token=True, is_private=False, public=b"")
OF_SESSION = Facts(CKO_DATA, None, b"", b"of a session", is_token=False, is_private=False, public=b"")
NAME = FIRST_SESSION_OBJECT + 1


def test_a_listing_is_known_by_name_and_by_handle():
    directory = Directory()
    directory.replace({5: DATA})
    (name,) = names({5: DATA}).values()
    assert directory.name(5) == name
    assert directory.handle(name) == 5
    assert directory.facts(5) == DATA
    assert directory.token_names() == {name}


def test_nothing_else_is_known():
    directory = Directory()
    directory.replace({5: DATA})
    assert directory.name(6) is None
    assert directory.handle(6) is None
    assert directory.facts(6) is None
    assert directory.unknown([7, 5, 6]) == [7, 6]


def test_an_object_that_gets_another_handle_keeps_its_name():
    directory = Directory()
    directory.replace({5: DATA})
    name = directory.name(5)
    assert name is not None
    directory.replace({9: DATA})
    assert directory.handle(name) == 9
    assert directory.name(5) is None


def test_an_object_that_is_not_listed_any_more_is_gone():
    directory = Directory()
    directory.replace({5: DATA})
    name = directory.name(5)
    assert name is not None
    directory.replace({})
    assert directory.handle(name) is None
    assert directory.facts(5) is None


def test_session_objects_stay_when_the_token_is_listed_anew():
    directory = Directory()
    directory.add(NAME, 5)
    directory.replace({6: DATA})
    assert directory.handle(NAME) == 5
    assert directory.token_names() == {directory.name(6)}


def test_a_session_object_that_is_listed_too_keeps_the_name_that_it_was_given():
    directory = Directory()
    directory.add(NAME, 5)
    directory.replace({5: OF_SESSION, 6: OF_SESSION})
    assert directory.name(5) == NAME
    assert directory.name(6) not in (NAME, None)
    assert directory.token_names() == frozenset()


def test_a_handle_that_is_given_again_has_its_new_name_alone():
    directory = Directory()
    directory.add(NAME, 5)
    directory.add(NAME + 1, 5)
    assert directory.handle(NAME) is None
    assert directory.name(5) == NAME + 1
    directory.add(NAME + 1, 6)
    assert directory.name(5) is None
    assert directory.handle(NAME + 1) == 6


def test_an_object_is_forgotten():
    directory = Directory()
    directory.replace({5: DATA})
    name = directory.name(5)
    assert name is not None
    directory.remove_name(name)
    directory.remove_name(name)
    assert directory.unknown([5]) == [5]
    assert directory.facts(5) is None
    assert not directory.token_names()


PUBLIC = Facts(CKO_PUBLIC_KEY, CKK_EC, b"\1", b"", is_token=True, is_private=False, public=b"\1" * 32)
PRIVATE = Facts(CKO_PRIVATE_KEY, CKK_EC, b"\1", b"", is_token=True, is_private=True, public=b"")


def test_a_private_key_keeps_its_name_when_its_public_key_comes():
    directory = Directory()
    kept: dict[int, int] = {}
    directory.replace({5: PRIVATE})
    directory.keep(kept)
    name = directory.name(5)
    directory.replace({5: PRIVATE, 6: PUBLIC})
    assert directory.name(5) != name
    directory.keep(kept)
    assert directory.name(5) == name
    assert directory.facts(5) == PRIVATE
    # At another member, which was listed when both were there, it is known by the same.
    other = Directory()
    other.replace({1: PUBLIC, 2: PRIVATE})
    other.keep(kept)
    assert other.name(2) == name
    assert other.name(1) == directory.name(6)


def test_an_object_whose_name_another_one_keeps_gets_one_of_its_own():
    old = replace(DATA, label=b"old")
    directory, other = Directory(), Directory()
    kept: dict[int, int] = {}
    directory.replace({5: DATA})
    directory.keep(kept)
    first = directory.name(5)
    # It is given another label, and a new one gets that which it had.
    directory.replace({5: old})
    directory.keep(kept)
    directory.replace({5: old, 6: DATA})
    directory.keep(kept)
    assert directory.name(5) == first
    new = directory.name(6)
    assert new not in (None, first)
    other.replace({1: DATA, 2: old})
    other.keep(kept)
    assert (other.name(1), other.name(2)) == (new, first)


def test_who_has_a_name_to_keep_comes_first():
    old = replace(DATA, label=b"old")
    (first,), (present,) = names({1: DATA}).values(), names({1: old}).values()
    for listing in ({1: DATA, 2: old}, {2: DATA, 1: old}):
        directory = Directory()
        kept = {present: first}
        directory.replace(listing)
        directory.keep(kept)
        assert {listing[handle] for handle in listing if directory.name(handle) == first} == {old}


def test_what_is_doubted_keeps_its_name_and_is_asked_anew():
    directory = Directory()
    directory.replace({5: DATA})
    name = directory.name(5)
    assert name is not None
    directory.doubt(name)
    directory.doubt(name + 1)
    assert directory.facts(5) is None
    assert directory.handle(name) == 5
    kept: dict[int, int] = {}
    directory.replace({5: replace(DATA, label=b"changed")})
    directory.keep(kept)
    assert directory.facts(5) == replace(DATA, label=b"changed")
    assert directory.handle(name) == 5
    assert [*kept.values()] == [name]


@given(st.lists(st.dictionaries(st.integers(1, 6), strategies.facts, max_size=6), min_size=1))
def test_what_stays_keeps_its_name(listings):
    directory = Directory()
    kept: dict[int, int] = {}
    before: dict[int, int | None] = {}
    for listing in listings:
        directory.replace(listing)
        directory.keep(kept)
        directory.keep(kept)  # Once is enough.
        names_now = {handle: directory.name(handle) for handle in listing}
        assert len({*names_now.values()}) == len(listing)
        assert {directory.handle(name) for name in names_now.values() if name is not None} == set(listing)
        assert {handle: name for handle, name in before.items() if handle in listing}.items() <= names_now.items()
        before = names_now


class Names(RuleBasedStateMachine):
    """A directory beside two plain mappings."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Directory()
        self.listed: dict[int, Facts] = {}
        self.added: dict[int, int] = {}
        self.ever: set[int] = set()

    @rule(listing=st.dictionaries(st.integers(1, 9), strategies.facts, max_size=6))
    def replace(self, listing: dict[int, Facts]) -> None:
        self.directory.replace(listing)
        self.listed = {handle: facts for handle, facts in listing.items() if handle not in self.added.values()}
        named = names(self.listed)
        assert {handle: self.directory.name(handle) for handle in self.listed} == named
        self.ever.update(named.values())

    @rule(number=st.integers(0, 4), handle=st.integers(1, 9))
    def add(self, number: int, handle: int) -> None:
        self.directory.add(FIRST_SESSION_OBJECT + number, handle)
        self.ever.add(FIRST_SESSION_OBJECT + number)
        self.listed.pop(handle, None)
        self.added = {name: other for name, other in self.added.items() if other != handle}
        self.added[FIRST_SESSION_OBJECT + number] = handle

    @rule(number=st.integers(0, 4))
    def remove(self, number: int) -> None:
        self.directory.remove_name(FIRST_SESSION_OBJECT + number)
        self.added.pop(FIRST_SESSION_OBJECT + number, None)

    @precondition(lambda self: self.listed)
    @rule(data=st.data())
    def remove_listed(self, data: st.DataObject) -> None:
        handle = data.draw(st.sampled_from(sorted(self.listed)))
        name = self.directory.name(handle)
        assert name is not None
        self.directory.remove_name(name)
        del self.listed[handle]

    @rule()
    def clear(self) -> None:
        self.directory.clear()
        self.listed.clear()
        self.added.clear()

    @invariant()
    def both_ways_lead_to_the_same(self) -> None:
        for handle in range(1, 10):
            name = self.directory.name(handle)
            assert (name is not None) == (handle in self.listed or handle in self.added.values())
            assert name is None or self.directory.handle(name) == handle
            assert self.directory.facts(handle) == self.listed.get(handle)

    @invariant()
    def what_is_gone_has_no_handle(self) -> None:
        live = {self.directory.name(handle) for handle in (*self.listed, *self.added.values())}
        assert {name for name in self.ever if self.directory.handle(name) is not None} == live

    @invariant()
    def added_names_are_kept(self) -> None:
        assert {name: self.directory.handle(name) for name in self.added} == self.added

    @invariant()
    def token_objects_are_told(self) -> None:
        expected = {self.directory.name(handle) for handle, facts in self.listed.items() if facts.is_token}
        assert self.directory.token_names() == expected

    @invariant()
    def the_others_are_unknown(self) -> None:
        known = set(self.listed) | set(self.added.values())
        assert self.directory.unknown(range(9, 0, -1)) == [handle for handle in range(9, 0, -1) if handle not in known]


TestNames = Names.TestCase
