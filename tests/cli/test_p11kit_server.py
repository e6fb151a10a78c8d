"""`keyway p11-kit-server`, next to the `p11-kit server` of this machine."""

import grp
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest
from tests.cli.conftest import COMMAND, KEYWAY, LOGIN, UNPRIVILEGED, end, is_alive, labels
from tests.daemon.harness import until
from tests.p11kit.stock import RELEASES

from keyway.config.locate import module_library, softhsm_module

STOCK = (str(RELEASES[0].program), "server")
OURS = (*KEYWAY, "p11-kit-server")
VALUE = re.compile(r"(?:setenv )?(P11_KIT_SERVER_\w+)[= ]([^;]*);")
DEMO = "pkcs11:token=demo"

is_root = pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")


@pytest.fixture
def serve(start, at_home):
    """Starts a server in the foreground and returns it with the two lines that it prints."""

    def serve(*arguments, program=OURS, env=None, **options):
        process = start("-f", *arguments, program=program, env={**at_home, **(env or {})}, **options)
        lines = [process.stdout.readline(), process.stdout.readline()]
        assert all(lines), process.stderr.read()
        return process, lines

    return serve


def variables(lines):
    return dict(VALUE.findall("".join(lines)))


def path_of(lines):
    return Path(unquote(variables(lines)["P11_KIT_SERVER_ADDRESS"].removeprefix("unix:path=")))


class TestBothSayTheSame:
    """The lines that it prints, and how it ends."""

    @pytest.mark.parametrize(
        ("options", "env"),
        [
            ((), {}),
            ((), {"SHELL": "/bin/tcsh"}),
            (("--csh",), {}),
            (("-n", "{home}/here"), {}),
            (("--name={home}/with 'blanks' & 100%",), {}),
            (("--provider", str(softhsm_module())), {}),
        ],
        ids=str,
    )
    def test_lines(self, serve, home, options, env):
        said = []
        for program in (STOCK, OURS):
            process, lines = serve(*(each.format(home=home) for each in options), DEMO, program=program, env=env)
            assert int(variables(lines)["P11_KIT_SERVER_PID"]) == process.pid
            assert stat.S_ISSOCK(path_of(lines).stat().st_mode)
            said.append([line.replace(str(process.pid), "PID") for line in lines])
            process.terminate()
            process.wait(30)
            assert not path_of(lines).exists()
        assert process.returncode == 0
        assert said[0] == said[1]

    def test_a_shell_that_is_not_the_login_shell(self, serve):
        """Theirs prints lines for the login shell."""
        process, lines = serve("-s", DEMO, env={"SHELL": "/bin/tcsh"})
        assert lines[0].startswith("P11_KIT_SERVER_ADDRESS=")
        end(process)

    def test_a_name_may_be_an_address(self, serve, home):
        """Theirs encodes the path once more."""
        process, lines = serve("-n", f"unix:path={home}/with%20blanks", DEMO)
        assert path_of(lines) == home / "with blanks"
        end(process)

    def test_a_name_may_be_relative(self, serve, home):
        """Theirs prints it so, and then no client takes it."""
        process, lines = serve("-n", "here", DEMO, cwd=home)
        assert path_of(lines) == home / "here"
        end(process)

    @pytest.mark.parametrize(
        ("arguments", "env", "status"),
        [
            ((), {}, 2),
            (("-n", "/no/such/directory/s", DEMO), {}, 1),
            (("-u", "nobody-at-all", DEMO), {}, 2),
            (("-g", "nobody-at-all", DEMO), {}, 2),
            (("-k",), {}, 1),
            (("-k",), {"P11_KIT_SERVER_PID": "99999999"}, 1),
            ((DEMO,), {"XDG_RUNTIME_DIR": ""}, 1),
        ],
        ids=str,
    )
    def test_exit_status_of_what_can_not_be(self, start, at_home, arguments, env, status):
        if "XDG_RUNTIME_DIR" in env and Path(f"/run/user/{os.getuid()}").is_dir():
            pytest.skip("there is a directory for this user")
        for program in (STOCK, OURS):
            process = start("-f", *arguments, program=program, env={**at_home, **env})
            output, errors = process.communicate(timeout=30)
            assert process.returncode == status, errors
            assert "P11_KIT_SERVER_ADDRESS" not in output
        assert errors
        assert "Traceback" not in errors

    @pytest.mark.parametrize("program", [STOCK, OURS], ids=["p11-kit", "keyway"])
    def test_timeout(self, start, at_home, program):
        process = start("-f", "-t", "1", DEMO, program=program, env=at_home)
        _, errors = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "no connections" in errors
        assert not list((Path(at_home["XDG_RUNTIME_DIR"])).glob("p11-kit/*"))


