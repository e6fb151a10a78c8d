/* Operations begun twice, not at all, left half done, or overtaken by a logout or a close. */
#include "abi.h"

static CK_BYTE data[32] = "thirty-two bytes of data to do..", out[512];
static CK_ULONG length;
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE aes, aes_32, secret;
static struct key_pair rsa, ec;
static CK_MECHANISM sha256 = {CKM_SHA256, NULL, 0}, md5 = {CKM_MD5, NULL, 0},
                    ecb = {CKM_AES_ECB, NULL, 0}, hmac = {CKM_SHA256_HMAC, NULL, 0},
                    sha_rsa = {CKM_SHA256_RSA_PKCS, NULL, 0}, ecdsa = {CKM_ECDSA, NULL, 0},
                    rsa_pkcs = {CKM_RSA_PKCS, NULL, 0};

static void begin(void)
{
    module_initialize();
    session = session_user();
    aes = make_aes(session, 16);
    aes_32 = make_aes(session, 32);
    secret = make_secret(session, 64);
    rsa = make_rsa(session);
    ec = make_ec(session);
}

/* Gives the length variable its room back. */
static CK_ULONG_PTR room(void)
{
    length = sizeof out;
    return &length;
}

static void sign(void)
{
    begin();
    STEP("sign-without-init", p11->C_Sign(session, data, 32, out, room()), "");
    STEP("update-without-init", p11->C_SignUpdate(session, data, 32), "");
    STEP("final-without-init", p11->C_SignFinal(session, out, room()), "");
    STEP("init", p11->C_SignInit(session, &hmac, secret), "");
    STEP("init-again", p11->C_SignInit(session, &hmac, secret), "");
    STEP("init-other-key", p11->C_SignInit(session, &sha_rsa, rsa.private_key), "");
    STEP("sign", p11->C_Sign(session, data, 32, out, room()), "%s", hex(out, length));
    STEP("sign-again", p11->C_Sign(session, data, 32, out, room()), "");
    STEP("init-2", p11->C_SignInit(session, &hmac, secret), "");
    STEP("update", p11->C_SignUpdate(session, data, 10), "");
    STEP("sign-after-update", p11->C_Sign(session, data, 32, out, room()), "");
    STEP("final-after-sign", p11->C_SignFinal(session, out, room()), "%s", hex(out, length));
    STEP("final-again", p11->C_SignFinal(session, out, room()), "");
    STEP("init-3", p11->C_SignInit(session, &hmac, secret), "");
    STEP("final-without-update", p11->C_SignFinal(session, out, room()), "%s", hex(out, length));
    STEP("init-4", p11->C_SignInit(session, &ecdsa, ec.private_key), "");
    STEP("update-of-single-part", p11->C_SignUpdate(session, data, 10), "");
    STEP("sign-4", p11->C_Sign(session, data, 32, out, room()), "%lu", length);
    STEP("init-5", p11->C_SignInit(session, &hmac, secret), "");
    STEP("init-null-cancels", p11->C_SignInit(session, NULL, 0), "");
    STEP("init-wrong-key", p11->C_SignInit(session, &hmac, aes), "");
    STEP("init-public-key", p11->C_SignInit(session, &sha_rsa, rsa.public_key), "");
    STEP("init-wrong-type", p11->C_SignInit(session, &ecdsa, rsa.private_key), "");
    STEP("sign-5", p11->C_Sign(session, data, 32, out, room()), "%lu", length);
    STEP("init-6", p11->C_SignInit(session, &rsa_pkcs, rsa.private_key), "");
    STEP("sign-too-long", p11->C_Sign(session, out, 300, out, room()), "");
    STEP("sign-after-error", p11->C_Sign(session, data, 32, out, room()), "");
}

