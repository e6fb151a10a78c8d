/* NULL where a pointer is wanted, and counts that do not fit, for every function.
 *
 * Each probe has a session of its own, with the operation it needs started.
 */
#include "abi.h"

static CK_BYTE data[16] = "sixteen bytes !!", buffer[1024];
static CK_ULONG length, count;
static CK_SESSION_HANDLE keeper, session;
static CK_OBJECT_HANDLE aes, made, made_too;
static struct key_pair rsa;
static CK_SLOT_ID slot;
static CK_MECHANISM digest = {CKM_SHA256, NULL, 0}, ecb = {CKM_AES_ECB, NULL, 0},
                    hmac = {CKM_AES_CMAC, NULL, 0}, wrap = {CKM_AES_KEY_WRAP, NULL, 0},
                    rsa_pkcs = {CKM_RSA_PKCS, NULL, 0}, aes_gen = {CKM_AES_KEY_GEN, NULL, 0},
                    rsa_gen = {CKM_RSA_PKCS_KEY_PAIR_GEN, NULL, 0};

static void begin(void)
{
    module_initialize();
    keeper = session_user();
    slot = slot_of_token();
    aes = make_aes(keeper, 16);
    rsa = make_rsa(keeper);
}

static CK_SESSION_HANDLE anew(void)
{
    length = sizeof buffer;
    must(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session),
         "C_OpenSession");
    return session;
}

/* The started operation is a precondition; a module that refuses it shows that in "sequences". */
#define ARGUMENT(name, start, call)                                                                \
    do {                                                                                           \
        anew();                                                                                    \
        (void)(start);                                                                             \
        PROBE(name, call, "");                                                                     \
        p11->C_CloseSession(session);                                                              \
    } while (0)

static void slots(void)
{
    CK_ULONG one = 1;
    begin();
    ARGUMENT("C_GetInfo-info", 0, p11->C_GetInfo(NULL));
    ARGUMENT("C_GetSlotList-count", 0, p11->C_GetSlotList(CK_FALSE, NULL, NULL));
    ARGUMENT("C_GetSlotList-count-only", 0, p11->C_GetSlotList(CK_FALSE, &slot, NULL));
    ARGUMENT("C_GetSlotInfo-info", 0, p11->C_GetSlotInfo(slot, NULL));
    ARGUMENT("C_GetTokenInfo-info", 0, p11->C_GetTokenInfo(slot, NULL));
    ARGUMENT("C_GetMechanismList-count", 0, p11->C_GetMechanismList(slot, NULL, NULL));
    ARGUMENT("C_GetMechanismInfo-info", 0, p11->C_GetMechanismInfo(slot, CKM_AES_ECB, NULL));
    ARGUMENT("C_InitToken-pin", 0, p11->C_InitToken(slot, NULL, 0, memset(buffer, ' ', 32)));
    ARGUMENT("C_InitToken-label", 0, p11->C_InitToken(slot, (CK_UTF8CHAR_PTR) "wrong", 5, NULL));
    ARGUMENT("C_OpenSession-session", 0,
             p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, NULL));
    ARGUMENT("C_OpenSession-parallel", 0, p11->C_OpenSession(slot, CKF_RW_SESSION, NULL, NULL, &made));
    ARGUMENT("C_OpenSession-flags-0", 0, p11->C_OpenSession(slot, 0, NULL, NULL, &made));
    ARGUMENT("C_OpenSession-unknown-flag", 0,
             p11->C_OpenSession(slot, CKF_SERIAL_SESSION | 0x1000, NULL, NULL, &made));
    ARGUMENT("C_OpenSession-application", 0,
             p11->C_OpenSession(slot, CKF_SERIAL_SESSION, &one, NULL, &made));
    ARGUMENT("C_GetSessionInfo-info", 0, p11->C_GetSessionInfo(session, NULL));
    ARGUMENT("C_InitPIN-pin", 0, p11->C_InitPIN(session, NULL, 0));
    ARGUMENT("C_SetPIN-old", 0, p11->C_SetPIN(session, NULL, 0, (CK_UTF8CHAR_PTR) "12345678", 8));
    ARGUMENT("C_SetPIN-new", 0, p11->C_SetPIN(session, (CK_UTF8CHAR_PTR)user_pin, 8, NULL, 0));
    ARGUMENT("C_SetPIN-old-length", 0,
             p11->C_SetPIN(session, NULL, 8, (CK_UTF8CHAR_PTR) "12345678", 8));
    ARGUMENT("C_Login-pin", p11->C_Logout(session), p11->C_Login(session, CKU_USER, NULL, 0));
    ARGUMENT("C_Login-pin-length", 0, p11->C_Login(session, CKU_USER, NULL, 8));
    ARGUMENT("C_Login-empty", 0, p11->C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR) "", 0));
    ARGUMENT("C_GetOperationState-state", 0, p11->C_GetOperationState(session, NULL, &length));
    ARGUMENT("C_GetOperationState-length", 0, p11->C_GetOperationState(session, buffer, NULL));
    ARGUMENT("C_SetOperationState-state", 0, p11->C_SetOperationState(session, NULL, 0, 0, 0));
}

