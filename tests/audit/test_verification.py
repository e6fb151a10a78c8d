"""Whatever is done to a log is found."""

from hypothesis import given
from hypothesis import strategies as st
from tests.audit.logs import a_log, a_record, check, signature, signed

from keyway.observe.audit import Chain, Checkpoint, Verifier, header, verify
from keyway.observe.audit.verification import MAX_FINDINGS

LOG = a_log(8, checkpoint_every=3)
COUNT = len(LOG) - 1
WHOLE = b"".join(LOG)


def findings(lines, **options):
    return verify(lines, **options)


def test_a_good_log():
    found = findings(LOG, check=check)
    assert found.is_good
    assert (found.lines, found.first, found.last) == (COUNT, 1, COUNT)
    assert (found.checkpoints, found.signed, found.signed_to) == (2, 2, 7)
    assert found.head.encode() in LOG[-1]


def test_a_stream_needs_no_first_line_of_a_file():
    assert findings(LOG[1:], check=check).is_good
    # Nor its beginning; but then nobody can tell whether the first line is right.
    assert findings(LOG[4:]).first == 4


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found_in_its_line(place, change):
    data = bytearray(WHOLE)
    data[place] ^= change
    found = findings(bytes(data).splitlines(keepends=True))
    line = WHOLE[:place].count(b"\n") + 1
    assert not found.is_good
    # A first line that tells another beginning is seen where the next line does not go on from it.
    assert line <= found.found[0].line <= line + (line == 1)


@given(st.integers(0, len(WHOLE) - 2))
def test_any_end_that_is_cut_off_within_a_line_is_found(size):
    data = WHOLE[:size]
    found = findings(data.splitlines(keepends=True), expected=[findings(LOG).head])
    assert not found.is_good
    if data and not data.endswith(b"\n"):
        assert found.found[0].what.startswith("not finished")


@given(st.integers(1, COUNT - 1))
def test_a_removed_line_is_found(place):
    found = findings(LOG[:place] + LOG[place + 1 :])
    assert found.found[0].line == place + 1
    assert found.found[0].what == f"missing: lines {place} to {place} before this one"
    assert len(found.found) == 1


@given(st.integers(1, COUNT), st.integers(1, COUNT))
def test_lines_in_another_order_are_found(one, other):
    lines = list(LOG)
    line = lines.pop(one)
    lines.insert(other, line)
    assert findings(lines).is_good is (one == other)


@given(st.integers(0, COUNT), st.integers(1, COUNT + 1))
def test_a_line_that_is_there_twice_is_found(one, place):
    lines = list(LOG)
    lines.insert(place, LOG[one])
    # Two that are the same stand side by side: the second is the one.
    assert findings(lines).found[0].line in (place + 1, place + 2)


@given(st.binary(max_size=30).filter(lambda line: b"\n" not in line), st.integers(1, COUNT + 1))
def test_a_line_from_elsewhere_is_found(junk, place):
    lines = list(LOG)
    lines.insert(place, junk + b"\n")
    found = findings(lines)
    assert [each.line for each in found.found] == [place + 1]


@given(st.integers(1, COUNT))
def test_a_forged_line_is_found(place):
    # One that is right in itself, with a hash that fits what it says.
    lines = list(LOG)
    lines[place] = Chain(place - 1, bytes(32) if place > 1 else bytes([1] * 32)).line(a_record(reason="forged"))
    assert findings(lines).found[0] == ("", place + 1, "changed")


def test_an_end_that_is_cut_off_is_found_if_somebody_knows_the_hash():
    assert findings(LOG[:-1]).is_good
    head = findings(LOG).head
    assert [each.what for each in findings(LOG[:-1], expected=[head]).found] == [
        f"cut off: no line has the hash {head}"
    ]
    assert findings(LOG, expected=[head]).is_good


