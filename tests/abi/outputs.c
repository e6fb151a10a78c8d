/* What becomes of the length and the buffer: NULL, empty, too small, exact and larger.
 *
 * Each question is asked in a session of its own with the operation started anew; what follows it
 * ("then") shows whether the operation is still active, as the standard wants after CKR_OK with a
 * NULL buffer and after CKR_BUFFER_TOO_SMALL.
 */
#include "abi.h"

enum { ROOM = 2048 };

static CK_BYTE data[64] = "sixty-four bytes of data which every operation here is given, ok";
static CK_SESSION_HANDLE keeper;
static CK_SLOT_ID slot;
static CK_OBJECT_HANDLE aes, aes_32, des3, secret, dsa_key, ec_key, ed_key;
static struct key_pair rsa;
static CK_BYTE rsa_cipher[256], iv[16];
static CK_GCM_PARAMS gcm = {iv, 12, 96, data, 7, 128};
static CK_AES_CTR_PARAMS ctr = {128, {0}};
static CK_RSA_PKCS_OAEP_PARAMS oaep = {CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, NULL, 0};

static void begin(void)
{
    module_initialize();
    keeper = session_user();
    slot = slot_of_token();
    aes = make_aes(keeper, 16);
    aes_32 = make_aes(keeper, 32);
    des3 = make_des3(keeper);
    secret = make_secret(keeper, 64);
    rsa = make_rsa(keeper);
    dsa_key = make_dsa(keeper).private_key;
    ec_key = make_ec(keeper).private_key;
    ed_key = make_ed(keeper).private_key;
    CK_MECHANISM raw = {CKM_RSA_X_509, NULL, 0};
    CK_BYTE block[256] = {0, 2};
    memset(block + 2, 0x5a, sizeof block - 2);
    block[200] = 0; /* 55 bytes of message in PKCS #1 padding */
    CK_ULONG length = sizeof rsa_cipher;
    must(p11->C_EncryptInit(keeper, &raw, rsa.public_key), "C_EncryptInit");
    must(p11->C_Encrypt(keeper, block, sizeof block, rsa_cipher, &length), "C_Encrypt");
}

struct output {
    const char *name;
    bool repeats; /* the bytes are the same every time */
    void (*start)(CK_SESSION_HANDLE session);
    CK_RV (*call)(CK_SESSION_HANDLE session, CK_BYTE_PTR buffer, CK_ULONG_PTR length);
};

static CK_SESSION_HANDLE started(const struct output *output)
{
    CK_SESSION_HANDLE session;
    must(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session),
         "C_OpenSession");
    output->start(session);
    return session;
}

/* One question with room for `asked` bytes (or no buffer), and the same call again afterwards. */
static void ask(const struct output *output, const char *kind, bool with_buffer, CK_ULONG asked)
{
    CK_BYTE buffer[ROOM + 16], again[ROOM];
    memset(buffer, 0xa5, sizeof buffer);
    CK_ULONG length = asked, after = sizeof again;
    CK_SESSION_HANDLE session = started(output);
    PROBE(join(output->name, kind, ""), output->call(session, with_buffer ? buffer : NULL, &length),
          "length %s %s%s", len(length),
          with_buffer && step_rv == CKR_OK && output->repeats ? hex(buffer, length) : "",
          with_buffer && asked < ROOM && buffer[asked] != 0xa5 ? " OVERRUN" : "");
    PROBE(join(output->name, kind, "then"), output->call(session, again, &after), "length %s %s",
          len(after), step_rv == CKR_OK && output->repeats ? hex(again, after) : "");
    p11->C_CloseSession(session);
}

static void questions(const struct output *outputs, size_t count)
{
    begin();
    for (const struct output *each = outputs; each < outputs + count; each++) {
        CK_BYTE buffer[ROOM];
        CK_ULONG exact = sizeof buffer;
        CK_SESSION_HANDLE session = started(each);
        CK_RV rv = each->call(session, buffer, &exact);
        p11->C_CloseSession(session);
        ask(each, "null-0", false, 0);
        ask(each, "null-5", false, 5);
        ask(each, "null-large", false, ROOM);
        ask(each, "buffer-0", true, 0);
        ask(each, "buffer-1", true, 1);
        if (rv == CKR_OK && exact > 0 && exact < ROOM) {
            ask(each, "short", true, exact - 1);
            ask(each, "exact", true, exact);
        }
        ask(each, "large", true, ROOM);
        session = started(each);
        PROBE(join(each->name, "no-length", ""), each->call(session, buffer, NULL), "");
        PROBE(join(each->name, "no-length", "then"), each->call(session, buffer, &exact),
              "length %s", len(exact));
        p11->C_CloseSession(session);
        session = started(each);
        PROBE(join(each->name, "nothing", ""), each->call(session, NULL, NULL), "");
        p11->C_CloseSession(session);
    }
}

