"""PINs that lead nowhere: they cost the client time, and no token hears of them."""

import pytest
from tests.daemon.pool.app import App
from tests.daemon.views.tenants import OF_A, OF_B, PINS, TENANTS, labels, log_in, write_pin

from keyway.cryptoki import RV
from keyway.cryptoki.constants import CKF_USER_PIN_COUNT_LOW, CKF_USER_PIN_FINAL_TRY, CKF_USER_PIN_LOCKED, CKU_USER

TRIED = CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY | CKF_USER_PIN_LOCKED


def tried(app, pin):
    return app.call("C_Login", CKU_USER, pin.encode(), target=1)[0]


def flags(gateway, slot=6):
    with App(gateway.daemon, slot, session=False) as app:
        return app.info().flags & TRIED


class TestGuesses:
    def test_wait_and_never_reach_a_token(self, own):
        gateway = own()
        with gateway.app(name="guesser") as app, gateway.app(name="guesser") as again, gateway.app() as guest:
            assert [tried(app, "wrong"), tried(again, "wrong, too")] == [RV.CKR_PIN_INCORRECT] * 2
            assert tried(app, "wrong") == tried(again, PINS["alice"]) == RV.CKR_PIN_LOCKED
            log_in(guest, "alice")
        assert not flags(gateway)
        assert gateway.daemon.status()["backends"]["hsm"]["crashes"] == 0

    def test_a_pin_of_the_token_behind_is_a_wrong_one(self, own):
        gateway = own()
        with gateway.app() as app:
            assert tried(app, TENANTS["tenant-a"]) == RV.CKR_PIN_INCORRECT
            assert tried(app, "") == RV.CKR_PIN_INCORRECT
        assert not flags(gateway)

    def test_who_knows_one_pin_can_not_guess_at_others_for_ever(self, own):
        gateway = own()
        with gateway.app() as app:
            for guess in ("0000", "0001"):
                assert tried(app, guess) == RV.CKR_PIN_INCORRECT
                if guess == "0000":
                    log_in(app, "alice")
                    app.good("C_Logout", target=1)
            assert tried(app, PINS["bob"]) == tried(app, PINS["alice"]) == RV.CKR_PIN_LOCKED


class TestFiles:
    def test_a_pin_that_the_token_behind_refuses_is_tried_once(self, own):
        gateway = own()
        write_pin(gateway.home / "tenant-a.pin", "not the pin of it")
        for name in ("guest", "second", "guest"):
            with gateway.app(name=name) as app:
                assert tried(app, PINS["alice"]) == RV.CKR_DEVICE_ERROR
                assert tried(app, PINS["clerk"]) == RV.CKR_DEVICE_ERROR
                assert app.find() == ()
                log_in(app, "bob")
                assert labels(app) == OF_B
        assert len(gateway.daemon.events("PIN of pin_file refused")) == 1
        assert flags(gateway) == CKF_USER_PIN_COUNT_LOW
        write_pin(gateway.home / "tenant-a.pin", TENANTS["tenant-a"])
        with gateway.app("alice") as app:
            assert labels(app) == OF_A

    def test_many_at_the_same_time_try_a_wrong_one_once(self, own):
        gateway = own()
        write_pin(gateway.home / "tenant-a.pin", "not the pin of it")
        apps = [gateway.app() for _ in range(6)]
        for app in apps:
            app.send_call("C_Login", CKU_USER, PINS["alice"].encode(), target=1)
        assert {app.receive().header.rv for app in apps} <= {RV.CKR_DEVICE_ERROR, RV.CKR_PIN_LOCKED}
        for app in apps:
            app.socket.close()
        assert len(gateway.daemon.events("PIN of pin_file refused")) == 1

    def test_without_pin_file_the_pin_is_the_tokens_own(self, own):
        gateway = own(lambda text: text.replace(f'pin_file = "{_home(text)}/tenant-b.pin"\n', ""))
        write_pin(gateway.home / "bob.pin", TENANTS["tenant-b"])
        with gateway.app() as app:
            assert tried(app, TENANTS["tenant-b"]) == RV.CKR_OK
            assert labels(app) == OF_B

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda path: path.chmod(0o644), "others may read it"),
            (lambda path: path.unlink(), "No such file"),
            (lambda path: path.write_text("\n"), "it is empty"),
        ],
        ids=["readable", "missing", "empty"],
    )
    def test_a_select_that_can_not_be_used_chooses_nothing(self, own, spoil, reason):
        gateway = own()
        spoil(gateway.home / "alice.pin")
        with gateway.app() as app:
            assert tried(app, PINS["alice"]) == RV.CKR_PIN_INCORRECT
            log_in(app, "bob")
        told = gateway.daemon.events("select can't be used")
        assert {each["token"] for each in told} == {"vault/alice"}
        assert all(reason in each["reason"] for each in told)

    def test_two_views_with_the_same_pin(self, own):
        gateway = own()
        write_pin(gateway.home / "bob.pin", PINS["alice"])
        with gateway.app() as app:
            assert tried(app, PINS["alice"]) == RV.CKR_PIN_INCORRECT
            write_pin(gateway.home / "bob.pin", PINS["bob"])
            log_in(app, "alice")
        (told,) = gateway.daemon.events("views have the same PIN, so none is chosen")
        assert told["views"] == "alice,bob"


def _home(text):
    return text.split('select = "')[1].split("/alice.pin")[0]
