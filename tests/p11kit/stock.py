"""Both ends of p11-kit's protocol for tests: a client on any stream, and a server for stock client modules."""

import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.daemon.raw import RawClient

from keyway.cryptoki import RV, Null, call_named
from keyway.cryptoki.table import Call
from keyway.cryptoki.values import Value
from keyway.p11kit import (
    DecodeError,
    Dialect,
    EncodeError,
    Frame,
    FrameBuffer,
    NotCarried,
    Reply,
    Request,
    accept,
    decode_reply,
    decode_request,
    encode_error,
    encode_reply,
    encode_request,
    offer_accepted,
    pack,
)

TIMEOUT = 20.0


class Release(NamedTuple):
    """An installed release of p11-kit."""

    prefix: Path
    version: int

    @property
    def program(self) -> Path:
        return self.prefix / "bin" / "p11-kit"

    @property
    def client(self) -> Path:
        return self.libraries / "pkcs11" / "p11-kit-client.so"

    @property
    def libraries(self) -> Path:
        return self.prefix / "lib" / "x86_64-linux-gnu"


def _releases() -> list[Release]:
    """Debian's release, and those of P11KIT_BUILDS: prefixes, each with `=` and the highest version that it speaks."""
    builds = [build.split("=") for build in os.environ.get("P11KIT_BUILDS", "").split()]
    return [Release(Path("/usr"), 0), *(Release(Path(prefix), int(version)) for prefix, version in builds)]


RELEASES = _releases()

Answerer = Callable[[Call, int, tuple[Value, ...]], Reply]
Opened = Callable[[], AbstractContextManager[Answerer]]


class StockServer:
    """A real `p11-kit remote`, and a client of it."""

    def __init__(self, module: Path, conf: Path, offer: int = 2, release: Release = RELEASES[0]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [str(release.program), "remote", str(module)],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                env={**os.environ, "SOFTHSM2_CONF": str(conf), "LD_LIBRARY_PATH": str(release.libraries)},
            )
        self._socket = ours
        self._socket.settimeout(TIMEOUT)
        self._frames = FrameBuffer()
        self._code = 0x10
        self._socket.sendall(bytes([offer]))
        self.answered = self._socket.recv(1)[0]
        self.dialect = offer_accepted(offer, self.answered)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
        assert self.process.wait(TIMEOUT) == 0

    def exchange(self, body: bytes) -> bytes:
        self._code += 1
        self._socket.sendall(pack(Frame(self._code, body, b"client")))
        while not (frames := self._frames.feed(self._received())):
            pass
        (frame,) = frames
        assert frame.code == self._code
        return frame.body

    def call(self, name: str, *values: Any, target: int = 0) -> Any:
        return self.answer(call_named(name), target, values)

    def answer(self, call: Call, target: int, values: tuple[Value, ...]) -> Reply:
        request = Request(call, target, values)
        return decode_reply(self.dialect, request, self.exchange(encode_request(self.dialect, call, target, values)))

    def good(self, name: str, *values: Any, target: int = 0) -> Any:
        reply = self.call(name, *values, target=target)
        assert reply.rv == 0, f"{name}: {reply.rv:#x}"
        return reply.values

    def initialize(self) -> None:
        self.good("C_Initialize", 0, Null(), b"test")

    def _received(self) -> bytes:
        data = self._socket.recv(65536)
        assert data, "the server is gone"
        return data


@contextmanager
def native_answerer(path: Path) -> Iterator[Answerer]:
    """Answers from a Keyway daemon, over the native wire."""
    last_session = 0
    with RawClient(path) as client:

        def answer(call: Call, target: int, values: tuple[Value, ...]) -> Reply:
            nonlocal last_session
            session = 0
            if call.name == "C_OpenSession":
                # Here the client chooses the handle.
                last_session += 1
                session = last_session
                values = (*values[:-1], session)
            rv, results = client.call(call.name, *values, target=target)
            return Reply(rv, results, session)

        yield answer


@contextmanager
def stock_answerer(module: Path, conf: Path) -> Iterator[Answerer]:
    """Answers from `p11-kit remote`."""
    with StockServer(module, conf) as server:
        yield server.answer


class Server:
    """A server on a unix socket: one connection after another, each with an answerer of its own."""

    def __init__(self, path: Path, answerer: Opened, altered: Callable[[int], int] = lambda b: b) -> None:
        self.path = path
        self.seen: list[str] = []
        self.failures: list[BaseException] = []
        self._answerer = answerer
        self._altered = altered
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()
        assert self.failures == []

    def environment(self) -> dict[str, str]:
        return {**os.environ, "P11_KIT_SERVER_ADDRESS": f"unix:path={self.path}"}

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._serve(connection)
                except BaseException as failure:  # noqa: BLE001 (the test's thread looks at it)
                    self.failures.append(failure)

    def _serve(self, connection: socket.socket) -> None:
        offered = connection.recv(1)
        if not offered:
            return
        dialect = accept(self._altered(offered[0]))
        connection.sendall(bytes([dialect.version]))
        frames = FrameBuffer()
        with self._answerer() as answerer:
            while data := connection.recv(65536):
                for frame in frames.feed(data):
                    connection.sendall(pack(Frame(frame.code, self._answered(dialect, answerer, frame.body))))
        assert frames.is_between_frames

    def _answered(self, dialect: Dialect, answerer: Answerer, body: bytes) -> bytes:
        try:
            request = decode_request(dialect, body)
        except DecodeError as error:
            self.seen.append(f"refused {error.rv:#x}")
            return encode_error(error.rv)
        self.seen.append(request.call.name)
        try:
            reply = answerer(request.call, request.target, request.values)
        except NotCarried as error:
            return encode_error(error.rv)
        except DecodeError as error:
            return encode_error(error.rv)
        try:
            return encode_reply(dialect, request, reply)
        except EncodeError as error:
            self.failures.append(error)
            return encode_error(int(RV.CKR_DEVICE_ERROR))
