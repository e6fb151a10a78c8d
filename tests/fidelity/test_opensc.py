"""The programs of OpenSC."""

from tests.fidelity.verdicts import Kept, KeptByAPool, WrongPin


class TestTool(Kept):
    suites = ("pkcs11-tool",)


class TestItsTests(WrongPin, KeptByAPool, Kept):
    suites = ("p11test",)
