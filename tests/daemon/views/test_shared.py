"""Large bodies of calls behind a PIN go through the memory of the host that it leads to, and of no other one."""

import hashlib
import os
import signal
from contextlib import contextmanager, suppress

import pytest
from tests.daemon.harness import freeze, until
from tests.daemon.test_shared import MEMORY, PART, SHA256, data_of, digest, encrypt, encrypted, new_key, shared
from tests.daemon.views.tenants import PINS, log_in

from keyway.backend.segment import LARGE
from keyway.cryptoki import RV, Attribute, Output, Room, call_named
from keyway.cryptoki.constants import CKA_LABEL, CKU_USER
from keyway.wire.codec import decode_reply, encode_request
from keyway.wire.header import HEADER

DATA = data_of(PART - 64)
LESS = data_of(LARGE)
"""So little that more is read from a client while it waits."""


@pytest.fixture
def gateway(own):
    return own(shared_memory=MEMORY, spares=0)


def used(gateway):
    """Bytes that went through shared memory: of the host of which it is most."""
    found = [0]
    for pid in gateway.daemon.hosts():
        with suppress(FileNotFoundError, ProcessLookupError):
            found.append(shared(pid)[1])
    return max(found)


@contextmanager
def stopped(gateway):
    """All hosts stand still."""
    hosts = gateway.daemon.hosts()
    for pid in hosts:
        freeze(pid)
    try:
        yield
    finally:
        for pid in hosts:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def rvs(app, count):
    return {frame.header.id: frame.header.rv for frame in (app.receive() for _ in range(count))}


def test_requests_and_replies(gateway):
    with gateway.app("alice") as app:
        assert used(gateway) == 0
        assert digest(app, DATA) == hashlib.sha256(DATA).digest()
        assert used(gateway) >= len(DATA)
        key = new_key(app)
        for _ in range(12):
            assert encrypt(app, key, DATA) == encrypted(DATA)
        assert used(gateway) <= 2 * PART  # Parts are used again, not all of them one after the other.


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
@pytest.mark.parametrize(("view", "name"), [("clerk", "guest"), ("alice", "narrow"), ("clerk", "narrow")])
def test_guards_before_and_behind_the_choice(gateway, view, name, fused):
    with gateway.app(view, name) as app:
        key = app.object("a-rsa")
        for _ in range(2):
            assert app.signed(key, DATA, fused=fused) == RV.CKR_OK
        assert used(gateway) >= len(DATA)
        assert app.signed(key + 50, DATA, fused=fused) in (RV.CKR_KEY_HANDLE_INVALID, RV.CKR_OBJECT_HANDLE_INVALID)
        assert app.verifies(app.sign(key, DATA), key, DATA)


def test_what_is_behind_a_logout(gateway):
    with gateway.app("alice") as app:
        app.good("C_DigestInit", SHA256, target=1)
        with stopped(gateway):
            sent = [
                app.send_call("C_Digest", DATA, Room(32, True), target=1),
                app.send_call("C_Logout", target=1),
                app.send_call("C_Digest", LESS, Room(32, True), target=1),
                app.send_call("C_FindObjectsInit", (Attribute(CKA_LABEL, LESS),), target=1),
            ]
            until(lambda: gateway.daemon.contexts()[0]["in_flight"] == len(sent), "all have been passed on")
        expected = (RV.CKR_OK, RV.CKR_OK, RV.CKR_USER_NOT_LOGGED_IN, RV.CKR_OK)
        assert rvs(app, len(sent)) == dict(zip(sent, expected, strict=True))
        app.good("C_FindObjectsFinal", target=1)
        log_in(app, "bob")
        assert digest(app, DATA) == hashlib.sha256(DATA).digest()
        until(lambda: gateway.daemon.status()["backends"]["hsm"]["hosts"] == 1, "the host of the other view has gone")
        assert used(gateway) >= len(DATA)


@pytest.mark.parametrize("name", ["guest", "narrow"], ids=["at the choice", "at the guard"])
def test_what_waits_while_another_view_is_chosen(gateway, name):
    with gateway.app("alice", name) as app:
        with stopped(gateway):
            sent = [
                app.send_call("C_Logout", target=1),
                app.send_call(
                    "C_FindObjectsInit", (), target=1
                ),  # The guard of one that sees few objects searches itself.
                app.send_call("C_FindObjectsFinal", target=1),
                app.send_call("C_Login", CKU_USER, PINS["bob"].encode(), target=1),
                app.send_call("C_DigestInit", SHA256, target=1),
                app.send_call("C_Digest", DATA, Room(32, True), target=1),
            ]
            until(lambda: gateway.daemon.contexts()[0]["in_flight"] == len(sent), "all have been passed on")
        replies = {frame.header.id: frame for frame in (app.receive() for _ in sent)}
        assert [replies[each].header.rv for each in sent] == [RV.CKR_OK] * len(sent)
        (result,) = decode_reply(call_named("C_Digest"), replies[sent[-1]].body)
        assert isinstance(result, Output)
        assert result.data == hashlib.sha256(DATA).digest()


def test_a_body_that_comes_while_the_choice_ends(gateway):
    with gateway.app("alice") as app:
        logout, digesting = call_named("C_Logout").number, call_named("C_Digest").number
        _, body = encode_request(call_named("C_Digest"), (DATA, Room(32, True)))
        frames = HEADER.pack(0, logout, 0, 900, 1, 0) + HEADER.pack(len(body), digesting, 0, 901, 1, 0) + body
        with stopped(gateway):
            app.socket.sendall(frames[:LARGE])
            until(lambda: gateway.daemon.contexts()[0]["in_flight"] == 1, "the first has been passed on")
        assert rvs(app, 1) == {900: RV.CKR_OK}
        app.socket.sendall(frames[LARGE:])
        assert rvs(app, 1) == {901: RV.CKR_USER_NOT_LOGGED_IN}
        log_in(app, "bob")
        assert digest(app, DATA) == hashlib.sha256(DATA).digest()


def test_a_host_that_is_killed_with_a_body(gateway):
    with gateway.app("alice") as app:
        with stopped(gateway):
            app.send_call("C_DigestInit", SHA256, target=1)
            app.send_call("C_Digest", DATA, Room(32, True), target=1)
            until(lambda: gateway.daemon.contexts()[0]["in_flight"] == 2, "the daemon has passed it on")
            for pid in gateway.daemon.hosts():
                os.kill(pid, signal.SIGKILL)
            assert [*rvs(app, 2).values()] == [RV.CKR_DEVICE_ERROR] * 2
        app.open(2)
        log_in(app, "bob", session=2)
        assert digest(app, DATA, 2) == hashlib.sha256(DATA).digest()
