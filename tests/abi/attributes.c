/* C_GetAttributeValue: what is read, what is refused, and what is said of the length. */
#include "abi.h"

#include <stdio.h>

static CK_SESSION_HANDLE session;

static const CK_ATTRIBUTE_TYPE all_types[] = {
    CKA_CLASS, CKA_TOKEN, CKA_PRIVATE, CKA_LABEL, CKA_APPLICATION, CKA_VALUE, CKA_OBJECT_ID,
    CKA_CERTIFICATE_TYPE, CKA_ISSUER, CKA_SERIAL_NUMBER, CKA_TRUSTED, CKA_CERTIFICATE_CATEGORY,
    CKA_CHECK_VALUE, CKA_KEY_TYPE, CKA_SUBJECT, CKA_ID, CKA_SENSITIVE, CKA_ENCRYPT, CKA_DECRYPT,
    CKA_WRAP, CKA_UNWRAP, CKA_SIGN, CKA_SIGN_RECOVER, CKA_VERIFY, CKA_VERIFY_RECOVER, CKA_DERIVE,
    CKA_START_DATE, CKA_END_DATE, CKA_MODULUS, CKA_MODULUS_BITS, CKA_PUBLIC_EXPONENT,
    CKA_PRIVATE_EXPONENT, CKA_PRIME_1, CKA_COEFFICIENT, CKA_PUBLIC_KEY_INFO, CKA_PRIME,
    CKA_SUBPRIME, CKA_BASE, CKA_VALUE_BITS, CKA_VALUE_LEN, CKA_EXTRACTABLE, CKA_LOCAL,
    CKA_NEVER_EXTRACTABLE, CKA_ALWAYS_SENSITIVE, CKA_KEY_GEN_MECHANISM, CKA_MODIFIABLE,
    CKA_COPYABLE, CKA_DESTROYABLE, CKA_EC_PARAMS, CKA_EC_POINT, CKA_ALWAYS_AUTHENTICATE,
    CKA_WRAP_WITH_TRUSTED, CKA_WRAP_TEMPLATE, CKA_UNWRAP_TEMPLATE, CKA_ALLOWED_MECHANISMS,
    CKA_VENDOR_DEFINED | 0x123,
};

static void begin(void)
{
    module_initialize();
    session = session_user();
}

static void read_each(const char *kind, CK_OBJECT_HANDLE object)
{
    for (size_t i = 0; i < COUNT(all_types); i++) {
        /* Zeroed: a module may take it for templates, with pointers in them. */
        CK_BYTE buffer[1024] = {0};
        char name[32];
        snprintf(name, sizeof name, "0x%lx", all_types[i]);
        CK_ATTRIBUTE size = {all_types[i], NULL, 0}, value = {all_types[i], buffer, sizeof buffer},
                     small = {all_types[i], buffer, 1}, empty = {all_types[i], buffer, 0};
        PROBE(join(kind, name, "size"), p11->C_GetAttributeValue(session, object, &size, 1), "%s",
              len(size.ulValueLen));
        PROBE(join(kind, name, "value"), p11->C_GetAttributeValue(session, object, &value, 1),
              "%s %s", len(value.ulValueLen), step_rv == CKR_OK ? hex(buffer, value.ulValueLen) : "");
        PROBE(join(kind, name, "small"), p11->C_GetAttributeValue(session, object, &small, 1), "%s",
              len(small.ulValueLen));
        PROBE(join(kind, name, "empty"), p11->C_GetAttributeValue(session, object, &empty, 1), "%s",
              len(empty.ulValueLen));
    }
}

static void symmetric(void)
{
    begin();
    read_each("data", make_data(session, "label", ""));
    read_each("aes", make_aes(session, 32));
}

static void rsa(void)
{
    begin();
    struct key_pair rsa = make_rsa(session);
    read_each("public", rsa.public_key);
    read_each("private", rsa.private_key);
}

static void curves(void)
{
    begin();
    struct key_pair ec = make_ec(session), dsa = make_dsa(session);
    read_each("ec-public", ec.public_key);
    read_each("ec-private", ec.private_key);
    read_each("dsa-private", dsa.private_key);
}

