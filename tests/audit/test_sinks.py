"""Syslog and standard output."""

import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.audit.logs import a_record

from keyway.observe.audit import Chain
from keyway.observe.audit_sinks import StdoutSink, SyslogSink, stdout, syslog
from keyway.observe.audit_sinks.syslog import message

RFC5424 = re.compile(
    rb"<86>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) keyway (\d+) audit - (\{.*\})", re.DOTALL
)


def some_lines(count):
    chain = Chain()
    return [chain.line(a_record(number)) for number in range(count)]


class TestSyslog:
    @pytest.fixture
    def address(self, tmp_path):
        return tmp_path / "log"

    def listening(self, address):
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        opened.bind(str(address))
        return opened

    def test_the_form(self):
        (line,) = some_lines(1)
        found = RFC5424.fullmatch(message(line, "host", 7))
        assert found is not None
        assert found[1] == b"2023-11-14T22:13:20.000000Z"
        assert (found[2], found[3], found[4] + b"\n") == (b"host", b"7", line)
        assert message(line, "", 7).split(b" ")[2] == b"-"

    def test_a_datagram_for_each_line(self, address):
        lines = some_lines(3)
        with self.listening(address) as daemon:
            sink = SyslogSink(address)
            assert sink.write(lines) == 3
            for line in lines:
                found = RFC5424.fullmatch(daemon.recv(65_536))
                assert found is not None
                assert (int(found[3]), found[4] + b"\n") == (os.getpid(), line)
            sink.close()

    def test_a_receiver_that_comes_back(self, address):
        lines = some_lines(3)
        sink = SyslogSink(address)
        with pytest.raises(OSError, match="No such file"):
            sink.write(lines)
        with self.listening(address):
            assert sink.write(lines[:1]) == 1
        address.unlink()
        with pytest.raises(OSError, match="refused"):
            sink.write(lines[1:])
        with self.listening(address) as daemon:
            assert sink.write(lines[1:]) == 2
            assert daemon.recv(65_536).endswith(lines[1][:-1])
        sink.close()

    def test_one_that_does_not_read(self, address, monkeypatch):
        monkeypatch.setattr(syslog, "_PATIENCE", 0.01)
        lines = some_lines(5000)
        with self.listening(address) as daemon:
            sink = SyslogSink(address)
            taken = sink.write(lines)
            assert 0 < taken < len(lines)
            with pytest.raises(OSError, match="timed out"):
                sink.write(lines[taken:])
            for line in lines[:taken]:
                assert daemon.recv(65_536).endswith(line[:-1])
            assert sink.write(lines[taken : taken + 1]) == 1
            sink.close()


class TestStdout:
    def test_all_lines_come(self):
        lines = some_lines(2000)
        reading, writing = os.pipe()
        with ThreadPoolExecutor(1) as thread, os.fdopen(reading, "rb") as reader:
            read = thread.submit(reader.read)
            sink = StdoutSink(writing)
            assert sink.write(lines) == len(lines)
            sink.close()
            os.close(writing)
            assert read.result() == b"".join(lines)

    def test_a_reader_that_is_slow_loses_nothing(self, monkeypatch):
        monkeypatch.setattr(stdout, "_PATIENCE", 10)
        lines = some_lines(2000)
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        sink = StdoutSink(writing)
        left, got, refusals = lines, b"", 0
        while left:
            try:
                left = left[sink.write(left) :]
            except BlockingIOError:
                refusals += 1
                got += os.read(reading, 10_000)
        sink.write([b""])
        os.close(writing)
        while more := os.read(reading, 65_536):
            got += more
        os.close(reading)
        assert refusals
        assert got == b"".join(lines)

    def test_a_reader_that_has_gone(self):
        reading, writing = os.pipe()
        os.close(reading)
        with pytest.raises(BrokenPipeError):
            StdoutSink(writing).write(some_lines(1))
        os.close(writing)
