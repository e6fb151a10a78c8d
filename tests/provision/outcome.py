"""What becomes of a call that may raise a problem."""

from collections.abc import Callable
from typing import Any

from keyway.provision.problems import Problem


def outcome(function: Callable[..., Any], *values: Any) -> tuple[Any, str]:
    """Return what a function returns, and the code of the problem that it raises; one of the two is nothing."""
    try:
        return function(*values), ""
    except Problem as problem:
        return None, problem.code
