"""Tokens, key pairs, requests and certificates by /v1."""

from base64 import urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from tests.api.openssl import public_key, run, verified
from tests.api.running import PIN, SO_PIN

MISSING = "0" * 64


@pytest.fixture(scope="module")
def token(caller):
    return caller.token("v1")


class TestTokens:
    def test_initialise_once(self, api, caller):
        asked = {"label": "once", "so_pin": SO_PIN, "pin": PIN}
        first = api.ask("POST", "/v1/tokens", asked)
        assert first.status == 201
        assert first.json["label"] == "once"
        assert first.json["user_pin_set"]
        caller.key("/v1/tokens/once", "kept")
        again = api.ask("POST", "/v1/tokens", asked | {"pin": "another-pin-01"})
        assert again.status == 200
        assert again.json == first.json
        assert [each["label"] for each in caller.keys("/v1/tokens/once")] == ["kept"]

    def test_slots(self, api, caller, token):
        slots = {each["label"]: each["slot"] for each in api.ask("GET", "/v1/tokens").json["tokens"]}
        asked = {"label": "another", "so_pin": SO_PIN, "pin": PIN}
        assert api.ask("POST", "/v1/tokens", asked | {"slot": slots["v1"]}).code == "slot-occupied"
        made = api.ask("POST", "/v1/tokens", asked | {"slot": slots[""]})
        assert made.status == 201

    def test_what_is_needed(self, api):
        assert api.ask("POST", "/v1/tokens", {"label": "n", "pin": PIN}).code == "pin-missing"
        assert api.ask("POST", "/v1/tokens", {"label": "n", "so_pin": SO_PIN}).code == "pin-missing"
        asked = {"label": "n", "so_pin": SO_PIN, "pin": PIN, "pin_ref": "a"}
        assert api.ask("POST", "/v1/tokens", asked).code == "bad-member"
        assert api.ask("POST", "/v1/tokens", {"label": "n" * 33, "so_pin": SO_PIN, "pin": PIN}).code == "bad-label"

    def test_one_token(self, api, token):
        told = api.ask("GET", token).json
        assert told["label"] == "v1"
        uri = quote(f"pkcs11:serial={told['serial_number']}", safe="")
        assert api.ask("GET", f"/v1/tokens/{uri}").json == told
        assert api.ask("GET", "/v1/tokens/nobody").code == "token-missing"
        assert api.ask("GET", f"/v1/tokens/{'n' * 33}").code == "bad-label"
        assert api.ask("GET", "/v1/tokens/pkcs11%3Aobject=a").code == "bad-reference"
        assert api.ask("GET", "/v1/tokens/%ff").code == "bad-reference"
        assert api.ask("GET", "/v1/tokens/").code == "not-found"

    def test_two_tokens_with_one_label(self, api, caller, daemon):
        # Nobody here makes such, but others do.
        from tests.daemon.raw import RawClient

        from keyway.cryptoki import padded

        caller.token("twin")
        slots = {each["label"]: each["slot"] for each in api.ask("GET", "/v1/tokens").json["tokens"]}
        with RawClient(daemon.socket) as client:
            client.initialize()
            client.good("C_InitToken", SO_PIN.encode(), padded("twin", 32), target=slots[""])
        assert api.ask("GET", "/v1/tokens/twin").code == "token-ambiguous"
        assert api.ask("POST", "/v1/tokens", {"label": "twin", "so_pin": SO_PIN, "pin": PIN}).code == "token-ambiguous"

    def test_pins(self, api, caller):
        path = caller.token("pins")
        caller.key(path, "a")
        new = "new-user-pin-77"
        assert api.ask("PUT", f"{path}/pin", {"new_pin": new, "pin": "wrong-pin-00"}).code == "pin-wrong"
        assert api.ask("PUT", f"{path}/pin", {"new_pin": new}).code == "pin-missing"
        assert api.ask("PUT", f"{path}/pin", {"new_pin": new, "pin": PIN, "so_pin": SO_PIN}).code == "bad-member"
        assert api.ask("PUT", f"{path}/pin", {"new_pin": new, "pin": PIN}).json == {"token": "pins"}
        assert api.ask("POST", f"{path}/keys/a/csrs", {"subject": "CN=a", "pin": PIN}).code == "pin-wrong"
        assert api.ask("POST", f"{path}/keys/a/csrs", {"subject": "CN=a", "pin": new}).status == 200
        assert api.ask("PUT", f"{path}/pin", {"new_pin": PIN, "so_pin": SO_PIN}).status == 200
        assert api.ask("POST", f"{path}/keys/a/csrs", {"subject": "CN=a", "pin": PIN}).status == 200
        assert new not in api.log()

    def test_a_token_without_user_pin(self, api, daemon):
        from tests.daemon.raw import RawClient

        from keyway.cryptoki import padded

        slots = {each["label"]: each["slot"] for each in api.ask("GET", "/v1/tokens").json["tokens"]}
        with RawClient(daemon.socket) as client:
            client.initialize()
            client.good("C_InitToken", SO_PIN.encode(), padded("half", 32), target=slots[""])
        assert api.ask("GET", "/v1/tokens/half/keys", Keyway_Pin=PIN).code == "pin-not-set"
        # A crash after C_InitToken leaves this; a retry goes on.
        made = api.ask("POST", "/v1/tokens", {"label": "half", "so_pin": SO_PIN, "pin": PIN})
        assert made.status == 200
        assert made.json["user_pin_set"]
        assert api.ask("GET", "/v1/tokens/half/keys", Keyway_Pin=PIN).json == {"keys": []}


