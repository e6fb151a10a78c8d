from base64 import b64encode
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from tests.provision.authority import CA_KEY, KEY, NOW, OTHER_KEY, ca, certificate, pem
from tests.provision.outcome import outcome

from keyway.provision.certificates import MAX_CERTIFICATES, check, key_identifier, read_certificates, read_der
from keyway.provision.problems import Problem

LEAF = certificate()
CA = ca()
DER = LEAF.public_bytes(serialization.Encoding.DER)
PEM = pem(LEAF)
BODY = b64encode(DER).decode()

FORMS = {
    "PEM": PEM,
    "PEM without end of line": PEM.rstrip("\n"),
    "PEM with CRLF": PEM.replace("\n", "\r\n"),
    "PEM unwrapped": f"-----BEGIN CERTIFICATE-----\n{BODY}\n-----END CERTIFICATE-----",
    "PEM with backslash and n": PEM.replace("\n", "\\n"),
    "PEM unwrapped with backslash and n": f"-----BEGIN CERTIFICATE-----\\n{BODY}\\n-----END CERTIFICATE-----",
    "PEM with backslash, r and n": PEM.replace("\n", "\\r\\n"),
    "PEM with blanks for line ends": PEM.replace("\n", " "),
    "PEM of OpenSSL with text before it": "Certificate:\n    Data:\n" + PEM,
    "base64 of PEM": b64encode(PEM.encode()).decode(),
    "base64 of PEM, wrapped": b64encode(PEM.encode()).decode()[:76] + "\n" + b64encode(PEM.encode()).decode()[76:],
    "base64 of DER": BODY,
}


def code(text):
    with pytest.raises(Problem) as caught:
        read_certificates(text)
    assert BODY[10:40] not in str(caught.value)
    return caught.value.code


def refused(*certificates, key=None, now=NOW):
    with pytest.raises(Problem) as caught:
        check(certificates, key or KEY.public_key(), now)
    return caught.value.code


class TestForms:
    @pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
    def test_certificate(self, text):
        assert read_certificates(text) == (LEAF,)

    def test_chain(self):
        text = pem(LEAF, CA)
        assert read_certificates(text) == (LEAF, CA)
        assert read_certificates(b64encode(text.encode()).decode()) == (LEAF, CA)
        assert read_certificates(text.replace("\n", "\\n")) == (LEAF, CA)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " \n",
            "certificate",
            "ä",
            "AAAA",
            BODY[:-8],
            BODY + "AAAA",
            "-----BEGIN CERTIFICATE-----",
            PEM.replace("END", "END X"),
            PEM.replace("-----END CERTIFICATE-----", ""),
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----",
            "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----",
            PEM.replace("CERTIFICATE", "CERTIFICATE REQUEST"),
            PEM + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            b64encode(b"-----BEGIN \xff").decode(),
            b64encode(b64encode(PEM.encode())).decode(),
            PEM * (MAX_CERTIFICATES + 1),
            "-----BEGIN " * 5000,
            b64encode(b"\x30\x84\xff\xff\xff\xff").decode(),
            b64encode(b"\x30\x80" * 10000).decode(),
        ],
        ids=range(20),
    )
    def test_what_is_none(self, text):
        assert code(text) == "malformed-pem"

    def test_private_keys_are_refused(self):
        key = KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        assert code(key) == "private-key-sent"
        assert code(PEM + key) == "private-key-sent"
        assert code(b64encode(key.encode()).decode()) == "private-key-sent"

    @given(st.text(max_size=200))
    def test_any_text_is_no_certificate(self, text):
        assert code(text) == "malformed-pem"

    @given(st.data())
    def test_damaged_certificates_are_refused_or_read(self, data):
        damaged = bytearray(DER)
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        found = read_der(bytes(damaged))
        if found is None:
            assert code(b64encode(damaged).decode()) == "malformed-pem"
        else:
            assert outcome(check, (found,), KEY.public_key(), NOW)[1] != "malformed-pem"


class TestChecks:
    def test_good(self):
        check((LEAF,), KEY.public_key(), NOW)
        check((LEAF, CA), KEY.public_key(), NOW)

    def test_key(self):
        assert refused(LEAF, key=OTHER_KEY.public_key()) == "certificate-does-not-match"
        assert refused(LEAF, key=ec.generate_private_key(ec.SECP384R1()).public_key()) == "certificate-does-not-match"

    def test_validity(self):
        assert refused(certificate(days=(-3, -1))) == "certificate-expired"
        assert refused(certificate(days=(1, 3))) == "certificate-not-yet-valid"
        assert refused(LEAF, now=NOW + timedelta(days=31)) == "certificate-expired"
        soon = certificate(days=(0, 3))
        check((soon,), KEY.public_key(), NOW - timedelta(minutes=4))
        assert refused(soon, now=NOW - timedelta(minutes=6)) == "certificate-not-yet-valid"

    def test_key_usage(self):
        assert refused(certificate(usage={"key_encipherment"})) == "no-digital-signature"
        check((certificate(usage=None),), KEY.public_key(), NOW)
        check((certificate(usage={"digital_signature", "key_encipherment"}),), KEY.public_key(), NOW)

    def test_critical_extensions(self):
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\0")
        assert refused(certificate(extensions=[(unknown, True)])) == "unknown-critical-extension"
        check((certificate(extensions=[(unknown, False)]),), KEY.public_key(), NOW)

    def test_chain(self):
        middle_key = ec.generate_private_key(ec.SECP256R1())
        middle = ca("middle", "ca", middle_key, CA_KEY)
        leaf = certificate(issuer="middle", issuer_key=middle_key)
        check((leaf, middle, CA), KEY.public_key(), NOW)
        assert refused(leaf, CA, middle) == "chain-broken"
        assert refused(leaf, CA) == "chain-broken"
        assert refused(LEAF, middle) == "chain-broken"
        # The right name with another key.
        assert refused(LEAF, ca(key=OTHER_KEY, issuer_key=OTHER_KEY)) == "chain-broken"


def test_key_identifiers():
    own = x509.SubjectKeyIdentifier.from_public_key(KEY.public_key())
    assert key_identifier(LEAF) == own.digest
    chosen = x509.SubjectKeyIdentifier(b"\1\2\3")
    assert key_identifier(certificate(extensions=[(chosen, False)])) == b"\1\2\3"
