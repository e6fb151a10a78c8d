#include "every_call.h"

static CK_BYTE data[16] = "sixteen bytes !!", buffer[1024];
static CK_ULONG length;
static CK_OBJECT_HANDLE made, made_too;
static CK_MECHANISM digest = {CKM_SHA256, NULL, 0}, ecb = {CKM_AES_ECB, NULL, 0},
                    hmac = {CKM_SHA256_HMAC, NULL, 0}, wrap = {CKM_AES_KEY_WRAP, NULL, 0},
                    rsa = {CKM_RSA_PKCS, NULL, 0}, aes_gen = {CKM_AES_KEY_GEN, NULL, 0},
                    rsa_gen = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0},
                    derive = {CKM_AES_ECB_ENCRYPT_DATA, &(CK_KEY_DERIVATION_STRING_DATA){data, 16},
                              sizeof(CK_KEY_DERIVATION_STRING_DATA)};

static CK_ATTRIBUTE *aes_template(void)
{
    static CK_ULONG key_length = 16, class = CKO_SECRET_KEY, type = CKK_AES;
    static CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_VALUE_LEN, &key_length, sizeof key_length},
    };
    return template;
}

static CK_ATTRIBUTE *label(void)
{
    static char text[] = "label"; /* written to by C_GetAttributeValue */
    static CK_ATTRIBUTE template[] = {{CKA_LABEL, text, 5}};
    template[0].ulValueLen = 5;
    return template;
}

#define CALL(function, ...)                                                                        \
    static CK_RV function##_(CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object, CK_SLOT_ID slot)  \
    {                                                                                              \
        (void)session, (void)object, (void)slot;                                                   \
        length = sizeof buffer;                                                                    \
        return p11->function(__VA_ARGS__);                                                         \
    }

CALL(C_GetInfo, (CK_INFO_PTR)buffer)
CALL(C_GetSlotList, CK_FALSE, NULL, &length)
CALL(C_GetSlotInfo, slot, (CK_SLOT_INFO_PTR)buffer)
CALL(C_GetTokenInfo, slot, (CK_TOKEN_INFO_PTR)buffer)
CALL(C_GetMechanismList, slot, NULL, &length)
CALL(C_GetMechanismInfo, slot, CKM_AES_ECB, (CK_MECHANISM_INFO_PTR)buffer)
CALL(C_InitToken, slot, (CK_UTF8CHAR_PTR)"wrong pin", 9, memset(buffer, ' ', 32))
CALL(C_OpenSession, slot, CKF_SERIAL_SESSION, NULL, NULL, &made)
CALL(C_CloseAllSessions, slot)

CALL(C_InitPIN, session, (CK_UTF8CHAR_PTR)user_pin, strlen(user_pin))
CALL(C_SetPIN, session, (CK_UTF8CHAR_PTR)user_pin, strlen(user_pin), (CK_UTF8CHAR_PTR)user_pin,
     strlen(user_pin))
