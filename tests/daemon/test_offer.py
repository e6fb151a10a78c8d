"""A gateway that can't be reached offers its tokens to one that can."""

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.authority import Authority, Pair
from tests.daemon.conftest import LOG
from tests.daemon.harness import KEYWAY, RunningDaemon, softhsm, until
from tests.daemon.raw import RawClient
from tests.daemon.test_listeners_net import refused_start
from tests.daemon.tokens import generate_rsa, label_of, login, make, open_session, slot_of, slots

from keyway.cryptoki import Mechanism, Null, Room, call_named
from keyway.cryptoki.constants import CKM_SHA256_RSA_PKCS
from keyway.daemon.offer import FIRST_PAUSE, LONGEST_PAUSE, pause_after
from keyway.wire.codec import decode_reply

SPARES = 2


@pytest.fixture
def authority(home):
    return Authority(home)


@pytest.fixture
def inner_home():
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)


@pytest.fixture
def start_outer(start, authority):
    """Starts the gateway that clients reach, on the same port each time."""
    port = 0

    def begin() -> RunningDaemon:
        nonlocal port
        daemon = start(
            '[backend.inner]\noffered = "site-3"\n[listener.offers]\nprotocol = "offer"\n'
            f'address = "tls://127.0.0.1:{port}"\nca = "{authority.file}"\n{authority.issue("outer.test").options}'
        )
        port = port_of(daemon)
        return daemon

    return begin


@pytest.fixture
def start_inner(inner_home, authority):
    """Starts gateways with a SoftHSM that offer its tokens."""
    daemons = []
    section = softhsm(inner_home)

    def begin(outer: RunningDaemon, pair: Pair, name: str = "outer.test", more: str = "") -> RunningDaemon:
        daemon = RunningDaemon(
            inner_home,
            f'{LOG}{section}[offer.outer]\nto = "tls://127.0.0.1:{port_of(outer)}"\n'
            f'server_name = "{name}"\nspares = {SPARES}\nca = "{authority.file}"\n{pair.options}{more}',
        )
        daemons.append(daemon)
        return daemon

    yield begin
    for daemon in daemons:
        assert daemon.stop() == 0
        assert daemon.events("internal error") == []
        assert "Traceback" not in daemon.log()


def port_of(daemon: RunningDaemon) -> int:
    return next(int(e["address"].rpartition(":")[2]) for e in daemon.events("listening") if "tls" in e["address"])


def sees_token(outer: RunningDaemon, label: str) -> bool:
    with RawClient(outer.socket) as client:
        rv, _ = client.call("C_Initialize", 0, Null(), b"test")
        return rv == 0 and label in [label_of(client, slot) for slot in slots(client)]


def test_the_tokens_are_used_through_the_other_gateway(start_outer, start_inner, authority):
    outer = start_outer()
    inner = start_inner(outer, authority.issue("site-3"))
    make(inner, "behind")
    until(lambda: len(outer.events("stream offered")) >= SPARES, "streams are offered")
    until(lambda: outer.status()["backends"]["inner"]["offered"] == SPARES, "they wait there")
    assert inner.status()["offers"]["outer"] == {
        "to": f"tls://127.0.0.1:{port_of(outer)}",
        "waiting": SPARES,
        "error": "",
    }
    # More contexts at a time than streams wait: each one that is taken is replaced.
    clients = [RawClient(outer.socket) for _ in range(SPARES * 3)]
    try:
        for client in clients:
            client.initialize()
        assert len(inner.contexts()) == len(clients)
        assert sees_token(outer, "behind")
    finally:
        for client in clients:
            client.socket.close()
    until(lambda: not inner.contexts(), "the contexts end with their clients")


@pytest.mark.parametrize("known", [True, False])
def test_who_comes_that_way_is_known_by_the_offer(start_outer, start_inner, authority, known):
    """It is no listener, also not that without a name."""
    outer = start_outer()
    own = '[identity.own]\nlistener = [""]\nroles = ["all"]\n[role.all]\ntokens = ["pkcs11:"]\nadministration = true\n'
    far = '[identity.far]\noffer = ["outer"]\nroles = ["all"]\n' if known else ""
    inner = start_inner(outer, authority.issue("site-3"), more=own + far)
    make(inner, "behind")
    until(lambda: outer.status()["backends"]["inner"]["offered"] == SPARES, "streams wait")
    assert sees_token(outer, "behind") is known
    assert inner.events("context opened")[-1]["identity"] == ("far" if known else "")


