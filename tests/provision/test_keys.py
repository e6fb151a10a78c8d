"""Key types, public keys as text, and requests that something else signs."""

from base64 import urlsafe_b64decode
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from hypothesis import given
from hypothesis import strategies as st
from tests.provision.outcome import outcome

from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_DECRYPT,
    CKA_EC_PARAMS,
    CKA_EC_POINT,
    CKA_EXTRACTABLE,
    CKA_ID,
    CKA_KEY_TYPE,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_PRIVATE,
    CKA_PUBLIC_EXPONENT,
    CKA_SENSITIVE,
    CKA_SIGN,
    CKA_TOKEN,
    CKA_VERIFY,
    CKM_ECDSA,
    CKM_EDDSA,
    CKM_RSA_PKCS,
    CKM_RSA_PKCS_PSS,
    CKM_SHA256_RSA_PKCS,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
)
from keyway.provision.keytypes import KEY_TYPES, parse_key_type, parse_usages, public_key_of, templates, type_of
from keyway.provision.problems import Problem
from keyway.provision.publickey import der_of, jwk_of, pem_of, thumbprint_of
from keyway.provision.requests import HASHES, Extensions, draft, scheme_of
from keyway.provision.signing import signature_of, ways
from keyway.provision.subjects import parse_subject

RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    "rsa:2048": RSA,
    "EC:prime256v1": ec.generate_private_key(ec.SECP256R1()),
    "EC:secp384r1": ec.generate_private_key(ec.SECP384R1()),
    "EC:secp521r1": ec.generate_private_key(ec.SECP521R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
}


def attributes(name: str, *, raw_point=False, form=-1):
    """What a token tells of a public key."""
    key, kind = KEYS[name].public_key(), parse_key_type(name)
    told = {CKA_KEY_TYPE: kind.key_type}
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return told | {CKA_MODULUS: numbers.n.to_bytes(256, "big"), CKA_PUBLIC_EXPONENT: b"\1\0\1"}
    if isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    else:
        point = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    length = bytes([len(point)]) if len(point) < 128 else bytes([0x81, len(point)])
    return told | {
        CKA_EC_PARAMS: kind.parameters[form],
        CKA_EC_POINT: point if raw_point else b"\x04" + length + point,
    }


class TestTypes:
    @pytest.mark.parametrize("name", KEY_TYPES)
    def test_names(self, name):
        kind = parse_key_type(name)
        assert parse_key_type(kind.name) is kind
        assert parse_key_type(name.upper()) is kind

    @pytest.mark.parametrize(
        "name", ["", "rsa", "rsa:1024", "rsa:2048 ", "EC:", "EC:secp256k1", "Ed448", "rsa:\u0968048"]
    )
    def test_others(self, name):
        with pytest.raises(Problem, match="there are rsa:2048") as caught:
            parse_key_type(name)
        assert caught.value.code == "bad-key-type"

    @pytest.mark.parametrize("name", KEYS)
    @pytest.mark.parametrize("raw_point", [False, True])
    @pytest.mark.parametrize("form", [0, -1])
    def test_what_a_token_tells(self, name, raw_point, form):
        key = public_key_of(attributes(name, raw_point=raw_point, form=form))
        assert key is not None
        assert der_of(key) == der_of(KEYS[name].public_key())
        assert type_of(key) == name

    @given(
        st.dictionaries(
            st.sampled_from([CKA_KEY_TYPE, CKA_MODULUS, CKA_PUBLIC_EXPONENT, CKA_EC_PARAMS, CKA_EC_POINT]),
            st.one_of(
                st.sampled_from([0, 3, 0x40]), st.binary(max_size=80), st.sampled_from([b"\x06\x03\x2b\x65\x70"])
            ),
        )
    )
    def test_nonsense_of_a_token_is_no_key(self, told):
        told = {
            type_: value if isinstance(value, int) is (type_ == CKA_KEY_TYPE) else (0 if type_ == CKA_KEY_TYPE else b"")
            for type_, value in told.items()
        }
        key = public_key_of(told)
        assert key is None or der_of(key)

    def test_templates(self):
        kind = parse_key_type("rsa:2048")
        made: Any = templates(kind, b"", "label", b"\1", frozenset({"sign"}), extractable=False)
        public, private = ({each.type: each.value for each in template} for template in made)
        for template in (public, private):
            assert template[CKA_TOKEN] == b"\1"
            assert template[CKA_LABEL] == b"label"
            assert template[CKA_ID] == b"\1"
        assert public[CKA_CLASS], private[CKA_CLASS] == (CKO_PUBLIC_KEY, CKO_PRIVATE_KEY)
        assert (public[CKA_PRIVATE], private[CKA_PRIVATE]) == (b"\0", b"\1")
        assert (public[CKA_VERIFY], private[CKA_SIGN]) == (b"\1", b"\1")
        assert private[CKA_DECRYPT] == b"\0"
        assert (private[CKA_SENSITIVE], private[CKA_EXTRACTABLE]) == (b"\1", b"\0")

    def test_usages(self):
        assert parse_usages(parse_key_type("rsa:2048"), ["sign", "decrypt"]) == {"sign", "decrypt"}
        for name, usages in (("rsa:2048", []), ("rsa:2048", ["derive"]), ("Ed25519", ["derive"]), ("Ed25519", ["x"])):
            with pytest.raises(Problem) as caught:
                parse_usages(parse_key_type(name), usages)
            assert caught.value.code == "bad-usage"