static void mixes(void)
{
    CK_BYTE label[8], value[64], point[64];
    CK_ULONG class, type;
    begin();
    CK_ATTRIBUTE secret[] = {
        ATTR_ULONG(CKA_CLASS, CKO_SECRET_KEY), ATTR_ULONG(CKA_KEY_TYPE, CKK_AES),
        ATTR_TEXT(CKA_LABEL, "a long label"),  ATTR_TRUE(CKA_SENSITIVE),
        ATTR_FALSE(CKA_EXTRACTABLE),           ATTR_TEXT(CKA_VALUE, "sixteen bytes !!"),
    };
    CK_OBJECT_HANDLE object;
    must(p11->C_CreateObject(session, secret, COUNT(secret), &object), "C_CreateObject");
#define MIX(name, ...)                                                                             \
    do {                                                                                           \
        CK_ATTRIBUTE mix[] = {__VA_ARGS__};                                                        \
        class = type = 77;                                                                         \
        PROBE(name, p11->C_GetAttributeValue(session, object, mix, COUNT(mix)),                    \
              "%s %s %s %s class %lu type %lu", len(mix[0].ulValueLen),                            \
              COUNT(mix) > 1 ? len(mix[1 % COUNT(mix)].ulValueLen) : "",                           \
              COUNT(mix) > 2 ? len(mix[2 % COUNT(mix)].ulValueLen) : "",                           \
              COUNT(mix) > 3 ? len(mix[3 % COUNT(mix)].ulValueLen) : "", class, type);             \
    } while (0)
    CK_ATTRIBUTE good = {CKA_CLASS, &class, sizeof class}, also = {CKA_KEY_TYPE, &type, sizeof type},
                 sensitive = {CKA_VALUE, value, sizeof value}, small = {CKA_LABEL, label, 4},
                 unknown = {CKA_VENDOR_DEFINED | 9, value, 8}, absent = {CKA_EC_POINT, point, 8},
                 size_only = {CKA_LABEL, NULL, 0}, sensitive_size = {CKA_VALUE, NULL, 0},
                 short_class = {CKA_CLASS, &class, 4}, fits = {CKA_LABEL, value, sizeof value};
    MIX("good-good", good, also);
    MIX("sensitive", sensitive);
    MIX("sensitive-size", sensitive_size);
    MIX("good-sensitive-good", good, sensitive, also);
    MIX("unknown-good", unknown, good);
    MIX("good-unknown-good", good, unknown, also);
    MIX("small-good", small, good);
    MIX("small-sensitive-good", small, sensitive, good);
    MIX("sensitive-small-good", sensitive, small, good);
    MIX("unknown-small-sensitive-good", unknown, small, sensitive, good);
    MIX("sensitive-unknown-good", sensitive, unknown, good);
    MIX("absent-good", absent, good);
    MIX("size-good", size_only, good);
    MIX("short-class", short_class);
    MIX("short-class-good", short_class, also);
    MIX("twice", good, good, fits, fits);
    MIX("all-kinds", size_only, sensitive_size, unknown, also);
#undef MIX
}

