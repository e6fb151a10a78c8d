import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from tests.daemon.conftest import starting
from tests.daemon.pool import tokens
from tests.daemon.pool.members import Member, Pools

SOURCE = Path(__file__).parent / "passthrough.c"


@pytest.fixture(scope="session")
def passthrough(tmp_path_factory):
    """The module of passthrough.c."""
    compiler = shutil.which("gcc")
    assert compiler
    module = tmp_path_factory.mktemp("passthrough") / "passthrough.so"
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", module, SOURCE], check=True)
    return module


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Where the token is that all are copies of."""
    home = tmp_path_factory.mktemp("made")
    tokens.original(home)
    return home


@pytest.fixture
def member(start, home, passthrough, made):
    """Makes members. At the end of the test, before that of the daemons, all of them behave again."""
    members = []

    def make(name: str, *lines: str, **options: Any) -> Member:
        members.append(Member(home, passthrough, options.pop("made", made), name, *lines, **options))
        return members[-1]

    yield make
    for each in members:
        each.behaves()


@pytest.fixture
def pool(start, member):
    """Starts a daemon with a pool in slot 0, and the tokens of its members in the slots behind it."""

    def begin(*members: Member | str, more: str = "", plain: bool = True, **options: Any) -> Pools:
        made = [member(each) if isinstance(each, str) else each for each in members or ("one", "two")]
        section = tokens.pool(*(each.uri for each in made), **options)
        return Pools(start("\n".join(sections(section, *made, more=more, plain=plain))), *made)

    return begin


def sections(pool: str, *members: Member, more: str = "", plain: bool = True) -> list[str]:
    """Return the parts of a configuration: the pools come first, so they have the first slots.

    Args:
        pool: The pools.
        members: The members.
        more: More sections.
        plain: Whether the members' tokens are to be seen, too, as they are.
    """
    return [*(each.section for each in members), pool, *(each.plain for each in members if plain), more]


@pytest.fixture(scope="module")
def shared(request, passthrough, made):
    """A daemon for all tests of a module, with the pools in POOLS over the members in MEMBERS, one and two if these are not said; see `pools`.

    Behind the pools' slots are those of the members' tokens, unless HAS_PLAIN is false. ERROR_CLASSES are those of the backends,
    OPTIONS what `Member` is told in addition, CONFIGURATION has lines for the SoftHSM of a member.
    """
    with tempfile.TemporaryDirectory(prefix="kt-") as name, starting(Path(name)) as start:
        classes = getattr(request.module, "ERROR_CLASSES", {})
        told = ", ".join(f'"{rv}" = "{class_}"' for rv, class_ in classes.items())
        options = {"error_classes": f"{{ {told} }}"} if classes else {}
        options |= getattr(request.module, "OPTIONS", {})
        called = getattr(request.module, "MEMBERS", ("one", "two"))
        lines = getattr(request.module, "CONFIGURATION", {})
        members = [Member(Path(name), passthrough, made, each, *lines.get(each, ()), **options) for each in called]
        parts = sections("\n".join(request.module.POOLS), *members, plain=getattr(request.module, "HAS_PLAIN", True))
        yield Pools(start("\n".join(parts)), *members)
        for each in members:
            each.behaves()


@pytest.fixture
def pools(shared):
    """The shared daemon, with all members up and behaving."""
    shared.settle()
    yield shared
    shared.settle()
