"""An application with two threads: one generates a pair of RSA-4096, the other signs until that is done.

    python two_threads.py MODULE TOKEN PIN

prints how many signatures were finished when the generation returned. The calls are made with ctypes, which lets other threads run.
"""

import ctypes
import sys
import threading
from ctypes import byref, c_char_p, c_ubyte, c_ulong, c_void_p

from keyway.cryptoki import call_named
from keyway.cryptoki.constants import (
    CKA_LABEL,
    CKA_MODULUS_BITS,
    CKA_SIGN,
    CKF_RW_SESSION,
    CKF_SERIAL_SESSION,
    CKM_RSA_PKCS_KEY_PAIR_GEN,
    CKM_SHA256_RSA_PKCS,
    CKU_USER,
)


class Mechanism(ctypes.Structure):
    _fields_ = (("mechanism", c_ulong), ("parameter", c_void_p), ("length", c_ulong))


class Attribute(ctypes.Structure):
    _fields_ = (("type", c_ulong), ("value", c_void_p), ("length", c_ulong))


class Module:
    """The functions of a module by name; a CK_RV that is not CKR_OK is raised."""

    def __init__(self, path: str) -> None:
        library = ctypes.CDLL(path)
        pointer = c_void_p()
        assert library.C_GetFunctionList(byref(pointer)) == 0
        # A version, padded to the size of a pointer, then the functions.
        self._functions = ctypes.cast(pointer, ctypes.POINTER(c_void_p))

    def __call__(self, name: str, *arguments: object) -> None:
        function = ctypes.CFUNCTYPE(c_ulong)(self._functions[call_named(name).number])
        rv = function(*(c_ulong(each) if isinstance(each, int) else each for each in arguments))
        if rv:
            raise RuntimeError(f"{name}: {rv:#x}")


def token_slot(module: Module, label: bytes) -> int:
    slots, count = (c_ulong * 64)(), c_ulong(64)
    module("C_GetSlotList", 1, slots, byref(count))
    info = ctypes.create_string_buffer(256)
    for slot in slots[: count.value]:
        module("C_GetTokenInfo", slot, info)
        if info.raw[:32].rstrip() == label:
            return slot
    raise LookupError(label)


def generate(module: Module, session: c_ulong, bits: int) -> c_ulong:
    size, yes, label = c_ulong(bits), c_ubyte(1), c_char_p(b"pair")
    public_template = (Attribute * 1)(Attribute(CKA_MODULUS_BITS, ctypes.addressof(size), 8))
    private_template = (Attribute * 2)(
        Attribute(CKA_SIGN, ctypes.addressof(yes), 1), Attribute(CKA_LABEL, ctypes.cast(label, c_void_p), 4)
    )
    mechanism = Mechanism(CKM_RSA_PKCS_KEY_PAIR_GEN)
    public, private = c_ulong(), c_ulong()
    module(
        "C_GenerateKeyPair",
        session,
        byref(mechanism),
        public_template,
        1,
        private_template,
        2,
        byref(public),
        byref(private),
    )
    return private


def main(path: str, label: str, pin: str) -> int:
    module = Module(path)
    module("C_Initialize", None)
    slot = token_slot(module, label.encode())
    sessions = [c_ulong(), c_ulong()]
    for session in sessions:
        module("C_OpenSession", slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, None, None, byref(session))
    module("C_Login", sessions[0], CKU_USER, c_char_p(pin.encode()), len(pin))
    key = generate(module, sessions[0], 2048)
    generated = threading.Event()

    def generation() -> None:
        generate(module, sessions[1], 4096)
        generated.set()

    thread = threading.Thread(target=generation)
    thread.start()
    signed = 0
    mechanism, signature = Mechanism(CKM_SHA256_RSA_PKCS), ctypes.create_string_buffer(256)
    while not generated.is_set():
        length = c_ulong(256)
        module("C_SignInit", sessions[0], byref(mechanism), key)
        module("C_Sign", sessions[0], c_char_p(b"data"), 4, signature, byref(length))
        # The one that ends after the generation does not count.
        signed += not generated.is_set()
    thread.join()
    module("C_Finalize", None)
    return signed


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:])}\n")