class TestTokens:
    def test_a_uri(self, serve, tool):
        process, lines = serve("--provider", softhsm_module(), DEMO)
        listed = tool(variables(lines), "-L")
        assert labels(listed) == ["demo"]
        assert "(0x11)" in listed
        tool(variables(lines), *LOGIN, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01")
        assert "Private Key Object" in tool(variables(lines), *LOGIN, "--list-objects")
        end(process)

    def test_several_are_numbered_as_stock_numbers_them(self, serve, tool):
        listings = []
        for program in (STOCK, OURS):
            process, lines = serve("--provider", softhsm_module(), DEMO, "pkcs11:token=other", program=program)
            listed = tool(variables(lines), "-L")
            listings.append(list(zip(re.findall(r"\((0x\w+)\)", listed), labels(listed), strict=True)))
            process.terminate()
            process.wait(30)
        assert sorted(number for number, _ in listings[1]) == ["0x11", "0x12"]
        assert listings[0] == listings[1]

    def test_a_module_keeps_its_own_numbers(self, serve, tool, conf):
        process, lines = serve(softhsm_module())
        listed = tool(variables(lines), "-L")
        direct = tool({"SOFTHSM2_CONF": str(conf)}, "-L", module=softhsm_module())
        assert re.findall(r"0x\w+", listed) == re.findall(r"0x\w+", direct)
        assert labels(listed) == labels(direct)
        end(process)

    def test_all_modules_that_p11_kit_has(self, serve, tool):
        """The trust store is one of them on every system that has p11-kit's modules."""
        process, lines = serve("pkcs11:")
        assert {"demo", "other", "System Trust"} <= set(labels(tool(variables(lines), "-L")))
        end(process)
        process, lines = serve("pkcs11:token=System%20Trust")
        assert "Certificate Object" in tool(variables(lines), "--list-objects")
        end(process)

    def test_write_protected(self, serve, tool):
        process, lines = serve("--provider", softhsm_module(), f"{DEMO}?write-protected=yes")
        refused = tool(variables(lines), *LOGIN, "--keypairgen", "--key-type", "EC:prime256v1", "--id", "01", status=1)
        assert "CKR_TOKEN_WRITE_PROTECTED" in refused
        end(process)

    def test_a_native_socket_shows_no_more(self, serve, tool, home, keyway):
        process, _ = serve("--native", home / "native", "--provider", softhsm_module(), DEMO)
        address = {"KEYWAY_ADDRESS": f"unix:{home}/native"}
        assert labels(tool(address, "-L", module=module_library())) == ["demo"]
        assert f"backend module: {softhsm_module()}" in keyway("status", env=address).stdout
        end(process)

    def test_modules_do_not_find_the_server(self, serve, tool, home):
        """p11-kit's own client as the module, in an environment that still names a server at the same place."""
        path = home / "loop"
        process, lines = serve("-n", path, RELEASES[0].client, env={"P11_KIT_SERVER_ADDRESS": f"unix:path={path}"})
        assert "No slots" in tool(variables(lines), "-L", status=1)
        end(process)


class TestBackground:
    def run(self, keyway, *arguments, **options):
        done = keyway("p11-kit-server", *arguments, stderr=subprocess.DEVNULL, **options)
        assert done.returncode == 0
        return variables(done.stdout.splitlines())

    def test_it_stays_until_it_is_killed(self, keyway, at_home, tool):
        told = self.run(keyway, DEMO, env=at_home)
        pid = int(told["P11_KIT_SERVER_PID"])
        path = Path(told["P11_KIT_SERVER_ADDRESS"].removeprefix("unix:path="))
        try:
            assert os.getsid(pid) == pid
            assert path == Path(at_home["XDG_RUNTIME_DIR"]) / "p11-kit" / f"pkcs11-{pid}"
            assert labels(tool(told, "-L")) == ["demo"]
            done = keyway("p11-kit-server", "--kill", env={**at_home, **told})
            assert done.stdout == "unset P11_KIT_SERVER_ADDRESS;\nunset P11_KIT_SERVER_PID;\n"
            until(lambda: not is_alive(pid), "it ends")
            assert not path.exists()
        finally:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)

    def test_a_shell_takes_its_lines(self, at_home):
        script = f'eval "$({COMMAND} p11-kit-server pkcs11:token=demo)"; {RELEASES[0].program} server -k >&2; env'
        done = subprocess.run(
            ["sh", "-c", script], env={"PATH": "/usr/bin:/bin", **at_home}, capture_output=True, text=True, check=True
        )
        assert "P11_KIT_SERVER_ADDRESS=unix:path=" in done.stdout
        (pid,) = map(int, re.findall(r"P11_KIT_SERVER_PID=(\d+)", done.stdout))
        until(lambda: not is_alive(pid), "p11-kit's own command ends it")

    def test_what_goes_wrong_there_is_told_here(self, keyway, at_home):
        done = keyway("p11-kit-server", "-n", "/no/such/s", DEMO, env=at_home)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "Error: /no/such/s: No such file or directory\n"

    @pytest.mark.parametrize("pid", ["0", "-1", "x", "٣"])
    def test_it_kills_no_group_of_processes(self, keyway, pid):
        done = keyway("p11-kit-server", "-k", env={"P11_KIT_SERVER_PID": pid})
        assert done.returncode == 1
        assert "not the number of a process" in done.stderr


