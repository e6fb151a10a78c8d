/* Creating, copying, finding and destroying objects; token and session, public and private. */
#include "abi.h"

#include <stdio.h>

static CK_SESSION_HANDLE session;

static void begin(void)
{
    module_initialize();
    session = session_user();
}

static CK_ULONG found_in(CK_SESSION_HANDLE where, CK_ATTRIBUTE *template, CK_ULONG count)
{
    CK_OBJECT_HANDLE objects[64];
    CK_ULONG found = 0;
    if (p11->C_FindObjectsInit(where, template, count) != CKR_OK)
        return CK_UNAVAILABLE_INFORMATION;
    if (p11->C_FindObjects(where, objects, COUNT(objects), &found) != CKR_OK)
        found = CK_UNAVAILABLE_INFORMATION;
    p11->C_FindObjectsFinal(where);
    return found;
}

static CK_RV create_data(CK_SESSION_HANDLE where, const char *label, bool token, bool private,
                         CK_OBJECT_HANDLE *object)
{
    CK_ATTRIBUTE template[] = {
        ATTR_ULONG(CKA_CLASS, CKO_DATA),
        {CKA_TOKEN, token ? &ck_true : &ck_false, 1},
        {CKA_PRIVATE, private ? &ck_true : &ck_false, 1},
        {CKA_LABEL, (void *)label, strlen(label)},
        ATTR_TEXT(CKA_VALUE, "value"),
    };
    return p11->C_CreateObject(where, template, COUNT(template), object);
}

static void find(void)
{
    CK_OBJECT_HANDLE objects[32];
    CK_ULONG count;
    CK_ATTRIBUTE by_label[] = {ATTR_TEXT(CKA_LABEL, "even")},
                 by_both[] = {ATTR_TEXT(CKA_LABEL, "even"), ATTR_ULONG(CKA_CLASS, CKO_DATA)},
                 by_other[] = {ATTR_TEXT(CKA_LABEL, "even"), ATTR_ULONG(CKA_CLASS, CKO_SECRET_KEY)},
                 by_empty[] = {{CKA_LABEL, "", 0}}, by_value[] = {ATTR_TEXT(CKA_VALUE, "v")},
                 by_prefix[] = {ATTR_TEXT(CKA_LABEL, "eve")},
                 by_class[] = {ATTR_ULONG(CKA_CLASS, CKO_DATA)},
                 by_private[] = {ATTR_TRUE(CKA_PRIVATE)}, by_token[] = {ATTR_TRUE(CKA_TOKEN)},
                 by_unknown[] = {ATTR_TEXT(CKA_VENDOR_DEFINED | 3, "x")};
    begin();
    for (int i = 0; i < 20; i++)
        make_data(session, i % 2 ? "odd" : "even", "v");
    make_data(session, "", "nameless");
    STEP("all", CKR_OK, "%s", len(found_in(session, NULL, 0)));
    STEP("label", CKR_OK, "%s", len(found_in(session, by_label, 1)));
    STEP("label-class", CKR_OK, "%s", len(found_in(session, by_both, 2)));
    STEP("label-other-class", CKR_OK, "%s", len(found_in(session, by_other, 2)));
    STEP("empty-label", CKR_OK, "%s", len(found_in(session, by_empty, 1)));
    STEP("value", CKR_OK, "%s", len(found_in(session, by_value, 1)));
    STEP("prefix", CKR_OK, "%s", len(found_in(session, by_prefix, 1)));
    STEP("class", CKR_OK, "%s", len(found_in(session, by_class, 1)));
    STEP("private", CKR_OK, "%s", len(found_in(session, by_private, 1)));
    STEP("token", CKR_OK, "%s", len(found_in(session, by_token, 1)));
    STEP("unknown", CKR_OK, "%s", len(found_in(session, by_unknown, 1)));
    STEP("init", p11->C_FindObjectsInit(session, by_class, 1), "");
    STEP("three", p11->C_FindObjects(session, objects, 3, &count), "%lu", count);
    STEP("none", p11->C_FindObjects(session, objects, 0, &count), "%lu", count);
    CK_OBJECT_HANDLE late = make_data(session, "late", "v");
    STEP("destroy-unfound", p11->C_DestroyObject(session, late), "");
    STEP("twenty", p11->C_FindObjects(session, objects, 20, &count), "%lu", count);
    STEP("rest", p11->C_FindObjects(session, objects, 20, &count), "%lu", count);
    STEP("beyond", p11->C_FindObjects(session, objects, 20, &count), "%lu", count);
    STEP("final", p11->C_FindObjectsFinal(session), "");
    STEP("other-session", CKR_OK, "%s", len(found_in(session_open(0), by_class, 1)));
}

