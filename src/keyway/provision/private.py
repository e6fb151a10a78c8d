"""Files with secrets: read only if others can't."""

import os
import stat
from pathlib import Path

__all__ = ["PrivateFileError", "read_private"]


class PrivateFileError(Exception):
    """A file with secrets that can't be used. The text says which, and why."""


def read_private(path: Path, limit: int) -> bytes:
    """Return what is in a file that nobody else can read or write.

    Args:
        path: The file.
        limit: Bytes that it may have.

    Raises:
        PrivateFileError: It can't be read, or others can.
    """
    try:
        # Not blocking: a FIFO in this place would stop everything.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise PrivateFileError(f"{path}: {error.strerror}") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise PrivateFileError(f"{path}: no regular file")
        if found.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise PrivateFileError(f"{path}: others can read or write it")
        data = os.read(descriptor, limit + 1)
    except OSError as error:
        raise PrivateFileError(f"{path}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise PrivateFileError(f"{path}: longer than {limit} bytes")
    return data