static void objects(void)
{
    CK_ULONG class = CKO_SECRET_KEY, type = CKK_AES, size = 16;
    CK_ATTRIBUTE template[] = {
        {CKA_CLASS, &class, sizeof class},
        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_VALUE_LEN, &size, sizeof size},
        ATTR_BYTES(CKA_VALUE, data),
    };
    CK_ATTRIBUTE null_value[] = {{CKA_LABEL, NULL, 0}}, null_long[] = {{CKA_LABEL, NULL, 5}},
                 null_class[] = {{CKA_CLASS, NULL, 0}}, short_class[] = {{CKA_CLASS, &class, 4}},
                 long_class[] = {{CKA_CLASS, buffer, 16}}, null_bool[] = {{CKA_TOKEN, NULL, 0}},
                 long_bool[] = {{CKA_TOKEN, buffer, 8}}, odd_bool[] = {{CKA_SENSITIVE, "\7", 1}},
                 unknown[] = {{CKA_VENDOR_DEFINED | 77, data, 4}};
    begin();
    ARGUMENT("C_CreateObject-template", 0, p11->C_CreateObject(session, NULL, 4, &made));
    ARGUMENT("C_CreateObject-empty", 0, p11->C_CreateObject(session, template, 0, &made));
    ARGUMENT("C_CreateObject-empty-null", 0, p11->C_CreateObject(session, NULL, 0, &made));
    ARGUMENT("C_CreateObject-object", 0, p11->C_CreateObject(session, template, 4, NULL));
    ARGUMENT("C_CopyObject-template", 0, p11->C_CopyObject(session, aes, NULL, 1, &made));
    ARGUMENT("C_CopyObject-empty", 0, p11->C_CopyObject(session, aes, template, 0, &made));
    ARGUMENT("C_CopyObject-empty-null", 0, p11->C_CopyObject(session, aes, NULL, 0, &made));
    ARGUMENT("C_CopyObject-object", 0, p11->C_CopyObject(session, aes, null_value, 1, NULL));
    ARGUMENT("C_GetObjectSize-size", 0, p11->C_GetObjectSize(session, aes, NULL));
    ARGUMENT("C_GetAttributeValue-template", 0, p11->C_GetAttributeValue(session, aes, NULL, 1));
    ARGUMENT("C_GetAttributeValue-empty", 0, p11->C_GetAttributeValue(session, aes, template, 0));
    ARGUMENT("C_GetAttributeValue-empty-null", 0, p11->C_GetAttributeValue(session, aes, NULL, 0));
    ARGUMENT("C_SetAttributeValue-template", 0, p11->C_SetAttributeValue(session, aes, NULL, 1));
    ARGUMENT("C_SetAttributeValue-empty", 0, p11->C_SetAttributeValue(session, aes, template, 0));
    ARGUMENT("C_SetAttributeValue-empty-null", 0, p11->C_SetAttributeValue(session, aes, NULL, 0));
    ARGUMENT("C_SetAttributeValue-value", 0, p11->C_SetAttributeValue(session, aes, null_value, 1));
    ARGUMENT("C_SetAttributeValue-null-long", 0, p11->C_SetAttributeValue(session, aes, null_long, 1));
    ARGUMENT("C_SetAttributeValue-unknown", 0, p11->C_SetAttributeValue(session, aes, unknown, 1));
    ARGUMENT("C_SetAttributeValue-odd-bool", 0, p11->C_SetAttributeValue(session, aes, odd_bool, 1));
    ARGUMENT("C_FindObjectsInit-template", 0, p11->C_FindObjectsInit(session, NULL, 1));
    ARGUMENT("C_FindObjectsInit-null-value", 0, p11->C_FindObjectsInit(session, null_value, 1));
    ARGUMENT("C_FindObjectsInit-null-long", 0, p11->C_FindObjectsInit(session, null_long, 1));
    ARGUMENT("C_FindObjectsInit-null-class", 0, p11->C_FindObjectsInit(session, null_class, 1));
    ARGUMENT("C_FindObjectsInit-short-class", 0, p11->C_FindObjectsInit(session, short_class, 1));
    ARGUMENT("C_FindObjectsInit-long-class", 0, p11->C_FindObjectsInit(session, long_class, 1));
    ARGUMENT("C_FindObjectsInit-null-bool", 0, p11->C_FindObjectsInit(session, null_bool, 1));
    ARGUMENT("C_FindObjectsInit-long-bool", 0, p11->C_FindObjectsInit(session, long_bool, 1));
    ARGUMENT("C_FindObjectsInit-unknown", 0, p11->C_FindObjectsInit(session, unknown, 1));
    ARGUMENT("C_FindObjects-objects", p11->C_FindObjectsInit(session, NULL, 0),
             p11->C_FindObjects(session, NULL, 1, &count));
    ARGUMENT("C_FindObjects-count", p11->C_FindObjectsInit(session, NULL, 0),
             p11->C_FindObjects(session, &made, 1, NULL));
    ARGUMENT("C_FindObjects-none", p11->C_FindObjectsInit(session, NULL, 0),
             p11->C_FindObjects(session, &made, 0, &count));
    static const struct {
        const char *name;
        CK_ATTRIBUTE attribute;
    } odd[] = {
        {"null-class", {CKA_CLASS, NULL, 0}},       {"short-class", {CKA_CLASS, data, 4}},
        {"empty-class", {CKA_CLASS, data, 0}},      {"long-class", {CKA_CLASS, data, 16}},
        {"null-bool", {CKA_ENCRYPT, NULL, 0}},      {"long-bool", {CKA_ENCRYPT, data, 8}},
        {"empty-bool", {CKA_ENCRYPT, data, 0}},     {"null-label", {CKA_LABEL, NULL, 0}},
        {"empty-label", {CKA_LABEL, data, 0}},      {"null-long-label", {CKA_LABEL, NULL, 4}},
        {"short-date", {CKA_START_DATE, data, 4}},  {"empty-date", {CKA_START_DATE, data, 0}},
        {"odd-date", {CKA_START_DATE, "20261399", 8}}, {"unknown", {CKA_VENDOR_DEFINED | 5, data, 4}},
        {"unknown-null", {CKA_VENDOR_DEFINED | 5, NULL, 0}}, {"id-null", {CKA_ID, NULL, 0}},
        {"mechanisms-empty", {CKA_ALLOWED_MECHANISMS, data, 0}},
        {"mechanisms-odd", {CKA_ALLOWED_MECHANISMS, data, 5}},
        {"template-empty", {CKA_WRAP_TEMPLATE, data, 0}},
        {"template-odd", {CKA_WRAP_TEMPLATE, data, 5}},
    };
    for (size_t i = 0; i < COUNT(odd); i++) {
        CK_ATTRIBUTE with_odd[] = {template[0], template[1], template[3], odd[i].attribute};
        ARGUMENT(join("C_CreateObject", odd[i].name, ""), 0,
                 p11->C_CreateObject(session, with_odd, COUNT(with_odd), &made));
        CK_ATTRIBUTE odd_key[] = {template[2], odd[i].attribute};
        ARGUMENT(join("C_GenerateKey", odd[i].name, ""), 0,
                 p11->C_GenerateKey(session, &aes_gen, odd_key, COUNT(odd_key), &made));
    }
}

