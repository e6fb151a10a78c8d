"""The gateway holds the PIN: who is known logs in without one."""

import tempfile
from pathlib import Path

import pytest
from tests.daemon.conftest import starting
from tests.daemon.guard.guests import CONFIG, SLOT, Guests
from tests.daemon.pool import tokens
from tests.daemon.pool.tokens import PIN

from keyway.cryptoki import RV, Null, TokenInfo
from keyway.cryptoki.constants import CKF_PROTECTED_AUTHENTICATION_PATH, CKU_SO, CKU_USER


@pytest.fixture(params=['label = "vault"\npin_file = "{}"\n', 'uri = "pkcs11:token=vault?pin-source=file:{}"\n'])
def held(request):
    with tempfile.TemporaryDirectory(prefix="kt-") as name, starting(Path(name)) as start:
        home = Path(name)
        tokens.original(home)
        pin = home / "pin"
        pin.write_text(f"{PIN}\n")
        pin.chmod(0o600)
        config = CONFIG.replace('label = "vault"\n', request.param.format(pin))
        yield Guests(start(tokens.member(home, home, "hsm") + config.format(home=home)), home), pin


def log_in(app, user=CKU_USER):
    return app.call("C_Login", user, Null(), target=1)[0]


def test_a_login_without_a_pin(held):
    guests, _ = held
    with guests.app("signer", login=False) as app:
        (info,) = app.good("C_GetTokenInfo", True, target=SLOT)
        assert isinstance(info, TokenInfo)
        assert info.flags & CKF_PROTECTED_AUTHENTICATION_PATH
        assert log_in(app) == RV.CKR_OK
        app.sign(app.object("rsa"))
        assert log_in(app) == RV.CKR_USER_ALREADY_LOGGED_IN
        app.good("C_Logout", target=1)
        app.login()
    with guests.app("owner", login=False) as app:
        assert log_in(app, CKU_SO) not in (RV.CKR_OK, RV.CKR_PIN_LOCKED)
    with guests.app("stranger", session=False) as app:
        assert app.call("C_Login", CKU_USER, Null(), target=1)[0] == RV.CKR_SESSION_HANDLE_INVALID


def test_a_pin_that_is_wrong_is_tried_once(held):
    guests, pin = held
    pin.write_text("wrong\n")
    for _ in range(3):
        with guests.app("signer", login=False) as app:
            assert log_in(app) not in (RV.CKR_OK, RV.CKR_PIN_LOCKED)
    assert len(guests.daemon.events("PIN of pin_file refused")) == 1
    replaced = pin.with_name("new")
    replaced.write_text(f"{PIN}\n")
    replaced.chmod(0o600)
    replaced.replace(pin)
    with guests.app("signer", login=False) as app:
        assert log_in(app) == RV.CKR_OK


def test_a_file_that_others_can_read(held):
    guests, pin = held
    pin.chmod(0o644)
    with guests.app("signer", login=False) as app:
        assert log_in(app) != RV.CKR_OK
    (told,) = guests.daemon.events("pin_file can't be used")
    assert "others may read it" in told["reason"]
