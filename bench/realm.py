"""A KDC of MIT Kerberos in a directory of its own, with a gateway's key and a client's."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Realm", "realm"]

START_DEADLINE: Final = 30.0
_REALM: Final = "KEYWAY.BENCH"
_CLIENT: Final = "bench/client"
_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAMS: Final = ("krb5kdc", "kdb5_util", "kadmin.local")

_KRB5_CONF: Final = """\
[libdefaults]
default_realm = {realm}
dns_lookup_kdc = false
dns_lookup_realm = false
dns_canonicalize_hostname = false
rdns = false
udp_preference_limit = 1
[realms]
{realm} = {{
  kdc = 127.0.0.1:{port}
}}
"""
_KDC_CONF: Final = """\
[kdcdefaults]
kdc_listen = ""
kdc_tcp_listen = 127.0.0.1:{port}
[realms]
{realm} = {{
  database_name = {home}/principal
  key_stash_file = {home}/stash
}}
[logging]
kdc = FILE:{home}/kdc.log
"""


@dataclass(frozen=True)
class Realm:
    """A realm whose KDC runs.

    Attributes:
        variables: What programs need in their environment to be in it.
        gateway: Keytab of the gateway.
        client: Keytab of who connects to it.
    """

    variables: dict[str, str]
    gateway: Path
    client: Path


@contextmanager
def realm(directory: Path, service: str) -> Iterator[Realm]:
    """Run a KDC.

    Args:
        directory: Where a directory for its files is made.
        service: Principal of the gateway.

    Raises:
        RuntimeError: There is no MIT Kerberos here, or it does not come up.
    """
    if missing := [each for each in _PROGRAMS if shutil.which(each, path=_PATH) is None]:
        raise RuntimeError(f"{', '.join(missing)} not installed (krb5-kdc, krb5-admin-server)")
    home = directory / "realm"
    home.mkdir(exist_ok=True)
    variables = {
        "KRB5_CONFIG": str(home / "krb5.conf"),
        "KRB5_KDC_PROFILE": str(home / "kdc.conf"),
        "KRB5RCACHEDIR": str(home),
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for name, text in (("krb5.conf", _KRB5_CONF), ("kdc.conf", _KDC_CONF)):
        (home / name).write_text(text.format(home=home, realm=_REALM, port=port))
    found = Realm(variables, home / "gateway.keytab", home / "client.keytab")
    environment = {**os.environ, **variables, "PATH": _PATH}
    if not (home / "principal").exists():
        _make(environment, {service: found.gateway, _CLIENT: found.client})
    with subprocess.Popen(
        ["krb5kdc", "-n"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as kdc:
        try:
            _wait(kdc, port)
            yield found
        finally:
            kdc.kill()


def _make(environment: dict[str, str], principals: dict[str, Path]) -> None:
    commands = [["kdb5_util", "create", "-s", "-r", _REALM, "-P", "bench"]]
    for name, keytab in principals.items():
        commands += [["kadmin.local", "addprinc", "-randkey", name], ["kadmin.local", "ktadd", "-k", str(keytab), name]]
    for command in commands:
        try:
            subprocess.run(command, env=environment, check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"{command[0]}: {error.stderr.decode(errors='replace').strip()}") from error


def _wait(kdc: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_DEADLINE
    while kdc.poll() is None and time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise RuntimeError("krb5kdc did not start")
