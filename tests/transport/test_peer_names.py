"""Names in certificates, as policies compare them."""

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from keyway.transport.peer import distinguished_name

TYPES = {
    "commonName": NameOID.COMMON_NAME,
    "organizationName": NameOID.ORGANIZATION_NAME,
    "organizationalUnitName": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "localityName": NameOID.LOCALITY_NAME,
    "domainComponent": NameOID.DOMAIN_COMPONENT,
    "userId": NameOID.USER_ID,
}
VALUES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@given(st.lists(st.tuples(st.sampled_from(list(TYPES)), VALUES), max_size=5))
def test_as_others_write_them(parts):
    """The library reads what we write, and has the same name."""
    name = x509.Name([x509.NameAttribute(TYPES[kind], value) for kind, value in parts])
    told = distinguished_name({"subject": tuple(((kind, value),) for kind, value in parts)})
    assert x509.Name.from_rfc4514_string(told) == name


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        ((), ""),
        (((("commonName", "a"),),), "CN=a"),
        (((("organizationName", "Org, Ltd."),), (("commonName", "#1 "),)), r"CN=\#1\ ,O=Org\, Ltd."),
        (((("commonName", "a"), ("userId", "b")),), "CN=a+UID=b"),
        (((("commonName", "a\0b"),),), r"CN=a\00b"),
        (((("emailAddress", "a@b"),),), "emailAddress=a@b"),
    ],
)
def test_examples(subject, told):
    assert distinguished_name({"subject": subject}) == told
