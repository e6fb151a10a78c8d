"""The sandbox of a backend in the configuration, and what a host is told of it."""

import re
from pathlib import Path

import pytest

from keyway.backend.sandbox import Sandbox, arguments
from keyway.config import ConfigError, SandboxOptions, missing_modules, parse

BACKEND = '[backend.s]\nmodule = "/m"\n'


def sandbox(text: str) -> SandboxOptions:
    return parse(BACKEND + text).backends["s"].sandbox


def test_without_a_word_hosts_are_confined_and_nothing_more():
    assert sandbox("") == SandboxOptions()
    assert sandbox("").enabled


def test_the_guide_says_what_can_be_read():
    page = (Path(__file__).parents[2] / "docs" / "guides" / "isolation.md").read_text()
    first, second = re.findall(r"^```toml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    told = parse(first).backends["softhsm"].sandbox
    assert (told.write, told.network, told.open_files) == ((Path("/var/lib/keyway/tokens"),), False, 64)
    assert parse('[backend.softhsm]\nmodule = "/m"\n' + second).backends["softhsm"].sandbox.user == "hsm-softhsm"


def test_the_network_is_open_closed_or_closed_if_that_can_be():
    told = [sandbox(f"[backend.s.sandbox]\n{line}").network for line in ("network = true", "network = false", "")]
    assert told == [True, False, None]


def test_it_is_a_section_a_table_or_dotted_keys():
    expected = SandboxOptions(read=(Path("/a"), Path("/b")), network=False, memory=1000)
    for text in [
        '[backend.s.sandbox]\nread = ["/a", "/b"]\nnetwork = false\nmemory = 1000\n',
        'sandbox = { read = ["/a", "/b"], network = false, memory = 1000 }\n',
        'sandbox.read = ["/a", "/b"]\nsandbox.network = false\nsandbox.memory = 1000\n',
    ]:
        assert sandbox(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sandbox = true\n", r":3: backend.s.sandbox: must be a section \[backend.s.sandbox\]"),
        ("[backend.s.sandbox]\nnet = true\n", r":4: backend.s.sandbox.net: unknown; known here: enabled, user, read"),
        ('[backend.s.sandbox]\nread = "/a"\n', r":4: backend.s.sandbox.read: must be a list of paths"),
        ('[backend.s.sandbox]\nread = ["a"]\n', r":4: backend.s.sandbox.read: must be an absolute path"),
        ('[backend.s.sandbox]\nread = ["/a\\u0000"]\n', r":4: .*must not hold a zero character"),
        ("[backend.s.sandbox]\nmemory = -1\n", r":4: backend.s.sandbox.memory: must be at least 0"),
        (
            "[backend.s.sandbox]\nenabled = false\nnetwork = false\n",
            r":5: backend.s.sandbox.network: says nothing with enabled = false",
        ),
        (
            '[backend.t]\naddress = "unix:/k"\nsandbox = { network = false }\n',
            r":5: backend.t.sandbox: is for a module only",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text, problem):
    with pytest.raises(ConfigError) as caught:
        parse(BACKEND + text)
    assert any(re.search(problem, each) for each in caught.value.problems), caught.value.problems


def test_users_that_hosts_can_not_run_as(tmp_path):
    path, module = tmp_path / "keyway.toml", tmp_path / "module.so"
    module.touch()
    path.write_text(f'[backend.s]\nmodule = "{module}"\n[backend.s.sandbox]\nuser = "no-such-user"\n')
    problem = "there is no user no-such-user"
    assert missing_modules(path, parse(path.read_text())) == [f"{path}:4: backend.s.sandbox.user: {problem}"]
    path.write_text(path.read_text().replace("no-such-user", "root"))
    assert missing_modules(path, parse(path.read_text())) == []


def test_what_a_host_is_told():
    assert arguments(Sandbox()) == ()
    assert arguments(Sandbox(own_user=5, network=True)) == ("--own-user", "5", "--network")
    assert arguments(None) == ("--unconfined",)
    told = arguments(
        Sandbox(
            user=(7, 8),
            own_user=5,
            read=(Path("/a"), Path("/b c")),
            write=(Path("/d"),),
            network=False,
            processes=False,
            memory=9,
            files=10,
        )
    )
    assert told == (
        *("--user", "7:8", "--read", "/a", "--read", "/b c", "--write", "/d"),
        *("--no-network", "--no-processes", "--memory", "9", "--files", "10"),
    )