CALL(C_GetSessionInfo, session, (CK_SESSION_INFO_PTR)buffer)
CALL(C_GetOperationState, session, buffer, &length)
CALL(C_SetOperationState, session, buffer, 16, object, object)
CALL(C_Login, session, CKU_USER, (CK_UTF8CHAR_PTR)user_pin, strlen(user_pin))
CALL(C_CreateObject, session, aes_template(), 3, &made)
CALL(C_CopyObject, session, object, label(), 1, &made)
CALL(C_DestroyObject, session, object)
CALL(C_GetObjectSize, session, object, &length)
CALL(C_GetAttributeValue, session, object, label(), 1)
CALL(C_SetAttributeValue, session, object, label(), 1)
CALL(C_FindObjectsInit, session, NULL, 0)
CALL(C_FindObjects, session, &made, 1, &length)
CALL(C_FindObjectsFinal, session)
CALL(C_EncryptInit, session, &ecb, object)
CALL(C_Encrypt, session, data, 16, buffer, &length)
CALL(C_EncryptUpdate, session, data, 16, buffer, &length)
CALL(C_EncryptFinal, session, buffer, &length)
CALL(C_DecryptInit, session, &ecb, object)
CALL(C_Decrypt, session, data, 16, buffer, &length)
CALL(C_DecryptUpdate, session, data, 16, buffer, &length)
CALL(C_DecryptFinal, session, buffer, &length)
CALL(C_DigestInit, session, &digest)
CALL(C_Digest, session, data, 16, buffer, &length)
CALL(C_DigestUpdate, session, data, 16)
CALL(C_DigestKey, session, object)
CALL(C_DigestFinal, session, buffer, &length)
CALL(C_SignInit, session, &hmac, object)
CALL(C_Sign, session, data, 16, buffer, &length)
CALL(C_SignUpdate, session, data, 16)
CALL(C_SignFinal, session, buffer, &length)
CALL(C_SignRecoverInit, session, &rsa, object)
CALL(C_SignRecover, session, data, 16, buffer, &length)
CALL(C_VerifyInit, session, &hmac, object)
CALL(C_Verify, session, data, 16, buffer, 32)
CALL(C_VerifyUpdate, session, data, 16)
CALL(C_VerifyFinal, session, buffer, 32)
CALL(C_VerifyRecoverInit, session, &rsa, object)
CALL(C_VerifyRecover, session, data, 16, buffer, &length)
CALL(C_DigestEncryptUpdate, session, data, 16, buffer, &length)
CALL(C_DecryptDigestUpdate, session, data, 16, buffer, &length)
CALL(C_SignEncryptUpdate, session, data, 16, buffer, &length)
CALL(C_DecryptVerifyUpdate, session, data, 16, buffer, &length)
CALL(C_GenerateKey, session, &aes_gen, aes_template() + 2, 1, &made)
CALL(C_GenerateKeyPair, session, &rsa_gen, label(), 1, label(), 1, &made, &made_too)
CALL(C_WrapKey, session, &wrap, object, object, buffer, &length)
CALL(C_UnwrapKey, session, &wrap, object, buffer, 24, aes_template(), 2, &made)
CALL(C_DeriveKey, session, &derive, object, aes_template(), 3, &made)
CALL(C_SeedRandom, session, data, 16)
CALL(C_GenerateRandom, session, buffer, 16)
CALL(C_GetFunctionStatus, session)
CALL(C_CancelFunction, session)
CALL(C_Logout, session)
CALL(C_CloseSession, session)

#define ROW(function) {#function, function##_}

const struct call slot_calls[] = {
    ROW(C_GetInfo),          ROW(C_GetSlotList),      ROW(C_GetSlotInfo),
    ROW(C_GetTokenInfo),     ROW(C_GetMechanismList), ROW(C_GetMechanismInfo),
    ROW(C_InitToken),        ROW(C_OpenSession),      ROW(C_CloseAllSessions),
    {NULL, NULL},
};

const struct call session_calls[] = {
    ROW(C_InitPIN),
    ROW(C_SetPIN),
    ROW(C_GetSessionInfo),
    ROW(C_GetOperationState),
    ROW(C_SetOperationState),
    ROW(C_Login),
    ROW(C_CreateObject),
    ROW(C_CopyObject),
    ROW(C_DestroyObject),
    ROW(C_GetObjectSize),
    ROW(C_GetAttributeValue),
    ROW(C_SetAttributeValue),
    ROW(C_FindObjectsInit),
    ROW(C_FindObjects),
    ROW(C_FindObjectsFinal),
    ROW(C_EncryptInit),
    ROW(C_Encrypt),
    ROW(C_EncryptUpdate),
    ROW(C_EncryptFinal),
    ROW(C_DecryptInit),
    ROW(C_Decrypt),
    ROW(C_DecryptUpdate),
    ROW(C_DecryptFinal),
    ROW(C_DigestInit),
    ROW(C_Digest),
    ROW(C_DigestUpdate),
    ROW(C_DigestKey),
    ROW(C_DigestFinal),
    ROW(C_SignInit),
    ROW(C_Sign),
    ROW(C_SignUpdate),
    ROW(C_SignFinal),
    ROW(C_SignRecoverInit),
    ROW(C_SignRecover),
    ROW(C_VerifyInit),
    ROW(C_Verify),
    ROW(C_VerifyUpdate),
    ROW(C_VerifyFinal),
    ROW(C_VerifyRecoverInit),
    ROW(C_VerifyRecover),
    ROW(C_DigestEncryptUpdate),
    ROW(C_DecryptDigestUpdate),
    ROW(C_SignEncryptUpdate),
    ROW(C_DecryptVerifyUpdate),
    ROW(C_GenerateKey),
    ROW(C_GenerateKeyPair),
    ROW(C_WrapKey),
    ROW(C_UnwrapKey),
    ROW(C_DeriveKey),
    ROW(C_SeedRandom),
    ROW(C_GenerateRandom),
    ROW(C_GetFunctionStatus),
    ROW(C_CancelFunction),
    ROW(C_Logout),
    ROW(C_CloseSession),
    {NULL, NULL},
};