/* --- how operations start and go on: one line each ------------------------------------------ */

#define START(name, call)                                                                          \
    static void start_##name(CK_SESSION_HANDLE session)                                            \
    {                                                                                              \
        (void)session;                                                                             \
        call;                                                                                      \
    }
#define GO(name, call)                                                                             \
    static CK_RV go_##name(CK_SESSION_HANDLE session, CK_BYTE_PTR buffer, CK_ULONG_PTR length)     \
    {                                                                                              \
        return call;                                                                               \
    }
#define MECHANISM(type, parameter, size) (&(CK_MECHANISM){type, parameter, size})
#define PLAIN(type) MECHANISM(type, NULL, 0)

START(nothing, (void)0)
START(encrypt_ecb, p11->C_EncryptInit(session, PLAIN(CKM_AES_ECB), aes))
START(encrypt_cbc, p11->C_EncryptInit(session, MECHANISM(CKM_AES_CBC, iv, 16), aes_32))
START(encrypt_pad, p11->C_EncryptInit(session, MECHANISM(CKM_AES_CBC_PAD, iv, 16), aes))
START(encrypt_ctr, p11->C_EncryptInit(session, MECHANISM(CKM_AES_CTR, &ctr, sizeof ctr), aes))
START(encrypt_gcm, p11->C_EncryptInit(session, MECHANISM(CKM_AES_GCM, &gcm, sizeof gcm), aes))
START(encrypt_des3, p11->C_EncryptInit(session, MECHANISM(CKM_DES3_CBC_PAD, iv, 8), des3))
START(encrypt_rsa, p11->C_EncryptInit(session, PLAIN(CKM_RSA_PKCS), rsa.public_key))
START(encrypt_raw, p11->C_EncryptInit(session, PLAIN(CKM_RSA_X_509), rsa.public_key))
START(encrypt_oaep, p11->C_EncryptInit(session, MECHANISM(CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep),
                                       rsa.public_key))
START(decrypt_ecb, p11->C_DecryptInit(session, PLAIN(CKM_AES_ECB), aes))
START(decrypt_pad, p11->C_DecryptInit(session, MECHANISM(CKM_AES_CBC_PAD, iv, 16), aes))
START(decrypt_ctr, p11->C_DecryptInit(session, MECHANISM(CKM_AES_CTR, &ctr, sizeof ctr), aes))
START(decrypt_rsa, p11->C_DecryptInit(session, PLAIN(CKM_RSA_PKCS), rsa.private_key))
START(digest, p11->C_DigestInit(session, PLAIN(CKM_SHA256)))
START(digest_512, p11->C_DigestInit(session, PLAIN(CKM_SHA512)))
START(sign_cmac, p11->C_SignInit(session, PLAIN(CKM_AES_CMAC), aes))
START(sign_hmac, p11->C_SignInit(session, PLAIN(CKM_SHA256_HMAC), secret))
START(sign_rsa, p11->C_SignInit(session, PLAIN(CKM_RSA_PKCS), rsa.private_key))
START(sign_sha_rsa, p11->C_SignInit(session, PLAIN(CKM_SHA256_RSA_PKCS), rsa.private_key))
START(sign_ecdsa, p11->C_SignInit(session, PLAIN(CKM_ECDSA), ec_key))
START(sign_eddsa, p11->C_SignInit(session, PLAIN(CKM_EDDSA), ed_key))
START(sign_dsa, p11->C_SignInit(session, PLAIN(CKM_DSA_SHA256), dsa_key))
START(sign_recover, p11->C_SignRecoverInit(session, PLAIN(CKM_RSA_PKCS), rsa.private_key))
START(verify_recover, p11->C_VerifyRecoverInit(session, PLAIN(CKM_RSA_PKCS), rsa.public_key))

static void start_encrypt_pad_part(CK_SESSION_HANDLE session)
{
    CK_BYTE out[64];
    CK_ULONG length = sizeof out;
    start_encrypt_pad(session);
    p11->C_EncryptUpdate(session, data, 20, out, &length);
}

