"""`keyway agent`: from an application over the agent and TLS to a gateway elsewhere."""

import os
import signal
from pathlib import Path

import pytest
from tests.cli.conftest import COMMAND, LOGIN, end, labels, told

from keyway.config.locate import module_library, softhsm_module


@pytest.fixture
def agent(start, at_home):
    """Starts the agent, and returns it with what it says to set."""

    def agent(*arguments, **env):
        process = start("agent", *arguments, env={**at_home, **env})
        return process, told(process)

    return agent


def native(variables):
    return {"KEYWAY_ADDRESS": variables["KEYWAY_ADDRESS"]}


def stock(variables):
    return {"P11_KIT_SERVER_ADDRESS": variables["P11_KIT_SERVER_ADDRESS"]}


def gateway(far, scheme, protocol="keyway"):
    """Start a gateway, and return the options that lead there."""
    options = far.gateway(scheme, protocol)
    names = {"address": "--to", "server_name": "--server-name"}
    return [word for name, value in options.items() for word in (names.get(name, f"--{name}"), str(value))]


@pytest.mark.parametrize(
    ("scheme", "protocol"), [("tls", "keyway"), ("tls", "p11-kit"), ("tcp", "keyway"), ("unix", "keyway")]
)
def test_both_kinds_of_clients_use_a_gateway(agent, far, tool, home, scheme, protocol):
    process, variables = agent(*gateway(far, scheme, protocol))
    assert variables == {
        "KEYWAY_ADDRESS": f"unix:{home}/keyway/agent.sock",
        "P11_KIT_SERVER_ADDRESS": f"unix:path={home}/keyway/p11-kit.sock",
    }
    assert set(labels(tool(native(variables), "-L", module=module_library()))) >= {"demo", "other"}
    tool(stock(variables), *LOGIN, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01")
    assert "Private Key Object" in tool(native(variables), *LOGIN, "--list-objects", module=module_library())
    assert end(process) == ""
    assert list((home / "keyway").iterdir()) == []


def test_a_command(agent, tool, at_home):
    process, variables = agent("--to", f"|{COMMAND} remote {softhsm_module()}")
    assert set(labels(tool(stock(variables), "-L"))) >= {"demo", "other"}
    assert end(process, signal.SIGINT) == ""


def test_where_its_sockets_are_said_to_be(agent, tool, home, far):
    process, variables = agent(*gateway(far, "unix"), "--socket", home / "a b", "--p11-kit", home / "c d")
    assert variables["KEYWAY_ADDRESS"] == f"'unix:{home}/a b'"
    assert variables["P11_KIT_SERVER_ADDRESS"] == f"unix:path={home}/c%20d"
    assert "demo" in labels(tool(stock(variables), "-L"))
    assert (home / "a b").stat().st_mode & 0o777 == 0o600
    end(process)


def test_a_configuration_file(agent, tool, home, conf):
    path = home / "agent.toml"
    path.write_text(f'[backend.s]\nmodule = "{softhsm_module()}"\n[token.t]\nlabel = "demo"\nslot = 7\n')
    process, variables = agent("-c", path)
    listed = tool(stock(variables), "-L")
    assert labels(listed) == ["demo"]
    assert "(0x7)" in listed
    end(process)


def test_a_gateway_that_is_away_is_told(agent, tool, home):
    process, variables = agent("--to", f"unix:{home}/nobody")
    assert "No slots" in tool(stock(variables), "-L", status=1)
    errors = end(process)
    assert f"unix:{home}/nobody: No such file or directory" in errors


def test_status(agent, far, keyway):
    process, variables = agent(*gateway(far, "unix"))
    assert "backend gateway: unix:/" in keyway("status", env=native(variables)).stdout
    end(process)


def test_the_sockets_of_another_agent_are_left_alone(agent, far, keyway, at_home):
    to = gateway(far, "unix")
    process, _ = agent(*to)
    done = keyway("agent", *to, env=at_home)
    assert done.returncode == 1
    assert "another daemon listens there" in done.stderr
    end(process)


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ((), 2, "one of --to and --config"),
        (("--to", "unix:/x", "-c", "/etc/passwd"), 2, "one of --to and --config"),
        (("--to", "nonsense"), 2, "an address is"),
        (("--to", "tls://gw.test"), 2, "tls needs a host and a port"),
        (("--to", "tls://gw.test:1"), 2, "ca is missing"),
        (("--to", "tcp://gw.test:1"), 2, "lets others read PINs"),
        (("--to", "systemd:x"), 2, "is for listeners only"),
        (("--to", "|"), 2, "there is no command"),
        (("--to", "|'"), 2, "--to"),
        (("--to", "unix:/x", "--ca", "/etc/passwd"), 2, "is for TLS only"),
        (("--to", "tls://gw.test:1", "--ca", "/no/such"), 2, "does not exist"),
        (("--to", "tls://gw.test:1", "--ca", "/etc/passwd"), 1, "/etc/passwd"),
        (("--to", "unix:/x", "--kerberos"), 2, "is for a gss or tls address only"),
        (("--to", "tcp://127.0.0.1:1", "--service", "x"), 2, "is for Kerberos only"),
        (("-c", "/etc/passwd"), 1, "not TOML"),
    ],
)
def test_what_can_not_be(keyway, at_home, arguments, status, text):
    done = keyway("agent", *arguments, env=at_home)
    assert done.returncode == status, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(Path(f"/run/user/{os.getuid()}").is_dir(), reason="there is a directory for this user")
def test_without_a_place_for_sockets(keyway):
    done = keyway("agent", "--to", "unix:/x", env={"XDG_RUNTIME_DIR": "relative"})
    assert done.returncode == 1
    assert "XDG_RUNTIME_DIR is not set" in done.stderr
