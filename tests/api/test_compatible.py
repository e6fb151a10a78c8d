"""What existing callers do, on port 8081 of old."""

import json
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.api.openssl import public_key, run, verified
from tests.api.running import PIN, SO_PIN, compatible

from keyway.provision.keytypes import KEY_TYPES

TOKEN = "compat"
PATH = f"/v1/tokens/{TOKEN}"


def csr(api, label, **more):
    answer = api.ask("POST", "/pkcs11/csr", compatible(label, token=more.pop("token", TOKEN), **more))
    assert answer.status == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.text.startswith("-----BEGIN CERTIFICATE REQUEST-----\n")
    return answer.text


def store(api, label, pem, **more):
    return api.ask("POST", "/pkcs11/cert", compatible(label, token=TOKEN, pem=pem, **more))


def of_key(caller, label):
    """The certificates beside a key, and its CKA_ID."""
    (key,) = [each for each in caller.keys(PATH) if each["label"] == label]
    return [each for each in caller.certificates(PATH) if each["label"] == label], key["id"]


class TestFlow:
    def test_from_an_empty_hsm_to_a_renewed_certificate(self, api, caller, ca):
        request = csr(api, "node-1", pair={"id": "0001"})
        words = verified(request)
        assert "CN = node-1" in words
        assert "X509v3" not in words

        first = ca.sign(request)
        # As test.sh does it: another id, and base64 of the file.
        answer = store(api, "node-1", b64encode(first.encode()).decode(), pair={"id": "12345678"})
        assert (answer.status, answer.text) == (200, "success")
        stored, id_ = of_key(caller, "node-1")
        assert [each["id"] for each in stored] == [id_] == ["0001"]
        assert stored[0]["pem"] == first

        second = ca.sign(request)
        body = "".join(second.splitlines()[1:-1])
        flat = f"-----BEGIN CERTIFICATE-----\\n{body}\\n-----END CERTIFICATE-----"
        for _ in range(2):
            assert store(api, "node-1", flat).text == "success"
            stored, _ = of_key(caller, "node-1")
            assert [each["pem"] for each in stored] == [second]

        der = b64encode(run("x509", "-outform", "pem", text=first).encode()).decode()
        assert store(api, "node-1", der).text == "success"
        assert [each["pem"] for each in of_key(caller, "node-1")[0]] == [first]

    def test_defaults(self, api, caller):
        answer = api.ask("POST", "/pkcs11/csr", {"cert": {"key_pair": {"label": "d"}, "subject": "/CN=d"}})
        assert answer.status == 200, answer.text
        assert "(2048 bit)" in verified(answer.text)
        labels = [each["label"] for each in api.ask("GET", "/v1/tokens").json["tokens"]]
        assert labels.count("sdewan-sgx") == 1
        # Empty members are as good as none, and so is a null.
        for token in ({"label": "", "pin": "", "so_pin": ""}, None, {}):
            again = api.ask(
                "POST", "/pkcs11/csr", {"token": token, "cert": {"key_pair": {"label": "d"}, "subject": "/CN=d"}}
            )
            assert public_key(again.text) == public_key(answer.text)

    @pytest.mark.parametrize("kind", [each.name for each in KEY_TYPES.values()])
    def test_key_types(self, api, caller, kind):
        request = csr(api, f"k-{kind}", pair={"key_type": kind})
        verified(request)
        assert public_key(csr(api, f"k-{kind}", pair={"key_type": kind})) == public_key(request)
        assert [each["type"] for each in caller.keys(PATH) if each["label"] == f"k-{kind}"] == [kind]

    def test_the_same_request_again_and_again(self, api):
        # PKCS #1 signatures are the same each time.
        assert len({csr(api, "same", pair={"key_type": "rsa:2048"}) for _ in range(3)}) == 1

    def test_no_content_type_is_asked_for(self, api):
        body = json.dumps(compatible("plain", token=TOKEN)).encode()
        for kind in ("application/x-www-form-urlencoded", "text/plain"):
            assert api.ask("POST", "/pkcs11/csr", body, Content_Type=kind).status == 200

    def test_pairs_with_one_cka_id(self, api, caller, ca):
        requests = {label: csr(api, label, pair={"id": "aa"}) for label in ("one", "two")}
        assert public_key(requests["one"]) != public_key(requests["two"])
        for label, request in requests.items():
            assert store(api, label, ca.sign(request)).text == "success"
        for label in requests:
            stored, _ = of_key(caller, label)
            assert len(stored) == 1
        assert store(api, "one", ca.sign(requests["two"])).code == "certificate-does-not-match"


class TestRaces:
    def test_many_callers_at_once(self, api, caller):
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda _: csr(api, "race", token="race", pair={"id": "77"}), range(8)))
        assert len({public_key(each) for each in made}) == 1
        keys = caller.keys("/v1/tokens/race")
        assert [(each["label"], each["id"]) for each in keys] == [("race", "77")]
        tokens = [each["label"] for each in api.ask("GET", "/v1/tokens").json["tokens"]]
        assert tokens.count("race") == 1

    def test_different_keys_at_once(self, api, caller):
        labels = [f"par-{number}" for number in range(6)]
        with ThreadPoolExecutor(6) as pool:
            made = list(pool.map(lambda label: csr(api, label, token="parallel"), labels))
        assert len({public_key(each) for each in made}) == 6
        assert [each["label"] for each in caller.keys("/v1/tokens/parallel")] == labels