static void start_encrypt_gcm_part(CK_SESSION_HANDLE session)
{
    CK_BYTE out[64];
    CK_ULONG length = sizeof out;
    start_encrypt_gcm(session);
    p11->C_EncryptUpdate(session, data, 20, out, &length);
}

static CK_BYTE padded[32], gcm_text[36];
static CK_ULONG padded_length, gcm_length;

static void prepare_texts(CK_SESSION_HANDLE session)
{
    padded_length = sizeof padded, gcm_length = sizeof gcm_text;
    start_encrypt_pad(session);
    p11->C_Encrypt(session, data, 20, padded, &padded_length);
    start_encrypt_gcm(session);
    p11->C_Encrypt(session, data, 20, gcm_text, &gcm_length);
}

static void start_decrypt_pad_ready(CK_SESSION_HANDLE session)
{
    prepare_texts(session);
    start_decrypt_pad(session);
}

static void start_decrypt_pad_part(CK_SESSION_HANDLE session)
{
    CK_BYTE out[64];
    CK_ULONG length = sizeof out;
    start_decrypt_pad_ready(session);
    p11->C_DecryptUpdate(session, padded, padded_length, out, &length);
}

static void start_decrypt_gcm_ready(CK_SESSION_HANDLE session)
{
    prepare_texts(session);
    p11->C_DecryptInit(session, MECHANISM(CKM_AES_GCM, &gcm, sizeof gcm), aes);
}

static void start_decrypt_gcm_part(CK_SESSION_HANDLE session)
{
    CK_BYTE out[64];
    CK_ULONG length = sizeof out;
    start_decrypt_gcm_ready(session);
    p11->C_DecryptUpdate(session, gcm_text, gcm_length, out, &length);
}

static void start_digest_part(CK_SESSION_HANDLE session)
{
    start_digest(session);
    p11->C_DigestUpdate(session, data, 20);
}

static void start_hmac_part(CK_SESSION_HANDLE session)
{
    start_sign_hmac(session);
    p11->C_SignUpdate(session, data, 20);
}

static void start_rsa_part(CK_SESSION_HANDLE session)
{
    start_sign_sha_rsa(session);
    p11->C_SignUpdate(session, data, 20);
}

static void start_digest_encrypt(CK_SESSION_HANDLE session)
{
    start_digest(session);
    start_encrypt_ecb(session);
}

static void start_sign_encrypt(CK_SESSION_HANDLE session)
{
    start_sign_hmac(session);
    start_encrypt_ecb(session);
}

GO(slots, ((void)session, length == NULL ? p11->C_GetSlotList(CK_TRUE, (CK_SLOT_ID_PTR)buffer, NULL)
                                         : p11->C_GetSlotList(CK_TRUE, (CK_SLOT_ID_PTR)buffer, length)))
