"""PINs that are kept: in a page that is locked, not dumped, not inherited by a fork, and wiped."""

from __future__ import annotations

import ctypes
import mmap
from typing import Final

__all__ = ["LONGEST", "Secret"]

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
LONGEST: Final = mmap.PAGESIZE
"""Bytes of the longest secret."""


class Secret:
    """Some bytes in a page of their own. Nothing of them shows in a repr.

    Between the client's frame and this page, and from here to a member, a PIN passes through ordinary memory, as every PIN on its way does.
    What is kept for long is kept here alone.
    """

    __slots__ = ("_length", "_page", "is_locked")

    def __init__(self, data: bytes) -> None:
        """Keep a copy.

        Args:
            data: At most a page of bytes.

        Raises:
            ValueError: There is more.
        """
        if len(data) > LONGEST:
            raise ValueError("too long to be kept")
        self._page: mmap.mmap | None = mmap.mmap(-1, LONGEST, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for advice in (mmap.MADV_DONTDUMP, mmap.MADV_DONTFORK):
            self._page.madvise(advice)
        anchor = ctypes.c_char.from_buffer(self._page)
        # A limit on locked memory (RLIMIT_MEMLOCK) may forbid it; the PIN is needed all the same.
        self.is_locked = _LIBC.mlock(ctypes.c_void_p(ctypes.addressof(anchor)), ctypes.c_size_t(LONGEST)) == 0
        del anchor
        self._page[: len(data)] = data
        self._length = len(data)

    def reveal(self) -> bytes:
        """Return the bytes; empty when they have been wiped."""
        return b"" if self._page is None else self._page[: self._length]

    def wipe(self) -> None:
        """Overwrite and give back the page."""
        if self._page is not None:
            self._page[:] = bytes(LONGEST)
            self._page.close()
            self._page = None

    def __repr__(self) -> str:
        return "<secret>"

    def __del__(self) -> None:
        self.wipe()
