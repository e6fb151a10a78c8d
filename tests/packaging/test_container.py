"""What the container and the units are made from. No engine builds the image here: its parts are checked, and its start script is run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

SECONDS = 60.0


def _hadolint() -> str:
    return str(Path(sys.executable).with_name("hadolint"))


def test_the_containerfile_is_well_formed(root: Path) -> None:
    result = subprocess.run(
        [_hadolint(), "--format", "json", str(root / "packaging/container/Containerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(result.stdout) == []
    assert result.returncode == 0


def test_what_it_copies_is_there(root: Path) -> None:
    text = (root / "packaging/container/Containerfile").read_text().replace("\\\n", " ")
    copied = [
        source
        for line in text.splitlines()
        if line.startswith("COPY ") and "--from=" not in line
        for source in line.split()[1:-1]
        if not source.startswith("--")
    ]
    assert len(copied) > 10
    assert [source for source in copied if not (root / source).exists()] == []


@pytest.mark.parametrize("unit", ["keyway.service", "keyway-api.service", "keyway-agent.service"])
def test_units_are_understood(root: Path, tmp_path: Path, unit: str) -> None:
    home = tmp_path / "root"
    (home / "opt/keyway/bin").mkdir(parents=True)
    program = home / "opt/keyway/bin/keyway"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = (root / "packaging/systemd" / unit).read_text()
    mine = tmp_path / unit
    mine.write_text(text.replace("/opt/keyway/bin/keyway", str(program)))
    manager = ["--user"] if "agent" in unit else []
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", *manager, str(mine)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    complaints = [line for line in result.stderr.splitlines() if unit in line]
    assert complaints == []


def test_a_unit_with_a_mistake_is_noticed(root: Path, tmp_path: Path) -> None:
    mine = tmp_path / "keyway.service"
    mine.write_text((root / "packaging/systemd/keyway.service").read_text() + "\n[Service]\nProtectHom=yes\n")
    result = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(mine)], capture_output=True, text=True, check=False
    )
    assert "ProtectHom" in result.stderr


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_the_container_starts_serves_and_stops(root: Path, keyway: Path, tmp_path: Path) -> None:
    port = _free_port()
    place = tmp_path / "c"
    (place / "tokens").mkdir(parents=True)
    softhsm = (root / "packaging/container/softhsm2.conf").read_text()
    (place / "softhsm2.conf").write_text(softhsm.replace("/var/lib/keyway/tokens", str(place / "tokens")))
    text = (root / "packaging/container/keyway.toml").read_text()
    config = place / "keyway.toml"
    config.write_text(
        text.replace("/run/keyway/", f"{place}/").replace("/etc/keyway/", f"{place}/").replace(":8081", f":{port}")
    )
    environment = {**os.environ, "KEYWAY_CONFIG": str(config), "KEYWAY_COMMAND": str(keyway)}
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", str(root / "packaging/container/start.sh")],
            env=environment,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        request = {
            "token": {"label": "node", "slot": 0, "so_pin": "12345678", "pin": "12345678"},
            "cert": {
                "key_pair": {"key_type": "EC:prime256v1", "label": "node-1", "id": "0001"},
                "subject": "/CN=node-1",
                "pem": "",
            },
        }
        csr = _posted(f"http://127.0.0.1:{port}/pkcs11/csr", request, process)
        assert csr.startswith("-----BEGIN CERTIFICATE REQUEST-----"), (place / "log").read_text()
        assert csr  # The same again: the key is reused.
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) in (0, 143), (place / "log").read_text()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(place / "tokens", ignore_errors=True)


def _posted(url: str, body: object, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return str(answer.read().decode())
        except OSError as error:
            # The gateway or the API is not there yet; a refusal would be an answer.
            if time.monotonic() > deadline or getattr(error, "code", 503) not in (503,):
                raise
            time.sleep(0.05)
