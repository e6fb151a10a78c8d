"""What the benchmark says must be true: the counting and the judging are tested, the measuring is not.

python -m unittest discover bench
"""

from __future__ import annotations

import select
import socket
import struct
import tempfile
import threading
import unittest
from pathlib import Path

from count_frames import FRAMINGS, FrameScanner, counting
from delay import Way, connect, delayed
from failover import Step, added, longest, next_after, read_steps
from measure import Cost, Sample
from report import Target, compared, judge, ratio
from subjects import unix_path

NATIVE = FRAMINGS["native"]
P11KIT = FRAMINGS["p11-kit"]
MS = 1_000_000


def native_frame(body: bytes) -> bytes:
    """A frame of the native wire, of which only the length matters here."""
    return struct.pack(">I28x", len(body)) + body


def p11kit_frame(options: bytes, body: bytes) -> bytes:
    """A frame of p11-kit's RPC."""
    return struct.pack(">III", 16, len(options), len(body)) + options + body


def taken(rate: float, errors: int = 0) -> Sample:
    """A sample with this rate."""
    return Sample(rate, 1.0, 1.0, 1, 1, errors, 0, Cost())


class Counting(unittest.TestCase):
    def test_frames_are_counted_however_the_bytes_are_cut(self) -> None:
        streams = (
            (NATIVE, b"\x81" + native_frame(b"") + native_frame(b"x" * 300) + native_frame(b"y")),
            (P11KIT, b"\0" + p11kit_frame(b"client", b"") + p11kit_frame(b"", b"z" * 99) + p11kit_frame(b"", b"")),
        )
        for framing, stream in streams:
            for size in (1, 7, len(stream)):
                with self.subTest(header=framing.header, size=size):
                    scanner = FrameScanner(framing)
                    for at in range(0, len(stream), size):
                        scanner.feed(stream[at : at + size])
                    assert scanner.frames == 3

    def test_a_header_counts_when_it_is_complete_and_the_preamble_never(self) -> None:
        scanner = FrameScanner(NATIVE)
        assert scanner.feed(b"\x81") == 0
        assert scanner.feed(native_frame(b"body")[:31]) == 0
        assert scanner.feed(native_frame(b"body")[31:]) == 1

    def test_the_relay_passes_bytes_on_and_counts_both_directions(self) -> None:
        with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as listener:
            directory = Path(name)
            listener.bind(str(directory / "server"))
            listener.listen(1)

            def answer() -> None:
                peer, _ = listener.accept()
                with peer:
                    while peer.recv(4096):
                        peer.sendall(b"\x81" + native_frame(b"reply"))

            server = threading.Thread(target=answer)
            server.start()
            with counting("native", directory / "server", directory / "relay") as counts:
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(directory / "relay"))
                    client.sendall(b"\x81" + native_frame(b"posted") + native_frame(b"request"))
                    expected = b"\x81" + native_frame(b"reply")
                    assert client.recv(len(expected), socket.MSG_WAITALL) == expected
                server.join()
                assert (counts.requests, counts.replies) == (2, 1)


class Judging(unittest.TestCase):
    TARGET = Target("sign", "keyway/p11-kit", ">=", 1.4)

    def test_the_ratio_is_the_median_of_the_rounds(self) -> None:
        rounds = {"keyway": [taken(30), taken(20), taken(90)], "p11-kit": [taken(10), taken(10), taken(10)]}
        found = ratio(rounds, "keyway", "p11-kit")
        assert found is not None
        assert (found.median, found.low, found.high) == (3.0, 2.0, 9.0)

    def test_a_target_is_reached_at_its_bound_and_not_below(self) -> None:
        for rate, reached in ((14.0, True), (13.9, False)):
            figures = {"sign": {"keyway": [taken(rate)], "p11-kit": [taken(10)]}}
            assert judge(self.TARGET, figures, {}).reached == reached

    def test_a_missing_subject_is_not_reached(self) -> None:
        verdict = judge(self.TARGET, {"sign": {"p11-kit": [taken(10)]}}, {})
        assert (verdict.measured, verdict.reached) == (None, False)

    def test_a_figure_with_failed_operations_is_not_reached(self) -> None:
        figures = {"sign": {"keyway": [taken(99, errors=1)], "p11-kit": [taken(10)]}}
        assert not judge(self.TARGET, figures, {}).reached

    def test_an_absolute_quantity_has_to_be_known(self) -> None:
        target = Target("sign", "round trips", "<=", 1.0)
        assert not judge(target, {}, {}).reached
        assert judge(target, {}, {("sign", "round trips"): 1.0}).reached
        assert not judge(target, {}, {("sign", "round trips"): 2.0}).reached

    def test_any_failure_of_ours_counts(self) -> None:
        target = Target("sign", "front/p11-kit", ">=", 1.0)
        for errors, reached in ((0, True), (1, False)):
            figures = {"sign": {"front": [taken(20, errors=errors)], "p11-kit": [taken(10, errors=1)]}}
            assert judge(target, figures, {}).reached == reached

    def test_who_takes_part_is_compared(self) -> None:
        rounds = {"front": [taken(20)], "p11-kit": [taken(10)]}
        assert list(compared(rounds, ("front", "p11-kit"))) == ["front/p11-kit"]
        assert compared({}, ("keyway", "direct")) == {"keyway/direct": None}


