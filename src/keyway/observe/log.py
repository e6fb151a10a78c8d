"""The log: standard library logging, one line per event, as text for people or JSON for programs.

Events are named by their message; facts come as `extra={"facts": {...}}`. A PIN or a key value is never among them: only call
names, handles, RVs, names and process numbers are ever given.
"""

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

__all__ = ["configure", "event"]

LOGGER: Final = logging.getLogger("keyway")
MAX_TEXT: Final = 500
"""Characters of one fact: some come from peers and from modules."""


def event(level: int, message: str, **facts: object) -> None:
    """Write one event.

    Args:
        level: One of logging's levels.
        message: What happened, in a few words that are always the same for the same kind of event.
        facts: What and where. Never a secret.
    """
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, message, extra={"facts": facts})


def configure(level: str, form: str) -> None:
    """Send the log to standard error.

    Args:
        level: "debug", "info", "warning" or "error".
        form: "console" or "json".
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else ConsoleFormatter())
    LOGGER.handlers[:] = [handler]
    LOGGER.propagate = False
    LOGGER.setLevel(level.upper())
    logging.getLogger("asyncio").handlers[:] = [handler]


def _facts(record: logging.LogRecord) -> Mapping[str, object]:
    facts: dict[str, object] = {}
    for key, value in getattr(record, "facts", {}).items():
        if isinstance(value, int | float | bool) or value is None:
            facts[key] = value
        else:
            text = str(value)
            facts[key] = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "..."
    if record.exc_info and record.exc_info[0] is not None:
        facts["exception"] = logging.Formatter().formatException(record.exc_info)
    return facts


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, event, then the facts."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        head = {"time": _time(record), "level": record.levelname.lower(), "event": record.getMessage()}
        return json.dumps({**_facts(record), **head}, default=str)


class ConsoleFormatter(logging.Formatter):
    """Time, level and event, then the facts as key=value. Control characters of peers and modules are escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts = dict(_facts(record))
        exception = facts.pop("exception", None)
        shown = " ".join(f"{key}={_shown(value)}" for key, value in facts.items())
        line = f"{_time(record)} {record.levelname.lower():7} {record.getMessage()}{': ' if shown else ''}{shown}"
        return f"{line}\n{exception}" if exception else line


def _shown(value: object) -> str:
    text = str(value)
    plain = text.isprintable() and text and not any(c in text for c in ' "=')
    return text if plain else json.dumps(text)
