"""The two sites of the IPsec demonstration: for each a network namespace, a Keyway daemon, a charon, and their files."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from stage import Stage, StepError

__all__ = ["Site", "cable", "until", "why_not"]

PATIENCE: Final = 60.0
SOFTHSM: Final = next(Path("/usr/lib").glob("**/softhsm/libsofthsm2.so"), Path("libsofthsm2.so"))
P11_KIT_CLIENT: Final = next(Path("/usr/lib").glob("*/pkcs11/p11-kit-client.so"), Path("p11-kit-client.so"))
KEYWAY: Final = (sys.executable, "-m", "keyway.cli")
CHARON: Final = "/usr/sbin/charon-systemd"
PLUGINS: Final = (
    "random nonce pem pkcs1 pkcs8 x509 revocation constraints pubkey pkcs11 openssl kdf gcm drbg "
    "kernel-libipsec kernel-netlink socket-default vici updown"
)
PIN, SO_PIN, SLOT = "12345678", "87654321", 17


def why_not() -> str:
    """Return what keeps this machine from having two network namespaces with a tunnel between them; empty if nothing does."""
    if os.geteuid() != 0:
        return "network namespaces and tunnels need root"
    tried = subprocess.run(["unshare", "--net", "--", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no network namespaces here: {tried.stderr.strip()}"
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"/dev/net/tun: {error.strerror}"
    return ""


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for a condition.

    Raises:
        StepError: It does not come true.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise StepError(f"not within {PATIENCE:.0f} s: {what}")
        time.sleep(0.05)


class Site:
    """A machine with an IPsec gateway whose key is in two HSMs (SoftHSM stands for them), behind Keyway.

    Attributes:
        name: What it is called.
        address: Its address on the cable.
        inner: Its address behind the tunnel.
        home: Where its files are.
    """

    def __init__(self, stage: Stage, home: Path, name: str, address: str, inner: str, *, p11_kit: bool) -> None:
        self._stage = stage
        self.name, self.address, self.inner = name, address, inner
        self.home = home / name
        self.home.mkdir()
        self.module = str(P11_KIT_CLIENT) if p11_kit else _printed("module")
        variable, place = ("P11_KIT_SERVER_ADDRESS", "unix:path=") if p11_kit else ("KEYWAY_ADDRESS", "unix:")
        self._address = {variable: f"{place}{self.home}/{'p11kit' if p11_kit else 'charon.sock'}"}
        script = f"ip link set lo up && ip addr add {inner}/32 dev lo && echo ready && exec cat"
        self._machine = subprocess.Popen(
            ["unshare", "--net", "--", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._machine.stdout
        if self._machine.stdout.readline() != "ready\n":
            raise StepError("the network namespace could not be made")
        self._daemon: subprocess.Popen[bytes] | None = None
        self._charon: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> str:
        """Return a process in the namespace."""
        return str(self._machine.pid)

    @property
    def _inside(self) -> list[str]:
        return ["nsenter", "--target", self.pid, "--net", "--"]

    def run(self, *command: str, show: Sequence[str] = (), quiet: bool = False) -> str:
        """Run a program in the namespace, print it as one would type it, and for each word the lines of its output that have it.

        Raises:
            StepError: It ended badly.
        """
        if not quiet:
            words = [Path(command[0]).name, *command[1:]]
            shown = shlex.join(words).replace(f"{self.home}/", "").replace(f"{self.home.parent}/", "")
            self._stage.say(f"{self.name} $ {shown.replace(_printed('module'), '$KEYWAY_MODULE')}")
        real = [*KEYWAY, *command[1:]] if command[0] == "keyway" else list(command)
        environment = {**os.environ, "KEYWAY_ADDRESS": f"unix:{self.home}/keyway.sock", **self._settings()}
        done = subprocess.run(
            [*self._inside, *real],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd=self.home,
            timeout=2 * PATIENCE,
        )
        if done.returncode:
            raise StepError(f"{command[0]} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        for line in done.stdout.splitlines():
            if any(word in line for word in show):
                self._stage.say(f"    {line.strip()}")
        return done.stdout

    def _settings(self) -> dict[str, str]:
        return {
            "SOFTHSM2_CONF": str(self.home / "hsm1.conf"),
            "STRONGSWAN_CONF": str(self.home / "swanctl-cli.conf"),
            "SWANCTL_DIR": str(self.home),
        }

    # The HSMs and their gateway

    def make_hsms(self, kind: str) -> None:
        """Make a token with a key pair, and a second one with the same key: what an HSM's own means of copying would do."""
        for name in ("hsm1", "hsm2"):
            (self.home / name).mkdir()
            lines = f"directories.tokendir = {self.home}/{name}\nobjectstore.backend = file\nlog.level = ERROR\n"
            (self.home / f"{name}.conf").write_text(lines)
        module = ("--module", str(SOFTHSM))
        self.run("softhsm2-util", "--init-token", "--free", "--label", "hsm", "--so-pin", SO_PIN, "--pin", PIN)
        make = ("--keypairgen", "--key-type", kind, "--id", "0001", "--label", "ike")
        self.run("pkcs11-tool", *module, "--login", "--pin", PIN, *make, show=["Private Key", "never extractable"])
        subprocess.run(["cp", "-r", f"{self.home}/hsm1/.", f"{self.home}/hsm2"], check=True)

    def write_keyway(self) -> None:
        """Write the daemon's configuration: the two HSMs as one pool, for charon on a socket of its own."""
        backends = "".join(
            f'[backend.{name}]\nmodule = "{SOFTHSM}"\nenvironment = {{ SOFTHSM2_CONF = "{self.home}/{name}.conf" }}\nspares = 0\n'
            for name in ("hsm1", "hsm2")
        )
        (self.home / "keyway.toml").write_text(f"""\
[listen]
socket = "{self.home}/keyway.sock"
{backends}
[token.{self.name}]
members = ["pkcs11:token=hsm?backend=hsm1", "pkcs11:token=hsm?backend=hsm2"]
slot = {SLOT}
deadline = 20
[token.hsm1]
backend = "hsm1"
label = "hsm"
slot = 1
[token.hsm2]
backend = "hsm2"
label = "hsm"
slot = 2
[listener.charon]
address = "unix:{self.home}/charon.sock"
tokens = ["pkcs11:token={self.name}"]
first_slot = {SLOT}
[listener.p11kit]
address = "unix:{self.home}/p11kit"
protocol = "p11-kit"
tokens = ["pkcs11:token={self.name}"]
first_slot = {SLOT}
""")

    def start_keyway(self) -> None:
        """Start the daemon, and wait until it serves."""
        for name in ("keyway.sock", "charon.sock", "p11kit"):
            (self.home / name).unlink(missing_ok=True)
        with (self.home / "keyway.log").open("wb") as log:
            command = [*self._inside, *KEYWAY, "serve", "-c", str(self.home / "keyway.toml")]
            self._daemon = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
        until(self._serves, "the daemon serves")

    def _serves(self) -> bool:
        assert self._daemon
        log = (self.home / "keyway.log").read_text()
        if self._daemon.poll() is not None:
            raise StepError(f"the daemon has ended:\n{log}")
        return "ready" in log

    def kill_keyway(self) -> int:
        """Kill the daemon and return the process that it was."""
        assert self._daemon
        self._daemon.kill()
        self._daemon.wait()
        return self._daemon.pid

    def lose_hsm1(self) -> None:
        """Let the first HSM be gone: its files are taken away, and the processes that had them open are killed."""
        (self.home / "hsm1").rename(self.home / "hsm1-away")
        own = f"SOFTHSM2_CONF={self.home}/hsm1.conf".encode()
        for path in Path("/proc").glob("[0-9]*"):
            try:
                is_host = (path / "comm").read_text() == "keyway-host\n" and own in (path / "environ").read_bytes()
            except OSError:
                continue
            if is_host:
                os.kill(int(path.name), signal.SIGKILL)

    def state_of_hsm1(self) -> str:
        """Return how the first HSM does."""
        told = json.loads(self.run("keyway", "status", "--json", quiet=True))
        state: str = next(each["state"] for each in told["pools"][self.name]["members"] if each["member"] == "hsm1")
        return state

    def store(self, certificate: Path) -> None:
        """Put a certificate beside the key, in both HSMs, in the place of one that is there."""
        tool = ("pkcs11-tool", "--module", _printed("module"), "--login", "--pin", PIN)
        for slot in ("1", "2"):
            if "Certificate" in self.run(*tool, "--slot", slot, "--list-objects", "--type", "cert", quiet=True):
                self.run(*tool, "--slot", slot, "--delete-object", "--type", "cert", "--id", "0001", quiet=True)
            write = ("--write-object", str(certificate), "--type", "cert", "--id", "0001", "--label", self.name)
            self.run(*tool, "--slot", slot, *write, quiet=slot == "2")

    def public_key(self) -> Path:
        """Return a file with the public key."""
        path = self.home / "ike.pub"
        read = ("--read-object", "--type", "pubkey", "--id", "0001", "--output-file", str(path))
        self.run("pkcs11-tool", "--module", _printed("module"), "--slot", str(SLOT), *read, quiet=True)
        return path

    # charon

    def start_charon(self, rendered: Path) -> None:
        """Start charon with the rendered section of strongswan.conf, and wait until it answers."""
        (self.home / "swanctl-cli.conf").write_text("swanctl {\n  load = pem pkcs1 x509 openssl\n}\n")
        (self.home / "charon.conf").write_text(f"""\
charon {{
  load = {PLUGINS}
  install_virtual_ip = no
  filelog {{
    log {{
      path = {self.home}/charon.log
      flush_line = yes
    }}
  }}
  plugins {{
    vici {{
      socket = unix://{self.home}/vici
    }}
    kernel-libipsec {{
      load = yes
    }}
  }}
}}
include {rendered}/strongswan.conf
""")
        self._charon = subprocess.Popen(
            [*self._inside, CHARON],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "STRONGSWAN_CONF": str(self.home / "charon.conf"), **self._address},
        )
        until(self._answers, "charon answers")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as tried:
            return tried.connect_ex(str(self.home / "vici")) == 0

    @property
    def charon(self) -> int:
        """Return charon's process."""
        assert self._charon
        return self._charon.pid

    @property
    def address_line(self) -> str:
        """Return what charon has in its environment, as in a unit file."""
        return "".join(f"{name}={value}" for name, value in self._address.items())

    def log(self) -> str:
        """Return charon's log."""
        return (self.home / "charon.log").read_text()

    def swanctl(self, *arguments: str, show: Sequence[str] = (), quiet: bool = False) -> str:
        """Run swanctl; see `run`."""
        return self.run("swanctl", *arguments, "--uri", f"unix://{self.home}/vici", show=show, quiet=quiet)

    def close(self) -> None:
        """End everything."""
        for process in (self._charon, self._daemon):
            if process is not None and process.poll() is None:
                process.terminate()
                process.wait(PATIENCE)
        self._machine.communicate("")


def cable(one: Site, other: Site) -> None:
    """Join two sites by a cable."""
    make = ["ip", "link", "add", "eth0", "netns", one.pid, "type", "veth", "peer", "name", "eth0", "netns", other.pid]
    subprocess.run(make, check=True)
    for each in (one, other):
        each.run("ip", "addr", "add", f"{each.address}/24", "dev", "eth0", quiet=True)
        each.run("ip", "link", "set", "eth0", "up", quiet=True)


@cache
def _printed(*arguments: str) -> str:
    """Return what a command of Keyway prints."""
    return subprocess.run([*KEYWAY, *arguments], capture_output=True, text=True, check=True).stdout.strip()