static void many(void)
{
    static CK_OBJECT_HANDLE objects[2000];
    CK_ULONG count = 0;
    begin();
    for (int i = 0; i < 1000; i++)
        make_data(session, "one of many", "v");
    must(p11->C_FindObjectsInit(session, NULL, 0), "C_FindObjectsInit");
    STEP("thousand", p11->C_FindObjects(session, objects, COUNT(objects), &count), "%lu", count);
    CK_ULONG twins = 0;
    for (CK_ULONG i = 0; i + 1 < count; i++)
        for (CK_ULONG j = i + 1; j < count; j++)
            twins += objects[i] == objects[j];
    STEP("distinct", CKR_OK, "%lu", twins);
}

static void large_value(void)
{
    static CK_BYTE value[1 << 20], back[1 << 20];
    for (size_t i = 0; i < sizeof value; i++)
        value[i] = (CK_BYTE)(i * 31 + (i >> 8));
    CK_ATTRIBUTE template[] = {
        ATTR_ULONG(CKA_CLASS, CKO_DATA),
        ATTR_FALSE(CKA_PRIVATE),
        {CKA_VALUE, value, sizeof value},
    };
    CK_ATTRIBUTE read = {CKA_VALUE, back, sizeof back};
    CK_OBJECT_HANDLE object;
    begin();
    STEP("create", p11->C_CreateObject(session, template, COUNT(template), &object), "");
    STEP("read", p11->C_GetAttributeValue(session, object, &read, 1), "%s %s",
         len(read.ulValueLen), hex(back, sizeof back));
    CK_MECHANISM digest = {CKM_SHA256, NULL, 0};
    CK_BYTE out[32];
    CK_ULONG length = sizeof out;
    STEP("digest-init", p11->C_DigestInit(session, &digest), "");
    STEP("digest", p11->C_Digest(session, value, sizeof value, out, &length), "%s", hex(out, length));
    STEP("random", p11->C_GenerateRandom(session, back, sizeof back), "");
    CK_MECHANISM ecb = {CKM_AES_ECB, NULL, 0};
    length = sizeof back;
    STEP("encrypt-init", p11->C_EncryptInit(session, &ecb, make_aes(session, 16)), "");
    STEP("encrypt", p11->C_Encrypt(session, value, sizeof value, back, &length), "%lu %s", length,
         hex(back, length));
}

