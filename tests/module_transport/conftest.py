"""A daemon with a token, certificates, and the small application that uses them."""

from __future__ import annotations

import os
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.authority import Authority, Pair
from tests.daemon.harness import RunningDaemon, softhsm
from tests.daemon.tokens import PIN, make

from keyway.config.locate import module_library

TOKEN = "demo"
SOURCE = Path(__file__).with_name("client.c")
COMPILE = ("-O1", "-Wall", "-Wextra", "-Werror")
DEADLINE = 60.0


@dataclass(frozen=True)
class Done:
    """What the application printed: for each step its words after the name."""

    steps: list[tuple[str, ...]]
    errors: str

    def rvs(self, name: str) -> list[int]:
        return [int(step[1], 16) for step in self.steps if step[0] == name]

    def all_good(self) -> bool:
        return all(int(step[1], 16) == 0 for step in self.steps if len(step) > 1)


class Application:
    """The compiled client.c with a module, and the surroundings that it is started in."""

    def __init__(self, binary: Path, module: Path, home: Path) -> None:
        self.command: tuple[str, ...] = (str(binary), str(module))
        self.surroundings = {name: value for name, value in os.environ.items() if not name.startswith("KEYWAY")}
        self.surroundings |= {"XDG_CONFIG_HOME": str(home), "KEYWAY_TOKEN": TOKEN, "KEYWAY_PIN": PIN}

    def start(self, *steps: str, **variables: object) -> subprocess.Popen[str]:
        given = {f"KEYWAY_{name.upper()}": str(value) for name, value in variables.items()}
        return subprocess.Popen(
            [*self.command, *steps],
            env=self.surroundings | given,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *steps: str, **variables: object) -> Done:
        return finish(self.start(*steps, **variables))


def finish(process: subprocess.Popen[str]) -> Done:
    """Wait for the end of the application; it must come by itself."""
    try:
        output, errors = process.communicate(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, errors
    return Done([tuple(line.split()) for line in output.splitlines()], errors)


def until_paused(process: subprocess.Popen[str]) -> None:
    """Wait until the application waits; all was good up to there, or it would wait for nothing."""
    assert process.stdout
    for line in process.stdout:
        if line == "pause\n":
            return
        assert line.split()[1] == "0", line
    raise AssertionError("no pause")


def resume(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def server(authority: Authority, pair: Pair | None = None) -> ssl.SSLContext:
    """A server's side of TLS 1.3 that does not look who comes."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    pair = pair or authority.issue("127.0.0.1", "localhost", stem="server")
    context.load_cert_chain(pair.certificate, pair.key)
    return context


def mutual(authority: Authority) -> ssl.SSLContext:
    """The same, for those who have a certificate of this CA."""
    context = server(authority)
    context.load_verify_locations(authority.file)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def own(authority: Authority) -> dict[str, Path]:
    """The module's settings for a client certificate."""
    pair = authority.issue("client")
    return {"certificate": pair.certificate, "key": pair.key}


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("client") / "client"
    include = "-I/usr/include/p11-kit-1"
    subprocess.run(["gcc", *COMPILE, include, str(SOURCE), "-o", str(path), "-ldl", "-lpthread"], check=True)
    return path


@pytest.fixture(scope="session")
def daemon():
    # Not tmp_path: the path of a unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        home = Path(name)
        daemon = RunningDaemon(home, '[log]\nformat = "json"\nlevel = "debug"\n' + softhsm(home))
        try:
            make(daemon, TOKEN)
            yield daemon
            assert daemon.stop() == 0
            assert daemon.events("internal error") == []
            assert PIN not in daemon.log()
        finally:
            daemon.process.kill()
            daemon.process.wait()


@pytest.fixture
def home():
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)


@pytest.fixture
def application(binary: Path, home: Path) -> Application:
    return Application(binary, module_library(), home)


@pytest.fixture
def authority(home: Path) -> Authority:
    return Authority(home)
