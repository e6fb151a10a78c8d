"""libkeyway.so at the daemon's own TCP and TLS listeners."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.authority import Authority
from tests.daemon.harness import RunningDaemon, softhsm, until
from tests.daemon.tokens import make
from tests.module_transport.conftest import TOKEN, own

if TYPE_CHECKING:
    from tests.module_transport.conftest import Application


class Gateway:
    """A daemon with two listeners on free ports."""

    def __init__(self, home: Path) -> None:
        self.authority = Authority(home, "gateway")
        pair = self.authority.issue("localhost", stem="server")
        self.daemon = RunningDaemon(
            home,
            '[log]\nformat = "json"\nlevel = "debug"\n'
            + softhsm(home)
            + '[listener.plain]\naddress = "tcp://127.0.0.1:0"\n'
            + f'[listener.secured]\naddress = "tls://127.0.0.1:0"\nca = "{self.authority.file}"\n{pair.options}',
        )
        make(self.daemon, TOKEN)

    def port(self, scheme: str) -> int:
        listening = (entry["address"] for entry in self.daemon.events("listening"))
        return next(int(address.rpartition(":")[2]) for address in listening if address.startswith(scheme))

    def settings(self, scheme: str) -> dict[str, object]:
        settings: dict[str, object] = {"address": f"{scheme}://localhost:{self.port(scheme)}"}
        return settings | ({"ca": self.authority.file, **own(self.authority)} if scheme == "tls" else {})


@pytest.fixture(scope="module")
def gateway():
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        gateway = Gateway(Path(name))
        try:
            yield gateway
            assert gateway.daemon.stop() == 0
            assert gateway.daemon.events("internal error") == []
        finally:
            gateway.daemon.process.kill()
            gateway.daemon.process.wait()


@pytest.mark.parametrize("scheme", ["tcp", "tls"])
def test_an_application_signs_and_its_threads_and_children_do(
    application: Application, gateway: Gateway, scheme: str
) -> None:
    steps = ("initialize", "open", "login", "keys", "sign", "large:8", "leave", "fork", "sign", "close", "finalize")
    done = application.run(*steps, **gateway.settings(scheme))
    assert done.all_good(), done
    assert done.errors == ""
    until(lambda: not gateway.daemon.contexts(), "all contexts are closed")


def test_who_has_no_certificate_is_told_so(application: Application, gateway: Gateway) -> None:
    settings = gateway.settings("tls")
    address = settings["address"]
    done = application.run("initialize", "slots", "slots", "finalize", address=address, ca=settings["ca"])
    assert [step[1:] for step in done.steps] == [("0",), ("0", "0"), ("0", "0"), ("0",)]
    assert done.errors.startswith(f"keyway: {address}: ")
    assert "certificate" in done.errors
    assert done.errors.count("\n") == 1