class TestKeys:
    def test_make_once(self, api, token):
        asked = {"label": "once", "type": "EC:prime256v1", "pin": PIN}
        first = api.ask("POST", f"{token}/keys", asked)
        again = api.ask("POST", f"{token}/keys", asked)
        assert (first.status, again.status) == (201, 200)
        assert first.json == again.json
        assert api.ask("POST", f"{token}/keys", asked | {"type": "rsa:2048"}).code == "key-exists-with-other-type"
        assert api.ask("POST", f"{token}/keys", asked | {"id": "0f"}).code == "key-exists-with-other-id"
        used = api.ask("POST", f"{token}/keys", asked | {"label": "other", "id": first.json["id"]})
        assert used.code == "key-id-in-use"

    def test_race(self, api, token):
        asked = {"label": "race", "type": "EC:prime256v1", "pin": PIN}
        with ThreadPoolExecutor(6) as pool:
            made = list(pool.map(lambda _: api.ask("POST", f"{token}/keys", asked), range(6)))
        assert sorted(each.status for each in made) == [200] * 5 + [201]
        assert len({each.json["public_key_pem"] for each in made}) == 1

    def test_public_key(self, api, caller, token):
        made = caller.key(token, "public", "EC:secp384r1", id="ABCD")
        shown = api.ask("GET", f"{token}/keys/public", Keyway_Pin=PIN).json
        assert shown == made
        assert made["id"] == "abcd"
        point = b"".join(urlsafe_b64decode(made["public_key_jwk"][each] + "==") for each in "xy")
        der = run("pkey", "-pubin", "-text", "-noout", text=made["public_key_pem"])
        assert point.hex() in "".join(der.split()).replace(":", "")
        by_id = quote("pkcs11:id=%AB%CD", safe="")
        assert api.ask("GET", f"{token}/keys/{by_id}", Keyway_Pin=PIN).json == made

    def test_list_with_and_without_pin(self, api, caller, token):
        caller.key(token, "listed")
        with_pin = {each["label"]: each for each in caller.keys(token)}
        without = {each["label"]: each for each in api.ask("GET", f"{token}/keys").json["keys"]}
        assert with_pin["listed"]["has_private_key"]
        assert not without["listed"]["has_private_key"]
        assert without["listed"]["public_key_pem"] == with_pin["listed"]["public_key_pem"]
        assert api.ask("GET", f"{token}/keys", Keyway_Pin="wrong-pin-00").code == "pin-wrong"
        assert api.ask("GET", f"{token}/keys", Keyway_Pin="%ff").code == "pin-invalid"

    def test_delete(self, api, caller, token):
        caller.key(token, "gone")
        caller.csr(token, "gone")
        assert api.ask("DELETE", f"{token}/keys/gone", Keyway_Pin=PIN).status == 204
        assert api.ask("DELETE", f"{token}/keys/gone", Keyway_Pin=PIN).code == "key-missing"
        asked = {"subject": "CN=a", "pin": PIN}
        assert api.ask("POST", f"{token}/keys/gone/csrs", asked).code == "key-missing"
        assert "gone" not in [each["label"] for each in caller.keys(token)]

    def test_a_key_that_others_have_deleted(self, api, caller, token, daemon):
        """What is remembered of a key is not believed."""
        from tests.daemon.raw import RawClient
        from tests.daemon.tokens import open_session, slot_of

        from keyway.cryptoki import Attribute, ObjectsRoom
        from keyway.cryptoki.constants import CKA_LABEL, CKU_USER

        before = public_key(caller.csr(token, caller.key(token, "changing")["label"]))
        with RawClient(daemon.socket) as client:
            client.initialize()
            open_session(client, slot_of(client, "v1"))
            client.good("C_Login", CKU_USER, PIN.encode(), target=1)
            client.good("C_FindObjectsInit", (Attribute(CKA_LABEL, b"changing"),), target=1)
            (found,) = client.good("C_FindObjects", ObjectsRoom(9, True, True), target=1)
            client.good("C_FindObjectsFinal", target=1)
            assert len(found.data) == 2
            for handle in found.data:
                client.good("C_DestroyObject", handle, target=1)
        assert api.ask("POST", f"{token}/keys/changing/csrs", {"subject": "CN=a", "pin": PIN}).code == "key-missing"
        caller.key(token, "changing")
        assert public_key(caller.csr(token, "changing")) != before

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"type": "dsa:1024"}, "bad-key-type"),
            ({"usage": ["derive"], "type": "rsa:2048"}, "bad-usage"),
            ({"usage": []}, "bad-usage"),
            ({"usage": ["sign"] * 65}, "bad-member"),
            ({"id": "0"}, "bad-id"),
            ({"id": "0g"}, "bad-id"),
            ({"label": ""}, "bad-label"),
            ({"label": "a\0b"}, "bad-label"),
            ({"label": "x" * 256}, "bad-label"),
            ({"unknown": 1}, "bad-member"),
            ({"extractable": "no"}, "bad-member"),
            ({"pin": 1}, "bad-member"),
            ({"pin_ref": "x"}, "bad-member"),
        ],
    )
    def test_what_makes_no_sense(self, api, caller, token, changes, code):
        before = caller.keys(token)
        answer = api.ask("POST", f"{token}/keys", {"label": "bad", "type": "EC:prime256v1", "pin": PIN} | changes)
        assert answer.code == code
        assert caller.keys(token) == before

    def test_labels_of_full_length_and_odd_characters(self, api, caller, token):
        for label in ("x" * 255, "ä" * 127, "a/b?c#d%e", "pk: ' \" \\ <>", "日本"):
            made = caller.key(token, label)
            assert made["label"] == label
            shown = api.ask("GET", f"{token}/keys/{quote(label, safe='')}", Keyway_Pin=PIN)
            assert shown.json == made


