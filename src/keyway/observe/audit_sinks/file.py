"""The audit log in files."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from keyway.observe.audit.chain import FIRST, MAX_LINE, header, read_header, read_line
from keyway.observe.audit_errors import AuditError
from keyway.observe.audit_sinks.sink import Stream

__all__ = ["FileSink"]

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
"""Not blocking: a FIFO in this place would stop everything."""
_HEADER_START: Final = b'{"file":'
_MAX_HEADER: Final = 128


class FileSink:
    """A file that is appended to. When it is large enough it gets another name, FILE.NUMBER, the number that of its first line, and the chain goes on in a new one.

    Attributes:
        seq: Number of the last line that is in the files.
        hash: Its hash.
        torn: Bytes of an unfinished line that were cut off when the file was opened: what a crash has left.
    """

    name = "file"

    def __init__(self, path: Path, max_size: int, keep: int, *, syncs: bool) -> None:
        """Open the file, or make it, and find where the chain goes on.

        Args:
            path: The file.
            max_size: Bytes up to which it grows. A file has one line at least.
            keep: How many of the older files stay; 0: all.
            syncs: Whether `sync` waits for the disk.

        Raises:
            AuditError: It can't be used.
        """
        self._path = path
        self._max_size = max_size
        self._keep = keep
        self._syncs = syncs
        self._stream = Stream()
        self._descriptor = -1
        self._size = self._first = 0
        self.seq, self.hash, self.torn = 0, FIRST, 0
        try:
            self._resume()
        except OSError as error:
            self.close()
            raise AuditError(f"audit log {path}: {error.strerror or error}") from error
        except AuditError:
            self.close()
            raise

    def write(self, lines: Sequence[bytes]) -> int:
        """Take lines; see `Sink`. Those beyond the end of a file are not taken, but next time."""
        if self._descriptor < 0:
            self._begin()
        self._stream.finish(self._descriptor)
        if self._size > len(header(self._first - 1, FIRST)) and self._size + len(lines[0]) > self._max_size:
            self._rotate()
            self._stream.finish(self._descriptor)
        size, fitting = self._size + len(lines[0]), 1
        while fitting < len(lines) and size + len(lines[fitting]) <= self._max_size:
            size += len(lines[fitting])
            fitting += 1
        taken = self._stream.write(self._descriptor, lines[:fitting])
        self._size += sum(map(len, lines[:taken]))
        last = read_line(lines[taken - 1])
        assert last is not None
        self.seq, self.hash = last.seq, last.hash
        return taken

    def sync(self) -> None:
        """Wait until the disk has what was taken."""
        if self._syncs and self._descriptor >= 0:
            os.fdatasync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    # Opening

    def _resume(self) -> None:
        self._open()
        self._size = os.fstat(self._descriptor).st_size
        end = self._whole_end()
        start = os.pread(self._descriptor, MAX_LINE, 0)
        first, newline, _ = start.partition(b"\n")
        found = read_header(first + newline)
        if not newline and len(start) < _MAX_HEADER and start[: len(_HEADER_START)] == _HEADER_START[: len(start)]:
            # There is nothing, or the file was being begun.
            self._cut(0)
            self.seq, self.hash = self._of_rotated()
            self._head()
            return
        if found is None:
            raise AuditError(f"audit log {self._path}: the file is none")
        self._first = found[0] + 1
        self._cut(end)
        self.seq, self.hash = self._last(self._descriptor) or found

    def _open(self, flags: int = 0) -> None:
        self._descriptor = os.open(self._path, _FLAGS | flags, 0o600)
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise AuditError(f"audit log {self._path}: no regular file")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AuditError(f"audit log {self._path}: another process writes it") from None

    def _whole_end(self) -> int:
        """Return how many bytes there are up to the last line end."""
        end = self._size
        while end:
            start = max(0, end - MAX_LINE)
            found = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
        return 0

    def _cut(self, size: int) -> None:
        if size < self._size:
            os.ftruncate(self._descriptor, size)
            self.torn = self._size - size
            self._size = size

    @staticmethod
    def _last(descriptor: int) -> tuple[int, bytes] | None:
        """Return number and hash of the last line in a file that is one. What a broken disk has left behind it stays, for `keyway audit verify`."""
        size = os.fstat(descriptor).st_size
        for start in (max(0, size - 2 * MAX_LINE), 0):
            data = os.pread(descriptor, size - start, start)
            for line in reversed(data.splitlines(keepends=True)):
                if (read := read_line(line)) is not None:
                    return read.seq, read.hash
        return None

    def _of_rotated(self) -> tuple[int, bytes]:
        """Return where the newest of the older files ends."""
        older = self._rotated()
        if not older:
            return 0, FIRST
        descriptor = os.open(older[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            last = self._last(descriptor)
        finally:
            os.close(descriptor)
        if last is None:
            raise AuditError(f"audit log {older[-1]}: has no line from which the next file could go on")
        return last

    def _rotated(self) -> list[Path]:
        """Return the older files, the oldest first."""
        name = re.compile(re.escape(self._path.name) + r"\.[0-9]{12,}")
        found = [each for each in self._path.parent.iterdir() if name.fullmatch(each.name)]
        return sorted(found, key=lambda each: int(each.suffix[1:]))

    # Rotation

    def _rotate(self) -> None:
        self.sync()
        self._path.rename(f"{self._path}.{self._first:012d}")
        self.close()
        self._begin()
        older = self._rotated()
        for each in older[: len(older) - self._keep] if self._keep else ():
            each.unlink(missing_ok=True)
        self._sync_directory()

    def _begin(self) -> None:
        try:
            self._open(os.O_EXCL)
        except AuditError as error:
            self.close()
            raise OSError(errno.EBUSY, str(error)) from error
        self._size = 0
        self._head()

    def _head(self) -> None:
        """Have the file begin with its first line."""
        first = header(self.seq, self.hash)
        self._first = self.seq + 1
        self._size = len(first)
        self._stream.begin(first)

    def _sync_directory(self) -> None:
        if self._syncs:
            descriptor = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
