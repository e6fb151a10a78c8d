"""JSON as it may come from anybody: whole, without members twice, without half characters (RFC 8259; RFC 7493)."""

import json
from typing import Any, NoReturn

from keyway.provision.problems import Problem

__all__ = ["parse_json"]


def parse_json(data: bytes) -> Any:
    """Read a JSON text.

    Args:
        data: UTF-8; a byte order mark is not taken.

    Raises:
        Problem: `malformed-json` or `duplicate-member`. Neither says what stands in the text.
    """
    try:
        text = data.decode()
        made = json.loads(text, object_pairs_hook=_object, parse_constant=_constant)
        # A lone half of a surrogate pair can't be written as UTF-8.
        if "\\" in text:
            json.dumps(made, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        raise Problem("malformed-json", "it is not UTF-8") from None
    except UnicodeEncodeError:
        raise Problem("malformed-json", "a string holds half a character") from None
    except RecursionError:
        raise Problem("malformed-json", "it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Problem("malformed-json", f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except ValueError:
        # A number of too many digits.
        raise Problem("malformed-json", "a number is too long") from None
    return made


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise Problem("duplicate-member", f"{name[:40]!r} is there twice")
            seen.add(name)
    return made


def _constant(_: str) -> NoReturn:
    raise Problem("malformed-json", "NaN and Infinity are no JSON")
