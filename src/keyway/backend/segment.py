"""Memory that the daemon shares with one module host, for bodies that are too large to be copied through a socket."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import weakref
from typing import Final

__all__ = ["LARGE", "PARTS", "Part", "Segment"]

LARGE: Final = 65_536
"""Bytes of a body from which on it is worth it."""
PARTS: Final = 4
"""Bodies that may be in a segment at a time. When all are taken, others go through the socket."""

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
"""The host can't take memory away from under the daemon, nor add to it."""


class Part:
    """A piece of a segment, for one call: its request's body, then its reply's.

    Attributes:
        view: The memory.
        offset: Where it is in the segment, in bytes.
        room: Its length in bytes.
        segment: Where it is to be given back; None while nobody has it.
        sent: Sees that the reply's body has been sent.
    """

    def __init__(self, view: memoryview, offset: int) -> None:
        self.view: Final = view
        self.offset: Final = offset
        self.room: Final = len(view)
        # Not while it is free: the memory goes with the last that refers to it, without a search for circles.
        self.segment: Segment | None = None
        self.sent: weakref.ref[ctypes.Array[ctypes.c_char]] | None = None


class Segment:
    """A segment, mapped into this process. The memory is the system's as long as it is not used.

    Attributes:
        descriptor: Its file, to be handed to the host; -1 when that is done.
    """

    def __init__(self, size: int) -> None:
        """Make a segment.

        Args:
            size: Its length in bytes; at least one page for each part is used.

        Raises:
            OSError: There is no memory or no descriptor for it.
        """
        room = max(size // PARTS // mmap.PAGESIZE, 1) * mmap.PAGESIZE
        self.descriptor = os.memfd_create("keyway", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, room * PARTS)
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
            # Python keeps a descriptor of its own with it. Both go when nothing refers to it any more, also not what is still on its way to a client.
            self._map: mmap.mmap | None = mmap.mmap(self.descriptor, room * PARTS)
        except BaseException:
            self.hand_over()
            raise
        self._room = room
        self._array = ctypes.c_char * room
        self._memory = memory = memoryview(self._map)
        self._free = [Part(memory[at : at + room], at) for at in range(0, room * PARTS, room)]

    def hand_over(self) -> None:
        """Close the file: the host has it now, or nobody wants it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def close(self) -> None:
        """Take no more bodies: the stream to the host is over. Parts that somebody has stay until he lets go of them."""
        self._free.clear()
        self._memory = memoryview(b"")
        self._map = None

    def view(self, offset: int, length: int) -> memoryview:
        """Return what is at a place.

        Args:
            offset: Bytes from the beginning.
            length: Bytes of it; fewer if the segment ends before, and none if it is closed.
        """
        return self._memory[offset : offset + length]

    def take(self, size: int) -> Part | None:
        """Return a part for a body; None if it is too large, or all parts are taken.

        Args:
            size: Length of the body in bytes.
        """
        if not self._free or size > self._room:
            return None
        part = self._free.pop()
        part.segment = self
        return part

    def give_back(self, part: Part) -> None:
        """Say that a part is not used any more."""
        part.segment = None
        if self._map is not None:
            self._free.append(part)

    def until_sent(self, part: Part, length: int) -> memoryview:
        """Return what is in a part, which is given back when nobody refers to the view any more, or to one that was made from it.

        Args:
            part: The part.
            length: Bytes of it.
        """
        # A transport may keep a view of its own of what it has not sent. All of them refer to this, whoever made them.
        assert self._map is not None  # No reply comes when the stream is over.
        memory = self._array.from_buffer(self._map, part.offset)
        part.sent = weakref.ref(memory, lambda _: self._was_sent(part))
        return memoryview(memory).cast("B")[:length]

    def _was_sent(self, part: Part) -> None:
        part.sent = None
        self.give_back(part)
