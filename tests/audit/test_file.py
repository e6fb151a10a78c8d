"""The log in files: rotation, crashes, disks that are full."""

import fcntl
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.audit.logs import a_record, files_of, numbers, verified

from keyway.observe.audit import Chain
from keyway.observe.audit_errors import AuditError
from keyway.observe.audit_sinks import FileSink


def open_sink(path, max_size=1_000_000, keep=0, syncs=False):
    return FileSink(path, max_size, keep, syncs=syncs)


def put(sink, lines):
    """Give a sink all lines, as the log does."""
    while lines:
        lines = lines[sink.write(lines) :]
    sink.sync()


def write(path, count, batch=3, **options):
    """Open a log, write records to it in batches, and close it."""
    sink = open_sink(path, **options)
    chain = Chain(sink.seq, sink.hash)
    lines = [chain.line(a_record(number)) for number in range(count)]
    for start in range(0, count, batch):
        put(sink, lines[start : start + batch])
    assert (sink.seq, sink.hash) == (chain.seq, chain.hash)
    sink.close()
    return sink


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


def test_a_new_file_is_for_its_owner_alone(path):
    before = os.umask(0)
    try:
        write(path, 2)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_chain_goes_on_when_the_file_is_opened_again(path):
    for count in (2, 0, 3):
        assert write(path, count).torn == 0
    assert verified(path).is_good
    assert numbers(path) == [1, 2, 3, 4, 5]
    assert len(files_of(path)) == 1


@given(st.integers(1, 1500), st.integers(1, 12), st.lists(st.integers(0, 12), min_size=1, max_size=3))
def test_files_of_any_size(max_size, batch, counts):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "audit.jsonl"
        for count in counts:
            write(path, count, batch, max_size=max_size)
        found = verified(path)
        assert found.is_good
        assert numbers(path) == list(range(1, sum(counts) + 1))
        files = files_of(path)
        assert files[-1] == path
        # None is too large, but one that has a single line.
        assert all(each.stat().st_size <= max_size or each.read_bytes().count(b"\n") <= 2 for each in files)


def test_old_files_go(path):
    write(path, 40, max_size=600, keep=2)
    files = files_of(path)
    assert len(files) == 3
    found = verified(path)
    assert found.is_good
    assert found.first > 1
    assert files[0].name == f"audit.jsonl.{found.first:012d}"
    assert found.last == 40


def test_what_is_not_of_the_log_stays(path):
    other = path.with_name("audit.jsonl.old")
    other.write_text("x")
    write(path, 40, max_size=600, keep=1)
    assert other.read_text() == "x"


LINES = 3


@given(st.data())
def test_a_crash_at_any_byte(data):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "audit.jsonl"
        write(path, LINES)
        whole = path.read_bytes()
        size = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:size])
        kept = whole[:size].rfind(b"\n") + 1
        sink = write(path, 2)
        assert sink.torn == size - kept
        assert path.read_bytes().startswith(whole[:kept])
        assert verified(path).is_good
        assert numbers(path) == list(range(1, max(0, whole[:kept].count(b"\n") - 1) + 3))


@given(st.data())
def test_a_crash_while_a_new_file_is_begun(data):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "audit.jsonl"
        write(path, 6, max_size=600)
        first = path.read_bytes().partition(b"\n")[0]
        path.unlink()
        before = numbers(path)
        if data.draw(st.booleans()):
            path.write_bytes(first[: data.draw(st.integers(0, len(first)))])
        write(path, 2)
        assert verified(path).is_good
        assert numbers(path) == list(range(1, len(before) + 3))


def test_what_a_broken_disk_left_is_kept_and_found(path):
    write(path, 3)
    with path.open("ab") as file:
        file.write(bytes(20) + b"\n")
    write(path, 2)
    found = verified(path)
    assert found.found == (("audit.jsonl", 5, "changed: no line of an audit log"),)
    assert numbers(path) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("content", [b"x", b"hello\n", b'{"file":1}\n', b"\0" * 5000, b'{"file":' * 100])
def test_another_file_is_left_alone(path, content):
    path.write_bytes(content)
    with pytest.raises(AuditError, match="the file is none"):
        open_sink(path)
    assert path.read_bytes() == content


def test_what_can_t_be_opened(tmp_path, path):
    with pytest.raises(AuditError, match="No such file"):
        open_sink(tmp_path / "none" / "audit.jsonl")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AuditError):
        open_sink(path)
    assert not (tmp_path / "elsewhere").exists()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(AuditError, match="no regular file"):
        open_sink(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(AuditError):
        open_sink(path)


def test_one_process_writes_a_log(path):
    write(path, 1)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(AuditError, match="another process writes it"):
            open_sink(path)
    write(path, 1)


def test_the_disk_is_told_to_keep_it(path, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    write(path, 6, batch=2, syncs=True)
    assert len(synced) == 3
    write(path, 6, batch=2, syncs=False)
    assert len(synced) == 3


FULL = """
import resource, sys
from pathlib import Path
from tests.audit.logs import a_record
from keyway.observe.audit import Chain
from keyway.observe.audit_sinks import FileSink

path, limit, max_size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
sink = FileSink(path, max_size, 0, syncs=False)
chain = Chain(sink.seq, sink.hash)
lines = [chain.line(a_record(number)) for number in range(12)]
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
refusals = 0
while lines:
    try:
        lines = lines[sink.write(lines):]
    except OSError:
        refusals += 1
        # One refusal changes nothing; then there is room.
        if refusals == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
# What is left of a line comes with the next one.
sink.write([chain.line(a_record())])
print(refusals)
"""


@pytest.mark.parametrize("max_size", [600, 1_000_000])
@pytest.mark.parametrize("limit", [0, 1, 90, 91, 200, 331, 450])
def test_a_file_that_can_t_grow_takes_the_rest_later(path, limit, max_size):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path), str(limit), str(max_size)],
        cwd=Path(__file__).parents[2],
        env={"PYTHONPATH": "src:."},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == 2
    assert verified(path).is_good
    assert numbers(path) == list(range(1, 14))


def test_a_file_that_can_t_be_begun_is_begun_later(path, monkeypatch):
    sink = open_sink(path, max_size=600)
    chain = Chain()
    lines = [chain.line(a_record(number)) for number in range(12)]
    opened = os.open

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    left = lines
    left = left[sink.write(left) :]
    monkeypatch.setattr(os, "open", full)
    for _ in range(2):
        with pytest.raises(OSError, match="No space"):
            sink.write(left)
    monkeypatch.setattr(os, "open", opened)
    put(sink, left)
    sink.close()
    assert verified(path).is_good
    assert numbers(path) == list(range(1, 13))
