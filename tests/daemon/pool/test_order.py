"""Calls of one session keep their order at a pool of three members, however many are sent before the first is answered."""

from hashlib import sha256

import pytest
from tests.daemon.pool.app import RSA, App
from tests.daemon.pool.tokens import pool as section

from keyway.cryptoki import Mechanism, Null, Output, Room, call_named
from keyway.cryptoki.constants import CKM_SHA256, CKO_PUBLIC_KEY
from keyway.wire.codec import decode_reply

MEMBERS = ("one", "two", "three")
FAILOVER, BALANCE = range(2)
POOLS = [
    section(*MEMBERS, deadline=20),
    section(*MEMBERS, name="spread", policy='"balance"', deadline=20),
]
SESSIONS = (1, 2, 3, 4)
SHA = Mechanism(CKM_SHA256, Null())
ROOM = Room(4096, True)
both = pytest.mark.parametrize("slot", [FAILOVER, BALANCE], ids=["failover", "balance"])


def replies(app: App, asked: list[tuple[int, int, str]]) -> dict[int, list[bytes]]:
    """Take the replies to calls (id, session, name) that have been sent; return for each session the outputs in the order in which they came.

    Those of a session must come in the order in which its calls were sent, and all must have succeeded.
    """
    waiting = {id_: (session, name) for id_, session, name in asked}
    came: dict[int, list[int]] = {}
    outputs: dict[int, list[bytes]] = {}
    for _ in asked:
        frame = app.receive()
        session, name = waiting.pop(frame.header.id)
        assert frame.header.rv == 0, (name, hex(frame.header.rv))
        came.setdefault(session, []).append(frame.header.id)
        for value in decode_reply(call_named(name), frame.body):
            if isinstance(value, Output):
                outputs.setdefault(session, []).append(value.data or b"")
    assert all(ids == sorted(ids) for ids in came.values())
    return outputs


def send(app: App, session: int, name: str, *values) -> tuple[int, int, str]:
    return app.send_call(name, *values, target=session), session, name


def opened(app: App) -> None:
    for session in SESSIONS[1:]:
        app.open(session)


@both
def test_parts_of_an_operation(pools, slot):
    """A digest tells in which order its parts came."""
    parts = {session: [bytes([session, at]) * (1 + at % 5) for at in range(40)] for session in SESSIONS}
    with App(pools.daemon, slot) as app:
        opened(app)
        asked = [send(app, session, "C_DigestInit", SHA) for session in SESSIONS]
        for at in range(40):
            asked += [send(app, session, "C_DigestUpdate", parts[session][at]) for session in SESSIONS]
        asked += [send(app, session, "C_DigestFinal", ROOM) for session in SESSIONS]
        assert replies(app, asked) == {each: [sha256(b"".join(parts[each])).digest()] for each in SESSIONS}


@both
def test_operations_one_after_the_other(pools, slot):
    """Each operation would fail if the one before it were not over, at whichever member it is made; one of the members is slow."""
    with App(pools.daemon, slot) as app:
        opened(app)
        key = app.object("rsa")
        expected = [app.sign(key, bytes([at])) for at in range(12)]
        pools.members[1].does("C_Sign", "delay 20")
        asked = []
        for at in range(12):
            for session in SESSIONS:
                asked.append(send(app, session, "C_SignInit", RSA, key))
                asked.append(send(app, session, "C_Sign", bytes([at]), ROOM))
        assert replies(app, asked) == dict.fromkeys(SESSIONS, expected)
        if slot == BALANCE:
            assert all(member.calls("C_Sign") for member in pools.members)


@both
@pytest.mark.parametrize("function", ["C_SignUpdate", "C_SignFinal"])
def test_a_member_that_is_lost_meanwhile(pools, slot, function):
    with App(pools.daemon, slot) as app:
        opened(app)
        key, public = app.object("rsa"), app.object("rsa", CKO_PUBLIC_KEY)
        for member in pools.members[:2]:
            member.does_once(function, "exit")
        asked = []
        for session in SESSIONS:
            asked.append(send(app, session, "C_SignInit", RSA, key))
            asked += [send(app, session, "C_SignUpdate", bytes([session, at])) for at in range(20)]
            asked.append(send(app, session, "C_SignFinal", ROOM))
        for session, (signature,) in replies(app, asked).items():
            app.good("C_VerifyInit", RSA, public, target=session)
            app.good("C_Verify", b"".join(bytes([session, at]) for at in range(20)), signature, target=session)
        assert any(member.was_told(function) for member in pools.members)
