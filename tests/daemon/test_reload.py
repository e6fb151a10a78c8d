"""The configuration is read again while clients go on."""

import os
import signal
import socket
import stat
import urllib.request
from functools import partial

import pytest
from tests.authority import Authority
from tests.daemon.conftest import LOG
from tests.daemon.harness import backend, softhsm, until
from tests.daemon.pool.tokens import member
from tests.daemon.pool_control.operator import Operated, pool
from tests.daemon.pool_control.signer import RSA, Signer, begin, end, sign
from tests.daemon.raw import RawClient
from tests.daemon.tokens import label_of, login, make, open_session, slot_of, slots

from keyway.config.locate import softhsm_module
from keyway.cryptoki import RV, Null
from keyway.daemon.control_numbers import STATUS

policies = pytest.mark.parametrize("policy", ['"failover"', '"balance"'], ids=["failover", "balance"])


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Where the token is that all members are copies of."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def members(home, made):
    """Sections of backends by name, each of which has a member."""
    return {name: member(home, made, name, spares=0) for name in ("one", "two")}


@pytest.fixture
def operated(start, home):
    """Starts a daemon that is given other configurations."""

    def begin(*sections: str) -> Operated:
        gateway = Operated(start("\n".join(sections)), home)
        until(gateway.is_settled, "all members have been probed")
        return gateway

    return begin


@pytest.fixture
def plain(operated, home):
    """A daemon over one SoftHSM with a token called demo, and the section of that."""
    section = softhsm(home, spares=0)
    gateway = operated(section)
    make(gateway.daemon, "demo")
    return gateway, section


def has_served(gateway, name, count=0):
    return gateway.member(name)["served"] > count


def hosts(gateway, name):
    return gateway.daemon.status()["backends"][name]["hosts"]


class TestPools:
    @policies
    def test_a_new_member_serves_those_who_are_there(self, operated, members, policy):
        gateway = operated(members["one"], pool("one", policy=policy))
        with RawClient(gateway.socket) as client, Signer(client, begin(client)) as signer:
            signer.go_on()
            outcome = gateway.reload(LOG, *members.values(), pool("two", "one", policy=policy))
            assert outcome == {
                "problems": [],
                "changes": ["backend two: added", "pool vault: changed"],
                "needs_restart": [],
            }
            until(partial(has_served, gateway, "two", 10), "the new member serves")
            signer.go_on()
            assert [each["member"] for each in gateway.pool()["members"]] == ["two", "one"]

    @policies
    def test_a_member_goes(self, operated, members, policy):
        gateway = operated(*members.values(), pool("one", "two", policy=policy))
        with RawClient(gateway.socket) as client, Signer(client, begin(client)) as signer:
            signer.go_on()
            outcome = gateway.reload(LOG, members["two"], pool("two", policy=policy))
            assert outcome["changes"] == ["backend one: removed", "pool vault: changed"]
            until(lambda: not gateway.pool()["leaving"], "the member has left")
            until(lambda: gateway.daemon.events("backend ended"), "its backend has ended")
            signer.go_on()
            assert list(gateway.daemon.status()["backends"]) == ["two"]

    def test_a_member_that_is_held_goes_later(self, operated, members):
        gateway = operated(*members.values(), pool("one", "two"))
        with RawClient(gateway.socket) as client:
            key = begin(client)
            client.good("C_SignInit", RSA, key, target=1)
            gateway.reload(LOG, members["two"], pool("two"))
            (leaving,) = gateway.pool()["leaving"]
            assert (leaving["member"], leaving["drained"]) == ("one", True)
            assert gateway.bound() == [{"session": 1, "member": "one", "reasons": ["operation active"]}]
            end(client, "C_Sign", b"data")
            until(lambda: not gateway.pool()["leaving"], "the member has left")
            sign(client, key)

    @policies
    def test_all_members_get_another_backend(self, operated, home, made, members, policy):
        gateway = operated(*members.values(), pool("one", "two", policy=policy))
        with RawClient(gateway.socket) as client, Signer(client, begin(client)) as signer:
            signer.go_on()
            others = [member(home, made, name, spares=0, threads=2) for name in members]
            outcome = gateway.reload(LOG, *others, pool("one", "two", policy=policy))
            assert outcome["changes"] == ["backend one: changed", "backend two: changed", "pool vault: changed"]
            signer.go_on()
            until(lambda: len(gateway.daemon.events("backend ended")) == 2, "the former backends have ended")
            served = gateway.member("one")["served"]
            until(partial(has_served, gateway, "one", served), "the new member serves")

    def test_options_change(self, operated, members):
        gateway = operated(*members.values(), pool("one", "two"))
        with RawClient(gateway.socket) as client, Signer(client, begin(client)) as signer:
            signer.go_on()
            uris = ("one", "pkcs11:token=vault?backend=two&weight=3")
            gateway.reload(LOG, *members.values(), pool(*uris, policy='"balance"', writes='"first"'))
            assert (gateway.pool()["policy"], gateway.pool()["writes"]) == ("balance", "first")
            assert [each["weight"] for each in gateway.pool()["members"]] == [1, 3]
            served = gateway.member("two")["served"]
            until(partial(has_served, gateway, "two", served + 10), "the other one serves as well")

    def test_a_standby_does_not_serve_any_more(self, operated, members):
        gateway = operated(*members.values(), pool("one", "two"))
        with RawClient(gateway.socket) as client, Signer(client, begin(client)) as signer:
            signer.go_on()
            gateway.reload(LOG, *members.values(), pool("pkcs11:token=vault?backend=one&standby=yes", "two"))
            served = gateway.member("two")["served"]
            until(partial(has_served, gateway, "two", served + 10), "the other one serves")

    def test_a_drained_member_stays_drained(self, operated, home, made, members):
        gateway = operated(*members.values(), pool("one", "two"))
        gateway.drain("one")
        others = [member(home, made, name, spares=0, threads=2) for name in members]
        for sections in ([*members.values(), pool("two", "one")], [*others, pool("one", "two")]):
            assert gateway.reload(LOG, *sections)["changes"]
            assert gateway.member("one")["drained"]
        assert gateway.resume("one")["serves"]

    def test_a_pool_with_another_label_is_another_token(self, operated, members):
        gateway = operated(*members.values(), pool("one", "two"))
        with RawClient(gateway.socket) as client, RawClient(gateway.socket) as later:
            key = begin(client)
            assert label_of(client, 0) == "vault"
            assert gateway.reload(LOG, *members.values(), pool("one", "two", label='"safe"'))["changes"] == [
                "pool vault: replaced"
            ]
            begin(later)
            assert (label_of(client, 0), label_of(later, 0)) == ("vault", "safe")
            sign(client, key)

    def test_pools_come_and_go(self, operated, members):
        gateway = operated(*members.values())
        gateway.reload(LOG, *members.values(), pool("one", "two"))
        with RawClient(gateway.socket) as client:
            key = begin(client)
            assert gateway.reload(LOG, *members.values())["changes"] == ["pool vault: removed"]
            assert gateway.daemon.status()["pools"] == {}
            sign(client, key)
            client.good("C_Finalize")
        with RawClient(gateway.socket) as client:
            client.initialize()
            assert [label_of(client, slot) for slot in slots(client)].count("vault") == 2


