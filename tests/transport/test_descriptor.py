"""The transport over plain descriptors: nothing is lost, nothing comes twice, and nothing stays open."""

import asyncio
import os
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.transport.ends import Echo, Noting

from keyway.transport.descriptor import DescriptorTransport

BIG = bytes(range(256)) * 16_384
"""4 MiB, more than pipes and sockets hold."""


def is_open(descriptor):
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


class Pipes:
    """A transport over two pipes, and the other ends of these, as a program at the other end has them."""

    def __init__(self, kind=Noting):
        self.theirs_in, ours_out = os.pipe()
        ours_in, self.theirs_out = os.pipe()
        self.ours = (ours_in, ours_out)
        self.protocol = kind()
        self.transport = DescriptorTransport(ours_in, ours_out, self.protocol)

    def close(self):
        for descriptor in (self.theirs_in, self.theirs_out):
            if is_open(descriptor):
                os.close(descriptor)

    async def read(self, size):
        """Read at the other end until so much has come, or the end."""
        loop = asyncio.get_running_loop()
        data = b""
        async with asyncio.timeout(20):
            while len(data) < size and (more := await loop.run_in_executor(None, os.read, self.theirs_in, 1 << 20)):
                data += more
        return data


@pytest.fixture
def over_pipes(runner):
    """Runs a test's coroutine with pipes."""

    def run(test, kind=Noting):
        async def body():
            pipes = Pipes(kind)
            try:
                await test(pipes)
            finally:
                pipes.transport.abort()
                await pipes.protocol.end()
                pipes.close()
            assert not any(map(is_open, pipes.ours))

        runner.run(body())

    return run


def test_both_directions_until_the_other_end_closes(over_pipes):
    async def test(pipes):
        os.write(pipes.theirs_out, b"hello")
        assert await pipes.read(5) == b"hello"
        os.close(pipes.theirs_out)
        assert await pipes.protocol.end() is None
        assert await pipes.read(1) == b""

    over_pipes(test, Echo)


def test_much_waits_for_a_slow_reader_who_gets_it_all(over_pipes):
    async def test(pipes):
        pipes.transport.set_write_buffer_limits(high=100_000, low=1000)
        pipes.transport.write(BIG)
        assert pipes.protocol.is_told_to_pause
        assert 0 < pipes.transport.get_write_buffer_size() < len(BIG)
        pipes.transport.write(b"end")
        assert pipes.protocol.pauses == 1
        assert await pipes.read(len(BIG) + 3) == BIG + b"end"
        await pipes.protocol.until(lambda: not pipes.protocol.is_told_to_pause)
        assert pipes.transport.get_write_buffer_size() == 0

    over_pipes(test)


def test_closing_sends_what_waits_first(over_pipes):
    async def test(pipes):
        pipes.transport.write(BIG)
        pipes.transport.close()
        assert pipes.transport.is_closing()
        os.write(pipes.theirs_out, b"not read any more")
        assert await pipes.read(len(BIG) + 1) == BIG
        assert await pipes.protocol.end() is None
        assert pipes.protocol.data == b""

    over_pipes(test)


def test_aborting_does_not(over_pipes):
    async def test(pipes):
        pipes.transport.write(BIG)
        pipes.transport.abort()
        pipes.transport.write(b"too late")
        assert await pipes.protocol.end() is None
        assert len(await pipes.read(len(BIG))) < len(BIG)

    over_pipes(test)


def test_a_reader_that_has_gone_is_an_error(over_pipes):
    async def test(pipes):
        os.close(pipes.theirs_in)
        pipes.transport.write(b"hello")
        assert isinstance(await pipes.protocol.end(), BrokenPipeError)

    over_pipes(test)


def test_a_reader_that_goes_while_much_waits_is_an_error(over_pipes):
    async def test(pipes):
        pipes.transport.write(BIG)
        os.close(pipes.theirs_in)
        assert isinstance(await pipes.protocol.end(), BrokenPipeError)

    over_pipes(test)


def test_nothing_is_read_while_paused(over_pipes):
    async def test(pipes):
        pipes.transport.pause_reading()
        assert not pipes.transport.is_reading()
        pipes.transport.pause_reading()
        os.write(pipes.theirs_out, b"hello")
        os.close(pipes.theirs_out)
        for _ in range(5):
            await asyncio.sleep(0)
        assert pipes.protocol.data == b""
        pipes.transport.resume_reading()
        pipes.transport.resume_reading()
        assert await pipes.protocol.end() is None
        assert pipes.protocol.data == b"hello"

    over_pipes(test)


def test_another_protocol_takes_over_in_the_middle(over_pipes):
    class First(Noting):
        def data_received(self, data):
            assert self.transport is not None
            self.transport.set_protocol(second)
            second.connection_made(self.transport)
            second.data_received(data)

    second: Echo

    async def test(pipes):
        nonlocal second
        second = Echo()
        os.write(pipes.theirs_out, b"hello")
        assert await pipes.read(5) == b"hello"
        assert pipes.transport.get_protocol() is second
        os.close(pipes.theirs_out)
        assert await second.end() is None
        pipes.transport.set_protocol(pipes.protocol)
        pipes.protocol.lost.set_result(None)

    over_pipes(test, First)


def test_a_protocol_may_close_at_once(over_pipes):
    class Shy(Noting):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"bye")
            transport.close()

    async def test(pipes):
        assert await pipes.protocol.end() is None
        assert await pipes.read(4) == b"bye"

    over_pipes(test, Shy)


def test_a_socket_is_owned_and_told(runner):
    async def test():
        ours, theirs = socket.socketpair()
        descriptor = ours.fileno()
        protocol = Echo()
        transport = DescriptorTransport.over_socket(ours, protocol)
        assert ours.fileno() == -1
        told = transport.get_extra_info("socket")
        assert told.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        theirs.sendall(b"hello")
        theirs.setblocking(False)
        assert await asyncio.get_running_loop().sock_recv(theirs, 5) == b"hello"
        theirs.close()
        await protocol.end()
        await asyncio.sleep(0)
        assert not is_open(descriptor)
        assert told.fileno() == -1

    runner.run(test())


def test_a_file_can_not_be_waited_for(runner, home):
    async def test():
        (home / "file").write_bytes(b"")
        descriptor = os.open(home / "file", os.O_RDONLY)
        try:
            with pytest.raises(PermissionError):
                DescriptorTransport(descriptor, descriptor, Noting())
        finally:
            os.close(descriptor)

    runner.run(test())


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, 200_000), max_size=20),
    st.integers(0, 100_000),
    st.sampled_from(["asyncio", "uvloop"]),
)
def test_whatever_is_written_arrives_in_order(sizes, high, loop):
    async def test():
        ours, theirs = socket.socketpair()
        receiver = Noting()
        _, _ = await asyncio.get_running_loop().create_unix_connection(lambda: receiver, sock=theirs)
        sender = Noting()
        transport = DescriptorTransport.over_socket(ours, sender)
        transport.set_write_buffer_limits(high=high)
        sent = bytearray()
        for index, size in enumerate(sizes):
            chunk = bytes([index]) * size
            transport.write(chunk)
            sent += chunk
            if sender.is_told_to_pause:
                await sender.until(lambda: not sender.is_told_to_pause)
        transport.close()
        assert await receiver.end() is None
        await sender.end()
        assert receiver.data == sent

    import uvloop

    factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(test())
