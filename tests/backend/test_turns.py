"""Turns: one writer or many readers, in order, and nobody waits for ever."""

import asyncio

import pytest

from keyway.backend import turns as module
from keyway.backend.turns import Turns


def run(scenario):
    async def limited():
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(limited())


def taken(turns, exclusive):
    turn = turns.take_nowait(exclusive)
    assert turn is not None
    return turn


async def waiting(turns, exclusive):
    """Start to wait for a turn, and return the task when it stands in the queue."""
    task = asyncio.get_running_loop().create_task(turns.take(exclusive))
    await asyncio.sleep(0)
    assert not task.done()
    return task


def test_shared_turns_are_given_at_once():
    async def scenario():
        turns = Turns()
        given = [turns.take_nowait(exclusive=False) for _ in range(5)]
        assert all(given)
        assert turns.take_nowait(exclusive=True) is None

    run(scenario)


def test_an_exclusive_turn_is_alone():
    async def scenario():
        turns = Turns()
        writer = taken(turns, exclusive=True)
        assert turns.take_nowait(exclusive=True) is None
        assert turns.take_nowait(exclusive=False) is None
        writer.end()
        assert turns.take_nowait(exclusive=False) is not None

    run(scenario)


def test_a_writer_that_waits_is_not_overtaken():
    async def scenario():
        turns = Turns()
        reader = taken(turns, exclusive=False)
        writer = await waiting(turns, exclusive=True)
        assert turns.take_nowait(exclusive=False) is None
        second = await waiting(turns, exclusive=False)
        third = await waiting(turns, exclusive=False)
        reader.end()
        turn = await writer
        assert turn.is_exclusive
        assert not second.done()
        turn.end()
        assert not (await second).is_exclusive
        assert not (await third).is_exclusive

    run(scenario)


def test_who_gives_up_waiting_is_skipped():
    async def scenario():
        turns = Turns()
        writer = taken(turns, exclusive=True)
        first = await waiting(turns, exclusive=True)
        second = await waiting(turns, exclusive=True)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        writer.end()
        assert (await second).is_exclusive

    run(scenario)


def test_a_turn_given_to_who_gives_up_just_then_is_passed_on():
    async def scenario():
        turns = Turns()
        writer = taken(turns, exclusive=True)
        first = await waiting(turns, exclusive=True)
        second = await waiting(turns, exclusive=True)
        writer.end()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        assert (await second).is_exclusive

    run(scenario)


def test_ending_twice_does_no_harm():
    async def scenario():
        turns = Turns()
        first = taken(turns, exclusive=True)
        first.end()
        second = taken(turns, exclusive=True)
        first.end()
        assert turns.take_nowait(exclusive=False) is None
        second.end()

    run(scenario)


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_turn_that_does_not_end_is_not_waited_for(monkeypatch, exclusive):
    monkeypatch.setattr(module, "LONGEST", 0.05)

    async def scenario():
        turns = Turns()
        hung = taken(turns, exclusive=exclusive)
        tasks = [await waiting(turns, exclusive=True) for _ in range(3)]
        for task in tasks:
            (await task).end()
        hung.end()
        assert turns.take_nowait(exclusive=True) is not None

    run(scenario)


def test_several_that_hang_are_not_waited_for_one_after_another(monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 0.05)

    async def scenario():
        turns = Turns()
        for _ in range(3):
            await turns.take(exclusive=True)  # Never ended.

    run(scenario)