class TestTexts:
    @pytest.mark.parametrize("name", KEYS)
    def test_pem(self, name):
        key = KEYS[name].public_key()
        again: Any = serialization.load_pem_public_key(pem_of(key).encode())
        assert der_of(again) == der_of(key)

    @pytest.mark.parametrize("name", KEYS)
    def test_jwk(self, name):
        key = KEYS[name].public_key()
        again: Any
        made = {
            member: urlsafe_b64decode(text + "==")
            for member, text in jwk_of(key).items()
            if member not in ("kty", "crv")
        }
        numbers = {member: int.from_bytes(data, "big") for member, data in made.items()}
        if name.startswith("rsa"):
            again = rsa.RSAPublicNumbers(numbers["e"], numbers["n"]).public_key()
        elif name.startswith("EC"):
            again = ec.EllipticCurvePublicNumbers(numbers["x"], numbers["y"], key.curve).public_key()
            assert len(made["x"]) == len(made["y"]) == (key.key_size + 7) // 8
        else:
            again = ed25519.Ed25519PublicKey.from_public_bytes(made["x"])
        assert der_of(again) == der_of(key)

    def test_thumbprint(self):
        # RFC 8037, appendix A.3.
        key = ed25519.Ed25519PublicKey.from_public_bytes(
            urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
        )
        assert thumbprint_of(key) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def by_token(name, way):
    """What a token answers to a way of signing."""
    key = KEYS[name]
    match way.mechanism.type:
        case n if n == CKM_SHA256_RSA_PKCS:
            return key.sign(way.data, padding.PKCS1v15(), hashes.SHA256())
        case n if n == CKM_RSA_PKCS:
            # What comes in is a DigestInfo already: the plain operation of RFC 8017, section 9.2.
            numbers = key.private_numbers()
            block = b"\0\1" + b"\xff" * (253 - len(way.data)) + b"\0" + way.data
            signature = pow(int.from_bytes(block, "big"), numbers.d, numbers.public_numbers.n)
            return signature.to_bytes(256, "big")
        case n if n == CKM_RSA_PKCS_PSS:
            digest = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}[way.mechanism.parameter.members[2]]
            pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
            return key.sign(way.data, pss, Prehashed(digest))
        case n if n == CKM_ECDSA:
            digest = {32: hashes.SHA256(), 48: hashes.SHA384(), 64: hashes.SHA512()}[len(way.data)]
            r, s = decode_dss_signature(key.sign(way.data, ec.ECDSA(Prehashed(digest))))
            size = (key.key_size + 7) // 8
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        case n if n == CKM_EDDSA:
            return key.sign(way.data)
    raise AssertionError


SCHEMES = [
    ("rsa:2048", "", ""),
    ("rsa:2048", "pkcs1", "sha256"),
    ("rsa:2048", "pss", ""),
    ("rsa:2048", "pss", "sha512"),
    ("EC:prime256v1", "", ""),
    ("EC:prime256v1", "", "sha512"),
    ("EC:secp384r1", "", ""),
    ("EC:secp521r1", "", ""),
    ("Ed25519", "", ""),
]


