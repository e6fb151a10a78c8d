"""Whatever bytes a client sends: an answer to each request, or a closed connection, and no more."""

import random

import pytest
from tests.daemon.raw import RawClient
from tests.daemon.tokens import open_session, slots

from keyway.cryptoki import CALLS
from keyway.wire.header import Flags, Header

ENDS = {call.number for call in CALLS if call.name in {"C_Finalize", "C_WaitForSlotEvent", "C_InitToken"}}
NUMBERS = [number for number in range(110) if number not in ENDS] + [0x3001, 0x3002, 0x3FFF, 0x4000, 0x4002, 0xFFFF]
"""Without what ends the context or the token, waits for ever, or has more than one reply (TRACE, 0x4001)."""


def random_frame(draw, id_):
    body = draw.randbytes(draw.choice([0, 0, 1, 8, 9, 17, 40, 200]))
    if draw.random() < 0.5:
        # Small numbers in small fields come nearer to something that is understood.
        body = b"".join(
            draw.choice([b"\0", b"\1", b"\0\0\0\1", b"\xff\xff\xff\xff", bytes(8), bytes(7) + b"\1"]) for _ in range(8)
        )
    flags = draw.choice(
        [0, 0, 0, Flags.POSTED, Flags.FUSED, Flags.REPLY, Flags.FUSED | Flags.POSTED, draw.getrandbits(16)]
    )
    target = draw.choice([0, 1, 2, draw.getrandbits(64)])
    return Header(len(body), draw.choice(NUMBERS), flags, id_, target, draw.choice([0, 1, draw.getrandbits(64)])), body


@pytest.mark.parametrize("seed", range(4))
def test_random_frames(daemon, seed):
    draw = random.Random(seed)
    with RawClient(daemon.socket) as bystander, RawClient(daemon.socket) as client:
        bystander.initialize()
        slot = slots(bystander)[0]
        session = open_session(bystander, slot)
        client.initialize()
        open_session(client, slot, 1)
        for number in range(1, 1000):
            header, body = random_frame(draw, number)
            client.socket.sendall(header.pack() + body)
            if not header.flags & Flags.POSTED:
                reply = client.receive().header
                assert (reply.id, reply.call, reply.target) == (header.id, header.call, header.target)
        bystander.good("C_GetSessionInfo", True, target=session)


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes(daemon, seed):
    draw = random.Random(seed)
    with RawClient(daemon.socket) as client:
        client.initialize()
        # The first byte makes a body above every limit.
        client.socket.sendall(b"\xff" + draw.randbytes(10_000))
        assert client.is_closed()