class TestBackends:
    def test_who_is_there_keeps_what_he_has(self, plain, home):
        gateway, _ = plain
        with RawClient(gateway.socket) as client, RawClient(gateway.socket) as later:
            client.initialize()
            open_session(client, slot_of(client, "demo"))
            other = home / "other"
            other.mkdir()
            section = softhsm(other, spares=0)
            assert gateway.reload(LOG, section)["changes"] == ["backend softhsm: changed"]
            login(client, 1)
            assert slot_of(client, "demo") is not None
            # Even if it was connected before.
            later.initialize()
            assert [label_of(later, slot) for slot in slots(later)] == [""]
            assert client.good("C_GetSessionInfo", True, target=1)[0].state == 3
            assert not gateway.daemon.events("backend ended")
            client.good("C_Finalize")
            until(lambda: gateway.daemon.events("backend ended"), "the former backend has ended")
            later.good("C_GetInfo", True)

    def test_what_began_before_goes_on_with_the_former_host(self, plain):
        gateway, section = plain
        with RawClient(gateway.socket) as client:
            client.initialize()
            open_session(client, slot_of(client, "demo"))
            gateway.reload(LOG, section.replace("spares = 0", "spares = 1"))
            until(lambda: hosts(gateway, "softhsm") == 1, "the other backend has its spare")
            (host,) = gateway.daemon.contexts()[0]["hosts"].values()
            os.kill(host, signal.SIGKILL)
            until(lambda: gateway.daemon.contexts()[0]["lost_sessions"] == 1, "the loss is seen")
            # The former backend starts another one.
            open_session(client, slot_of(client, "demo"), 2)
            assert hosts(gateway, "softhsm") == 1

    def test_backends_come_and_go(self, plain, home):
        gateway, section = plain
        other = backend("other", softhsm_module(), spares=0)
        assert gateway.reload(LOG, section, other)["changes"] == ["backend other: added"]
        with RawClient(gateway.socket) as client:
            client.initialize()
            assert gateway.reload(LOG, section)["changes"] == ["backend other: removed"]
            assert list(gateway.daemon.status()["backends"]) == ["softhsm"]
        until(lambda: gateway.daemon.events("backend ended"), "it has ended")
        with RawClient(gateway.socket) as client:
            client.initialize()
            assert slot_of(client, "demo") is not None


