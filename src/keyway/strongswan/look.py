"""A look at tokens through the very module that charon loads, in a process of its own with charon's environment."""

import json
import os
import subprocess
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from keyway.cryptoki import rv_name
from keyway.cryptoki.constants import (
    CKA_CERTIFICATE_TYPE,
    CKA_CLASS,
    CKA_EC_POINT,
    CKA_ID,
    CKA_LABEL,
    CKA_MODULUS,
    CKA_PUBLIC_EXPONENT,
    CKA_VALUE,
    CKC_X_509,
    CKF_SERIAL_SESSION,
    CKF_TOKEN_INITIALIZED,
    CKO_CERTIFICATE,
    CKO_PRIVATE_KEY,
    CKO_PUBLIC_KEY,
)
from keyway.strongswan.certificates import ec_text, rsa_text
from keyway.strongswan.facts import SeenObject, SeenSlot

__all__ = ["LookError", "Pin", "look"]

KINDS: Final = {CKO_CERTIFICATE: "certificate", CKO_PUBLIC_KEY: "public", CKO_PRIVATE_KEY: "private"}


@dataclass(frozen=True, slots=True)
class Pin:
    """A PIN to try.

    Attributes:
        slot: Slot of the token; -1: it is known by its label.
        label: Label of the token.
        pin: The PIN.
    """

    slot: int
    label: str
    pin: str = field(repr=False)


class LookError(Exception):
    """The module could not be asked. The text says why."""


def look(module: Path, environment: Mapping[str, str], pins: Iterable[Pin], timeout: float) -> tuple[SeenSlot, ...]:
    """Return what a module shows.

    Args:
        module: The module.
        environment: What charon has in its environment.
        pins: PINs to try, once each.
        timeout: Seconds that it may take.

    Raises:
        LookError: It can't be loaded, or does not answer.
    """
    asked = json.dumps({"module": str(module), "pins": [asdict(each) for each in pins]})
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__],
            input=asked,
            capture_output=True,
            text=True,
            env=dict(environment),
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LookError(f"the module did not answer within {timeout:g} s") from error
    if done.returncode or not done.stdout:
        raise LookError(
            done.stderr.strip().rpartition("\n")[2] or f"the module ended the process with {done.returncode}"
        )
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise LookError(answer["error"])
    return tuple(_slot(each) for each in answer["slots"])


def _slot(told: Mapping[str, Any]) -> SeenSlot:
    seen = {key: tuple(_object(each) for each in told[key]) for key in ("objects", "private")}
    return SeenSlot(**{**told, **seen})


def _object(told: Mapping[str, Any]) -> SeenObject:
    return SeenObject(**{**told, "certificate": b64decode(told["certificate"])})


def _main() -> None:
    """Answer what is asked on standard input. What the module prints goes to standard error."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    asked = json.load(sys.stdin)
    answer = _answer(asked["module"], [Pin(**each) for each in asked["pins"]])
    json.dump(answer, out, default=lambda value: b64encode(value).decode())
    out.close()


def _answer(module: str, pins: list[Pin]) -> dict[str, Any]:
    try:
        import PyKCS11
    except ModuleNotFoundError:
        return {"error": "PyKCS11 is not installed; install keyway[strongswan]"}
    library = PyKCS11.PyKCS11Lib()
    try:
        library.load(module)
        return {"slots": [asdict(_look(library, slot, pins)) for slot in library.getSlotList(tokenPresent=True)]}
    except PyKCS11.PyKCS11Error as error:
        return {"error": f"{module}: {rv_name(error.value)}" if error.value >= 0 else f"{module}: can't be loaded"}


def _look(library: Any, slot: int, pins: list[Pin]) -> SeenSlot:
    import PyKCS11

    token = library.getTokenInfo(slot)
    label = token.label.strip(" \0")
    if not token.flags & CKF_TOKEN_INITIALIZED:
        return SeenSlot(slot, label, is_initialised=False)
    session = library.openSession(slot, CKF_SERIAL_SESSION)
    try:
        objects = _objects(session)
        login = ""
        private: tuple[SeenObject, ...] = ()
        fitting = [each for each in pins if each.slot == slot or (each.slot < 0 and each.label == label)]
        if fitting:
            try:
                session.login(fitting[0].pin)
                login, private = "CKR_OK", _objects(session)
                session.logout()
            except PyKCS11.PyKCS11Error as error:
                login = rv_name(error.value)
        return SeenSlot(slot, label, objects=objects, login=login, private=private)
    finally:
        session.closeSession()


def _objects(session: Any) -> tuple[SeenObject, ...]:
    found = []
    for kind in KINDS:
        template = [(CKA_CLASS, kind), *([(CKA_CERTIFICATE_TYPE, CKC_X_509)] if kind == CKO_CERTIFICATE else [])]
        found += [_seen(session, each, kind) for each in session.findObjects(template)]
    return tuple(found)


def _seen(session: Any, handle: Any, kind: int) -> SeenObject:
    def read(attribute: int) -> bytes:
        import PyKCS11

        try:
            (value,) = session.getAttributeValue(handle, [attribute], allAsBinary=True)
        except PyKCS11.PyKCS11Error:
            return b""
        return bytes(value or b"")

    public = ""
    if kind == CKO_PUBLIC_KEY:
        if modulus := read(CKA_MODULUS):
            public = rsa_text(int.from_bytes(modulus), int.from_bytes(read(CKA_PUBLIC_EXPONENT)))
        elif point := read(CKA_EC_POINT):
            public = ec_text(point)
    return SeenObject(
        kind=KINDS[kind],
        id=read(CKA_ID).hex(),
        label=read(CKA_LABEL).decode(errors="replace"),
        certificate=read(CKA_VALUE) if kind == CKO_CERTIFICATE else b"",
        public=public,
    )


if __name__ == "__main__":
    _main()