class TestCheckpoints:
    def rewritten(self):
        """A log that somebody made anew, with all hashes right and the signatures of the old one."""
        chain = Chain()
        lines = [
            header(0, chain.hash),
            *(chain.line(a_record(number, identity="somebody else")) for number in range(3)),
        ]
        old = Chain()
        for number in range(1, 4):
            old.line(a_record(number))
        return chain, old, lines

    def test_a_log_that_was_made_anew_contradicts_its_checkpoint(self):
        chain, old, lines = self.rewritten()
        lines.append(chain.line(signed(old)))
        assert findings(lines, check=check).found[0].what.startswith("the checkpoint has another hash for line 3")

    def test_a_forged_signature(self):
        chain, _, lines = self.rewritten()
        lines.append(chain.line(Checkpoint(1, chain.seq, chain.hash.hex(), "k", "00")))
        assert [each.what for each in findings(lines, check=check).found] == [
            "the signature of the checkpoint is not one of this key",
            "not signed: no checkpoint that this key has signed speaks of these lines",
        ]
        assert findings(lines).is_good

    def test_a_log_without_signatures_is_not_good_if_there_should_be_some(self):
        lines = a_log(3)
        assert findings(lines).is_good
        assert findings(lines, check=check).found[0].what.startswith("not signed")

    def test_a_checkpoint_that_is_not_signed_says_so_and_the_next_one_speaks_for_it(self):
        chain = Chain()
        lines = [chain.line(a_record())]
        lines.append(chain.line(Checkpoint(1, 1, chain.hash.hex(), "", "", "no key is configured")))
        assert not findings(lines, check=check).is_good
        lines.append(chain.line(signed(chain)))
        found = findings(lines, check=check)
        assert found.is_good
        assert (found.checkpoints, found.signed, found.signed_to) == (2, 1, 2)

    def test_a_signature_over_lines_that_are_elsewhere_proves_nothing_here(self):
        old = Chain()
        for number in range(5):
            old.line(a_record(number))
        forged = Chain(9, bytes([7] * 32))
        lines = [header(9, forged.hash), forged.line(signed(old))]
        assert findings(lines, check=check).signed_to == 0
        assert not findings(lines, check=check).is_good

    def test_a_checkpoint_that_is_none(self):
        chain = Chain()
        line = chain.line(Checkpoint(1, 1, "00", "", "no hexadecimal"))
        assert findings([line]).found[0].what == "changed: no checkpoint"

    def test_texts_of_records_are_no_checkpoints(self):
        chain = Chain()
        lines = [chain.line(a_record(reason='"event":"checkpoint"', identity='","event":"checkpoint","x":"'))]
        assert findings(lines).checkpoints == 0

    def test_lines_may_come_between_a_checkpoint_and_what_it_speaks_of(self):
        chain = Chain()
        lines = [chain.line(a_record())]
        first = signed(chain)
        lines += [chain.line(a_record(number)) for number in range(4)]
        lines += [chain.line(first), chain.line(signed(chain))]
        found = findings(lines, check=check)
        assert found.is_good
        assert found.signed_to == 6


class TestFiles:
    def verified(self, *files):
        verifier = Verifier()
        for number, lines in enumerate(files):
            verifier.file(f"file {number}")
            for line in lines:
                verifier.line(line)
        return verifier.end()

    def in_two(self):
        chain = Chain()
        first = [header(0, chain.hash), *(chain.line(a_record(number)) for number in range(3))]
        second = [header(chain.seq, chain.hash), *(chain.line(a_record(number)) for number in range(3))]
        return first, second

    def test_a_chain_goes_on_in_the_next_file(self):
        found = self.verified(*self.in_two())
        assert found.is_good
        assert (found.lines, found.first, found.last) == (6, 1, 6)

    def test_the_oldest_files_may_be_gone(self):
        _, second = self.in_two()
        found = self.verified(second)
        assert found.is_good
        assert found.first == 4

    def test_a_file_that_is_missing_between_others(self):
        first, second = self.in_two()
        chain = Chain(9, bytes(32))
        third = [header(9, chain.hash), chain.line(a_record())]
        found = self.verified(first, third)
        assert found.found == (("file 1", 1, "does not go on where the file before ends: lines 4 to 9 are missing"),)
        assert not self.verified(first[:-1], second).is_good

    def test_a_file_without_its_first_line(self):
        first, second = self.in_two()
        found = self.verified(first, second[1:])
        assert found.found == (("file 1", 1, "changed: a file of an audit log begins with another line"),)

    def test_another_first_line(self):
        first, second = self.in_two()
        other = [header(3, bytes(32)), *second[1:]]
        assert self.verified(first, other).found[0][:2] == ("file 1", 1)
        assert self.verified(other).found[0][:2] == ("file 0", 2)


def test_a_stream_has_a_chain_for_each_start_of_the_gateway():
    def lines_of(verifier, *streams):
        verifier.file("stream", needs_header=False)
        for stream in streams:
            for line in stream:
                verifier.line(line)
        return verifier.end()

    first, second = a_log(3)[1:], a_log(5, checkpoint_every=5)[1:]
    found = lines_of(Verifier(check, begins_anew=True), first, second)
    assert found.is_good
    assert (found.lines, found.chains, found.last, found.signed_to) == (9, 2, 6, 5)
    assert not lines_of(Verifier(), first, second).is_good
    assert not lines_of(Verifier(begins_anew=True), first, second[1:]).is_good
    assert not lines_of(Verifier(begins_anew=True), first, first[:1], second[2:3]).is_good


def test_findings_are_not_without_end():
    found = findings([b"x\n"] * (MAX_FINDINGS + 5))
    assert len(found.found) == MAX_FINDINGS
    assert found.more == 5


def test_signatures_are_over_number_and_hash():
    assert signature(1, "aa") != signature(11, "a")
