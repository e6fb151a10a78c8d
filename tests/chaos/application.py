"""An application that signs in several threads until it is told to stop, and judges each signature itself.

    python -m tests.chaos.application MODULE PIN THREADS SEED

It writes one byte for each operation that is over, and when its standard input ends one line of JSON about all of them. It is a program of
its own, since a process has one context; the module is called by ctypes, which lets other threads run meanwhile.
"""

import ctypes
import json
import os
import sys
import threading
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from keyway.cryptoki import call_named
from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_EC_POINT,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_PUBLIC_EXPONENT,
    CKF_OS_LOCKING_OK,
    CKF_SERIAL_SESSION,
    CKM_ECDSA,
    CKM_SHA256,
    CKM_SHA256_RSA_PKCS,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
    CKU_USER,
)

Ulong = ctypes.c_ulong
OPERATIONS_OF_A_SESSION = 40
"""About how many operations a thread makes in a session before it opens another one."""
LABELS = ("rsa", "ec")
MAX_FAILURES = 20


class Failure(Exception):
    """A call failed, or answered wrongly."""


class _Attribute(ctypes.Structure):
    _fields_ = (("type", Ulong), ("value", ctypes.c_void_p), ("length", Ulong))


class _Mechanism(ctypes.Structure):
    _fields_ = (("type", Ulong), ("parameter", ctypes.c_void_p), ("length", Ulong))


class _Arguments(ctypes.Structure):
    _fields_ = (("functions", ctypes.c_void_p * 4), ("flags", Ulong), ("reserved", ctypes.c_void_p))


