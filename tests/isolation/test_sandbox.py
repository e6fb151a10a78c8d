"""Sandboxes that can't be had, or in which a real module works."""

import os
import platform
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.daemon.harness import softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import generate_rsa, label_of, login, make, open_session, slot_of
from tests.isolation.conftest import HOSTILE, TOKENS, facts_of, needs_landlock

from keyway.cryptoki import RV, Mechanism, Null, Room, call_named
from keyway.cryptoki.constants import CKM_SHA256_RSA_PKCS
from keyway.wire.codec import decode_reply

NOT_SEPARATED = "their user is the daemon's: Operation not permitted (os error 1)"
WITHOUT = (sys.executable, str(Path(__file__).parent / "without_call.py"))
WITHOUT_LANDLOCK = (*WITHOUT, "444")
WITHOUT_SECCOMP = (*WITHOUT, {"x86_64": "317", "aarch64": "277"}[platform.machine()])


@needs_landlock
@pytest.mark.parametrize("start_", ["load", "copy"])
def test_softhsm_signs_in_the_strictest_sandbox(start, home, start_):
    conf, tokens = home / "softhsm.conf", home / "tokens-softhsm"
    sandbox = (
        f'{{ read = ["{conf}"], write = ["{tokens}"], network = false, processes = false, '
        "memory = 1_073_741_824, open_files = 64 }"
    )
    daemon = start(softhsm(home, sandbox=sandbox, start=f'"{start_}"'))
    make(daemon, "demo")
    with RawClient(daemon.socket) as client:
        client.initialize()
        open_session(client, slot_of(client, "demo"))
        login(client, 1)
        generate_rsa(client, 1)
        _, _, private = decode_reply(call_named("C_GenerateKeyPair"), client.receive().body)
        client.good("C_SignInit", Mechanism(CKM_SHA256_RSA_PKCS, Null()), private, target=1)
        (signature,) = client.good("C_Sign", b"data", Room(256, True), target=1)
        assert len(signature.data) == 256
    assert bool(daemon.seeds()) is (start_ == "copy")
    assert not daemon.events("module hosts are not copies")


def two_backends(home: Path, module: Path, sandbox: str) -> str:
    return softhsm(home, "good") + f'[backend.hostile]\nmodule = "{module}"\nsandbox = {sandbox}\n' + TOKENS


def check_that_hosts_are_refused(daemon, reason: str) -> None:
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert client.call("C_OpenSession", 4, 1, target=HOSTILE)[0] == RV.CKR_TOKEN_NOT_PRESENT
    until(lambda: daemon.events("module output"), "the host says why")
    assert reason in daemon.events("module output")[0]["text"]
    assert {each["backend"] for each in daemon.events("module host can't be started")} == {"hostile"}


def test_what_takes_the_place_of_p11_kit_leaves_a_module_the_network_and_its_user(home, module):
    native = home / "native"
    command = [sys.executable, "-m", "keyway.cli", "p11-kit-server", "-f", "-n", home / "p11-kit", "--native", native]
    server = subprocess.Popen([*command, module], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline()  # It listens.
        with socket.create_server(("127.0.0.1", 0)) as listener, RawClient(native) as client:
            client.initialize()
            open_session(client, 0)
            for words in (f"connect {listener.getsockname()[1]}", f"user {os.geteuid()}"):
                client.good("C_SeedRandom", words.encode(), target=1)
    finally:
        server.terminate()
        server.communicate()


@needs_landlock
def test_a_path_that_is_not_there_keeps_hosts_from_starting(start, home, module):
    daemon = start(two_backends(home, module, '{ read = ["/nonexistent/place"] }'))
    check_that_hosts_are_refused(daemon, "sandbox: /nonexistent/place: No such file or directory")


def test_too_little_memory_keeps_hosts_from_starting(start, home, module):
    daemon = start(two_backends(home, module, "{ memory = 1_000_000 }"))
    check_that_hosts_are_refused(daemon, "can't be loaded")


def test_what_is_demanded_of_an_old_kernel_keeps_hosts_from_starting(start, home, module):
    daemon = start(two_backends(home, module, '{ read = ["/tmp"] }'), program=WITHOUT_LANDLOCK)
    check_that_hosts_are_refused(daemon, "sandbox: read and write need Landlock")


def test_a_network_that_shall_be_closed_and_can_not_be_keeps_hosts_from_starting(start, home, module):
    daemon = start(two_backends(home, module, "{ network = false }"), program=WITHOUT_SECCOMP)
    check_that_hosts_are_refused(daemon, "sandbox: network, processes and memory need seccomp")


def test_a_network_that_nobody_has_closed_and_can_not_be_is_a_warning(start, home, module):
    daemon = start(two_backends(home, module, "{}"), program=WITHOUT_SECCOMP)
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert label_of(client, HOSTILE) == "hostile"
    until(lambda: daemon.events("module hosts are less confined"), "it is told")
    assert all(
        "system calls are not filtered" in each["lacking"] for each in daemon.events("module hosts are less confined")
    )


def test_what_an_old_kernel_lacks_is_told_once(start, home, module):
    daemon = start(two_backends(home, module, "{ network = false }"), program=WITHOUT_LANDLOCK)
    for _ in range(3):
        with RawClient(daemon.socket) as client:
            client.initialize()
            assert label_of(client, HOSTILE) == "hostile"
    until(lambda: len(daemon.events("module hosts are less confined")) > 1, "it is told of both backends")
    told = daemon.events("module hosts are less confined")
    assert {each["backend"] for each in told} == {"good", "hostile"}
    assert len(told) == 2
    assert all("other processes of its user are not closed to it" in each["lacking"] for each in told)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's daemon can")
def test_hosts_are_root_where_the_daemon_could_not_end_them_otherwise(start, home, module):
    setpriv = shutil.which("setpriv")
    assert setpriv
    program = (setpriv, "--bounding-set=-kill", sys.executable, "-m", "keyway.cli")
    daemon = start(two_backends(home, module, "{}"), program=program)
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert label_of(client, HOSTILE) == "hostile"
        told = daemon.contexts()[-1]["hosts"]
        assert all(set(facts_of(pid)["Uid"]) == {"0"} for pid in told.values())
    lacking = {(each["backend"], each["lacking"]) for each in daemon.events("module hosts are less confined")}
    assert {("good", NOT_SEPARATED), ("hostile", NOT_SEPARATED)} <= lacking


@pytest.mark.skipif(os.geteuid() == 0, reason="root can")
def test_only_roots_daemon_has_hosts_of_other_users(start, home, module):
    with pytest.raises(AssertionError, match="only root can run hosts as somebody else"):
        start(two_backends(home, module, '{ user = "nobody" }'))
