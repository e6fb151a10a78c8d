"""A module that tries to get out of its host: nothing of what is closed can be done, and nobody else notices.

What is tried is tried without a sandbox, too, where that hurts nobody: there it can be done.
"""

import errno
import os
import re
import shutil
import socket
from pathlib import Path

import pytest
from tests.isolation.conftest import facts_of, needs_landlock

from keyway.backend.own_users import COUNT, FIRST

BOTH_STARTS = pytest.mark.parametrize("start_", ["load", "copy"])
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can")
CAN_TRACE = pytest.mark.skipif(
    not int(re.findall(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())[0], 16) >> 19 & 1,
    reason="only who has CAP_SYS_PTRACE can",
)
CAPABILITIES_OVER_OTHERS = (5, 6, 7, 8, 16, 19, 21, 24)
"""CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_SYS_MODULE, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_SYS_RESOURCE."""
MEMORY = 4 << 30
"""Bytes: room for the host, and less than the module tries to map."""


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def place(home):
    """A directory with what may be read, changed, and neither."""
    for name in ("read", "write", "secret"):
        (home / name).mkdir()
        (home / name / "file").write_text("text")
    return home


def strict(place: Path) -> str:
    return (
        f'{{ read = ["{place}/read"], write = ["{place}/write"], network = false, processes = false, '
        f"memory = {MEMORY}, open_files = 100 }}"
    )


def token_file(place: Path) -> Path:
    return next(path for path in (place / "tokens-good").rglob("*.object"))


def on_files(place: Path) -> dict[str, int]:
    """What a module does to files that are none of its business, and the errors."""
    return dict.fromkeys(
        [
            f"read {token_file(place)}",
            f"write {token_file(place)}",
            f"read {place}/keyway.toml",
            f"read {place}/secret/file",
            f"read {place}/read/../secret/file",
            f"read /proc/self/root{place}/secret/file",
            f"write {place}/secret/new",
            f"write {place}/read/file",
            f"write {place}/read/new",
            "read /etc/passwd",
        ],
        errno.EACCES,
    )


def on_processes(victim: int) -> dict[str, int]:
    return {
        f"trace {victim}": errno.EPERM,
        f"peek {victim}": errno.EPERM,
        f"memory {victim}": errno.EACCES,
        f"kill {victim} 0": errno.EPERM,
        f"limit {victim}": errno.EPERM,
    }


def on_the_network(port: int) -> dict[str, int]:
    return {f"connect {port}": errno.EAFNOSUPPORT, f"socket {socket.AF_NETLINK}": errno.EAFNOSUPPORT}


ON_RESOURCES = {
    "fork": errno.EPERM,
    "run": errno.EPERM,
    "fill": errno.ENOMEM,
    "shared": errno.ENOMEM,
    "hidden": errno.EPERM,
    "files": errno.EMFILE,
}
CALLS = [
    "mount",
    "umount2",
    "pivot_root",
    "chroot",
    "unshare",
    "setns",
    "bpf",
    "perf_event_open",
    "keyctl",
    "add_key",
    "request_key",
    "userfaultfd",
    "io_uring_setup",
    "kexec_load",
    "init_module",
    "open_by_handle_at",
    "swapon",
    "acct",
    "reboot",
    "kcmp",
    "pidfd_getfd",
]


def allowed(place: Path, path: Path) -> list[str]:
    return [
        f"read {place}/read/file",
        f"read {place}/write/file",
        f"write {place}/write/new",
        f"unix {path}",
        "read /dev/urandom",
        "write /dev/null",
        "read /proc/self/maps",
        "thread",
    ]


def check(attacker, attempts: dict[str, int]) -> None:
    assert {words: attacker.attempt(words) for words in attempts} == attempts


@needs_landlock
@BOTH_STARTS
def test_in_a_strict_sandbox_it_reaches_what_it_was_given_and_nothing_else(begin, place, listener, start_):
    attacker = begin(strict(place), start=f'"{start_}"')
    daemon, victim = attacker.daemon.process.pid, attacker.hosts()["good"]
    check(attacker, on_files(place))
    check(attacker, on_processes(victim))
    check(attacker, on_processes(daemon) | {f"kill {daemon} 9": errno.EPERM, f"kill {victim} 9": errno.EPERM})
    check(attacker, on_the_network(listener))
    check(attacker, ON_RESOURCES | {"bomb": errno.EPERM, "exec": errno.EPERM})
    check(attacker, {f"call {name}": errno.EPERM for name in CALLS})
    check(attacker, dict.fromkeys(allowed(place, attacker.daemon.socket), 0))
    assert (place / "secret" / "file").read_text() == "text"
    assert attacker.hosts()["good"] == victim
    assert not attacker.daemon.events("module hosts are less confined")


@needs_landlock
@BOTH_STARTS
@pytest.mark.parametrize("sandbox", ["{ enabled = false }", "{}", "strict"])
def test_shared_memory_is_its_own_and_stays_as_large_as_it_is(begin, place, start_, sandbox):
    attacker = begin(strict(place) if sandbox == "strict" else sandbox, start=f'"{start_}"')
    attacker.let_another_digest()
    check(attacker, {"scribble": 0})
    for size in (0, 4096, 1 << 30):
        # Whoever can't trace processes can't open the file again; who can finds its size sealed.
        assert attacker.attempt(f"resize {size}") in (errno.EPERM, errno.EACCES, errno.ENOENT)
    check(attacker, {"scribble": 0})
    if sandbox != "{ enabled = false }":
        victims = [attacker.hosts()["good"], attacker.daemon.process.pid]
        for victim in victims:
            assert attacker.attempt(f"maps {victim}") in (errno.EPERM, errno.EACCES)
    attacker.let_another_digest()
    assert attacker.ends("beyond")
    attacker.let_another_digest()


