"""What a witness keeps of a session goes with the session: handles are never used twice, so nobody else would take it away."""

from types import SimpleNamespace
from typing import Any

from keyway.cryptoki import Mechanism, Null, call_named
from keyway.cryptoki.constants import CKM_ECDSA
from keyway.daemon.guard.witness import Witness
from keyway.wire.codec import encode_request
from keyway.wire.frames import pack
from keyway.wire.header import HEADER, Header


def test_nothing_is_kept_of_sessions_that_have_ended():
    log: Any = SimpleNamespace(note=lambda _: None, is_full=False)
    reach: Any = SimpleNamespace(token="vault", objects={}, used={})
    witness = Witness(log, "somebody", "1-1")
    row = call_named("C_SignInit")
    request = encode_request(row, (Mechanism(CKM_ECDSA, Null()), 7))
    for session in range(1, 50):
        data = pack(Header(0, row.number, 0, session, session, request.object), request.body)
        witness.asked(HEADER.unpack_from(data), data, reach)
        assert witness._active
        witness.closed(session)
        assert not witness._active
