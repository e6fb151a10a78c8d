"""What a suite can be aimed at: the vendor module itself, Keyway, or p11-kit's remoting as a control.

Every run gets fresh tokens and a process of its own, which writes its outcome set to a file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.fidelity.outcomes import Outcome, load

SOFTHSM = Path("/usr/lib/softhsm/libsofthsm2.so")
P11_KIT_CLIENT = Path("/usr/lib/x86_64-linux-gnu/pkcs11/p11-kit-client.so")
ROOT = Path(__file__).parents[2]
TOKEN, PIN = "keyway", "12345678"
SUITE_SECONDS = 300
SERVER_SECONDS = 10


class SuiteBroken(Exception):
    """A suite ended without an outcome set."""


@contextlib.contextmanager
def fresh_token(directory: Path) -> Iterator[dict[str, str]]:
    """An environment with one empty SoftHSM token, kept in the directory."""
    tokens = directory / "tokens"
    tokens.mkdir()
    config = directory / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    environment = {**os.environ, "SOFTHSM2_CONF": str(config), "KEYWAY_TOKEN": TOKEN}
    environment |= {"KEYWAY_PIN": PIN, "KEYWAY_SO_PIN": PIN}
    command = ["softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--pin", PIN, "--so-pin", PIN]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    yield environment


def _suite_command(suite: str, module: Path | None, out: Path) -> list[str]:
    command = [sys.executable, "-m", "tests.fidelity", "run", suite, "--json", str(out)]
    return command if module is None else [*command, "--module", str(module)]


def _outcomes_of(command: list[str], environment: Mapping[str, str], out: Path) -> dict[str, Outcome]:
    path = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    with (out.parent / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            env={**environment, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(SUITE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = None
    if not out.exists():
        tail = (out.parent / "log").read_text(errors="replace")[-3000:]
        ending = "it took too long" if status is None else f"it ended with status {status}"
        raise SuiteBroken(f"{' '.join(command)}: no outcomes; {ending}\n{tail}")
    return load(out)


def direct(suite: str, overrides: Mapping[str, str] | None = None) -> dict[str, Outcome]:
    """Runs a suite on the vendor module. Overrides replace variables, to show that a wrong one is noticed."""
    with tempfile.TemporaryDirectory(prefix="fidelity-") as name, fresh_token(Path(name)) as environment:
        out = Path(name) / "out.json"
        return _outcomes_of(_suite_command(suite, SOFTHSM, out), {**environment, **(overrides or {})}, out)


def keyway_command() -> str | None:
    """The `keyway` program of this environment, if it is installed."""
    beside = Path(sys.executable).with_name("keyway")
    return str(beside) if beside.exists() else shutil.which("keyway")


def keyway(suite: str) -> dict[str, Outcome]:
    """Runs a suite through a throw-away gateway."""
    program = keyway_command()
    if program is None:
        raise SuiteBroken("the keyway program is not installed")
    with tempfile.TemporaryDirectory(prefix="fidelity-") as name:
        out = Path(name) / "out.json"
        command = [program, "run", "--token", TOKEN, "--", *_suite_command(suite, None, out)]
        return _outcomes_of(command, os.environ, out)


def p11_kit(suite: str) -> dict[str, Outcome]:
    """Runs a suite through `p11-kit server`: a remoting that is known to lose outcomes."""
    with tempfile.TemporaryDirectory(prefix="fidelity-") as name, fresh_token(Path(name)) as environment:
        socket = Path(name) / "p11-kit"
        command = ["p11-kit", "server", "--provider", str(SOFTHSM), "-f", "-n", str(socket), "pkcs11:"]
        return _through_p11_kit_client(suite, command, socket, environment, Path(name) / "out.json")


def p11_kit_keyway(suite: str) -> dict[str, Outcome]:
    """Runs a suite through the client of p11-kit, with Keyway in the place of its server."""
    program = keyway_command()
    if program is None:
        raise SuiteBroken("the keyway program is not installed")
    with tempfile.TemporaryDirectory(prefix="fidelity-") as name, fresh_token(Path(name)) as environment:
        config, socket = Path(name) / "keyway.toml", Path(name) / "p11-kit"
        config.write_text(
            f"""
            [listen]
            socket = "{name}/keyway.sock"
            [listener.p11-kit]
            address = "unix:{socket}"
            protocol = "p11-kit"
            [backend.softhsm]
            module = "{SOFTHSM}"
            environment = {{ SOFTHSM2_CONF = "{environment["SOFTHSM2_CONF"]}" }}
            start = "copy"
            [log]
            level = "warning"
            """
        )
        command = [program, "serve", "-c", str(config)]
        return _through_p11_kit_client(suite, command, socket, environment, Path(name) / "out.json")


def pool(suite: str) -> dict[str, Outcome]:
    """Runs a suite through a gateway that shows the token as a pool of one member."""
    program = keyway_command()
    if program is None:
        raise SuiteBroken("the keyway program is not installed")
    with tempfile.TemporaryDirectory(prefix="fidelity-") as name, fresh_token(Path(name)) as environment:
        config, socket = Path(name) / "keyway.toml", Path(name) / "keyway.sock"
        config.write_text(
            f"""
            [listen]
            socket = "{socket}"
            [backend.softhsm]
            module = "{SOFTHSM}"
            environment = {{ SOFTHSM2_CONF = "{environment["SOFTHSM2_CONF"]}" }}
            start = "copy"
            [token.{TOKEN}]
            members = ["pkcs11:token={TOKEN}"]
            writes = "first"
            deadline = 60
            [log]
            level = "warning"
            """
        )
        out = Path(name) / "out.json"
        module = subprocess.run([program, "module"], check=True, capture_output=True, text=True).stdout.strip()
        with _serving([program, "serve", "-c", str(config)], socket, environment):
            environment["KEYWAY_ADDRESS"] = str(socket)
            return _outcomes_of(_suite_command(suite, Path(module), out), environment, out)


def _through_p11_kit_client(
    suite: str, server: list[str], socket: Path, environment: dict[str, str], out: Path
) -> dict[str, Outcome]:
    with _serving(server, socket, environment):
        environment["P11_KIT_SERVER_ADDRESS"] = f"unix:path={socket}"
        return _outcomes_of(_suite_command(suite, P11_KIT_CLIENT, out), environment, out)


@contextlib.contextmanager
def _serving(server: list[str], socket: Path, environment: dict[str, str]) -> Iterator[None]:
    """Has a server run that listens at a socket."""
    process = subprocess.Popen(server, env=environment, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + SERVER_SECONDS
        while not socket.exists():
            if time.monotonic() > deadline or process.poll() is not None:
                raise SuiteBroken(f"{server[0]} does not listen")
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.wait()
