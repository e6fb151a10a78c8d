"""The stock of hosts: what goes wrong once is tried again."""

import asyncio
import errno
import os

import pytest

from keyway.backend.stock import Stock
from keyway.backend.stream import StreamError


def test_a_daemon_without_descriptors_goes_on_to_start_spares():
    async def scenario():
        reasons: list[str] = []
        tried = asyncio.Event()

        async def bring():
            tried.set()
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        stock = Stock(bring, 1, reasons.append)
        filling = asyncio.get_running_loop().create_task(stock.keep_filled())
        async with asyncio.timeout(20):
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

    asyncio.run(scenario())