class Failing(unittest.TestCase):
    USUAL = tuple(Step(0, at * MS, (at + 2) * MS, 0) for at in range(0, 40, 2))

    def test_what_was_under_way_is_what_was_met(self) -> None:
        slow = [Step(1, 10 * MS, 17 * MS, 0), Step(2, 11 * MS, 14 * MS, 0)]
        times = added([*self.USUAL, *slow], [int(12.5 * MS)])
        assert times is not None
        assert times.calls == 3
        assert (times.median, times.highest) == (1.0, 5.0)

    def test_what_began_afterwards_is_told_apart(self) -> None:
        late = Step(1, 14 * MS, 25 * MS, 0)
        times = added([*self.USUAL, late], [int(12.5 * MS)])
        assert times is not None
        assert (times.highest, times.later) == (0.0, 9.0)

    def test_nobody_was_met(self) -> None:
        assert added(list(self.USUAL), [99 * MS]) is None
        assert added([], [1]) is None

    def test_the_longest_is_in_seconds(self) -> None:
        assert longest([Step(0, 0, 5, 0), Step(0, 5, 1_500_000_005, 0)]) == 1.5
        assert longest([]) == 0

    def test_each_thread_has_its_own_next_signature(self) -> None:
        steps = [
            Step(thread, 0, end, 0) for thread, end in ((0, 10**9), (1, 2 * 10**9), (0, 3 * 10**9), (1, 5 * 10**9))
        ]
        assert sorted(next_after(steps, [10**9])) == [1.0, 2.0]

    def test_steps_are_read_as_the_load_generator_writes_them(self) -> None:
        written = struct.pack("=8Q", 3, 10, 20, 0, 4, 30, 50, 0x30)
        assert read_steps(written) == [Step(3, 10, 20, 0), Step(4, 30, 50, 0x30)]


class Delaying(unittest.TestCase):
    def test_what_comes_leaves_when_it_is_due_and_not_before(self) -> None:
        sender, source = socket.socketpair()
        sink, receiver = socket.socketpair()
        with sender, source, sink, receiver:
            way = Way(source, sink, 1000.0)
            sender.sendall(b"one")
            way.receive()
            first = way.due
            assert first is not None
            sender.sendall(b"two")
            way.receive()
            # The second did not have to wait for the first to leave.
            assert way.due == first
            way.deliver(first - 1)
            assert select.select([receiver], (), (), 0)[0] == []
            way.deliver(first + 1000)
            assert receiver.recv(6) == b"onetwo"
            assert way.due is None

    def test_the_proxy_passes_both_directions_and_both_ends(self) -> None:
        with tempfile.TemporaryDirectory() as name, socket.socket(socket.AF_UNIX) as listener:
            directory = Path(name)
            listener.bind(str(directory / "server"))
            listener.listen(1)
            with (
                delayed(0.1, str(directory / "server"), str(directory / "late")) as endpoint,
                connect(endpoint) as client,
            ):
                server, _ = listener.accept()
                with server:
                    client.sendall(b"request")
                    client.shutdown(socket.SHUT_WR)
                    assert server.recv(7, socket.MSG_WAITALL) == b"request"
                    assert server.recv(1) == b""
                    server.sendall(b"reply")
                assert client.recv(5, socket.MSG_WAITALL) == b"reply"
                assert client.recv(1) == b""


class Addresses(unittest.TestCase):
    def test_unix_paths_are_found_and_nothing_else(self) -> None:
        for address in ("unix:path=/run/k", "unix:///run/k", "unix:/run/k", "/run/k"):
            assert unix_path(address) == Path("/run/k")
        for address in ("", "tls://host:1", "tcp:127.0.0.1:1"):
            assert unix_path(address) is None


if __name__ == "__main__":
    unittest.main()
