"""The OpenAPI document: valid, whole, and true of the running API."""

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.api.running import PROBLEM, SECONDS

from keyway.provision.openapi import document
from keyway.provision.problems import CODES, RV_CODES
from keyway.provision.routes import ROUTES

QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much]
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=6)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["token", "cert", "label", "slot", "pin", "so_pin", "key_pair", "id", "subject", "pem", "type"]
            ),
            inner,
        ),
    ),
    max_leaves=10,
)


class TestDocument:
    def test_is_valid(self):
        made = document("1.2.3")
        OpenAPIV31SpecValidator(made).validate()
        assert made["info"]["version"] == "1.2.3"

    def test_is_served(self, api):
        answer = api.ask("GET", "/v1/openapi.json")
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json["paths"] == document("")["paths"]
        assert api.ask("POST", "/v1/openapi.json", {}).code == "method-not-allowed"

    def test_has_every_route(self):
        paths = document("")["paths"]
        operations = {(method.upper(), path) for path, methods in paths.items() for method in methods}
        assert operations == {(route.method, route.path) for route in ROUTES} | {("GET", "/v1/openapi.json")}
        names = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
        assert len(set(names)) == len(names)

    def test_routes_name_codes_that_there_are(self):
        told = {code for route in ROUTES for code in route.problems}
        assert told <= CODES.keys()
        # Each code that a token can cause is told somewhere.
        assert set(RV_CODES.values()) <= told

    def test_pins_are_marked(self):
        schemas = document("")["components"]["schemas"]
        text = json.dumps(schemas["PinRequest"]["properties"]["new_pin"])
        assert '"password"' in text


SCHEMA = schemathesis.openapi.from_dict(document(""))
OPERATIONS = {
    f"{operation.method.upper()} {operation.path}": operation
    for operation in (result.ok() for result in SCHEMA.get_all_operations() if isinstance(result, Ok))
}
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_as_described(api, name):
    @given(case=OPERATIONS[name].as_strategy())
    @settings(max_examples=6, deadline=None, suppress_health_check=QUIET, derandomize=True)
    def check(case):
        response = case.call(base_url=api.url, timeout=SECONDS)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400:
            assert response.headers["content-type"] == [PROBLEM]

    check()


@given(body=JSON)
@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
def test_random_json_makes_nothing(api, body):
    before = api.ask("GET", "/v1/tokens").json
    for path in ("/pkcs11/csr", "/pkcs11/cert", "/v1/tokens", "/v1/tokens/none/keys", "/v1/tokens/none/certificates"):
        answer = api.ask("POST", path, body)
        assert answer.code in CODES
        assert 400 <= answer.status < 500
    assert api.ask("GET", "/v1/tokens").json == before


@given(body=st.binary(max_size=40))
@settings(max_examples=25, deadline=None, suppress_health_check=QUIET)
def test_random_bytes_make_nothing(api, body):
    for path in ("/pkcs11/csr", "/v1/tokens"):
        answer = api.ask("POST", path, body)
        assert answer.code in ("malformed-json", "duplicate-member", "bad-member")
