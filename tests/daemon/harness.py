"""A real `keyway serve` with real module hosts, watched from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from keyway.cli.client import Client
from keyway.config.locate import softhsm_module
from keyway.daemon.control import STATUS

DEADLINE = 20.0
KEYWAY = (sys.executable, "-m", "keyway.cli")


def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Wait for a condition; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def freeze(pid: int) -> None:
    """Stop a process, and wait until it stands: the signal goes to one of its threads, and on a busy machine others may run for a while."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: stands_still(pid), f"{pid} stands still")


def stands_still(pid: int) -> bool:
    """Tell whether no thread of a process runs: it is stopped, or gone."""
    try:
        return all(_state(task) in "TZ" for task in Path(f"/proc/{pid}/task").iterdir())
    except FileNotFoundError:
        return True


class RunningDaemon:
    """A daemon process with its configuration, socket and log in a directory of its own."""

    def __init__(self, home: Path, config: str, program: Sequence[str] = KEYWAY, close_fds: bool = True) -> None:
        self.socket = home / "k.sock"
        self.log_path = home / "log"
        self._command = [*program, "serve", "-c", str(home / "keyway.toml")]
        self._close_fds = close_fds
        (home / "keyway.toml").write_text(f'[listen]\nsocket = "{self.socket}"\n{config}')
        self.log_path.write_bytes(b"")
        self.start()

    def start(self) -> None:
        """Start it, once more if it has ended, and wait until it listens. The log goes on."""
        before = len(self.events("ready"))
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stderr=log,
                stdin=subprocess.DEVNULL,
                close_fds=self._close_fds,
                env={**os.environ, "PYTHONASYNCIODEBUG": ""},
            )
        until(lambda: len(self.events("ready")) > before or self.process.poll() is not None, "the daemon listens")
        assert self.process.poll() is None, self.log()

    def log(self) -> str:
        return self.log_path.read_text()

    def events(self, event: str) -> list[dict]:
        """The log's entries of one kind."""
        # The last line may be half written.
        lines = self.log().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]
        return [entry for entry in entries if entry["event"] == event]

    def status(self) -> dict:
        with Client(self.socket, DEADLINE) as client:
            rv, body = client.exchange(STATUS)
        assert rv == 0
        return json.loads(body)

    def contexts(self) -> list[dict]:
        return self.status()["contexts"]

    def hosts(self) -> set[int]:
        """The processes below the daemon, zombies too."""
        found: set[int] = set()
        parents = [self.process.pid]
        while parents:
            children = _children(parents.pop()) - found
            found |= children
            parents += children
        return found

    def seeds(self) -> set[int]:
        """The hosts that others are copies of."""
        return {pid for pid in _children(self.process.pid) if "--seed" in _command(pid)}

    def copies(self) -> set[int]:
        """The hosts that are copies."""
        return {copy for seed in self.seeds() for copy in _children(seed)}

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def wait_quiet(self, spares: int) -> None:
        """Wait until no context is open and all spares are there."""

        def quiet() -> bool:
            told = self.status()
            backends = told["backends"].values()
            return not told["contexts"] and all(b["spares"] == spares and b["hosts"] == spares for b in backends)

        until(quiet, "all contexts are closed and all spares are there")

    def stop(self) -> int:
        """Tell it to stop and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def softhsm(home: Path, name: str = "softhsm", **options: object) -> str:
    """Return the [backend] section of a SoftHSM with tokens of its own."""
    tokens = home / f"tokens-{name}"
    tokens.mkdir()
    conf = home / f"{name}.conf"
    conf.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    return backend(name, softhsm_module(), environment=f'{{ SOFTHSM2_CONF = "{conf}" }}', **options)


def backend(name: str, module: Path, **options: object) -> str:
    """Return a [backend] section. Options are TOML."""
    lines = [f"{key} = {value}" for key, value in options.items()]
    return "\n".join([f"[backend.{name}]", f'module = "{module}"', *lines, ""])


def _state(task: Path) -> str:
    try:
        return (task / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def _children(pid: int) -> set[int]:
    try:
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return set()


def _command(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []
