"""Lines and their hashes."""

import json
from hashlib import sha256

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from keyway.observe.audit import FIRST, Chain, Checkpoint, Record, header, read_header, read_line
from keyway.observe.audit.chain import MAX_LINE

texts = st.text(st.characters(codec="utf-8"), max_size=40)
records = st.builds(
    Record,
    time=st.integers(0, 2**63 - 1),
    event=st.sampled_from(["call", "refused", "configuration"]),
    identity=texts,
    context=texts,
    token=texts,
    object=texts,
    mechanism=texts,
    call=texts,
    rv=texts,
    duration_us=st.integers(0, 2**40),
    request=st.integers(0, 2**64 - 1),
    reason=texts,
)


def test_the_form_that_is_published():
    chain = Chain()
    first = chain.line(Record(5, "call", identity="alice", call="C_Sign", rv="CKR_OK", duration_us=812, request=9))
    content = b'{"seq":1,"time":5,"event":"call","identity":"alice","call":"C_Sign","rv":"CKR_OK","duration_us":812,"request":9'
    digest = sha256(bytes(32) + content)
    assert first == content + b',"hash":"' + digest.hexdigest().encode() + b'"}\n'
    second = chain.line(Record(6, "stop"))
    content = b'{"seq":2,"time":6,"event":"stop"'
    assert second == content + b',"hash":"' + sha256(digest.digest() + content).hexdigest().encode() + b'"}\n'


def test_a_checkpoint():
    line = Chain(7, bytes([1] * 32)).line(Checkpoint(5, 7, "01" * 32, "pkcs11:object=k", "abcd"))
    assert line.startswith(b'{"seq":8,"event":"checkpoint","time":5,"of":7,"head":"0101')
    assert b',"key":"pkcs11:object=k","signature":"abcd","hash":"' in line


@given(st.lists(records, max_size=5))
def test_lines_are_json_and_tell_what_was_recorded(some):
    chain = Chain()
    for number, record in enumerate(some, 1):
        line = chain.line(record)
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        told = json.loads(line)
        assert (told.pop("seq"), told.pop("hash")) == (number, chain.hash.hex())
        facts = msgspec.structs.asdict(record)
        kept = {name: value for name, value in facts.items() if name in ("time", "event") or value}
        assert told == kept


@given(st.lists(records, min_size=1, max_size=5))
def test_a_line_that_is_read_follows_the_one_before(some):
    previous = FIRST
    chain = Chain()
    for number, record in enumerate(some, 1):
        read = read_line(chain.line(record))
        assert read is not None
        assert (read.seq, read.hash) == (number, chain.hash)
        assert read.follows(previous)
        assert not read.follows(sha256(previous).digest())
        previous = read.hash


@given(st.text(st.characters(), max_size=3000), st.text(st.characters(), max_size=3000))
def test_any_text_fits_into_a_line(one, other):
    line = Chain().line(Record(1, "call", identity=one, token=other, object=one, reason=other * 3))
    assert len(line) < MAX_LINE
    assert read_line(line) is not None
    json.loads(line)


def test_a_chain_goes_on():
    whole = Chain()
    first = [whole.line(Record(number, "call")) for number in range(3)]
    rest = Chain(whole.seq, whole.hash)
    assert len(first) == 3
    assert rest.line(Record(9, "stop")) == whole.line(Record(9, "stop"))


@given(st.integers(0, 10**17), st.binary(min_size=32, max_size=32))
def test_headers_come_back(seq, previous):
    assert read_header(header(seq, previous)) == (seq, previous)
    assert read_line(header(seq, previous)) is None


def test_what_is_no_line():
    line = Chain().line(Record(1, "call"))
    for wrong in (b"", b"\n", line[:-1], b" " + line, line.replace(b'"seq":1', b'"seq":01'), line.upper()):
        assert read_line(wrong) is None


def test_a_record_has_no_place_for_data():
    kinds = {field.type for kind in (Record, Checkpoint) for field in msgspec.structs.fields(kind)}
    assert kinds == {int, str}
    assert {"pin", "data", "value", "signature", "plaintext"}.isdisjoint(Record.__struct_fields__)
