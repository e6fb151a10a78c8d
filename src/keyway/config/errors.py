"""What is wrong with a configuration."""

__all__ = ["ConfigError"]


class ConfigError(Exception):
    """A configuration that can't be used. The text names file, line and key.

    Attributes:
        problems: All that was found, each as "FILE:LINE: KEY: what is wrong".
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
