"""What may stand in a name or value of strongSwan's files.

Its parsers differ in what they take between quotation marks, and none says what it made of a value. So what one of them could read in another way is
refused here.
"""

import re
from typing import Final

__all__ = ["NAME_RULE", "is_hex_id", "is_section_name", "unsafe"]

NAME_RULE: Final = "a name has letters, digits, '-' and '_' only, 31 at most"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,31}")
_ID: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){1,64}")

_WORDS: Final = {
    '"': "a quotation mark",
    "\\": "a backslash",
    "{": "a brace",
    "}": "a brace",
    "\n": "a line break",
    "\r": "a line break",
}


def is_section_name(text: str) -> bool:
    """Tell whether a text can be the name of a section: a dot would make two of it."""
    return _NAME.fullmatch(text) is not None


def is_hex_id(text: str) -> bool:
    """Tell whether a text is a CKA_ID in the one form that all of strongSwan's parsers understand."""
    return _ID.fullmatch(text) is not None


def unsafe(text: str, *, in_list: bool = False) -> str | None:
    """Return what keeps a text from being a value, None if nothing does. The answer never shows the text, which may be a PIN.

    Args:
        text: The value.
        in_list: Whether it is one of several between commas.
    """
    for character in text:
        if character in _WORDS:
            return f"holds {_WORDS[character]}, which can't be written safely"
        if not character.isprintable():
            return "holds a control character, which can't be written safely"
    if text != text.strip():
        return "begins or ends with a space, which can't be written safely"
    if in_list and not text:
        return "is empty"
    if in_list and ("," in text or " " in text):
        return "holds a comma or a space, which divide values of a list"
    return None
