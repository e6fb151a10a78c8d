"""A real charon, with its files in a directory of its own."""

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import vici
from tests.daemon.harness import until
from tests.strongswan.network import Machine

LIBRARY = "/usr/sbin/charon-systemd"
PLUGINS = (
    "random nonce pem pkcs1 pkcs8 x509 revocation constraints pubkey pkcs11 openssl kdf gcm drbg "
    "kernel-libipsec kernel-netlink socket-default vici updown"
)
BASE = """\
charon {{
  load = {plugins}
  install_virtual_ip = no
  retransmit_tries = 8
  half_open_timeout = 300
  filelog {{
    log {{
      path = {home}/log
      time_format = %s
      default = 1
      flush_line = yes
    }}
  }}
  plugins {{
    vici {{
      socket = unix://{home}/vici
    }}
    kernel-libipsec {{
      load = yes
    }}
  }}
}}
include {module}
"""
PATIENCE = 60.0


class Charon:
    """A charon in a machine. It is its own process; nobody else on this system is touched.

    Attributes:
        machine: Where it runs.
        home: Where its files are.
        vici: A vici session.
    """

    def __init__(self, machine: Machine, home: Path, module: Path, environment: Mapping[str, str]) -> None:
        """Start it.

        Args:
            machine: Where.
            home: Directory for its files; the path must be short.
            module: strongswan.conf with the section of its PKCS #11 module.
            environment: What it has in its environment.
        """
        self.machine = machine
        self.home = home
        home.mkdir(exist_ok=True)
        conf = home / "base.conf"
        conf.write_text(BASE.format(plugins=PLUGINS, home=home, module=module))
        (home / "swanctl-cli.conf").write_text("swanctl {\n  load = pem pkcs1 x509 openssl\n}\n")
        self.socket = home / "vici"
        for left in (self.socket, home / "log"):
            left.unlink(missing_ok=True)
        self._output = (home / "output").open("wb")
        self.process = subprocess.Popen(
            [*machine.inside, LIBRARY],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            # No OpenSSL engine: a key that is not found in the token must not be found elsewhere.
            env={"PATH": os.environ["PATH"], "STRONGSWAN_CONF": str(conf), "OPENSSL_ENGINES": str(home), **environment},
        )
        until(self._answers, "charon answers", PATIENCE)

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        self._connection = socket.socket(socket.AF_UNIX)
        try:
            self._connection.settimeout(PATIENCE)
            self._connection.connect(str(self.socket))
        except OSError:
            self._connection.close()
            return False
        self.vici: Any = vici.Session(self._connection)
        return True

    def log(self) -> str:
        try:
            return (self.home / "log").read_text()
        except FileNotFoundError:
            return (self.home / "output").read_text()

    def swanctl(self, *arguments: str, fails: bool = False) -> str:
        """Run the real swanctl, which must end well unless it shall fail, and return what it printed."""
        done = subprocess.run(
            ["/usr/sbin/swanctl", *arguments, "--uri", f"unix://{self.socket}"],
            capture_output=True,
            text=True,
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "STRONGSWAN_CONF": str(self.home / "swanctl-cli.conf"),
                "SWANCTL_DIR": str(self.home),
            },
        )
        assert (done.returncode != 0) == fails, (
            f"swanctl {' '.join(arguments)}: {done.stdout}{done.stderr}\n{self.log()}"
        )
        return done.stdout + done.stderr

    def sas(self, name: str = "") -> list[dict[str, Any]]:
        """The IKE SAs, those of one connection if it is named."""
        return [
            dict(sa, name=key) for each in self.vici.list_sas() for key, sa in each.items() if key == name or not name
        ]

    def stop(self) -> None:
        """End it."""
        self._connection.close()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._output.close()
