"""Directories for sockets."""

import os

import click
import pytest

from keyway.cli.place import private_directory


def test_a_directory_is_made_for_the_user_alone(tmp_path):
    place = tmp_path / "keyway"
    for _ in range(2):
        assert private_directory(place) == place
        assert place.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_one_that_others_may_write_to_is_refused(tmp_path, mode):
    place = tmp_path / "keyway"
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(click.ClickException, match="keyway: others may write to it"):
        private_directory(place)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_one_of_another_user_is_refused(tmp_path):
    place = tmp_path / "keyway"
    place.mkdir(mode=0o700)
    os.chown(place, 1, -1)
    with pytest.raises(click.ClickException, match="keyway: belongs to another user"):
        private_directory(place)


def test_a_link_is_not_followed(tmp_path):
    place = tmp_path / "keyway"
    (tmp_path / "shared").mkdir()
    place.symlink_to(tmp_path / "shared")
    with pytest.raises(click.ClickException):
        private_directory(place)
