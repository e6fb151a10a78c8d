"""What the daemon has one of: records become lines, also when sinks are full for a while."""

import asyncio
import errno
import json

import pytest
from tests.audit.logs import KEY, a_record, check

from keyway.observe.audit import Chain, Record, signed_message, verify
from keyway.observe.audit_errors import SignerError
from keyway.observe.audit_sinks import AuditLog, log

FAR = 86_400.0


class Memory:
    """A sink whose disk may be full."""

    def __init__(self, name="memory"):
        self.name = name
        self.lines: list[bytes] = []
        self.is_full = False
        self.at_a_time = 1_000_000
        self.syncs = 0
        self.refusals = 0
        self.is_closed = False

    def write(self, lines):
        if self.is_full:
            self.refusals += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = lines[: self.at_a_time]
        self.lines += taken
        return len(taken)

    def sync(self):
        self.syncs += 1

    def close(self):
        self.is_closed = True

    @property
    def told(self):
        return [json.loads(line) for line in self.lines]

    @property
    def events(self):
        return [each["event"] for each in self.told]


class Key:
    """A signer."""

    key = "pkcs11:token=t;object=k"

    def __init__(self):
        self.is_there = True
        self.signed = 0

    async def sign(self, digest):
        if not self.is_there:
            raise SignerError("the token refuses: CKR_PIN_LOCKED")
        self.signed += 1
        return digest


@pytest.fixture(autouse=True)
def retry(monkeypatch):
    monkeypatch.setattr(log, "RETRY", 0.001)


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def opened(*sinks, refuses=True, **options):
    return AuditLog(sinks, Chain(), refuses=refuses, **{"seconds": FAR, **options})


def run(test):
    """A test that is a coroutine."""

    def runs(*arguments, **options):
        asyncio.run(test(*arguments, **options))

    runs.__name__ = test.__name__
    return runs


@run
async def test_records_come_in_order_to_all_sinks():
    one, other = Memory(), Memory()
    other.at_a_time = 3
    audit = opened(one, other)
    for number in range(5000):
        audit.note(a_record(number, request=number + 1))
    await audit.close()
    assert [each["request"] for each in one.told] == list(range(1, 5001))
    assert one.lines == other.lines
    assert verify(one.lines).is_good
    assert one.is_closed
    assert one.syncs < 100
    assert (audit.written, audit.dropped) == (5000, 0)


@run
async def test_a_record_is_written_without_others():
    sink = Memory()
    audit = opened(sink)
    audit.note(a_record())
    await until(lambda: sink.lines)
    audit.note(a_record())
    await until(lambda: audit.written == 2)
    await audit.close()


@run
async def test_calls_are_refused_while_the_sink_is_full():
    sink = Memory()
    audit = opened(sink)
    assert not audit.is_full
    sink.is_full = True
    for number in range(10):
        audit.note(a_record(number))
    await until(lambda: audit.is_full)
    assert audit.status()["error"] == "memory: No space left on device"
    # What was under way is written all the same, later.
    audit.note(a_record(10))
    sink.is_full = False
    await until(lambda: not audit.is_full and audit.written == 11)
    await audit.close()
    assert verify(sink.lines).is_good
    assert audit.dropped == 0


