"""How long two charons take to set up an IKE SA, with the key of one of them in a token that it reaches in different ways."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

import vici
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from failover import Outcome
from subjects import DIRECT, KEYWAY, P11KIT, Environment, Subject, p11kit_server, subjects

__all__ = ["ADDED", "IKE", "set_up"]

ADDED: Final = "ms added in the median"
"""Name of a quantity."""
IKE: Final = {"ike sa rsa2048": "RSA:2048", "ike sa p256": "EC:prime256v1"}
"""Types of keys, as pkcs11-tool has them, by the name of the figure."""

ROUNDS: Final = 50
WARM_UP: Final = 3
DEADLINE: Final = 20.0
WAYS: Final = (DIRECT, KEYWAY, P11KIT)
"""Each has a pair of charons of its own: charon looks at all keys that it has whenever it needs one."""
NAME: Final = "bench"

CHARON: Final = "/usr/sbin/charon-systemd"
_MOON, _SUN = "192.0.2.1", "192.0.2.2"
_PROPOSAL: Final = "aes128-sha256-ecp256"
_SETTINGS: Final = """\
charon {{
  load = random nonce pem pkcs1 pkcs8 pubkey pkcs11 openssl kdf gcm drbg kernel-netlink socket-default vici
  filelog {{
    log {{
      path = {home}/log
      default = 0
    }}
  }}
  plugins {{
    vici {{
      socket = unix://{home}/vici
    }}
    pkcs11 {{
      modules {{
{modules}      }}
    }}
  }}
}}
"""
_MODULE: Final = """\
        {name} {{
          path = {path}
          os_locking = yes
          load_certs = no
        }}