class TestCsrs:
    def test_extensions(self, caller, token):
        caller.key(token, "extended")
        words = verified(
            caller.csr(
                token,
                "extended",
                subject="CN=moon,O=Example\\, Inc",
                names=["dns:moon.example", "ip:192.0.2.1", "email:a@b.example", "uri:urn:x"],
                key_usage=["digitalSignature"],
                extended_key_usage=["ipsecIKE", "1.2.3.4"],
            )
        )
        assert 'O = "Example, Inc", CN = moon' in words
        assert "DNS:moon.example, IP Address:192.0.2.1, email:a@b.example, URI:urn:x" in words
        assert "Digital Signature" in words
        assert "ipsec Internet Key Exchange, 1.2.3.4" in words

    def test_signatures(self, api, caller, token):
        caller.key(token, "signs", "rsa:2048")
        for asked, name in (
            ({}, "sha256WithRSAEncryption"),
            ({"hash": "sha512"}, "sha512WithRSAEncryption"),
            ({"padding": "pss"}, "rsassaPss"),
            ({"padding": "pss", "hash": "sha384"}, "rsassaPss"),
        ):
            assert name in verified(caller.csr(token, "signs", **asked))
        caller.key(token, "signs-ec")
        assert "ecdsa-with-SHA384" in verified(caller.csr(token, "signs-ec", hash="sha384"))
        asked = {"subject": "CN=a", "pin": PIN, "padding": "pss"}
        assert api.ask("POST", f"{token}/keys/signs-ec/csrs", asked).code == "bad-member"

    def test_names_without_subject(self, caller, token):
        caller.key(token, "unnamed")
        assert "Subject Alternative Name: critical" in verified(
            caller.csr(token, "unnamed", subject="", names=["dns:a.example"])
        )

    def test_a_key_that_may_not_sign(self, api, caller, token):
        caller.key(token, "decrypts", "rsa:2048", usage=["decrypt"])
        asked = {"subject": "CN=a", "pin": PIN}
        refused = api.ask("POST", f"{token}/keys/decrypts/csrs", asked)
        assert refused.code == "key-use-forbidden"
        assert refused.json["rv"] == "CKR_KEY_FUNCTION_NOT_PERMITTED"

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"subject": ""}, "bad-subject"),
            ({"subject": "CN"}, "bad-subject"),
            ({"names": ["x"]}, "bad-extension"),
            ({"key_usage": ["x"]}, "bad-extension"),
            ({"extended_key_usage": ["x"]}, "bad-extension"),
            ({"hash": "md5"}, "bad-member"),
            ({"pin": None}, "key-missing"),
        ],
    )
    def test_what_makes_no_sense(self, api, caller, token, changes, code):
        caller.key(token, "csr-bad")
        asked = {"subject": "CN=a", "pin": PIN} | changes
        assert api.ask("POST", f"{token}/keys/csr-bad/csrs", asked).code == code


