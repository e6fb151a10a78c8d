"""Files are there as a whole, for whom they are meant, and nobody else's are replaced."""

import stat

import pytest

from keyway.strongswan.render import MARK, RenderedFile
from keyway.strongswan.write import ForeignFileError, write

PLAIN = RenderedFile("strongswan.conf", f"{MARK}\na\n", is_secret=False)
SECRET = RenderedFile("swanctl.conf", f"{MARK}\nb\n", is_secret=True)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_modes_do_not_depend_on_the_umask(tmp_path):
    plain, secret = write([PLAIN, SECRET], tmp_path / "new" / "folder")
    assert (mode(plain), mode(secret)) == (0o644, 0o600)
    assert (plain.read_text(), secret.read_text()) == (PLAIN.text, SECRET.text)


def test_own_files_are_replaced_with_their_modes(tmp_path):
    write([PLAIN, SECRET], tmp_path)
    (tmp_path / SECRET.name).chmod(0o644)
    write([PLAIN, RenderedFile(SECRET.name, f"{MARK}\nc\n", is_secret=True)], tmp_path)
    assert mode(tmp_path / SECRET.name) == 0o600
    assert (tmp_path / SECRET.name).read_text() == f"{MARK}\nc\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == [PLAIN.name, SECRET.name]


def test_foreign_files_stay_unless_that_is_asked_for(tmp_path):
    foreign = tmp_path / SECRET.name
    foreign.write_text("mine\n")
    with pytest.raises(ForeignFileError, match=r"swanctl\.conf: was not written"):
        write([PLAIN, SECRET], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [SECRET.name]
    assert foreign.read_text() == "mine\n"
    write([PLAIN, SECRET], tmp_path, replace_foreign=True)
    assert foreign.read_text() == SECRET.text
    assert mode(foreign) == 0o600


def test_what_can_not_be_written_leaves_nothing(tmp_path):
    (tmp_path / PLAIN.name).mkdir()
    with pytest.raises(IsADirectoryError):
        write([PLAIN], tmp_path)
    with pytest.raises(OSError, match="directory"):
        write([PLAIN], tmp_path, replace_foreign=True)
    assert [path.name for path in tmp_path.iterdir()] == [PLAIN.name]