static void ciphers(void)
{
    begin();
    ARGUMENT("C_EncryptInit-mechanism", 0, p11->C_EncryptInit(session, NULL, aes));
    ARGUMENT("C_Encrypt-data", p11->C_EncryptInit(session, &ecb, aes),
             p11->C_Encrypt(session, NULL, 16, buffer, &length));
    ARGUMENT("C_Encrypt-data-empty", p11->C_EncryptInit(session, &ecb, aes),
             p11->C_Encrypt(session, NULL, 0, buffer, &length));
    ARGUMENT("C_Encrypt-empty", p11->C_EncryptInit(session, &ecb, aes),
             p11->C_Encrypt(session, data, 0, buffer, &length));
    ARGUMENT("C_Encrypt-length", p11->C_EncryptInit(session, &ecb, aes),
             p11->C_Encrypt(session, data, 16, buffer, NULL));
    ARGUMENT("C_Encrypt-both", p11->C_EncryptInit(session, &ecb, aes),
             p11->C_Encrypt(session, data, 16, NULL, NULL));
    ARGUMENT("C_EncryptUpdate-data", p11->C_EncryptInit(session, &ecb, aes),
             p11->C_EncryptUpdate(session, NULL, 16, buffer, &length));
    ARGUMENT("C_EncryptUpdate-data-empty", p11->C_EncryptInit(session, &ecb, aes),
             p11->C_EncryptUpdate(session, NULL, 0, buffer, &length));
    ARGUMENT("C_EncryptUpdate-empty", p11->C_EncryptInit(session, &ecb, aes),
             p11->C_EncryptUpdate(session, data, 0, buffer, &length));
    ARGUMENT("C_EncryptUpdate-length", p11->C_EncryptInit(session, &ecb, aes),
             p11->C_EncryptUpdate(session, data, 16, buffer, NULL));
    ARGUMENT("C_EncryptFinal-length", p11->C_EncryptInit(session, &ecb, aes),
             p11->C_EncryptFinal(session, buffer, NULL));
    ARGUMENT("C_DecryptInit-mechanism", 0, p11->C_DecryptInit(session, NULL, aes));
    ARGUMENT("C_Decrypt-data", p11->C_DecryptInit(session, &ecb, aes),
             p11->C_Decrypt(session, NULL, 16, buffer, &length));
    ARGUMENT("C_Decrypt-data-empty", p11->C_DecryptInit(session, &ecb, aes),
             p11->C_Decrypt(session, NULL, 0, buffer, &length));
    ARGUMENT("C_Decrypt-empty", p11->C_DecryptInit(session, &ecb, aes),
             p11->C_Decrypt(session, data, 0, buffer, &length));
    ARGUMENT("C_Decrypt-length", p11->C_DecryptInit(session, &ecb, aes),
             p11->C_Decrypt(session, data, 16, buffer, NULL));
    ARGUMENT("C_DecryptUpdate-data", p11->C_DecryptInit(session, &ecb, aes),
             p11->C_DecryptUpdate(session, NULL, 16, buffer, &length));
    ARGUMENT("C_DecryptUpdate-data-empty", p11->C_DecryptInit(session, &ecb, aes),
             p11->C_DecryptUpdate(session, NULL, 0, buffer, &length));
    ARGUMENT("C_DecryptUpdate-empty", p11->C_DecryptInit(session, &ecb, aes),
             p11->C_DecryptUpdate(session, data, 0, buffer, &length));
    ARGUMENT("C_DecryptUpdate-length", p11->C_DecryptInit(session, &ecb, aes),
             p11->C_DecryptUpdate(session, data, 16, buffer, NULL));
    ARGUMENT("C_DecryptFinal-length", p11->C_DecryptInit(session, &ecb, aes),
             p11->C_DecryptFinal(session, buffer, NULL));
    ARGUMENT("C_DigestInit-mechanism", 0, p11->C_DigestInit(session, NULL));
    ARGUMENT("C_Digest-data", p11->C_DigestInit(session, &digest),
             p11->C_Digest(session, NULL, 16, buffer, &length));
    ARGUMENT("C_Digest-data-empty", p11->C_DigestInit(session, &digest),
             p11->C_Digest(session, NULL, 0, buffer, &length));
    ARGUMENT("C_Digest-empty", p11->C_DigestInit(session, &digest),
             p11->C_Digest(session, data, 0, buffer, &length));
    ARGUMENT("C_Digest-length", p11->C_DigestInit(session, &digest),
             p11->C_Digest(session, data, 16, buffer, NULL));
    ARGUMENT("C_DigestUpdate-data", p11->C_DigestInit(session, &digest),
             p11->C_DigestUpdate(session, NULL, 16));
    ARGUMENT("C_DigestUpdate-data-empty", p11->C_DigestInit(session, &digest),
             p11->C_DigestUpdate(session, NULL, 0));
    ARGUMENT("C_DigestUpdate-empty", p11->C_DigestInit(session, &digest),
             p11->C_DigestUpdate(session, data, 0));
    ARGUMENT("C_DigestFinal-length", p11->C_DigestInit(session, &digest),
             p11->C_DigestFinal(session, buffer, NULL));
}

