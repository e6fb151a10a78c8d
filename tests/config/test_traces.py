"""The section [traces]."""

import sys
from pathlib import Path

import pytest

from keyway.config import ConfigError, missing_modules, parse

BACKEND = '[backend.a]\naddress = "unix:/a"\n'


def test_nothing_is_sent_without_the_section():
    assert parse(BACKEND).traces is None


def test_all_of_it():
    traces = parse(
        BACKEND + '[traces]\nendpoint = "https://collector.example.org/v1/traces"\nshare = 0.25\nservice = "gateway"\n'
        'ca = "/ca"\ncertificate = "/c"\nkey = "/k"\n'
    ).traces
    assert traces is not None
    assert (traces.endpoint, traces.share) == ("https://collector.example.org/v1/traces", 0.25)
    assert (traces.service, traces.ca, traces.certificate, traces.key) == (
        "gateway",
        Path("/ca"),
        Path("/c"),
        Path("/k"),
    )


@pytest.mark.parametrize(
    "text",
    [
        'endpoint = "http://127.0.0.1:4318/v1/traces"',
        'endpoint = "http://[::1]/v1/traces"',
        'endpoint = "http://localhost:4318/"',
        'endpoint = "http://collector:4318/v1/traces"\ninsecure = true',
        'endpoint = "https://collector/v1/traces"',
    ],
)
def test_good_ones(text):
    assert parse(f"{BACKEND}[traces]\n{text}\n").traces is not None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("share = 0.5\n", ":3: traces: endpoint is missing"),
        ('endpoint = "127.0.0.1:4318"\n', ":4: traces.endpoint: must be http://host:port/path or https://"),
        ('endpoint = "http:///v1"\n', ":4: traces.endpoint: must be http://host:port/path or https://"),
        ('endpoint = "http://h:x/"\n', ":4: traces.endpoint: Port could not be cast"),
        ('endpoint = "http://[::1/"\n', ":4: traces.endpoint: Invalid IPv6 URL"),
        ('endpoint = "https://user:word@h/"\n', ":4: traces.endpoint: has scheme, host, port and path only"),
        ('endpoint = "https://h/?a=b"\n', ":4: traces.endpoint: has scheme, host, port and path only"),
        ('endpoint = "http://collector/"\n', ":4: traces.endpoint: plain http outside loopback"),
        ('endpoint = "http://127.0.0.1/"\nca = "/a"\n', ":5: traces.ca: is for https only"),
        ('endpoint = "https://h/"\nkey = "/a"\n', ":3: traces: certificate and key belong together"),
        ('endpoint = "https://h/"\nshare = 1.5\n', ":5: traces.share: must be at most 1"),
        ('url = "https://h/"\n', ":4: traces.url: unknown; known here: endpoint, insecure"),
    ],
)
def test_mistakes(text, problem):
    with pytest.raises(ConfigError) as caught:
        parse(BACKEND + "[traces]\n" + text)
    assert any(problem in each for each in caught.value.problems), caught.value.problems
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("name", ["opentelemetry", "opentelemetry.sdk"])
def test_what_it_needs_and_is_not_installed_is_told(tmp_path, monkeypatch, name):
    path = tmp_path / "keyway.toml"
    path.write_text(BACKEND + '[traces]\nendpoint = "http://127.0.0.1:4318/v1/traces"\n')
    config = parse(path.read_text())
    assert missing_modules(path, config) == []
    for each in [each for each in sys.modules if each.startswith("opentelemetry")]:
        monkeypatch.delitem(sys.modules, each)
    monkeypatch.setitem(sys.modules, name, None)
    assert missing_modules(path, config) == [f"{path}:3: traces: needs OpenTelemetry: pip install 'keyway[traces]'"]
