"""The seed of a backend: a process with the module loaded and warmed up, of which hosts are copies.

Loading a module and its first C_Initialize take milliseconds; a copy takes a fraction of one. The protocol of the packets is
described in crates/keyway-host/src/seed.rs.
"""

import asyncio
import os
import socket
import struct
from collections import deque
from typing import Final

from keyway.backend.host import Host, HostError, HostSettings, greet, new_segment, spawn
from keyway.wire.header import HEADER, HEADER_SIZE

__all__ = ["Seed", "SeedError", "sow"]

PACKET: Final = 65_536
"""Bytes in the largest packet."""

_BORN: Final = struct.Struct(">I")
_DEAD: Final = struct.Struct(">Ii")


class SeedError(Exception):
    """The backend's module can't be copied, so its hosts must load it themselves. The text says why."""


class Seed:
    """A running seed.

    Attributes:
        process: The seed itself; its stream is the socket of packets, so it has no transport.
    """

    def __init__(self, settings: HostSettings, process: Host, packets: socket.socket) -> None:
        """Take charge of a seed. `sow` makes one.

        Args:
            settings: What it was started with.
            process: Its process.
            packets: Our end of the socket of packets.
        """
        self.process = process
        self._settings = settings
        self._packets = packets
        self._loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[bytes] = self._loop.create_future()
        self._answers: deque[asyncio.Future[bytes]] = deque([self._ready])
        self._copies: dict[int, Host] = {}
        # A copy may end before its birth is noted, or be born for somebody who no longer waits.
        self._early: dict[int, int] = {}
        self._orphans: set[int] = set()
        self._lock = asyncio.Lock()
        packets.setblocking(False)
        self._loop.add_reader(packets, self._read)
        process.ended.add_done_callback(lambda _: self.close())

    @property
    def is_alive(self) -> bool:
        """Whether copies can be had."""
        return self._packets.fileno() >= 0

    async def wait_ready(self) -> None:
        """Wait until the module is loaded.

        Raises:
            SeedError: The seed has ended, or takes too long.
        """
        try:
            async with asyncio.timeout(self._settings.timeout):
                await self._ready
        except TimeoutError:
            raise SeedError(f"not loaded after {self._settings.timeout:g} s") from None

    async def call(self, number: int, body: bytes = b"") -> int:
        """Make a call of the module in the seed itself, and return its RV.

        Raises:
            SeedError: The seed has ended, or does not answer in time.
        """
        answer = await self._ask(HEADER.pack(len(body), number, 0, 1, 0, 0) + body)
        if len(answer) < HEADER_SIZE + 1:
            raise SeedError("it does not answer")
        rv: int = HEADER.unpack_from(answer, 1)[5]
        return rv

    async def copy(self) -> Host:
        """Return a new host, a copy of the seed, which belongs to the caller.

        Raises:
            SeedError: The seed has ended, or can't be copied.
            HostError: The copy does not answer.
        """
        segment = new_segment(self._settings)
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                shared = [] if segment is None else [segment.descriptor]
                answer = await self._ask(b"F", theirs.fileno(), *shared)
            (pid,) = _BORN.unpack(answer[1:])
            if not pid:
                raise SeedError("it has threads, or the system has no room for another process")
            try:
                host = Host(self._settings.name, pid)
            except BaseException:
                self._disown(pid)
                raise
        except ProcessLookupError:
            ours.close()
            raise HostError(f"{self._settings.module}: the copy ended at once") from None
        except BaseException:
            ours.close()
            raise
        finally:
            if segment is not None:
                segment.hand_over()
        host.segment = segment
        if pid in self._early:
            host.note_exit(self._early.pop(pid))
        else:
            self._copies[pid] = host
        await greet(host, ours, self._settings)
        return host

    def close(self) -> None:
        """End the seed, and the copies with it that are still there."""
        if not self.is_alive:
            return
        self._loop.remove_reader(self._packets)
        self._packets.close()
        for answer in self._answers:
            if not answer.done():
                answer.set_exception(SeedError("the host ended"))
        self._answers.clear()
        # It has nothing to lose, and the kernel kills the copies together with it.
        self.process.kill()
        self.process.ended.add_done_callback(lambda _: self._end_copies())

    async def _ask(self, packet: bytes, *descriptors: int) -> bytes:
        async with self._lock:
            if not self.is_alive:
                raise SeedError("the host ended")
            answer: asyncio.Future[bytes] = self._loop.create_future()
            self._answers.append(answer)
            try:
                # One packet at a time is in the socket, so there is always room for it.
                socket.send_fds(self._packets, [packet], descriptors)
                async with asyncio.timeout(self._settings.timeout):
                    return await answer
            except asyncio.CancelledError:
                # It may have come already, and nobody has taken it.
                if answer.done() and not answer.cancelled() and answer.exception() is None:
                    self._leave(answer.result())
                raise
            except TimeoutError:
                self.process.kill()
                raise SeedError(f"it did not answer in {self._settings.timeout:g} s") from None
            except OSError as error:
                raise SeedError(f"it does not take packets: {error.strerror}") from error

    def _read(self) -> None:
        try:
            packet = self._packets.recv(PACKET)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if not packet:
            self.close()
        elif packet[:1] == b"D":
            pid, status = _DEAD.unpack(packet[1:])
            self._note_end(pid, os.waitstatus_to_exitcode(status))
        elif self._answers:
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_result(packet)
            else:
                self._leave(packet)

    def _leave(self, packet: bytes) -> None:
        """Take note of an answer that nobody waits for."""
        if packet[:1] == b"B":
            self._disown(*_BORN.unpack(packet[1:]))

    def _disown(self, pid: int) -> None:
        """Take note of a copy without a host; its stream is closed, so that it ends."""
        if pid and self._early.pop(pid, None) is None:
            self._orphans.add(pid)

    def _note_end(self, pid: int, status: int) -> None:
        host = self._copies.pop(pid, None)
        if host is not None:
            host.note_exit(status)
        elif pid in self._orphans:
            self._orphans.remove(pid)
        else:
            self._early[pid] = status

    def _end_copies(self) -> None:
        for host in self._copies.values():
            host.note_exit(-9)
        self._copies.clear()


async def sow(settings: HostSettings, errors: int) -> Seed:
    """Start a seed and wait until its module is loaded; C_Initialize is not called.

    Args:
        settings: What to start.
        errors: Descriptor for its standard output and error.

    Raises:
        HostError: It could not be started, or did not load its module in time.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            process = spawn(settings, theirs.fileno(), errors, "--seed")
        except BaseException:
            ours.close()
            raise
    host = Host(settings.name, process.pid)
    host.watch(process)
    seed = Seed(settings, host, ours)
    try:
        await seed.wait_ready()
    except SeedError as error:
        how = await host.wait_ended(0.0 if seed.is_alive else 1.0)
        raise HostError(f"{settings.module}: {error}: it {how}") from error
    except BaseException:
        seed.close()
        raise
    return seed
