"""Replies come as they are ready: a slow call of one thread does not hold up the others on the same connection."""

import os
import subprocess
import sys
from pathlib import Path

from tests.daemon.tokens import PIN

from keyway.cryptoki import Attribute, Fill, Mechanism
from keyway.cryptoki.constants import CKA_MODULUS_BITS, CKM_RSA_PKCS_KEY_PAIR_GEN

PROGRAM = Path(__file__).with_name("two_threads.py")


def test_signatures_are_finished_while_a_key_is_generated(front, release):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(release.client), "demo", PIN],
        env={**os.environ, **front.variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # p11-kit server answers in order, so that there the one that was under way is the last.
    assert int(done.stdout) >= 5
    assert [entry["how"] for entry in front.daemon.events("context closed")][-1] == "finalized"


def test_the_code_tells_which_reply_it_is(front):
    with front.connect() as client:
        client.initialize()
        slow, quick = (client.open(client.slot_of("demo")) for _ in range(2))
        client.login(slow, PIN)
        bits = (Attribute(CKA_MODULUS_BITS, 4096),)
        first = client.send(
            client.message("C_GenerateKeyPair", Mechanism(CKM_RSA_PKCS_KEY_PAIR_GEN), bits, (), 0, 0, target=slow)
        )
        # Of the busy session too: it waits, and others do not.
        behind = client.send(client.message("C_GenerateRandom", Fill(True, 8), target=slow))
        between = [client.send(client.message("C_GenerateRandom", Fill(True, 8), target=quick)) for _ in range(20)]
        codes = [client.receive().code for _ in range(22)]
        assert codes == [*between, first, behind]


def test_messages_of_one_session_keep_their_order(front):
    with front.connect() as client:
        session = client.start()
        codes = [
            client.send(client.message("C_GenerateRandom", Fill(True, size), target=session)) for size in range(1, 300)
        ]
        frames = [client.receive() for _ in codes]
        assert [frame.code for frame in frames] == codes
        assert [len(frame.body) for frame in frames] == [len(frames[0].body) + more for more in range(299)]