GO(mechanisms, ((void)session, p11->C_GetMechanismList(slot, (CK_MECHANISM_TYPE_PTR)buffer, length)))
GO(state, p11->C_GetOperationState(session, buffer, length))
GO(encrypt_32, p11->C_Encrypt(session, data, 32, buffer, length))
GO(encrypt_20, p11->C_Encrypt(session, data, 20, buffer, length))
GO(encrypt_raw, p11->C_Encrypt(session, rsa_cipher, 256, buffer, length))
GO(encrypt_update_32, p11->C_EncryptUpdate(session, data, 32, buffer, length))
GO(encrypt_update_20, p11->C_EncryptUpdate(session, data, 20, buffer, length))
GO(encrypt_final, p11->C_EncryptFinal(session, buffer, length))
GO(decrypt_32, p11->C_Decrypt(session, data, 32, buffer, length))
GO(decrypt_rsa, p11->C_Decrypt(session, rsa_cipher, 256, buffer, length))
GO(decrypt_pad, p11->C_Decrypt(session, padded, padded_length, buffer, length))
GO(decrypt_gcm, p11->C_Decrypt(session, gcm_text, gcm_length, buffer, length))
GO(decrypt_update_32, p11->C_DecryptUpdate(session, data, 32, buffer, length))
GO(decrypt_update_pad, p11->C_DecryptUpdate(session, padded, padded_length, buffer, length))
GO(decrypt_update_gcm, p11->C_DecryptUpdate(session, gcm_text, gcm_length, buffer, length))
GO(decrypt_final, p11->C_DecryptFinal(session, buffer, length))
GO(digest, p11->C_Digest(session, data, 32, buffer, length))
GO(digest_final, p11->C_DigestFinal(session, buffer, length))
GO(sign, p11->C_Sign(session, data, 32, buffer, length))
GO(sign_final, p11->C_SignFinal(session, buffer, length))
GO(sign_recover, p11->C_SignRecover(session, data, 32, buffer, length))
GO(verify_recover, p11->C_VerifyRecover(session, rsa_cipher, 256, buffer, length))
GO(digest_encrypt, p11->C_DigestEncryptUpdate(session, data, 32, buffer, length))
GO(decrypt_digest, p11->C_DecryptDigestUpdate(session, data, 32, buffer, length))
GO(sign_encrypt, p11->C_SignEncryptUpdate(session, data, 32, buffer, length))
GO(decrypt_verify, p11->C_DecryptVerifyUpdate(session, data, 32, buffer, length))
GO(wrap, p11->C_WrapKey(session, PLAIN(CKM_AES_KEY_WRAP), aes, secret, buffer, length))
GO(wrap_pad, p11->C_WrapKey(session, PLAIN(CKM_AES_KEY_WRAP_PAD), aes, secret, buffer, length))
GO(wrap_rsa, p11->C_WrapKey(session, PLAIN(CKM_RSA_PKCS), rsa.public_key, aes, buffer, length))
GO(wrap_oaep, p11->C_WrapKey(session, MECHANISM(CKM_RSA_PKCS_OAEP, &oaep, sizeof oaep),
                             rsa.public_key, aes, buffer, length))
GO(wrap_private, p11->C_WrapKey(session, PLAIN(CKM_AES_KEY_WRAP_PAD), aes, rsa.private_key, buffer,
                                length))

static void encrypt(void)
{
    static const struct output outputs[] = {
        {"ecb", true, start_encrypt_ecb, go_encrypt_32},
        {"cbc", true, start_encrypt_cbc, go_encrypt_32},
        {"cbc-pad", true, start_encrypt_pad, go_encrypt_20},
        {"ctr", true, start_encrypt_ctr, go_encrypt_20},
        {"gcm", true, start_encrypt_gcm, go_encrypt_20},
        {"des3-pad", true, start_encrypt_des3, go_encrypt_20},
        {"rsa", false, start_encrypt_rsa, go_encrypt_20},
        {"rsa-raw", true, start_encrypt_raw, go_encrypt_raw},
        {"oaep", false, start_encrypt_oaep, go_encrypt_20},
    };
    questions(outputs, COUNT(outputs));
}

static void encrypt_parts(void)
{
    static const struct output outputs[] = {
        {"ecb-update", true, start_encrypt_ecb, go_encrypt_update_32},
        {"cbc-update", true, start_encrypt_cbc, go_encrypt_update_32},
        {"cbc-update-odd", true, start_encrypt_cbc, go_encrypt_update_20},
        {"pad-update", true, start_encrypt_pad, go_encrypt_update_20},
        {"ctr-update", true, start_encrypt_ctr, go_encrypt_update_20},
        {"gcm-update", true, start_encrypt_gcm, go_encrypt_update_20},
        {"ecb-final", true, start_encrypt_ecb, go_encrypt_final},
        {"pad-final", true, start_encrypt_pad_part, go_encrypt_final},
        {"gcm-final", true, start_encrypt_gcm_part, go_encrypt_final},
        {"rsa-update", false, start_encrypt_rsa, go_encrypt_update_20},
        {"final-of-nothing", true, start_nothing, go_encrypt_final},
    };
    questions(outputs, COUNT(outputs));
}

static void decrypt(void)
{
    static const struct output outputs[] = {
        {"ecb", true, start_decrypt_ecb, go_decrypt_32},
        {"ctr", true, start_decrypt_ctr, go_decrypt_32},
        {"cbc-pad", true, start_decrypt_pad_ready, go_decrypt_pad},
        {"cbc-pad-bad", true, start_decrypt_pad, go_decrypt_32},
        {"gcm", true, start_decrypt_gcm_ready, go_decrypt_gcm},
        {"rsa", true, start_decrypt_rsa, go_decrypt_rsa},
    };
    questions(outputs, COUNT(outputs));
}

