"""The commands of the Kerberos guide do what the guide says, as they stand there."""

import pytest
from tests.guides import follow
from tests.kerberos.realm import PATH, REALM

SHOWN = [
    "pkcs11/localhost@",  # the keytab
    r"token label +: keyway",  # over the agent
    "Signature is valid",
    f"context opened.*principal=alice@{REALM}",
]


@pytest.mark.timeout(300)
def test_kerberos_guide(home, alice):
    follow("kerberos.md", home, ["5660"], SHOWN, PATH)
