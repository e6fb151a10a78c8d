"""A Cryptoki module in this process, called as C calls it: what an application sees, buffers included."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from keyway.cryptoki import call_named
from keyway.cryptoki.constants import CKF_RW_SESSION, CKF_SERIAL_SESSION, CKU_USER

Ulong = ctypes.c_ulong
UNAVAILABLE = Ulong(-1).value
UNTOUCHED = 0xA5
"""What buffers are filled with, so that nothing is written unseen."""


class _Attribute(ctypes.Structure):
    _fields_ = (("type", Ulong), ("value", ctypes.c_void_p), ("length", Ulong))


class Ask(NamedTuple):
    """An attribute of a C_GetAttributeValue.

    Attributes:
        type: The attribute.
        room: Bytes of the buffer; None for a NULL pointer.
    """

    type: int
    room: int | None


class Told(NamedTuple):
    """What came of it: the RV, and for each attribute ulValueLen and the whole buffer."""

    rv: int
    attributes: tuple[tuple[int, bytes | None], ...]

    @property
    def values(self) -> list[bytes]:
        return [(buffer or b"")[:length] for length, buffer in self.attributes]


class Module:
    """A module and one session."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._list = ctypes.POINTER(ctypes.c_void_p)()
        assert library.C_GetFunctionList(ctypes.byref(self._list)) == 0
        self.session = Ulong(0)

    def call(self, name: str, *arguments: object) -> int:
        """Call a function by its name and return the RV."""
        # The version takes the room of one pointer.
        function = ctypes.CFUNCTYPE(Ulong)(self._list[call_named(name).number] or 0)
        return function(*arguments)

    def good(self, name: str, *arguments: object) -> None:
        rv = self.call(name, *arguments)
        assert rv == 0, f"{name}: {rv:#x}"

    def slots(self) -> list[int]:
        count = Ulong(16)
        slots = (Ulong * 16)()
        self.good("C_GetSlotList", ctypes.c_byte(1), None, ctypes.byref(count))
        count.value = 16
        self.good("C_GetSlotList", ctypes.c_byte(1), slots, ctypes.byref(count))
        return list(slots[: count.value])

    def start(self) -> "Module":
        """Initialise, and open a session on the first token."""
        self.good("C_Initialize", None)
        self.session = self.open()
        return self

    def open(self) -> Ulong:
        session = Ulong(0)
        flags = Ulong(CKF_SERIAL_SESSION | CKF_RW_SESSION)
        self.good("C_OpenSession", Ulong(self.slots()[0]), flags, None, None, ctypes.byref(session))
        return session

    def stop(self) -> None:
        self.good("C_Finalize", None)

    def login(self, pin: str) -> int:
        return self.call("C_Login", self.session, Ulong(CKU_USER), pin.encode(), Ulong(len(pin)))

    def logout(self) -> int:
        return self.call("C_Logout", self.session)

    def begin(self, template: Sequence[tuple[int, bytes]] = ()) -> int:
        return self.call("C_FindObjectsInit", self.session, *_given(template))

    def find(self, maximum: int = 1) -> tuple[int, list[int]]:
        found = (Ulong * maximum)()
        count = Ulong(77)
        rv = self.call("C_FindObjects", self.session, found, Ulong(maximum), ctypes.byref(count))
        return rv, list(found[: count.value]) if rv == 0 else []

    def end(self) -> int:
        return self.call("C_FindObjectsFinal", self.session)

    def all(self, template: Sequence[tuple[int, bytes]] = (), maximum: int = 1) -> list[int]:
        """The handles of all objects that match."""
        assert self.begin(template) == 0
        handles = []
        while True:
            rv, found = self.find(maximum)
            assert rv == 0
            if not found:
                break
            handles += found
        assert self.end() == 0
        return handles

    def ask(self, handle: int, *asked: Ask) -> Told:
        """C_GetAttributeValue."""
        buffers = [None if ask.room is None else (ctypes.c_ubyte * max(ask.room, 1))() for ask in asked]
        for buffer in buffers:
            if buffer is not None:
                ctypes.memset(buffer, UNTOUCHED, len(buffer))
        template = (_Attribute * len(asked))(
            *(
                _Attribute(ask.type, None if buffer is None else ctypes.addressof(buffer), ask.room or 0)
                for ask, buffer in zip(asked, buffers, strict=True)
            )
        )
        rv = self.call("C_GetAttributeValue", self.session, Ulong(handle), template, Ulong(len(asked)))
        told = [
            (attribute.length, None if buffer is None else bytes(buffer))
            for attribute, buffer in zip(template, buffers, strict=True)
        ]
        return Told(rv, tuple(told))

    def value(self, handle: int, type_: int) -> bytes:
        """A value, fetched as applications do: its length first."""
        length = self.ask(handle, Ask(type_, None))
        assert length.rv == 0
        told = self.ask(handle, Ask(type_, length.attributes[0][0]))
        assert told.rv == 0
        return told.values[0]

    def set(self, handle: int, *template: tuple[int, bytes]) -> int:
        return self.call("C_SetAttributeValue", self.session, Ulong(handle), *_given(template))

    def create(self, *template: tuple[int, bytes]) -> int:
        handle = Ulong(0)
        self.good("C_CreateObject", self.session, *_given(template), ctypes.byref(handle))
        return handle.value

    def destroy(self, handle: int) -> int:
        return self.call("C_DestroyObject", self.session, Ulong(handle))


def number(value: int) -> bytes:
    """A CK_ULONG as it lies in memory."""
    return bytes(Ulong(value))


def _given(template: Sequence[tuple[int, bytes]]) -> tuple[object, Ulong]:
    buffers = [ctypes.create_string_buffer(value, max(len(value), 1)) for _, value in template]
    array = (_Attribute * len(template))(
        *(
            _Attribute(type_, ctypes.addressof(buffer), len(value))
            for (type_, value), buffer in zip(template, buffers, strict=True)
        )
    )
    array._buffers = buffers  # type: ignore[attr-defined]
    return array, Ulong(len(template))
