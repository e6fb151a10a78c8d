"""An application whose gateway goes away goes on at another one, with the same sessions and object handles, and notices nothing."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager

import pytest
from tests.chaos.storm import PATIENCE, Application
from tests.daemon.harness import KEYWAY, freeze, until
from tests.daemon.pool.app import App
from tests.module_transport.relay import Relay

MORE = 100
"""Operations that show that an application goes on."""
SILENCE = "3"
"""Seconds without a word after which a gateway is asked whether it is there, and then is taken for gone."""


@contextmanager
def application(*addresses, inside=()):
    """Run an application that knows some addresses, and see that none of its operations failed."""
    running = Application(" ".join(addresses), threads=4, seed=1, inside=inside)
    try:
        goes_on(running)
        yield running
        told = running.stop()
    finally:
        running.kill()
    assert [failure for thread in told for failure in thread["failures"]] == []
    for thread in told:
        assert thread["made"] == thread["answered"]


def goes_on(running):
    """Wait until an application has done more, from now on."""
    running.look()
    before = running.operations

    def has_gone_on():
        running.look()
        return running.operations >= before + MORE

    until(has_gone_on, f"{MORE} more operations", PATIENCE)


def is_used(gateway):
    return [each for each in gateway.contexts() if each["sessions"]] != []


def unix(gateway):
    return f"unix:{gateway.socket}"


def end(gateway, number=signal.SIGKILL):
    gateway.process.send_signal(number)
    gateway.process.wait(PATIENCE)


def test_objects_have_the_same_handles_everywhere(gateways):
    first, second = gateways
    with App(first) as here, App(second) as there:
        assert {*here.find()} == {*there.find()} != set()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_gateway_that_ends(gateways, number):
    first, second = gateways
    with application(unix(first), unix(second)) as running:
        assert is_used(first)
        assert not is_used(second)
        end(first, number)
        goes_on(running)
        assert is_used(second)
        first.start()
        end(second, number)
        goes_on(running)
        assert is_used(first)
        second.start()


@pytest.mark.timeout(600)
def test_a_gateway_that_is_stopped_is_waited_for(gateways):
    first, second = gateways
    with application(unix(first), unix(second)) as running:
        freeze(first.process.pid)
        try:
            running.look()
        finally:
            first.process.send_signal(signal.SIGCONT)
        goes_on(running)
        assert is_used(first)
        assert not is_used(second)


@pytest.mark.timeout(600)
def test_a_gateway_that_is_stopped_and_killed_then(gateways):
    first, second = gateways
    with application(unix(first), unix(second)) as running:
        freeze(first.process.pid)
        end(first)
        goes_on(running)
        assert is_used(second)
        first.start()


@pytest.mark.timeout(600)
def test_a_gateway_that_is_stopped_for_good(gateways, monkeypatch):
    monkeypatch.setenv("KEYWAY_SILENCE", SILENCE)
    first, second = gateways
    with application(unix(first), unix(second)) as running:
        freeze(first.process.pid)
        try:
            goes_on(running)
        finally:
            first.process.send_signal(signal.SIGCONT)
        assert is_used(second)


@pytest.mark.timeout(600)
def test_a_link_that_breaks(gateways):
    first, second = gateways
    with ExitStack() as stack:
        relay = stack.enter_context(ExitStack())
        links = [relay.enter_context(Relay(first.socket)), stack.enter_context(Relay(second.socket, host="127.0.0.2"))]
        addresses = (f"tcp://127.0.0.1:{links[0].port}", f"tcp://127.0.0.2:{links[1].port}")
        with application(*addresses) as running:
            links[0].cut()  # Once, and it is there again.
            goes_on(running)
            assert is_used(first)
            relay.close()
            goes_on(running)
            assert is_used(second)
            until(lambda: not is_used(first), "the first gateway has noticed", PATIENCE)


@pytest.mark.timeout(600)
def test_a_link_on_which_everything_vanishes(gateway, monkeypatch):
    monkeypatch.setenv("KEYWAY_SILENCE", SILENCE)
    with away() as inside:
        first, second = (
            gateway(program=(*inside, *KEYWAY), more='[listener.net]\naddress = "tcp://127.0.0.1:5657"\n'),
            gateway(),
        )
        with application("tcp://127.0.0.1:5657", unix(second), inside=inside) as running:
            assert is_used(first)
            subprocess.run([*inside, "ip", "link", "set", "lo", "down"], check=True)
            goes_on(running)
            assert is_used(second)


@contextmanager
def away():
    """Make a network of its own, which has nothing but loopback; give what runs a program there."""
    ip = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if ip is None:
        pytest.skip("no ip(8)")
    holder = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    try:
        if not holder.stdout.readline():
            pytest.skip("no network of its own is allowed here")
        inside = ("nsenter", "--target", str(holder.pid), "--user", "--net", "--preserve-credentials")
        subprocess.run([*inside, ip, "link", "set", "lo", "up"], check=True)
        yield inside
    finally:
        holder.communicate(b"\n")
