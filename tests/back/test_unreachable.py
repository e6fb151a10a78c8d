"""Far ends that can't be reached: a clear error, and nothing for anybody who uses another backend."""

import pytest
from tests.authority import Authority
from tests.back.remotes import section
from tests.daemon.harness import until
from tests.daemon.raw import RawClient
from tests.daemon.tokens import open_session, slots

from keyway.cryptoki import RV


class TestBesideAnother:
    """A backend that can't be reached, beside a SoftHSM that must not notice."""

    @pytest.fixture
    def begin(self, start, good):
        def begin(**options):
            return start(good + RULES + section("far", **options))

        return begin

    @pytest.mark.parametrize(
        ("command", "reason"),
        [
            (["/nowhere/ssh"], "/nowhere/ssh: No such file or directory"),
            (["/etc"], "/etc: Permission denied"),
            (["sh", "-c", "exit 3"], "sh: it exited with status 3"),
            (["sh", "-c", "head -c1 >/dev/null; echo no key >&2; exit 4"], "sh: it exited with status 4: no key"),
            (["sh", "-c", "printf 'no\\nend' >&2; exit 255"], "sh: it exited with status 255: end"),
            (["sh", "-c", "kill -9 $$"], "sh: it was killed by SIGKILL"),
            (
                ["sh", "-c", "echo Welcome, traveller; cat"],
                'sh: it does not speak the protocol "p11-kit": it began with b\'Welcome, traveller\\n',
            ),
            (
                ["sh", "-c", "exec >&- <&-; echo closed >&2; sleep 1000"],
                "sh: it was killed by SIGKILL: closed (it did not end)",
            ),
            (["sleep", "1000"], "sleep: no answer in 0.5 s"),
            (["p11-kit", "remote", "/nowhere/module.so"], "p11-kit: it exited with status 1"),
            (
                ["ssh", "-F", "/dev/null", "-p", "1", "127.0.0.1", "true"],
                "ssh: it exited with status 255: ssh: connect to ",
            ),
        ],
    )
    def test_a_command_that_does_not_work(self, begin, command, reason):
        daemon = begin(command=command, start_timeout=0.5 if "sleep" in command else 20)
        check(daemon, "command does not answer", reason)
        until(lambda: daemon.status()["backends"]["far"]["hosts"] == 0, "no process is left")

    @pytest.mark.parametrize(("status", "runs"), [(1, 2), (127, 1), (255, 1)])
    def test_an_older_version_is_offered_to_what_has_run(self, begin, home, status, runs):
        """Status 1 may be that of a p11-kit that knows version 0 only; the others say that there was none."""
        script = f"head -c1 >/dev/null; echo >> {home}/runs; exit {status}"
        daemon = begin(command=["sh", "-c", script])
        check(daemon, "command does not answer", f"sh: it exited with status {status}")
        assert len((home / "runs").read_text()) == runs * len(daemon.events("command does not answer"))

    def test_nobody_is_there(self, begin, home):
        daemon = begin(address=f"unix:{home}/nobody", protocol="p11-kit")
        check(daemon, "connection can't be made", f"unix:{home}/nobody: No such file or directory")

    def test_the_other_protocol_is_spoken_there(self, start, home, good, far):
        daemon = start(good + RULES + far.section("server", protocol="keyway"))
        address = f"unix:{home}/far.sock"
        check(
            daemon,
            "connection can't be made",
            f"{address}: it does not speak the protocol \"keyway\": it began with b'\\x00'",
        )

    def test_the_native_wire_is_spoken_there(self, start, home, good, far):
        daemon = start(good + RULES + far.section("gateway", protocol="p11-kit"))
        check(daemon, "connection can't be made", f"unix:{home}/far-gateway/k.sock: it was closed by the other end")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"server_name": "other.test"}, "its certificate is refused: Hostname mismatch"),
            ({"certificate": None}, "it broke: it demands a certificate"),
            ({"stranger": "ca"}, "its certificate is refused: self-signed certificate in certificate chain"),
            ({"stranger": "certificate"}, "it broke: it does not know the CA of our certificate"),
        ],
    )
    @pytest.mark.parametrize("protocol", ["keyway", "p11-kit"])
    def test_tls_is_refused(self, start, home, good, far, change, reason, protocol):
        options = {**far.gateway("tls", protocol), **change}
        stranger = Authority(home, "stranger")
        pair = stranger.issue("client.test")
        match options.pop("stranger", ""):
            case "ca":
                options["ca"] = stranger.file
            case "certificate":
                options |= {"certificate": pair.certificate, "key": pair.key}
        if options["certificate"] is None:
            del options["certificate"], options["key"]
        daemon = start(good + RULES + section("far", **options))
        check(daemon, "connection can't be made", f"{options['address']}: {reason}")


RULES = '[token.good]\nbackend = "good"\nlabel = "good"\n[token.demo]\nbackend = "far"\nlabel = "demo"\n'
GOOD, DEMO = 0, 1


def check(daemon, event, reason):
    with RawClient(daemon.socket) as client:
        client.initialize()
        for _ in range(50):
            assert slots(client) == (GOOD,)
        assert client.call("C_OpenSession", 4, 1, target=DEMO)[0] == RV.CKR_TOKEN_NOT_PRESENT
        open_session(client, GOOD, 2)
    errors = daemon.events(event)
    assert errors
    # Each attempt costs a connection, so there are pauses.
    assert len(errors) < 8
    assert {error["backend"] for error in errors} == {"far"}
    assert all(error["reason"].startswith(reason) for error in errors), daemon.log()
    told = daemon.status()["backends"]["far"]
    assert told["error"].startswith(reason)
    assert told["failures"]
