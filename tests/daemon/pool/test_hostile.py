"""Whatever clients send, and whatever members answer: the daemon lives, and serves those who behave."""

import random
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from hashlib import sha256
from pathlib import Path

import pytest
from tests.daemon.conftest import starting
from tests.daemon.harness import until
from tests.daemon.pool.app import DATA, RSA, App
from tests.daemon.pool.members import Member, Pools
from tests.daemon.pool.tokens import LABEL
from tests.daemon.pool.tokens import pool as section
from tests.daemon.test_random import random_frame

from keyway.cryptoki import RV, Attribute, Mechanism, Null, Room, call_named
from keyway.cryptoki.constants import CKA_LABEL, CKA_VALUE, CKM_SHA256
from keyway.wire.codec import encode_request
from keyway.wire.frames import FrameBuffer, pack
from keyway.wire.header import Flags, Header

FAILOVER, BALANCE = range(2)
POOLS = [
    section("one", "two", deadline=20),
    section("one", "two", name="spread", policy='"balance"', deadline=20),
]


SHA = Mechanism(CKM_SHA256, Null())


class TestClients:
    @pytest.mark.parametrize("seed", range(4))
    def test_random_frames(self, pools, seed):
        draw = random.Random(seed)
        with App(pools.daemon, seed % 2) as bystander, App(pools.daemon, seed % 2) as client:
            key = bystander.object("rsa")
            client.open(2)
            for number in range(1, 500):
                header, body = random_frame(draw, number)
                client.socket.sendall(header.pack() + body)
                if not header.flags & Flags.POSTED:
                    reply = client.receive().header
                    assert (reply.id, reply.call, reply.target) == (header.id, header.call, header.target)
            assert bystander.signed(key) == RV.CKR_OK

    @pytest.mark.parametrize("slot", [FAILOVER, BALANCE], ids=["failover", "balance"])
    def test_many_requests_at_a_time(self, pools, slot):
        with App(pools.daemon, slot) as app:
            key = app.object("rsa")
            for session in 2, 3, 4:
                app.open(session)
            init, sign = call_named("C_SignInit"), call_named("C_Sign")
            frames = []
            for number in range(1000, 1400, 2):
                session = number // 2 % 4 + 1
                for at, row, values in (0, init, (RSA, key)), (1, sign, (DATA, Room(256, True))):
                    object_, body = encode_request(row, values)
                    frames.append(pack(Header(0, row.number, 0, number + at, session, object_), body))
            sender = threading.Thread(target=app.socket.sendall, args=(b"".join(frames),))
            sender.start()
            replies = [app.receive().header for _ in frames]
            sender.join()
            assert sorted(reply.id for reply in replies) == list(range(1000, 1400))
            assert {reply.rv for reply in replies} == {RV.CKR_OK}

    def test_bodies_that_are_cut(self, pools):
        with App(pools.daemon) as app:
            key = app.object("rsa")
            calls = {"C_SignInit": (RSA, key), "C_FindObjectsInit": ((),), "C_Sign": (DATA, Room(1, True))}
            for name, values in calls.items():
                row = call_named(name)
                object_, body = encode_request(row, values)
                for size in range(len(body)):
                    for flags in 0, Flags.FUSED if row.init else 0:
                        app.send(row.number, body[:size], target=1, object_=object_, flags=flags)
                        assert app.receive().header.rv == RV.CKR_ARGUMENTS_BAD
            assert app.signed(key) == RV.CKR_OK

    def test_posted_calls(self, pools):
        with App(pools.daemon) as app:
            app.good("C_FindObjectsInit", (), target=1)
            app.send(call_named("C_FindObjectsFinal").number, target=1, flags=Flags.POSTED)
            key = app.object("rsa")
            assert app.signed(key) == RV.CKR_OK
            app.open(2)
            app.send(call_named("C_CloseSession").number, target=2, flags=Flags.POSTED)
            assert app.signed(key, session=2) == RV.CKR_SESSION_HANDLE_INVALID

    def test_clients_that_go_in_the_middle(self, pools):
        one, _ = pools.members
        for words in "", "hang", "exit":
            with App(pools.daemon) as app:
                key = app.object("rsa")
                if words:
                    one.does_once("C_Sign", words)
                app.good("C_SignInit", RSA, key, target=1)
                app.send_call("C_Sign", DATA, Room(256, True), target=1)
                until(lambda: one.calls("C_Sign"), "the call is under way")
                one.forget()
        with App(pools.daemon) as app:
            one.behaves()
            assert app.signed(app.object("rsa")) == RV.CKR_OK