static void decrypt_parts(void)
{
    static const struct output outputs[] = {
        {"ecb-update", true, start_decrypt_ecb, go_decrypt_update_32},
        {"pad-update", true, start_decrypt_pad_ready, go_decrypt_update_pad},
        {"gcm-update", true, start_decrypt_gcm_ready, go_decrypt_update_gcm},
        {"ecb-final", true, start_decrypt_ecb, go_decrypt_final},
        {"pad-final", true, start_decrypt_pad_part, go_decrypt_final},
        {"gcm-final", true, start_decrypt_gcm_part, go_decrypt_final},
        {"final-of-nothing", true, start_nothing, go_decrypt_final},
    };
    questions(outputs, COUNT(outputs));
}

static void digest(void)
{
    static const struct output outputs[] = {
        {"sha256", true, start_digest, go_digest},
        {"sha512", true, start_digest_512, go_digest},
        {"final", true, start_digest_part, go_digest_final},
        {"final-at-once", true, start_digest, go_digest_final},
        {"final-of-nothing", true, start_nothing, go_digest_final},
    };
    questions(outputs, COUNT(outputs));
}

static void sign(void)
{
    static const struct output outputs[] = {
        {"cmac", true, start_sign_cmac, go_sign},
        {"hmac", true, start_sign_hmac, go_sign},
        {"rsa", true, start_sign_rsa, go_sign},
        {"sha256-rsa", true, start_sign_sha_rsa, go_sign},
        {"ecdsa", false, start_sign_ecdsa, go_sign},
        {"eddsa", true, start_sign_eddsa, go_sign},
        {"dsa", false, start_sign_dsa, go_sign},
        {"hmac-final", true, start_hmac_part, go_sign_final},
        {"rsa-final", true, start_rsa_part, go_sign_final},
        {"final-at-once", true, start_sign_hmac, go_sign_final},
        {"final-of-nothing", true, start_nothing, go_sign_final},
        {"recover", true, start_sign_recover, go_sign_recover},
        {"verify-recover", true, start_verify_recover, go_verify_recover},
    };
    questions(outputs, COUNT(outputs));
}

static void wrap(void)
{
    static const struct output outputs[] = {
        {"key-wrap", true, start_nothing, go_wrap},
        {"key-wrap-pad", true, start_nothing, go_wrap_pad},
        {"private-key", true, start_nothing, go_wrap_private},
        {"rsa", false, start_nothing, go_wrap_rsa},
        {"oaep", false, start_nothing, go_wrap_oaep},
    };
    questions(outputs, COUNT(outputs));
}

/* Lists: the length counts entries, the buffer here has room for as many. */
static void lists(void)
{
    static const struct output outputs[] = {
        {"slots", false, start_nothing, go_slots},
        {"mechanisms", false, start_nothing, go_mechanisms},
    };
    begin();
    for (size_t i = 0; i < COUNT(outputs); i++) {
        static CK_BYTE buffer[4096];
        CK_ULONG count = 0, exact = 400;
        outputs[i].call(0, buffer, &exact);
        static const char *const kinds[] = {"null-0", "null-5", "buffer-0", "short", "exact", "large"};
        CK_ULONG asked[] = {0, 5, 0, exact - 1, exact, 400};
        for (size_t k = 0; k < COUNT(kinds); k++) {
            count = asked[k];
            PROBE(join(outputs[i].name, kinds[k], ""),
                  outputs[i].call(0, k < 2 ? NULL : buffer, &count), "count %s", len(count));
        }
    }
}

static void others(void)
{
    static const struct output outputs[] = {
        {"operation-state", false, start_digest, go_state},
        {"digest-encrypt", true, start_digest_encrypt, go_digest_encrypt},
        {"decrypt-digest", true, start_digest, go_decrypt_digest},
        {"sign-encrypt", true, start_sign_encrypt, go_sign_encrypt},
        {"decrypt-verify", true, start_nothing, go_decrypt_verify},
    };
    questions(outputs, COUNT(outputs));
}

static const struct test_case cases[] = {
    {"encrypt", encrypt}, {"encrypt-parts", encrypt_parts}, {"decrypt", decrypt},
    {"decrypt-parts", decrypt_parts}, {"digest", digest}, {"sign", sign},
    {"wrap", wrap}, {"lists", lists}, {"others", others}, {NULL, NULL},
};

const struct topic outputs_topic = {"outputs", cases};
