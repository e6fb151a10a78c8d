"""`keyway drain`, `keyway resume`, and what `keyway status` shows of pools."""

import json
import sys

import pytest
from tests.daemon.harness import DEADLINE, RunningDaemon, until
from tests.daemon.pool.tokens import member
from tests.daemon.pool_control.operator import Operated, pool
from tests.daemon.pool_control.signer import RSA, begin, end
from tests.daemon.raw import RawClient


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def gateway(home, made):
    backends = [member(home, made, name, spares=0) for name in ("one", "two")]
    daemon = RunningDaemon(home, '[log]\nformat = "json"\n' + "\n".join([*backends, pool("one", "two")]))
    gateway = Operated(daemon, home)
    until(gateway.is_settled, "all members have been probed")
    yield gateway
    assert daemon.stop() == 0
    assert daemon.events("internal error") == []


@pytest.fixture
def operate(keyway, gateway):
    """Runs a command at the daemon."""
    return lambda *arguments: keyway(*arguments, "--socket", gateway.socket)


def test_drain_waits_and_says_what_for(start, gateway, operate):
    with RawClient(gateway.socket) as client:
        key = begin(client)
        client.good("C_SignInit", RSA, key, target=1)
        (context,) = gateway.daemon.contexts()
        held = f"  context {context['context']} (test), session 1: operation active\n"
        told = operate("drain", "--no-wait", "one")
        assert told.returncode == 0
        assert told.stdout == "vault/one: gets no new work, still held by 1 session(s)\n" + held
        waiting = start("drain", "vault/one", "--socket", gateway.socket)
        assert waiting.stdout.readline() + waiting.stdout.readline() == told.stdout
        shown = operate("status").stdout.splitlines()
        assert "  vault: session 1 stays at one: operation active" in shown
        assert any(line.startswith("  one, backend one: up, drained, 0 calls under way, ") for line in shown)
        assert any(
            line.startswith("pool vault: failover, writes deny: 1 contexts, 1 sessions (1 stay") for line in shown
        )
        end(client, "C_Sign", b"data")
        output, errors = waiting.communicate(timeout=30)
        assert (waiting.returncode, errors) == (0, "")
        assert output.splitlines()[-1] == "vault/one: drained, nothing holds it"


def test_drain_of_the_last_one_warns(gateway, operate):
    assert operate("drain", "one").stderr == ""
    told = operate("drain", "two")
    assert (told.returncode, told.stderr) == (0, "no member of this pool serves now\n")


def test_resume(gateway, operate):
    operate("drain", "one")
    told = operate("resume", "one")
    assert (told.returncode, told.stdout) == (0, "vault/one: serves\n")


def test_resume_of_one_that_is_not_well(gateway, operate):
    operate("drain", "one")
    (gateway.home / "tokens-one").rename(gateway.home / "away")
    (gateway.home / "tokens-one").mkdir()
    told = operate("resume", "one")
    assert told.returncode == 1
    assert told.stderr == "Error: vault/one: does not serve yet: the token is not there\n"


@pytest.mark.parametrize("command", ["drain", "resume"])
def test_no_such_member(operate, command):
    told = operate(command, "three")
    assert told.returncode == 1
    assert told.stderr == "Error: three: no member of a pool; there are: vault/one, vault/two\n"


def test_the_daemon_ends_while_somebody_waits(start, gateway):
    with RawClient(gateway.socket) as client:
        key = begin(client)
        client.good("C_SignInit", RSA, key, target=1)
        waiting = start("drain", "one", "--socket", gateway.socket)
        waiting.stdout.readline()
        gateway.daemon.process.terminate()
        _, errors = waiting.communicate(timeout=30)
    assert waiting.returncode == 1
    assert errors == "Error: the daemon has gone\n"
    assert gateway.daemon.process.wait(DEADLINE) == 0


class TestReload:
    def test_what_changes_is_told(self, gateway, operate):
        path = gateway.home / "keyway.toml"
        text = path.read_text()
        path.write_text(
            text.replace('"json"', '"json"\nlevel = "debug"').replace("members", 'policy = "balance"\nmembers')
        )
        told = operate("reload")
        assert (told.returncode, told.stdout, told.stderr) == (0, "pool vault: changed\nlog: changed\n", "")
        assert operate("reload").stdout == "nothing has changed\n"

    def test_every_mistake_is_told(self, gateway, operate):
        path = gateway.home / "keyway.toml"
        path.write_text(path.read_text() + "[limits]\nbody = 1\ndrain = -1\n")
        told = operate("reload")
        assert told.returncode == 1
        last = len(path.read_text().splitlines())
        assert told.stderr == (
            f"Error: {path}:{last - 1}: limits.body: must be at least 4096\n"
            f"{path}:{last}: limits.drain: must be at least 0\n"
        )

    def test_what_needs_a_restart(self, gateway, operate):
        path = gateway.home / "keyway.toml"
        path.write_text(path.read_text().replace("k.sock", "other.sock"))
        told = operate("reload")
        assert (told.returncode, told.stdout) == (0, "nothing has changed\n")
        assert told.stderr == "listen.socket: needs a restart, and stays as it is until then\n"

    def test_a_daemon_without_a_file(self, keyway):
        done = keyway("run", "--", sys.executable, "-m", "keyway.cli", "reload")
        assert done.returncode == 1
        assert "this daemon was not started from a configuration file" in done.stderr


class TestPoolCheck:
    def test_members_that_agree(self, gateway, operate):
        told = operate("pool", "check")
        assert told.returncode == 0, told.stdout
        first, public, copy = told.stdout.splitlines()
        assert first.startswith("pool vault: the members agree: one has ")
        assert public == "  only public objects were compared: the pool has no pin_file, or it can't be read"
        assert copy.startswith(
            "  warning: one, two are copies of one token, or one that is reached in several ways (serial "
        )

    def test_members_that_do_not(self, gateway, operate):
        (gateway.home / "tokens-two").rename(gateway.home / "away")
        (gateway.home / "tokens-two").mkdir()
        told = operate("pool", "check", "vault")
        assert told.returncode == 1
        assert "pool vault: the members do not agree: one has " in told.stdout
        assert "  two: can't be asked: the token is not there" in told.stdout.splitlines()

    def test_json(self, gateway, operate):
        told = operate("pool", "check", "--json")
        assert told.returncode == 0
        report = json.loads(told.stdout)["vault"]
        assert (report["agrees"], report["disagreements"], report["public_only"]) == (True, 0, True)
        assert [each["kind"] for each in report["findings"]] == ["copy"]

    def test_no_such_pool(self, operate):
        told = operate("pool", "check", "other")
        assert (told.returncode, told.stderr) == (1, "Error: other: no pool; there are: vault\n")