class TestListeners:
    def section(self, home, name, *lines, socket="l"):
        return "\n".join([f"[listener.{name}]", f'address = "unix:{home}/{socket}"', *lines, ""])

    def test_they_come_and_go_and_connections_stay(self, plain, home):
        gateway, section = plain
        assert gateway.reload(LOG, section, self.section(home, "more"))["changes"] == ["listener more: added"]
        with RawClient(home / "l") as client:
            client.initialize()
            open_session(client, slot_of(client, "demo"))
            assert gateway.reload(LOG, section)["changes"] == ["listener more: removed"]
            assert not (home / "l").exists()
            login(client, 1)
            # A context that begins now is served as before, too.
            client.good("C_Finalize")
            client.initialize()
            open_session(client, slot_of(client, "demo"))

    def test_others_are_shown_other_tokens(self, plain, home):
        gateway, section = plain
        make(gateway.daemon, "second")
        gateway.reload(LOG, section, self.section(home, "more"))
        inode = (home / "l").stat().st_ino
        with RawClient(home / "l") as client, RawClient(home / "l") as later:
            client.initialize()
            assert slot_of(client, "demo") is not None
            shown = 'tokens = ["pkcs11:token=second"]\nfirst_slot = 7'
            assert gateway.reload(LOG, section, self.section(home, "named", shown))["changes"] == [
                "listener named: changed"
            ]
            assert slot_of(client, "demo") is not None
            later.initialize()
            assert slots(later) == (7,)
            assert label_of(later, 7) == "second"
        assert (home / "l").stat().st_ino == inode

    def test_permissions_change_in_place(self, plain, home):
        gateway, section = plain
        gateway.reload(LOG, section, self.section(home, "more", 'mode = "0600"'))
        assert stat.S_IMODE((home / "l").stat().st_mode) == 0o600
        gateway.reload(LOG, section, self.section(home, "more", 'mode = "0666"'))
        assert stat.S_IMODE((home / "l").stat().st_mode) == 0o666

    def test_a_limit_of_contexts(self, plain, home):
        gateway, section = plain
        gateway.reload(LOG, section, self.section(home, "more"))
        gateway.reload(LOG, section, self.section(home, "more", "contexts = 1"))
        with RawClient(home / "l") as one, RawClient(home / "l") as two:
            one.initialize()
            assert two.call("C_Initialize", 0, Null(), b"")[0] == RV.CKR_HOST_MEMORY

    def test_one_that_cant_be_opened_changes_nothing(self, plain, home):
        gateway, section = plain
        until(lambda: hosts(gateway, "softhsm") == 0, "the host that made the token has ended")
        (home / "busy").write_text("no socket")
        outcome = gateway.reload(
            LOG.replace("debug", "error"),
            section.replace("spares = 0", "spares = 3"),
            self.section(home, "good"),
            self.section(home, "bad", socket="busy"),
        )
        assert outcome["changes"] == []
        assert outcome["problems"] == [f"{home}/busy: there is a file which is no socket"]
        assert not (home / "l").exists()
        assert gateway.daemon.events("not reloaded")
        assert hosts(gateway, "softhsm") == 0
        with RawClient(gateway.socket) as client:
            client.initialize()
        assert gateway.daemon.events("context closed")


class TestBadFiles:
    def test_every_mistake_is_told_and_nothing_changes(self, operated, members):
        gateway = operated(*members.values(), pool("one", "two"))
        with RawClient(gateway.socket) as client, Signer(client, begin(client)) as signer:
            signer.go_on()
            path = gateway.home / "keyway.toml"
            outcome = gateway.reload('[log]\nlevel = "loud"', members["one"], pool("one", "three", deadline=-1))
            assert outcome["changes"] == []
            lines = path.read_text().splitlines()
            level, deadline = lines.index('level = "loud"') + 1, lines.index("deadline = -1") + 1
            assert outcome["problems"] == [
                f"{path}:{deadline}: token.vault.deadline: must be at least 0.1",
                f"{path}:{level}: log.level: must be one of: debug, info, warning, error",
            ]
            assert [each["member"] for each in gateway.pool()["members"]] == ["one", "two"]
            signer.go_on()

    @pytest.mark.parametrize(
        ("sections", "problem"),
        [
            (["[token"], "not TOML"),
            (['[backend.x]\nmodule = "/no/such.so"'], "backend.x.module: /no/such.so: no such file"),
            (
                ['[backend.x]\naddress = "tls://h:1"\nca = "/no/such.pem"'],
                "backend x: /no/such.pem: No such file or directory",
            ),
        ],
    )
    def test_what_is_told(self, plain, sections, problem):
        gateway, _ = plain
        (told,) = gateway.reload(*sections)["problems"]
        assert problem in told
        assert list(gateway.daemon.status()["backends"]) == ["softhsm"]

    def test_there_is_no_file_any_more(self, plain):
        gateway, _ = plain
        path = gateway.home / "keyway.toml"
        path.unlink()
        gateway.daemon.process.send_signal(signal.SIGHUP)
        until(lambda: gateway.daemon.events("not reloaded"), "it was tried")
        (entry,) = gateway.daemon.events("not reloaded")
        assert entry["problem"] == f"{path}: can't be read: No such file or directory"


