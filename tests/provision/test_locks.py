import asyncio

from keyway.provision.locks import Locks


def test_one_at_a_time_by_name():
    locks = Locks()
    told: list[str] = []

    async def work(name, text):
        async with locks.hold(name):
            told.append(f"{text} begins")
            for _ in range(3):
                await asyncio.sleep(0)
            told.append(f"{text} ends")

    async def run():
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(work("same", str(number)))
        told.append("then")
        async with asyncio.TaskGroup() as group:
            for name in ("a", "b"):
                group.create_task(work(name, name))

    asyncio.run(run())
    expected = [f"{number} {word}" for number in range(4) for word in ("begins", "ends")]
    assert told == [*expected, "then", "a begins", "b begins", "a ends", "b ends"]
    assert not locks._entries


def test_a_holder_that_fails_and_a_waiter_that_gives_up():
    locks = Locks()

    async def fail():
        async with locks.hold("a"):
            await asyncio.sleep(0)
            raise ValueError

    async def wait():
        async with locks.hold("a"):
            raise AssertionError

    async def run():
        async with locks.hold("a"):
            waiting = asyncio.get_running_loop().create_task(wait())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await asyncio.gather(fail(), return_exceptions=True)
        async with locks.hold("a"):
            pass

    asyncio.run(run())
    assert not locks._entries
