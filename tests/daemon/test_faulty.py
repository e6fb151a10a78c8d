"""Modules that are none, crash, hang or lie: a clear error, and nothing for anybody else."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from tests.daemon.harness import backend, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import label_of, make, open_session, slot_of, slots

from keyway.cryptoki import RV, Mechanism, Null, Output, Room, call_named
from keyway.wire.header import Flags

SOURCE = Path(__file__).parent.parent / "faulty" / "faulty.c"


@pytest.fixture(scope="session")
def faulty_module(tmp_path_factory):
    compiler = shutil.which("gcc")
    assert compiler
    module = tmp_path_factory.mktemp("faulty") / "faulty.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", module, SOURCE], check=True)
    return module


@pytest.fixture
def faulty(start, home, faulty_module):
    """Starts a daemon over the faulty module, with a SoftHSM beside it that must not notice."""

    def begin(words: str, limits: str = "", **options: object):
        section = backend("faulty", faulty_module, environment=f'{{ FAULTY = "{words}" }}', **options)
        daemon = start(softhsm(home, "good") + section + RULES + limits)
        make_good_token(daemon)
        return daemon

    return begin


RULES = '[token.good]\nbackend = "good"\nlabel = "good"\n[token.faulty]\nbackend = "faulty"\nlabel = "faulty"\n[token.spare]\nbackend = "good"\nbackend_slot = 0\n'
GOOD, FAULTY, SPARE = 0, 1, 2


def make_good_token(daemon):
    with RawClient(daemon.socket) as client:
        client.initialize()
        client.good("C_InitToken", b"1234", b"good".ljust(32), target=SPARE)


def check_bystander(client):
    assert label_of(client, GOOD) == "good"


def sign(client, session, data=b"abc"):
    client.good("C_SignInit", Mechanism(1, Null()), 1, target=session)
    return client.call("C_Sign", data, Room(100, True), target=session)


class TestBesideAGoodBackend:
    def test_it_behaves(self, faulty):
        daemon = faulty("")
        with RawClient(daemon.socket) as client:
            client.initialize()
            assert slots(client) == (GOOD, FAULTY)
            open_session(client, FAULTY, 1)
            rv, (output,) = sign(client, 1)
            assert rv == RV.CKR_OK
            assert isinstance(output, Output)
            assert output.data is not None
            assert output.data.endswith(b"cba")
            check_bystander(client)

    @pytest.mark.parametrize("words", ["crash-load", "fail-load", "fail-list", "null-list", "crash-init", "fail-init"])
    def test_it_can_not_be_started(self, faulty, words):
        daemon = faulty(words)
        with RawClient(daemon.socket) as client:
            client.initialize()
            assert slots(client) == (GOOD,)
            assert slots(client, token_present=0) == (GOOD, FAULTY, SPARE)
            assert client.call("C_OpenSession", 4, 1, target=FAULTY)[0] == RV.CKR_TOKEN_NOT_PRESENT
            check_bystander(client)
        errors = daemon.events("module host can't be started") + daemon.events("module not initialised")
        assert errors
        assert {error["backend"] for error in errors} == {"faulty"}
        assert all(error["reason"] for error in errors)

    @pytest.mark.parametrize("words", ["hang-load", "hang-init"])
    def test_it_hangs_at_the_start(self, faulty, words):
        daemon = faulty(words, start_timeout=0.5)
        with RawClient(daemon.socket) as client:
            client.initialize()
            assert slots(client) == (GOOD,)
            check_bystander(client)
        errors = daemon.events("module host can't be started") + daemon.events("module not initialised")
        assert any("0.5 s" in error["reason"] for error in errors)

    @pytest.mark.parametrize("words", ["crash-sign", "exit-sign"])
    def test_it_ends_in_a_call(self, faulty, words):
        daemon = faulty(words)
        with RawClient(daemon.socket) as client, RawClient(daemon.socket) as other:
            for each in (client, other):
                each.initialize()
                open_session(each, FAULTY, 1)
                open_session(each, GOOD, 2)
            assert sign(client, 1) == (RV.CKR_DEVICE_ERROR, ())
            assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_DEVICE_REMOVED
            assert client.good("C_GetSessionInfo", True, target=2)[0].slot == GOOD
            assert other.good("C_GetSessionInfo", True, target=1)[0].slot == FAULTY
            open_session(client, FAULTY, 3)
            assert sign(client, 3) == (RV.CKR_DEVICE_ERROR, ())
        until(lambda: len(daemon.events("module host ended")) == 2, "both ends are reported")
        assert [ended["calls"] for ended in daemon.events("module host ended")] == ["C_Sign", "C_Sign"]

    def test_it_hangs_in_a_call(self, faulty):
        daemon = faulty("hang-sign", "[limits]\nending = 0.5\n")
        with RawClient(daemon.socket) as client, RawClient(daemon.socket) as other:
            for each in (client, other):
                each.initialize()
                open_session(each, FAULTY, 1)
            client.good("C_SignInit", Mechanism(1, Null()), 1, target=1)
            client.send_call("C_Sign", b"abc", Room(100, True), target=1)
            hosts = [context["hosts"]["faulty"] for context in daemon.contexts() if context["in_flight"]]
            assert len(hosts) == 1
            client.socket.close()
            until(lambda: hosts[0] not in daemon.hosts(), "the hung host is killed")
            assert other.good("C_GetSessionInfo", True, target=1)[0].slot == FAULTY

    def test_it_hangs_in_the_end(self, faulty):
        daemon = faulty("hang-finalize", "[limits]\nending = 0.5\n")
        with RawClient(daemon.socket) as client:
            client.initialize()
            client.good("C_Finalize")
        until(lambda: not daemon.contexts(), "the context is closed")
        until(lambda: daemon.status()["backends"]["faulty"]["hosts"] == 2, "only the spares are left")

    def test_it_lies_about_lengths(self, faulty):
        daemon = faulty("garbage-length")
        with RawClient(daemon.socket) as client:
            client.initialize()
            check_bystander(client)
            client.call("C_OpenSession", 4, 1, target=FAULTY)
            check_bystander(client)

    def test_it_is_noisy(self, faulty):
        daemon = faulty("noise")
        with RawClient(daemon.socket) as client:
            client.initialize()
            check_bystander(client)
        until(lambda: daemon.events("module output"), "its words are in the log")
        assert {entry["backend"] for entry in daemon.events("module output")} == {"faulty"}

    def test_calls_without_turns_go_on_while_one_hangs(self, faulty):
        """A hung call keeps its turn for a second at most."""
        daemon = faulty("hang", start_timeout=1.5)
        with RawClient(daemon.socket) as client:
            client.initialize()
            check_bystander(client)


class TestAlone:
    def test_the_error_of_initialize_is_the_modules(self, start, faulty_module):
        daemon = start(backend("faulty", faulty_module, environment='{ FAULTY = "fail-init" }'))
        with RawClient(daemon.socket) as client:
            assert client.call("C_Initialize", 0, Null(), b"")[0] not in {RV.CKR_OK, RV.CKR_HOST_MEMORY}
            assert client.call("C_GetInfo", True)[0] == RV.CKR_CRYPTOKI_NOT_INITIALIZED

    @pytest.mark.parametrize("content", [None, b"", b"not a library", b"\x7fELF"])
    def test_what_is_no_module_shows_no_slots(self, start, home, content):
        module = home / "module.so"
        if content is not None:
            module.write_bytes(content)
        daemon = start(backend("none", module))
        with RawClient(daemon.socket) as client:
            client.initialize()
            assert slots(client) == ()
            (info,) = client.good("C_GetInfo", True)
            assert info.manufacturer_id == b"Keyway".ljust(32)
            assert client.call("C_GetSlotInfo", True, target=0)[0] == RV.CKR_TOKEN_NOT_PRESENT
            assert client.call("C_OpenSession", 4, 1, target=0)[0] == RV.CKR_TOKEN_NOT_PRESENT
            assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_SESSION_HANDLE_INVALID
            assert client.call("C_WaitForSlotEvent", 1, 0, False)[0] == RV.CKR_NO_EVENT
            client.good("C_CloseAllSessions", target=0)
            client.good("C_Finalize")
        (reason,) = {error["reason"] for error in daemon.events("module host can't be started")}
        assert str(module) in reason

    def test_a_module_that_appears_later_is_found(self, start, home, faulty_module):
        module = home / "module.so"
        daemon = start(backend("late", module))
        with RawClient(daemon.socket) as client:
            client.initialize()
            assert slots(client) == ()
            shutil.copy(faulty_module, module)
            until(lambda: slots(client) == (0,), "the slot appears")
            open_session(client, 0)

    def test_the_settings_of_a_backend_reach_the_module(self, start, home, faulty_module):
        daemon = start(
            backend(
                "quirks",
                faulty_module,
                init_string='"a=b"',
                threads=1,
                os_locking="false",
                environment='{ FAULTY = "" }',
            )
        )
        with RawClient(daemon.socket) as client:
            client.initialize()
            (info,) = client.good("C_GetInfo", True)
            assert b"a=b" in info.library_description
            (process,) = [context["hosts"]["quirks"] for context in daemon.contexts()]
            assert "\0--threads\x001\0" in Path(f"/proc/{process}/cmdline").read_text()

    def test_nothing_hot_loops_while_there_is_no_module(self, start, home):
        daemon = start(backend("none", home / "none.so"))
        with RawClient(daemon.socket) as client:
            client.initialize()
            for _ in range(200):
                assert slots(client) == ()
        assert len(daemon.events("module host can't be started")) < 8


def test_a_crash_is_named(faulty_module, start):
    daemon = start(backend("faulty", faulty_module, environment='{ FAULTY = "crash-sign" }'))
    with RawClient(daemon.socket) as client:
        client.initialize()
        open_session(client, 0)
        assert sign(client, 1) == (RV.CKR_DEVICE_ERROR, ())
    until(lambda: daemon.events("module host ended"), "the crash is reported")
    assert daemon.events("module host ended")[0]["how"] == "was killed by SIGSEGV"


def test_all_hosts_killed_at_once_cost_no_new_session(start, home):
    daemon = start(softhsm(home))
    make(daemon, "demo")
    with RawClient(daemon.socket) as client:
        client.initialize()
        slot = slot_of(client, "demo")
        for handle in range(1, 6):
            for pid in daemon.hosts():
                os.kill(pid, signal.SIGKILL)
            open_session(client, slot, handle)


def test_a_client_dies_while_its_host_hangs_and_reads_nothing(start, home, faulty_module):
    daemon = start(
        backend("faulty", faulty_module, environment='{ FAULTY = "hang-sign" }', spares=1) + "[limits]\nending = 0.1\n"
    )
    with RawClient(daemon.socket) as client:
        client.initialize()
        open_session(client, 0)
        client.good("C_SignInit", Mechanism(1, Null()), 1, target=1)
        client.send_call("C_Sign", b"abc", Room(100, True), target=1)
        client.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:
                client.send_call("C_SeedRandom", bytes(65536), target=1)
    until(lambda: not daemon.contexts(), "the context has ended with its client")
    daemon.wait_quiet(1)


def test_a_client_dies_while_its_call_is_repeated(start, home, faulty_module):
    words = '{ FAULTY = "hang,slow-init", FAULTY_DELAY = "1000" }'
    daemon = start(backend("faulty", faulty_module, environment=words, spares=1) + "[limits]\nending = 0.1\n")
    with RawClient(daemon.socket) as client:
        client.initialize()
        client.send_call("C_GetSlotList", 0, Room(0, False))
        until(lambda: daemon.contexts()[0]["in_flight"], "the call is under way")
        (host,) = daemon.contexts()[0]["hosts"].values()
        os.kill(host, signal.SIGKILL)
        until(lambda: {*daemon.contexts()[0]["hosts"].values()} - {host}, "the call is asked of another host")
    daemon.wait_quiet(1)


class TestEndsOfSessionsThatNobodyWaitsFor:
    """Whoever could tell that they take long comes after them."""

    @pytest.fixture
    def daemon(self, start, faulty_module):
        words = '{ FAULTY = "slow-close,few-sessions", FAULTY_DELAY = "100" }'
        return start(backend("faulty", faulty_module, environment=words))

    @pytest.fixture
    def client(self, daemon):
        with RawClient(daemon.socket) as client:
            client.initialize()
            open_session(client, 0, 1)
            yield client

    def post_close(self, client, session):
        # The module's own id for all that is posted.
        client.send(call_named("C_CloseSession").number, target=session, flags=Flags.POSTED, id_=1 << 32)

    def test_a_session_is_opened_in_the_place_of_one_that_ends(self, client):
        for session in range(2, 6):
            open_session(client, 0, session)
            self.post_close(client, session)

    def test_the_token_counts_sessions_without_those_that_end(self, client):
        for session in range(2, 5):
            open_session(client, 0, session)
            self.post_close(client, session)
            (info,) = client.good("C_GetTokenInfo", True, target=0)
            assert info.session_count == 1

    def test_two_at_once(self, client):
        open_session(client, 0, 2)
        self.post_close(client, 1)
        self.post_close(client, 2)
        for session in (3, 4):
            open_session(client, 0, session)
        assert client.call("C_GetSessionInfo", True, target=1)[0] == RV.CKR_SESSION_HANDLE_INVALID

    def test_a_host_that_ends_meanwhile_takes_them_along(self, client, daemon):
        open_session(client, 0, 2)
        self.post_close(client, 2)
        for pid in daemon.hosts():
            os.kill(pid, signal.SIGKILL)
        open_session(client, 0, 3)

    def test_the_context_ends_after_them(self, client):
        open_session(client, 0, 2)
        self.post_close(client, 2)
        client.good("C_Finalize")