@AS_ROOT
@CAN_TRACE
def test_without_a_sandbox_all_that_can_be_done(begin, place, listener):
    attacker = begin("{ enabled = false }", good='{ user = "root" }')
    victim = attacker.hosts()["good"]
    tried = on_files(place) | on_processes(victim) | on_the_network(listener) | ON_RESOURCES
    del tried["files"]
    found = {words: attacker.attempt(words) for words in tried}
    # Allowed, but there is nothing at the address.
    assert found.pop(f"peek {victim}") == errno.EFAULT
    assert set(found.values()) == {0}, found
    assert attacker.ends("exec")


@needs_landlock
@BOTH_STARTS
def test_by_default_other_processes_and_the_network_are_closed_and_nothing_else(begin, place, listener, start_):
    attacker = begin(start=f'"{start_}"')
    daemon, victim = attacker.daemon.process.pid, attacker.hosts()["good"]
    check(attacker, on_processes(victim))
    check(attacker, on_processes(daemon) | {f"kill {daemon} 9": errno.EPERM})
    check(attacker, {f"call {name}": errno.EPERM for name in CALLS})
    check(attacker, on_the_network(listener))
    open_ = [*on_files(place), *ON_RESOURCES, *allowed(place, attacker.daemon.socket)]
    open_.remove("files")
    check(attacker, dict.fromkeys(open_, 0))


@BOTH_STARTS
def test_the_network_is_open_to_who_needs_it(begin, listener, start_):
    attacker = begin("{ network = true }", start=f'"{start_}"')
    check(attacker, dict.fromkeys(on_the_network(listener), 0))


@needs_landlock
def test_copies_of_one_seed_are_closed_to_one_another_and_to_the_seed(begin, place):
    attacker = begin(start='"copy"')
    daemon = attacker.daemon
    own = attacker.hosts()["hostile"]
    siblings = daemon.copies() - {own}
    assert siblings
    for other in siblings | daemon.seeds():
        check(attacker, on_processes(other))


@needs_landlock
@BOTH_STARTS
def test_it_is_confined_when_its_constructors_run(begin, place, start_):
    words = f"write {place}/secret/new"
    variables = f'{{ HOSTILE_AT_LOAD = "{words}" }}'
    attacker = begin(strict(place), environment=variables, start=f'"{start_}"')
    assert attacker.attempt("loaded") == errno.EACCES
    assert not (place / "secret" / "new").exists()


@AS_ROOT
@BOTH_STARTS
def test_hosts_of_root_are_another_user_for_each_backend_and_open_what_root_may(begin, home, start_):
    secret = home / "secret"
    secret.write_text("text")
    secret.chmod(0o600)
    attacker = begin(start=f'"{start_}"')
    facts, others = (facts_of(attacker.hosts()[name]) for name in ("hostile", "good"))
    users = set(facts["Uid"]), set(others["Uid"])
    assert [len(each) for each in users] == [1, 1]
    assert users[0] != users[1]
    assert all(FIRST <= int(number) < FIRST + COUNT for each in users for number in each)
    assert facts["CapPrm"] == facts["CapEff"] == facts["CapAmb"]
    assert not int(facts["CapEff"][0], 16) & sum(1 << number for number in CAPABILITIES_OVER_OTHERS)
    check(attacker, {f"read {secret}": 0, f"check {secret}": 0, f"write {home}/new": 0})
    assert (home / "new").stat().st_uid == int(facts["Uid"][0])
    check(attacker, {f"kill {attacker.daemon.process.pid} 9": errno.EPERM})


@AS_ROOT
@BOTH_STARTS
def test_hosts_of_root_are_root_if_they_shall(begin, start_):
    attacker = begin('{ user = "root" }', start=f'"{start_}"')
    facts = facts_of(attacker.hosts()["hostile"])
    assert set(facts["Uid"]) == {"0"}
    assert not int(facts["CapEff"][0], 16) & sum(1 << number for number in CAPABILITIES_OVER_OTHERS)


@AS_ROOT
@BOTH_STARTS
def test_it_runs_as_the_user_that_it_shall(begin, home, module, start_):
    home.chmod(0o755)
    own = shutil.copy(module, home / "hostile.so")
    secret = home / "secret"
    secret.write_text("text")
    secret.chmod(0o600)
    attacker = begin('{ user = "nobody" }', path=own, start=f'"{start_}"')
    check(attacker, {f"read {own}": 0, f"read {secret}": errno.EACCES, "write /etc/passwd": errno.EACCES})
    check(attacker, {f"kill {attacker.daemon.process.pid} 9": errno.EPERM})
    facts = facts_of(attacker.hosts()["hostile"])
    nobody = "65534"
    assert set(facts["Uid"]) == {nobody}
    assert set(facts["Gid"]) == {nobody}
    assert facts["Groups"] == []
    assert facts["NoNewPrivs"] == ["1"]
    assert int(facts["CapPrm"][0], 16) == 0