static void signatures(void)
{
    begin();
    ARGUMENT("C_SignInit-mechanism", 0, p11->C_SignInit(session, NULL, aes));
    ARGUMENT("C_Sign-data", p11->C_SignInit(session, &hmac, aes),
             p11->C_Sign(session, NULL, 16, buffer, &length));
    ARGUMENT("C_Sign-data-empty", p11->C_SignInit(session, &hmac, aes),
             p11->C_Sign(session, NULL, 0, buffer, &length));
    ARGUMENT("C_Sign-empty", p11->C_SignInit(session, &hmac, aes),
             p11->C_Sign(session, data, 0, buffer, &length));
    ARGUMENT("C_Sign-length", p11->C_SignInit(session, &hmac, aes),
             p11->C_Sign(session, data, 16, buffer, NULL));
    ARGUMENT("C_Sign-rsa-data", p11->C_SignInit(session, &rsa_pkcs, rsa.private_key),
             p11->C_Sign(session, NULL, 16, buffer, &length));
    ARGUMENT("C_Sign-rsa-empty", p11->C_SignInit(session, &rsa_pkcs, rsa.private_key),
             p11->C_Sign(session, data, 0, buffer, &length));
    ARGUMENT("C_SignUpdate-data", p11->C_SignInit(session, &hmac, aes),
             p11->C_SignUpdate(session, NULL, 16));
    ARGUMENT("C_SignUpdate-data-empty", p11->C_SignInit(session, &hmac, aes),
             p11->C_SignUpdate(session, NULL, 0));
    ARGUMENT("C_SignUpdate-empty", p11->C_SignInit(session, &hmac, aes),
             p11->C_SignUpdate(session, data, 0));
    ARGUMENT("C_SignFinal-length", p11->C_SignInit(session, &hmac, aes),
             p11->C_SignFinal(session, buffer, NULL));
    ARGUMENT("C_SignRecoverInit-mechanism", 0,
             p11->C_SignRecoverInit(session, NULL, rsa.private_key));
    ARGUMENT("C_VerifyInit-mechanism", 0, p11->C_VerifyInit(session, NULL, aes));
    ARGUMENT("C_Verify-data", p11->C_VerifyInit(session, &hmac, aes),
             p11->C_Verify(session, NULL, 16, buffer, 16));
    ARGUMENT("C_Verify-data-empty", p11->C_VerifyInit(session, &hmac, aes),
             p11->C_Verify(session, NULL, 0, buffer, 16));
    ARGUMENT("C_Verify-signature", p11->C_VerifyInit(session, &hmac, aes),
             p11->C_Verify(session, data, 16, NULL, 16));
    ARGUMENT("C_Verify-signature-empty", p11->C_VerifyInit(session, &hmac, aes),
             p11->C_Verify(session, data, 16, buffer, 0));
    ARGUMENT("C_VerifyUpdate-data", p11->C_VerifyInit(session, &hmac, aes),
             p11->C_VerifyUpdate(session, NULL, 16));
    ARGUMENT("C_VerifyFinal-signature", p11->C_VerifyInit(session, &hmac, aes),
             p11->C_VerifyFinal(session, NULL, 16));
    ARGUMENT("C_VerifyRecoverInit-mechanism", 0,
             p11->C_VerifyRecoverInit(session, NULL, rsa.public_key));
    ARGUMENT("C_SeedRandom-seed", 0, p11->C_SeedRandom(session, NULL, 16));
    ARGUMENT("C_SeedRandom-empty", 0, p11->C_SeedRandom(session, data, 0));
    ARGUMENT("C_GenerateRandom-data", 0, p11->C_GenerateRandom(session, NULL, 16));
    ARGUMENT("C_GenerateRandom-null-empty", 0, p11->C_GenerateRandom(session, NULL, 0));
    ARGUMENT("C_GenerateRandom-empty", 0, p11->C_GenerateRandom(session, buffer, 0));
}