class TestOthers:
    def test_a_signal_does_the_same(self, plain, home):
        gateway, section = plain
        text = f'[listen]\nsocket = "{gateway.socket}"\n{LOG}{section}[listener.more]\naddress = "unix:{home}/l"\n'
        (home / "keyway.toml").write_text(text)
        gateway.daemon.process.send_signal(signal.SIGHUP)
        until(lambda: gateway.daemon.events("reloaded"), "the file was read again")
        (entry,) = gateway.daemon.events("reloaded")
        assert entry["changes"] == "listener more: added"
        assert stat.S_ISSOCK((home / "l").stat().st_mode)

    def test_the_place_of_commands_needs_a_restart(self, plain):
        gateway, section = plain
        (gateway.home / "keyway.toml").write_text(f'[listen]\nsocket = "{gateway.home}/other"\n{section}{LOG}')
        _, outcome = gateway.ask(0x4004)
        assert outcome == {"problems": [], "changes": [], "needs_restart": ["listen.socket"]}
        assert not (gateway.home / "other").exists()
        assert gateway.daemon.status()["socket"] == str(gateway.socket)

    def test_what_is_logged(self, plain):
        gateway, section = plain
        assert gateway.reload(LOG.replace("debug", "error"), section)["changes"] == ["log: changed"]
        with RawClient(gateway.socket) as client:
            client.initialize()
            before = len(gateway.daemon.events("context opened"))
        gateway.reload(LOG, section)
        with RawClient(gateway.socket) as client:
            client.initialize()
            assert len(gateway.daemon.events("context opened")) == before + 1

    def test_limits(self, plain):
        gateway, section = plain
        assert gateway.reload(LOG, section, "[limits]\ncontexts = 1\n")["changes"] == ["limits: changed"]
        with RawClient(gateway.socket) as one, RawClient(gateway.socket) as two:
            one.initialize()
            assert two.call("C_Initialize", 0, Null(), b"")[0] == RV.CKR_HOST_MEMORY

    def test_monitoring_comes_moves_and_goes(self, plain):
        gateway, section = plain
        for host in ("127.0.0.1", "127.0.0.2"):
            assert gateway.reload(LOG, section, f'[metrics]\naddress = "tcp://{host}:0"\n')["changes"]
            assert get(monitors(gateway)[-1]) == b"ok\n"
        first, second = monitors(gateway)
        until(lambda: is_closed(first), "nobody listens there any more")
        gateway.reload(LOG, section)
        until(lambda: is_closed(second), "nobody listens there any more")

    def test_offers(self, plain, home):
        gateway, section = plain
        authority = Authority(home)
        offer = f'[offer.out]\nto = "tls://127.0.0.1:1"\nca = "{authority.file}"\n{authority.issue("out").options}'
        assert gateway.reload(LOG, section, offer)["changes"] == ["offer out: added"]
        until(lambda: gateway.daemon.status()["offers"]["out"]["error"], "it was tried")
        assert gateway.reload(LOG, section, f"{offer}spares = 1\n")["changes"] == ["offer out: changed"]
        assert gateway.reload(LOG, section)["changes"] == ["offer out: removed"]
        assert gateway.daemon.status()["offers"] == {}

    def test_many_at_the_same_time(self, operated, members):
        gateway = operated(*members.values(), pool("one", "two"))
        with RawClient(gateway.socket) as client, Signer(client, begin(client)) as signer:
            for turn in range(6):
                for _ in range(3):
                    gateway.daemon.process.send_signal(signal.SIGHUP)
                gateway.reload(LOG, *members.values(), pool(*(("one", "two") if turn % 2 else ("two",))))
                signer.go_on(3)
        assert gateway.ask(STATUS)[0] == 0


def monitors(gateway) -> list[tuple[str, int]]:
    """Where monitoring was answered so far, in their order."""
    places = [entry["address"] for entry in gateway.daemon.events("listening") if entry["protocol"] == "http"]
    return [(host, int(port)) for host, _, port in (place.removeprefix("tcp://").rpartition(":") for place in places)]


def get(place: tuple[str, int]) -> bytes:
    host, port = place
    with urllib.request.urlopen(f"http://{host}:{port}/health", timeout=20) as answer:
        return answer.read()


def is_closed(place: tuple[str, int]) -> bool:
    try:
        socket.create_connection(place, 20).close()
    except ConnectionRefusedError:
        return True
    return False