static void storage(void)
{
    CK_OBJECT_HANDLE object, copy;
    CK_ATTRIBUTE by_label[] = {ATTR_TEXT(CKA_LABEL, "stored")},
                 new_label[] = {ATTR_TEXT(CKA_LABEL, "copied")},
                 to_session[] = {ATTR_FALSE(CKA_TOKEN), ATTR_TEXT(CKA_LABEL, "copied")};
    CK_ULONG size = 0;
    begin();
    CK_SESSION_HANDLE reader = session_open(0);
    STEP("public-token", create_data(session, "stored", true, false, &object), "");
    STEP("found-by-other", CKR_OK, "%s", len(found_in(reader, by_label, 1)));
    STEP("size", p11->C_GetObjectSize(session, object, &size), "%s", len(size));
    STEP("destroy-read-only", p11->C_DestroyObject(reader, object), "");
    STEP("set-read-only", p11->C_SetAttributeValue(reader, object, new_label, 1), "");
    STEP("copy-read-only", p11->C_CopyObject(reader, object, new_label, 1, &copy), "");
    STEP("copy-to-session", p11->C_CopyObject(reader, object, to_session, 2, &copy), "");
    STEP("copy", p11->C_CopyObject(session, object, new_label, 1, &copy), "");
    STEP("copies", CKR_OK, "%s", len(found_in(session, new_label, 1)));
    STEP("destroy-copy", p11->C_DestroyObject(session, copy), "");
    STEP("set", p11->C_SetAttributeValue(session, object, new_label, 1), "");
    STEP("renamed", CKR_OK, "%s", len(found_in(reader, new_label, 1)));
    STEP("destroy", p11->C_DestroyObject(session, object), "");
    STEP("gone", p11->C_GetObjectSize(reader, object, &size), "");
    STEP("private-token", create_data(session, "stored", true, true, &object), "");
    STEP("create-read-only", create_data(reader, "stored", true, false, &copy), "");
    STEP("session-object-read-only", create_data(reader, "passing", false, false, &copy), "");
    STEP("logout", p11->C_Logout(session), "");
    STEP("private-hidden", CKR_OK, "%s", len(found_in(session, by_label, 1)));
    STEP("private-handle", p11->C_GetObjectSize(session, object, &size), "");
    STEP("private-public-session", create_data(session, "stored", true, true, &copy), "");
    STEP("public-public-session", create_data(session, "public", false, false, &copy), "");
    STEP("login", login_user(session), "");
    STEP("private-seen", CKR_OK, "%s", len(found_in(session, by_label, 1)));
    CK_OBJECT_HANDLE found[4];
    CK_ULONG count = 0;
    must(p11->C_FindObjectsInit(session, by_label, 1), "C_FindObjectsInit");
    must(p11->C_FindObjects(session, found, 4, &count), "C_FindObjects");
    must(p11->C_FindObjectsFinal(session), "C_FindObjectsFinal");
    for (CK_ULONG i = 0; i < count; i++)
        STEP("destroy-private", p11->C_DestroyObject(session, found[i]), "");
}

/* A token object outlives its process; a session object does not outlive its session. */
static void persistence(void)
{
    CK_OBJECT_HANDLE object;
    CK_ATTRIBUTE by_label[] = {ATTR_TEXT(CKA_LABEL, "lasting")};
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    begin();
    STEP("token", create_data(session, "lasting", true, false, &object), "");
    STEP("session", create_data(session, "lasting", false, false, &object), "");
    STEP("both", CKR_OK, "%s", len(found_in(session, by_label, 1)));
    STEP("finalize", p11->C_Finalize(NULL), "");
    STEP("initialize", p11->C_Initialize(&args), "");
    session = session_user();
    STEP("one", CKR_OK, "%s", len(found_in(session, by_label, 1)));
    CK_ULONG count;
    must(p11->C_FindObjectsInit(session, by_label, 1), "C_FindObjectsInit");
    must(p11->C_FindObjects(session, &object, 1, &count), "C_FindObjects");
    must(p11->C_FindObjectsFinal(session), "C_FindObjectsFinal");
    STEP("destroy", p11->C_DestroyObject(session, object), "");
}

