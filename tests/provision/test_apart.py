import asyncio
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from keyway.provision import apart
from keyway.provision.apart import FILES, Apart, make_files

HOLDER = """
import asyncio, sys
from pathlib import Path
from keyway.provision.apart import Apart
async def hold():
    async with Apart(Path(sys.argv[1])).hold(b"a"):
        print("held", flush=True)
        sys.stdin.readline()
asyncio.run(hold())
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the name a."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


async def begun(task, *, turns=50):
    """Let a task go as far as it can."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return task.done()


async def hold(directory, name):
    async with Apart(directory).hold(name):
        return True


def test_another_process_is_waited_for_and_only_for_the_same_name(tmp_path, holder):
    async def run():
        assert await hold(tmp_path, b"b")
        waiting = asyncio.get_running_loop().create_task(hold(tmp_path, b"a"))
        assert not await begun(waiting)
        holder.stdin.write("\n")
        holder.stdin.flush()
        assert await waiting

    asyncio.run(run())


def test_a_process_that_is_killed_lets_go(tmp_path, holder):
    async def run():
        waiting = asyncio.get_running_loop().create_task(hold(tmp_path, b"a"))
        assert not await begun(waiting)
        holder.kill()
        assert await waiting

    asyncio.run(run())


def test_nobody_is_waited_for_for_ever(tmp_path, holder, monkeypatch):
    told = []
    monkeypatch.setattr(apart, "PATIENCE", 0.01)
    monkeypatch.setattr(apart, "event", lambda level, message, **facts: told.append(message))
    assert asyncio.run(hold(tmp_path, b"a"))
    assert told == ["token not locked"]


def test_who_gives_up_waiting_holds_nothing(tmp_path, holder):
    async def run():
        waiting = asyncio.get_running_loop().create_task(hold(tmp_path, b"a"))
        assert not await begun(waiting)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    before = len(list(Path("/proc/self/fd").iterdir()))
    asyncio.run(run())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_whoever_can_only_read_the_file_is_kept_apart_all_the_same(tmp_path, holder):
    (file,) = tmp_path.glob(".keyway-lock-*")
    file.chmod(0o444)
    tmp_path.chmod(0o555)

    async def run():
        waiting = asyncio.get_running_loop().create_task(hold(tmp_path, b"a"))
        assert not await begun(waiting)
        holder.kill()
        assert await waiting

    asyncio.run(run())
    tmp_path.chmod(0o755)


def test_where_there_can_be_no_file_there_is_no_lock(tmp_path):
    assert asyncio.run(hold(tmp_path / "none", b"a"))
    # A link is not followed, wherever it leads.
    before = os.umask(0o077)
    try:
        assert asyncio.run(hold(tmp_path, b"a"))
    finally:
        os.umask(before)
    (file,) = tmp_path.glob(".keyway-lock-*")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    assert asyncio.run(hold(tmp_path, b"a"))
    assert not (tmp_path / "elsewhere").exists()


def test_files_are_made_for_all_to_read_and_only_where_they_can_be(tmp_path):
    make_files(tmp_path / "none")
    for _ in range(2):
        make_files(tmp_path)
        found = sorted(tmp_path.iterdir())
        assert len(found) == FILES
        assert {stat.S_IMODE(each.stat().st_mode) for each in found} == {0o644}
    asyncio.run(hold(tmp_path, b"a"))
    assert sorted(tmp_path.iterdir()) == found