"""


def set_up(environment: Environment, directory: Path, key_type: str) -> Outcome:
    """Set up IKE SAs, 50 with each way to the key, the ways in turn. Only an SA is made, no child: ESP has no part in this.

    Args:
        environment: Token and modules.
        directory: Where files may be made; the path must be short.
        key_type: Of the initiator's keys.

    Raises:
        RuntimeError: It can't be measured here.
    """
    _check()
    home = directory / "ike"
    home.mkdir(exist_ok=True)
    with ExitStack() as stack:
        stock = stack.enter_context(p11kit_server(environment.direct_module, home, whole_module=True))
        ways = {name: subjects(environment, stock, "")[name] for name in WAYS}
        initiators = {
            name: stack.enter_context(_initiator(way, environment, home / name, key_type)) for name, way in ways.items()
        }
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for turn in range(WARM_UP + ROUNDS):
            shift = turn % len(WAYS)
            for name in (*WAYS[shift:], *WAYS[:shift]):
                took = _once(initiators[name])
                if turn >= WARM_UP:
                    times[name].append(took)
    return _outcome(times)


def _outcome(times: Mapping[str, list[float]]) -> Outcome:
    added = {name: median(times[name]) - median(times[DIRECT]) for name in (KEYWAY, P11KIT)}
    spread = {name: [1000 * part for part in quantiles(taken, n=4)] for name, taken in times.items()}
    told = "   ".join(f"{name} {half:.2f} ms ({low:.2f}-{high:.2f})" for name, (low, half, high) in spread.items())
    more = ", ".join(f"{name} {1000 * value:+.2f} ms" for name, value in added.items())
    return Outcome(None, {ADDED: 1000 * added[KEYWAY]}, f"{told}   added: {more}")


@contextmanager
def _initiator(way: Subject, environment: Environment, home: Path, key_type: str) -> Iterator[Any]:
    """Run two charons with a cable between them; gives a vici session with the one whose key is in the token."""
    if way.missing:
        raise RuntimeError(f"{way.name}: {way.missing}")
    home.mkdir(exist_ok=True)
    key, answering = _make_key(environment, key_type, way.name), _key_pair()
    with ExitStack() as stack:
        moon, sun = (stack.enter_context(_machine()) for _ in range(2))
        _cable(moon, sun)
        theirs = stack.enter_context(_charon(sun, home / "sun", {}, {}))
        theirs.load_key({"type": "any", "data": answering.private})
        theirs.load_conn({NAME: _connection(_SUN, _MOON, answering.public, key.public, "sun", "moon")})
        ours = stack.enter_context(_charon(moon, home / "moon", {"token": way.module}, way.variables))
        token = {"handle": key.id, "slot": str(_slot(way, environment)), "module": "token"}
        ours.load_token({**token, "pin": environment.pin})
        ours.load_conn({NAME: _connection(_MOON, _SUN, key.public, answering.public, "moon", "sun")})
        yield ours


def _once(charon: Any) -> float:
    """Set up an SA, and take it down again. Return how many seconds the first of these took."""
    wait = {"ike": NAME, "timeout": str(int(DEADLINE * 1000)), "loglevel": "-1"}
    began = time.perf_counter()
    list(charon.initiate(wait))
    took = time.perf_counter() - began
    list(charon.terminate(wait))
    return took


def _connection(local: str, remote: str, mine: bytes, theirs: bytes, name: str, other: str) -> dict[str, Any]:
    return {
        "version": "2",
        "childless": "force",
        "proposals": [_PROPOSAL],
        "local_addrs": [local],
        "remote_addrs": [remote],
        "local": {"auth": "pubkey", "id": f"{name}.example", "pubkeys": [mine]},
        "remote": {"auth": "pubkey", "id": f"{other}.example", "pubkeys": [theirs]},
    }


# Keys


@dataclass(frozen=True)
class _Pair:
    public: bytes
    private: bytes


@dataclass(frozen=True)
class _TokenKey:
    id: str
    public: bytes


def _key_pair() -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return _Pair(key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo), private)


def _make_key(environment: Environment, key_type: str, way: str) -> _TokenKey:
    identifier = f"1ce{[*IKE.values()].index(key_type):02x}{WAYS.index(way):03x}"
    tool = ["pkcs11-tool", "--module", str(environment.direct_module), "--token-label", environment.token]
    named = ["--id", identifier, "--label", f"bench-ike-{identifier}"]
    login = ["--login", "--pin", environment.pin]
    _run(*tool, *login, "--keypairgen", "--key-type", key_type, *named)
    der = _run(*tool, "--read-object", "--type", "pubkey", "--id", identifier)
    public = serialization.load_der_public_key(der)
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return _TokenKey(identifier, pem)


def _slot(way: Subject, environment: Environment) -> int:
    listed = subprocess.run(
        ["pkcs11-tool", "--module", str(way.module), "--list-token-slots"],
        env=way.environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    number = ""
    for line in listed.splitlines():
        if line.startswith("Slot "):
            number = line.partition("(")[2].partition(")")[0]
        elif line.strip().startswith("token label") and line.rpartition(":")[2].strip() == environment.token:
            return int(number, 0)
    raise RuntimeError(f"{way.name} does not show the token {environment.token}")


# Charons, each in a network of its own


def _check() -> None:
    for program in ("unshare", "nsenter", "ip", CHARON, "pkcs11-tool"):
        if shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin") is None:
            raise RuntimeError(f"{program} is not installed")
    if os.geteuid() != 0:
        raise RuntimeError("only root can make network namespaces for charon")


@contextmanager
def _machine() -> Iterator[str]:
    """A network namespace; gives the process that holds it."""
    script = "ip link set lo up && echo ready && exec cat"
    holder = subprocess.Popen(
        ["unshare", "--net", "--", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        if holder.stdout is None or holder.stdout.readline() != "ready\n":
            raise RuntimeError("network namespaces can't be made here")
        yield str(holder.pid)
    finally:
        holder.communicate("")


def _cable(moon: str, sun: str) -> None:
    _run("ip", "link", "add", "eth0", "netns", moon, "type", "veth", "peer", "name", "eth0", "netns", sun)
    for pid, address in ((moon, _MOON), (sun, _SUN)):
        inside = ("nsenter", "--target", pid, "--net", "--")
        _run(*inside, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
        _run(*inside, "ip", "link", "set", "eth0", "up")


@contextmanager
def _charon(machine: str, home: Path, modules: Mapping[str, Path], variables: Mapping[str, str]) -> Iterator[Any]:
    """Run charon; gives a vici session."""
    home.mkdir(exist_ok=True)
    path = home / "vici"
    path.unlink(missing_ok=True)
    settings = home / "strongswan.conf"
    told = "".join(_MODULE.format(name=name, path=module) for name, module in modules.items())
    settings.write_text(_SETTINGS.format(home=home, modules=told))
    with (home / "output").open("wb") as output:
        process = subprocess.Popen(
            ["nsenter", "--target", machine, "--net", "--", CHARON],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables, "STRONGSWAN_CONF": str(settings), "OPENSSL_ENGINES": str(home)},
        )
    connection = socket.socket(socket.AF_UNIX)
    try:
        deadline = time.monotonic() + DEADLINE
        while connection.connect_ex(str(path)) != 0:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"charon did not start: {(home / 'output').read_text()[-300:]}")
            time.sleep(0.02)
        yield vici.Session(connection)
    finally:
        connection.close()
        process.terminate()
        process.wait()


def _run(*command: str) -> bytes:
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:4])}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return done.stdout