static void templates(void)
{
    static CK_BYTE value[16];
    CK_ATTRIBUTE whole[] = {
        ATTR_ULONG(CKA_CLASS, CKO_SECRET_KEY),
        ATTR_ULONG(CKA_KEY_TYPE, CKK_AES),
        ATTR_BYTES(CKA_VALUE, value),
    };
    CK_ATTRIBUTE extra[] = {
        ATTR_TRUE(CKA_LOCAL),         ATTR_TRUE(CKA_ALWAYS_SENSITIVE),
        ATTR_TRUE(CKA_MODIFIABLE),    ATTR_FALSE(CKA_MODIFIABLE),
        ATTR_TRUE(CKA_TRUSTED),       ATTR_TRUE(CKA_WRAP_WITH_TRUSTED),
        ATTR_ULONG(CKA_VALUE_LEN, 16), ATTR_ULONG(CKA_MODULUS_BITS, 1024),
        ATTR_TEXT(CKA_ID, "id"),      ATTR_BYTES(CKA_VALUE, value),
        ATTR_ULONG(CKA_CLASS, CKO_DATA), ATTR_TEXT(CKA_START_DATE, "20260101"),
        ATTR_TEXT(CKA_APPLICATION, "application"), ATTR_TRUE(CKA_COPYABLE),
        ATTR_FALSE(CKA_COPYABLE),     ATTR_FALSE(CKA_DESTROYABLE),
        ATTR_TEXT(CKA_VENDOR_DEFINED | 1, "vendor"), ATTR_TEXT(CKA_URL, "http://localhost/"),
        ATTR_ULONG(CKA_ALLOWED_MECHANISMS, CKM_AES_ECB),
        {CKA_ALLOWED_MECHANISMS, (CK_ULONG[]){CKM_AES_ECB, CKM_AES_CBC}, 16},
    };
    CK_OBJECT_HANDLE object;
    begin();
    for (CK_ULONG count = 1; count <= COUNT(whole); count++) {
        char name[32];
        snprintf(name, sizeof name, "first-%lu", count);
        PROBE(name, p11->C_CreateObject(session, whole, count, &object), "");
    }
    PROBE("no-class", p11->C_CreateObject(session, whole + 1, 2, &object), "");
    for (size_t i = 0; i < COUNT(extra); i++) {
        char name[48];
        CK_ATTRIBUTE with[] = {whole[0], whole[1], whole[2], extra[i]};
        snprintf(name, sizeof name, "with-%zu-0x%lx", i, extra[i].type);
        PROBE(name, p11->C_CreateObject(session, with, COUNT(with), &object), "");
        PROBE(join("destroy", name, ""), p11->C_DestroyObject(session, object), "");
        PROBE(join("copy", name, ""),
              p11->C_CopyObject(session, make_aes(session, 16), &extra[i], 1, &object), "");
        PROBE(join("set", name, ""),
              p11->C_SetAttributeValue(session, make_aes(session, 16), &extra[i], 1), "");
    }
    CK_ATTRIBUTE certificate[] = {
        ATTR_ULONG(CKA_CLASS, CKO_CERTIFICATE),
        ATTR_ULONG(CKA_CERTIFICATE_TYPE, CKC_X_509),
        ATTR_TEXT(CKA_SUBJECT, "0"),
        ATTR_TEXT(CKA_VALUE, "no certificate at all"),
    };
    PROBE("certificate", p11->C_CreateObject(session, certificate, 4, &object), "");
    PROBE("certificate-no-value", p11->C_CreateObject(session, certificate, 3, &object), "");
    CK_ATTRIBUTE odd_class[] = {ATTR_ULONG(CKA_CLASS, CKO_VENDOR_DEFINED | 1)},
                 mechanism_class[] = {ATTR_ULONG(CKA_CLASS, CKO_MECHANISM)},
                 hardware_class[] = {ATTR_ULONG(CKA_CLASS, CKO_HW_FEATURE)};
    PROBE("vendor-class", p11->C_CreateObject(session, odd_class, 1, &object), "");
    PROBE("mechanism-class", p11->C_CreateObject(session, mechanism_class, 1, &object), "");
    PROBE("hardware-class", p11->C_CreateObject(session, hardware_class, 1, &object), "");
}

static const struct test_case cases[] = {
    {"find", find},       {"many", many},           {"large", large_value},
    {"storage", storage}, {"persistence", persistence}, {"templates", templates},
    {NULL, NULL},
};

const struct topic objects_topic = {"objects", cases};
