import json
import logging

import pytest

from keyway.observe.log import LOGGER, ConsoleFormatter, JsonFormatter, configure, event


@pytest.fixture(autouse=True)
def restore():
    before = LOGGER.handlers[:], LOGGER.level, LOGGER.propagate, logging.getLogger("asyncio").handlers[:]
    yield
    LOGGER.handlers[:], LOGGER.propagate = before[0], before[2]
    LOGGER.setLevel(before[1])
    logging.getLogger("asyncio").handlers[:] = before[3]


def test_json(capsys):
    configure("info", "json")
    event(logging.INFO, "something happened", pid=5, name='a "b"', nothing=None, path="\x1b[31m\n")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "info",
        "event": "something happened",
        "pid": 5,
        "name": 'a "b"',
        "nothing": None,
        "path": "\x1b[31m\n",
    }


def test_console(capsys):
    configure("info", "console")
    event(logging.WARNING, "something happened", pid=5, name="two words", empty="")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith('warning something happened: pid=5 name="two words" empty=""')


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "a\rb", "\x00", 'quote"', "a=b"])
def test_what_a_peer_says_can_not_forge_a_line(capsys, text):
    configure("info", "console")
    event(logging.INFO, "x", application=text)
    output = capsys.readouterr().err
    assert output.count("\n") == 1
    assert output.strip().isprintable()


def test_a_fact_can_not_replace_what_the_log_says_itself(capsys):
    configure("info", "json")
    event(logging.INFO, "true", event="false", time="never")
    entry = json.loads(capsys.readouterr().err)
    assert entry["event"] == "true"
    assert entry["time"] != "never"


@pytest.mark.parametrize("formatter", [JsonFormatter(), ConsoleFormatter()])
def test_long_texts_are_cut(formatter):
    record = logging.makeLogRecord({"msg": "x", "facts": {"text": "y" * 100_000}})
    assert len(formatter.format(record)) < 1000


def test_less_severe_events_are_not_written(capsys):
    configure("warning", "json")
    event(logging.INFO, "quiet")
    assert capsys.readouterr().err == ""
