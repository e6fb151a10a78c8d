import ctypes
import shutil
import subprocess
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tests.daemon.conftest import home, start
from tests.daemon.harness import RunningDaemon, backend, softhsm
from tests.daemon.raw import RawClient
from tests.daemon.tokens import label_of, open_session

from keyway.backend.segment import LARGE
from keyway.cryptoki import Mechanism, Null, Room
from keyway.cryptoki.constants import CKM_SHA256

__all__ = ["begin", "home", "module", "start"]

GOOD, HOSTILE, SPARE = 0, 1, 2
TOKENS = """
[token.good]
backend = "good"
label = "good"
[token.hostile]
backend = "hostile"
label = "hostile"
[token.spare]
backend = "good"
backend_slot = 0
"""
FAILED = 0x80000000
"""What the hostile module adds to an errno."""


def landlock() -> int:
    """The version of the kernel's Landlock; 0 or less if there is none."""
    return ctypes.CDLL(None, use_errno=True).syscall(444, None, 0, 1)


needs_landlock = pytest.mark.skipif(landlock() < 6, reason="the kernel's Landlock has no scopes")


@pytest.fixture(scope="session")
def module(tmp_path_factory):
    compiler = shutil.which("gcc")
    assert compiler
    path = tmp_path_factory.mktemp("hostile") / "hostile.so"
    source = Path(__file__).parent / "hostile.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-pthread", "-o", path, source], check=True)
    return path


def facts_of(pid: int) -> dict[str, list[str]]:
    """What the kernel tells of a process."""
    told = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.split() for key, _, value in (line.partition(":") for line in told)}


class Attacker:
    """A client of the hostile module, beside a token that must not notice."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self.daemon = daemon
        self._client = RawClient(daemon.socket)
        self._client.initialize()
        open_session(self._client, HOSTILE)
        self._sessions = 1
        assert label_of(self._client, GOOD) == "good"

    def hosts(self) -> dict[str, int]:
        """The hosts of the last context, by backend."""
        return self.daemon.contexts()[-1]["hosts"]

    def attempt(self, words: str) -> int:
        """Let the module try something in its host; return the errno, 0 if it could be done."""
        rv, _ = self._client.call("C_SeedRandom", words.encode(), target=1)
        assert rv == 0 or rv & FAILED, f"{words}: {rv:#x}"
        # Whatever that was, the daemon and the other backend go on.
        assert label_of(self._client, GOOD) == "good"
        return rv & ~FAILED

    def ends(self, words: str) -> bool:
        """Tell whether the host ends of an attempt."""
        rv, _ = self._client.call("C_SeedRandom", words.encode(), target=1)
        assert label_of(self._client, GOOD) == "good"
        return rv == 0x30  # CKR_DEVICE_ERROR

    def let_another_digest(self) -> None:
        """Let the other token digest large bodies, which come to its host through shared memory."""
        self._sessions += 1
        open_session(self._client, GOOD, self._sessions)
        for size in (LARGE, 1 << 20):
            data = bytes(range(256)) * (size // 256)
            self._client.good("C_DigestInit", Mechanism(CKM_SHA256, Null()), target=self._sessions)
            (result,) = self._client.good("C_Digest", data, Room(32, True), target=self._sessions)
            assert result.data == sha256(data).digest()

    def close(self) -> None:
        self._client.socket.close()


Begin = Callable[..., Attacker]


@pytest.fixture
def begin(start, home, module) -> Iterator[Begin]:
    """Starts a daemon over SoftHSM and the hostile module, whose sandboxes are texts of TOML tables, and a client."""
    clients = []

    def begin(sandbox: str = "{}", path: Path = module, good: str = "{}", **options: object) -> Attacker:
        daemon = start(
            softhsm(home, "good", sandbox=good) + backend("hostile", path, sandbox=sandbox, **options) + TOKENS
        )
        with RawClient(daemon.socket) as client:
            client.initialize()
            client.good("C_InitToken", b"1234", b"good".ljust(32), target=SPARE)
        clients.append(Attacker(daemon))
        return clients[-1]

    yield begin
    for client in clients:
        client.close()
