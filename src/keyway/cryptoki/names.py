"""Numbers of the standard as text, for logs and messages. Unknown and vendor-defined numbers have a text too."""

from keyway.cryptoki.constants import CKM_VENDOR_DEFINED, NAMES, RV


def rv_name(rv: int) -> str:
    """Return the name of a CK_RV, such as `CKR_PIN_INCORRECT`, or its number in hexadecimal."""
    try:
        return RV(rv).name
    except ValueError:
        return _number("CKR", rv)


def mechanism_name(mechanism: int) -> str:
    """Return the name of a CK_MECHANISM_TYPE, or its number in hexadecimal."""
    return NAMES["mechanism"].get(mechanism) or _number("CKM", mechanism)


def attribute_name(attribute: int) -> str:
    """Return the name of a CK_ATTRIBUTE_TYPE, or its number in hexadecimal."""
    return NAMES["attribute"].get(attribute) or _number("CKA", attribute)


def _number(prefix: str, value: int) -> str:
    # The vendor-defined bit is the same in all three groups.
    if value & CKM_VENDOR_DEFINED:
        return f"{prefix}_VENDOR_DEFINED+0x{value ^ CKM_VENDOR_DEFINED:x}"
    return f"0x{value:x}"
