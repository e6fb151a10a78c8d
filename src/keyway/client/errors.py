"""What a client raises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["ClientError"]


class ClientError(Exception):
    """A request that was refused, or failed.

    Attributes:
        code: What happened, as one of the stable codes of docs/reference/api.md; `malformed-answer` if the other side does not speak this API.
        status: The HTTP status.
        title: What the code means.
        detail: What happened here. Never a PIN.
        rv: Name of the CK_RV that it came from; empty if a token had no part in it.
    """

    def __init__(self, code: str, status: int, title: str, detail: str = "", rv: str = "") -> None:
        super().__init__(code, status, title, detail, rv)
        self.code = code
        self.status = status
        self.title = title
        self.detail = detail
        self.rv = rv

    @classmethod
    def of(cls, document: Any, status: int) -> ClientError:
        """Return the error of an answer.

        Args:
            document: Problem details (RFC 9457), or what came instead.
            status: The HTTP status.
        """
        if not isinstance(document, Mapping) or not isinstance(document.get("code"), str):
            return cls("malformed-answer", status, f"the answer has status {status}, and is none of this API")
        texts = {name: str(document.get(name, "")) for name in ("title", "detail", "rv")}
        return cls(document["code"], status, **texts)

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.title, self.detail, self.rv)))
