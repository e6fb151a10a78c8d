"""Two machines with a cable between them: network namespaces that end with the test, whatever becomes of it."""

import os
import shutil
import subprocess
from pathlib import Path

TUN = Path("/dev/net/tun")


def why_not() -> str:
    """Why there can be no tunnel on this machine; empty if there can."""
    for program in ("unshare", "nsenter", "ip", "charon-systemd"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            return f"{program} is not installed"
    tried = subprocess.run(
        ["unshare", "--net", "--", "ip", "link", "add", "kt0", "type", "veth"],
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode:
        return f"network namespaces can't be made here: {tried.stderr.strip()}"
    try:
        os.close(os.open(TUN, os.O_RDWR))
    except OSError as error:
        return f"{TUN}: {error.strerror}"
    return ""


class Here:
    """This machine, for tests that need no other."""

    inside: tuple[str, ...] = ()

    def close(self) -> None:
        """Nothing ends."""


class Machine:
    """A network namespace. It lasts as long as this process holds it.

    Attributes:
        address: Its address on the cable.
        inner: Its address behind the tunnel.
    """

    def __init__(self, address: str, inner: str) -> None:
        self.address = address
        self.inner = inner
        # cat ends when nobody holds its input any more.
        script = f"ip link set lo up && ip addr add {inner}/32 dev lo && echo ready && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout
        assert self._holder.stdout.readline() == "ready\n"

    @property
    def pid(self) -> str:
        """A process in it."""
        return str(self._holder.pid)

    @property
    def inside(self) -> tuple[str, ...]:
        """What runs a program in it, put before its arguments. The process stays the same."""
        return ("nsenter", "--target", self.pid, "--net", "--")

    def run(self, *command: str) -> str:
        """Run a program in it, which must end well, and return what it printed."""
        done = subprocess.run([*self.inside, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def reaches(self, other: "Machine") -> bool:
        """Whether a packet gets from the address behind the tunnel to that of another machine, and back."""
        ping = ["ping", "-n", "-q", "-c", "1", "-W", "1", "-I", self.inner, other.inner]
        return subprocess.run([*self.inside, *ping], capture_output=True, check=False).returncode == 0

    def close(self) -> None:
        """Let it end with its last process."""
        self._holder.communicate("")


def cable(one: Machine, other: Machine) -> None:
    """Join two machines."""
    make = ["ip", "link", "add", "eth0", "netns", one.pid, "type", "veth", "peer", "name", "eth0", "netns", other.pid]
    subprocess.run(make, check=True)
    for each in (one, other):
        each.run("ip", "addr", "add", f"{each.address}/24", "dev", "eth0")
        each.run("ip", "link", "set", "eth0", "up")