FAULTY = Path(__file__).parent.parent.parent / "faulty" / "faulty.c"


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    compiler = shutil.which("gcc")
    assert compiler
    module = tmp_path_factory.mktemp("faulty") / "faulty.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", module, FAULTY], check=True)
    return module


@pytest.mark.parametrize(
    "words",
    [
        "",
        "garbage-length",
        "no-functions",
        "crash-load",
        "null-list",
        "crash-init",
        "fail-init",
        "hang",
        "noise,thread",
    ],
)
def test_a_faulty_module_beside_a_good_member(start, member, faulty, words):
    one = member("one")
    bad = f'[backend.bad]\nmodule = "{faulty}"\nenvironment = {{ FAULTY = "{words}" }}\nstart_timeout = 2\n'
    daemon = start(bad + one.section + section("pkcs11:token=faulty?backend=bad", one.uri, deadline=5))
    with App(daemon) as app:
        key = app.object("rsa")
        assert app.signed(key) == app.signed(key, fused=True) == RV.CKR_OK
        assert app.info().label.startswith(LABEL.encode())


class Liar:
    """Stands between a gateway and another one, and alters what the latter answers. Gone at the end of its `with` block.

    Attributes:
        section: The [backend] section that leads there.
        lies: What becomes of the replies to a function.
    """

    def __init__(self, home: Path, to: Path) -> None:
        self.section = f'[backend.liar]\naddress = "unix:{home}/liar.sock"\n'
        self.lies: dict[str, Callable[[Header, bytes], bytes]] = {}
        self._to = to
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{home}/liar.sock")
        self._listener.listen()
        self._open = [self._listener]
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._open:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._open:
            each.close()

    def _run(self, work, *arguments) -> None:
        self._threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            self._open += [client, server]
            server.connect(str(self._to))
            self._run(self._copy, client, server)
            self._run(self._alter, server, client)

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def _alter(self, source: socket.socket, sink: socket.socket) -> None:
        frames = FrameBuffer()
        with suppress(OSError):
            sink.sendall(source.recv(1))
            while data := source.recv(65536):
                for header, body in frames.feed(data):
                    sink.sendall(self._altered(header, body))
            sink.shutdown(socket.SHUT_WR)

    def _altered(self, header: Header, body: bytes) -> bytes:
        for name, lie in list(self.lies.items()):
            if header.call == call_named(name).number:
                return lie(header, body)
        return pack(header, body)


def noise(header: Header, _: bytes) -> bytes:
    return pack(header._replace(object=RV.CKR_OK), b"\xff" * 9)


def cut(header: Header, body: bytes) -> bytes:
    return pack(header, body[:-1])


def empty(header: Header, _: bytes) -> bytes:
    return pack(header, b"")


def other_id(header: Header, body: bytes) -> bytes:
    return pack(header._replace(id=header.id + 7), body)


def too_long(_: Header, __: bytes) -> bytes:
    return b"\xff" * 32


def twice(header: Header, body: bytes) -> bytes:
    return pack(header, body) * 2


@pytest.fixture(scope="module")
def lying(passthrough, made):
    """A pool of a gateway that can lie and a good member, in slot 0; and the liar."""
    with tempfile.TemporaryDirectory(prefix="kt-") as name, ExitStack() as stack:
        home = Path(name)
        far, one = (Member(home, passthrough, made, each) for each in ("far", "one"))
        (home / "far").mkdir()
        gateway = stack.enter_context(starting(home / "far"))(far.section)
        liar = stack.enter_context(Liar(home, gateway.socket))
        start = stack.enter_context(starting(home))
        daemon = start(liar.section + one.section + section("liar", "one", deadline=20))
        yield Pools(daemon, one), liar


@pytest.mark.parametrize("lie", [noise, cut, empty, other_id, too_long, twice], ids=lambda lie: lie.__name__)
def test_a_member_that_lies(lying, lie):
    pools, liar = lying
    for name in (
        "C_GetSlotList",
        "C_GetMechanismList",
        "C_OpenSession",
        "C_FindObjectsInit",
        "C_FindObjects",
        "C_GetAttributeValue",
        "C_CloseSession",
    ):
        if (lie, name) == (empty, "C_GetAttributeValue"):
            continue  # It may be true of an object that tells nothing.
        until(pools.is_up, "both are up")
        liar.lies = {name: lie}
        with App(pools.daemon, login=False) as app:
            (note,) = app.find(Attribute(CKA_LABEL, b"note"))
            assert app.attribute(note, CKA_VALUE) == b"a note"
            app.good("C_DigestInit", SHA, target=1)
            assert app.output("C_Digest", b"data") == sha256(b"data").digest()
        liar.lies = {}
