"""`keyway forward` through a real sshd on this machine."""

import asyncio
import getpass
import os
import signal
from pathlib import Path

import pytest
from tests.cli.conftest import LOGIN, end, labels, told
from tests.daemon.harness import until

from keyway.cli.forward import READY, _follow, ssh_command
from keyway.config.locate import module_library, softhsm_module

DEMO = "pkcs11:token=demo"
ME = f"{getpass.getuser()}@127.0.0.1"


@pytest.fixture
def ssh(far):
    """Options that lead to an sshd."""
    words = iter(far.sshd()[3:-1])  # Without the program, -F and the host.
    options = []
    for word in words:
        options += ["-o", f"Port={next(words)}" if word == "-p" else next(words)]
    return options


@pytest.fixture
def forward(start, at_home, ssh):
    """Starts the command, and returns it with what it says to set."""

    def forward(*arguments):
        process = start("forward", *ssh, *arguments, env={**at_home, "HOME": at_home["XDG_RUNTIME_DIR"]})
        return process, told(process)

    return forward


def socket_of(variables):
    return Path(variables["P11_KIT_SERVER_ADDRESS"].removeprefix("unix:path="))


def test_both_kinds_of_clients_use_the_tokens(forward, tool):
    process, variables = forward(ME, "--provider", softhsm_module(), DEMO)
    path = socket_of(variables)
    assert labels(tool({"P11_KIT_SERVER_ADDRESS": variables["P11_KIT_SERVER_ADDRESS"]}, "-L")) == ["demo"]
    address = {"KEYWAY_ADDRESS": variables["KEYWAY_ADDRESS"]}
    assert labels(tool(address, "-L", module=module_library())) == ["demo"]
    tool(address, *LOGIN, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", module=module_library())
    assert path.stat().st_mode & 0o777 == 0o600
    end(process, signal.SIGINT)
    until(lambda: not list(path.parent.glob(f"{path.stem}*")), "the sockets there are removed")


def test_without_a_name_all_tokens_are_forwarded(forward, tool):
    process, variables = forward(ME)
    assert {"demo", "other", "System Trust"} <= set(labels(tool(variables, "-L")))
    end(process)


def test_a_path_of_ones_own(forward, home, tool):
    process, variables = forward(ME, softhsm_module(), "--remote-socket", home / "with blanks")
    assert variables == {"P11_KIT_SERVER_ADDRESS": f"unix:path={home}/with%20blanks"}
    assert "demo" in labels(tool(variables, "-L"))
    end(process)
    until(lambda: not (home / "with blanks").exists(), "the socket there is removed")


def test_a_path_for_the_other_client(forward, home, tool):
    process, variables = forward(ME, softhsm_module(), "--remote-native", home / "there")
    assert variables == {"KEYWAY_ADDRESS": f"unix:{home}/there"}
    assert "demo" in labels(tool(variables, "-L", module=module_library()))
    end(process)
    until(lambda: not (home / "there").exists(), "the socket there is removed")


def test_a_path_that_is_taken(keyway, ssh, home, at_home):
    (home / "taken").touch()
    done = keyway("forward", *ssh, ME, softhsm_module(), "--remote-socket", home / "taken", env=at_home)
    assert done.returncode == 1
    assert f"remote port forwarding failed for listen path {home}/taken" in done.stderr
    assert "choose another path" in done.stderr
    assert [path.name for path in home.iterdir() if path.name.startswith("taken")] == ["taken"]


def test_ssh_ends(forward, far):
    process, variables = forward(ME, softhsm_module())
    (ssh,) = [pid for pid in _children(process.pid) if _program(pid) == "ssh"]
    os.kill(ssh, signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "ssh was killed by SIGKILL" in errors
    until(lambda: not socket_of(variables).exists(), "the socket there is removed")


def test_nobody_is_there(keyway, at_home):
    done = keyway("forward", "-o", "Port=1", "-o", "BatchMode=yes", ME, softhsm_module(), env=at_home)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
    assert "ssh exited with status 255" in done.stderr


def test_there_is_no_ssh(keyway, at_home):
    done = keyway("forward", ME, softhsm_module(), env={**at_home, "PATH": "/nowhere"})
    assert done.returncode == 1
    assert done.stderr == "Error: ssh: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ((), 2, "Missing argument"),
        (("--", "-oProxyCommand=true"), 2, "is no host"),
        ((ME, "/no/such.so"), 1, "no such module"),
        ((ME, "pkcs11:token=%"), 2, "no PKCS #11 URI"),
        ((ME, "--remote-socket", "relative"), 2, "an absolute path"),
        ((ME, "--remote-native", "/a:b"), 2, "an absolute path"),
    ],
)
def test_what_can_not_be(keyway, at_home, arguments, status, text):
    done = keyway("forward", *arguments, env=at_home)
    assert done.returncode == status
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_of_ssh():
    words = ssh_command("u@h", ("Port=1",), {"/there": Path("/here")})
    assert words[:4] == ["ssh", "-T", "-o", "Port=1"]
    assert words[words.index("-R") + 1] == "/there:/here"
    assert words[-3:-1] == ["--", "u@h"]
    assert words[-1] == f"echo {READY}; cat >/dev/null; rm -f /there"


def _children(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _program(pid):
    return Path(f"/proc/{pid}/exe").readlink().name


def test_what_the_other_machine_says_at_length_is_passed_over(capsys):
    async def scenario() -> bool:
        script = f"head -c 300000 /dev/zero | tr '\\0' x; echo; echo {READY}"
        talker = await asyncio.create_subprocess_exec("sh", "-c", script, stdout=asyncio.subprocess.PIPE)
        is_ready = asyncio.Event()
        await _follow(talker, "ready\n", is_ready)
        return is_ready.is_set()

    assert asyncio.run(scenario())
    assert capsys.readouterr().out == "ready\n"
