"""Numbers that name things, as types of their own so that they are not mistaken for one another."""

from typing import Final, NewType

SlotId = NewType("SlotId", int)
"""CK_SLOT_ID as a client sees it: of a virtual slot."""

BackendSlotId = NewType("BackendSlotId", int)
"""CK_SLOT_ID as a vendor module has it."""

SessionHandle = NewType("SessionHandle", int)
"""CK_SESSION_HANDLE as the client chose it."""

ObjectHandle = NewType("ObjectHandle", int)
"""CK_OBJECT_HANDLE as a client sees it."""

BackendObjectHandle = NewType("BackendObjectHandle", int)
"""CK_OBJECT_HANDLE as a vendor module has it."""

INVALID_HANDLE: Final = 0
"""CK_INVALID_HANDLE: the one number that never names a session or an object."""
