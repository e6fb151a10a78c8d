"""Commands at the other end of a stream, by themselves."""

import asyncio
import os
import signal
from pathlib import Path

from keyway.backend.command import CommandSettings, run
from keyway.backend.stream import StreamError

DEADLINE = 20.0


def settings(*arguments: str, note=lambda line: None) -> CommandSettings:
    environment = {"PATH": os.environ["PATH"]}
    return CommandSettings("far", arguments, environment, Path("/"), note)


def test_one_that_can_not_be_killed_is_not_waited_for(monkeypatch):
    async def scenario():
        command, _ = await run(settings("sleep", "1000"))
        kill = os.killpg

        def refuse(pid, number):
            raise PermissionError

        monkeypatch.setattr(os, "killpg", refuse)
        command.kill("C_Sign took too long")
        assert await command.wait_ended(0) == "was left alone, as it belongs to another user (C_Sign took too long)"
        assert command.transport.is_closing()
        kill(command.pid, signal.SIGKILL)
        while command.status != -signal.SIGKILL:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(scenario(), DEADLINE))


def test_its_words_are_passed_on_and_the_last_tell_why_it_ended():
    async def scenario():
        lines: list[str] = []
        script = "echo one >&2; printf two >&2; exit 5"
        command, greeting = await run(settings("sh", "-c", script, note=lines.append))
        assert await command.wait_ended(DEADLINE) == "exited with status 5: two"
        assert lines == ["one", "two"]
        try:
            await greeting.answer()
        except StreamError:
            pass
        else:
            raise AssertionError

    asyncio.run(asyncio.wait_for(scenario(), DEADLINE))


def test_what_it_wrote_before_it_ended_is_read():
    async def scenario():
        command, greeting = await run(settings("printf", "abc"))
        await command.ended
        assert await greeting.answer() == b"abc"

    asyncio.run(asyncio.wait_for(scenario(), DEADLINE))
