"""A daemon with pools, and what those do to it who look after it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.daemon.harness import DEADLINE, RunningDaemon
from tests.daemon.pool.tokens import LABEL
from tests.daemon.pool.tokens import pool as section

from keyway.cli.client import Client
from keyway.daemon.control_numbers import DRAIN, RELOAD, RESUME


def pool(*members: str, **options: Any) -> str:
    """Return the [token] section of a pool whose calls may take long: a busy machine is slow.

    Args:
        members: The backends' names, or whole URIs.
        options: More options, in TOML.
    """
    return section(*members, **{"deadline": 60, **options})


class Operated:
    """A daemon with pools.

    Attributes:
        daemon: The daemon.
        home: Where its files are.
        socket: Where it listens.
    """

    def __init__(self, daemon: RunningDaemon, home: Path) -> None:
        self.daemon = daemon
        self.home = home
        self.socket = daemon.socket

    def pool(self, name: str = LABEL) -> dict[str, Any]:
        """A pool as `keyway status` has it."""
        return self.daemon.status()["pools"][name]

    def member(self, name: str, pool: str = LABEL) -> dict[str, Any]:
        """A member as `keyway status` has it."""
        return next(each for each in self.pool(pool)["members"] if each["member"] == name)

    def is_settled(self) -> bool:
        """Whether all members serve, and nobody is at them."""
        members = [each for pool in self.daemon.status()["pools"].values() for each in pool["members"]]
        return all(each["serves"] and not each["streams"] for each in members)

    def bound(self, pool: str = LABEL) -> list[dict[str, Any]]:
        """The bound sessions of the only context."""
        (context,) = self.daemon.contexts()
        return context["pools"][pool]

    @contextmanager
    def asking(self, number: int, **asked: object) -> Iterator[Iterator[tuple[int, dict[str, Any]]]]:
        """Ask for something that takes its time; the replies come one by one."""
        with Client(self.socket, DEADLINE) as client:
            yield (
                (rv, json.loads(body) if body else {})
                for rv, body in client.follow(number, json.dumps(asked).encode() if asked else b"")
            )

    def ask(self, number: int, **asked: object) -> tuple[int, dict[str, Any]]:
        """Ask for something, and return RV and body of the first reply."""
        with self.asking(number, **asked) as replies:
            return next(replies)

    def reload(self, *sections: str, listen: str = "") -> dict[str, Any]:
        """Write other sections into the configuration file, have it read, and tell what came of it.

        Args:
            sections: The sections.
            listen: More lines of [listen].
        """
        text = "\n".join([f'[listen]\nsocket = "{self.socket}"\n{listen}', *sections])
        (self.home / "keyway.toml").write_text(text)
        rv, outcome = self.ask(RELOAD)
        assert rv == 0, outcome
        return outcome

    def drain(self, member: str) -> dict[str, Any]:
        """Drain a member, and tell what holds it now."""
        rv, state = self.ask(DRAIN, member=member, wait=False)
        assert rv == 0, state
        return state

    def resume(self, member: str) -> dict[str, Any]:
        """Give a member work again, and tell how it does."""
        rv, state = self.ask(RESUME, member=member)
        assert rv == 0, state
        return state

    def is_drained(self, member: str) -> bool:
        """Whether nothing holds a member that was drained."""
        return self.drain(member)["done"]
