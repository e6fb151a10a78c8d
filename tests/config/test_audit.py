"""The section [audit]."""

from pathlib import Path

import pytest

from keyway.config import ConfigError, parse

BACKEND = '[backend.a]\nmodule = "/m"\n'


def test_nothing_is_recorded_unless_it_is_said_where():
    assert not parse(BACKEND).audit.is_kept
    assert parse(BACKEND + '[audit]\nfile = "/a"\n').audit.is_kept
    assert parse(BACKEND + '[audit]\nsyslog = "/dev/log"\n').audit.is_kept
    assert parse(BACKEND + "[audit]\nstdout = true\n").audit.is_kept


def test_all_of_it():
    audit = parse(
        BACKEND
        + '[audit]\nfile = "/a"\nmax_size = 4096\nkeep = 0\nsync = false\nwhen_full = "count"\ncheckpoint_every = 500\n'
        'checkpoint_seconds = 9\ncheckpoint_key = "pkcs11:token=t;id=%01;type=private"\ncheckpoint_pin_file = "/p"\n'
    ).audit
    assert (audit.file, audit.max_size, audit.keep, audit.sync) == (Path("/a"), 4096, 0, False)
    assert (audit.when_full, audit.checkpoint_every, audit.checkpoint_seconds) == ("count", 500, 9.0)
    assert audit.checkpoint_pin_file == Path("/p")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("keep = 3\n", ":3: audit: one of file, syslog and stdout is needed"),
        ('file = "a"\n', ":4: audit.file: must be an absolute path"),
        ('file = "/a"\nwhen_full = "drop"\n', ":5: audit.when_full: must be one of: refuse, count"),
        ('file = "/a"\ncheckpoint_every = 0\n', ":5: audit.checkpoint_every: must be at least 100"),
        ('file = "/a"\ncheckpoint_pin_file = "/p"\n', ":5: audit.checkpoint_pin_file: needs checkpoint_key"),
        ('file = "/a"\ncheckpoint_key = "audit"\n', ":5: audit.checkpoint_key: no PKCS #11 URI"),
        (
            'file = "/a"\ncheckpoint_key = "pkcs11:token=t"\n',
            ":5: audit.checkpoint_key: must name a key, by object or id",
        ),
        (
            'file = "/a"\ncheckpoint_key = "pkcs11:object=t"\n',
            ":5: audit.checkpoint_key: must name a token, by token or",
        ),
        (
            'file = "/a"\ncheckpoint_key = "pkcs11:token=t;object=k;type=public"\n',
            ":5: audit.checkpoint_key: must name a pri",
        ),
        ('file = "/a"\ncheckpoint_key = "pkcs11:token=t;object=k?pin-value=1"\n', "must not hold a PIN"),
        ('file = "/a"\ncheckpoint_key = "pkcs11:token=t;object=k?backend=x"\n', "backend is not known here"),
        ("size = 3\n", ":4: audit.size: unknown; known here: file, max_size"),
    ],
)
def test_mistakes(text, problem):
    with pytest.raises(ConfigError) as caught:
        parse(BACKEND + "[audit]\n" + text)
    assert any(problem in each for each in caught.value.problems), caught.value.problems
