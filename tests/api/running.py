"""A real `keyway api` in front of a real daemon, asked over HTTP."""

import http.client
import json
import os
import signal
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.daemon.harness import DEADLINE, KEYWAY, until

PIN = "pin-7391-for-tests"
SO_PIN = "so-pin-5512-for-tests"
PROBLEM = "application/problem+json"
SECONDS = 90.0
"""How long an answer may take on a busy machine."""


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        """The code of a problem, which must be one in all respects."""
        assert self.headers["content-type"] == PROBLEM, self.text
        told = self.json
        assert told["status"] == self.status >= 400
        assert told["type"] == f"urn:keyway:problem:{told['code']}"
        return told["code"]


class RunningApi:
    """The process, with its log."""

    def __init__(self, home: Path, config: Path, *, secure: ssl.SSLContext | None = None) -> None:
        self.log_path = home / f"api-{config.stem}.log"
        self._secure = secure
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*KEYWAY, "api", "-c", str(config)],
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONASYNCIODEBUG": ""},
            )
        until(lambda: self.events("listening") or self.process.poll() is not None, "the API listens", SECONDS)
        assert self.process.poll() is None, self.log()
        self.port = int(self.events("listening")[0]["address"].rpartition(":")[2])

    def log(self) -> str:
        return self.log_path.read_text()

    def events(self, event: str) -> list[dict]:
        lines = [line for line in self.log().splitlines(keepends=True) if line.startswith("{") and line.endswith("\n")]
        return [entry for entry in map(json.loads, lines) if entry["event"] == event]

    @property
    def url(self) -> str:
        return f"{'https' if self._secure else 'http'}://127.0.0.1:{self.port}"

    def connect(self) -> http.client.HTTPConnection:
        if self._secure is not None:
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=SECONDS, context=self._secure)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)

    def ask(self, method: str, path: str, body: Any = None, /, **headers: str) -> Answer:
        """Ask, and return the answer, which holds no PIN.

        Args:
            method: The HTTP method.
            path: The path.
            body: Bytes as they are, or what becomes JSON.
            headers: Other headers; underscores stand for hyphens.
        """
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = self.connect()
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            answer = Answer(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read().decode(),
            )
        finally:
            connection.close()
        assert PIN not in answer.text
        assert SO_PIN not in answer.text
        return answer

    def stop(self) -> None:
        """Tell it to stop; it must end well, and nothing that went wrong or is secret may be in its log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(DEADLINE) == 0, self.log()
        assert self.events("internal error") == []
        for text in ("Traceback", PIN, SO_PIN):
            assert text not in self.log()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Caller:
    """What callers do, in few words.

    Attributes:
        api: The API.
    """

    def __init__(self, api: RunningApi) -> None:
        self.api = api

    def token(self, label: str) -> str:
        """Make a token and return the path of it."""
        answer = self.api.ask("POST", "/v1/tokens", {"label": label, "so_pin": SO_PIN, "pin": PIN})
        assert answer.status in (200, 201), answer.text
        return f"/v1/tokens/{quote(label, safe='')}"

    def key(self, token: str, label: str, type_: str = "EC:prime256v1", **more: Any) -> dict:
        answer = self.api.ask("POST", f"{token}/keys", {"label": label, "type": type_, "pin": PIN, **more})
        assert answer.status in (200, 201), answer.text
        return answer.json

    def keys(self, token: str) -> list[dict]:
        answer = self.api.ask("GET", f"{token}/keys", Keyway_Pin=PIN)
        assert answer.status == 200, answer.text
        return answer.json["keys"]

    def certificates(self, token: str) -> list[dict]:
        answer = self.api.ask("GET", f"{token}/certificates", Keyway_Pin=PIN)
        assert answer.status == 200, answer.text
        return answer.json["certificates"]

    def csr(self, token: str, key: str, **more: Any) -> str:
        answer = self.api.ask(
            "POST", f"{token}/keys/{quote(key, safe='')}/csrs", {"subject": "CN=x", "pin": PIN, **more}
        )
        assert answer.status == 200, answer.text
        return answer.json["pem"]


def compatible(label: str, *, token: str | None = None, **cert: Any) -> dict:
    """Return a request of an existing caller."""
    pair = {"key_type": "EC:prime256v1", "label": label, "id": "0001"}
    made: dict[str, Any] = {
        "cert": {"key_pair": pair | cert.pop("pair", {}), "subject": f"/CN={label}", "pem": "", **cert}
    }
    if token is not None:
        made["token"] = {"label": token, "slot": 0, "so_pin": SO_PIN, "pin": PIN}
    return made