static void verify(void)
{
    CK_BYTE signature[512];
    CK_ULONG size = sizeof signature;
    begin();
    STEP("verify-without-init", p11->C_Verify(session, data, 32, out, 32), "");
    STEP("update-without-init", p11->C_VerifyUpdate(session, data, 32), "");
    STEP("final-without-init", p11->C_VerifyFinal(session, out, 32), "");
    STEP("sign-init", p11->C_SignInit(session, &hmac, secret), "");
    STEP("verify-init-while-signing", p11->C_VerifyInit(session, &hmac, secret), "");
    STEP("sign", p11->C_Sign(session, data, 32, signature, &size), "%s", hex(signature, size));
    STEP("init", p11->C_VerifyInit(session, &hmac, secret), "");
    STEP("init-again", p11->C_VerifyInit(session, &hmac, secret), "");
    STEP("verify", p11->C_Verify(session, data, 32, signature, size), "");
    STEP("verify-again", p11->C_Verify(session, data, 32, signature, size), "");
    STEP("init-2", p11->C_VerifyInit(session, &hmac, secret), "");
    STEP("verify-short", p11->C_Verify(session, data, 32, signature, size - 1), "");
    STEP("verify-after-short", p11->C_Verify(session, data, 32, signature, size), "");
    STEP("init-3", p11->C_VerifyInit(session, &hmac, secret), "");
    signature[0] ^= 1;
    STEP("verify-wrong", p11->C_Verify(session, data, 32, signature, size), "");
    STEP("verify-after-wrong", p11->C_Verify(session, data, 32, signature, size), "");
    signature[0] ^= 1;
    STEP("init-4", p11->C_VerifyInit(session, &hmac, secret), "");
    STEP("update-1", p11->C_VerifyUpdate(session, data, 10), "");
    STEP("update-2", p11->C_VerifyUpdate(session, data + 10, 22), "");
    STEP("verify-after-update", p11->C_Verify(session, data, 32, signature, size), "");
    STEP("final", p11->C_VerifyFinal(session, signature, size), "");
    STEP("init-5", p11->C_VerifyInit(session, &hmac, secret), "");
    STEP("final-at-once", p11->C_VerifyFinal(session, signature, size), "");
}

static void ciphers(void)
{
    begin();
    STEP("encrypt-without-init", p11->C_Encrypt(session, data, 32, out, room()), "");
    STEP("update-without-init", p11->C_EncryptUpdate(session, data, 32, out, room()), "");
    STEP("final-without-init", p11->C_EncryptFinal(session, out, room()), "");
    STEP("init", p11->C_EncryptInit(session, &ecb, aes), "");
    STEP("init-again", p11->C_EncryptInit(session, &ecb, aes_32), "");
    STEP("encrypt", p11->C_Encrypt(session, data, 32, out, room()), "%s", hex(out, length));
    STEP("init-2", p11->C_EncryptInit(session, &ecb, aes_32), "");
    STEP("update", p11->C_EncryptUpdate(session, data, 16, out, room()), "%s", hex(out, length));
    STEP("encrypt-after-update", p11->C_Encrypt(session, data, 16, out, room()), "%lu", length);
    STEP("update-2", p11->C_EncryptUpdate(session, data, 16, out, room()), "%s", hex(out, length));
    STEP("final", p11->C_EncryptFinal(session, out, room()), "%lu", length);
    STEP("final-again", p11->C_EncryptFinal(session, out, room()), "");
    STEP("init-3", p11->C_EncryptInit(session, &ecb, aes), "");
    STEP("encrypt-odd-length", p11->C_Encrypt(session, data, 31, out, room()), "%lu", length);
    STEP("encrypt-after-error", p11->C_Encrypt(session, data, 32, out, room()), "%lu", length);
    STEP("init-4", p11->C_EncryptInit(session, &ecb, aes), "");
    STEP("update-odd", p11->C_EncryptUpdate(session, data, 17, out, room()), "%s", hex(out, length));
    STEP("final-of-odd", p11->C_EncryptFinal(session, out, room()), "%lu", length);
    STEP("init-5", p11->C_EncryptInit(session, &ecb, aes), "");
    STEP("decrypt-init-while-encrypting", p11->C_DecryptInit(session, &ecb, aes), "");
    STEP("decrypt-while-encrypting", p11->C_Decrypt(session, data, 32, out, room()), "%lu", length);
    STEP("sign-init-while-encrypting", p11->C_SignInit(session, &hmac, secret), "");
    STEP("digest-init-while-encrypting", p11->C_DigestInit(session, &sha256), "");
    STEP("find-init-while-encrypting", p11->C_FindObjectsInit(session, NULL, 0), "");
    STEP("random-while-encrypting", p11->C_GenerateRandom(session, out, 8), "");
    STEP("encrypt-at-last", p11->C_Encrypt(session, data, 32, out, room()), "%s", hex(out, length));
    STEP("wrong-key", p11->C_EncryptInit(session, &ecb, rsa.public_key), "");
    STEP("unknown-mechanism",
         p11->C_EncryptInit(session, &(CK_MECHANISM){CKM_VENDOR_DEFINED | 9, data, 3}, aes), "");
    STEP("unknown-flat-mechanism",
         p11->C_EncryptInit(session, &(CK_MECHANISM){0x7f001234, NULL, 0}, aes), "");
    STEP("digest-mechanism", p11->C_EncryptInit(session, &sha256, aes), "");
    STEP("needless-parameter",
         p11->C_EncryptInit(session, &(CK_MECHANISM){CKM_AES_ECB, data, 16}, aes), "");
}