class Module:
    """A Cryptoki module, initialised, at its first slot."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self._list = ctypes.POINTER(ctypes.c_void_p)()
        library.C_GetFunctionList(ctypes.byref(self._list))
        self.good("C_Initialize", ctypes.byref(_Arguments(flags=CKF_OS_LOCKING_OK)))
        slots, count = (Ulong * 16)(), Ulong(16)
        self.good("C_GetSlotList", ctypes.c_byte(1), slots, ctypes.byref(count))
        self.slot = slots[0]

    def good(self, name: str, *arguments: object) -> None:
        """Call a function.

        Raises:
            Failure: The RV is not CKR_OK.
        """
        # The version takes the room of one pointer.
        function = ctypes.CFUNCTYPE(Ulong)(self._list[call_named(name).number] or 0)
        if rv := function(*arguments):
            raise Failure(f"{name}: {rv:#x}")

    def output(self, name: str, session: Ulong, *arguments: object) -> bytes:
        """Call a function that gives bytes."""
        room, length = (ctypes.c_ubyte * 512)(), Ulong(512)
        self.good(name, session, *arguments, room, ctypes.byref(length))
        return bytes(room[: length.value])

    def open(self) -> Ulong:
        session = Ulong(0)
        self.good("C_OpenSession", Ulong(self.slot), Ulong(CKF_SERIAL_SESSION), None, None, ctypes.byref(session))
        return session

    def find(self, session: Ulong, class_: int, label: str) -> Ulong:
        """Return the only object of a class with a label."""
        number, text = Ulong(class_), ctypes.create_string_buffer(label.encode(), len(label))
        template = (_Attribute * 2)(
            _Attribute(CKA_CLASS, ctypes.addressof(number), ctypes.sizeof(number)),
            _Attribute(CKA_LABEL, ctypes.addressof(text), len(label)),
        )
        found, count = (Ulong * 3)(), Ulong(0)
        self.good("C_FindObjectsInit", session, template, Ulong(2))
        self.good("C_FindObjects", session, found, Ulong(3), ctypes.byref(count))
        self.good("C_FindObjectsFinal", session)
        if count.value != 1:
            raise Failure(f"{count.value} objects {label} of class {class_}")
        return Ulong(found[0])

    def value(self, session: Ulong, handle: Ulong, type_: int) -> bytes:
        """Return the value of an attribute."""
        room = (ctypes.c_ubyte * 1024)()
        asked = _Attribute(type_, ctypes.addressof(room), len(room))
        self.good("C_GetAttributeValue", session, handle, ctypes.byref(asked), Ulong(1))
        return bytes(room[: asked.length])


class Judge:
    """The public keys, as they were read in the beginning."""

    def __init__(self, module: Module, session: Ulong) -> None:
        key = module.find(session, CKO_PUBLIC_KEY, "rsa")
        modulus, exponent = (module.value(session, key, each) for each in (CKA_MODULUS, CKA_PUBLIC_EXPONENT))
        self._rsa = rsa.RSAPublicNumbers(int.from_bytes(exponent), int.from_bytes(modulus)).public_key()
        point = module.value(session, module.find(session, CKO_PUBLIC_KEY, "ec"), CKA_EC_POINT)
        self._ec = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point[2:])

    def rsa(self, signature: bytes, message: bytes) -> None:
        try:
            self._rsa.verify(signature, message, padding.PKCS1v15(), SHA256())
        except InvalidSignature:
            raise Failure("an RSA signature is wrong") from None

    def ec(self, signature: bytes, message: bytes) -> None:
        half = len(signature) // 2
        der = encode_dss_signature(int.from_bytes(signature[:half]), int.from_bytes(signature[half:]))
        try:
            self._ec.verify(der, message, ec.ECDSA(SHA256()))
        except InvalidSignature:
            raise Failure("an ECDSA signature is wrong") from None


class Signer(threading.Thread):
    """A thread with a session of its own.

    Attributes:
        made: Operations that were begun, by name.
        answered: Those of them that ended well.
        failures: What was wrong.
    """

    def __init__(self, module: Module, judge: Judge, name: str, seed: int, stop: threading.Event) -> None:
        super().__init__(name=name)
        self.made = dict.fromkeys(self.OPERATIONS, 0)
        self.answered = dict.fromkeys(self.OPERATIONS, 0)
        self.failures: list[str] = []
        self._module = module
        self._judge = judge
        self._random = Random(seed)
        self._told_to_stop = stop
        self._begin()

    def run(self) -> None:
        while not self._told_to_stop.is_set():
            self._operate(self._random.choice(list(self.OPERATIONS)))

    def _operate(self, name: str) -> None:
        self.made[name] += 1
        try:
            self.OPERATIONS[name](self, f"{self.name} {self.made}".encode())
            self.answered[name] += 1
            if not self._random.randrange(OPERATIONS_OF_A_SESSION):
                self._module.good("C_CloseSession", self._session)
                self._begin()
        except Failure as failure:
            self.failures.append(f"{name} in session {self._session.value}: {failure}")
            if len(self.failures) >= MAX_FAILURES:
                self._told_to_stop.set()
        os.write(1, b".")

    def _begin(self) -> None:
        self._session = self._module.open()
        self._keys = {label: self._module.find(self._session, CKO_PRIVATE_KEY, label) for label in LABELS}

    def _init(self, name: str, mechanism: int, *key: Ulong) -> None:
        self._module.good(name, self._session, ctypes.byref(_Mechanism(mechanism, None, 0)), *key)

    def _sign_rsa(self, message: bytes) -> None:
        self._init("C_SignInit", CKM_SHA256_RSA_PKCS, self._keys["rsa"])
        self._judge.rsa(self._module.output("C_Sign", self._session, message, Ulong(len(message))), message)

    def _sign_ec(self, message: bytes) -> None:
        self._init("C_SignInit", CKM_ECDSA, self._keys["ec"])
        digest = sha256(message).digest()
        self._judge.ec(self._module.output("C_Sign", self._session, digest, Ulong(len(digest))), message)

    def _in_parts(self, update: str, message: bytes) -> bytes:
        """Give a message in parts, and return the whole."""
        parts = [message, *(self._random.randbytes(self._random.randint(1, 3000)) for _ in range(4))]
        for part in parts:
            self._module.good(update, self._session, part, Ulong(len(part)))
        return b"".join(parts)

    def _sign_parts(self, message: bytes) -> None:
        self._init("C_SignInit", CKM_SHA256_RSA_PKCS, self._keys["rsa"])
        whole = self._in_parts("C_SignUpdate", message)
        self._judge.rsa(self._module.output("C_SignFinal", self._session), whole)

    def _digest_parts(self, message: bytes) -> None:
        self._init("C_DigestInit", CKM_SHA256)
        whole = self._in_parts("C_DigestUpdate", message)
        if self._module.output("C_DigestFinal", self._session) != sha256(whole).digest():
            raise Failure("a digest is wrong")

    def _find(self, _: bytes) -> None:
        for label, handle in self._keys.items():
            if self._module.find(self._session, CKO_PRIVATE_KEY, label).value != handle.value:
                raise Failure(f"{label} has another handle now")

    OPERATIONS: ClassVar = {
        "sign-rsa": _sign_rsa,
        "sign-ec": _sign_ec,
        "sign-parts": _sign_parts,
        "digest-parts": _digest_parts,
        "find": _find,
    }


def main() -> None:
    path, pin, threads, seed = sys.argv[1:]
    module = Module(Path(path))
    session = module.open()
    module.good("C_Login", session, Ulong(CKU_USER), pin.encode(), Ulong(len(pin)))
    judge = Judge(module, session)
    stop = threading.Event()
    signers = [
        Signer(module, judge, f"{os.getpid()}-{number}", int(seed) + number, stop) for number in range(int(threads))
    ]
    for signer in signers:
        signer.start()
    sys.stdin.read()
    stop.set()
    for signer in signers:
        signer.join()
    module.good("C_Finalize", None)
    told = [{"made": each.made, "answered": each.answered, "failures": each.failures} for each in signers]
    os.write(1, b"\n" + json.dumps(told).encode() + b"\n")


if __name__ == "__main__":
    main()
