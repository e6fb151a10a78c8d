"""A program that signs in eight threads for as long as it is let, as a payment switch or a certificate authority does.

It writes `ready` when all threads have signed, signs until its standard input ends, and then writes one JSON object: every call that it made.
It knows nothing of HSMs that come and go: it opens its sessions once, and calls C_SignInit and C_Sign.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from typing import Any, Final

# Not PyKCS11 as in signer.py: that one lets no other Python thread run during a call.
import pkcs11

THREADS: Final = 8
MECHANISMS: Final = {"rsa": pkcs11.Mechanism.SHA256_RSA_PKCS, "ec": pkcs11.Mechanism.ECDSA}
"""By label of the key. CKM_ECDSA signs a digest."""


class Thread(threading.Thread):
    """One of them, with a session of its own.

    Attributes:
        calls: What it did: key, message, signature or nothing, error, and begin and end by the monotonic clock in nanoseconds.
        has_signed: Set when it has, for the first time.
    """

    def __init__(self, number: int, session: pkcs11.Session, stop: threading.Event) -> None:
        super().__init__(name=f"signer {number}")
        self.calls: list[dict[str, Any]] = []
        self.has_signed = threading.Event()
        self._label = ("rsa", "ec")[number % 2]
        self._key: Any = session.get_key(object_class=pkcs11.ObjectClass.PRIVATE_KEY, label=self._label)
        self._number = number
        self._stop_signing = stop

    def run(self) -> None:
        """Sign one message after another."""
        count = 0
        while not self._stop_signing.is_set():
            count += 1
            message = f"payment {count} of thread {self._number}".encode()
            data = message if self._label == "rsa" else hashlib.sha256(message).digest()
            begin = time.monotonic_ns()
            signature, error = b"", ""
            try:
                signature = self._key.sign(data, mechanism=MECHANISMS[self._label])
            except pkcs11.PKCS11Error as failure:
                error = type(failure).__name__
                self._stop_signing.wait(0.01)  # So that a gateway that has gone for good is not asked a million times.
            self.calls.append(
                {
                    "key": self._label,
                    "message": message.decode(),
                    "signature": signature.hex(),
                    "error": error,
                    "begin": begin,
                    "end": time.monotonic_ns(),
                }
            )
            self.has_signed.set()


def main() -> None:
    """Sign until standard input ends, then tell."""
    token = pkcs11.lib(os.environ["KEYWAY_MODULE"]).get_token(token_label=os.environ["KEYWAY_TOKEN"])
    # One login holds for all sessions of a program.
    sessions = [token.open(user_pin=os.environ["KEYWAY_PIN"]), *(token.open() for _ in range(1, THREADS))]
    stop = threading.Event()
    threads = [Thread(number, session, stop) for number, session in enumerate(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.has_signed.wait()
    print("ready", flush=True)
    sys.stdin.read()
    stop.set()
    for thread in threads:
        thread.join()
    print(json.dumps([call for thread in threads for call in thread.calls]))


if __name__ == "__main__":
    main()
