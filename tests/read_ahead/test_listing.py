"""Real programs that list a token: what they print, and how many round trips that takes."""

import subprocess
from pathlib import Path

import pytest
from tests.daemon.pool.tokens import LABEL, PIN
from tests.read_ahead.conftest import secret_key

from keyway.config.locate import module_library, softhsm_module

STOCK = 2_089
"""Round trips of the same listing with p11-kit's own client and server."""
PAIRS = 50

PKCS11_TOOL = ("pkcs11-tool", "--module", "MODULE", "--token-label", LABEL, "--login", "--pin", PIN, "--list-objects")
P11TOOL = ("p11tool", "--provider", "MODULE", "--login", "--set-pin", PIN, "--list-all", f"pkcs11:token={LABEL}")


@pytest.fixture
def load(home):
    """The benchmark's program, which makes keys."""
    program = home / "load"
    source = Path(__file__).parents[2] / "bench/load.c"
    subprocess.run(["cc", "-I/usr/include/p11-kit-1", "-pthread", "-o", program, source, "-ldl"], check=True)
    return program


@pytest.fixture
def run(environment):
    def run(command, module):
        command = [str(module) if word == "MODULE" else word for word in command]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout, done.stderr.replace(str(module), "MODULE")

    return run


def test_a_hundred_keys_take_a_fifth_of_the_round_trips(load, environment, run, trips):
    environment |= {"KEYWAY_PIN": PIN, "KEYWAY_TOKEN": LABEL}
    prepare = [load, "-n", str(2 * PAIRS), softhsm_module(), "prepare-listing"]
    subprocess.run(prepare, env=environment, check=True, stdout=subprocess.DEVNULL)
    expected = run(PKCS11_TOOL, softhsm_module())
    assert expected[0].count("Key Object") == 2 * PAIRS
    assert run(PKCS11_TOOL, module_library()) == expected
    counted = trips()
    assert counted["calls"] > STOCK * 0.9
    # On an idle machine it is 91; a busy one answers for fewer objects at a time.
    assert counted["round_trips"] <= STOCK // 5


@pytest.mark.parametrize("command", [PKCS11_TOOL, P11TOOL], ids=lambda command: command[0])
def test_programs_print_the_same(command, direct, run):
    for index in range(7):
        direct.create(*secret_key(f"key {index}", bytes([index])))
    assert run(command, module_library()) == run(command, softhsm_module())