class TestProblems:
    def test_pins(self, api):
        csr(api, "p")
        for pin, code, status in (("wrong-pin-0815", "pin-wrong", 403), ("x" * 256, "pin-invalid", 400)):
            asked = compatible("p", token=TOKEN)
            asked["token"]["pin"] = pin
            for path in ("/pkcs11/csr", "/pkcs11/cert"):
                answer = api.ask("POST", path, asked | {"cert": asked["cert"] | {"pem": ""}})
                if path == "/pkcs11/csr":
                    assert (answer.code, answer.status) == (code, status)
                    assert answer.json.get("rv") == ("CKR_PIN_INCORRECT" if code == "pin-wrong" else None)
                assert pin not in answer.text
        assert "wrong-pin-0815" not in api.log()
        csr(api, "p")

    def test_another_type(self, api, caller):
        csr(api, "typed")
        asked = compatible("typed", token=TOKEN, pair={"key_type": "rsa:2048"})
        assert api.ask("POST", "/pkcs11/csr", asked).code == "key-exists-with-other-type"
        assert [each["type"] for each in caller.keys(PATH) if each["label"] == "typed"] == ["EC:prime256v1"]

    def test_certificates(self, api, caller, ca):
        request = csr(api, "c")
        other = ca.sign(csr(api, "c-other"))
        good = ca.sign(request)
        for pem, code in (
            (other, "certificate-does-not-match"),
            (ca.sign(request, usage="critical,keyEncipherment"), "no-digital-signature"),
            (good + other, "chain-broken"),
            ("", "malformed-pem"),
            ("no certificate", "malformed-pem"),
            (good.replace("\n", "")[:200], "malformed-pem"),
            (request, "malformed-pem"),
        ):
            assert store(api, "c", pem).code == code
        assert of_key(caller, "c")[0] == []
        assert store(api, "nobody", good).code == "key-missing"
        assert store(api, "c", good + ca.pem).text == "success"

    def test_a_token_that_is_not_there(self, api, ca):
        assert api.ask("POST", "/pkcs11/cert", compatible("a", token="absent", pem=ca.pem)).code == "token-missing"
        assert "absent" not in [each["label"] for each in api.ask("GET", "/v1/tokens").json["tokens"]]

    @pytest.mark.parametrize(
        ("changes", "code"),
        [
            ({"cert": None}, "bad-member"),
            ({"cert": []}, "bad-member"),
            ({"cert": {"key_pair": {"label": "bad"}, "subject": 1}}, "bad-member"),
            ({"cert": {"key_pair": {"label": 1}, "subject": "/CN=a"}}, "bad-member"),
            ({"cert": {"key_pair": {"label": "", "key_type": "rsa:2048"}, "subject": "/CN=a"}}, "bad-label"),
            ({"cert": {"key_pair": {"label": "x" * 256}, "subject": "/CN=a"}}, "bad-label"),
            ({"cert": {"key_pair": {"label": "bad", "id": "xyz"}, "subject": "/CN=a"}}, "bad-id"),
            ({"cert": {"key_pair": {"label": "bad", "id": "1"}, "subject": "/CN=a"}}, "bad-id"),
            ({"cert": {"key_pair": {"label": "bad", "key_type": "rsa:512"}, "subject": "/CN=a"}}, "bad-key-type"),
            ({"cert": {"key_pair": {"label": "bad"}, "subject": ""}}, "bad-subject"),
            ({"cert": {"key_pair": {"label": "bad"}, "subject": "/CN=a\nb"}}, "bad-subject"),
            ({"cert": {"key_pair": {"label": "bad"}, "subject": "bad"}}, "bad-subject"),
            ({"token": {"label": "y" * 33}}, "bad-label"),
            ({"token": {"label": "ä" * 17}}, "bad-label"),
            ({"token": {"label": "bad token", "slot": "0"}}, "bad-member"),
            ({"token": {"label": "bad token", "pin": 12345678}}, "bad-member"),
            ({"token": {"label": "bad token", "pin": "\0"}}, "pin-invalid"),
        ],
    )
    def test_what_makes_no_sense_makes_nothing(self, api, changes, code):
        tokens = api.ask("GET", "/v1/tokens").json
        asked = {"token": {"label": "bad token", "so_pin": SO_PIN, "pin": PIN}} | compatible("bad") | changes
        answer = api.ask("POST", "/pkcs11/csr", asked)
        assert answer.code == code
        assert 400 <= answer.status < 500
        assert api.ask("GET", "/v1/tokens").json == tokens

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (b"", "malformed-json"),
            (b"{", "malformed-json"),
            (b"\xff\xfe", "malformed-json"),
            (b"null", "bad-member"),
            (b"[" * 60_000, "malformed-json"),
            (b'{"cert": {}, "cert": {}}', "duplicate-member"),
            (b'{"token": {"pin": "a", "pin": "b"}, "cert": {}}', "duplicate-member"),
            (b'{"cert": {"key_pair": {"label": "\\ud800"}, "subject": "/CN=a"}}', "malformed-json"),
            (b" " * 65_537, "body-too-large"),
            (b'"' + b"x" * 3_000_000 + b'"', "body-too-large"),
        ],
        ids=range(10),
    )
    def test_bodies(self, api, body, code):
        assert api.ask("POST", "/pkcs11/csr", body).code == code

    def test_methods_and_paths(self, api):
        refused = api.ask("GET", "/pkcs11/csr")
        assert (refused.code, refused.headers["allow"]) == ("method-not-allowed", "POST")
        assert api.ask("POST", "/pkcs11/other", {}).code == "not-found"
        assert api.ask("POST", f"/pkcs11/csr?pin={PIN}", {}).code == "malformed-request"
