"""The commands of the network guide do what the guide says, as they stand there."""

import os
import shutil

import pytest
from tests.guides import follow

SHOWN = [
    r"token label +: keyway",  # pkcs11-tool over TLS
    "Private Key Object; EC|Public Key Object; EC",  # a key was made there
    "connection refused: .*it shows no certificate",
    "certificate=alice",
    "connection refused: .*certificate revoked",
    "the changed TLS files are in use",
    "tokens offered",
]


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("pkcs11-tool") is None, reason="pkcs11-tool (Debian: opensc) is not installed")
def test_network_guide(home):
    follow("network.md", home, ["5658", "5659"], SHOWN, os.environ["PATH"])
