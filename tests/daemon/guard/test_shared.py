"""Requests whose bodies are in shared memory are judged as all others."""

import pytest
from tests.daemon.guard.guests import Guests
from tests.daemon.guard.test_recorded import made, recorded, shown
from tests.daemon.test_shared import host, shared

from keyway.backend.segment import LARGE
from keyway.cryptoki import RV, Mechanism, Null
from keyway.cryptoki.constants import CKM_SHA512_RSA_PKCS

__all__ = ["made", "recorded"]

DATA = bytes(range(256)) * (LARGE // 256 + 1)
ELSE = Mechanism(CKM_SHA512_RSA_PKCS, Null())


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_what_is_allowed_passes_and_what_is_not_does_not(guests: Guests, fused):
    with guests.app("signer") as app, guests.app("left") as other:
        key = app.object("rsa")
        # The first is looked at, the second is known.
        for _ in range(2):
            assert app.signed(key, DATA, fused=fused) == RV.CKR_OK
        assert app.signed(key, DATA, ELSE, fused=fused) == RV.CKR_MECHANISM_INVALID
        for handle in (key, *range(1, 20)):
            assert other.signed(handle, DATA, fused=fused) in (RV.CKR_OBJECT_HANDLE_INVALID, RV.CKR_KEY_HANDLE_INVALID)
        assert app.signed(key, DATA, fused=fused) == RV.CKR_OK
        used = [shared(pid)[1] for context in guests.daemon.contexts() for pid in context["hosts"].values()]
        assert max(used) >= LARGE


def test_a_signature_is_the_one_of_the_data(guests: Guests):
    with guests.app("owner") as app:
        key = app.object("rsa")
        signature = app.sign(key, DATA)
        assert app.verifies(signature, key, DATA)
        assert not app.verifies(signature, key, DATA[:-1])


def test_quotas_count_it(guests: Guests):
    with guests.app("slow") as app:
        key = app.object("rsa")
        for _ in range(5):
            assert app.signed(key, DATA, fused=True) == RV.CKR_OK


@pytest.mark.parametrize("fused", [False, True], ids=["plain", "fused"])
def test_it_is_recorded(recorded, fused):
    served = recorded()
    with served.app("signer") as app:
        key = app.object("rsa")
        for _ in range(2):
            assert app.signed(key, DATA, fused=fused) == RV.CKR_OK
        assert shared(host(served.daemon))[1] >= LARGE
        last = shown(served.until("C_Sign", 2))
        assert last["rv"] == "CKR_OK"
        assert (last["mechanism"], last["object"]) == ("CKM_SHA256_RSA_PKCS", "private key 'rsa' id 01")
        assert app.signed(key, DATA, ELSE, fused=fused) == RV.CKR_MECHANISM_INVALID
