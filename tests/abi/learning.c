/* The same start again and again, and then once more after something changed: a gateway may spare
 * itself the asking only as long as the answer cannot be another one. */
#include "abi.h"

enum { OFTEN = 6 };

static CK_BYTE data[32] = "thirty-two bytes of data to sign", out[512];
static CK_ULONG length;
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE aes, secret;
static struct key_pair rsa, ec;
static CK_MECHANISM hmac = {CKM_SHA256_HMAC, NULL, 0}, ecb = {CKM_AES_ECB, NULL, 0},
                    sha_rsa = {CKM_SHA256_RSA_PKCS, NULL, 0}, ecdsa = {CKM_ECDSA, NULL, 0},
                    sha256 = {CKM_SHA256, NULL, 0};

static CK_ULONG_PTR room(void)
{
    length = sizeof out;
    return &length;
}

static void begin(void)
{
    module_initialize();
    session = session_user();
    aes = make_aes(session, 16);
    secret = make_secret(session, 64);
    rsa = make_rsa(session);
    ec = make_ec(session);
}

/* Signs often enough for the pair of mechanism and key to be well known. */
static void learn_sign(CK_SESSION_HANDLE where, CK_MECHANISM *mechanism, CK_OBJECT_HANDLE key)
{
    for (int i = 0; i < OFTEN; i++) {
        must(p11->C_SignInit(where, mechanism, key), "C_SignInit");
        must(p11->C_Sign(where, data, sizeof data, out, room()), "C_Sign");
    }
}

static void learn_encrypt(CK_SESSION_HANDLE where)
{
    for (int i = 0; i < OFTEN; i++) {
        must(p11->C_EncryptInit(where, &ecb, aes), "C_EncryptInit");
        must(p11->C_Encrypt(where, data, sizeof data, out, room()), "C_Encrypt");
    }
}

static void sequences(void)
{
    begin();
    learn_sign(session, &hmac, secret);
    STEP("init", p11->C_SignInit(session, &hmac, secret), "");
    STEP("init-again", p11->C_SignInit(session, &hmac, secret), "");
    STEP("init-other", p11->C_SignInit(session, &sha_rsa, rsa.private_key), "");
    STEP("verify-init", p11->C_VerifyInit(session, &hmac, secret), "");
    STEP("digest-init", p11->C_DigestInit(session, &sha256), "");
    STEP("encrypt-init", p11->C_EncryptInit(session, &ecb, aes), "");
    STEP("sign", p11->C_Sign(session, data, 32, out, room()), "%s", hex(out, length));
    STEP("sign-again", p11->C_Sign(session, data, 32, out, room()), "");
    STEP("init-2", p11->C_SignInit(session, &hmac, secret), "");
    STEP("size", p11->C_Sign(session, data, 32, NULL, room()), "%lu", length);
    length = 3;
    STEP("short", p11->C_Sign(session, data, 32, out, &length), "%lu", length);
    STEP("sign-2", p11->C_Sign(session, data, 32, out, room()), "%s", hex(out, length));
    STEP("init-3", p11->C_SignInit(session, &hmac, secret), "");
    STEP("update", p11->C_SignUpdate(session, data, 32), "");
    STEP("sign-after-update", p11->C_Sign(session, data, 32, out, room()), "");
    STEP("final", p11->C_SignFinal(session, out, room()), "%s", hex(out, length));
    STEP("init-4", p11->C_SignInit(session, &hmac, secret), "");
    STEP("final-at-once", p11->C_SignFinal(session, out, room()), "%s", hex(out, length));
    STEP("init-5", p11->C_SignInit(session, &hmac, secret), "");
    STEP("encrypt-instead", p11->C_Encrypt(session, data, 32, out, room()), "");
    STEP("verify-instead", p11->C_Verify(session, data, 32, out, 32), "");
    STEP("digest-instead", p11->C_Digest(session, data, 32, out, room()), "");
    STEP("find-instead", p11->C_FindObjectsInit(session, NULL, 0), "");
    STEP("random-between", p11->C_GenerateRandom(session, out, 16), "");
    STEP("sign-at-last", p11->C_Sign(session, data, 32, out, room()), "%s", hex(out, length));
    learn_encrypt(session);
    STEP("encrypt-init", p11->C_EncryptInit(session, &ecb, aes), "");
    STEP("sign-while-encrypting", p11->C_SignInit(session, &hmac, secret), "");
    STEP("encrypt-odd", p11->C_Encrypt(session, data, 31, out, room()), "");
    STEP("encrypt-after", p11->C_Encrypt(session, data, 32, out, room()), "");
    STEP("null-arguments", p11->C_SignInit(session, &hmac, secret), "");
    STEP("sign-null-length", p11->C_Sign(session, data, 32, out, NULL), "");
    STEP("sign-null-data", p11->C_Sign(session, NULL, 32, out, room()), "");
    STEP("sign-then", p11->C_Sign(session, data, 32, out, room()), "");
}

