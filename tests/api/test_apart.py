"""Two processes that make the same key at the same moment make it once."""

import subprocess
import sys

import pytest
from tests.api.running import PIN, SO_PIN
from tests.daemon.raw import RawClient
from tests.daemon.tokens import open_session, slot_of

from keyway import Client
from keyway.cryptoki import Attribute, Numbers, ObjectsRoom
from keyway.cryptoki.constants import CKA_LABEL, CKU_USER

ROUNDS = 6

MAKER = """
import sys
from keyway import Client
address, pin = sys.argv[1:]
with Client(address, timeout=90) as client:
    client.keys("twice", pin=pin)
    print("ready", flush=True)
    for line in sys.stdin:
        client.create_key("twice", line.strip(), "rsa:2048", pin=pin)
        print("made", flush=True)
"""


@pytest.fixture
def makers(daemon, api):
    """Two processes, one over the daemon's socket and one over HTTP, each logged in and ready to make keys."""
    with Client(f"unix:{daemon.socket}") as client:
        client.init_token("twice", so_pin=SO_PIN, pin=PIN)
    processes = []
    for address in (f"unix:{daemon.socket}", api.url):
        command = [sys.executable, "-c", MAKER, address, PIN]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    yield processes
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0, 0]


def test_one_pair_is_made(daemon, makers):
    for number in range(ROUNDS):
        for process in makers:
            process.stdin.write(f"key-{number}\n")
            process.stdin.flush()
        for process in makers:
            assert process.stdout.readline() == "made\n"
    with RawClient(daemon.socket) as client:
        client.initialize()
        session = open_session(client, slot_of(client, "twice"))
        client.good("C_Login", CKU_USER, PIN.encode(), target=session)
        for number in range(ROUNDS):
            client.good("C_FindObjectsInit", (Attribute(CKA_LABEL, f"key-{number}".encode()),), target=session)
            (found,) = client.good("C_FindObjects", ObjectsRoom(16, True, True), target=session)
            assert isinstance(found, Numbers)
            assert len(found.data or ()) == 2, f"key-{number}"
            client.good("C_FindObjectsFinal", target=session)
