/* Generating keys, pairs and domain parameters: the attributes that come with them, never values. */
#include "keys.h"

static CK_SESSION_HANDLE session;

static void begin(void)
{
    module_initialize();
    session = session_user();
}

/* What can be said of a generated object without its random parts. */
static void describe(const char *name, CK_OBJECT_HANDLE object, CK_ATTRIBUTE_TYPE sized)
{
    CK_ULONG class = 77, type = 77, mechanism = 77;
    CK_BBOOL flags[6] = {9, 9, 9, 9, 9, 9};
    CK_ATTRIBUTE read[] = {
        {CKA_CLASS, &class, sizeof class},        {CKA_KEY_TYPE, &type, sizeof type},
        {CKA_KEY_GEN_MECHANISM, &mechanism, sizeof mechanism},
        {CKA_LOCAL, &flags[0], 1},                {CKA_PRIVATE, &flags[1], 1},
        {CKA_SENSITIVE, &flags[2], 1},            {CKA_EXTRACTABLE, &flags[3], 1},
        {CKA_ALWAYS_SENSITIVE, &flags[4], 1},     {CKA_NEVER_EXTRACTABLE, &flags[5], 1},
        {sized, NULL, 0},
    };
    PROBE(join(name, "attributes", ""), p11->C_GetAttributeValue(session, object, read, COUNT(read)),
          "class %lu type %lu by 0x%lx flags %d%d%d%d%d%d size %s", class, type, mechanism, flags[0],
          flags[1], flags[2], flags[3], flags[4], flags[5], len(read[COUNT(read) - 1].ulValueLen));
}

static void secrets(void)
{
    static const struct {
        const char *name;
        CK_MECHANISM_TYPE type;
        CK_ULONG length; /* 0: left out */
    } ways[] = {
        {"aes-16", CKM_AES_KEY_GEN, 16},   {"aes-24", CKM_AES_KEY_GEN, 24},
        {"aes-32", CKM_AES_KEY_GEN, 32},   {"aes-15", CKM_AES_KEY_GEN, 15},
        {"aes-none", CKM_AES_KEY_GEN, 0},  {"des", CKM_DES_KEY_GEN, 0},
        {"des2", CKM_DES2_KEY_GEN, 0},     {"des3", CKM_DES3_KEY_GEN, 0},
        {"des3-length", CKM_DES3_KEY_GEN, 24}, {"generic-1", CKM_GENERIC_SECRET_KEY_GEN, 1},
        {"generic-100", CKM_GENERIC_SECRET_KEY_GEN, 100},
        {"generic-none", CKM_GENERIC_SECRET_KEY_GEN, 0}, {"not-generating", CKM_AES_ECB, 16},
    };
    begin();
    for (size_t i = 0; i < COUNT(ways); i++) {
        CK_MECHANISM mechanism = {ways[i].type, NULL, 0}, odd = {ways[i].type, "odd", 3};
        CK_ULONG length = ways[i].length;
        CK_ATTRIBUTE template[] = {
            ATTR_TEXT(CKA_LABEL, "generated"), ATTR_TRUE(CKA_ENCRYPT), ATTR_TRUE(CKA_DECRYPT),
            ATTR_FALSE(CKA_SENSITIVE),         ATTR_TRUE(CKA_EXTRACTABLE),
            {CKA_VALUE_LEN, &length, sizeof length},
        };
        CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
        CK_ULONG count = COUNT(template) - (length == 0);
        PROBE(join(ways[i].name, "generate", ""),
              p11->C_GenerateKey(session, &mechanism, template, count, &key), "");
        describe(ways[i].name, key, CKA_VALUE);
        PROBE(join(ways[i].name, "odd-parameter", ""),
              p11->C_GenerateKey(session, &odd, template, count, &key), "");
        PROBE(join(ways[i].name, "sensitive", ""),
              p11->C_GenerateKey(session, &mechanism, template + 5, count - 5, &key), "");
        describe(join(ways[i].name, "sensitive", ""), key, CKA_LABEL);
    }
}

static void pair(const char *name, CK_MECHANISM_TYPE type, CK_ATTRIBUTE *public_template,
                 CK_ULONG count, CK_ATTRIBUTE_TYPE sized)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_ATTRIBUTE private_template[] = {ATTR_TRUE(CKA_SIGN), ATTR_TEXT(CKA_ID, "7")};
    struct key_pair keys = {CK_INVALID_HANDLE, CK_INVALID_HANDLE};
    PROBE(join(name, "generate", ""),
          p11->C_GenerateKeyPair(session, &mechanism, public_template, count, private_template,
                                 COUNT(private_template), &keys.public_key, &keys.private_key), "");
    describe(join(name, "public", ""), keys.public_key, sized);
    describe(join(name, "private", ""), keys.private_key, CKA_ID);
}

