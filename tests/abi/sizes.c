/* Much at once: large data, large values, long templates, many sessions; and lengths that claim more
 * room than any answer needs. */
#include "abi.h"

#include <stdio.h>
#include <stdlib.h>

static CK_SESSION_HANDLE session;

static void begin(void)
{
    module_initialize();
    session = session_user();
}

static CK_BYTE *filled(CK_ULONG size)
{
    CK_BYTE *bytes = malloc(size);
    must(bytes == NULL ? CKR_HOST_MEMORY : CKR_OK, "malloc");
    for (CK_ULONG i = 0; i < size; i++)
        bytes[i] = (CK_BYTE)(i * 7 + (i >> 11));
    return bytes;
}

/* Around powers of two, where frames and buffers have their bounds. */
static const CK_ULONG sizes[] = {
    1023,  1024,   4095,    4096,    4097,    16384,   65535,    65536,
    65537, 262144, 1000000, 1048575, 1048576, 1048577, 16777217, 67100000,
    67108864,
};

static CK_BYTE *in, *out;
static CK_ULONG size, length;

/* One call on `size` bytes, in a session of its own: whether it fails must not touch the next. */
#define SIZED(name, start, room, call, ...)                                                        \
    do {                                                                                           \
        CK_SESSION_HANDLE own = session_open(CKF_RW_SESSION);                                      \
        length = (room);                                                                           \
        must(start, #start);                                                                       \
        PROBE(join(name, digits, ""), call, __VA_ARGS__);                                          \
        p11->C_CloseSession(own);                                                                  \
    } while (0)

static void data(void)
{
    CK_MECHANISM sha256 = {CKM_SHA256, NULL, 0}, ecb = {CKM_AES_ECB, NULL, 0},
                 hmac = {CKM_SHA256_HMAC, NULL, 0}, sha_rsa = {CKM_SHA256_RSA_PKCS, NULL, 0};
    begin();
    CK_OBJECT_HANDLE aes = make_aes(session, 16), secret = make_secret(session, 64),
                     rsa = make_rsa(session).private_key;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        char digits[24];
        size = sizes[i];
        in = filled(size), out = malloc(size + 16);
        CK_ULONG whole = size & ~15UL;
        snprintf(digits, sizeof digits, "%lu", size);
        SIZED("digest", p11->C_DigestInit(own, &sha256), size,
              p11->C_Digest(own, in, size, out, &length), "%s",
              step_rv == CKR_OK ? hex(out, length) : "");
        SIZED("digest-update", p11->C_DigestInit(own, &sha256), 0,
              p11->C_DigestUpdate(own, in, size), "");
        SIZED("hmac", p11->C_SignInit(own, &hmac, secret), size,
              p11->C_Sign(own, in, size, out, &length), "%s",
              step_rv == CKR_OK ? hex(out, length) : "");
        SIZED("hmac-update", p11->C_SignInit(own, &hmac, secret), 0,
              p11->C_SignUpdate(own, in, size), "");
        SIZED("sign", p11->C_SignInit(own, &sha_rsa, rsa), size,
              p11->C_Sign(own, in, size, out, &length), "%s",
              step_rv == CKR_OK ? hex(out, length) : "");
        SIZED("encrypt", p11->C_EncryptInit(own, &ecb, aes), size + 16,
              p11->C_Encrypt(own, in, whole, out, &length), "%s %s", len(length),
              step_rv == CKR_OK ? hex(out, length) : "");
        SIZED("encrypt-update", p11->C_EncryptInit(own, &ecb, aes), size + 16,
              p11->C_EncryptUpdate(own, in, whole, out, &length), "%s %s", len(length),
              step_rv == CKR_OK ? hex(out, length) : "");
        SIZED("random", CKR_OK, 0, p11->C_GenerateRandom(own, out, size), "");
        SIZED("seed", CKR_OK, 0, p11->C_SeedRandom(own, in, size), "");
        free(in);
        free(out);
    }
}

static void values(void)
{
    begin();
    for (size_t i = 0; i < COUNT(sizes); i++) {
        size = sizes[i];
        in = filled(size), out = calloc(1, size);
        CK_ATTRIBUTE template[] = {
            ATTR_ULONG(CKA_CLASS, CKO_DATA),
            ATTR_FALSE(CKA_PRIVATE),
            {CKA_VALUE, in, size},
        };
        CK_ATTRIBUTE read = {CKA_VALUE, out, size}, length_only = {CKA_VALUE, NULL, 0};
        CK_OBJECT_HANDLE object = CK_INVALID_HANDLE;
        char name[24];
        snprintf(name, sizeof name, "%lu", size);
        PROBE(join("create", name, ""), p11->C_CreateObject(session, template, 3, &object), "");
        PROBE(join("length", name, ""), p11->C_GetAttributeValue(session, object, &length_only, 1),
              "%s", len(length_only.ulValueLen));
        PROBE(join("read", name, ""), p11->C_GetAttributeValue(session, object, &read, 1), "%s %s",
              len(read.ulValueLen), step_rv == CKR_OK ? hex(out, size) : "");
        PROBE(join("destroy", name, ""), p11->C_DestroyObject(session, object), "");
        free(in);
        free(out);
    }
}

