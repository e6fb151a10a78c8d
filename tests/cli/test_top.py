"""`keyway top`: the picture, and the command that shows it."""

import os
import select
import signal
import struct
import termios
from fcntl import ioctl

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.daemon.harness import DEADLINE, RunningDaemon, softhsm, until
from tests.daemon.raw import RawClient

from keyway.cli.picture import picture


def member(name, **facts):
    return {
        "member": name,
        "backend": name,
        "state": "up",
        "drained": False,
        "parked": "",
        "outstanding": 0,
        "weight": 1,
        "standby": False,
        "served": 0,
        "failures": 0,
        "error": "",
        "latency_ms": 0.0,
        "calls": 0,
        "seconds": 0.0,
        **facts,
    }


def backend(**facts):
    return {"kind": "module host", "hosts": 3, "spares": 2, "crashes": 0, "error": "", "calls": 0, **facts}


def status(members=(), **facts):
    pool = {"policy": "failover", "failovers": 1, "disagreements": 0, "sessions": 12, "members": list(members)}
    return {
        "version": "0.2.0",
        "pid": 4711,
        "uptime": 11532.2,
        "pools": {"vault": pool} if members else {},
        "backends": {},
        "contexts": [],
        **facts,
    }


BEFORE = status(
    [member("hsm1", calls=100, seconds=1.0), member("hsm2", calls=7, seconds=7.0), member("rest")],
    backends={"soft": backend(calls=10)},
)
NOW = status(
    [
        member("hsm1", calls=2724, seconds=2.5744, outstanding=3),
        member("hsm2", calls=7, seconds=7.0, state="down", failures=12, error="unix:/run/hsm2: Connection refused"),
        member("rest", standby=True, drained=True, backend="hsm3", latency_ms=1.5, parked="the PIN was refused"),
    ],
    backends={"soft": backend(calls=34), "far": backend(kind="connection", hosts=0, spares=0, error="nobody is there")},
    contexts=[
        {
            "context": "1f-3",
            "application": "cron",
            "age": 100_000,
            "sessions": 1,
            "in_flight": 0,
            "hosts": {"soft": 17},
        },
        {
            "context": "1f-2",
            "application": "nginx",
            "age": 12.3,
            "sessions": 11,
            "in_flight": 1,
            "hosts": {"pool:vault": "2 members", "soft": 18},
            "pools": {"vault": {"hsm1": {}, "rest": {}}},
        },
    ],
)
GOLDEN = """\
Keyway 0.2.0, up 3 h 12 min: 1,324 calls/s, 2 contexts, 12 sessions

POOL vault: failover, 1 failover, 0 disagreements, 12 sessions
  MEMBER          STATE      CALLS/S       MS  QUEUE  FAILED  NOTE
  hsm1            up           1,312     0.60      3       0
  hsm2            down           0.0        -      0      12
  rest            up             0.0     1.50      0       0  standby, drained..
  hsm2 fails: unix:/run/hsm2: Connection refused
  rest is parked: the PIN was refused

BACKEND             HOSTS    CALLS/S   SPARES  CRASHED  KIND
soft                    3       12.0        2        0  module host
far                     0          -        0        0  connection
far fails: nobody is there

CONTEXT     APPLICATION                   AGE  SESSIONS  CALLS  AT
1f-2        nginx                        12 s        11      1  vault (hsm1, r..
1f-3        cron                      1 d 3 h         1      0  soft"""