static void digest(void)
{
    begin();
    STEP("digest-without-init", p11->C_Digest(session, data, 32, out, room()), "");
    STEP("update-without-init", p11->C_DigestUpdate(session, data, 32), "");
    STEP("key-without-init", p11->C_DigestKey(session, secret), "");
    STEP("final-without-init", p11->C_DigestFinal(session, out, room()), "");
    STEP("init", p11->C_DigestInit(session, &sha256), "");
    STEP("init-again", p11->C_DigestInit(session, &md5), "");
    STEP("update", p11->C_DigestUpdate(session, data, 16), "");
    STEP("digest-after-update", p11->C_Digest(session, data, 16, out, room()), "%s",
         hex(out, length));
    STEP("final", p11->C_DigestFinal(session, out, room()), "%s", hex(out, length));
    STEP("init-2", p11->C_DigestInit(session, &sha256), "");
    STEP("key", p11->C_DigestKey(session, secret), "");
    STEP("key-private", p11->C_DigestKey(session, rsa.private_key), "");
    STEP("final-2", p11->C_DigestFinal(session, out, room()), "%s", hex(out, length));
    STEP("hmac-mechanism", p11->C_DigestInit(session, &hmac), "");
    STEP("function-status", p11->C_GetFunctionStatus(session), "");
    STEP("cancel-function", p11->C_CancelFunction(session), "");
}

static void find(void)
{
    CK_OBJECT_HANDLE found[16];
    CK_ULONG count;
    begin();
    STEP("find-without-init", p11->C_FindObjects(session, found, 16, &count), "");
    STEP("final-without-init", p11->C_FindObjectsFinal(session), "");
    STEP("init", p11->C_FindObjectsInit(session, NULL, 0), "");
    STEP("init-again", p11->C_FindObjectsInit(session, NULL, 0), "");
    STEP("sign-init-while-finding", p11->C_SignInit(session, &hmac, secret), "");
    STEP("find", p11->C_FindObjects(session, found, 16, &count), "%lu", count);
    STEP("find-more", p11->C_FindObjects(session, found, 16, &count), "%lu", count);
    STEP("final", p11->C_FindObjectsFinal(session), "");
    STEP("final-again", p11->C_FindObjectsFinal(session), "");
    STEP("find-after-final", p11->C_FindObjects(session, found, 16, &count), "");
}

static void logout(void)
{
    CK_SESSION_INFO info;
    CK_ULONG size;
    begin();
    CK_SESSION_HANDLE other = session_open(0);
    STEP("sign-init", p11->C_SignInit(session, &hmac, secret), "");
    STEP("encrypt-init", p11->C_EncryptInit(other, &ecb, aes), "");
    STEP("logout", p11->C_Logout(session), "");
    STEP("logout-again", p11->C_Logout(session), "");
    STEP("sign", p11->C_Sign(session, data, 32, out, room()), "%lu", length);
    STEP("encrypt-in-other", p11->C_Encrypt(other, data, 32, out, room()), "%lu", length);
    STEP("other-state", p11->C_GetSessionInfo(other, &info), "state %lu flags %lu", info.state,
         info.flags);
    STEP("private-object", p11->C_GetObjectSize(session, secret, &size), "");
    STEP("public-object", p11->C_GetObjectSize(session, rsa.public_key, &size), "");
    STEP("use-private", p11->C_SignInit(session, &hmac, secret), "");
    STEP("login", login_user(other), "");
    STEP("private-object-again", p11->C_GetObjectSize(session, secret, &size), "");
    STEP("find-init", p11->C_FindObjectsInit(session, NULL, 0), "");
    STEP("logout-while-finding", p11->C_Logout(session), "");
    CK_OBJECT_HANDLE found[16];
    CK_ULONG count;
    STEP("find", p11->C_FindObjects(session, found, 16, &count), "%lu", count);
}

