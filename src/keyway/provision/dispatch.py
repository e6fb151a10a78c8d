"""From a request to an answer, whatever they came over."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from secrets import token_bytes
from typing import Final
from urllib.parse import unquote

import msgspec

from keyway.observe.log import event
from keyway.provision.compatible import Compatible, Defaults
from keyway.provision.jsontext import parse_json
from keyway.provision.locks import Locks
from keyway.provision.models import Pin, convert
from keyway.provision.openapi import document
from keyway.provision.pins import PinBook
from keyway.provision.problems import CONTENT_TYPE, Problem
from keyway.provision.remembered import Remembered, idempotency_key
from keyway.provision.routes import Answer, Asked, Places, Route, find_route
from keyway.provision.service import Service

__all__ = ["Dispatcher", "Incoming", "Outgoing", "make_dispatcher", "refusal"]

OPENAPI: Final = "/v1/openapi.json"
REMEMBERED: Final = 1024
"""Answers that are remembered by Idempotency-Key."""
REMEMBERED_FOR: Final = 3600.0
"""Seconds."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request.

    Attributes:
        method: The HTTP method.
        path: The path, percent-encoded, without a query.
        headers: Headers by their names in small letters; those that matter here. Not in a repr.
        body: The body. Not in a repr.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An answer.

    Attributes:
        status: The HTTP status.
        content_type: What the body is; empty for none.
        body: The body.
        headers: Other headers.
        code: The problem's code, for the log; empty if all went well.
    """

    status: int
    content_type: str = ""
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    code: str = ""


class Dispatcher:
    """Answers requests."""

    def __init__(self, places: Places, version: str, clock: Callable[[], float]) -> None:
        """Describe it.

        Args:
            places: What does the work.
            version: Of the program, for the OpenAPI document.
            clock: Tells the time in seconds, for what is remembered.
        """
        self._places = places
        self._clock = clock
        self._openapi = json.dumps(document(version), indent=1).encode()
        self._remembered: Remembered[Outgoing] = Remembered(REMEMBERED, REMEMBERED_FOR)
        self._running = Locks()
        # Requests hold PINs: what is kept of them tells nobody anything.
        self._digest_key: Final = token_bytes(32)

    async def answer(self, request: Incoming, caller: str) -> Outgoing:
        """Answer a request.

        Args:
            request: The request.
            caller: Who asks, and has been let in.
        """
        try:
            return await self._answer(request, caller)
        except Problem as problem:
            return refusal(problem)
        except Exception as error:  # noqa: BLE001 (a defect: the caller gets an answer, the log its name)
            # Without text and traceback: both might quote what the request held.
            event(logging.ERROR, "internal error", task="api", error=type(error).__name__, at=_place(error))
            return refusal(Problem("internal-error"))

    async def _answer(self, request: Incoming, caller: str) -> Outgoing:
        if request.path == OPENAPI:
            if request.method not in ("GET", "HEAD"):
                raise Problem("method-not-allowed", "there is GET")
            return Outgoing(200, "application/json", self._openapi)
        route, values = find_route(request.method, request.path)
        key = request.headers.get("idempotency-key")
        if key is None or route.is_compatible or route.method == "GET":
            return await self._run(route, values, request, caller)
        return await self._once(route, values, request, caller, idempotency_key(key))

    async def _once(
        self, route: Route, values: Mapping[str, str], request: Incoming, caller: str, key: str
    ) -> Outgoing:
        digest = self._digest(request)
        # The second of two that come at the same time waits for the answer of the first.
        async with self._running.hold((caller, key)):
            known = self._remembered.recall(caller, key, digest, self._clock())
            if known is not None:
                return known
            answer = await self._run(route, values, request, caller)
            self._remembered.note(caller, key, digest, answer, self._clock())
            return answer

    def _digest(self, request: Incoming) -> bytes:
        parts = (
            request.method,
            request.path,
            request.headers.get("keyway-pin", ""),
            request.headers.get("keyway-pin-ref", ""),
        )
        made = blake2b(key=self._digest_key)
        for part in (*(each.encode("utf-8", "surrogateescape") for each in parts), request.body):
            made.update(len(part).to_bytes(8, "big") + part)
        return made.digest()

    async def _run(self, route: Route, values: Mapping[str, str], request: Incoming, caller: str) -> Outgoing:
        body = None
        if route.body is not None:
            if not route.is_compatible and not _is_json(request.headers.get("content-type", "")):
                raise Problem("not-json")
            body = convert(parse_json(request.body), route.body)
        elif request.body:
            raise Problem("malformed-request", "there is a body where none belongs")
        pin = request.headers.get("keyway-pin")
        asked = Asked(
            values,
            body,
            caller,
            None if pin is None else Pin.of(_unquoted(pin)),
            request.headers.get("keyway-pin-ref", ""),
        )
        return _encoded(await route.run(self._places, asked))


def make_dispatcher(service: Service, pins: PinBook, defaults: Defaults, version: str) -> Dispatcher:
    """Return what answers requests.

    Args:
        service: Does the work.
        pins: PINs that stay in the gateway.
        defaults: Of the compatible API.
        version: Of the program.
    """
    return Dispatcher(Places(service, Compatible(service, pins, defaults)), version, time.monotonic)


def _encoded(answer: Answer) -> Outgoing:
    if answer.body is None:
        return Outgoing(int(answer.status))
    if isinstance(answer.body, str):
        return Outgoing(int(answer.status), "text/plain; charset=utf-8", answer.body.encode())
    return Outgoing(int(answer.status), "application/json", msgspec.json.encode(answer.body))


def refusal(problem: Problem) -> Outgoing:
    """Return the answer that tells a problem."""
    headers = {}
    if problem.code == "unauthenticated":
        headers["WWW-Authenticate"] = 'Bearer realm="keyway"'
    if problem.status == 503:
        headers["Retry-After"] = "1"
    if problem.code == "method-not-allowed":
        headers["Allow"] = problem.detail.removeprefix("there are ").removeprefix("there is ")
    # Details may quote what a caller has sent, half characters included.
    body = json.dumps(problem.document()).encode()
    return Outgoing(int(problem.status), CONTENT_TYPE, body, headers, problem.code)


def _is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def _unquoted(text: str) -> str:
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise Problem("pin-invalid", "the header is no percent-encoded UTF-8") from None


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