static void pairs(void)
{
    CK_ATTRIBUTE p256[] = {ATTR_BYTES(CKA_EC_PARAMS, ec_params_p256)},
                 p384[] = {ATTR_BYTES(CKA_EC_PARAMS, ec_params_p384)},
                 p521[] = {ATTR_BYTES(CKA_EC_PARAMS, ec_params_p521)},
                 ed[] = {ATTR_BYTES(CKA_EC_PARAMS, ed_params)},
                 odd[] = {ATTR_TEXT(CKA_EC_PARAMS, "odd")},
                 rsa[] = {ATTR_ULONG(CKA_MODULUS_BITS, 1024),
                          ATTR_BYTES(CKA_PUBLIC_EXPONENT, rsa_public_exponent)},
                 rsa_3[] = {ATTR_ULONG(CKA_MODULUS_BITS, 1024), ATTR_TEXT(CKA_PUBLIC_EXPONENT, "\3")},
                 rsa_small[] = {ATTR_ULONG(CKA_MODULUS_BITS, 100)},
                 rsa_huge[] = {ATTR_ULONG(CKA_MODULUS_BITS, 100000)},
                 dsa[] = {ATTR_BYTES(CKA_PRIME, dsa_prime), ATTR_BYTES(CKA_SUBPRIME, dsa_subprime),
                          ATTR_BYTES(CKA_BASE, dsa_base)},
                 dh[] = {ATTR_BYTES(CKA_PRIME, dh_prime), ATTR_BYTES(CKA_BASE, dh_base)};
    begin();
    pair("p256", CKM_EC_KEY_PAIR_GEN, p256, 1, CKA_EC_POINT);
    pair("p384", CKM_EC_KEY_PAIR_GEN, p384, 1, CKA_EC_POINT);
    pair("p521", CKM_EC_KEY_PAIR_GEN, p521, 1, CKA_EC_POINT);
    pair("ec-odd", CKM_EC_KEY_PAIR_GEN, odd, 1, CKA_EC_POINT);
    pair("ec-none", CKM_EC_KEY_PAIR_GEN, odd, 0, CKA_EC_POINT);
    pair("ed25519", CKM_EC_EDWARDS_KEY_PAIR_GEN, ed, 1, CKA_EC_POINT);
    pair("ed-p256", CKM_EC_EDWARDS_KEY_PAIR_GEN, p256, 1, CKA_EC_POINT);
    pair("rsa", CKM_RSA_PKCS_KEY_PAIR_GEN, rsa, 2, CKA_MODULUS);
    pair("rsa-no-exponent", CKM_RSA_PKCS_KEY_PAIR_GEN, rsa, 1, CKA_MODULUS);
    pair("rsa-3", CKM_RSA_PKCS_KEY_PAIR_GEN, rsa_3, 2, CKA_MODULUS);
    pair("rsa-small", CKM_RSA_PKCS_KEY_PAIR_GEN, rsa_small, 1, CKA_MODULUS);
    pair("rsa-huge", CKM_RSA_PKCS_KEY_PAIR_GEN, rsa_huge, 1, CKA_MODULUS);
    pair("rsa-x931", CKM_RSA_X9_31_KEY_PAIR_GEN, rsa, 2, CKA_MODULUS);
    pair("dsa", CKM_DSA_KEY_PAIR_GEN, dsa, 3, CKA_VALUE);
    pair("dsa-incomplete", CKM_DSA_KEY_PAIR_GEN, dsa, 2, CKA_VALUE);
    pair("dh", CKM_DH_PKCS_KEY_PAIR_GEN, dh, 2, CKA_VALUE);
    pair("dh-incomplete", CKM_DH_PKCS_KEY_PAIR_GEN, dh, 1, CKA_VALUE);
    pair("unknown", 0x7f001234, rsa, 2, CKA_VALUE);
}

static void parameters(void)
{
    CK_MECHANISM dsa = {CKM_DSA_PARAMETER_GEN, NULL, 0}, dh = {CKM_DH_PKCS_PARAMETER_GEN, NULL, 0};
    CK_ATTRIBUTE bits[] = {ATTR_ULONG(CKA_PRIME_BITS, 512)},
                 small[] = {ATTR_ULONG(CKA_PRIME_BITS, 100)};
    CK_OBJECT_HANDLE made = CK_INVALID_HANDLE;
    begin();
    PROBE("dsa", p11->C_GenerateKey(session, &dsa, bits, 1, &made), "");
    describe("dsa", made, CKA_PRIME);
    PROBE("dsa-small", p11->C_GenerateKey(session, &dsa, small, 1, &made), "");
    PROBE("dh-small", p11->C_GenerateKey(session, &dh, small, 1, &made), "");
    PROBE("dh-none", p11->C_GenerateKey(session, &dh, bits, 0, &made), "");
}

static void random_bytes(void)
{
    CK_BYTE first[64] = {0}, second[64] = {0};
    begin();
    STEP("seed", p11->C_SeedRandom(session, first, 16), "");
    STEP("first", p11->C_GenerateRandom(session, first, sizeof first), "");
    STEP("second", p11->C_GenerateRandom(session, second, sizeof second), "%s",
         memcmp(first, second, sizeof first) == 0 ? "EQUAL" : "differs");
    STEP("one", p11->C_GenerateRandom(session, first, 1), "");
}

static const struct test_case cases[] = {
    {"secrets", secrets}, {"pairs", pairs}, {"parameters", parameters},
    {"random", random_bytes}, {NULL, NULL},
};

const struct topic generation_topic = {"generation", cases};