def test_a_client_signs_there(start_outer, start_inner, authority):
    outer = start_outer()
    inner = start_inner(outer, authority.issue("site-3"))
    make(inner, "behind")
    until(lambda: sees_token(outer, "behind"), "the token is offered")
    with RawClient(outer.socket) as client:
        client.initialize()
        open_session(client, slot_of(client, "behind"))
        login(client, 1)
        generate_rsa(client, 1)
        _, _, private = decode_reply(call_named("C_GenerateKeyPair"), client.receive().body)
        client.good("C_SignInit", Mechanism(CKM_SHA256_RSA_PKCS, Null()), private, target=1)
        (signature,) = client.good("C_Sign", b"data", Room(256, True), target=1)
        assert len(signature.data) == 256
        (context,) = inner.contexts()
        assert (context["transport"], context["certificate"]) == ("tls", "outer.test")
        (stream,) = outer.contexts()[0]["hosts"].values()
        assert stream.startswith("site-3 at 127.0.0.1:")


def test_it_comes_back_by_itself_when_the_other_gateway_was_away(start_outer, start_inner, authority):
    outer = start_outer()
    inner = start_inner(outer, authority.issue("site-3"))
    make(inner, "behind")
    until(lambda: sees_token(outer, "behind"), "the token is offered")
    until(lambda: inner.events("tokens offered"), "the success is in the log")
    assert outer.stop() == 0
    until(lambda: inner.events("tokens not offered"), "the loss is in the log")
    outer = start_outer()
    until(lambda: sees_token(outer, "behind"), "the token is offered again")
    until(lambda: len(inner.events("tokens offered")) == 2, "that is in the log, too")
    assert len(inner.events("tokens not offered")) == 1
    assert inner.events("tokens not offered")[0]["reason"].startswith(
        ("it closed the connection", "the connection broke")
    )


def test_the_other_gateway_does_not_mind_when_it_goes_and_comes(start_outer, start_inner, authority):
    outer = start_outer()
    pair = authority.issue("site-3")
    inner = start_inner(outer, pair)
    make(inner, "behind")
    until(lambda: len(outer.events("stream offered")) >= SPARES, "streams are offered")
    assert inner.stop() == 0
    assert inner.events("tokens not offered") == []
    assert not sees_token(outer, "behind")
    start_inner(outer, pair)
    until(lambda: sees_token(outer, "behind"), "the token is offered again")


def test_a_stranger_can_offer_nothing(start_outer, start_inner, authority):
    outer = start_outer()
    inner = start_inner(outer, authority.issue("site-4"))
    until(lambda: len(outer.events("connection refused")) > 1, "the refusals are in the log")
    refused = outer.events("connection refused")[0]
    assert refused["reason"] == "no backend has offered = site-4"
    assert refused["certificate"] == "site-4"
    assert not sees_token(outer, "behind")
    # Said once, however often it is tried, and never called a success.
    (entry,) = inner.events("tokens not offered")
    assert "offered = the name in our certificate" in entry["reason"]
    assert inner.events("tokens offered") == []
    assert inner.status()["offers"]["outer"]["error"] == entry["reason"]
    shown = subprocess.run([*KEYWAY, "status", "--socket", inner.socket], capture_output=True, text=True, check=True)
    assert f"failing: {entry['reason']}" in shown.stdout


def test_one_with_a_certificate_of_another_ca_can_offer_nothing(start_outer, start_inner, inner_home):
    outer = start_outer()
    inner = start_inner(outer, Authority(inner_home, "other").issue("site-3"))
    until(lambda: inner.events("tokens not offered"), "the refusal is in its log")
    assert inner.events("tokens not offered")[0]["reason"] == "it does not know the CA of our certificate"
    assert "certificate is refused" in outer.events("connection refused")[0]["reason"]
    assert outer.events("stream offered") == []


def test_a_gateway_of_another_name_is_not_offered_to(start_outer, start_inner, authority):
    outer = start_outer()
    inner = start_inner(outer, authority.issue("site-3"), name="else.test")
    until(lambda: inner.events("tokens not offered"), "the failure is in the log")
    assert "certificate is refused" in inner.events("tokens not offered")[0]["reason"]
    assert not outer.events("stream offered")


@pytest.mark.parametrize(
    "section", ['[offer.outer]\nto = "tls://127.0.0.1:9"\n', '[backend.x]\naddress = "tls://127.0.0.1:9"\n']
)
def test_a_gateway_does_not_start_with_files_that_it_can_not_use(home, authority, section):
    pair = authority.issue("site-3")
    pair.key.write_bytes(authority.issue("else").key.read_bytes())
    said = refused_start(home, f'{softhsm(home)}{section}{pair.options}ca = "{authority.file}"\n')
    assert "do not belong together" in said


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_pauses_grow_up_to_a_limit(failures, luck):
    pause = pause_after(failures, luck)
    assert pause <= LONGEST_PAUSE
    if failures:
        assert pause >= FIRST_PAUSE / 2
        assert pause_after(failures + 1, luck) >= pause
    else:
        assert pause == 0
