"""What is at the far end: real p11-kit programs, a real sshd, another gateway."""

import getpass
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from tests.authority import Authority, Pair
from tests.daemon.harness import KEYWAY, RunningDaemon, backend, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import PIN, slot_of, slots
from tests.p11kit.stock import RELEASES, Release

from keyway.config.locate import softhsm_module

KINDS = (
    "command",
    "server",
    "server with a URI",
    "ssh",
    "gateway",
    "gateway by tcp",
    "gateway by tls",
    "p11-kit by tls",
)
"""Kinds of far ends."""


class Remote:
    """Starts far ends over the same token, and ends them with its `with` block."""

    def __init__(self, home: Path, conf: Path, release: Release = RELEASES[0]) -> None:
        self.home = home
        self.conf = conf
        self.environment = {
            **os.environ,
            "SOFTHSM2_CONF": str(conf),
            "LD_LIBRARY_PATH": str(release.libraries),
            "XDG_RUNTIME_DIR": str(home),
        }
        self.log_kind = ""
        self._release = release
        self._stack = ExitStack()
        self._leader: subprocess.Popen[bytes] | None = None
        self._far: RunningDaemon | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def section(self, kind: str, **options: object) -> str:
        """Start a far end and return the section of its backend, called far."""
        starts: dict[str, Callable[[], dict[str, object]]] = {
            "command": self.command,
            "server": lambda: self.server(str(softhsm_module())),
            "server with a URI": lambda: self.server("--provider", str(softhsm_module()), "pkcs11:token=demo"),
            "ssh": self.ssh,
            "keyway remote": self.keyway_remote,
            "gateway": self.gateway,
            "gateway by tcp": lambda: self.gateway("tcp", "keyway"),
            "gateway by tls": lambda: self.gateway("tls", "keyway"),
            "p11-kit by tls": lambda: self.gateway("tls", "p11-kit"),
        }
        self.log_kind = "command" if kind in ("command", "keyway remote", "ssh") else "connection"
        return section("far", **{**starts[kind](), **options})

    def slot(self, daemon: RunningDaemon, client: RawClient) -> int:
        """Initialise a client, and return the slot of the token."""
        client.initialize()
        assert slots(client), daemon.log() + (self._far.log() if self._far else "")
        return slot_of(client, "demo")

    def worker(self, daemon: RunningDaemon) -> int:
        """Return the process at the far end that answers the only client of a daemon."""
        if self._far is not None:
            return self._far.process.pid
        if self._leader is None:
            (context,) = daemon.contexts()
            return context["hosts"]["far"]
        (worker,) = (pid for pid in descendants(self._leader.pid) if _program(pid) == "p11-kit-remote")
        return worker

    def come_back(self) -> None:
        """Be there again when the worker was killed."""
        if self._far is not None:
            self._far.process.wait()
            self._far.socket.unlink()
            self._far = RunningDaemon(self._far.socket.parent, self._far_config)
            self._stack.callback(self._far.stop)

    def remote_command(self) -> list[str]:
        return [str(self._release.program), "remote", str(softhsm_module())]

    def command(self) -> dict[str, object]:
        environment = {name: self.environment[name] for name in ("SOFTHSM2_CONF", "LD_LIBRARY_PATH")}
        return {"command": self.remote_command(), "environment": environment}

    def keyway_remote(self) -> dict[str, object]:
        command = [*KEYWAY, "remote", str(softhsm_module())]
        return {"command": command, "environment": {"SOFTHSM2_CONF": str(self.conf)}, "protocol": "keyway"}

    def server(self, *arguments: str) -> dict[str, object]:
        """A real p11-kit server."""
        path = self.home / "far.sock"
        self._leader = self.process(str(self._release.program), "server", "-f", "-n", str(path), *arguments)
        until(lambda: answers(path), "the server listens")
        return {"address": f"unix:path={path}", "protocol": "p11-kit"}

    def gateway(self, scheme: str = "unix", protocol: str = "keyway") -> dict[str, object]:
        """Another Keyway."""
        if scheme == "unix":
            return {"address": f"unix:{self.daemon().socket}", "protocol": protocol}
        address = f"{scheme}://127.0.0.1:{free_port()}"
        theirs, ours = self.credentials() if scheme == "tls" else ({}, {})
        self.daemon(_section("listener.net", address=address, protocol=protocol, **theirs))
        return {"address": address, "protocol": protocol, **ours}

    def credentials(self) -> tuple[dict[str, object], dict[str, object]]:
        """Return the options of TLS for both ends."""
        authority = Authority(self.home)
        server = authority.issue("gw.test", stem="server")
        client = authority.issue("client.test", stem="client")
        theirs, ours = (self._files(authority, pair) for pair in (server, client))
        return theirs, {**ours, "server_name": "gw.test"}

    def _files(self, authority: Authority, pair: Pair) -> dict[str, object]:
        return {"certificate": pair.certificate, "key": pair.key, "ca": authority.file}

    def daemon(self, more: str = "") -> RunningDaemon:
        home = self.home / "far-gateway"
        home.mkdir()
        module = backend("softhsm", softhsm_module(), environment=f'{{ SOFTHSM2_CONF = "{self.conf}" }}')
        self._far_config = '[log]\nformat = "json"\n' + module + more
        self._far = RunningDaemon(home, self._far_config)
        self._stack.callback(self._far.stop)
        return self._far

    def ssh(self) -> dict[str, object]:
        """`p11-kit remote` through a real sshd."""
        return {"command": [*self.sshd(), "env", f"SOFTHSM2_CONF={self.conf}", *self.remote_command()]}

    def sshd(self, *lines: str) -> list[str]:
        """Start an sshd, perhaps with more lines in its configuration, and return the command that logs in there."""
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.home / f"{name}.key")], check=True
            )
        shutil.copy(self.home / "user.key.pub", self.home / "authorized")
        log = self.home / "sshd.log"
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # Where sshd wants it, with nothing in it.
        for _ in range(5):
            port = free_port()
            (self.home / "sshd.conf").write_text(
                f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.home}/host.key\nPidFile none\n"
                f"AuthorizedKeysFile {self.home}/authorized\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
                + "".join(f"{line}\n" for line in lines)
            )
            log.write_text("")
            process = self.process("/usr/sbin/sshd", "-D", "-f", f"{self.home}/sshd.conf", "-E", str(log))
            until(lambda: process.poll() is not None or "listening" in log.read_text(), "sshd listens")  # noqa: B023
            if process.poll() is None:
                break
        assert process.poll() is None, log.read_text()
        self._leader = process
        key = (self.home / "host.key.pub").read_text()
        (self.home / "known").write_text(f"[127.0.0.1]:{port} {key}")
        options = {
            "IdentityFile": self.home / "user.key",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.home / "known",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "/dev/null", "-p", str(port), *words, f"{getpass.getuser()}@127.0.0.1"]

    def process(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a program that ends, with its children, when the test does."""
        process = subprocess.Popen(
            arguments, env=self.environment, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )
        self._stack.callback(_end, process)
        return process


def section(name: str, **options: Any) -> str:
    """Return the section of a backend."""
    return _section(f"backend.{name}", **options)


def answers(path: Path) -> bool:
    """Whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
        probe.connect(str(path))
        return True
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _section(name: str, **options: Any) -> str:
    return "\n".join([f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in options.items()), ""])


def make_conf(home: Path, name: str, label: str) -> Path:
    """Return a configuration of SoftHSM with one token."""
    tokens = home / f"{name}-tokens"
    tokens.mkdir()
    conf = home / f"{name}.conf"
    conf.write_text(f"directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n")
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", PIN, "--pin", PIN],
        env={"SOFTHSM2_CONF": str(conf), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return conf


def descendants(pid: int) -> set[int]:
    """Return the processes below one."""
    found: set[int] = set()
    parents = [pid]
    while parents:
        children = children_of(parents.pop()) - found
        found |= children
        parents += children
    return found


def children_of(pid: int) -> set[int]:
    with suppress(OSError):
        return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    return set()


def _program(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/exe").readlink().name
    return ""


def _toml(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case list() | tuple():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case dict():
            return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _end(process: subprocess.Popen[bytes]) -> None:
    # Its children stay when it ends by itself. The group is there as long as it is not reaped.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
    process.wait()
