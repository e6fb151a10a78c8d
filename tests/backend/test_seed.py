"""Births that nobody waits for any more: no process is left over, and no later one suffers."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from unittest.mock import Mock

import pytest

from keyway.backend.host import HostSettings
from keyway.backend.output import OutputReader
from keyway.backend.seed import SeedError, sow
from keyway.backend.source import HostSource
from keyway.config.locate import host_binary
from keyway.cryptoki import Null, call_named
from keyway.daemon.link import Link
from keyway.wire.codec import encode_request

SOURCE = Path(__file__).parent.parent / "faulty" / "faulty.c"
INITIALIZE = call_named("C_Initialize")
BODY = encode_request(INITIALIZE, (0, Null(), b"")).body
DEADLINE = 20.0


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    compiler = shutil.which("gcc")
    assert compiler
    path = tmp_path_factory.mktemp("faulty") / "faulty.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, SOURCE], check=True)
    return path


@pytest.fixture
def settings(module, tmp_path):
    def make(words: str) -> HostSettings:
        return HostSettings(
            name="faulty",
            binary=host_binary(),
            module=module,
            threads=1,
            environment={"FAULTY": words, "FAULTY_DELAY": "300", "FAULTY_MARK": str(tmp_path / "delayed")},
            working_directory=tmp_path,
            timeout=DEADLINE,
        )

    return make


def run(scenario):
    async def limited():
        async with asyncio.timeout(DEADLINE):
            await scenario()

    asyncio.run(limited())


def children():
    pid = os.getpid()
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


async def until(condition):
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def cancelled_when(work, condition):
    task = asyncio.get_running_loop().create_task(work)
    await until(condition)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def source(settings, warm_up=None):
    return HostSource(settings, OutputReader(print), warm_up, lambda reason: None, copies=True)


def test_a_seed_that_nobody_waits_for_ends(settings):
    async def scenario():
        before = children()
        hosts = source(settings("hang-load"))
        await cancelled_when(hosts.bring(), lambda: children() - before)
        await until(lambda: children() == before)

    run(scenario)


def test_a_warm_up_that_was_broken_off_leaves_no_initialised_copies(settings, tmp_path):
    async def scenario():
        before = children()
        hosts = source(settings("slow-init"), BODY)
        task = asyncio.get_running_loop().create_task(hosts.bring())
        await until((tmp_path / "delayed").exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        host = await hosts.bring()
        rv, _ = await Link(host, Mock()).call(INITIALIZE.number, BODY)
        assert rv == 0
        host.end(1.0)
        await host.ended
        await hosts.close()
        await until(lambda: children() == before)

    run(scenario)


def test_a_copy_that_nobody_waits_for_is_no_trap_for_the_next_with_its_number(settings):
    async def scenario():
        seed = await sow(settings(""), 2)
        task = asyncio.get_running_loop().create_task(seed.copy())
        # The answer is there, but the one who asked has not run since.
        real = seed._read

        def read():
            real()
            task.cancel()

        loop = asyncio.get_running_loop()
        loop.remove_reader(seed._packets)
        loop.add_reader(seed._packets, read)
        with pytest.raises(asyncio.CancelledError):
            await task
        loop.remove_reader(seed._packets)
        loop.add_reader(seed._packets, real)
        await until(lambda: not Path(f"/proc/{seed.process.pid}/task/{seed.process.pid}/children").read_text())
        host = await seed.copy()
        assert not seed._early
        assert not seed._orphans
        host.end(1.0)
        await host.ended
        seed.close()
        await seed.process.ended

    run(scenario)


def test_what_a_seed_can_not_do_now_costs_nobody_who_has_a_copy(settings, monkeypatch):
    async def scenario():
        before = children()
        notes: list[str] = []
        hosts = HostSource(settings(""), OutputReader(print), None, notes.append, copies=True)
        first = await hosts.bring()

        async def no_room(_self):
            raise SeedError("the system has no room for another process")

        with monkeypatch.context() as patch:
            patch.setattr("keyway.backend.seed.Seed.copy", no_room)
            second = await hosts.bring()
        assert not first.is_gone
        assert second.pid in children()
        third = await hosts.bring()
        assert third.pid not in children()
        assert notes == []
        for host in first, second, third:
            host.end(1.0)
            await host.ended
        await hosts.close()
        await until(lambda: children() == before)

    run(scenario)