class TestPicture:
    def test_all_that_there_is(self):
        assert "\n".join(picture(BEFORE, NOW, 2.0)) == GOLDEN

    def test_without_an_earlier_look_there_are_no_rates(self):
        lines = picture(None, NOW, 0.0)
        assert lines[0] == "Keyway 0.2.0, up 3 h 12 min: - calls/s, 2 contexts, 12 sessions"
        assert lines[4].split() == ["hsm1", "up", "-", "-", "3", "0"]

    def test_another_daemon_has_counted_anew(self):
        assert picture({**BEFORE, "pid": 4712}, NOW, 2.0) == picture(None, NOW, 0.0)

    def test_a_count_that_went_back_is_no_rate(self):
        lines = picture(NOW, BEFORE, 2.0)
        assert lines[4].split() == ["hsm1", "up", "-", "-", "0", "0"]

    def test_a_daemon_without_pools(self):
        lines = picture(None, status(backends={"soft": backend()}), 0.0)
        assert [line.split()[0] for line in lines if line] == ["Keyway", "BACKEND", "soft"]

    def test_an_older_daemon_that_tells_less(self):
        assert picture({}, {}, 1.0) == ["Keyway , up 0 s: - calls/s, 0 contexts, 0 sessions"]

    def test_what_has_no_room(self):
        lines = picture(BEFORE, NOW, 2.0, rows=6)
        assert lines[:5] == GOLDEN.splitlines()[:5]
        assert lines[5:] == [f"... and {len(GOLDEN.splitlines()) - 5} more lines"]

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [
            (59.9, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ],
    )
    def test_times(self, seconds, text):
        assert f"up {text}:" in picture(None, status(uptime=seconds), 0.0)[0]

    @given(st.text(), st.text(), st.integers(1, 200), st.integers(0, 50))
    def test_nobody_draws_outside_the_picture(self, application, error, columns, rows):
        contexts = [{"context": "1f-2", "application": application, "hosts": {}}] * 3
        told = status([member("a", error=error, parked=error)], contexts=contexts)
        lines = picture(None, told, 0.0, columns, rows)
        assert all(len(line) <= columns and line.isprintable() for line in lines)
        assert not rows or len(lines) <= rows

    def test_wide_characters_take_no_more_room(self):
        told = status(contexts=[{"context": "1f-2", "application": "\u9375\u76e4e\u0301", "hosts": {}}])
        assert picture(None, told, 0.0)[-1].split()[1] == "??e?"


class TestCommand:
    @pytest.fixture
    def daemon(self, home):
        daemon = RunningDaemon(home, softhsm(home) + '[log]\nformat = "json"\n')
        yield daemon
        assert daemon.stop() == 0

    @pytest.fixture
    def terminal(self):
        """Both ends of a terminal of 80 columns."""
        ends = os.openpty()
        ioctl(ends[1], termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        yield ends
        for end in ends:
            os.close(end)

    def test_once(self, keyway, daemon):
        with RawClient(daemon.socket) as client:
            client.initialize()
            done = keyway("top", "--once", "--interval", "0.1", "--socket", daemon.socket)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0].startswith("Keyway ")
        assert lines[0].endswith(" calls/s, 1 context, 0 sessions")
        assert any(line.startswith("softhsm ") for line in lines)
        assert "\x1b" not in done.stdout

    def test_live(self, start, daemon, terminal):
        ours, theirs = terminal
        before = termios.tcgetattr(theirs)
        options = {"stdin": theirs, "stdout": theirs, "stderr": theirs, "text": False}
        process = start("top", "--interval", "0.1", "--socket", daemon.socket, **options)
        shown = read_until(ours, b" calls/s", b"softhsm ")
        assert shown.startswith(b"\x1b[H\x1b[2J\x1b[HKeyway ")
        assert b"- calls/s" in shown
        read_until(ours, b".0 calls/s")
        assert daemon.stop() == 0
        read_until(ours, b"no daemon at ", b"; trying again")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE) == 0
        assert termios.tcgetattr(theirs) == before

    def test_into_a_pipe(self, start, daemon):
        process = start("top", "--interval", "0.1", "--socket", daemon.socket)
        heads = 0
        for line in process.stdout:
            assert "\x1b" not in line
            heads += line.startswith("Keyway ")
            if heads == 3:
                break
        process.stdout.close()
        assert process.wait(DEADLINE) == 0
        assert process.stderr.read() == ""

    def test_an_interval_that_makes_no_sense(self, keyway):
        assert keyway("top", "--interval", "0").returncode == 2
        assert keyway("top", "--interval", "nan").returncode == 2


def read_until(descriptor, *texts):
    """Read from a terminal until all texts have come."""
    shown = b""

    def is_there():
        nonlocal shown
        if select.select([descriptor], [], [], 0.0)[0]:
            shown += os.read(descriptor, 65536)
        return all(text in shown for text in texts)

    until(is_there, f"{texts} are shown")
    return shown
