"""Lines for a shell, read by shells."""

import subprocess

import pytest

from keyway.cli.shell import Shell, address_text, exports, settings, unsettings

VARIABLES = {"A": "unix:path=/x/y", "B": "1;2 '3' $HOME"}


def shown(script, shell="sh"):
    script += 'printf "%s|%s" "$A" "$B"'
    return subprocess.run([shell, "-c", script], capture_output=True, text=True, check=True, env={}).stdout


@pytest.mark.parametrize("text", [settings(Shell.BOURNE, VARIABLES), exports(VARIABLES)])
def test_a_shell_gets_the_values(text):
    assert shown(text) == "|".join(VARIABLES.values())
    assert subprocess.run(["sh", "-c", text + "env"], capture_output=True, text=True, check=True, env={}).stdout.count(
        "B=1;2"
    )


def test_a_shell_loses_them():
    assert shown(settings(Shell.BOURNE, VARIABLES) + unsettings(Shell.BOURNE, VARIABLES)) == "|"


def test_the_forms():
    assert settings(Shell.BOURNE, {"A": "unix:path=/x"}) == "A=unix:path=/x; export A;\n"
    assert settings(Shell.C, {"A": "unix:path=/x"}) == "setenv A unix:path=/x;\n"
    assert unsettings(Shell.BOURNE, "A") == "unset A;\n"
    assert unsettings(Shell.C, "A") == "unsetenv A;\n"


@pytest.mark.parametrize(
    ("path", "shell"),
    [("/bin/bash", Shell.BOURNE), ("/bin/csh", Shell.C), ("/usr/bin/tcsh", Shell.C), ("", Shell.BOURNE)],
)
def test_the_login_shell(path, shell):
    assert Shell.of(path) is shell


def test_an_address_is_as_p11_kit_writes_it():
    assert address_text("/run/a b'c;%") == "unix:path=/run/a%20b%27c%3B%25"
    assert address_text("/run/\udcff") == "unix:path=/run/%FF"
