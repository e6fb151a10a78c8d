"""Members elsewhere, beside one that is here: behind a command, a real `p11-kit server`, another gateway."""

import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.authority import Authority
from tests.back.remotes import answers, free_port
from tests.back.remotes import section as backend
from tests.daemon.conftest import LOG
from tests.daemon.harness import RunningDaemon, until
from tests.daemon.pool.app import READ, App
from tests.daemon.pool.members import Member, Pools
from tests.daemon.pool.tokens import pool as section
from tests.p11kit.stock import RELEASES

from keyway.cryptoki import RV, Mechanism, Null
from keyway.cryptoki.constants import CKM_SHA256

SHA = Mechanism(CKM_SHA256, Null())


class Far:
    """A member's token at another place, which can be unplugged. Gone at the end of its `with` block.

    Attributes:
        section: The [backend] section that leads there.
    """

    def __init__(self, home: Path, member: Member) -> None:
        self.section = ""
        self._home = home / "elsewhere"
        self._home.mkdir()
        self._member = member
        self._stack = ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def unplug(self) -> None:
        """Cut the connections, and accept no more."""
        raise NotImplementedError

    def plug_in(self) -> None:
        """Be there again."""
        raise NotImplementedError

    def at(self, daemon: RunningDaemon) -> None:
        """Take note of the gateway that uses it."""


class FarCommand(Far):
    """`p11-kit remote`, which the gateway runs for each client."""

    def __init__(self, home: Path, member: Member) -> None:
        super().__init__(home, member)
        command = [str(RELEASES[0].program), "remote", str(member.module)]
        self.section = backend("far", command=command, environment=member.environment)

    def at(self, daemon: RunningDaemon) -> None:
        self._member.at(daemon)

    def unplug(self) -> None:
        self._member.goes()

    def plug_in(self) -> None:
        self._member.comes_back()


class FarServer(Far):
    """`p11-kit server`."""

    def __init__(self, home: Path, member: Member) -> None:
        super().__init__(home, member)
        self._path = self._home / "server.sock"
        self.section = backend("far", address=f"unix:path={self._path}", protocol="p11-kit")
        self._stack.callback(self.unplug)
        self.plug_in()

    def plug_in(self) -> None:
        self._path.unlink(missing_ok=True)
        environment = {key: str(value) for key, value in self._member.environment.items()}
        self._process = subprocess.Popen(
            [str(RELEASES[0].program), "server", "-f", "-n", str(self._path), str(self._member.module)],
            env={**os.environ, **environment, "XDG_RUNTIME_DIR": str(self._home)},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        until(lambda: answers(self._path), "the server listens")

    def unplug(self) -> None:
        if self._process.poll() is None:
            with self._member.at_rest():
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


class FarGateway(Far):
    """Another Keyway."""

    def __init__(self, home: Path, member: Member) -> None:
        super().__init__(home, member)
        self._daemon = RunningDaemon(self._home, LOG + member.section + self.listener())
        self._stack.callback(self._daemon.stop)
        member.at(self._daemon)

    def listener(self) -> str:
        self.section = backend("far", address=f"unix:{self._home}/k.sock")
        return ""

    def plug_in(self) -> None:
        self._daemon.socket.unlink(missing_ok=True)
        self._daemon.start()

    def unplug(self) -> None:
        with self._member.at_rest():
            self._daemon.process.kill()
            self._daemon.process.wait()


class FarGatewayByTls(FarGateway):
    """Another Keyway, by TLS."""

    def listener(self) -> str:
        authority = Authority(self._home)
        address = f"tls://127.0.0.1:{free_port()}"
        theirs, ours = (
            {"certificate": pair.certificate, "key": pair.key, "ca": authority.file}
            for pair in (authority.issue("gw.test", stem="server"), authority.issue("client.test", stem="client"))
        )
        self.section = backend("far", address=address, server_name="gw.test", **ours)
        told = {"address": address, "protocol": "keyway", **theirs}
        return "\n".join(["[listener.net]", *(f'{key} = "{value}"' for key, value in told.items()), ""])


@pytest.fixture(params=[FarCommand, FarServer, FarGateway, FarGatewayByTls], ids=lambda kind: kind.__name__)
def far(request, home, member):
    with request.param(home, member("far")) as far:
        yield far


@pytest.fixture
def pools(start, member, far):
    """Pools of the far member and one here: in slot 0 the far one serves, in slot 1 that here, in slot 2 both."""
    near = member("near")
    parts = [
        section("far", "near", deadline=20),
        section("near", "far", name="near", deadline=20),
        section("far", "near", name="both", policy='"balance"', deadline=20),
    ]
    daemon = start("\n".join([far.section, near.section, *parts]))
    far.at(daemon)
    pools = Pools(daemon, near)
    until(pools.is_up, "both are there")
    return pools


def test_each_stands_in_for_the_other(pools, far):
    (near,) = pools.members
    with App(pools.daemon, 0) as first, App(pools.daemon, 1) as second, App(pools.daemon, 2) as both:
        apps = first, second, both
        keys = [app.object("rsa") for app in apps]
        assert len(set(keys)) == 1
        signature = first.sign(keys[0])
        assert near.calls("C_Sign") == 0
        assert second.sign(keys[0]) == signature
        assert near.calls("C_Sign") == 1
        first.good("C_DigestInit", SHA, target=1)
        first.good("C_DigestUpdate", b"a part", target=1)

        far.unplug()
        first.good("C_DigestUpdate", b", and another", target=1)
        digest = first.output("C_DigestFinal")
        assert [app.sign(keys[0]) for app in apps] == [signature] * 3
        first.good("C_DigestInit", SHA, target=1)
        assert first.output("C_Digest", b"a part, and another") == digest

        far.plug_in()
        until(pools.is_up, "it is there again")
        near.goes()
        until(lambda: second.signed(keys[0]) == RV.CKR_OK, "the far one serves again")
        assert [app.sign(keys[0]) for app in apps] == [signature] * 3
        near.comes_back()
        until(pools.is_up, "both are there")
        assert [app.sign(keys[0]) for app in apps] == [signature] * 3


def test_both_are_gone(pools, far):
    (near,) = pools.members
    with App(pools.daemon) as app:
        key = app.object("rsa")
        far.unplug()
        near.goes()
        until(lambda: app.signed(key) == RV.CKR_TOKEN_NOT_PRESENT, "nobody is there")
        assert app.call("C_OpenSession", READ, 2, target=0)[0] == RV.CKR_TOKEN_NOT_PRESENT
        far.plug_in()
        until(lambda: app.signed(key) == RV.CKR_OK, "the session works again")
