"""An application at a pool: raw frames, and the few things that all applications do."""

from hashlib import sha256
from typing import Any

from tests.daemon.harness import RunningDaemon
from tests.daemon.pool.tokens import PIN
from tests.daemon.raw import RawClient

from keyway.cryptoki import (
    CALLS,
    Attribute,
    Mechanism,
    Null,
    Numbers,
    ObjectsRoom,
    Output,
    Room,
    RoomBytes,
    TokenInfo,
    call_named,
)
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_PUBLIC_EXPONENT,
    CKF_RW_SESSION,
    CKF_SERIAL_SESSION,
    CKM_SHA256_RSA_PKCS,
    CKO_PRIVATE_KEY,
    CKU_USER,
)
from keyway.wire.codec import decode_reply, encode_fused
from keyway.wire.header import Flags

READ = CKF_SERIAL_SESSION
WRITE = CKF_SERIAL_SESSION | CKF_RW_SESSION
DATA = b"what is signed"
RSA = Mechanism(CKM_SHA256_RSA_PKCS, Null())


class App(RawClient):
    """A client with a context, at the slot of a token. Closed at the end of its `with` block.

    Attributes:
        slot: The token's slot.
    """

    def __init__(
        self, daemon: RunningDaemon, slot: int = 0, *, session: bool = True, login: bool = True, flags: int = READ
    ) -> None:
        """Connect.

        Args:
            daemon: The daemon.
            slot: The token's slot.
            session: Whether to open session 1.
            login: Whether to log in there as well.
            flags: Those of the session.
        """
        super().__init__(daemon.socket)
        self.slot = slot
        try:
            self.initialize()
            if session:
                self.open(flags=flags)
                if login:
                    self.login()
        except BaseException:
            self.socket.close()
            raise

    def open(self, handle: int = 1, flags: int = READ) -> int:
        """Open a session and return its handle."""
        self.good("C_OpenSession", flags, handle, target=self.slot)
        return handle

    def login(self, pin: str = PIN, user: int = CKU_USER, *, session: int = 1) -> None:
        """Log in."""
        self.good("C_Login", user, pin.encode(), target=session)

    def slots(self, *, present: bool) -> tuple[int, ...]:
        """Look for slots anew, and return them.

        Args:
            present: Whether only those with a token are wanted.
        """
        self.good("C_GetSlotList", int(present), Room(0, False))
        (listed,) = self.good("C_GetSlotList", int(present), Room(64, True))
        assert isinstance(listed, Numbers)
        return listed.data or ()

    def info(self) -> TokenInfo:
        """Return CK_TOKEN_INFO."""
        (info,) = self.good("C_GetTokenInfo", True, target=self.slot)
        assert isinstance(info, TokenInfo)
        return info

    def find(self, *template: Attribute, session: int = 1) -> tuple[int, ...]:
        """Search, and return all handles."""
        self.good("C_FindObjectsInit", template, target=session)
        found: list[int] = []
        while some := self.more(session=session):
            found += some
        self.good("C_FindObjectsFinal", target=session)
        return tuple(found)

    def more(self, most: int = 100, *, session: int = 1) -> tuple[int, ...]:
        """Return the next handles of a search."""
        (found,) = self.good("C_FindObjects", ObjectsRoom(most, has_count=True, has_buffer=True), target=session)
        assert isinstance(found, Numbers)
        return found.data or ()

    def object(self, label: str, class_: int = CKO_PRIVATE_KEY, *, session: int = 1) -> int:
        """Return the handle of the only object with a label and a class."""
        (handle,) = self.find(Attribute(CKA_CLASS, class_), Attribute(CKA_LABEL, label.encode()), session=session)
        return handle

    def attribute(self, handle: int, type_: int, *, session: int = 1) -> Any:
        """Return the value of an attribute of bytes."""
        (template,) = self.good("C_GetAttributeValue", handle, (Attribute(type_, RoomBytes(4096)),), target=session)
        assert isinstance(template, tuple)
        return template[0].value

    def sign(self, key: int, data: bytes = DATA, mechanism: Mechanism = RSA, *, session: int = 1) -> bytes:
        """Sign in one part."""
        self.good("C_SignInit", mechanism, key, target=session)
        return self.output("C_Sign", data, session=session)

    def signed(
        self, key: int, data: bytes = DATA, mechanism: Mechanism = RSA, *, session: int = 1, fused: bool = False
    ) -> int:
        """Sign in one part, and return the first RV that is an error, or that of success."""
        if fused:
            return self.fused("C_Sign", (mechanism, key), data, Room(512, True), session=session)[0]
        rv, _ = self.call("C_SignInit", mechanism, key, target=session)
        return rv or self.call("C_Sign", data, Room(512, True), target=session)[0]

    def fused(self, name: str, init: tuple[Any, ...], *values: Any, session: int = 1) -> tuple[int, tuple[Any, ...]]:
        """Make a call with its init call in one frame, and return RV and values."""
        row = call_named(name)
        object_, body = encode_fused(row, init, values)
        id_ = self.send(row.number, body, target=session, object_=object_, flags=Flags.FUSED)
        frame = self.receive()
        assert frame.header.id == id_
        failed = frame.header.flags & Flags.INIT
        return frame.header.rv, decode_reply(CALLS[row.init - 1] if failed else row, frame.body)

    def output(self, name: str, *values: Any, session: int = 1) -> bytes:
        """Make a call that gives bytes."""
        (output,) = self.good(name, *values, Room(4096, True), target=session)
        assert isinstance(output, Output)
        assert output.data is not None
        return output.data

    def verifies(self, signature: bytes, key: int, data: bytes = DATA, *, session: int = 1) -> bool:
        """Whether a signature is that of a key pair, as its public key says."""
        modulus = int.from_bytes(self.attribute(key, CKA_MODULUS, session=session))
        exponent = int.from_bytes(self.attribute(key, CKA_PUBLIC_EXPONENT, session=session))
        made = pow(int.from_bytes(signature), exponent, modulus).to_bytes(len(signature))
        return made.endswith(sha256(data).digest())
