"""The guide to remote tokens: its commands and sections, as they stand there but for names and places."""

import getpass
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.authority import Authority
from tests.back.remotes import free_port
from tests.daemon.raw import RawClient
from tests.daemon.tokens import login, open_session, slot_of

PAGE = (Path(__file__).parents[2] / "docs" / "guides" / "remote-tokens.md").read_text()


def blocks(heading: str, language: str) -> list[str]:
    """Return the blocks of a section of the page."""
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


class Places:
    """What the page's names and places are in a test."""

    def __init__(self, home: Path, **others: str) -> None:
        self.home = home
        self.others = {"/etc/keyway": f"{home}/etc", "/run/keyway": f"{home}/run", "/run/hsm": f"{home}/run", **others}
        for name in ("etc", "run"):
            (home / name).mkdir()

    def put(self, text: str) -> str:
        for name, place in self.others.items():
            text = text.replace(name, place)
        return text

    def run(self, script: str, environment: dict[str, str]) -> str:
        # No pipe: a server in the background would keep it open.
        output = self.home / "output"
        with output.open("w") as file:
            done = subprocess.run(
                ["bash", "-euc", self.put(script)],
                cwd=self.home,
                env={**environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                check=False,
            )
        assert done.returncode == 0, output.read_text()
        return output.read_text()


def use(daemon, label="demo"):
    with RawClient(daemon.socket) as client:
        client.initialize()
        open_session(client, slot_of(client, label))
        login(client, 1)


def test_over_ssh(start, home, far):
    heading = "Over ssh, where only p11-kit is installed"
    far.sshd()
    port = re.search(r"Port (\d+)", (home / "sshd.conf").read_text())
    assert port
    places = Places(
        home,
        **{
            "ssh-keyscan": f"ssh-keyscan -p {port[1]}",
            "hsm1.example": "127.0.0.1",
            "User keyway": f"User {getpass.getuser()}\n    Port {port[1]}",
            "p11-kit remote": f"env SOFTHSM2_CONF={far.conf} p11-kit remote",
        },
    )
    keys, look = blocks(heading, "sh")
    places.run(keys, dict(os.environ))
    config, shared = blocks(heading, "ssh_config")
    (allowed,) = blocks(heading, "authorized_keys")
    public = (home / "etc/hsm1.key.pub").read_text()
    (home / "authorized").write_text(places.put(allowed).replace("ssh-ed25519 AAAA... keyway\n", public))
    (section,) = blocks(heading, "toml")
    daemon = start(places.put(section))
    (home / "etc/keyway.toml").write_text(places.put(section))
    environment = {**os.environ, "KEYWAY_ADDRESS": f"unix:{daemon.socket}"}

    (home / "etc/ssh_config").write_text(places.put(config))
    assert "demo (SoftHSM v2" in places.run(look, environment)
    use(daemon)
    assert logins(home) == 2
    (home / "etc/ssh_config").write_text(places.put(config + shared))
    try:
        use(daemon)
        use(daemon)
        assert logins(home) == 3
        assert not daemon.contexts()
    finally:
        subprocess.run(["ssh", "-F", f"{home}/etc/ssh_config", "-O", "exit", "hsm1"], check=True, capture_output=True)


def logins(home):
    return (home / "sshd.log").read_text().count("Accepted publickey")


def test_without_a_command_of_the_key(start, home, far):
    """The other form of the command."""
    words = re.search(r'`("hsm1", "p11-kit", .*?)`', PAGE)
    assert words
    command = [*far.sshd(), f"SOFTHSM2_CONF={far.conf}", *(word for word in re.findall(r'"(.*?)"', words[1])[1:])]
    daemon = start(f"[backend.hsm1]\ncommand = {command}\n".replace("'", '"'))
    use(daemon)


def test_at_a_socket_of_p11_kit_server(start, home, far):
    heading = "At a socket of p11-kit server"
    places = Places(home)
    (command,) = blocks(heading, "sh")
    told = places.run(command, far.environment)
    server = re.search(r"P11_KIT_SERVER_PID=(\d+)", told)
    assert server
    try:
        (section,) = blocks(heading, "toml")
        use(start(places.put(section)))
    finally:
        os.kill(int(server[1]), 15)


def test_another_keyway_over_tls(start, home, far):
    authority = Authority(home)
    server, client = authority.issue("hsm1.example", stem="server"), authority.issue("front")
    port = free_port()
    far.daemon(
        f'[listener.net]\naddress = "tls://127.0.0.1:{port}"\n{server.options}ca = "{authority.file}"\n',
    )
    section, _ = blocks("Another Keyway, over TLS", "toml")
    places = {
        '"tls://hsm1.example:5658"': f'"tls://127.0.0.1:{port}"\nserver_name = "hsm1.example"',
        "/etc/keyway/front.pem": str(client.certificate),
        "/etc/keyway/front.key": str(client.key),
        "/etc/keyway/ca.pem": str(authority.file),
    }
    for name, place in places.items():
        section = section.replace(name, place)
    use(start(section))


def test_keyway_remote_over_ssh(start, far):
    _, section = blocks("Another Keyway, over TLS", "toml")
    login = ", ".join(f'"{word}"' for word in far.sshd())
    remote = f'"env", "SOFTHSM2_CONF={far.conf}", "{Path(sys.executable).with_name("keyway")}"'
    use(start(section.replace('"ssh", "hsm2.example", "keyway"', f"{login}, {remote}")))