static void setting(void)
{
    begin();
    CK_OBJECT_HANDLE key = make_aes(session, 16);
    CK_ATTRIBUTE label = ATTR_TEXT(CKA_LABEL, "new"), id = ATTR_TEXT(CKA_ID, "id"),
                 class = ATTR_ULONG(CKA_CLASS, CKO_DATA), token = ATTR_TRUE(CKA_TOKEN),
                 sensitive = ATTR_TRUE(CKA_SENSITIVE), open = ATTR_FALSE(CKA_SENSITIVE),
                 locked = ATTR_FALSE(CKA_EXTRACTABLE), free = ATTR_TRUE(CKA_EXTRACTABLE),
                 value = ATTR_TEXT(CKA_VALUE, "sixteen bytes !!"), local = ATTR_TRUE(CKA_LOCAL),
                 empty = {CKA_LABEL, "", 0}, private = ATTR_FALSE(CKA_PRIVATE);
    PROBE("label", p11->C_SetAttributeValue(session, key, &label, 1), "");
    PROBE("id", p11->C_SetAttributeValue(session, key, &id, 1), "");
    PROBE("empty-label", p11->C_SetAttributeValue(session, key, &empty, 1), "");
    PROBE("class", p11->C_SetAttributeValue(session, key, &class, 1), "");
    PROBE("token", p11->C_SetAttributeValue(session, key, &token, 1), "");
    PROBE("private", p11->C_SetAttributeValue(session, key, &private, 1), "");
    PROBE("value", p11->C_SetAttributeValue(session, key, &value, 1), "");
    PROBE("local", p11->C_SetAttributeValue(session, key, &local, 1), "");
    PROBE("sensitive", p11->C_SetAttributeValue(session, key, &sensitive, 1), "");
    PROBE("insensitive", p11->C_SetAttributeValue(session, key, &open, 1), "");
    PROBE("unextractable", p11->C_SetAttributeValue(session, key, &locked, 1), "");
    PROBE("extractable", p11->C_SetAttributeValue(session, key, &free, 1), "");
    CK_ATTRIBUTE two[] = {label, class};
    PROBE("good-then-bad", p11->C_SetAttributeValue(session, key, two, 2), "");
    CK_BYTE text[16];
    CK_ATTRIBUTE read = {CKA_LABEL, text, sizeof text};
    PROBE("label-now", p11->C_GetAttributeValue(session, key, &read, 1), "%s %s",
          len(read.ulValueLen), hex(text, read.ulValueLen));
}