class TestCertificates:
    def test_import_replace_and_delete(self, api, caller, ca, token):
        key = caller.key(token, "certified")
        request = caller.csr(token, "certified")
        first, second = ca.sign(request), ca.sign(request)
        asked = {"key": "certified", "pem": first + ca.pem, "pin": PIN}

        made = api.ask("POST", f"{token}/certificates", asked)
        assert made.status == 201
        assert made.json["id"] == key["id"]
        assert made.json["pem"] == first
        assert api.ask("POST", f"{token}/certificates", asked).status == 200
        assert api.ask("POST", f"{token}/certificates", asked | {"pem": second}).code == "certificate-exists"
        assert sorted(each["label"] for each in caller.certificates(token)) == ["Test CA", "certified"]

        for status in (201, 200):
            replaced = api.ask("PUT", f"{token}/keys/certified/certificate", {"pem": second, "pin": PIN})
            assert replaced.status == status
            assert replaced.json["pem"] == second
        assert [each["pem"] for each in caller.certificates(token) if each["label"] == "certified"] == [second]

        path = f"{token}/certificates/{replaced.json['sha256']}"
        fingerprint = run("x509", "-noout", "-fingerprint", "-sha256", text=second)
        assert replaced.json["sha256"] == fingerprint.partition("=")[2].strip().replace(":", "").lower()
        assert api.ask("GET", path).json == replaced.json
        assert api.ask("DELETE", path, Keyway_Pin=PIN).status == 204
        assert api.ask("DELETE", path, Keyway_Pin=PIN).code == "certificate-missing"
        assert api.ask("GET", path.upper().replace("/V1/TOKENS/V1/CERTIFICATES/", f"{token}/certificates/")).code == (
            "certificate-missing"
        )

    def test_chain_is_stored_once(self, api, caller, ca, token):
        for label in ("chained-1", "chained-2"):
            caller.key(token, label)
            pem = ca.sign(caller.csr(token, label)) + ca.pem
            assert api.ask("POST", f"{token}/certificates", {"key": label, "pem": pem, "pin": PIN}).status == 201
        assert [each["label"] for each in caller.certificates(token)].count("Test CA") == 1

    @pytest.mark.parametrize("name", ["x", MISSING[:-1], "g" * 64])
    def test_what_is_no_fingerprint(self, api, token, name):
        assert api.ask("GET", f"{token}/certificates/{name}").code == "bad-reference"

    def test_what_is_not_there(self, api, ca, token):
        assert api.ask("GET", f"{token}/certificates/{MISSING}").code == "certificate-missing"
        asked = {"pem": ca.pem, "pin": PIN}
        assert api.ask("PUT", f"{token}/keys/nobody/certificate", asked).code == "key-missing"
        assert api.ask("PUT", f"{token}/keys/nobody/certificate", {"pem": "x", "pin": PIN}).code == "malformed-pem"