static void wrong_starts(void)
{
    begin();
    learn_sign(session, &sha_rsa, rsa.private_key);
    STEP("other-mechanism", p11->C_SignInit(session, &ecdsa, rsa.private_key), "");
    STEP("other-key", p11->C_SignInit(session, &sha_rsa, ec.private_key), "");
    STEP("public-key", p11->C_SignInit(session, &sha_rsa, rsa.public_key), "");
    STEP("no-key", p11->C_SignInit(session, &sha_rsa, CK_INVALID_HANDLE), "");
    STEP("parameter", p11->C_SignInit(session, &(CK_MECHANISM){CKM_SHA256_RSA_PKCS, data, 4},
                                      rsa.private_key), "");
    STEP("sign-after-that", p11->C_Sign(session, data, 32, out, room()), "%lu", length);
    STEP("no-session", p11->C_SignInit(0x7ffffffe, &sha_rsa, rsa.private_key), "");
    STEP("null-mechanism", p11->C_SignInit(session, NULL, rsa.private_key), "");
    STEP("again", p11->C_SignInit(session, &sha_rsa, rsa.private_key), "");
    STEP("sign", p11->C_Sign(session, data, 32, out, room()), "%s", hex(out, length));
}

static void key_destroyed(void)
{
    begin();
    learn_sign(session, &hmac, secret);
    STEP("init", p11->C_SignInit(session, &hmac, secret), "");
    STEP("destroy", p11->C_DestroyObject(session, secret), "");
    STEP("sign", p11->C_Sign(session, data, 32, out, room()), "%s", hex(out, length));
    STEP("init-gone", p11->C_SignInit(session, &hmac, secret), "");
    STEP("sign-gone", p11->C_Sign(session, data, 32, out, room()), "");
    CK_SESSION_HANDLE other = session_open(CKF_RW_SESSION);
    CK_OBJECT_HANDLE theirs = make_secret(other, 64);
    learn_sign(session, &hmac, theirs);
    STEP("close-owner", p11->C_CloseSession(other), "");
    STEP("init-closed", p11->C_SignInit(session, &hmac, theirs), "");
    learn_encrypt(session);
    STEP("destroy-aes", p11->C_DestroyObject(session, aes), "");
    STEP("encrypt-init-gone", p11->C_EncryptInit(session, &ecb, aes), "");
}

static void key_changed(void)
{
    CK_ATTRIBUTE no_sign[] = {ATTR_FALSE(CKA_SIGN)}, no_encrypt[] = {ATTR_FALSE(CKA_ENCRYPT)},
                 sign[] = {ATTR_TRUE(CKA_SIGN)};
    begin();
    learn_sign(session, &hmac, secret);
    STEP("forbid", p11->C_SetAttributeValue(session, secret, no_sign, 1), "");
    STEP("init-forbidden", p11->C_SignInit(session, &hmac, secret), "");
    STEP("sign-forbidden", p11->C_Sign(session, data, 32, out, room()), "");
    STEP("allow", p11->C_SetAttributeValue(session, secret, sign, 1), "");
    STEP("init-allowed", p11->C_SignInit(session, &hmac, secret), "");
    STEP("sign-allowed", p11->C_Sign(session, data, 32, out, room()), "%s", hex(out, length));
    learn_encrypt(session);
    STEP("forbid-encrypt", p11->C_SetAttributeValue(session, aes, no_encrypt, 1), "");
    STEP("encrypt-forbidden", p11->C_EncryptInit(session, &ecb, aes), "");
    STEP("encrypt", p11->C_Encrypt(session, data, 32, out, room()), "");
}

static void login_changed(void)
{
    begin();
    CK_SESSION_HANDLE other = session_open(CKF_RW_SESSION);
    learn_sign(session, &hmac, secret);
    learn_sign(other, &hmac, secret);
    STEP("init", p11->C_SignInit(other, &hmac, secret), "");
    STEP("logout", p11->C_Logout(session), "");
    STEP("sign-begun", p11->C_Sign(other, data, 32, out, room()), "");
    STEP("init-logged-out", p11->C_SignInit(session, &hmac, secret), "");
    STEP("sign-logged-out", p11->C_Sign(session, data, 32, out, room()), "");
    STEP("login", login_user(session), "");
    STEP("init-old-handle", p11->C_SignInit(session, &hmac, secret), "");
    secret = make_secret(session, 64);
    learn_sign(session, &hmac, secret);
    STEP("init-new", p11->C_SignInit(session, &hmac, secret), "");
    STEP("close", p11->C_CloseSession(session), "");
    STEP("sign-closed", p11->C_Sign(session, data, 32, out, room()), "");
    STEP("init-closed", p11->C_SignInit(session, &hmac, secret), "");
}

