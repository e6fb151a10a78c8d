/* Every mechanism of SoftHSM 2.6.1 with its parameters: signing, enciphering, digesting, wrapping,
 * deriving; in one part and in several; and what is said of parameters that do not fit. */
#include "keys.h"

#include <stdio.h>

#define PLAIN(type) {type, NULL, 0}
#define WITH(type, parameter) {type, &(parameter), sizeof(parameter)}

static CK_BYTE data[256] = "two hundred and fifty-six bytes of data, for the mechanisms to work on; "
                           "the rest of them are zeros";
static CK_BYTE iv[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
static CK_ULONG mac_length = 16;
static CK_SESSION_HANDLE session;
static struct key_pair rsa, ec, ed, dsa;
static CK_OBJECT_HANDLE aes, aes_24, aes_32, des3, secret, dh;

static void begin(void)
{
    module_initialize();
    session = session_user();
    rsa = make_rsa(session);
    ec = make_ec(session);
    ed = make_ed(session);
    dsa = make_dsa(session);
    aes = make_aes(session, 16);
    aes_24 = make_aes(session, 24);
    aes_32 = make_aes(session, 32);
    des3 = make_des3(session);
    secret = make_secret(session, 64);
    dh = make_dh(session);
}

/* --- the list itself -------------------------------------------------------------------------- */

static void list(void)
{
    CK_MECHANISM_TYPE types[200];
    CK_ULONG count = COUNT(types);
    module_initialize();
    CK_SLOT_ID slot = slot_of_token();
    STEP("count", p11->C_GetMechanismList(slot, types, &count), "%lu", count);
    for (CK_ULONG i = 0; i < count; i++) {
        /* The module may OR into the flags it is given: let them be zero. */
        CK_MECHANISM_INFO info = {0, 0, 0};
        char name[32];
        snprintf(name, sizeof name, "%02lu", i);
        STEP(name, p11->C_GetMechanismInfo(slot, types[i], &info), "0x%lx %lu-%lu 0x%lx", types[i],
             info.ulMinKeySize, info.ulMaxKeySize, info.flags);
    }
    CK_MECHANISM_INFO info = {0, 0, 0};
    PROBE("unknown", p11->C_GetMechanismInfo(slot, 0x7f001234, &info), "");
    PROBE("vendor", p11->C_GetMechanismInfo(slot, CKM_VENDOR_DEFINED | 1, &info), "");
    PROBE("unavailable", p11->C_GetMechanismInfo(slot, CK_UNAVAILABLE_INFORMATION, &info), "");
}

/* --- signing ---------------------------------------------------------------------------------- */

struct signing {
    const char *name;
    CK_MECHANISM mechanism;
    CK_OBJECT_HANDLE *sign_key, *verify_key;
    CK_ULONG length; /* of the data */
    bool repeats;    /* the signature is the same every time */
};

static void sign_with(const struct signing *how)
{
    CK_BYTE signature[512], again[512];
    CK_ULONG size = 0, length = sizeof signature, parts = sizeof again, half = how->length / 2;
    CK_MECHANISM mechanism = how->mechanism;
    const char *n = how->name;
    PROBE(join(n, "sign-init", ""), p11->C_SignInit(session, &mechanism, *how->sign_key), "");
    PROBE(join(n, "size", ""), p11->C_Sign(session, data, how->length, NULL, &size), "%s", len(size));
    PROBE(join(n, "sign", ""), p11->C_Sign(session, data, how->length, signature, &length), "%s %s",
          len(length), step_rv == CKR_OK && how->repeats ? hex(signature, length) : "");
    PROBE(join(n, "verify-init", ""), p11->C_VerifyInit(session, &mechanism, *how->verify_key), "");
    PROBE(join(n, "verify", ""), p11->C_Verify(session, data, how->length, signature, length), "");
    p11->C_VerifyInit(session, &mechanism, *how->verify_key);
    signature[length / 2] ^= 1;
    PROBE(join(n, "verify-wrong", ""), p11->C_Verify(session, data, how->length, signature, length), "");
    p11->C_VerifyInit(session, &mechanism, *how->verify_key);
    PROBE(join(n, "verify-long", ""), p11->C_Verify(session, data, how->length, signature, length + 1),
          "");
    p11->C_SignInit(session, &mechanism, *how->sign_key);
    PROBE(join(n, "update", ""), p11->C_SignUpdate(session, data, half), "");
    PROBE(join(n, "update-2", ""), p11->C_SignUpdate(session, data + half, how->length - half), "");
    PROBE(join(n, "final", ""), p11->C_SignFinal(session, again, &parts), "%s %s", len(parts),
          step_rv == CKR_OK && how->repeats ? hex(again, parts) : "");
    p11->C_VerifyInit(session, &mechanism, *how->verify_key);
    PROBE(join(n, "verify-update", ""), p11->C_VerifyUpdate(session, data, how->length), "");
    PROBE(join(n, "verify-final", ""), p11->C_VerifyFinal(session, again, parts), "");
    mechanism.pParameter = data, mechanism.ulParameterLen = 3;
    PROBE(join(n, "odd-parameter", ""), p11->C_SignInit(session, &mechanism, *how->sign_key), "");
    p11->C_Sign(session, data, how->length, again, &parts);
    PROBE(join(n, "odd-verify-parameter", ""),
          p11->C_VerifyInit(session, &mechanism, *how->verify_key), "");
    p11->C_Verify(session, data, how->length, again, parts);
}

static void sign_rsa(void)
{
    static CK_BYTE digest_info[] = {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01};
    static CK_RSA_PKCS_PSS_PARAMS pss_1 = {CKM_SHA_1, CKG_MGF1_SHA1, 20},
                                  pss_224 = {CKM_SHA224, CKG_MGF1_SHA224, 28},
                                  pss_256 = {CKM_SHA256, CKG_MGF1_SHA256, 32},
                                  pss_256_0 = {CKM_SHA256, CKG_MGF1_SHA256, 0},
                                  pss_384 = {CKM_SHA384, CKG_MGF1_SHA384, 48},
                                  pss_512 = {CKM_SHA512, CKG_MGF1_SHA512, 64},
                                  pss_mixed = {CKM_SHA256, CKG_MGF1_SHA1, 32},
                                  pss_long = {CKM_SHA256, CKG_MGF1_SHA256, 300};
    static const struct signing ways[] = {
        {"rsa-pkcs", PLAIN(CKM_RSA_PKCS), &rsa.private_key, &rsa.public_key, 51, true},
        {"rsa-pkcs-245", PLAIN(CKM_RSA_PKCS), &rsa.private_key, &rsa.public_key, 117, true},
        {"rsa-raw", PLAIN(CKM_RSA_X_509), &rsa.private_key, &rsa.public_key, 256, true},
        {"rsa-raw-short", PLAIN(CKM_RSA_X_509), &rsa.private_key, &rsa.public_key, 5, true},
        {"md5-rsa", PLAIN(CKM_MD5_RSA_PKCS), &rsa.private_key, &rsa.public_key, 100, true},
        {"sha1-rsa", PLAIN(CKM_SHA1_RSA_PKCS), &rsa.private_key, &rsa.public_key, 100, true},
        {"sha224-rsa", PLAIN(CKM_SHA224_RSA_PKCS), &rsa.private_key, &rsa.public_key, 100, true},
        {"sha256-rsa", PLAIN(CKM_SHA256_RSA_PKCS), &rsa.private_key, &rsa.public_key, 100, true},
        {"sha384-rsa", PLAIN(CKM_SHA384_RSA_PKCS), &rsa.private_key, &rsa.public_key, 100, true},
        {"sha512-rsa", PLAIN(CKM_SHA512_RSA_PKCS), &rsa.private_key, &rsa.public_key, 0, true},
        {"pss", WITH(CKM_RSA_PKCS_PSS, pss_256), &rsa.private_key, &rsa.public_key, 32, false},
        {"pss-no-salt", WITH(CKM_RSA_PKCS_PSS, pss_256_0), &rsa.private_key, &rsa.public_key, 32, true},
        {"pss-wrong-length", WITH(CKM_RSA_PKCS_PSS, pss_256), &rsa.private_key, &rsa.public_key, 20, false},
        {"pss-no-parameter", PLAIN(CKM_RSA_PKCS_PSS), &rsa.private_key, &rsa.public_key, 32, false},
        {"pss-mixed", WITH(CKM_RSA_PKCS_PSS, pss_mixed), &rsa.private_key, &rsa.public_key, 32, false},
        {"sha1-pss", WITH(CKM_SHA1_RSA_PKCS_PSS, pss_1), &rsa.private_key, &rsa.public_key, 100, false},
        {"sha224-pss", WITH(CKM_SHA224_RSA_PKCS_PSS, pss_224), &rsa.private_key, &rsa.public_key, 100, false},
        {"sha256-pss", WITH(CKM_SHA256_RSA_PKCS_PSS, pss_256), &rsa.private_key, &rsa.public_key, 100, false},
        {"sha256-pss-0", WITH(CKM_SHA256_RSA_PKCS_PSS, pss_256_0), &rsa.private_key, &rsa.public_key, 100, true},
        {"sha256-pss-long", WITH(CKM_SHA256_RSA_PKCS_PSS, pss_long), &rsa.private_key, &rsa.public_key, 100, false},
        {"sha384-pss", WITH(CKM_SHA384_RSA_PKCS_PSS, pss_384), &rsa.private_key, &rsa.public_key, 100, false},
        {"sha512-pss", WITH(CKM_SHA512_RSA_PKCS_PSS, pss_512), &rsa.private_key, &rsa.public_key, 100, false},
        {"sha512-pss-other", WITH(CKM_SHA512_RSA_PKCS_PSS, pss_256), &rsa.private_key, &rsa.public_key, 100, false},
    };
    begin();
    memcpy(data + 100, digest_info, sizeof digest_info);
    for (size_t i = 0; i < COUNT(ways); i++)
        sign_with(&ways[i]);
}

static void sign_others(void)
{
    static const struct signing ways[] = {
        {"ecdsa", PLAIN(CKM_ECDSA), &ec.private_key, &ec.public_key, 32, false},
        {"ecdsa-short", PLAIN(CKM_ECDSA), &ec.private_key, &ec.public_key, 7, false},
        {"ecdsa-long", PLAIN(CKM_ECDSA), &ec.private_key, &ec.public_key, 100, false},
        {"ecdsa-sha256", PLAIN(CKM_ECDSA_SHA256), &ec.private_key, &ec.public_key, 100, false},
        {"eddsa", PLAIN(CKM_EDDSA), &ed.private_key, &ed.public_key, 100, true},
        {"eddsa-empty", PLAIN(CKM_EDDSA), &ed.private_key, &ed.public_key, 0, true},
        {"dsa", PLAIN(CKM_DSA), &dsa.private_key, &dsa.public_key, 20, false},
        {"dsa-sha1", PLAIN(CKM_DSA_SHA1), &dsa.private_key, &dsa.public_key, 100, false},
        {"dsa-sha224", PLAIN(CKM_DSA_SHA224), &dsa.private_key, &dsa.public_key, 100, false},
        {"dsa-sha256", PLAIN(CKM_DSA_SHA256), &dsa.private_key, &dsa.public_key, 100, false},
        {"dsa-sha384", PLAIN(CKM_DSA_SHA384), &dsa.private_key, &dsa.public_key, 100, false},
        {"dsa-sha512", PLAIN(CKM_DSA_SHA512), &dsa.private_key, &dsa.public_key, 100, false},
        {"md5-hmac", PLAIN(CKM_MD5_HMAC), &secret, &secret, 100, true},
        {"sha1-hmac", PLAIN(CKM_SHA_1_HMAC), &secret, &secret, 100, true},
        {"sha224-hmac", PLAIN(CKM_SHA224_HMAC), &secret, &secret, 100, true},
        {"sha256-hmac", PLAIN(CKM_SHA256_HMAC), &secret, &secret, 100, true},
        {"sha256-hmac-aes", PLAIN(CKM_SHA256_HMAC), &aes_32, &aes_32, 100, true},
        {"sha384-hmac", PLAIN(CKM_SHA384_HMAC), &secret, &secret, 100, true},
        {"sha512-hmac", PLAIN(CKM_SHA512_HMAC), &secret, &secret, 100, true},
        {"sha256-hmac-general", WITH(CKM_SHA256_HMAC_GENERAL, mac_length), &secret, &secret, 100, true},
        {"aes-cmac", PLAIN(CKM_AES_CMAC), &aes, &aes, 100, true},
        {"aes-cmac-256", PLAIN(CKM_AES_CMAC), &aes_32, &aes_32, 16, true},
        {"des3-cmac", PLAIN(CKM_DES3_CMAC), &des3, &des3, 100, true},
        {"aes-mac", PLAIN(CKM_AES_MAC), &aes, &aes, 64, true},
    };
    begin();
    for (size_t i = 0; i < COUNT(ways); i++)
        sign_with(&ways[i]);
}

/* --- enciphering ------------------------------------------------------------------------------ */

struct cipher {
    const char *name;
    CK_MECHANISM mechanism;
    CK_OBJECT_HANDLE *encrypt_key, *decrypt_key;
    CK_ULONG length;
    bool repeats;
};

static CK_ULONG multipart(const char *n, bool decrypting, const CK_BYTE *in, CK_ULONG length,
                          CK_BYTE *out, CK_ULONG room)
{
    CK_ULONG step = 24, done = 0, total = 0, part = 0;
    CK_RV rv = CKR_OK;
    CK_ULONG lengths[8] = {0};
    for (; done < length && part < COUNT(lengths); part++) {
        CK_ULONG take = length - done < step ? length - done : step, got = room - total;
        CK_BYTE *from = (CK_BYTE *)in + done;
        rv = decrypting ? p11->C_DecryptUpdate(session, from, take, out + total, &got)
                        : p11->C_EncryptUpdate(session, from, take, out + total, &got);
        if (rv != CKR_OK)
            break;
        lengths[part] = got;
        total += got;
        done += take;
    }
    PROBE(join(n, decrypting ? "decrypt-update" : "encrypt-update", ""), rv, "%lu %lu %lu %lu %lu %lu",
          lengths[0], lengths[1], lengths[2], lengths[3], lengths[4], lengths[5]);
    CK_ULONG got = room - total;
    rv = decrypting ? p11->C_DecryptFinal(session, out + total, &got)
                    : p11->C_EncryptFinal(session, out + total, &got);
    PROBE(join(n, decrypting ? "decrypt-final" : "encrypt-final", ""), rv, "%lu",
          rv == CKR_OK ? got : 0);
    return rv == CKR_OK ? total + got : total;
}

static void encrypt_with(const struct cipher *how)
{
    CK_BYTE cipher[512] = {0}, clear[512] = {0}, parts[512] = {0};
    CK_ULONG size = 0, length = sizeof cipher, back = sizeof clear;
    CK_MECHANISM mechanism = how->mechanism;
    const char *n = how->name;
    PROBE(join(n, "encrypt-init", ""), p11->C_EncryptInit(session, &mechanism, *how->encrypt_key), "");
    PROBE(join(n, "size", ""), p11->C_Encrypt(session, data, how->length, NULL, &size), "%s", len(size));
    PROBE(join(n, "encrypt", ""), p11->C_Encrypt(session, data, how->length, cipher, &length), "%s %s",
          len(length), step_rv == CKR_OK && how->repeats ? hex(cipher, length) : "");
    PROBE(join(n, "decrypt-init", ""), p11->C_DecryptInit(session, &mechanism, *how->decrypt_key), "");
    size = 0;
    PROBE(join(n, "decrypt-size", ""), p11->C_Decrypt(session, cipher, length, NULL, &size), "%s",
          len(size));
    PROBE(join(n, "decrypt", ""), p11->C_Decrypt(session, cipher, length, clear, &back), "%s %s",
          len(back), step_rv == CKR_OK ? hex(clear, back) : "");
    p11->C_DecryptInit(session, &mechanism, *how->decrypt_key);
    cipher[length - 1] ^= 1, back = sizeof clear;
    /* What a wrong padding looks like inside is a matter of chance when the text is random. */
    PROBE(join(n, "decrypt-wrong", ""), p11->C_Decrypt(session, cipher, length, clear, &back), "%s",
          how->repeats ? len(back) : "");
    cipher[length - 1] ^= 1;
    p11->C_DecryptInit(session, &mechanism, *how->decrypt_key);
    back = sizeof clear;
    PROBE(join(n, "decrypt-short", ""), p11->C_Decrypt(session, cipher, length - 1, clear, &back), "%s",
          how->repeats ? len(back) : "");
    p11->C_EncryptInit(session, &mechanism, *how->encrypt_key);
    CK_ULONG total = multipart(n, false, data, how->length, parts, sizeof parts);
    PROBE(join(n, "same-in-parts", ""), CKR_OK, "%lu %s", total, how->repeats ? hex(parts, total) : "");
    p11->C_DecryptInit(session, &mechanism, *how->decrypt_key);
    total = multipart(n, true, cipher, length, parts, sizeof parts);
    PROBE(join(n, "clear-in-parts", ""), CKR_OK, "%lu %s", total, hex(parts, total));
    mechanism.pParameter = NULL, mechanism.ulParameterLen = 0;
    CK_SESSION_HANDLE aside = session_open(CKF_RW_SESSION);
    PROBE(join(n, "no-parameter", ""), p11->C_EncryptInit(aside, &mechanism, *how->encrypt_key), "");
    p11->C_CloseSession(aside);
    aside = session_open(CKF_RW_SESSION);
    mechanism.pParameter = data, mechanism.ulParameterLen = 5;
    PROBE(join(n, "odd-parameter", ""), p11->C_EncryptInit(aside, &mechanism, *how->encrypt_key), "");
    p11->C_CloseSession(aside);
    aside = session_open(CKF_RW_SESSION);
    mechanism.pParameter = NULL, mechanism.ulParameterLen = how->mechanism.ulParameterLen;
    PROBE(join(n, "null-parameter", ""), p11->C_DecryptInit(aside, &mechanism, *how->decrypt_key), "");
    p11->C_CloseSession(aside);
}

static void encrypt_symmetric(void)
{
    static CK_AES_CTR_PARAMS ctr = {128, {9, 8, 7, 6, 5, 4, 3, 2, 1}}, ctr_32 = {32, {1}},
                             ctr_0 = {0, {1}}, ctr_200 = {200, {1}};
    static CK_GCM_PARAMS gcm = {iv, 12, 96, data + 40, 20, 128}, gcm_no_aad = {iv, 12, 96, NULL, 0, 128},
                         gcm_short_tag = {iv, 12, 96, data, 5, 96}, gcm_odd_iv = {iv, 16, 128, data, 5, 128},
                         gcm_bits_0 = {iv, 12, 0, data, 5, 128}, gcm_no_iv = {NULL, 0, 0, NULL, 0, 128},
                         gcm_null_iv = {NULL, 12, 96, NULL, 0, 128}, gcm_tag_0 = {iv, 12, 96, data, 5, 0},
                         gcm_tag_7 = {iv, 12, 96, data, 5, 7}, gcm_empty_aad = {iv, 12, 96, data, 0, 128};
    static const struct cipher ways[] = {
        {"aes-ecb", PLAIN(CKM_AES_ECB), &aes, &aes, 64, true},
        {"aes-ecb-192", PLAIN(CKM_AES_ECB), &aes_24, &aes_24, 64, true},
        {"aes-ecb-256", PLAIN(CKM_AES_ECB), &aes_32, &aes_32, 16, true},
        {"aes-ecb-odd", PLAIN(CKM_AES_ECB), &aes, &aes, 50, true},
        {"aes-cbc", WITH(CKM_AES_CBC, iv), &aes, &aes, 64, true},
        {"aes-cbc-256", WITH(CKM_AES_CBC, iv), &aes_32, &aes_32, 128, true},
        {"aes-cbc-odd", WITH(CKM_AES_CBC, iv), &aes, &aes, 50, true},
        {"aes-cbc-pad", WITH(CKM_AES_CBC_PAD, iv), &aes, &aes, 50, true},
        {"aes-cbc-pad-block", WITH(CKM_AES_CBC_PAD, iv), &aes_24, &aes_24, 48, true},
        {"aes-cbc-pad-empty", WITH(CKM_AES_CBC_PAD, iv), &aes, &aes, 0, true},
        {"aes-ctr", WITH(CKM_AES_CTR, ctr), &aes, &aes, 50, true},
        {"aes-ctr-256", WITH(CKM_AES_CTR, ctr), &aes_32, &aes_32, 128, true},
        {"aes-ctr-32", WITH(CKM_AES_CTR, ctr_32), &aes, &aes, 50, true},
        {"aes-ctr-0", WITH(CKM_AES_CTR, ctr_0), &aes, &aes, 50, true},
        {"aes-ctr-200", WITH(CKM_AES_CTR, ctr_200), &aes, &aes, 50, true},
        {"aes-gcm", WITH(CKM_AES_GCM, gcm), &aes, &aes, 50, true},
        {"aes-gcm-256", WITH(CKM_AES_GCM, gcm), &aes_32, &aes_32, 128, true},
        {"aes-gcm-empty", WITH(CKM_AES_GCM, gcm), &aes, &aes, 0, true},
        {"aes-gcm-no-aad", WITH(CKM_AES_GCM, gcm_no_aad), &aes, &aes, 50, true},
        {"aes-gcm-empty-aad", WITH(CKM_AES_GCM, gcm_empty_aad), &aes, &aes, 50, true},
        {"aes-gcm-short-tag", WITH(CKM_AES_GCM, gcm_short_tag), &aes, &aes, 50, true},
        {"aes-gcm-odd-iv", WITH(CKM_AES_GCM, gcm_odd_iv), &aes, &aes, 50, true},
        {"aes-gcm-bits-0", WITH(CKM_AES_GCM, gcm_bits_0), &aes, &aes, 50, true},
        {"aes-gcm-no-iv", WITH(CKM_AES_GCM, gcm_no_iv), &aes, &aes, 50, true},
        {"aes-gcm-tag-0", WITH(CKM_AES_GCM, gcm_tag_0), &aes, &aes, 50, true},
        {"aes-gcm-tag-7", WITH(CKM_AES_GCM, gcm_tag_7), &aes, &aes, 50, true},
        {"des3-ecb", PLAIN(CKM_DES3_ECB), &des3, &des3, 64, true},
        {"des3-cbc", {CKM_DES3_CBC, iv, 8}, &des3, &des3, 64, true},
        {"des3-cbc-pad", {CKM_DES3_CBC_PAD, iv, 8}, &des3, &des3, 50, true},
        {"des-cbc-wrong-key", {CKM_DES_CBC, iv, 8}, &des3, &des3, 64, true},
        {"aes-ofb", WITH(CKM_AES_OFB, iv), &aes, &aes, 50, true},
        {"aes-key-wrap", PLAIN(CKM_AES_KEY_WRAP), &aes, &aes, 64, true},
    };
    begin();
    for (size_t i = 0; i < COUNT(ways); i++)
        encrypt_with(&ways[i]);
    CK_MECHANISM null_iv = WITH(CKM_AES_GCM, gcm_null_iv);
    PROBE("aes-gcm-null-iv", p11->C_EncryptInit(session, &null_iv, aes), "");
}

static void encrypt_rsa(void)
{
    static CK_RSA_PKCS_OAEP_PARAMS
        oaep = {CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, NULL, 0},
        oaep_256 = {CKM_SHA256, CKG_MGF1_SHA256, CKZ_DATA_SPECIFIED, NULL, 0},
        oaep_mixed = {CKM_SHA_1, CKG_MGF1_SHA256, CKZ_DATA_SPECIFIED, NULL, 0},
        oaep_label = {CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, data, 5},
        oaep_null_label = {CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, NULL, 5},
        oaep_source_0 = {CKM_SHA_1, CKG_MGF1_SHA1, 0, NULL, 0};
    static const struct cipher ways[] = {
        {"rsa-pkcs", PLAIN(CKM_RSA_PKCS), &rsa.public_key, &rsa.private_key, 100, false},
        {"rsa-pkcs-empty", PLAIN(CKM_RSA_PKCS), &rsa.public_key, &rsa.private_key, 0, false},
        {"rsa-raw", PLAIN(CKM_RSA_X_509), &rsa.public_key, &rsa.private_key, 256, true},
        {"oaep", WITH(CKM_RSA_PKCS_OAEP, oaep), &rsa.public_key, &rsa.private_key, 100, false},
        {"oaep-256", WITH(CKM_RSA_PKCS_OAEP, oaep_256), &rsa.public_key, &rsa.private_key, 100, false},
        {"oaep-mixed", WITH(CKM_RSA_PKCS_OAEP, oaep_mixed), &rsa.public_key, &rsa.private_key, 100, false},
        {"oaep-label", WITH(CKM_RSA_PKCS_OAEP, oaep_label), &rsa.public_key, &rsa.private_key, 100, false},
        {"oaep-null-label", WITH(CKM_RSA_PKCS_OAEP, oaep_null_label), &rsa.public_key, &rsa.private_key, 100, false},
        {"oaep-source-0", WITH(CKM_RSA_PKCS_OAEP, oaep_source_0), &rsa.public_key, &rsa.private_key, 100, false},
        {"wrong-half", PLAIN(CKM_RSA_PKCS), &rsa.private_key, &rsa.public_key, 20, false},
    };
    begin();
    for (size_t i = 0; i < COUNT(ways); i++)
        encrypt_with(&ways[i]);
}

/* --- digesting -------------------------------------------------------------------------------- */

static void digest(void)
{
    static const struct {
        const char *name;
        CK_MECHANISM_TYPE type;
    } ways[] = {{"md5", CKM_MD5},       {"sha1", CKM_SHA_1},     {"sha224", CKM_SHA224},
                {"sha256", CKM_SHA256}, {"sha384", CKM_SHA384},  {"sha512", CKM_SHA512},
                {"ripemd", CKM_RIPEMD160}, {"md2", CKM_MD2}};
    begin();
    for (size_t i = 0; i < COUNT(ways); i++) {
        CK_BYTE out[64];
        CK_ULONG length = sizeof out;
        CK_MECHANISM mechanism = {ways[i].type, NULL, 0}, odd = {ways[i].type, data, 4};
        const char *n = ways[i].name;
        PROBE(join(n, "init", ""), p11->C_DigestInit(session, &mechanism), "");
        PROBE(join(n, "digest", ""), p11->C_Digest(session, data, 100, out, &length), "%s %s",
              len(length), step_rv == CKR_OK ? hex(out, length) : "");
        length = sizeof out;
        p11->C_DigestInit(session, &mechanism);
        PROBE(join(n, "update", ""), p11->C_DigestUpdate(session, data, 50), "");
        PROBE(join(n, "key", ""), p11->C_DigestKey(session, secret), "");
        PROBE(join(n, "update-2", ""), p11->C_DigestUpdate(session, data + 50, 50), "");
        PROBE(join(n, "final", ""), p11->C_DigestFinal(session, out, &length), "%s %s", len(length),
              step_rv == CKR_OK ? hex(out, length) : "");
        PROBE(join(n, "odd-parameter", ""), p11->C_DigestInit(session, &odd), "");
        length = sizeof out;
        p11->C_Digest(session, data, 1, out, &length);
    }
}

/* --- wrapping and deriving -------------------------------------------------------------------- */

/* Reads back what a key became: its value (or, of an RSA key, its modulus), as a step. */
static void read_back(const char *name, CK_OBJECT_HANDLE key, CK_ATTRIBUTE_TYPE type)
{
    CK_BYTE value[512];
    CK_ATTRIBUTE read = {type, value, sizeof value};
    PROBE(name, p11->C_GetAttributeValue(session, key, &read, 1), "%s %s", len(read.ulValueLen),
          step_rv == CKR_OK ? hex(value, read.ulValueLen) : "");
}

struct wrapping {
    const char *name;
    CK_MECHANISM mechanism;
    CK_OBJECT_HANDLE *wrap_key, *unwrap_key, *target;
    CK_KEY_TYPE type; /* of the target */
    bool repeats;
};

static void wrap(void)
{
    static CK_RSA_PKCS_OAEP_PARAMS oaep = {CKM_SHA_1, CKG_MGF1_SHA1, CKZ_DATA_SPECIFIED, NULL, 0};
    static const struct wrapping ways[] = {
        {"key-wrap-aes", PLAIN(CKM_AES_KEY_WRAP), &aes, &aes, &aes_32, CKK_AES, true},
        {"key-wrap-256", PLAIN(CKM_AES_KEY_WRAP), &aes_32, &aes_32, &aes, CKK_AES, true},
        {"key-wrap-secret", PLAIN(CKM_AES_KEY_WRAP), &aes, &aes, &secret, CKK_GENERIC_SECRET, true},
        {"key-wrap-des3", PLAIN(CKM_AES_KEY_WRAP), &aes, &aes, &des3, CKK_DES3, true},
        {"key-wrap-rsa-key", PLAIN(CKM_AES_KEY_WRAP), &aes, &aes, &rsa.private_key, CKK_RSA, true},
        {"key-wrap-pad-aes", PLAIN(CKM_AES_KEY_WRAP_PAD), &aes, &aes, &aes_24, CKK_AES, true},
        {"key-wrap-pad-rsa-key", PLAIN(CKM_AES_KEY_WRAP_PAD), &aes_32, &aes_32, &rsa.private_key, CKK_RSA, true},
        {"key-wrap-pad-ec-key", PLAIN(CKM_AES_KEY_WRAP_PAD), &aes_32, &aes_32, &ec.private_key, CKK_EC, true},
        {"aes-cbc", WITH(CKM_AES_CBC, iv), &aes, &aes, &aes_32, CKK_AES, true},
        {"aes-cbc-pad", WITH(CKM_AES_CBC_PAD, iv), &aes, &aes, &aes_32, CKK_AES, true},
        {"des3-cbc", {CKM_DES3_CBC, iv, 8}, &des3, &des3, &aes_32, CKK_AES, true},
        {"rsa-pkcs", PLAIN(CKM_RSA_PKCS), &rsa.public_key, &rsa.private_key, &aes, CKK_AES, false},
        {"rsa-oaep", WITH(CKM_RSA_PKCS_OAEP, oaep), &rsa.public_key, &rsa.private_key, &aes, CKK_AES, false},
        {"rsa-pkcs-secret", PLAIN(CKM_RSA_PKCS), &rsa.public_key, &rsa.private_key, &secret, CKK_GENERIC_SECRET, false},
        {"unwrappable", PLAIN(CKM_AES_KEY_WRAP), &aes, &aes, &dsa.private_key, CKK_DSA, false},
        {"wrong-wrapper", PLAIN(CKM_AES_KEY_WRAP), &secret, &secret, &aes, CKK_AES, true},
        {"wrong-mechanism", PLAIN(CKM_AES_GCM), &aes, &aes, &aes, CKK_AES, true},
    };
    begin();
    for (size_t i = 0; i < COUNT(ways); i++) {
        const struct wrapping *how = &ways[i];
        CK_BYTE wrapped[2048] = {0};
        CK_ULONG length = sizeof wrapped, size = 0;
        CK_MECHANISM mechanism = how->mechanism;
        CK_ULONG class = how->type == CKK_RSA || how->type == CKK_EC || how->type == CKK_DSA
                             ? CKO_PRIVATE_KEY
                             : CKO_SECRET_KEY;
        CK_KEY_TYPE type = how->type;
        CK_ATTRIBUTE template[] = {
            {CKA_CLASS, &class, sizeof class}, {CKA_KEY_TYPE, &type, sizeof type},
            ATTR_FALSE(CKA_TOKEN),             ATTR_FALSE(CKA_SENSITIVE),
            ATTR_TRUE(CKA_EXTRACTABLE),
        };
        CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
        const char *n = how->name;
        PROBE(join(n, "size", ""),
              p11->C_WrapKey(session, &mechanism, *how->wrap_key, *how->target, NULL, &size), "%s",
              len(size));
        PROBE(join(n, "wrap", ""),
              p11->C_WrapKey(session, &mechanism, *how->wrap_key, *how->target, wrapped, &length),
              "%s %s", len(length), step_rv == CKR_OK && how->repeats ? hex(wrapped, length) : "");
        PROBE(join(n, "unwrap", ""),
              p11->C_UnwrapKey(session, &mechanism, *how->unwrap_key, wrapped, length, template,
                               COUNT(template), &key), "");
        read_back(join(n, "value", ""), key, class == CKO_SECRET_KEY ? CKA_VALUE : CKA_PRIVATE_EXPONENT);
        read_back(join(n, "length", ""), key, CKA_VALUE_LEN);
        PROBE(join(n, "unwrap-short", ""),
              p11->C_UnwrapKey(session, &mechanism, *how->unwrap_key, wrapped, length - 1, template,
                               COUNT(template), &key), "");
        wrapped[1] ^= 1;
        PROBE(join(n, "unwrap-wrong", ""),
              how->repeats ? p11->C_UnwrapKey(session, &mechanism, *how->unwrap_key, wrapped, length,
                                              template, COUNT(template), &key)
                           : CKR_OK, "");
        wrapped[1] ^= 1;
        PROBE(join(n, "unwrap-bare", ""),
              p11->C_UnwrapKey(session, &mechanism, *how->unwrap_key, wrapped, length, template, 1,
                               &key), "");
    }
}

struct derivation {
    const char *name;
    CK_MECHANISM mechanism;
    CK_OBJECT_HANDLE *base;
    CK_KEY_TYPE type;
    CK_ULONG length; /* 0: left out */
};

static void derive(void)
{
    static CK_ECDH1_DERIVE_PARAMS
        ecdh = {CKD_NULL, 0, NULL, sizeof ec_peer_point, (CK_BYTE_PTR)ec_peer_point},
        ecdh_shared = {CKD_NULL, 4, data, sizeof ec_peer_point, (CK_BYTE_PTR)ec_peer_point},
        ecdh_kdf = {CKD_SHA1_KDF, 0, NULL, sizeof ec_peer_point, (CK_BYTE_PTR)ec_peer_point},
        ecdh_short = {CKD_NULL, 0, NULL, 20, (CK_BYTE_PTR)ec_peer_point},
        ecdh_null = {CKD_NULL, 0, NULL, 65, NULL}, ecdh_none = {CKD_NULL, 0, NULL, 0, NULL};
    static CK_BYTE der_point[sizeof ec_peer_point + 2] = {4, sizeof ec_peer_point};
    static CK_ECDH1_DERIVE_PARAMS ecdh_der = {CKD_NULL, 0, NULL, sizeof der_point, der_point};
    static CK_KEY_DERIVATION_STRING_DATA string = {data, 32}, string_16 = {data, 16}, odd = {data, 7},
                                         null_string = {NULL, 16};
    static CK_AES_CBC_ENCRYPT_DATA_PARAMS aes_cbc = {{1, 2, 3}, data, 32}, aes_cbc_odd = {{1}, data, 9};
    static CK_DES_CBC_ENCRYPT_DATA_PARAMS des_cbc = {{1, 2, 3}, data, 32};
    static const struct derivation ways[] = {
        {"ecdh", WITH(CKM_ECDH1_DERIVE, ecdh), &ec.private_key, CKK_GENERIC_SECRET, 32},
        {"ecdh-short", WITH(CKM_ECDH1_DERIVE, ecdh), &ec.private_key, CKK_GENERIC_SECRET, 16},
        {"ecdh-long", WITH(CKM_ECDH1_DERIVE, ecdh), &ec.private_key, CKK_GENERIC_SECRET, 48},
        {"ecdh-no-length", WITH(CKM_ECDH1_DERIVE, ecdh), &ec.private_key, CKK_GENERIC_SECRET, 0},
        {"ecdh-aes", WITH(CKM_ECDH1_DERIVE, ecdh), &ec.private_key, CKK_AES, 32},
        {"ecdh-des3", WITH(CKM_ECDH1_DERIVE, ecdh), &ec.private_key, CKK_DES3, 0},
        {"ecdh-der-point", WITH(CKM_ECDH1_DERIVE, ecdh_der), &ec.private_key, CKK_GENERIC_SECRET, 32},
        {"ecdh-shared", WITH(CKM_ECDH1_DERIVE, ecdh_shared), &ec.private_key, CKK_GENERIC_SECRET, 32},
        {"ecdh-kdf", WITH(CKM_ECDH1_DERIVE, ecdh_kdf), &ec.private_key, CKK_GENERIC_SECRET, 20},
        {"ecdh-short-point", WITH(CKM_ECDH1_DERIVE, ecdh_short), &ec.private_key, CKK_GENERIC_SECRET, 32},
        {"ecdh-null-point", WITH(CKM_ECDH1_DERIVE, ecdh_null), &ec.private_key, CKK_GENERIC_SECRET, 32},
        {"ecdh-no-point", WITH(CKM_ECDH1_DERIVE, ecdh_none), &ec.private_key, CKK_GENERIC_SECRET, 32},
        {"ecdh-no-parameter", PLAIN(CKM_ECDH1_DERIVE), &ec.private_key, CKK_GENERIC_SECRET, 32},
        {"ecdh-public", WITH(CKM_ECDH1_DERIVE, ecdh), &ec.public_key, CKK_GENERIC_SECRET, 32},
        {"ecdh-rsa", WITH(CKM_ECDH1_DERIVE, ecdh), &rsa.private_key, CKK_GENERIC_SECRET, 32},
        {"dh", {CKM_DH_PKCS_DERIVE, (void *)dh_peer, sizeof dh_peer}, &dh, CKK_GENERIC_SECRET, 128},
        {"dh-aes", {CKM_DH_PKCS_DERIVE, (void *)dh_peer, sizeof dh_peer}, &dh, CKK_AES, 32},
        {"dh-no-parameter", PLAIN(CKM_DH_PKCS_DERIVE), &dh, CKK_GENERIC_SECRET, 32},
        {"aes-ecb-data", WITH(CKM_AES_ECB_ENCRYPT_DATA, string), &aes, CKK_GENERIC_SECRET, 32},
        {"aes-ecb-data-aes", WITH(CKM_AES_ECB_ENCRYPT_DATA, string_16), &aes, CKK_AES, 16},
        {"aes-ecb-data-odd", WITH(CKM_AES_ECB_ENCRYPT_DATA, odd), &aes, CKK_GENERIC_SECRET, 7},
        {"aes-ecb-data-null", WITH(CKM_AES_ECB_ENCRYPT_DATA, null_string), &aes, CKK_GENERIC_SECRET, 16},
        {"aes-cbc-data", WITH(CKM_AES_CBC_ENCRYPT_DATA, aes_cbc), &aes, CKK_GENERIC_SECRET, 32},
        {"aes-cbc-data-odd", WITH(CKM_AES_CBC_ENCRYPT_DATA, aes_cbc_odd), &aes, CKK_GENERIC_SECRET, 9},
        {"des3-ecb-data", WITH(CKM_DES3_ECB_ENCRYPT_DATA, string), &des3, CKK_GENERIC_SECRET, 32},
        {"des3-cbc-data", WITH(CKM_DES3_CBC_ENCRYPT_DATA, des_cbc), &des3, CKK_GENERIC_SECRET, 32},
        {"concatenate", WITH(CKM_CONCATENATE_BASE_AND_DATA, string), &secret, CKK_GENERIC_SECRET, 32},
    };
    begin();
    memcpy(der_point + 2, ec_peer_point, sizeof ec_peer_point);
    for (size_t i = 0; i < COUNT(ways); i++) {
        const struct derivation *how = &ways[i];
        CK_MECHANISM mechanism = how->mechanism;
        CK_KEY_TYPE type = how->type;
        CK_ULONG length = how->length;
        CK_ATTRIBUTE template[] = {
            ATTR_ULONG(CKA_CLASS, CKO_SECRET_KEY), {CKA_KEY_TYPE, &type, sizeof type},
            ATTR_FALSE(CKA_TOKEN),                 ATTR_FALSE(CKA_SENSITIVE),
            ATTR_TRUE(CKA_EXTRACTABLE),            {CKA_VALUE_LEN, &length, sizeof length},
        };
        CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
        PROBE(join(how->name, "derive", ""),
              p11->C_DeriveKey(session, &mechanism, *how->base, template,
                               COUNT(template) - (length == 0), &key), "");
        read_back(join(how->name, "value", ""), key, CKA_VALUE);
        read_back(join(how->name, "check-value", ""), key, CKA_CHECK_VALUE);
    }
}

static const struct test_case cases[] = {
    {"list", list},
    {"sign-rsa", sign_rsa},
    {"sign-others", sign_others},
    {"encrypt-symmetric", encrypt_symmetric},
    {"encrypt-rsa", encrypt_rsa},
    {"digest", digest},
    {"wrap", wrap},
    {"derive", derive},
    {NULL, NULL},
};

const struct topic mechanisms_topic = {"mechanisms", cases};
