"""Texts of fixed width, as the information structures have them: UTF-8, padded with blanks, not terminated."""


def padded(text: str, width: int) -> bytes:
    """Return a text as the bytes of a field; a longer one is cut between characters.

    Args:
        text: The text.
        width: Of the field, in bytes.
    """
    return text.encode("utf-8", "replace")[:width].decode("utf-8", "ignore").encode().ljust(width)


def stripped(field: bytes) -> bytes:
    """Return the bytes of a field without its padding. Some modules pad with zeros, which are no part of a text either."""
    return field.rstrip(b" \0")


def unpadded(field: bytes) -> str:
    """Return a field as a text; bytes that are no UTF-8 become U+FFFD."""
    return stripped(field).decode("utf-8", "replace")