/* Templates within templates: set, then read by size and by value, at both depths. */
static void nested(void)
{
    CK_ULONG type = CKK_AES;
    CK_ATTRIBUTE inner[] = {
        ATTR_TRUE(CKA_EXTRACTABLE),
        {CKA_KEY_TYPE, &type, sizeof type},
        ATTR_TEXT(CKA_LABEL, "inner"),
    };
    CK_ATTRIBUTE key[] = {
        ATTR_ULONG(CKA_CLASS, CKO_SECRET_KEY), ATTR_ULONG(CKA_KEY_TYPE, CKK_AES),
        ATTR_TEXT(CKA_VALUE, "sixteen bytes !!"), ATTR_TRUE(CKA_WRAP), ATTR_TRUE(CKA_UNWRAP),
        {CKA_WRAP_TEMPLATE, inner, sizeof inner},
        {CKA_UNWRAP_TEMPLATE, inner, sizeof(CK_ATTRIBUTE)},
        {CKA_ALLOWED_MECHANISMS, (CK_ULONG[]){CKM_AES_KEY_WRAP, CKM_AES_ECB, 0x7f001234}, 24},
    };
    CK_OBJECT_HANDLE object;
    begin();
    STEP("create", p11->C_CreateObject(session, key, COUNT(key), &object), "");
    CK_ATTRIBUTE size = {CKA_WRAP_TEMPLATE, NULL, 0};
    PROBE("size", p11->C_GetAttributeValue(session, object, &size, 1), "%s", len(size.ulValueLen));
    CK_ATTRIBUTE read[3] = {{0, NULL, 0}, {0, NULL, 0}, {0, NULL, 0}};
    CK_ATTRIBUTE outer = {CKA_WRAP_TEMPLATE, read, sizeof read};
    PROBE("inner-sizes", p11->C_GetAttributeValue(session, object, &outer, 1),
          "%s: 0x%lx %s 0x%lx %s 0x%lx %s", len(outer.ulValueLen), read[0].type,
          len(read[0].ulValueLen), read[1].type, len(read[1].ulValueLen), read[2].type,
          len(read[2].ulValueLen));
    CK_BYTE values[3][32];
    for (int i = 0; i < 3; i++)
        read[i] = (CK_ATTRIBUTE){0, values[i], sizeof values[i]};
    outer = (CK_ATTRIBUTE){CKA_WRAP_TEMPLATE, read, sizeof read};
    PROBE("inner-values", p11->C_GetAttributeValue(session, object, &outer, 1), "%s: %s %s %s",
          len(outer.ulValueLen), hex(values[0], read[0].ulValueLen),
          hex(values[1], read[1].ulValueLen), hex(values[2], read[2].ulValueLen));
    for (int i = 0; i < 3; i++)
        read[i] = (CK_ATTRIBUTE){0, values[i], 1};
    outer = (CK_ATTRIBUTE){CKA_WRAP_TEMPLATE, read, sizeof read};
    PROBE("inner-small", p11->C_GetAttributeValue(session, object, &outer, 1), "%s: %s %s %s",
          len(outer.ulValueLen), len(read[0].ulValueLen), len(read[1].ulValueLen),
          len(read[2].ulValueLen));
    outer = (CK_ATTRIBUTE){CKA_WRAP_TEMPLATE, read, sizeof read[0]};
    PROBE("outer-small", p11->C_GetAttributeValue(session, object, &outer, 1), "%s",
          len(outer.ulValueLen));
    read[0] = (CK_ATTRIBUTE){0, values[0], sizeof values[0]};
    outer = (CK_ATTRIBUTE){CKA_UNWRAP_TEMPLATE, read, sizeof read[0]};
    PROBE("unwrap-template", p11->C_GetAttributeValue(session, object, &outer, 1), "%s 0x%lx %s",
          len(outer.ulValueLen), read[0].type, len(read[0].ulValueLen));
    CK_ULONG mechanisms[8] = {0};
    CK_ATTRIBUTE allowed = {CKA_ALLOWED_MECHANISMS, NULL, 0};
    PROBE("allowed-size", p11->C_GetAttributeValue(session, object, &allowed, 1), "%s",
          len(allowed.ulValueLen));
    allowed = (CK_ATTRIBUTE){CKA_ALLOWED_MECHANISMS, mechanisms, sizeof mechanisms};
    PROBE("allowed", p11->C_GetAttributeValue(session, object, &allowed, 1), "%s 0x%lx 0x%lx 0x%lx",
          len(allowed.ulValueLen), mechanisms[0], mechanisms[1], mechanisms[2]);
    allowed = (CK_ATTRIBUTE){CKA_ALLOWED_MECHANISMS, mechanisms, 8};
    PROBE("allowed-small", p11->C_GetAttributeValue(session, object, &allowed, 1), "%s",
          len(allowed.ulValueLen));
    CK_MECHANISM ecb = {CKM_AES_ECB, NULL, 0}, ctr = {CKM_AES_CMAC, NULL, 0};
    PROBE("use-allowed", p11->C_EncryptInit(session, &ecb, object), "");
    PROBE("use-forbidden", p11->C_SignInit(session, &ctr, object), "");
    CK_OBJECT_HANDLE plain = make_aes(session, 16), locked;
    CK_MECHANISM wrap = {CKM_AES_KEY_WRAP, NULL, 0};
    CK_BYTE wrapped[64];
    CK_ULONG length = sizeof wrapped;
    PROBE("wrap-unlike-template", p11->C_WrapKey(session, &wrap, object, plain, wrapped, &length),
          "%lu", length);
    CK_ATTRIBUTE unlike[] = {ATTR_ULONG(CKA_CLASS, CKO_SECRET_KEY), ATTR_ULONG(CKA_KEY_TYPE, CKK_AES),
                             ATTR_FALSE(CKA_EXTRACTABLE)};
    length = sizeof wrapped;
    p11->C_WrapKey(session, &wrap, plain, plain, wrapped, &length);
    PROBE("unwrap-unlike-template",
          p11->C_UnwrapKey(session, &wrap, object, wrapped, length, unlike, 3, &locked), "");
    PROBE("unwrap-like-template",
          p11->C_UnwrapKey(session, &wrap, object, wrapped, length, unlike, 2, &locked), "");
    CK_ATTRIBUTE empty_template[] = {key[0], key[1], key[2], {CKA_WRAP_TEMPLATE, NULL, 0}};
    PROBE("create-empty-template", p11->C_CreateObject(session, empty_template, 4, &object), "");
    size = (CK_ATTRIBUTE){CKA_WRAP_TEMPLATE, NULL, 0};
    PROBE("size-of-none", p11->C_GetAttributeValue(session, plain, &size, 1), "%s",
          len(size.ulValueLen));
}

static const struct test_case cases[] = {
    {"symmetric", symmetric}, {"rsa", rsa},         {"curves", curves},
    {"mixes", mixes},         {"setting", setting}, {"nested", nested},
    {NULL, NULL},
};

const struct topic attributes_topic = {"attributes", cases};
