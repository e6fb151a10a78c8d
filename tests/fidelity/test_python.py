"""The tests of two Python packages."""

from tests.fidelity.verdicts import Kept, KeptByAPool, Lossy, WrongPin


class TestPythonPkcs11(WrongPin, KeptByAPool, Kept):
    suites = ("python-pkcs11",)


class TestPyKCS11(Lossy, Kept):
    suites = ("pykcs11",)
