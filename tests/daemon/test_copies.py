"""Module hosts as copies of a seed, and what happens where that can't be or the seed ends."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from tests.daemon.harness import backend, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import label_of, login, make, open_session, slot_of, slots

from keyway.cryptoki import RV, Fill

SOURCE = Path(__file__).parent.parent / "faulty" / "faulty.c"


@pytest.fixture(scope="module")
def faulty_module(tmp_path_factory):
    compiler = shutil.which("gcc")
    assert compiler
    module = tmp_path_factory.mktemp("faulty") / "faulty.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-pthread", "-o", module, SOURCE], check=True)
    return module


@pytest.fixture
def daemon(start, home):
    """A daemon whose hosts are copies, with a token called demo."""
    daemon = start(softhsm(home, start='"copy"'))
    make(daemon, "demo")
    return daemon


def test_hosts_are_copies_of_one_seed(daemon):
    daemon.wait_quiet(spares=2)
    (seed,) = daemon.seeds()
    with RawClient(daemon.socket) as first, RawClient(daemon.socket) as second:
        for client in first, second:
            client.initialize()
            session = open_session(client, slot_of(client, "demo"))
            login(client, session)
        until(lambda: len(daemon.copies()) == 4, "two hosts in use and two spares")
    daemon.wait_quiet(spares=2)
    assert daemon.seeds() == {seed}
    assert len(daemon.hosts()) == 3


def test_a_copy_reads_the_token_list_afresh(daemon):
    daemon.wait_quiet(spares=2)
    make(daemon, "later")
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert {label_of(client, slot) for slot in slots(client)} >= {"demo", "later"}


def test_a_killed_seed_costs_its_copies_and_is_replaced(daemon):
    daemon.wait_quiet(spares=2)
    (seed,) = daemon.seeds()
    with RawClient(daemon.socket) as client:
        client.initialize()
        slot = slot_of(client, "demo")
        open_session(client, slot, 1)
        copies = daemon.copies()
        os.kill(seed, signal.SIGKILL)
        until(lambda: not copies & daemon.hosts(), "the copies end with the seed")
        until(lambda: client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_DEVICE_REMOVED, "the loss is seen")
        open_session(client, slot, 2)
        login(client, 2)
    daemon.wait_quiet(spares=2)
    assert daemon.seeds()
    assert seed not in daemon.seeds()
    assert daemon.events("module hosts are not copies") == []


def test_a_module_that_leaves_threads_is_loaded_by_each_host(faulty_module, start):
    daemon = start(backend("faulty", faulty_module, environment='{ FAULTY = "thread" }', start='"copy"'))
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert label_of(client, 0) == "faulty"
        assert not daemon.copies()
        until(lambda: not daemon.seeds(), "the seed has ended")
    (event,) = daemon.events("module hosts are not copies")
    assert "threads" in event["reason"]


def test_a_warm_up_that_hangs_does_not_keep_clients_out(faulty_module, start):
    daemon = start(
        backend("faulty", faulty_module, environment='{ FAULTY = "hang-finalize" }', start='"copy"', start_timeout=1)
    )
    with RawClient(daemon.socket) as client:
        client.initialize()
        assert label_of(client, 0) == "faulty"
    until(lambda: not daemon.seeds(), "the hung seed has been killed")


def test_hosts_load_the_module_unless_told_otherwise(start, home):
    daemon = start(softhsm(home))
    make(daemon, "demo")
    daemon.wait_quiet(spares=2)
    assert not daemon.seeds()


def test_copies_need_no_warm_up(start, home):
    daemon = start(softhsm(home, start='"copy"', warm_up="false"))
    make(daemon, "demo")
    daemon.wait_quiet(spares=2)
    assert len(daemon.seeds()) == 1


def test_copies_do_not_share_random_numbers(daemon):
    numbers = []
    for _ in range(8):
        with RawClient(daemon.socket) as client:
            client.initialize()
            session = open_session(client, slot_of(client, "demo"))
            (random,) = client.good("C_GenerateRandom", Fill(True, 32), target=session)
            numbers.append(bytes(random))
    assert len(set(numbers)) == 8
