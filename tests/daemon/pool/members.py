"""Daemons with pools whose members tests look into: SoftHSM behind a module that counts calls, and misbehaves when it is told to."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import LOCK_EX, flock
from pathlib import Path

from tests.daemon.harness import RunningDaemon, stands_still, until
from tests.daemon.pool.tokens import LABEL, configuration, original

from keyway.config.locate import softhsm_module


class Member:
    """A token, the module in front of it, and the processes that have loaded that.

    Attributes:
        name: The backend's name.
        section: Its [backend] section.
        module: The module in front of the token.
        environment: What that needs.
        uri: Its line in the members of a pool.
    """

    def __init__(self, home: Path, passthrough: Path, made: Path, name: str, *lines: str, **options: object) -> None:
        """Make a token.

        Args:
            home: Where its files go.
            passthrough: The module passthrough.c.
            made: Where the token is that this is a copy of.
            name: The backend's name.
            lines: Lines for SoftHSM's configuration.
            options: Options of the backend, in TOML; `version`, `wrap` and `alone` are for the module.
        """
        self.name = name
        self.uri = f"pkcs11:token={LABEL}?backend={name}"
        self.tokens = home / f"tokens-{name}"
        self.conf = configuration(home, name, *lines)
        shutil.copytree(original(made), self.tokens, dirs_exist_ok=True)
        self.folder = home / f"told-{name}"
        self.folder.mkdir()
        self.module = passthrough
        self.environment = {
            "SOFTHSM2_CONF": self.conf,
            "PASSTHROUGH_MODULE": softhsm_module(),
            "PASSTHROUGH_FOLDER": self.folder,
            "PASSTHROUGH_VERSION": options.pop("version", "2.40"),
            "PASSTHROUGH_WRAP": options.pop("wrap", ""),
            "PASSTHROUGH_ALONE": options.pop("alone", ""),
        }
        told = ", ".join(f'{key} = "{value}"' for key, value in self.environment.items())
        settings = {"module": f'"{passthrough}"', "environment": f"{{ {told} }}", "spares": 0, **options}
        lines = (f"[backend.{name}]", *(f"{key} = {value}" for key, value in settings.items()), "")
        self.section = "\n".join(lines)
        self._daemon: RunningDaemon | None = None
        self._frozen: set[int] = set()
        self._serving: set[int] = set()

    @property
    def plain(self) -> str:
        """The [token] section that shows it beside the pool, under its own name."""
        return f'[token.{self.name}]\nbackend = "{self.name}"\nlabel = "{LABEL}"\n'

    def at(self, daemon: RunningDaemon) -> None:
        """Say which daemon it belongs to."""
        self._daemon = daemon

    # What its module does

    def does(self, function: str, words: str) -> None:
        """Say what each call of a function does from now on (passthrough.c)."""
        self._say(function, words)

    def does_once(self, function: str, words: str) -> None:
        """Say what the next call of a function does."""
        self._say(f"once-{function}", words)

    def behaves(self, *functions: str) -> None:
        """Let calls do what they should again; all if none is named, and then nothing is frozen any more, either."""
        if not functions:
            for pid in self._frozen & self.hosts() if self._frozen else ():
                signal_to(pid, signal.SIGKILL)
            self._frozen.clear()
        for path in self.folder.iterdir():
            name = path.name.removeprefix("once-").removeprefix("taken-")
            if name not in ("calls", "writing") and (not functions or name in functions):
                path.unlink(missing_ok=True)

    def was_told(self, function: str) -> bool:
        """Whether what was said for once has been done, or is being done."""
        return (self.folder / f"taken-{function}").exists()

    def _say(self, file: str, words: str) -> None:
        half = self.folder / f"half-{file}"
        half.write_text(words)
        half.rename(self.folder / file)

    # What it was asked

    def calls(self, function: str) -> int:
        """How often a function was called; for C_Login, the type of user may follow."""
        return sum(call == function or call.startswith(f"{function} ") for _, call in self._calls())

    def forget(self) -> None:
        """Count from 0 again."""
        self._serving |= self._with_sessions()
        (self.folder / "calls").unlink(missing_ok=True)

    def process(self, function: str) -> int:
        """The process that made the last call of a function."""
        return [process for process, call in self._calls() if call.split()[0] == function][-1]

    def _calls(self) -> list[tuple[int, str]]:
        try:
            lines = (self.folder / "calls").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [(int(process), call) for process, _, call in (line.partition(" ") for line in lines)]

    def described(self) -> bytes:
        """What SoftHSM has written about the token itself. A login changes it, too."""
        (file,) = self.tokens.glob("*/token.object")
        return file.read_bytes()

    # Its processes

    def hosts(self) -> set[int]:
        """The processes that have its module, as far as they have not ended."""
        assert self._daemon is not None
        own = f"PASSTHROUGH_FOLDER={self.folder}".encode()
        return {pid for pid in self._daemon.hosts() if own in _environment(pid)}

    def kill(self) -> None:
        """Kill its processes that have sessions, but none that is writing the token.

        A probe has none. When it is killed, the member is down for a while, for good reason.
        """
        self._signal(signal.SIGKILL, self._serving | self._with_sessions())

    def _with_sessions(self) -> set[int]:
        return {process for process, call in self._calls() if call == "C_OpenSession"}

    def freeze(self) -> None:
        """Stop all of its processes, but none that is writing the token; `behaves` kills them."""
        stopped = self._signal(signal.SIGSTOP)
        self._frozen |= stopped
        until(lambda: all(map(stands_still, stopped)), "they stand still")

    def _signal(self, number: int, which: set[int] | None = None) -> set[int]:
        with self.at_rest():
            hosts = self.hosts() if which is None else self.hosts() & which
            for pid in hosts:
                signal_to(pid, number)
        return hosts

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Let nobody write the token meanwhile."""
        with (self.folder / "writing").open("w") as file:
            flock(file, LOCK_EX)
            yield

    def goes(self) -> None:
        """Let it be gone, and all attempts to reach it fail."""
        self.does("C_Initialize", "rv 0x30")
        self._signal(signal.SIGKILL)

    def comes_back(self) -> None:
        """Let it be there again."""
        self.behaves("C_Initialize")


class Pools:
    """A daemon with pools over some members.

    Attributes:
        daemon: The daemon.
        members: The members, each of which may belong to several pools.
    """

    def __init__(self, daemon: RunningDaemon, *members: Member) -> None:
        self.daemon = daemon
        self.members = members
        for member in members:
            member.at(daemon)

    def status(self, pool: str = LABEL) -> dict[str, dict]:
        """The members of a pool by name, as `keyway status` shows them."""
        return {member["member"]: member for member in self.daemon.status()["pools"][pool]["members"]}

    def is_up(self) -> bool:
        """Whether all members of all pools serve."""
        pools = self.daemon.status()["pools"].values()
        return all(member["state"] == "up" for pool in pools for member in pool["members"])

    def is_quiet(self) -> bool:
        """Whether no client is there, and no host."""
        told = self.daemon.status()
        return not told["contexts"] and not any(backend["hosts"] for backend in told["backends"].values())

    def settle(self) -> None:
        """Let all members behave, wait until all serve again and nothing goes on, and count anew."""
        for member in self.members:
            member.behaves()
        until(lambda: self.is_up() and self.is_quiet(), "all members are up, and nothing goes on")
        for member in self.members:
            member.forget()


def signal_to(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _environment(pid: int) -> list[bytes]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return []
