"""Applications at a pool, and what happens to its members meanwhile."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.pipelined import Pipelined
from tests.chaos.schedule import Blow, Kind
from tests.daemon.harness import RunningDaemon, until
from tests.daemon.pool.members import Member, Pools, signal_to
from tests.daemon.pool.tokens import LABEL, PIN

from keyway.cli.client import Client
from keyway.config.locate import module_library
from keyway.cryptoki import RV
from keyway.daemon.control_numbers import DRAIN, RESUME

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 120.0
"""Seconds that anything may take which is waited for: a machine may be slow."""
SLOWLY = 30
"""Milliseconds that a signature takes longer at a slow member."""


class Application:
    """A running application.py."""

    def __init__(self, address: str, threads: int, seed: int, inside: Sequence[str] = ()) -> None:
        """Start it.

        Args:
            address: KEYWAY_ADDRESS.
            threads: How many threads.
            seed: What its operations depend on.
            inside: What to run it by.
        """
        self.operations = 0
        self._told = b""
        command = [sys.executable, "-m", "tests.chaos.application", str(module_library()), PIN, str(threads), str(seed)]
        self.process = subprocess.Popen(
            [*inside, *command],
            cwd=ROOT,
            env={**os.environ, "KEYWAY_ADDRESS": address, "KEYWAY_RENEWAL": str(int(PATIENCE))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)

    def look(self) -> None:
        """Count the operations that are over by now."""
        assert self.process.stdout is not None
        while data := self.process.stdout.read(65536):
            self._told += data
            if b"\n" not in self._told:
                self.operations += len(self._told)
                self._told = b""
        assert self.process.poll() is None or b"\n" in self._told, f"an application ended: {self.process.returncode}"

    def stop(self) -> list[dict]:
        """Have it end, and return what each of its threads has done."""
        assert self.process.stdin is not None
        self.process.stdin.close()

        def is_over() -> bool:
            self.look()
            return self._told.endswith(b"\n") and self._told.count(b"\n") == 2

        until(is_over, "an application ends", PATIENCE)
        assert self.process.wait(PATIENCE) == 0
        dots, told, _ = self._told.split(b"\n")
        self.operations += len(dots)
        return json.loads(told)

    def kill(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class Storm:
    """Applications at work, and the daemon and members that are shaken meanwhile."""

    def __init__(self, pools: Pools, applications: list[Application], pipelined: Pipelined) -> None:
        """Join them.

        Args:
            pools: The daemon and the members.
            applications: The applications.
            pipelined: One more.
        """
        self._pools = pools
        self._applications = applications
        self._pipelined = pipelined

    def operations(self) -> int:
        """How many operations are over by now."""
        for each in self._applications:
            each.look()
        return self._pipelined.operations + sum(each.operations for each in self._applications)

    def wait_begun(self) -> None:
        """Wait until all applications sign: a login that meets a blow may fail, since nobody knows whether the token has counted it."""
        until(lambda: self.operations() and all(each.operations for each in self._applications), "all sign", PATIENCE)

    def more(self, operations: int) -> None:
        """Wait until so many more operations are over."""
        wanted = self.operations() + operations
        until(lambda: self.operations() >= wanted, f"{operations} more operations", PATIENCE)

    def strikes(self, blow: Blow) -> None:
        """Let it happen, and wait until the member serves again."""
        self.more(blow.gap)
        _BLOWS[blow.kind](self, self._pools.members[blow.member], blow)
        self._until_served(self._pools.members[blow.member])

    def _until_served(self, member: Member) -> None:
        before = self._member(member)["served"]

        def serves() -> bool:
            self.operations()
            now = self._member(member)
            return now["state"] == "up" and now["served"] > before

        until(serves, f"{member.name} serves", PATIENCE)
        member.forget()

    def _member(self, member: Member) -> dict:
        return self._pools.status()[member.name]

    def _failovers(self) -> int:
        return self._pools.daemon.status()["pools"][LABEL]["failovers"]

    def _kill(self, member: Member, _: Blow) -> None:
        member.kill()

    def _once(self, member: Member, words: str) -> None:
        member.does_once("C_Sign", words)
        until(lambda: self.operations() and member.was_told("C_Sign"), "a signature meets it", PATIENCE)
        member.behaves()

    def _slow(self, member: Member, blow: Blow) -> None:
        member.does("C_Sign", f"delay {SLOWLY}")
        self.more(blow.lasts)
        member.behaves()

    def _pause(self, member: Member, blow: Blow) -> None:
        with _stopped(member):
            self.more(blow.lasts // 4)

    def _freeze(self, member: Member, _: Blow) -> None:
        before = self._failovers()
        with _stopped(member):
            until(lambda: self.operations() and self._failovers() > before, "calls go on elsewhere", PATIENCE)

    def _gone(self, member: Member, blow: Blow) -> None:
        member.goes()
        self.more(blow.lasts)
        until(lambda: self.operations() and self._member(member)["state"] == "down", "it is down", PATIENCE)
        member.comes_back()

    def _drain(self, member: Member, blow: Blow) -> None:
        self._tell(DRAIN, member)
        self.more(blow.lasts)
        self._tell(RESUME, member)

    def _restart(self, _: Member, number: signal.Signals) -> None:
        daemon = self._pools.daemon
        self._pipelined.is_cut_off = True
        daemon.process.send_signal(number)
        daemon.process.wait(PATIENCE)
        daemon.start()
        until(lambda: not self._pipelined.is_cut_off, "the client without a module is connected again", PATIENCE)

    def _tell(self, number: int, member: Member) -> None:
        with Client(self._pools.daemon.socket, PATIENCE) as client:
            rv, body = client.exchange(number, json.dumps({"member": member.name, "wait": False}).encode())
        assert rv == RV.CKR_OK, body


_BLOWS: dict[Kind, Callable[[Storm, Member, Blow], None]] = {
    Kind.KILL: Storm._kill,
    Kind.CRASH: lambda storm, member, _: storm._once(member, "exit"),
    Kind.CRASH_AFTER: lambda storm, member, _: storm._once(member, "exit-after"),
    Kind.ERROR: lambda storm, member, _: storm._once(member, f"rv-stays {RV.CKR_DEVICE_ERROR:#x}"),
    Kind.BUSY: lambda storm, member, _: storm._once(member, f"rv-stays {RV.CKR_FUNCTION_FAILED:#x}"),
    Kind.SLOW: Storm._slow,
    Kind.PAUSE: Storm._pause,
    Kind.FREEZE: Storm._freeze,
    Kind.GONE: Storm._gone,
    Kind.DRAIN: Storm._drain,
    Kind.RESTART: lambda storm, member, _: storm._restart(member, signal.SIGTERM),
    Kind.FALL: lambda storm, member, _: storm._restart(member, signal.SIGKILL),
}


@contextmanager
def _stopped(member: Member) -> Iterator[None]:
    hosts = member.hosts()
    for host in hosts:
        signal_to(host, signal.SIGSTOP)
    try:
        yield
    finally:
        for host in hosts:
            signal_to(host, signal.SIGCONT)


@contextmanager
def applications(daemon: RunningDaemon, count: int, threads: int, seed: int) -> Iterator[list[Application]]:
    """Run some applications; at the end none of them is left."""
    running: list[Application] = []
    try:
        for number in range(count):
            running.append(Application(f"unix:{daemon.socket}", threads, seed + 1000 * number))
        yield running
    finally:
        for each in running:
            each.kill()
