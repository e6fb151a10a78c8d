"""Java's SunPKCS11."""

from tests.fidelity.verdicts import Kept


class TestJava(Kept):
    suites = ("java",)
