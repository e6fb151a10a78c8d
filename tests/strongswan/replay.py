"""What charon calls for a signature, call by call, and how many round trips to the gateway that takes.

    python -m tests.strongswan.replay MODULE SLOT PIN [SIGNATURES]

with KEYWAY_ADDRESS set. As traced from charon 5.9.8 (plugin pkcs11): a session that stays open for the key's life and is logged in; then for each
signature the list of mechanisms, length first, a session of its own, C_SignInit, C_Sign into a buffer that is large enough, and the end of the
session. With an RSA key the public key's numbers are read before, lengths first.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.read_ahead.cryptoki import Ask, Module, Ulong, number

from keyway.cryptoki.constants import (
    CKA_CLASS,
    CKA_ID,
    CKA_MODULUS,
    CKA_PUBLIC_EXPONENT,
    CKF_SERIAL_SESSION,
    CKM_ECDSA,
    CKM_SHA256_RSA_PKCS,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
)

CALLS = {"rsa": 8, "ec": 6}
"""How many calls a signature is."""
OCTETS = bytes(range(256)) * 2 + bytes(138)
"""As long as what is signed in IKE_AUTH with a nonce and a key exchange of 3072 bits."""
SEVERAL, MORE = 2, 22


class _Mechanism(ctypes.Structure):
    _fields_ = (("type", Ulong), ("parameter", ctypes.c_void_p), ("length", Ulong))


class CharonKey:
    """A private key as charon has it."""

    def __init__(self, module: Module, slot: int, pin: str, kind: str, identifier: bytes) -> None:
        self._module = module
        self._slot = slot
        self._kind = kind
        module.session = self._open()  # For the key's life.
        self._public = self._find(CKO_PUBLIC_KEY, identifier)
        assert module.login(pin) in {0, 0x100}
        self._key = self._find(CKO_PRIVATE_KEY, identifier)

    def sign(self, data: bytes) -> bytes:
        """Sign, as charon does."""
        if self._kind == "rsa":
            lengths = self._module.ask(self._public, Ask(CKA_MODULUS, None), Ask(CKA_PUBLIC_EXPONENT, None))
            rooms = (
                Ask(type_, length)
                for type_, (length, _) in zip((CKA_MODULUS, CKA_PUBLIC_EXPONENT), lengths.attributes, strict=True)
            )
            assert self._module.ask(self._public, *rooms).rv == 0
        mechanism = CKM_SHA256_RSA_PKCS if self._kind == "rsa" else CKM_ECDSA
        assert mechanism in self._mechanisms()
        session = self._open()
        given = _Mechanism(mechanism, None, 0)
        self._module.good("C_SignInit", session, ctypes.byref(given), Ulong(self._key))
        room = (ctypes.c_ubyte * 512)()
        length = Ulong(len(room))
        self._module.good("C_Sign", session, data, Ulong(len(data)), room, ctypes.byref(length))
        self._module.good("C_CloseSession", session)
        return bytes(room[: length.value])

    def _mechanisms(self) -> list[int]:
        count = Ulong(0)
        self._module.good("C_GetMechanismList", Ulong(self._slot), None, ctypes.byref(count))
        found = (Ulong * count.value)()
        self._module.good("C_GetMechanismList", Ulong(self._slot), found, ctypes.byref(count))
        return list(found[: count.value])

    def _open(self) -> Ulong:
        session = Ulong(0)
        self._module.good(
            "C_OpenSession", Ulong(self._slot), Ulong(CKF_SERIAL_SESSION), None, None, ctypes.byref(session)
        )
        return session

    def _find(self, class_: int, identifier: bytes) -> int:
        (found,) = self._module.all([(CKA_CLASS, number(class_)), (CKA_ID, identifier)])
        return found


@dataclass(frozen=True)
class Cost:
    """What one signature costs, once the module has learned what it can.

    Attributes:
        calls: Calls of the application.
        round_trips: Requests that were waited for.
        posted: Requests that were not.
    """

    calls: float
    round_trips: float
    posted: float


def cost(kind: str, identifier: str, module: Path, slot: int, pin: str, environment: dict[str, str]) -> Cost:
    """Measure a signature: what many of them take beyond what a few take."""
    few, many = (_counts(kind, identifier, module, slot, pin, environment, each) for each in (SEVERAL, MORE))
    return Cost(**{name: (many[name] - few[name]) / (MORE - SEVERAL) for name in ("calls", "round_trips", "posted")})


def _counts(
    kind: str, identifier: str, module: Path, slot: int, pin: str, environment: dict[str, str], signatures: int
) -> dict[str, int]:
    with tempfile.TemporaryDirectory() as folder:
        stats = Path(folder) / "stats"
        asked = json.dumps([kind, identifier, str(module), slot, pin, signatures])
        command = [sys.executable, "-c", "from tests.strongswan.replay import replay; replay()"]
        subprocess.run(command, input=asked, text=True, check=True, env={**environment, "KEYWAY_STATS": str(stats)})
        counts: dict[str, int] = json.loads(stats.read_text())
        return counts


def replay() -> None:
    """Sign as often as standard input says."""
    kind, identifier, path, slot, pin, signatures = json.load(sys.stdin)
    module = Module(path)
    module.good("C_Initialize", None)
    key = CharonKey(module, slot, pin, kind, bytes.fromhex(identifier))
    data = OCTETS if kind == "rsa" else OCTETS[:32]
    for _ in range(signatures):
        assert key.sign(data)
    module.stop()


def main() -> None:
    """Print what signatures cost with the keys 0001 (RSA) and 0002 (P-256)."""
    module, slot, pin = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    for kind, identifier in (("rsa", "0001"), ("ec", "0002")):
        found = cost(kind, identifier, module, slot, pin, dict(os.environ))
        sys.stdout.write(
            f"{kind}: {found.calls:g} calls, {found.round_trips:g} round trips, {found.posted:g} not waited for\n"
        )


if __name__ == "__main__":
    main()