class TestSocket:
    @pytest.mark.parametrize(
        ("options", "mode"), [((), 0o600), (("--mode", "0666"), 0o666), (("-g", "{group}"), 0o660)], ids=str
    )
    def test_mode(self, serve, options, mode):
        group = grp.getgrgid(os.getgid()).gr_name
        process, lines = serve(*(each.format(group=group) for each in options), DEMO)
        assert stat.S_IMODE(path_of(lines).stat().st_mode) == mode
        end(process)

    @is_root
    def test_user_and_group(self, serve, tool, home):
        home.chmod(0o755)
        process, lines = serve("-u", "nobody", "-n", home / "s", DEMO)
        found = path_of(lines).stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (pwd.getpwnam("nobody").pw_uid, 0o600)
        end(process)
        process, lines = serve("-g", "nogroup", "-n", home / "s", DEMO)
        found = path_of(lines).stat()
        assert (found.st_gid, stat.S_IMODE(found.st_mode)) == (grp.getgrnam("nogroup").gr_gid, 0o660)
        end(process)

    @is_root
    def test_as_a_member_of_another_group(self, serve, home):
        process, lines = serve("-a", "root", "-z", "nogroup", "-n", home / "s", softhsm_module())
        status = Path(f"/proc/{process.pid}/status").read_text()
        group = grp.getgrnam("nogroup").gr_gid
        assert re.search(rf"^Gid:\t{group}\t{group}\t{group}\t", status, re.MULTILINE)
        assert re.search(rf"^Groups:\t{group} *$", status, re.MULTILINE)
        assert path_of(lines).stat().st_gid == group
        end(process)

    @pytest.mark.parametrize("options", [("-a", "nobody"), ("-z", "nogroup"), ("-u", "root")])
    def test_others_than_root_have_no_choice(self, keyway, at_home, home, options):
        unprivileged = [*UNPRIVILEGED, *OURS]
        done = keyway("-f", *options, "-n", home / "s", softhsm_module(), env=at_home, program=unprivileged)
        assert done.returncode == 1
        assert "Error: " in done.stderr
        assert "Traceback" not in done.stderr
        assert not (home / "s").exists()

    def test_a_server_that_lives_is_left_alone(self, serve, keyway, at_home, home):
        process, _ = serve("-n", home / "s", DEMO)
        done = keyway("p11-kit-server", "-f", "-n", home / "s", DEMO, env=at_home)
        assert done.returncode == 1
        assert f"{home}/s: another daemon listens there" in done.stderr
        end(process)

    def test_the_socket_of_a_dead_one_is_replaced(self, serve, home):
        with socket.socket(socket.AF_UNIX) as old:
            old.bind(str(home / "s"))
        process, _ = serve("-n", home / "s", DEMO)
        end(process)

    def test_a_socket_that_the_service_manager_hands_over(self, start, at_home, tool, home):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(home / "s"))
            listener.listen()
            script = 'exec 3<&"$0" && LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
            process = start(
                "-c", script, listener.fileno(), *OURS, "-f", DEMO,
                program=["bash"], env=at_home, pass_fds=[listener.fileno()],
            )  # fmt: skip
            lines = [process.stdout.readline(), process.stdout.readline()]
            assert path_of(lines) == home / "s"
            assert labels(tool(variables(lines), "-L")) == ["demo"]
            end(process)
            assert (home / "s").exists()


