"""The OpenAPI 3.1 document, from the table of routes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from re import findall
from typing import Any, Final

import msgspec

from keyway.provision.models import ProblemAnswer, schema_hook
from keyway.provision.problems import CODES, CONTENT_TYPE
from keyway.provision.routes import ROUTES, Route

__all__ = ["document"]

_REF: Final = "#/components/schemas/{name}"

_EVERYWHERE: Final = ("malformed-request", "unauthenticated", "forbidden", "overloaded", "internal-error")
_WITH_BODY: Final = ("malformed-json", "duplicate-member", "bad-member", "body-too-large", "not-json", "pin-invalid")
_OF_KEYS: Final = ("bad-idempotency-key", "idempotency-key-reused")

_PLACES: Final = {
    "token": "Label of the token, or a PKCS #11 URI such as pkcs11:serial=0123 (percent-encoded).",
    "key": "Label of the key pair, or a PKCS #11 URI such as pkcs11:id=%2500%2501 (percent-encoded).",
    "sha256": "SHA-256 of the certificate's DER, 64 hexadecimal digits.",
}


def document(version: str) -> dict[str, Any]:
    """Return the document.

    Args:
        version: Version of the program.
    """
    kinds = {kind for route in ROUTES for kind in (route.body, *route.answers.values()) if isinstance(kind, type)}
    _, schemas = msgspec.json.schema_components(
        sorted({*kinds, ProblemAnswer}, key=lambda kind: kind.__name__), schema_hook=schema_hook, ref_template=_REF
    )
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    paths["/v1/openapi.json"] = {"get": _own()}
    made = {
        "openapi": "3.1.0",
        "info": {
            "title": "Keyway provisioning",
            "version": version,
            "summary": "Tokens, key pairs, certificate requests and certificates",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # Where the document came from.
        "servers": [{"url": "/"}],
        # One of those that the configuration has, or nothing where it lets callers in whom nobody knows.
        "security": [{"bearer": []}, {"certificate": []}, {"kerberos": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "certificate": {"type": "mutualTLS"},
                "kerberos": {
                    "type": "http",
                    "scheme": "negotiate",
                    "description": "A Kerberos ticket for HTTP at the host (RFC 4559), with each request.",
                },
            },
        },
    }
    # As whoever reads the JSON gets it: with lists in place of tuples.
    told: dict[str, Any] = json.loads(json.dumps(made))
    return told


def _operation(route: Route) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": ["compatible" if route.is_compatible else "v1"],
        "responses": _responses(route),
    }
    parameters = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PLACES[name],
            "schema": {"type": "string", "minLength": 1},
        }
        for name in findall(r"{(\w+)}", route.path)
    ]
    if not route.is_compatible:
        parameters += list(_headers(route))
    if parameters:
        made["parameters"] = parameters
    if route.body is not None:
        schema = {"$ref": _REF.format(name=route.body.__name__)}
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return made


def _headers(route: Route) -> Iterable[dict[str, Any]]:
    if route.body is None and "{token}/" in route.path:
        yield {
            "name": "Keyway-Pin",
            "in": "header",
            "description": "The user PIN, percent-encoded.",
            "schema": {"type": "string", "format": "password"},
        }
        yield {
            "name": "Keyway-Pin-Ref",
            "in": "header",
            "description": "Name of a PIN that stays in the gateway.",
            "schema": {"type": "string"},
        }
    if route.method != "GET":
        yield {
            "name": "Idempotency-Key",
            "in": "header",
            "description": "A request with the same key gets the same answer for some time.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }


def _responses(route: Route) -> dict[str, Any]:
    made: dict[str, Any] = {str(status): _response(status, kind) for status, kind in route.answers.items()}
    codes = dict.fromkeys((*_EVERYWHERE, *(_WITH_BODY if route.body is not None else ()), *route.problems))
    if not route.is_compatible and route.method != "GET":
        codes |= dict.fromkeys(_OF_KEYS)
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(int(CODES[code].status), []).append(code)
    for status in sorted(by_status):
        made[str(status)] = _problem(by_status[status])
    return made


def _response(status: int, kind: Any) -> dict[str, Any]:
    described = {"description": HTTPStatus(status).phrase}
    if kind is None:
        return described
    if isinstance(kind, str):
        return {**described, "content": {kind: {"schema": {"type": "string"}}}}
    return {**described, "content": {"application/json": {"schema": {"$ref": _REF.format(name=kind.__name__)}}}}


def _problem(codes: list[str]) -> dict[str, Any]:
    lines = [f"`{code}`: {CODES[code].title}." for code in codes]
    return {
        "description": "\n".join(lines),
        "content": {CONTENT_TYPE: {"schema": {"$ref": _REF.format(name=ProblemAnswer.__name__)}}},
    }


def _own() -> dict[str, Any]:
    return {
        "operationId": "openapi",
        "summary": "This document",
        "tags": ["v1"],
        "responses": {
            "200": {
                "description": HTTPStatus.OK.phrase,
                "content": {"application/json": {"schema": {"type": "object"}}},
            },
            "401": _problem(["unauthenticated"]),
            "403": _problem(["forbidden"]),
        },
    }
