"""What the way to the gateway costs: TLS beside a unix socket, and Kerberos beside the same way without it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Final

from failover import Outcome
from gateway import SERVER_NAME, Daemon, tls_variables
from measure import Figure, samples_in_turn
from pools import Pooled, pooled
from realm import Realm, realm
from report import summary
from subjects import PLAIN, Environment, Subject

__all__ = ["EVENTS"]

ROUNDS: Final = 11
SECONDS: Final = 0.5
_THREADS: Final = (1, 8)

UNIX: Final = "unix"
TLS: Final = "tls"
AGENT: Final = "agent-unix"
AGENT_TLS: Final = "agent-tls"
AGENT_GSS: Final = "agent-gss"
AGENT_TLS_KERBEROS: Final = "agent-tls-kerberos"
"""The ways, all of them to the same daemon. With agent: over another daemon, which libkeyway.so reaches by a unix socket."""
_OVER_TLS: Final = ((TLS, UNIX),)
_OVER_KERBEROS: Final = (
    (AGENT, UNIX),
    (AGENT_TLS, AGENT),
    (AGENT_GSS, AGENT),
    (AGENT_GSS, UNIX),
    (AGENT_TLS_KERBEROS, AGENT_TLS),
    (AGENT_TLS_KERBEROS, UNIX),
)
"""What is compared: the second without what the first has in addition."""

_TLS: Final = """\
[listener.tls]
address = "tls://127.0.0.1:0"
certificate = "{files}/server.pem"
key = "{files}/server.key"
ca = "{files}/ca.pem"
"""
_KERBEROS: Final = """\
[listener.gss]
address = "gss://127.0.0.1:0"
keytab = "{keytab}"
[listener.tls-kerberos]
address = "tls://127.0.0.1:0"
certificate = "{files}/server.pem"
key = "{files}/server.key"
client_certificates = "none"
kerberos = true
keytab = "{keytab}"
"""
_AGENT: Final = """\
[log]
format = "json"
[listen]
socket = "{home}/k.sock"
[backend.gateway]
address = "{address}"
"""
_BY_CERTIFICATE: Final = """\
ca = "{files}/ca.pem"
certificate = "{files}/client.pem"
key = "{files}/client.key"
server_name = "{server_name}"
"""
_BY_TICKET: Final = """\
keytab = "{keytab}"
service = "pkcs11@{server_name}"
"""
_BY_TICKET_IN_TLS: Final = """\
kerberos = true
ca = "{files}/ca.pem"
server_name = "{server_name}"
"""


def _over_tls(environment: Environment, directory: Path, load: Path, threads: int) -> Outcome:
    """Sign at one daemon over a unix socket and over TLS, in turn."""
    with pooled(PLAIN, environment, directory, more=_TLS.format(files=_files(directory))) as daemon:
        _, tls = _addresses(daemon)
        ways = {
            UNIX: daemon.subject,
            TLS: replace(daemon.subject, variables={**tls_variables(directory), "KEYWAY_ADDRESS": tls}),
        }
        return _compared(ways, _OVER_TLS, environment, load, threads)


def _over_kerberos(environment: Environment, directory: Path, load: Path, threads: int) -> Outcome:
    """Sign at one daemon over a unix socket, and over agents that reach it in four ways, in turn."""
    if find_spec("gssapi") is None:
        raise RuntimeError("the package gssapi is not installed")
    files = _files(directory)
    with contextlib.ExitStack() as stack:
        kerberos = stack.enter_context(realm(directory, f"pkcs11/{SERVER_NAME}"))
        listeners = (_TLS + _KERBEROS).format(files=files, keytab=kerberos.gateway)
        daemon = stack.enter_context(
            pooled(PLAIN, environment, directory, more=listeners, variables=kerberos.variables)
        )
        unix, tls, gss, tls_kerberos = _addresses(daemon)
        backends = {
            AGENT: (unix, ""),
            AGENT_TLS: (tls, _BY_CERTIFICATE),
            AGENT_GSS: (gss, _BY_TICKET),
            AGENT_TLS_KERBEROS: (tls_kerberos, _BY_TICKET + _BY_TICKET_IN_TLS),
        }
        ways = {UNIX: daemon.subject}
        for name, (address, text) in backends.items():
            more = text.format(files=files, keytab=kerberos.client, server_name=SERVER_NAME)
            home = daemon.home / name
            config = _AGENT.format(home=home, address=address) + more
            ways[name] = stack.enter_context(_agent(home, config, daemon.subject, kerberos))
        return _compared(ways, _OVER_KERBEROS, environment, load, threads)


def _files(directory: Path) -> Path:
    """Return where the certificates are that the benchmark's own daemon has."""
    if not (directory / "client.pem").exists():
        raise RuntimeError("no certificates could be made")
    return directory


def _addresses(daemon: Pooled) -> list[str]:
    """Return where a daemon listens, in the order of its configuration."""
    return [event["address"] for event in daemon.daemon.events("listening")]


@contextlib.contextmanager
def _agent(home: Path, config: str, subject: Subject, kerberos: Realm) -> Iterator[Subject]:
    """Run a daemon whose only backend is the gateway, which is what `keyway agent` is."""
    home.mkdir()
    with contextlib.closing(Daemon(home, config, kerberos.variables)) as daemon:
        if why := daemon.start():
            raise RuntimeError(why)
        yield replace(subject, server=daemon.pid).through(str(home / "k.sock"))


def _compared(
    ways: dict[str, Subject], pairs: tuple[tuple[str, str], ...], environment: Environment, load: Path, threads: int
) -> Outcome:
    figure = Figure("transports", "p256-sign", threads=threads)
    taken = samples_in_turn(figure, ways, environment, load, ROUNDS, SECONDS)
    ratios = {
        f"{one}/{other}": [a.rate / b.rate for a, b in zip(taken[one], taken[other], strict=True)]
        for one, other in pairs
    }
    told = [f"{UNIX} {median(each.rate for each in taken[UNIX]):,.0f}/s"]
    told += [f"{name} {median(each):.2f} ({min(each):.2f}-{max(each):.2f})" for name, each in ratios.items()]
    costs = {name: summary(samples) for name, samples in taken.items()}
    cpu = [
        f"{name} {cost['client_cpu_us_per_op']:.0f} + {cost['server_cpu_us_per_op']:.0f}"
        for name, cost in costs.items()
    ]
    return Outcome(
        None,
        {name: median(each) for name, each in ratios.items()},
        f"{'   '.join(told)}\n{'':<30}cpu us a signature, of the client + of the daemon that it reaches: {'   '.join(cpu)}",
    )


def _event(
    measure: Callable[[Environment, Path, Path, int], Outcome], threads: int
) -> Callable[[Environment, Path, Path], Outcome]:
    return lambda environment, directory, load: measure(environment, directory, load, threads)


EVENTS: Final = {
    f"transports {name} p256-sign x{threads}": _event(measure, threads)
    for name, measure in (("tls", _over_tls), ("kerberos", _over_kerberos))
    for threads in _THREADS
}
"""What measures each figure, by its name. None has a target: they are told."""
