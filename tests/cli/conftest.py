import os
import pwd
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from tests.back.remotes import Remote, make_conf
from tests.daemon.tokens import PIN
from tests.p11kit.stock import RELEASES

KEYWAY = [sys.executable, "-m", "keyway.cli"]
COMMAND = str(Path(sys.executable).with_name("keyway"))
"""The command as one word, for configuration files and shells."""
UNPRIVILEGED = (
    ["unshare", "--user", f"--map-user={pwd.getpwnam('nobody').pw_uid}", "--map-group=65534"]
    if os.getuid() == 0
    else []
)
"""Goes before a command that shall not be root, yet may read what is root's alone: p11-kit has no configuration of root's own."""
LOGIN = ("--token-label", "demo", "--login", "--pin", PIN)


@pytest.fixture
def scratch():
    """A directory for temporary files, which must be empty at the end. Short, for the sake of unix sockets."""
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)
        assert list(Path(name).iterdir()) == []


@pytest.fixture
def start(scratch):
    """Starts the command, or another program."""
    environment = {"TMPDIR": str(scratch), "PATH": "/usr/bin:/bin"}
    processes = []

    def start(*arguments, env=None, program=KEYWAY, **options):
        process = subprocess.Popen(
            [*program, *map(str, arguments)],
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "env": {**environment, **(env or {})},
                **options,
            },
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def keyway(start):
    """Runs the command to its end."""

    def keyway(*arguments, **options):
        process = start(*arguments, **options)
        output, errors = process.communicate(timeout=60)
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    return keyway


@pytest.fixture
def home():
    """A directory for tokens and sockets. Short, for the sake of unix sockets."""
    with tempfile.TemporaryDirectory(prefix="kt-") as name:
        yield Path(name)


@pytest.fixture
def conf(home):
    """SoftHSM's configuration, with two tokens called demo and other."""
    conf = make_conf(home, "soft", "demo")
    subprocess.run(
        ["softhsm2-util", "--init-token", "--free", "--label", "other", "--so-pin", PIN, "--pin", PIN],
        env={"SOFTHSM2_CONF": str(conf), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return conf


@pytest.fixture
def at_home(home, conf):
    """Variables that make the tokens, and sockets by default, those of the test."""
    return {"SOFTHSM2_CONF": str(conf), "XDG_RUNTIME_DIR": str(home)}


@pytest.fixture
def tool():
    """Runs pkcs11-tool with p11-kit's client, or another module, and returns what it prints."""

    def tool(variables, *arguments, module=RELEASES[0].client, status=0):
        done = subprocess.run(
            ["pkcs11-tool", "--module", str(module), *map(str, arguments)],
            env={"PATH": "/usr/bin:/bin", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return tool


@pytest.fixture
def far(home, conf):
    """Other gateways, and an sshd."""
    with Remote(home, conf) as far:
        yield far


def told(process):
    """Return the variables that a command says to set, once it is ready."""
    variables: dict[str, str] = {}
    for line in iter(process.stdout.readline, ""):
        if line.startswith("# Ready"):
            return variables
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").strip().partition("=")
            variables[name] = value
    raise AssertionError(process.stderr.read())


def end(process, number=signal.SIGTERM):
    """Tell a command to end, and return what it wrote to standard error. It must end well."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    return errors


def labels(output):
    """The labels of tokens in what pkcs11-tool -L prints."""
    return [line.partition(":")[2].strip() for line in output.splitlines() if line.strip().startswith("token label")]


def is_alive(pid):
    """Whether a process is there, and not only waiting to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
