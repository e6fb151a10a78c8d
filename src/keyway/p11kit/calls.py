"""The protocol's messages: number, function, and the letters of request and reply (docs/p11-kit-wire.md, section 3)."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from keyway.cryptoki.lookup import call_named
from keyway.cryptoki.table import Call

__all__ = ["BY_ID", "ERROR_ID", "MESSAGES", "Message"]

ERROR_ID: Final = 0
"""The number of the reply that carries nothing but a CK_RV."""


class Message(NamedTuple):
    """A row of the table.

    Attributes:
        id: The number of the message.
        name: The name of the function.
        request: The letters of the request.
        reply: The letters of the reply.
        since: The first version of the protocol that has it.
    """

    id: int
    name: str
    request: str
    reply: str
    since: int

    @property
    def call(self) -> Call:
        """The row of the function in the call table."""
        return call_named(self.name)


_INFO: Final = "vsusv"
_SLOT: Final = "ssuvv"
_TOKEN: Final = "ssss" + 11 * "u" + "vvs"

# The letters of an argument stand next to one another; a blank between arguments helps the eye and does not travel.
_ROWS: Final[tuple[tuple[int, str, str, str, int], ...]] = (
    (1, "C_Initialize", "ay y ay", "", 0),
    (2, "C_Finalize", "", "", 0),
    (3, "C_GetInfo", "", _INFO, 0),
    (4, "C_GetSlotList", "y fu", "au", 0),
    (5, "C_GetSlotInfo", "u", _SLOT, 0),
    (6, "C_GetTokenInfo", "u", _TOKEN, 0),
    (7, "C_GetMechanismList", "u fu", "au", 0),
    (8, "C_GetMechanismInfo", "u u", "uuu", 0),
    (9, "C_InitToken", "u ay z", "", 0),
    (10, "C_OpenSession", "u u", "u", 0),
    (11, "C_CloseSession", "u", "", 0),
    (12, "C_CloseAllSessions", "u", "", 0),
    (13, "C_GetSessionInfo", "u", "uuuu", 0),
    (14, "C_InitPIN", "u ay", "", 0),
    (15, "C_SetPIN", "u ay ay", "", 0),
    (16, "C_GetOperationState", "u fy", "ay", 0),
    (17, "C_SetOperationState", "u ay u u", "", 0),
    (18, "C_Login", "u u ay", "", 0),
    (19, "C_Logout", "u", "", 0),
    (20, "C_CreateObject", "u aA", "u", 0),
    (21, "C_CopyObject", "u u aA", "u", 0),
    (22, "C_DestroyObject", "u u", "", 0),
    (23, "C_GetObjectSize", "u u", "u", 0),
    (24, "C_GetAttributeValue", "u u fA", "aA u", 0),
    (25, "C_SetAttributeValue", "u u aA", "", 0),
    (26, "C_FindObjectsInit", "u aA", "", 0),
    (27, "C_FindObjects", "u fu", "au", 0),
    (28, "C_FindObjectsFinal", "u", "", 0),
    (29, "C_EncryptInit", "u M u", "", 0),
    (30, "C_Encrypt", "u ay fy", "ay", 0),
    (31, "C_EncryptUpdate", "u ay fy", "ay", 0),
    (32, "C_EncryptFinal", "u fy", "ay", 0),
    (33, "C_DecryptInit", "u M u", "", 0),
    (34, "C_Decrypt", "u ay fy", "ay", 0),
    (35, "C_DecryptUpdate", "u ay fy", "ay", 0),
    (36, "C_DecryptFinal", "u fy", "ay", 0),
    (37, "C_DigestInit", "u M", "", 0),
    (38, "C_Digest", "u ay fy", "ay", 0),
    (39, "C_DigestUpdate", "u ay", "", 0),
    (40, "C_DigestKey", "u u", "", 0),
    (41, "C_DigestFinal", "u fy", "ay", 0),
    (42, "C_SignInit", "u M u", "", 0),
    (43, "C_Sign", "u ay fy", "ay", 0),
    (44, "C_SignUpdate", "u ay", "", 0),
    (45, "C_SignFinal", "u fy", "ay", 0),
    (46, "C_SignRecoverInit", "u M u", "", 0),
    (47, "C_SignRecover", "u ay fy", "ay", 0),
    (48, "C_VerifyInit", "u M u", "", 0),
    (49, "C_Verify", "u ay ay", "", 0),
    (50, "C_VerifyUpdate", "u ay", "", 0),
    (51, "C_VerifyFinal", "u ay", "", 0),
    (52, "C_VerifyRecoverInit", "u M u", "", 0),
    (53, "C_VerifyRecover", "u ay fy", "ay", 0),
    (54, "C_DigestEncryptUpdate", "u ay fy", "ay", 0),
    (55, "C_DecryptDigestUpdate", "u ay fy", "ay", 0),
    (56, "C_SignEncryptUpdate", "u ay fy", "ay", 0),
    (57, "C_DecryptVerifyUpdate", "u ay fy", "ay", 0),
    (58, "C_GenerateKey", "u M aA", "u", 0),
    (59, "C_GenerateKeyPair", "u M aA aA", "u u", 0),
    (60, "C_WrapKey", "u M u u fy", "ay", 0),
    (61, "C_UnwrapKey", "u M u ay aA", "u", 0),
    (62, "C_DeriveKey", "u M u aA", "u", 0),
    (63, "C_SeedRandom", "u ay", "", 0),
    (64, "C_GenerateRandom", "u fy", "ay", 0),
    (65, "C_WaitForSlotEvent", "u", "u", 0),
    (66, "C_LoginUser", "u u ay ay", "", 1),
    (67, "C_SessionCancel", "u u", "", 1),
    (68, "C_MessageEncryptInit", "u M u", "", 1),
    (69, "C_EncryptMessage", "u ay ay ay fy", "ay", 1),
    (70, "C_EncryptMessageBegin", "u ay ay", "", 1),
    (71, "C_EncryptMessageNext", "u ay ay fy u", "ay", 1),
    (72, "C_MessageEncryptFinal", "u", "", 1),
    (73, "C_MessageDecryptInit", "u M u", "", 1),
    (74, "C_DecryptMessage", "u ay ay ay fy", "ay", 1),
    (75, "C_DecryptMessageBegin", "u ay ay", "", 1),
    (76, "C_DecryptMessageNext", "u ay ay fy u", "ay", 1),
    (77, "C_MessageDecryptFinal", "u", "", 1),
    (78, "C_MessageSignInit", "u M u", "", 1),
    (79, "C_SignMessage", "u ay ay fy", "ay", 1),
    (80, "C_SignMessageBegin", "u ay", "", 1),
    (81, "C_SignMessageNext", "u ay ay yfy", "ay", 1),
    (82, "C_MessageSignFinal", "u", "", 1),
    (83, "C_MessageVerifyInit", "u M u", "", 1),
    (84, "C_VerifyMessage", "u ay ay ay", "", 1),
    (85, "C_VerifyMessageBegin", "u ay", "", 1),
    (86, "C_VerifyMessageNext", "u ay ay ay", "", 1),
    (87, "C_MessageVerifyFinal", "u", "", 1),
    (88, "C_InitToken", "u ay s", "", 1),
    (89, "C_DeriveKey", "u M u aA", "u P u", 2),
)

MESSAGES: Final[tuple[Message, ...]] = tuple(
    Message(id_, name, request.replace(" ", ""), reply.replace(" ", ""), since)
    for id_, name, request, reply, since in _ROWS
)
"""All messages but the error, in ascending order. A function may have two."""

BY_ID: Final[Mapping[int, Message]] = {message.id: message for message in MESSAGES}