static void templates(void)
{
    static CK_ATTRIBUTE same[5000];
    static CK_BYTE texts[5000][8];
    begin();
    CK_OBJECT_HANDLE object = make_data(session, "label", "value");
    static const CK_ULONG counts[] = {10, 100, 255, 256, 257, 1000, 4096, 5000};
    for (size_t i = 0; i < COUNT(counts); i++) {
        char name[24];
        snprintf(name, sizeof name, "%lu", counts[i]);
        for (CK_ULONG k = 0; k < counts[i]; k++)
            same[k] = (CK_ATTRIBUTE){CKA_LABEL, texts[k], sizeof texts[k]};
        PROBE(join("read", name, ""), p11->C_GetAttributeValue(session, object, same, counts[i]),
              "%s %s", len(same[counts[i] - 1].ulValueLen), hex(texts[counts[i] - 1], 5));
        for (CK_ULONG k = 0; k < counts[i]; k++)
            same[k] = (CK_ATTRIBUTE){CKA_LABEL, "label", 5};
        PROBE(join("find", name, ""), p11->C_FindObjectsInit(session, same, counts[i]), "");
        CK_OBJECT_HANDLE found;
        CK_ULONG count = 77;
        PROBE(join("found", name, ""), p11->C_FindObjects(session, &found, 1, &count), "%lu", count);
        p11->C_FindObjectsFinal(session);
        PROBE(join("set", name, ""), p11->C_SetAttributeValue(session, object, same, counts[i]), "");
    }
}

static void sessions(void)
{
    static CK_SESSION_HANDLE handles[2000];
    CK_RV worst = CKR_OK;
    CK_ULONG twins = 0;
    begin();
    CK_SLOT_ID slot = slot_of_token();
    for (size_t i = 0; i < COUNT(handles); i++) {
        CK_RV rv = p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &handles[i]);
        worst = rv != CKR_OK ? rv : worst;
    }
    STEP("two-thousand", worst, "");
    for (size_t i = 1; i < COUNT(handles); i++)
        twins += handles[i] == handles[i - 1] || handles[i] == CK_INVALID_HANDLE;
    STEP("distinct", CKR_OK, "%lu", twins);
    CK_MECHANISM sha256 = {CKM_SHA256, NULL, 0};
    for (size_t i = 0; i < COUNT(handles); i++) {
        CK_RV rv = p11->C_DigestInit(handles[i], &sha256);
        worst = rv != CKR_OK ? rv : worst;
    }
    STEP("all-digesting", worst, "");
    for (size_t i = 0; i < COUNT(handles); i++) {
        CK_RV rv = p11->C_CloseSession(handles[i]);
        worst = rv != CKR_OK ? rv : worst;
    }
    STEP("all-closed", worst, "");
}

/* The caller's word for the room it has: the answer is small, so any word that is large will do. */
static void claims(void)
{
    static const CK_ULONG claimed[] = {0x10000,    0x1000001,  0x7fffffff,         0x80000000,
                                       0xffffffff, 0x100000000, 0x7fffffffffffffff, ~0UL};
    CK_MECHANISM sha256 = {CKM_SHA256, NULL, 0}, hmac = {CKM_SHA256_HMAC, NULL, 0},
                 ecb = {CKM_AES_ECB, NULL, 0}, wrap = {CKM_AES_KEY_WRAP, NULL, 0};
    static CK_BYTE block[16] = "sixteen bytes !!", room[1024];
    in = block, out = room;
    begin();
    CK_SLOT_ID slot = slot_of_token();
    CK_OBJECT_HANDLE aes = make_aes(session, 16), secret = make_secret(session, 64);
    for (size_t i = 0; i < COUNT(claimed); i++) {
        char name[24];
        length = claimed[i];
        snprintf(name, sizeof name, "0x%lx", claimed[i]);
        p11->C_DigestInit(session, &sha256);
        PROBE(join("digest", name, ""), p11->C_Digest(session, in, 16, out, &length), "%s", len(length));
        length = claimed[i];
        p11->C_SignInit(session, &hmac, secret);
        PROBE(join("sign", name, ""), p11->C_Sign(session, in, 16, out, &length), "%s", len(length));
        length = claimed[i];
        p11->C_EncryptInit(session, &ecb, aes);
        PROBE(join("encrypt", name, ""), p11->C_Encrypt(session, in, 16, out, &length), "%s",
              len(length));
        length = claimed[i];
        PROBE(join("wrap", name, ""), p11->C_WrapKey(session, &wrap, aes, secret, out, &length), "%s",
              len(length));
        length = claimed[i];
        PROBE(join("slots", name, ""), p11->C_GetSlotList(CK_TRUE, (CK_SLOT_ID_PTR)out, &length), "%s",
              len(length));
        length = claimed[i];
        PROBE(join("mechanisms", name, ""),
              p11->C_GetMechanismList(slot, (CK_MECHANISM_TYPE_PTR)out, &length), "%s", len(length));
        CK_ATTRIBUTE read = {CKA_VALUE, out, claimed[i]};
        PROBE(join("attribute", name, ""), p11->C_GetAttributeValue(session, secret, &read, 1), "%s",
              len(read.ulValueLen));
        length = 0;
        p11->C_FindObjectsInit(session, NULL, 0);
        PROBE(join("find", name, ""),
              p11->C_FindObjects(session, (CK_OBJECT_HANDLE_PTR)out, claimed[i], &length), "%s",
              len(length));
        p11->C_FindObjectsFinal(session);
    }
}

static const struct test_case cases[] = {
    {"data", data},         {"values", values}, {"templates", templates},
    {"sessions", sessions}, {"claims", claims}, {NULL, NULL},
};

const struct topic sizes_topic = {"sizes", cases};
