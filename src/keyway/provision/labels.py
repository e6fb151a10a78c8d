"""Labels and CKA_IDs, as callers write them."""

from string import hexdigits
from typing import Final
from unicodedata import category

from keyway.provision.problems import Problem

__all__ = ["MAX_ID", "MAX_OBJECT_LABEL", "MAX_TOKEN_LABEL", "object_id", "object_label", "token_label"]

MAX_TOKEN_LABEL: Final = 32
"""Bytes of a token's label (CK_TOKEN_INFO)."""
MAX_OBJECT_LABEL: Final = 255
"""Bytes of a CKA_LABEL. The standard has no limit; modules do."""
MAX_ID: Final = 64
"""Bytes of a CKA_ID."""
_HEX: Final = frozenset(hexdigits)


def token_label(text: str) -> str:
    """Return a token's label.

    Raises:
        Problem: `bad-label`.
    """
    return _label(text, MAX_TOKEN_LABEL, "token")


def object_label(text: str) -> str:
    """Return an object's label.

    Raises:
        Problem: `bad-label`.
    """
    return _label(text, MAX_OBJECT_LABEL, "key")


def _label(text: str, limit: int, what: str) -> str:
    if not text:
        raise Problem("bad-label", f"the label of the {what} is empty")
    if not text.isprintable() and any(category(each) in ("Cc", "Cs") for each in text):
        raise Problem("bad-label", f"the label of the {what} holds a control character")
    if text != text.strip(" "):
        # Blanks are the padding of labels: nobody could tell whether they belong to it.
        raise Problem("bad-label", f"the label of the {what} begins or ends with a blank")
    if (size := len(text.encode())) > limit:
        raise Problem("bad-label", f"the label of the {what} has {size} bytes, {limit} at most")
    return text


def object_id(text: str) -> bytes:
    """Return a CKA_ID that is written in hexadecimal, two digits for each byte.

    Raises:
        Problem: `bad-id`.
    """
    if not text or len(text) % 2 or not _HEX.issuperset(text):
        raise Problem("bad-id", "the CKA_ID must be hexadecimal, two digits for each byte, such as 0001")
    if len(text) > 2 * MAX_ID:
        raise Problem("bad-id", f"the CKA_ID has {len(text) // 2} bytes, {MAX_ID} at most")
    return bytes.fromhex(text)