static void keys(void)
{
    CK_ULONG size = 16, bits = 1024, class = CKO_SECRET_KEY, type = CKK_AES;
    CK_ATTRIBUTE aes_template[] = {{CKA_VALUE_LEN, &size, sizeof size}},
                 rsa_template[] = {{CKA_MODULUS_BITS, &bits, sizeof bits}},
                 key_template[] = {{CKA_CLASS, &class, sizeof class},
                                   {CKA_KEY_TYPE, &type, sizeof type}};
    begin();
    ARGUMENT("C_GenerateKey-mechanism", 0,
             p11->C_GenerateKey(session, NULL, aes_template, 1, &made));
    ARGUMENT("C_GenerateKey-template", 0, p11->C_GenerateKey(session, &aes_gen, NULL, 1, &made));
    ARGUMENT("C_GenerateKey-empty", 0, p11->C_GenerateKey(session, &aes_gen, NULL, 0, &made));
    ARGUMENT("C_GenerateKey-key", 0, p11->C_GenerateKey(session, &aes_gen, aes_template, 1, NULL));
    ARGUMENT("C_GenerateKeyPair-mechanism", 0,
             p11->C_GenerateKeyPair(session, NULL, rsa_template, 1, NULL, 0, &made, &made_too));
    ARGUMENT("C_GenerateKeyPair-public-template", 0,
             p11->C_GenerateKeyPair(session, &rsa_gen, NULL, 1, NULL, 0, &made, &made_too));
    ARGUMENT("C_GenerateKeyPair-no-template", 0,
             p11->C_GenerateKeyPair(session, &rsa_gen, NULL, 0, NULL, 0, &made, &made_too));
    ARGUMENT("C_GenerateKeyPair-private-template", 0,
             p11->C_GenerateKeyPair(session, &rsa_gen, rsa_template, 1, NULL, 1, &made, &made_too));
    ARGUMENT("C_GenerateKeyPair-public-key", 0,
             p11->C_GenerateKeyPair(session, &rsa_gen, rsa_template, 1, rsa_template, 0, NULL, &made));
    ARGUMENT("C_GenerateKeyPair-private-key", 0,
             p11->C_GenerateKeyPair(session, &rsa_gen, rsa_template, 1, rsa_template, 0, &made, NULL));
    ARGUMENT("C_WrapKey-mechanism", 0,
             p11->C_WrapKey(session, NULL, aes, aes, buffer, &length));
    ARGUMENT("C_WrapKey-length", 0, p11->C_WrapKey(session, &wrap, aes, aes, buffer, NULL));
    ARGUMENT("C_UnwrapKey-mechanism", 0,
             p11->C_UnwrapKey(session, NULL, aes, buffer, 24, key_template, 2, &made));
    ARGUMENT("C_UnwrapKey-wrapped", 0,
             p11->C_UnwrapKey(session, &wrap, aes, NULL, 24, key_template, 2, &made));
    ARGUMENT("C_UnwrapKey-wrapped-empty", 0,
             p11->C_UnwrapKey(session, &wrap, aes, buffer, 0, key_template, 2, &made));
    ARGUMENT("C_UnwrapKey-template", 0,
             p11->C_UnwrapKey(session, &wrap, aes, buffer, 24, NULL, 2, &made));
    ARGUMENT("C_UnwrapKey-key", 0,
             p11->C_UnwrapKey(session, &wrap, aes, buffer, 24, key_template, 2, NULL));
    ARGUMENT("C_DeriveKey-mechanism", 0,
             p11->C_DeriveKey(session, NULL, aes, key_template, 2, &made));
    CK_MECHANISM bare = {CKM_AES_ECB_ENCRYPT_DATA, NULL, 0};
    ARGUMENT("C_DeriveKey-parameter", 0,
             p11->C_DeriveKey(session, &bare, aes, key_template, 2, &made));
    CK_MECHANISM derive = {CKM_AES_ECB_ENCRYPT_DATA, &(CK_KEY_DERIVATION_STRING_DATA){data, 16},
                           sizeof(CK_KEY_DERIVATION_STRING_DATA)};
    ARGUMENT("C_DeriveKey-template", 0, p11->C_DeriveKey(session, &derive, aes, NULL, 2, &made));
    ARGUMENT("C_DeriveKey-no-template", 0, p11->C_DeriveKey(session, &derive, aes, NULL, 0, &made));
    ARGUMENT("C_DeriveKey-key", 0,
             p11->C_DeriveKey(session, &derive, aes, key_template, 2, NULL));
}

static const struct test_case cases[] = {
    {"slots", slots},           {"objects", objects}, {"ciphers", ciphers},
    {"signatures", signatures}, {"keys", keys},       {NULL, NULL},
};

const struct topic arguments_topic = {"arguments", cases};
