"""What is recorded. There is no place for data in it: no PIN, no plaintext, no signature but that of a checkpoint."""

import msgspec

__all__ = ["Checkpoint", "Record"]


class Record(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One event. Members that are empty, or 0, are not written.

    Attributes:
        time: Nanoseconds since 1970, UTC: when it was over.
        event: "call"; "refused" by the policy; "configuration" read again; "start", "stop" of the gateway; "recovered" after a crash; "dropped" records.
        identity: Who: the name that the policy knows.
        context: Name of the context, as the log has it.
        token: Label of the token.
        object: Class, label and ID of the object that was used, as a short text.
        mechanism: Name of the mechanism, or its number in hexadecimal.
        call: The function.
        rv: Name of the RV, or its number in hexadecimal.
        duration_us: Microseconds from the request to the answer.
        request: Number of the request in its context.
        reason: Why the policy refused, or what else is to be said of the event.
    """

    time: int
    event: str
    identity: str = ""
    context: str = ""
    token: str = ""
    object: str = ""
    mechanism: str = ""
    call: str = ""
    rv: str = ""
    duration_us: int = 0
    request: int = 0
    reason: str = ""


class Checkpoint(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="event", tag="checkpoint"):
    """A signature over the chain up to a line before.

    Attributes:
        time: Nanoseconds since 1970, UTC.
        of: Number of the line up to which the chain is signed.
        head: Hash of that line in hexadecimal.
        key: PKCS #11 URI of the key.
        signature: The signature in hexadecimal; empty if the line is not signed.
        reason: Why it is not signed.
    """

    time: int
    of: int
    head: str
    key: str = ""
    signature: str = ""
    reason: str = ""
