"""The audit log says behind which PIN something was done, and the log who gave it."""

import json

from tests.daemon.harness import until
from tests.daemon.views.tenants import PINS, log_in


def test_records_name_the_view(own):
    gateway = own(lambda text: f'{text}[audit]\nfile = "{_home(text)}/audit.jsonl"\n')

    def records(call):
        lines = (gateway.home / "audit.jsonl").read_bytes().splitlines(keepends=True)[1:]
        told = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [(each["token"], each["identity"], each["rv"]) for each in told if each.get("call") == call]

    with gateway.app("alice") as app:
        app.sign(app.object("a-rsa"))
        app.good("C_Logout", target=1)
        assert app.signed(1) != 0
        log_in(app, "bob")
        app.sign(app.object("b-rsa"))
        until(lambda: len(records("C_Sign")) == 2, "both signatures are recorded")
        assert records("C_Sign") == [("vault/alice", "guest", "CKR_OK"), ("vault/bob", "guest", "CKR_OK")]
        until(lambda: len(records("C_Login")) == 2, "both logins are recorded")
        assert {token for token, _, _ in records("C_Login")} == {"vault"}
    text = (gateway.home / "audit.jsonl").read_text()
    assert not [pin for pin in PINS.values() if pin in text]
    chosen = gateway.daemon.events("view chosen")
    assert [(each["token"], each["view"], each["identity"]) for each in chosen] == [
        ("vault", "alice", "guest"),
        ("vault", "bob", "guest"),
    ]
    assert all(each["context"] for each in chosen)


def _home(text):
    return text.split('select = "')[1].split("/alice.pin")[0]
