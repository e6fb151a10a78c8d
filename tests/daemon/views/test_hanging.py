"""Tokens behind views that do not answer, or go, while somebody logs in."""

import select

import pytest
from tests.daemon.harness import until
from tests.daemon.pool.conftest import passthrough
from tests.daemon.views.conftest import running
from tests.daemon.views.tenants import OF_A, OF_B, PINS, labels, log_in

from keyway.config.locate import softhsm_module
from keyway.cryptoki import RV, call_named
from keyway.cryptoki.constants import CKU_USER
from keyway.wire.codec import encode_request
from keyway.wire.frames import pack
from keyway.wire.header import Header

__all__ = ["passthrough"]

MOST = 32 << 20
"""Bytes that no buffer on the way takes."""


@pytest.fixture
def hanging(made, passthrough, tmp_path):
    """Starts a daemon whose module does what it is told; the second thing that is given tells it."""

    def does(function, words=""):
        half = tmp_path / f"half-{function}"
        half.write_text(words)
        half.rename(tmp_path / function)

    def begin_with(begin):
        def change(text, more=""):
            lines = f'PASSTHROUGH_MODULE = "{softhsm_module()}", PASSTHROUGH_FOLDER = "{tmp_path}"'
            text = text.replace(f'module = "{softhsm_module()}"', f'module = "{passthrough}"', 1)
            return text.replace("SOFTHSM2_CONF", f"{lines}, SOFTHSM2_CONF", 1) + more

        return lambda more="", **options: (begin(lambda text: change(text, more), spares=0, **options), does)

    with running(made) as begin:
        yield begin_with(begin)
        for path in tmp_path.iterdir():
            if path.name not in ("calls", "writing"):
                path.unlink(missing_ok=True)


def begin_login(gateway, tmp_path, app, view="alice"):
    """Begin a login that hangs."""
    sent = app.send_call("C_Login", CKU_USER, PINS[view].encode(), target=1)
    until((tmp_path / "taken-C_Login").exists, "the module has been asked to log in")
    return sent


def hosts(gateway):
    return gateway.daemon.status()["backends"]["hsm"]["hosts"]


def test_a_client_that_goes_while_it_logs_in_leaves_nothing(hanging, tmp_path):
    gateway, does = hanging("[limits]\nending = 0.5\n")
    does("once-C_Login", "hang")
    with gateway.app() as app:
        begin_login(gateway, tmp_path, app)
    until(lambda: not hosts(gateway), "the host has ended")
    with gateway.app("alice") as app:
        assert labels(app) == OF_A


def test_call_timeout(hanging, tmp_path):
    gateway, does = hanging(call_timeout=1)
    does("once-C_Login", "hang")
    with gateway.app() as app:
        begin_login(gateway, tmp_path, app)
        assert app.receive().header.rv == RV.CKR_DEVICE_ERROR
        assert app.call("C_FindObjectsInit", (), target=1)[0] == RV.CKR_DEVICE_REMOVED
        app.open(2)
        log_in(app, "bob", session=2)
        assert labels(app, 2) == OF_B
    assert gateway.daemon.events("call timed out")


def test_a_module_that_ends_in_the_login(hanging):
    gateway, does = hanging()
    does("once-C_Login", "exit")
    with gateway.app() as app:
        assert app.call("C_Login", CKU_USER, PINS["alice"].encode(), target=1)[0] == RV.CKR_DEVICE_ERROR
        log_in(app, "alice")
        assert labels(app) == OF_A


def test_a_module_that_ends_in_the_logout(hanging):
    gateway, does = hanging()
    with gateway.app("alice") as app:
        does("once-C_CloseSession", "exit")
        assert app.call("C_Logout", target=1)[0] == RV.CKR_DEVICE_ERROR
        assert app.call("C_FindObjectsInit", (), target=1)[0] == RV.CKR_DEVICE_REMOVED
        app.open(2)
        log_in(app, "bob", session=2)
        assert labels(app, 2) == OF_B


def test_what_waits_for_a_login_is_bounded(hanging, tmp_path):
    gateway, does = hanging()
    does("once-C_Login", "hang")
    with gateway.app() as app:
        begin_login(gateway, tmp_path, app)
        row = call_named("C_SeedRandom")
        frame = pack(Header(0, row.number, 0, 7, 1, 0), encode_request(row, (bytes(65_536),)).body)
        requests = b"".join(frame[:8] + (1000 + n).to_bytes(8) + frame[16:] for n in range(64))
        app.socket.setblocking(False)
        sent = 0
        while sent < MOST and select.select([], [app.socket], [], 1.0)[1]:
            sent += app.socket.send(requests[sent % len(requests) :])
        assert sent < MOST
