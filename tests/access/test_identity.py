import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.access.identity import Evidence, Identity, IdentityRule, covers, identify
from keyway.access.role import Role

ROLE = Role(name="r", tokens=())


def rule(name="web", **conditions):
    given: dict[str, Any] = {key: frozenset(value) for key, value in conditions.items()}
    return IdentityRule(name=name, roles=(ROLE,), **given)


EVERYTHING = Evidence(
    transport="tls",
    listener="net",
    uid=1000,
    gids=frozenset({100, 27}),
    dns=("a.test", "web.example.org"),
    uris=("spiffe://example.org/web",),
    emails=("ann@example.org",),
    subject="CN=web,O=Example",
    principal="web@EXAMPLE.ORG",
    offer="plant-7",
)
MEETS: dict[str, set[Any]] = {
    "users": {0, 1000},
    "groups": {27},
    "dns": {"*.example.org"},
    "uris": {"spiffe://example.org/*"},
    "emails": {"*@example.org"},
    "subjects": {"CN=web,O=Example"},
    "principals": {"web@EXAMPLE.ORG"},
    "listeners": {"net"},
    "offers": {"plant-7"},
}
MISSES: dict[str, set[Any]] = {
    "users": {"web", 7},
    "groups": {"web", 7},
    "dns": {"*.test.org"},
    "uris": {"spiffe://example.org/ns/*"},
    "emails": {"ann@example.com"},
    "subjects": {"CN=web"},
    "principals": {"web@EXAMPLE.COM"},
    "listeners": {"", "other"},
    "offers": {"plant-8"},
}


def test_every_condition_is_tried():
    fields = {each.name for each in dataclasses.fields(IdentityRule)} - {"name", "roles", "contexts"}
    assert set(MEETS) == set(MISSES) == fields


def test_the_limit_of_contexts_comes_with_the_identity_and_makes_it_no_other_one():
    limited = dataclasses.replace(rule(), contexts=3)
    found = identify([limited], EVERYTHING)
    assert found is not None
    assert found.contexts == 3
    assert found == identify([rule()], EVERYTHING)


@pytest.mark.parametrize("condition", MEETS)
def test_a_condition(condition):
    assert identify([rule(**{condition: MEETS[condition]})], EVERYTHING) == Identity("web", (ROLE,))
    assert identify([rule(**{condition: MISSES[condition]})], EVERYTHING) is None
    assert identify([rule(**{condition: MISSES[condition] | MEETS[condition]})], EVERYTHING)
    assert identify([rule(**{condition: MEETS[condition]})], Evidence(transport="unix")) is None


@pytest.mark.parametrize("condition", MEETS)
def test_all_conditions_must_be_met(condition):
    assert identify([rule(**MEETS)], EVERYTHING)
    assert identify([rule(**{**MEETS, condition: MISSES[condition]})], EVERYTHING) is None


def test_the_first_rule_counts():
    rules = [rule("a", users={1}), rule("b", users={1000}), rule("c", groups={100})]
    found = identify(rules, EVERYTHING)
    assert found is not None
    assert found.name == "b"


def test_no_rule_matches_nobody():
    assert identify([], EVERYTHING) is None


def test_a_rule_without_conditions_matches_everybody():
    assert identify([rule()], Evidence(transport="tcp"))


def test_the_listener_of_the_machine_itself_has_an_empty_name():
    assert identify([rule(listeners={""})], Evidence(transport="unix"))


def test_a_certificate_for_all_names_is_for_none():
    assert identify([rule(dns={"*.example.org"})], Evidence(transport="tls", dns=("*.example.org",))) is None


@pytest.mark.parametrize("condition", MEETS)
def test_what_covers(condition):
    one = rule(**{condition: MEETS[condition]})
    both = rule(**{condition: MEETS[condition] | MISSES[condition]})
    assert covers(both, one)
    assert not covers(one, both)
    assert covers(rule(), one)
    assert not covers(one, rule())
    assert covers(one, rule(**MEETS))


SOME = st.fixed_dictionaries(
    {},
    optional={
        "users": st.frozensets(st.sampled_from([0, 1, 2]), min_size=1),
        "groups": st.frozensets(st.sampled_from([0, 1, 2]), min_size=1),
        "dns": st.frozensets(st.sampled_from(["*.a", "b.a", "b*.a"]), min_size=1),
        "listeners": st.frozensets(st.sampled_from(["", "x"]), min_size=1),
    },
)
EVIDENCE = st.builds(
    Evidence,
    transport=st.just("tls"),
    uid=st.sampled_from([None, 0, 1, 2]),
    gids=st.frozensets(st.sampled_from([0, 1, 2])),
    dns=st.lists(st.sampled_from(["b.a", "bc.a", "*.a", "c.a"]), max_size=2).map(tuple),
    listener=st.sampled_from(["", "x"]),
)


@given(SOME, SOME, EVIDENCE)
def test_a_rule_that_is_covered_is_never_reached(earlier, later, evidence):
    first, second = rule("a", **earlier), rule("b", **later)
    if covers(first, second):
        found = identify([first, second], evidence)
        assert found is None or found.name == "a"