static void close_active(void)
{
    CK_SESSION_INFO info;
    CK_ULONG size;
    begin();
    CK_SESSION_HANDLE other = session_open(CKF_RW_SESSION);
    CK_OBJECT_HANDLE theirs = make_secret(other, 32);
    STEP("sign-init-own", p11->C_SignInit(session, &hmac, theirs), "");
    STEP("sign-init-other", p11->C_SignInit(other, &hmac, theirs), "");
    STEP("close-other", p11->C_CloseSession(other), "");
    STEP("sign-other", p11->C_Sign(other, data, 32, out, room()), "");
    STEP("close-again", p11->C_CloseSession(other), "");
    STEP("object-of-closed", p11->C_GetObjectSize(session, theirs, &size), "");
    STEP("sign-with-its-key", p11->C_Sign(session, data, 32, out, room()), "%s", hex(out, length));
    STEP("close-all", p11->C_CloseAllSessions(slot_of_token()), "");
    STEP("after-close-all", p11->C_GetSessionInfo(session, &info), "");
    STEP("close-all-again", p11->C_CloseAllSessions(slot_of_token()), "");
    session = session_open(CKF_RW_SESSION);
    STEP("login-is-gone", p11->C_GetSessionInfo(session, &info), "state %lu", info.state);
    STEP("last-close", p11->C_CloseSession(session), "");
    session = session_open(0);
    STEP("reopened", p11->C_GetSessionInfo(session, &info), "state %lu flags %lu error %lu",
         info.state, info.flags, info.ulDeviceError);
    CK_SESSION_HANDLE many[64];
    CK_RV worst = CKR_OK;
    for (size_t i = 0; i < COUNT(many); i++) {
        CK_RV rv = p11->C_OpenSession(slot_of_token(), CKF_SERIAL_SESSION, NULL, NULL, &many[i]);
        worst = rv != CKR_OK ? rv : worst;
    }
    STEP("sixty-four-sessions", worst, "");
    CK_TOKEN_INFO token;
    STEP("token-counts", p11->C_GetTokenInfo(slot_of_token(), &token), "sessions %lu of %lu rw %lu of %lu",
         token.ulSessionCount, token.ulMaxSessionCount, token.ulRwSessionCount,
         token.ulMaxRwSessionCount);
}

/* The same operation in many sessions at once, in turns: state belongs to the session. */
static void interleaved(void)
{
    CK_SESSION_HANDLE sessions[8];
    CK_BYTE first[32];
    begin();
    for (size_t i = 0; i < COUNT(sessions); i++) {
        sessions[i] = session_open(CKF_RW_SESSION);
        must(p11->C_SignInit(sessions[i], &hmac, secret), "C_SignInit");
    }
    for (size_t part = 0; part < 4; part++)
        for (size_t i = 0; i < COUNT(sessions); i++)
            must(p11->C_SignUpdate(sessions[i], data + 8 * part, 8), "C_SignUpdate");
    CK_RV worst = CKR_OK;
    for (size_t i = 0; i < COUNT(sessions); i++) {
        CK_RV rv = p11->C_SignFinal(sessions[i], out, room());
        worst = rv != CKR_OK ? rv : worst;
        if (i == 0)
            memcpy(first, out, sizeof first);
        else if (memcmp(first, out, sizeof first) != 0)
            worst = CKR_SIGNATURE_INVALID;
    }
    STEP("eight-sessions", worst, "%s", hex(first, sizeof first));
    STEP("digest-and-encrypt", p11->C_DigestInit(session, &sha256), "");
    STEP("both", p11->C_EncryptInit(session, &ecb, aes), "");
    STEP("dual-update", p11->C_DigestEncryptUpdate(session, data, 32, out, room()), "%lu", length);
}

static const struct test_case cases[] = {
    {"sign", sign},     {"verify", verify}, {"ciphers", ciphers}, {"digest", digest},
    {"find", find},     {"logout", logout}, {"close", close_active}, {"interleaved", interleaved},
    {NULL, NULL},
};

const struct topic sequences_topic = {"sequences", cases};
