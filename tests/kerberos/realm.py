"""A real KDC of MIT Kerberos in a directory of its own, on loopback."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.daemon.harness import until

REALM = "KEYWAY.TEST"
PASSWORD = "correct horse"
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
ATTEMPTS = 5
"""Ports that are tried: another process may take one between its choice and the KDC."""

_KRB5_CONF = """\
[libdefaults]
default_realm = {realm}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
forwardable = true
udp_preference_limit = 1
default_ccache_name = FILE:{home}/nobody.ccache
default_keytab_name = FILE:{home}/none.keytab
[realms]
{realm} = {{
  kdc = 127.0.0.1:{port}
}}
"""

_KDC_CONF = """\
[kdcdefaults]
kdc_listen = ""
kdc_tcp_listen = 127.0.0.1:{port}
[realms]
{realm} = {{
  database_name = {home}/principal
  key_stash_file = {home}/stash
  max_life = 10h
}}
[logging]
kdc = FILE:{home}/kdc.log
"""


class Realm:
    """The realm KEYWAY.TEST.

    Attributes:
        home: Where its files are.
        environment: What programs need in their environment to be in it, with nobody's ticket.
        keytab: The keys of its services, those that were made first.
        port: The KDC's port.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {
            "KRB5_CONFIG": str(home / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(home / "kdc.conf"),
            "KRB5RCACHEDIR": str(home),
            "KRB5CCNAME": f"FILE:{home}/nobody.ccache",
        }
        self.keytab = home / "service.keytab"
        self.port = ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the database, and start the KDC."""
        self._configure(1)
        self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master")
        for _ in range(ATTEMPTS):
            if self._listens():
                return
        raise AssertionError((self.home / "kdc.log").read_text())

    def stop(self) -> None:
        """End the KDC."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def service(self, *names: str, keytab: str = "") -> None:
        """Make services, and write their keys to a keytab, by default the realm's."""
        for name in names:
            self._administer(f"addprinc -randkey {name}")
            self.add_key(name, keytab)

    def add_key(self, name: str, keytab: str = "") -> None:
        """Give a service a new key, and write it to a keytab."""
        self._administer(f"ktadd -k {self.home / keytab if keytab else self.keytab} {name}")

    def user(self, name: str) -> None:
        """Make a user."""
        self._administer(f'addprinc -pw "{PASSWORD}" {name}')

    def ticket(self, name: str, *options: str) -> dict[str, str]:
        """Log a user in, and return the environment of the user's programs.

        Args:
            name: The user.
            options: Of kinit.
        """
        environment = {**self.environment, "KRB5CCNAME": f"FILE:{self.home}/{name}.ccache"}
        self._run("kinit", *options, name, environment=environment, text=f"{PASSWORD}\n")
        return environment

    def _configure(self, port: int) -> None:
        for name, text in (("krb5.conf", _KRB5_CONF), ("kdc.conf", _KDC_CONF)):
            (self.home / name).write_text(text.format(home=self.home, realm=REALM, port=port))

    def _listens(self) -> bool:
        """Start the KDC on a free port; return whether it could take it."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.port = str(port)
        self._configure(port)
        with (self.home / "kdc.out").open("ab") as output:
            process = self._process = subprocess.Popen(
                ["krb5kdc", "-n"],
                env={**self.environment, "PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        until(lambda: process.poll() is not None or _answers(port), "the KDC listens", 60)
        return process.poll() is None

    def _administer(self, command: str) -> None:
        self._run("kadmin.local", "-q", command)

    def _run(self, *arguments: str, environment: dict[str, str] | None = None, text: str = "") -> None:
        done = subprocess.run(
            arguments,
            env={**(environment or self.environment), "PATH": PATH},
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout


def section(realm: Realm) -> str:
    """Return the section of a listener that wants tickets."""
    return f'[listener.net]\naddress = "gss://127.0.0.1:0"\nkeytab = "{realm.keytab}"\n'


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running_realm(home: Path) -> Iterator[Realm]:
    """Give a realm whose KDC runs."""
    realm = Realm(home)
    try:
        realm.start()
        yield realm
    finally:
        realm.stop()
