import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyway.access.patterns import (
    covers_dns,
    covers_email,
    covers_uri,
    dns_matches,
    email_matches,
    label_matches,
    uri_matches,
)

LABELS = st.text(st.sampled_from("ab*"), max_size=6)


@pytest.mark.parametrize(
    ("pattern", "label", "matches"),
    [
        ("web", b"web", True),
        ("web", b"Web", False),
        ("web", b"web2", False),
        ("", b"", True),
        ("*", b"", True),
        ("web-*", b"web-", True),
        ("web-*", b"webby", False),
        ("*-key", b"a-key", True),
        ("a*a", b"a", False),
        ("a*a", b"aa", True),
        ("a*b*c", b"a-b-b-c", True),
        ("a*b*c", b"a-c-b", False),
        ("*a*b*", b"ba", False),
        ("*a*b*", b"xaxbx", True),
        ("**", b"x", True),
        ("caf\u00e9", "café".encode(), True),
        ("*", b"\xff\0", True),
        ("\ufffd", b"\xff", False),
    ],
)
def test_labels(pattern, label, matches):
    assert label_matches(pattern, label) is matches


@given(LABELS, st.text(st.sampled_from("ab"), max_size=6))
def test_a_label_matches_as_by_trying_all(pattern, text):
    def tries(pattern, text):
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(tries(pattern[1:], text[place:]) for place in range(len(text) + 1))
        return text[:1] == pattern[0] and tries(pattern[1:], text[1:])

    assert label_matches(pattern, text.encode()) is tries(pattern, text)


def test_many_stars_take_no_time():
    assert not label_matches("*a" * 500 + "b*", b"a" * 100_000)


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("web.example.org", "web.example.org", True),
        ("web.example.org", "WEB.Example.org", True),
        ("*.example.org", "web.example.org", True),
        ("*.example.org", "a.web.example.org", False),
        ("*.example.org", "example.org", False),
        ("*.example.org", ".example.org", False),
        ("web*.example.org", "web7.example.org", True),
        ("web*.example.org", "web.7.example.org", False),
        ("*.*.org", "a.b.org", True),
        ("web.example.org", "web.example.org.", False),
        # What a certificate may hold to be read in two ways
        ("*.example.org", "*.example.org", False),
        ("web.example.org", "*.example.org", False),
        ("*.example.org", "web.evil\0.example.org", False),
        ("*.example.org", "evil.test\0.example.org", False),
        ("web.example.org", "web.example.org\0", False),
        ("*.example.org", "w eb.example.org", False),
        ("*.example.org", "w\u00e9b.example.org", False),
        ("*.example.org", "w\neb.example.org", False),
    ],
)
def test_dns_names(pattern, name, matches):
    assert dns_matches(pattern, name) is matches


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("spiffe://example.org/ns/web/sa/a", "spiffe://example.org/ns/web/sa/a", True),
        ("spiffe://example.org/ns/*/sa/a", "spiffe://example.org/ns/web/sa/a", True),
        ("spiffe://example.org/ns/*/sa/a", "spiffe://example.org/ns/web/x/sa/a", False),
        ("spiffe://example.org/ns/*", "spiffe://example.org/ns/", False),
        ("spiffe://example.org/ns/*", "spiffe://example.org/ns/..", False),
        ("spiffe://example.org/ns/*", "spiffe://example.org/ns/.", False),
        ("spiffe://example.org/ns/*", "spiffe://example.org.evil.test/ns/a", False),
        ("spiffe://example.org/ns/*", "spiffe://example.org/ns/*", False),
        ("spiffe://example.org/ns/*", "spiffe://example.org/ns/a\0", False),
        ("spiffe://example.org/ns/*", "spiffe://EXAMPLE.org/ns/a", False),
        ("urn:x:y", "urn:x:y", True),
    ],
)
def test_uris(pattern, name, matches):
    assert uri_matches(pattern, name) is matches


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("ann@example.org", "ann@Example.org", True),
        ("ann@example.org", "Ann@example.org", False),
        ("*@example.org", "ann@example.org", True),
        ("*@example.org", "@example.org", False),
        ("*@example.org", "ann@x.example.org", False),
        ("*@*.example.org", "ann@x.example.org", True),
        ("*@example.org", "evil@test\0@example.org", False),
        ("*@example.org", "example.org", False),
        ("*@example.org", "*@example.org", False),
    ],
)
def test_emails(pattern, name, matches):
    assert email_matches(pattern, name) is matches


NAMES = st.lists(st.text(st.sampled_from("ab"), max_size=3), min_size=1, max_size=3)
PATTERNS = st.lists(st.text(st.sampled_from("ab*"), max_size=3), min_size=1, max_size=3)


@pytest.mark.parametrize(
    ("between", "start", "covers", "matches"),
    [
        (".", "", covers_dns, dns_matches),
        (".", "a@", covers_email, email_matches),
        ("/", "a://b/", covers_uri, uri_matches),
    ],
)
@given(wide=PATTERNS, narrow=PATTERNS, name=NAMES)
def test_what_covers_a_pattern_matches_all_that_it_matches(between, start, covers, matches, wide, narrow, name):
    wide, narrow, name = (start + between.join(each) for each in (wide, narrow, name))
    assert covers(wide, wide) or "*" in wide
    if covers(wide, narrow) and matches(narrow, name):
        assert matches(wide, name)
