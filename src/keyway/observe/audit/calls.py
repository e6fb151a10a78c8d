"""Which calls are recorded."""

from typing import Final

from keyway.cryptoki import call_named

__all__ = ["AUDITED", "RECORDED", "UNRECORDED"]

RECORDED: Final = (
    # Who may use the token, and with which PIN.
    "C_InitToken",
    "C_InitPIN",
    "C_SetPIN",
    "C_Login",
    "C_LoginUser",
    "C_Logout",
    # What is on the token.
    "C_CreateObject",
    "C_CopyObject",
    "C_DestroyObject",
    "C_SetAttributeValue",
    "C_GenerateKey",
    "C_GenerateKeyPair",
    "C_DeriveKey",
    "C_EncapsulateKey",
    "C_DecapsulateKey",
    # Keys that leave it, and that come.
    "C_WrapKey",
    "C_WrapKeyAuthenticated",
    "C_UnwrapKey",
    "C_UnwrapKeyAuthenticated",
    "C_DigestKey",
    # Calls that give a signature.
    "C_Sign",
    "C_SignFinal",
    "C_SignRecover",
    "C_SignMessage",
    "C_SignMessageNext",
    # Calls that give plaintext, each part of it: who needs no C_DecryptFinal would leave no trace otherwise.
    "C_Decrypt",
    "C_DecryptUpdate",
    "C_DecryptFinal",
    "C_DecryptDigestUpdate",
    "C_DecryptVerifyUpdate",
    "C_DecryptMessage",
    "C_DecryptMessageNext",
    # The result of any of these, if it was asked for asynchronously.
    "C_AsyncComplete",
    "C_AsyncJoin",
)
"""Calls after which something is signed, disclosed, or other than before."""

UNRECORDED: Final = (
    # Contexts, sessions, and what there is.
    "C_Initialize",
    "C_Finalize",
    "C_GetInfo",
    "C_GetFunctionList",
    "C_GetInterfaceList",
    "C_GetInterface",
    "C_GetSlotList",
    "C_GetSlotInfo",
    "C_GetTokenInfo",
    "C_GetMechanismList",
    "C_GetMechanismInfo",
    "C_WaitForSlotEvent",
    "C_OpenSession",
    "C_CloseSession",
    "C_CloseAllSessions",
    "C_GetSessionInfo",
    "C_GetSessionValidationFlags",
    "C_SessionCancel",
    "C_GetOperationState",
    "C_SetOperationState",
    "C_GetFunctionStatus",
    "C_CancelFunction",
    "C_AsyncGetID",
    # Looking at objects.
    "C_FindObjectsInit",
    "C_FindObjects",
    "C_FindObjectsFinal",
    "C_GetObjectSize",
    "C_GetAttributeValue",
    # Beginnings and middles of operations: the call that gives the result is recorded, with mechanism and key.
    "C_SignInit",
    "C_SignUpdate",
    "C_SignRecoverInit",
    "C_SignEncryptUpdate",
    "C_MessageSignInit",
    "C_SignMessageBegin",
    "C_MessageSignFinal",
    "C_DecryptInit",
    "C_MessageDecryptInit",
    "C_DecryptMessageBegin",
    "C_MessageDecryptFinal",
    # What anybody could do who has the data, and the public key.
    "C_EncryptInit",
    "C_Encrypt",
    "C_EncryptUpdate",
    "C_EncryptFinal",
    "C_DigestEncryptUpdate",
    "C_MessageEncryptInit",
    "C_EncryptMessage",
    "C_EncryptMessageBegin",
    "C_EncryptMessageNext",
    "C_MessageEncryptFinal",
    "C_VerifyInit",
    "C_Verify",
    "C_VerifyUpdate",
    "C_VerifyFinal",
    "C_VerifyRecoverInit",
    "C_VerifyRecover",
    "C_MessageVerifyInit",
    "C_VerifyMessage",
    "C_VerifyMessageBegin",
    "C_VerifyMessageNext",
    "C_MessageVerifyFinal",
    "C_VerifySignatureInit",
    "C_VerifySignature",
    "C_VerifySignatureUpdate",
    "C_VerifySignatureFinal",
    "C_DigestInit",
    "C_Digest",
    "C_DigestUpdate",
    "C_DigestFinal",
    "C_SeedRandom",
    "C_GenerateRandom",
)
"""All others. What the policy refuses of them is recorded all the same, as "refused"."""

AUDITED: Final = frozenset(call_named(name).number for name in RECORDED)
"""Numbers of the calls that are recorded."""
