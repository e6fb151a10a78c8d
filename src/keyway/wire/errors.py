"""What the wire's decoder and encoder raise."""


class WireError(Exception):
    """Bytes that are no well-formed frame or body of the native wire.

    The decoder raises nothing else. The message says what is wrong and where, never what the bytes were: they may hold a PIN.
    """


class EncodeError(ValueError):
    """Values that do not fit the call's row in the table, or a limit. A mistake of the caller, never of the peer.

    The message names the kind and the argument's position, never the value.
    """