class TestIdempotencyKeys:
    def test_the_same_answer(self, api, caller, token):
        asked = {"label": "idem", "type": "EC:prime256v1", "pin": PIN}
        first = api.ask("POST", f"{token}/keys", asked, Idempotency_Key="a-1")
        assert first.status == 201
        again = api.ask("POST", f"{token}/keys", asked, Idempotency_Key="a-1")
        assert (again.status, again.text) == (201, first.text)
        assert api.ask("POST", f"{token}/keys", asked, Idempotency_Key="a-2").status == 200

    def test_deletes(self, api, caller, token):
        caller.key(token, "idem-gone")
        for _ in range(2):
            gone = api.ask("DELETE", f"{token}/keys/idem-gone", Keyway_Pin=PIN, Idempotency_Key="a-3")
            assert gone.status == 204

    def test_another_request(self, api, token):
        asked = {"label": "idem-x", "type": "EC:prime256v1", "pin": PIN}
        assert api.ask("POST", f"{token}/keys", asked, Idempotency_Key="a-4").status == 201
        other = asked | {"label": "idem-y"}
        assert api.ask("POST", f"{token}/keys", other, Idempotency_Key="a-4").code == "idempotency-key-reused"

    def test_failures_are_not_remembered(self, api, token):
        asked = {"label": "idem-f", "type": "EC:prime256v1"}
        assert (
            api.ask("POST", f"{token}/keys", asked | {"pin": "wrong-pin-00"}, Idempotency_Key="a-5").code == "pin-wrong"
        )
        assert api.ask("POST", f"{token}/keys", asked | {"pin": PIN}, Idempotency_Key="a-5").status == 201

    def test_at_the_same_time(self, api, token):
        asked = {"label": "idem-t", "type": "EC:prime256v1", "pin": PIN}
        with ThreadPoolExecutor(5) as pool:
            made = list(pool.map(lambda _: api.ask("POST", f"{token}/keys", asked, Idempotency_Key="a-6"), range(5)))
        assert {each.status for each in made} == {201}

    @pytest.mark.parametrize("key", ["", "x" * 256])
    def test_what_is_none(self, api, token, key):
        asked = {"label": "idem-n", "type": "EC:prime256v1", "pin": PIN}
        assert api.ask("POST", f"{token}/keys", asked, Idempotency_Key=key).code == "bad-idempotency-key"


class TestBodies:
    def test_content_type(self, api, token):
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx"):
            assert api.ask("POST", f"{token}/keys", b"{}", Content_Type=kind).code == "not-json"
        assert (
            api.ask("POST", f"{token}/keys", b"{}", Content_Type="Application/JSON; charset=utf-8").code == "bad-member"
        )

    def test_where_none_belongs(self, api, token):
        assert api.ask("GET", f"{token}/keys", b"{}").code == "malformed-request"

    def test_a_pin_in_both_places(self, api, token):
        asked = {"label": "a", "type": "EC:prime256v1", "pin": PIN}
        assert api.ask("POST", f"{token}/keys", asked, Keyway_Pin=PIN).code == "bad-member"