class TestClients:
    def test_a_second_signal_ends_it_at_once(self, serve):
        process, lines = serve(softhsm_module())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path_of(lines)))
            client.sendall(b"\0")
            assert client.recv(1) == b"\0"
            process.send_signal(signal.SIGTERM)
            until(lambda: not path_of(lines).exists(), "it has heard")
            process.send_signal(signal.SIGTERM)
            assert client.recv(1) == b""
        process.communicate(timeout=30)
        assert process.returncode == 0

    def test_the_time_without_clients_begins_when_the_last_one_leaves(self, serve):
        process, lines = serve("-t", "0.5", softhsm_module())
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path_of(lines)))
            client.sendall(b"\0")
            assert client.recv(1) == b"\0"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
        process.communicate(timeout=30)
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--bogus", DEMO), "No such option"),
        (("-t", "soon", DEMO), "is not a valid float"),
        (("--mode", "999", DEMO), "permissions as an octal number"),
        (("-n", "vsock:cid=1", DEMO), "Invalid value for --name"),
        ((DEMO, str(softhsm_module())), "can't be mixed"),
        ((str(softhsm_module()), str(softhsm_module())), "one module"),
        (("-p", str(softhsm_module()), str(softhsm_module())), "one module"),
        (("pkcs11:token=%zz",), "no PKCS #11 URI"),
        (("pkcs11:object=key",), "names an object, not a token"),
        (("pkcs11:token=a?pin-value=secret-7391",), "must not hold a PIN"),
        (("pkcs11:token=a?write-protected=maybe",), "write-protected is yes or no"),
    ],
)
def test_a_wrong_command_line(keyway, at_home, arguments, text):
    done = keyway("p11-kit-server", "-f", *arguments, env=at_home)
    assert done.returncode == 2
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret-7391" not in done.stderr


@pytest.mark.parametrize("arguments", [("/no/such.so",), ("nosuch.so",), ("-p", "/no/such.so", DEMO), ("bogus:",)])
def test_no_such_module(keyway, at_home, arguments):
    done = keyway("p11-kit-server", "-f", *arguments, env=at_home)
    assert done.returncode == 1
    assert "no such module" in done.stderr