static void many_sessions(void)
{
    CK_SESSION_HANDLE sessions[4];
    begin();
    for (size_t i = 0; i < COUNT(sessions); i++) {
        sessions[i] = session_open(0);
        learn_sign(sessions[i], &sha_rsa, rsa.private_key);
    }
    for (size_t i = 0; i < COUNT(sessions); i++)
        must(p11->C_SignInit(sessions[i], i % 2 ? &sha_rsa : &ecdsa,
                             i % 2 ? rsa.private_key : ec.private_key), "C_SignInit");
    for (size_t i = 0; i < COUNT(sessions); i++)
        STEP("in-turn", p11->C_Sign(sessions[i], data, 32, out, room()), "%lu", length);
    STEP("nothing-left", p11->C_Sign(sessions[0], data, 32, out, room()), "");
    STEP("last-init", p11->C_SignInit(sessions[0], &ecdsa, ec.private_key), "");
    STEP("close-all", p11->C_CloseAllSessions(slot_of_token()), "");
    STEP("sign-after", p11->C_Sign(sessions[0], data, 32, out, room()), "");
    CK_SESSION_HANDLE fresh = session_user();
    STEP("init-in-fresh", p11->C_SignInit(fresh, &sha_rsa, rsa.private_key), "");
}

/* What an application reads twice must be what it is the second time. */
static void readings(void)
{
    CK_TOKEN_INFO info;
    CK_SESSION_INFO state;
    CK_BYTE text[32];
    CK_ULONG count = 0;
    begin();
    CK_SLOT_ID slot = slot_of_token();
    CK_ATTRIBUTE label = {CKA_LABEL, text, sizeof text}, first = ATTR_TEXT(CKA_LABEL, "first"),
                 second = ATTR_TEXT(CKA_LABEL, "second label");
    const CK_ATTRIBUTE *labels[] = {&first, &second};
    for (size_t i = 0; i < COUNT(labels); i++) {
        CK_ATTRIBUTE set = *labels[i];
        must(p11->C_SetAttributeValue(session, aes, &set, 1), "C_SetAttributeValue");
        label.ulValueLen = sizeof text;
        STEP("label", p11->C_GetAttributeValue(session, aes, &label, 1), "%s",
             hex(text, label.ulValueLen));
    }
    STEP("token", p11->C_GetTokenInfo(slot, &info), "sessions %s flags 0x%lx",
         len(info.ulSessionCount), info.flags);
    CK_SESSION_HANDLE other = session_open(0);
    STEP("token-more-sessions", p11->C_GetTokenInfo(slot, &info), "sessions %s rw %s",
         len(info.ulSessionCount), len(info.ulRwSessionCount));
    STEP("state", p11->C_GetSessionInfo(other, &state), "%lu", state.state);
    STEP("logout", p11->C_Logout(session), "");
    STEP("state-after-logout", p11->C_GetSessionInfo(other, &state), "%lu", state.state);
    STEP("wrong-pin", p11->C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR) "87654321", 8), "");
    STEP("flags-after-wrong", p11->C_GetTokenInfo(slot, &info), "0x%lx", info.flags);
    STEP("login", login_user(session), "");
    STEP("flags-after-right", p11->C_GetTokenInfo(slot, &info), "0x%lx", info.flags);
    STEP("state-after-login", p11->C_GetSessionInfo(other, &state), "%lu", state.state);
    STEP("mechanisms", p11->C_GetMechanismList(slot, NULL, &count), "%lu", count);
    STEP("mechanisms-again", p11->C_GetMechanismList(slot, NULL, &count), "%lu", count);
    CK_ULONG size = 0;
    STEP("size", p11->C_GetObjectSize(session, rsa.public_key, &size), "%s", len(size));
    STEP("destroy", p11->C_DestroyObject(session, rsa.public_key), "");
    CK_ATTRIBUTE modulus = {CKA_MODULUS, NULL, 0};
    STEP("read-destroyed", p11->C_GetAttributeValue(session, rsa.public_key, &modulus, 1), "%s",
         len(modulus.ulValueLen));
}

static const struct test_case cases[] = {
    {"sequences", sequences},         {"wrong-starts", wrong_starts},
    {"key-destroyed", key_destroyed}, {"key-changed", key_changed},
    {"login-changed", login_changed}, {"many-sessions", many_sessions},
    {"readings", readings},           {NULL, NULL},
};

const struct topic learning_topic = {"learning", cases};
