"""Logs for tests."""

from pathlib import Path

from keyway.observe.audit import Chain, Checkpoint, Record, Verifier, header, read_header, read_line, signed_message

KEY = b"secret of a test"


def signature(of: int, head: str) -> bytes:
    """Return what `check` takes for a signature."""
    return KEY + signed_message(of, head)


def check(message: bytes, made: bytes) -> bool:
    return made == KEY + message


def a_record(number: int = 0, **facts) -> Record:
    return Record(
        **{"time": 1_700_000_000_000_000_000 + number, "event": "call", "call": "C_Sign", "rv": "CKR_OK", **facts}
    )


def signed(chain: Chain) -> Checkpoint:
    """Return a checkpoint over what is in a chain."""
    head = chain.hash.hex()
    return Checkpoint(1, chain.seq, head, "pkcs11:object=k", signature(chain.seq, head).hex())


def a_log(count: int, *, checkpoint_every: int = 0) -> list[bytes]:
    """Return the first line of a file, and so many others, with a checkpoint behind every so many."""
    chain = Chain()
    lines = [header(0, chain.hash)]
    for number in range(1, count + 1):
        lines.append(chain.line(a_record(number, identity=f"who {number % 3}", object='private key "web"')))
        if checkpoint_every and number % checkpoint_every == 0:
            lines.append(chain.line(signed(chain)))
    return lines


def files_of(path: Path) -> list[Path]:
    """Return the files of a log in the order of their lines."""

    def start(each: Path) -> int:
        found = read_header(each.read_bytes().partition(b"\n")[0] + b"\n")
        return found[0] if found is not None else -1

    return sorted(path.parent.iterdir(), key=start)


def verified(path: Path):
    """Return the findings on the files of a log."""
    verifier = Verifier()
    for each in files_of(path):
        verifier.file(each.name)
        for line in each.read_bytes().splitlines(keepends=True):
            verifier.line(line)
    return verifier.end()


def numbers(path: Path) -> list[int]:
    """Return the numbers of all lines in the files of a log."""
    lines = [line for each in files_of(path) for line in each.read_bytes().splitlines(keepends=True)]
    return [read.seq for line in lines if (read := read_line(line)) is not None]
