/* Handles that name nothing: sessions never opened or closed, objects gone, slots that are not. */
#include "every_call.h"

static void all_calls(const char *kind, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE object,
                      CK_SLOT_ID slot)
{
    for (const struct call *each = session_calls; each->name != NULL; each++)
        PROBE(join(kind, each->name, ""), each->run(session, object, slot), "");
}

static void no_session(void)
{
    module_initialize();
    all_calls("zero", CK_INVALID_HANDLE, 1, 0);
    all_calls("large", 0x7ffffffe, 1, 0);
    all_calls("unavailable", CK_UNAVAILABLE_INFORMATION, 1, 0);
}

static void closed_session(void)
{
    module_initialize();
    CK_SESSION_HANDLE keeper = session_user(), session = session_open(CKF_RW_SESSION);
    CK_OBJECT_HANDLE key = make_aes(session, 16), kept = make_aes(keeper, 16);
    CK_ULONG size;
    STEP("close", p11->C_CloseSession(session), "");
    all_calls("closed", session, kept, 0);
    STEP("object-of-closed", p11->C_GetObjectSize(keeper, key, &size), "");
    STEP("object-of-open", p11->C_GetObjectSize(keeper, kept, &size), "");
}

static void no_object(void)
{
    static const CK_OBJECT_HANDLE handles[] = {CK_INVALID_HANDLE, 0x7ffffffe,
                                               CK_UNAVAILABLE_INFORMATION};
    static const char *const names[] = {"zero", "large", "unavailable"};
    module_initialize();
    CK_SESSION_HANDLE keeper = session_user();
    for (size_t i = 0; i < COUNT(handles); i++) {
        for (const struct call *each = session_calls; each->name != NULL; each++) {
            /* Those that end the login would change what the next ones see. */
            if (strcmp(each->name, "C_Logout") == 0 || strcmp(each->name, "C_GenerateKeyPair") == 0)
                continue;
            CK_SESSION_HANDLE session = session_open(CKF_RW_SESSION);
            PROBE(join(names[i], each->name, ""), each->run(session, handles[i], 0), "");
            p11->C_CloseSession(session);
        }
    }
    CK_OBJECT_HANDLE key = make_aes(keeper, 16);
    STEP("destroy", p11->C_DestroyObject(keeper, key), "");
    STEP("destroy-again", p11->C_DestroyObject(keeper, key), "");
    CK_MECHANISM ecb = {CKM_AES_ECB, NULL, 0};
    STEP("encrypt-with-destroyed", p11->C_EncryptInit(keeper, &ecb, key), "");
    key = make_aes(keeper, 16);
    STEP("encrypt-init", p11->C_EncryptInit(keeper, &ecb, key), "");
    STEP("destroy-in-use", p11->C_DestroyObject(keeper, key), "");
    CK_BYTE data[16] = {0}, out[16];
    CK_ULONG length = sizeof out;
    STEP("encrypt-on", p11->C_Encrypt(keeper, data, 16, out, &length), "%s", hex(out, length));
}

static void no_slot(void)
{
    static const CK_SLOT_ID slots[] = {0x7ffffffe, CK_UNAVAILABLE_INFORMATION};
    static const char *const names[] = {"large", "unavailable"};
    module_initialize();
    session_user();
    for (size_t i = 0; i < COUNT(slots); i++)
        for (const struct call *each = slot_calls; each->name != NULL; each++)
            PROBE(join(names[i], each->name, ""), each->run(0, 0, slots[i]), "");
}

/* Calls that need no object, in a session without and with a login. */
static void every_function(const char *kind, bool logged_in)
{
    module_initialize();
    CK_SESSION_HANDLE keeper = logged_in ? session_user() : session_open(CKF_RW_SESSION);
    for (const struct call *each = session_calls; each->name != NULL; each++) {
        if (strcmp(each->name, "C_GenerateKeyPair") == 0 || strcmp(each->name, "C_Logout") == 0 ||
            strcmp(each->name, "C_Login") == 0)
            continue;
        CK_SESSION_HANDLE session = session_open(CKF_RW_SESSION);
        CK_OBJECT_HANDLE object = logged_in ? make_aes(session, 16) : make_data(session, "l", "v");
        PROBE(join(kind, each->name, ""), each->run(session, object, slot_of_token()), "");
        p11->C_CloseSession(session);
    }
    (void)keeper;
}

static void public_session(void)
{
    every_function("public", false);
}

static void user_session(void)
{
    every_function("user", true);
}

static const struct test_case cases[] = {
    {"no-session", no_session},         {"closed-session", closed_session},
    {"no-object", no_object},           {"no-slot", no_slot},
    {"public-session", public_session}, {"user-session", user_session},
    {NULL, NULL},
};

const struct topic handles_topic = {"handles", cases};
