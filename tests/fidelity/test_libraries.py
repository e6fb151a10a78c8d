"""Tools that come with libraries for TLS, and ssh."""

from tests.fidelity.verdicts import Kept


class TestLibraries(Kept):
    suites = ("nss", "gnutls", "openssl", "ssh")