class TestRequests:
    @pytest.mark.parametrize(("name", "padding_name", "hash_name"), SCHEMES)
    @pytest.mark.parametrize("last", [0, -1])
    def test_signed_by_a_token(self, name, padding_name, hash_name, last):
        key = KEYS[name].public_key()
        scheme = scheme_of(name, padding_name, hash_name)
        unsigned = draft(parse_subject("/CN=node-1"), Extensions(), key, scheme)
        made = by_token(name, ways(scheme, unsigned.to_sign)[last])
        request: Any = x509.load_pem_x509_csr(unsigned.signed(signature_of(scheme, made)).encode())
        assert request.is_signature_valid
        assert request.subject.rfc4514_string() == "CN=node-1"
        assert der_of(request.public_key()) == der_of(key)
        assert list(request.attributes) == []
        if hash_name:
            assert request.signature_hash_algorithm.name == hash_name

    def test_a_signature_of_another_key(self):
        key = KEYS["EC:prime256v1"].public_key()
        unsigned = draft(parse_subject("/CN=a"), Extensions(), key, scheme_of("EC:prime256v1"))
        other = ec.generate_private_key(ec.SECP256R1()).sign(unsigned.to_sign, ec.ECDSA(hashes.SHA256()))
        with pytest.raises(Problem) as caught:
            unsigned.signed(other)
        assert caught.value.code == "key-pair-mismatch"

    @given(st.binary(max_size=80))
    def test_nonsense_for_a_signature(self, made):
        key = KEYS["EC:prime256v1"].public_key()
        scheme = scheme_of("EC:prime256v1")
        unsigned = draft(parse_subject("/CN=a"), Extensions(), key, scheme)
        with pytest.raises(Problem):
            unsigned.signed(signature_of(scheme, made))

    def test_extensions(self):
        key = KEYS["Ed25519"].public_key()
        asked = Extensions.parse(
            ["dns:moon.example", "ip:192.0.2.1", "ip:2001:db8::1", "email:a@b.example", "uri:urn:x"],
            ["digitalSignature", "nonRepudiation"],
            ["ipsecIKE", "serverAuth", "1.2.3.4"],
        )
        unsigned = draft(parse_subject("/CN=a"), asked, key, scheme_of("Ed25519"))
        request = x509.load_pem_x509_csr(unsigned.signed(KEYS["Ed25519"].sign(unsigned.to_sign)).encode())
        names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert len(list(names.value)) == 5
        assert not names.critical
        usage = request.extensions.get_extension_for_class(x509.KeyUsage).value
        assert usage.digital_signature
        assert usage.content_commitment
        assert not usage.key_encipherment
        purposes = request.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        assert [each.dotted_string for each in purposes] == ["1.3.6.1.5.5.7.3.17", "1.3.6.1.5.5.7.3.1", "1.2.3.4"]

    @pytest.mark.parametrize(
        ("names", "usage", "purposes"),
        [
            (["moon.example"], [], []),
            (["dns:"], [], []),
            (["dns:a b"], [], []),
            (["dns:ä.example"], [], []),
            (["ip:300.1.1.1"], [], []),
            (["dirname:CN=x"], [], []),
            (["dns:a\0b"], [], []),
            (["dns:a"] * 65, [], []),
            ([], ["sign"], []),
            ([], ["encipherOnly"], []),
            ([], [], ["everything"]),
            ([], [], ["1.2.x"]),
            ([], [], ["9.9.9"]),
        ],
    )
    def test_extensions_that_there_are_not(self, names, usage, purposes):
        with pytest.raises(Problem) as caught:
            Extensions.parse(names, usage, purposes)
        assert caught.value.code == "bad-extension"

    @given(st.text(max_size=30), st.text(max_size=30))
    def test_any_text_is_an_extension_or_a_problem(self, name, purpose):
        key = KEYS["Ed25519"].public_key()
        for kind in ("dns", "ip", "email", "uri"):
            asked, code = outcome(Extensions.parse, [f"{kind}:{name}"], [], [purpose] if purpose else [])
            if not code:
                _, code = outcome(draft, parse_subject("/CN=a"), asked, key, scheme_of("Ed25519"))
            assert code in ("", "bad-extension")

    def test_padding_and_hash_fit_the_key(self):
        for name, padding_name, hash_name in (
            ("EC:prime256v1", "pss", ""),
            ("Ed25519", "pkcs1", ""),
            ("Ed25519", "", "sha256"),
        ):
            with pytest.raises(Problem) as caught:
                scheme_of(name, padding_name, hash_name)
            assert caught.value.code == "bad-member"
        assert set(HASHES) == {"sha256", "sha384", "sha512"}
