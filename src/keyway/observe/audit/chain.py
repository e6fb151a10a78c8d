"""Lines, each bound to the one before by a hash (docs/guides/audit.md says how, for those who write a verifier)."""

import re
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from keyway.observe.audit.record import Checkpoint, Record

__all__ = ["FIRST", "MAX_LINE", "Chain", "Line", "header", "read_header", "read_line", "signed_message"]

FIRST: Final = bytes(32)
"""What stands for the hash before the first line."""
MAX_LINE: Final = 65_536
"""Bytes that no line has."""
_LONG: Final = 4096
"""Bytes of a line from which on its texts are cut: some come from peers and from tokens."""
_MAX_TEXT: Final = 500

_LINE: Final = re.compile(rb'(\{"seq":([1-9][0-9]{0,17}),[^\n]*),"hash":"([0-9a-f]{64})"\}\n')
_HEADER: Final = re.compile(rb'\{"file":1,"seq":(0|[1-9][0-9]{0,17}),"previous":"([0-9a-f]{64})"\}\n')

_encode: Final = msgspec.json.Encoder().encode


class Line(NamedTuple):
    """A line that is read.

    Attributes:
        seq: Its number, from 1.
        content: What the hash covers, besides the hash before.
        hash: The hash that it claims.
    """

    seq: int
    content: bytes
    hash: bytes

    def follows(self, previous: bytes) -> bool:
        """Tell whether the hash is right if the line before had another one."""
        return sha256(previous + self.content).digest() == self.hash


class Chain:
    """Makes lines.

    Attributes:
        seq: Number of the last line, 0 if there is none.
        hash: Hash of the last line.
    """

    __slots__ = ("hash", "seq")

    def __init__(self, seq: int = 0, hash: bytes = FIRST) -> None:  # noqa: A002 (what it is)
        """Begin a chain, or go on with one from the line that has this number and hash."""
        self.seq = seq
        self.hash = hash

    def line(self, record: Record | Checkpoint) -> bytes:
        """Return the next line, with its line end."""
        try:
            encoded = _encode(record)
        except UnicodeEncodeError:
            encoded = _encode(_cut(record))
        if len(encoded) > _LONG:
            encoded = _encode(_cut(record))
        self.seq += 1
        content = b'{"seq":%d,%b' % (self.seq, encoded[1:-1])
        self.hash = sha256(self.hash + content).digest()
        return b'%b,"hash":"%b"}\n' % (content, self.hash.hex().encode())


def _cut(record: Record | Checkpoint) -> Record | Checkpoint:
    """Return a record with short texts that are Unicode."""
    texts = {name: value for name, value in msgspec.structs.asdict(record).items() if isinstance(value, str)}
    return msgspec.structs.replace(
        record, **{name: value[:_MAX_TEXT].encode(errors="backslashreplace").decode() for name, value in texts.items()}
    )


def read_line(line: bytes) -> Line | None:
    """Return what a line says of itself; None if it is none."""
    found = _LINE.fullmatch(line)
    return Line(int(found[2]), found[1], bytes.fromhex(found[3].decode())) if found else None


def header(seq: int, previous: bytes) -> bytes:
    """Return the first line of a file, which belongs to no chain: it tells where the chain goes on.

    Args:
        seq: Number of the line before the file's first one.
        previous: That line's hash.
    """
    return b'{"file":1,"seq":%d,"previous":"%b"}\n' % (seq, previous.hex().encode())


def read_header(line: bytes) -> tuple[int, bytes] | None:
    """Return number and hash of the line before a file's first one; None if this is no first line."""
    found = _HEADER.fullmatch(line)
    return (int(found[1]), bytes.fromhex(found[2].decode())) if found else None


def signed_message(of: int, head: str) -> bytes:
    """Return what the signature of a checkpoint is made over.

    Args:
        of: Number of the line up to which the chain is signed.
        head: That line's hash in hexadecimal.
    """
    return f"keyway audit checkpoint\n{of}\n{head}\n".encode()
