"""Hosts whose start is broken off: no process is left over."""

import asyncio
import subprocess
from pathlib import Path

import pytest

from keyway.backend.host import HostSettings, start
from keyway.config.locate import host_binary, softhsm_module


def children() -> set[str]:
    return {pid for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()}


@pytest.mark.parametrize("steps", range(6))
def test_no_process_is_left_wherever_its_start_is_broken_off(tmp_path, steps):
    settings = HostSettings(
        name="soft",
        binary=host_binary(),
        module=softhsm_module(),
        threads=1,
        environment={},
        working_directory=tmp_path,
        timeout=20.0,
    )

    async def scenario() -> None:
        starting = asyncio.get_running_loop().create_task(start(settings, subprocess.DEVNULL))
        for _ in range(steps):
            await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    before = children()
    asyncio.run(scenario())
    assert children() == before