@run
async def test_calls_are_refused_while_the_backlog_is_long():
    sink = Memory()
    audit = opened(sink)
    for number in range(log.BACKLOG // 2):
        assert not audit.is_full
        audit.note(a_record(number))
    assert audit.is_full
    await until(lambda: not audit.is_full)
    await audit.close()


@run
async def test_calls_are_made_and_counted_while_the_sink_is_full():
    sink = Memory()
    sink.is_full = True
    audit = opened(sink, refuses=False, every=100_000)
    audit.note(a_record())
    await until(lambda: sink.refusals)
    for number in range(log.BACKLOG + 7):
        audit.note(a_record(number))
    assert not audit.is_full
    assert audit.dropped == 7
    sink.is_full = False
    await until(lambda: "dropped" in sink.events[-1:])
    audit.note(a_record())
    await audit.close()
    assert sink.told[-2]["reason"] == "7 records: the sinks were full"
    assert audit.written == log.BACKLOG + 3
    assert verify(sink.lines).is_good


@run
async def test_one_full_sink_of_two():
    full, other = Memory("file"), Memory("stdout")
    full.is_full = True
    audit = opened(full, other)
    audit.note(a_record())
    await until(lambda: audit.is_full)
    assert len(other.lines) == 1
    full.is_full = False
    await until(lambda: not audit.is_full)
    await audit.close()
    assert full.lines == other.lines


@run
async def test_a_log_that_can_t_be_written_can_be_closed():
    sink = Memory()
    audit = opened(sink)
    audit.note(a_record())
    await until(lambda: sink.lines)
    sink.is_full = True
    audit.note(a_record())
    await until(lambda: sink.refusals)
    await audit.close()
    assert sink.is_closed
    assert len(sink.lines) == 1


@run
async def test_a_disk_that_does_not_keep_it_is_full():
    class Broken(Memory):
        def sync(self):
            super().sync()
            if self.syncs < 4:
                raise OSError(errno.EIO, "Input/output error")

    sink = Broken()
    audit = opened(sink)
    audit.note(a_record())
    await until(lambda: audit.is_full)
    await until(lambda: not audit.is_full)
    await audit.close()
    assert len(sink.lines) == 1


@run
async def test_a_defect_of_a_sink_is_told_and_nothing_goes_unrecorded():
    class Defective(Memory):
        def write(self, lines):
            raise KeyError("what a client sent")

    audit = opened(Defective())
    audit.note(a_record())
    await until(lambda: audit.is_full)
    assert audit.error == "internal error: KeyError"
    await audit.close()


def digests_are_signed(message, signature):
    """Checks what `Key` signs."""
    from hashlib import sha256

    return sha256(message).digest() == signature


@run
async def test_checkpoints_are_signed():
    sink, key = Memory(), Key()
    audit = opened(sink, every=10, signer=key)
    for number in range(10):
        audit.note(a_record(number))
    await until(lambda: "checkpoint" in sink.events)
    audit.note(a_record())
    assert audit.status()["checkpoint"] == {"of": 10, "signed": True, "error": ""}
    await audit.close()
    found = verify(sink.lines, check=digests_are_signed)
    assert found.is_good
    assert (found.checkpoints, found.signed_to, found.lines) == (1, 10, 12)
    assert sink.told[10]["key"] == Key.key


@run
async def test_no_checkpoint_is_begun_at_the_end():
    sink = Memory()
    audit = opened(sink, every=1)
    audit.note(a_record())
    await audit.close()
    assert sink.events == ["call"]


@run
async def test_what_is_new_is_signed_at_the_end():
    sink, key = Memory(), Key()
    audit = opened(sink, signer=key)
    for number in range(3000):  # More than is written in one go.
        audit.note(a_record(number))
    await audit.seal()
    # Nothing was recorded since: there is nothing to sign.
    await audit.seal()
    await audit.close()
    assert key.signed == 1
    found = verify(sink.lines, check=digests_are_signed)
    assert (found.lines, found.signed_to, found.is_sealed, found.is_good) == (3001, 3000, True, True)


@run
async def test_a_checkpoint_under_way_at_the_end_is_waited_for():
    class Slow(Key):
        def __init__(self):
            super().__init__()
            self.asked, self.may = asyncio.Event(), asyncio.Event()

        async def sign(self, digest):
            self.asked.set()
            await self.may.wait()
            return await super().sign(digest)

    sink, key = Memory(), Slow()
    audit = opened(sink, every=1, signer=key)
    audit.note(a_record())
    await key.asked.wait()
    sealing = asyncio.get_running_loop().create_task(audit.seal())
    audit.note(a_record())
    await until(lambda: audit.written == 2)
    assert not sealing.done()
    key.may.set()
    await sealing
    await audit.close()
    assert verify(sink.lines, check=digests_are_signed).signed_to >= 2


@run
async def test_nothing_is_signed_at_the_end_where_nobody_signs_or_nothing_can_be_written():
    sink = Memory()
    audit = opened(sink)
    audit.note(a_record())
    await audit.seal()
    await audit.close()
    assert sink.events == ["call"]
    sink, key = Memory(), Key()
    sink.is_full = True
    audit = opened(sink, signer=key)
    audit.note(a_record())
    await until(lambda: audit.error)
    await audit.seal()
    await audit.close()
    assert key.signed == 0


@run
async def test_whoever_does_not_wait_for_the_last_checkpoint_can_close_all_the_same():
    class Never(Key):
        async def sign(self, digest):
            await asyncio.Event().wait()

    sink = Memory()
    audit = opened(sink, signer=Never())
    audit.note(a_record())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await audit.seal()
    await audit.close()
    assert sink.events == ["call"]


@run
async def test_a_checkpoint_without_a_signature_says_why():
    sink, key = Memory(), Key()
    key.is_there = False
    audit = opened(sink, every=2, signer=key)
    audit.note(a_record())
    audit.note(a_record())
    await until(lambda: sink.events.count("checkpoint") == 1)
    key.is_there = True
    audit.note(a_record())
    audit.note(a_record())
    await until(lambda: sink.events.count("checkpoint") == 2)
    await audit.close()
    assert sink.told[2]["reason"] == "the token refuses: CKR_PIN_LOCKED"
    assert "signature" not in sink.told[2]
    assert verify(sink.lines, check=digests_are_signed).signed_to == 5


@run
async def test_checkpoints_come_with_time_if_there_is_anything_to_sign():
    sink = Memory()
    audit = opened(sink, seconds=0.01)
    audit.note(a_record())
    await until(lambda: sink.events == ["call", "checkpoint"])
    assert sink.told[1]["reason"] == "no key is configured"
    audit.note(a_record())
    await until(lambda: len(sink.lines) == 4)
    await audit.close()
    # A checkpoint is no reason for another one.
    assert sink.events == ["call", "checkpoint", "call", "checkpoint"]


@run
async def test_a_signature_that_takes_its_time_keeps_nobody_waiting():
    class Slow(Key):
        async def sign(self, digest):
            await asyncio.Event().wait()

    sink = Memory()
    audit = opened(sink, every=1, signer=Slow())
    audit.note(a_record())
    await until(lambda: audit.written == 1)
    audit.note(a_record())
    await until(lambda: audit.written == 2)
    await audit.close()
    assert sink.events == ["call", "call"]


@run
async def test_what_the_gateway_says_itself():
    sink = Memory()
    audit = opened(sink, now=lambda: 77)
    audit.say("configuration", "log: changed")
    await audit.close()
    assert {**sink.told[0], "hash": ""} == {
        "seq": 1, "time": 77, "event": "configuration", "reason": "log: changed", "hash": "",
    }  # fmt: skip


def test_the_signature_of_tests_is_one():
    assert check(b"x", KEY + b"x")
    assert signed_message(5, "ab") == b"keyway audit checkpoint\n5\nab\n"
    assert Record(1, "call").object == ""
