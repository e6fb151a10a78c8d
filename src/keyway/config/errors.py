"""What is wrong with a configuration."""

from collections.abc import Callable

__all__ = ["ConfigError", "Wrong"]

Wrong = Callable[[tuple[str, ...], str], None]
"""Takes the path of a key and what is wrong with it."""


class ConfigError(Exception):
    """A configuration that can't be used. The text names file, line and key.

    Attributes:
        problems: All that was found, each as "FILE:LINE: KEY: what is wrong".
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
