"""Whether a log is as it was written."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from keyway.observe.audit.chain import FIRST, Line, read_header, read_line, signed_message
from keyway.observe.audit.record import Checkpoint

__all__ = ["Check", "Finding", "Findings", "Verifier", "verify"]

Check = Callable[[bytes, bytes], bool]
"""Takes a message and a signature, and tells whether the one is that of the other."""

MAX_FINDINGS: Final = 1000
MAX_REMEMBERED: Final = 200_000
"""Lines whose hashes are remembered until a checkpoint speaks of them."""

_decode_checkpoint: Final = msgspec.json.Decoder(Checkpoint).decode


class Finding(NamedTuple):
    """Something that is wrong.

    Attributes:
        file: Name of the file.
        line: Line in it, from 1; 0: the file, or the log, as a whole.
        what: What is wrong.
    """

    file: str
    line: int
    what: str


@dataclass(frozen=True, slots=True)
class Findings:
    """What came of it.

    Attributes:
        found: What is wrong, in order; at most `MAX_FINDINGS`.
        more: How many findings there are beyond them.
        lines: How many lines there are, first lines of files not among them.
        chains: How many chains they are. In files there is one.
        first: Number of the first line; 0 if there is none.
        last: Number of the last line.
        head: Its hash in hexadecimal.
        checkpoints: How many checkpoints there are.
        signed: How many of them have a signature that was checked and is right.
        signed_to: Number of the line up to which the chain is signed; 0: none of it is, as far as is known here.
        is_sealed: Whether the last line is the checkpoint that signs so far.
    """

    found: tuple[Finding, ...]
    more: int
    lines: int
    chains: int
    first: int
    last: int
    head: str
    checkpoints: int
    signed: int
    signed_to: int
    is_sealed: bool

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.found


class Verifier:
    """Takes the lines of a log one after the other."""

    def __init__(
        self, check: Check | None = None, expected: Collection[str] = (), *, begins_anew: bool = False
    ) -> None:
        """Begin.

        Args:
            check: Checks the signatures of checkpoints; None: they are not checked.
            expected: Hashes in hexadecimal that lines must have, such as one that another machine has kept: tells whether the end was cut off.
            begins_anew: Whether another chain may begin where one ends, as in a stream at each start of the gateway.
        """
        self._check = check
        self._begins_anew = begins_anew
        self._expected = set(expected)
        self._file, self._number, self._needs_header = "", 0, False
        self._seq, self._hash, self._is_known = 0, FIRST, False
        self._is_in_doubt = self._is_sealed = False
        self._recent: dict[int, bytes] = {}
        self._found: list[Finding] = []
        self._more = self._lines = self._chains = self._first = self._checkpoints = self._signed = self._signed_to = 0

    def file(self, name: str, *, needs_header: bool = True) -> None:
        """Begin with the next file, in the order in which they were written.

        Args:
            name: What findings call it.
            needs_header: Whether it must begin with the first line that files have; a stream need not.
        """
        self._file, self._number, self._needs_header = name, 0, needs_header

    def line(self, line: bytes) -> None:
        """Take the next line, with its line end."""
        self._number += 1
        if self._number == 1 and (start := read_header(line)) is not None:
            self._begin(*start)
            return
        if self._number == 1 and self._needs_header:
            self._wrong("changed: a file of an audit log begins with another line")
        read = read_line(line)
        if read is None:
            whole = line.endswith(b"\n")
            self._wrong("changed: no line of an audit log" if whole else "not finished: no line end")
            self._is_in_doubt = True
        elif self._takes(read):
            self._go_on(read)

    def end(self) -> Findings:
        """Return what was found."""
        for each in sorted(self._expected):
            self._wrong(f"cut off: no line has the hash {each}", 0)
        if self._check is not None and not self._signed_to:
            self._wrong("not signed: no checkpoint that this key has signed speaks of these lines", 0)
        head = self._hash.hex() if self._lines else ""
        return Findings(
            tuple(self._found),
            self._more,
            self._lines,
            self._chains,
            self._first,
            self._seq,
            head,
            self._checkpoints,
            self._signed,
            self._signed_to,
            self._is_sealed,
        )

    def _wrong(self, what: str, line: int | None = None) -> None:
        if len(self._found) < MAX_FINDINGS:
            self._found.append(Finding(self._file, self._number if line is None else line, what))
        else:
            self._more += 1

    def _begin(self, seq: int, previous: bytes) -> None:
        if self._is_known and (seq, previous) != (self._seq, self._hash) and not self._is_in_doubt:
            missing = f": lines {self._seq + 1} to {seq} are missing" if seq > self._seq else ""
            self._wrong(f"does not go on where the file before ends{missing}")
        self._seq, self._hash, self._is_known, self._is_in_doubt = seq, previous, True, False

    def _takes(self, read: Line) -> bool:
        """Tell whether the chain goes on from a line, be it right or not."""
        if not self._is_known:
            # With no line before it nobody can tell, but for the very first one.
            if read.seq == 1 and not read.follows(FIRST):
                self._wrong("changed")
        elif read.seq == self._seq + 1 and read.follows(self._hash):
            pass
        elif self._begins_anew and read.seq == 1 and read.follows(FIRST):
            self._chains += 1
            self._recent.clear()
        elif read.seq <= self._seq:
            self._wrong(f"out of order: line {read.seq} behind line {self._seq}: inserted, repeated or moved")
            return False
        elif not self._is_in_doubt:
            missing = f"missing: lines {self._seq + 1} to {read.seq - 1} before this one"
            self._wrong("changed" if read.seq == self._seq + 1 else missing)
        return True

    def _go_on(self, read: Line) -> None:
        self._lines += 1
        self._chains = self._chains or 1
        self._first = self._first or read.seq
        self._seq, self._hash, self._is_known, self._is_in_doubt = read.seq, read.hash, True, False
        self._expected.discard(read.hash.hex())
        self._is_sealed = False
        if b'"event":"checkpoint"' in read.content:
            self._checkpoint(read)
        self._recent[read.seq] = read.hash
        if len(self._recent) > MAX_REMEMBERED:
            del self._recent[next(iter(self._recent))]

    def _checkpoint(self, read: Line) -> None:
        try:
            told = _decode_checkpoint(read.content + b"}")
            signature = bytes.fromhex(told.signature)
        except (msgspec.DecodeError, ValueError):
            self._wrong("changed: no checkpoint")
            return
        self._checkpoints += 1
        known = self._recent.get(told.of)
        if known is not None and known.hex() != told.head:
            self._wrong(f"the checkpoint has another hash for line {told.of}: that line, or one before it, was changed")
        elif self._check is not None and signature:
            if not self._check(signed_message(told.of, told.head), signature):
                self._wrong("the signature of the checkpoint is not one of this key")
            else:
                self._signed += 1
                self._is_sealed = known is not None
                self._signed_to = told.of if known is not None else self._signed_to
        if known is not None:
            for seq in [each for each in self._recent if each < told.of]:
                del self._recent[seq]


def verify(
    lines: Iterable[bytes], *, check: Check | None = None, expected: Collection[str] = (), name: str = ""
) -> Findings:
    """Verify the lines of one file, or of a stream.

    Args:
        lines: The lines, each with its line end.
        check: See `Verifier`.
        expected: See `Verifier`.
        name: What findings call the file.
    """
    verifier = Verifier(check, expected)
    verifier.file(name, needs_header=False)
    for line in lines:
        verifier.line(line)
    return verifier.end()
