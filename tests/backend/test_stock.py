"""The stock of streams: what goes wrong once is tried again, and nobody waits long for what takes long to fail."""

import asyncio
import errno
import os

import pytest

from keyway.backend import stock as module
from keyway.backend.stock import Stock
from keyway.backend.stream import Stream, StreamError


class Fake(Stream):
    """A stream to nowhere."""

    kind = "fake"

    def __init__(self) -> None:
        super().__init__("fake")
        self.transport = asyncio.Transport()

    @property
    def place(self) -> str:
        return "nowhere"

    @property
    def is_gone(self) -> bool:
        return self.ended.done()

    def note_lost(self, error):
        pass

    def end(self, grace):
        self._cut_off()

    def _cut_off(self):
        if not self.ended.done():
            self._note_end("was ended")


def run(scenario):
    async def limited():
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(limited())


def test_a_daemon_without_descriptors_goes_on_to_start_spares():
    async def scenario():
        reasons: list[str] = []
        tried = asyncio.Event()

        async def bring():
            tried.set()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        stock = Stock(bring, 1, reasons.append)
        filling = asyncio.get_running_loop().create_task(stock.keep_filled())
        for _ in range(2):
            await tried.wait()
            tried.clear()
            await asyncio.sleep(0)
            assert not filling.done()
            if len(reasons) == 1:
                with pytest.raises(StreamError, match="Too many open files"):
                    await stock.take()
        filling.cancel()
        assert stock.failures == 2
        assert "Too many open files" in stock.error

    run(scenario)


def test_a_spare_that_is_taken_as_soon_as_it_is_there_is_replaced():
    async def scenario():
        begun = asyncio.Semaphore(0)
        goes_on = asyncio.Semaphore(0)

        async def bring():
            begun.release()
            await goes_on.acquire()
            return Fake()

        stock = Stock(bring, 1, lambda _: None)
        filling = asyncio.get_running_loop().create_task(stock.keep_filled())
        await begun.acquire()
        taking = asyncio.get_running_loop().create_task(stock.take())
        await asyncio.sleep(0)
        goes_on.release()
        await taking
        goes_on.release()
        await begun.acquire()
        while not stock.spares:  # noqa: ASYNC110
            await asyncio.sleep(0)
        filling.cancel()

    run(scenario)


class Slow:
    """Attempts that end when they are told to."""

    def __init__(self):
        self.begun = 0
        self._ends: list[asyncio.Future[Stream]] = []

    async def bring(self):
        self.begun += 1
        self._ends.append(asyncio.get_running_loop().create_future())
        return await self._ends[-1]

    def fail(self, which=-1):
        self._ends[which].set_exception(StreamError("nobody is there"))

    def succeed(self, which=-1):
        stream = Fake()
        self._ends[which].set_result(stream)
        return stream


@pytest.fixture
def patience(monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    monkeypatch.setattr(module, "PAUSES", (0.0,))


async def begun(slow, count):
    while slow.begun < count:  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def fail_slowly(slow, stock):
    first = asyncio.get_running_loop().create_task(stock.take())
    await begun(slow, 1)
    await asyncio.sleep(2 * module.PATIENCE)
    assert not first.done()
    slow.fail()
    with pytest.raises(StreamError, match="nobody is there"):
        await first


@pytest.mark.usefixtures("patience")
def test_after_a_slow_failure_nobody_waits_for_the_next_attempt_but_it_goes_on():
    async def scenario():
        slow = Slow()
        stock = Stock(slow.bring, 0, lambda _: None)
        await fail_slowly(slow, stock)
        with pytest.raises(StreamError, match="nobody is there"):
            await stock.take()
        assert slow.begun == 2
        kept = slow.succeed()
        while not stock.spares:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert await stock.take() is kept
        assert slow.begun == 2
        # It works again, so the next one is waited for.
        task = asyncio.get_running_loop().create_task(stock.take())
        await begun(slow, 3)
        await asyncio.sleep(2 * module.PATIENCE)
        assert not task.done()
        stream = slow.succeed()
        assert await task is stream

    run(scenario)


@pytest.mark.usefixtures("patience")
def test_no_more_is_kept_of_attempts_than_one_needs():
    async def scenario():
        slow = Slow()
        stock = Stock(slow.bring, 0, lambda _: None, at_once=3)
        await fail_slowly(slow, stock)
        takes = [asyncio.get_running_loop().create_task(stock.take()) for _ in range(3)]
        await asyncio.gather(*takes, return_exceptions=True)
        streams = [slow.succeed(which) for which in (1, 2, 3)]
        await asyncio.sleep(0.01)
        assert stock.spares == 1
        assert sorted(stream.ended.done() for stream in streams) == [False, True, True]
        stock.close()
        await stock.wait_ended()

    run(scenario)


@pytest.mark.usefixtures("patience")
def test_attempts_that_nobody_waits_for_end_with_the_stock():
    async def scenario():
        slow = Slow()
        stock = Stock(slow.bring, 0, lambda _: None)
        await fail_slowly(slow, stock)
        with pytest.raises(StreamError):
            await stock.take()
        stock.close()
        await stock.wait_ended()
        assert stock.alive == 0

    run(scenario)


def test_failures_at_the_same_time_count_as_one():
    async def scenario():
        slow = Slow()
        reasons: list[str] = []
        stock = Stock(slow.bring, 0, reasons.append, at_once=8)
        takes = [asyncio.get_running_loop().create_task(stock.take()) for _ in range(8)]
        await begun(slow, 8)
        for which in range(8):
            slow.fail(which)
        assert all(isinstance(each, StreamError) for each in await asyncio.gather(*takes, return_exceptions=True))
        assert stock.failures == 1
        assert reasons == ["nobody is there"]

    run(scenario)


def test_only_so_many_are_opened_at_a_time():
    async def scenario():
        slow = Slow()
        stock = Stock(slow.bring, 0, lambda _: None, at_once=2)
        takes = [asyncio.get_running_loop().create_task(stock.take()) for _ in range(3)]
        await begun(slow, 2)
        await asyncio.sleep(0.01)
        assert slow.begun == 2
        slow.succeed(0)
        await begun(slow, 3)
        slow.succeed(1)
        slow.succeed(2)
        await asyncio.gather(*takes)
        assert stock.alive == 3

    run(scenario)


def test_a_pause_ends_when_the_other_end_is_heard_of(monkeypatch):
    monkeypatch.setattr(module, "PAUSES", (600.0,))

    async def scenario():
        slow = Slow()
        stock = Stock(slow.bring, 0, lambda _: None)
        task = asyncio.get_running_loop().create_task(stock.take())
        await begun(slow, 1)
        slow.fail()
        with pytest.raises(StreamError, match="nobody is there"):
            await task
        with pytest.raises(StreamError, match="nobody is there"):
            await stock.take()
        assert slow.begun == 1
        stock.end_pause()
        task = asyncio.get_running_loop().create_task(stock.take())
        await begun(slow, 2)
        stream = slow.succeed()
        assert await task is stream

    run(scenario)
