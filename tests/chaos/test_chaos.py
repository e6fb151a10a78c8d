"""Applications sign while the members of their pool are killed, stopped, slowed, drained, and the daemon is restarted: nothing fails, and nothing is left behind.

CHAOS_SEED chooses another schedule than that which is always run. With SOAK_SECONDS schedules of other seeds follow for so long (`make soak`).
"""

import os
import sys
import time
from collections import Counter

import pytest
from tests.chaos.pipelined import Pipelined
from tests.chaos.schedule import Kind, schedule
from tests.chaos.storm import PATIENCE, Storm, applications
from tests.daemon.harness import until

SEED = int(os.environ.get("CHAOS_SEED", "1"))
SOAK = float(os.environ.get("SOAK_SECONDS", "0"))
MEMBERS = ("one", "two", "three")
DEADLINE = 10.0
"""Seconds that a call may take: a busy machine must not use them up, and a call at a member that is stopped waits for half of them."""
GAP = 150
"""Operations between two blows."""


@pytest.mark.timeout(SOAK + 600)
@pytest.mark.parametrize(("policy", "struck"), [("balance", len(MEMBERS)), ("failover", 1)])
def test_nothing_fails(pool, policy, struck):
    # Where there is an order all calls are at the first member: it is the one that is worth striking.
    # That takes longer, since all of them are then, so half of the blows are enough.
    step = 2 if policy == "failover" and not SOAK else 1
    pools = pool(*MEMBERS, policy=f'"{policy}"', deadline=DEADLINE, more="[limits]\ndrain = 0\n")
    end = time.monotonic() + SOAK / 2
    seed = SEED
    while True:
        tell(f"CHAOS_SEED={seed} repeats this schedule ({policy})")
        try:
            weather(pools, schedule(seed, struck, rounds=1, gap=GAP)[::step], seed)
        except BaseException:
            tell("\n".join(pools.daemon.log().splitlines()[-200:]))
            raise
        seed += 1
        if time.monotonic() >= end:
            break


def weather(pools, blows, seed):
    """Let applications run through a schedule, and look at what is left."""
    until(pools.is_quiet, "nothing goes on", PATIENCE)
    descriptors = pools.daemon.descriptors()
    pipelined = Pipelined(pools.daemon, sessions=4)
    with applications(pools.daemon, count=2, threads=4, seed=seed) as running:
        pipelined.start()
        storm = Storm(pools, running, pipelined)
        storm.wait_begun()
        for blow in blows:
            tell(f"  {blow.kind.name} of {MEMBERS[blow.member]}")
            storm.strikes(blow)
        storm.more(GAP)
        pipelined.stop()
        told = [thread for application in running for thread in application.stop()]
        operations = sum(application.operations for application in running)
    assert [failure for thread in told for failure in thread["failures"]] == []
    assert pipelined.failures == []
    assert pipelined.operations == pipelined.requests
    made, answered = (sum((Counter(thread[what]) for thread in told), Counter()) for what in ("made", "answered"))
    assert made == answered
    assert made.total() == operations
    assert min(made.values()) > 0
    until(
        lambda: pools.is_up() and pools.is_quiet(), "all members are up, and no context and no host is left", PATIENCE
    )
    assert pools.daemon.events("internal error") == []
    until(lambda: pools.daemon.descriptors() <= descriptors, "all descriptors are closed", PATIENCE)
    counts_are_exact(pools)


def tell(text):
    """Say how far it is: at once with `pytest -s`, else when something is wrong."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def counts_are_exact(pools):
    """When nothing happens, each signature is made once."""
    for member in pools.members:
        member.forget()
    pipelined = Pipelined(pools.daemon, sessions=4)
    pipelined.start()
    until(lambda: pipelined.operations >= GAP, "some operations", PATIENCE)
    pipelined.stop()
    assert pipelined.failures == []
    assert sum(member.calls("C_Sign") for member in pools.members) == pipelined.requests + 1
    until(pools.is_quiet, "no context and no host is left", PATIENCE)


def test_a_schedule_depends_on_its_seed_alone():
    assert schedule(7, 3, 2, 100) == schedule(7, 3, 2, 100) != schedule(8, 3, 2, 100)


def test_a_schedule_has_every_kind_in_each_round():
    blows = schedule(7, 3, 4, 100)
    assert Counter(blow.kind for blow in blows) == dict.fromkeys(Kind, 4)
    assert {blow.member for blow in blows} == {0, 1, 2}
    assert all(50 <= blow.gap <= 150 and 50 <= blow.lasts <= 100 for blow in blows)
