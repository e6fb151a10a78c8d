import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from tests.provision.outcome import outcome

from keyway.provision.problems import Problem
from keyway.provision.subjects import MAX_PARTS, parse_subject

OIDS = [NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.LOCALITY_NAME, NameOID.STREET_ADDRESS, NameOID.SURNAME]
SHORT = dict(zip(OIDS, ["CN", "O", "L", "STREET", "SN"], strict=True))
TEXTS = st.text(
    st.one_of(st.sampled_from(",+/\\\"<>;=# '"), st.characters(exclude_categories=("Cc", "Cs"))),
    min_size=1,
    max_size=12,
)
NAMES = st.lists(st.dictionaries(st.sampled_from(OIDS), TEXTS, min_size=1, max_size=3), min_size=1, max_size=4).map(
    lambda rdns: x509.Name(
        [x509.RelativeDistinguishedName([x509.NameAttribute(*each) for each in rdn.items()]) for rdn in rdns]
    )
)


def slashed(name):
    def part(attribute):
        value = attribute.value.replace("\\", "\\\\").replace("/", "\\/").replace("+", "\\+")
        return f"{SHORT[attribute.oid]}={value}"

    return "".join("/" + "+".join(map(part, rdn)) for rdn in name.rdns)


def comma(name):
    def part(attribute):
        value = "".join("\\" + each if each in ',+"\\<>;=# ' else each for each in attribute.value)
        return f"{SHORT[attribute.oid]}={value}"

    return ",".join("+".join(map(part, rdn)) for rdn in reversed(name.rdns))


@given(NAMES)
def test_every_name_can_be_written_in_both_forms(name):
    assert parse_subject(slashed(name)) == name
    assert parse_subject(comma(name)) == name


@given(NAMES)
def test_what_others_write_as_rfc_4514_is_read(name):
    written = name.rfc4514_string({oid: SHORT[oid] for oid in OIDS})
    assert parse_subject(written) == name


@given(st.text(max_size=60))
def test_any_text_is_a_name_or_a_problem(text):
    name, code = outcome(parse_subject, text)
    if name is None:
        assert code == "bad-subject"
    else:
        assert name.public_bytes()
        assert not any(chr(number) in each.value for each in name for number in (0, 10, 13))


@pytest.mark.parametrize(
    ("text", "rfc4514"),
    [
        ("/CN=node-1", "CN=node-1"),
        ("/C=DE/O=Example/CN=node-1", "CN=node-1,O=Example,C=DE"),
        ("CN=node-1,O=Example,C=DE", "CN=node-1,O=Example,C=DE"),
        ("cn = node-1 , o = Example", "CN=node-1,O=Example"),
        ("CN=node-1;O=Example", "CN=node-1,O=Example"),
        ("/CN=a\\/b", "CN=a/b"),
        ("/CN=a, b", "CN=a\\, b"),
        ("CN=a\\,b", "CN=a\\,b"),
        ("CN=\\C3\\A4", "CN=ä"),
        ("CN=a\\ ", "CN=a\\ "),
        ("/CN=a+OU=b", "CN=a+OU=b"),
        ("2.5.4.3=a", "CN=a"),
        ("OID.2.5.4.3=a", "CN=a"),
        ("/emailAddress=a@b.example/CN=x", "CN=x,1.2.840.113549.1.9.1=a@b.example"),
        ("/CN=$(id)`'\"%00&<>", "CN=$(id)`'\\\"%00&\\<\\>"),
    ],
)
def test_forms(text, rfc4514):
    assert parse_subject(text).rfc4514_string() == rfc4514


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "node-1",
        "/node-1",
        "CN",
        "CN=",
        "/CN=a//O=b",
        "CN=a,",
        "CN=a\\",
        "/CN=a\\",
        "CN=\\00",
        "/CN=a\nb",
        "/CN=a\0",
        "CN=#0401ff",
        "CN=\\ff",
        "XX=a",
        "9.9=a",
        "1=a",
        "C=DEU",
        "C=Ä1",
        "E=ä@b",
        "CN=" + "x" * 65,
        "CN=a+CN=a",
        "CN=" + "x" * 2000,
        "/CN=\ud800",
        "+".join(f"1.2.{n}=a" for n in range(MAX_PARTS + 1)),
    ],
)
def test_what_is_no_subject(text):
    with pytest.raises(Problem) as caught:
        parse_subject(text)
    assert caught.value.code == "bad-subject"
    assert caught.value.detail


def test_the_most_specific_part_comes_last_in_der():
    name = parse_subject("CN=node-1,O=Example")
    assert [each.oid for each in name] == [NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME]
    assert name == parse_subject("/O=Example/CN=node-1")
