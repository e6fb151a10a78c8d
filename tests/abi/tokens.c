/* Slots, logins, PINs, and tokens that are initialised, also anew. Last of all: it wears the token out. */
#include "abi.h"

#include <stdio.h>

static CK_SESSION_HANDLE session;

static const char *flags_of(CK_SLOT_ID slot)
{
    static char text[64];
    CK_TOKEN_INFO info;
    CK_RV rv = p11->C_GetTokenInfo(slot, &info);
    snprintf(text, sizeof text, "%s 0x%lx", rv_name(rv), rv == CKR_OK ? info.flags : 0);
    return text;
}

static CK_RV login(CK_USER_TYPE user, const char *pin)
{
    return p11->C_Login(session, user, (CK_UTF8CHAR_PTR)pin, strlen(pin));
}

static CK_ULONG state(void)
{
    CK_SESSION_INFO info;
    return p11->C_GetSessionInfo(session, &info) == CKR_OK ? info.state : CK_UNAVAILABLE_INFORMATION;
}

static void slots(void)
{
    CK_ULONG all = 0, present = 0;
    CK_TOKEN_INFO token;
    CK_SLOT_INFO slot_info;
    module_initialize();
    STEP("all", p11->C_GetSlotList(CK_FALSE, NULL, &all), "%lu", all);
    STEP("present", p11->C_GetSlotList(CK_TRUE, NULL, &present), "%lu", present);
    CK_SLOT_ID slot = slot_of_token();
    STEP("slot", p11->C_GetSlotInfo(slot, &slot_info), "flags 0x%lx hw %u.%u fw %u.%u %.32s",
         slot_info.flags, slot_info.hardwareVersion.major, slot_info.hardwareVersion.minor,
         slot_info.firmwareVersion.major, slot_info.firmwareVersion.minor, slot_info.manufacturerID);
    STEP("token", p11->C_GetTokenInfo(slot, &token),
         "[%.32s] [%.32s] [%.16s] flags 0x%lx pin %lu-%lu public %s/%s private %s/%s hw %u.%u fw %u.%u",
         token.label, token.manufacturerID, token.model, token.flags, token.ulMinPinLen,
         token.ulMaxPinLen, len(token.ulTotalPublicMemory), len(token.ulFreePublicMemory),
         len(token.ulTotalPrivateMemory), len(token.ulFreePrivateMemory), token.hardwareVersion.major,
         token.hardwareVersion.minor, token.firmwareVersion.major, token.firmwareVersion.minor);
    STEP("token-sessions", CKR_OK, "%s %s %s %s", len(token.ulMaxSessionCount),
         len(token.ulSessionCount), len(token.ulMaxRwSessionCount), len(token.ulRwSessionCount));
    slot = slot_uninitialised();
    STEP("spare-slot", p11->C_GetSlotInfo(slot, &slot_info), "flags 0x%lx", slot_info.flags);
    STEP("spare", p11->C_GetTokenInfo(slot, &token), "[%.32s] flags 0x%lx", token.label, token.flags);
    CK_ULONG count = 0;
    STEP("spare-mechanisms", p11->C_GetMechanismList(slot, NULL, &count), "%lu", count);
    STEP("spare-session", p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session), "");
}

static void logins(void)
{
    module_initialize();
    session = session_open(CKF_RW_SESSION);
    STEP("public", CKR_OK, "%lu", state());
    STEP("logout-before-login", p11->C_Logout(session), "");
    STEP("wrong", login(CKU_USER, "87654321"), "");
    STEP("flags-after-wrong", CKR_OK, "%s", flags_of(slot_of_token()));
    STEP("short", login(CKU_USER, "1"), "");
    STEP("long", login(CKU_USER, "12345678901234567890123456789012345678901234567890"
                                 "12345678901234567890123456789012345678901234567890"
                                 "12345678901234567890123456789012345678901234567890"
                                 "12345678901234567890123456789012345678901234567890"
                                 "12345678901234567890123456789012345678901234567890"
                                 "12345678901234567890123456789012345678901234567890"), "");
    STEP("unknown-user", login(77, user_pin), "");
    STEP("context-specific", login(CKU_CONTEXT_SPECIFIC, user_pin), "");
    STEP("user", login(CKU_USER, user_pin), "");
    STEP("state", CKR_OK, "%lu", state());
    STEP("flags-after-right", CKR_OK, "%s", flags_of(slot_of_token()));
    STEP("user-again", login(CKU_USER, user_pin), "");
    STEP("user-again-wrong", login(CKU_USER, "87654321"), "");
    STEP("so-as-well", login(CKU_SO, so_pin), "");
    STEP("context-specific-in", login(CKU_CONTEXT_SPECIFIC, user_pin), "");
    STEP("logout", p11->C_Logout(session), "");
    STEP("wrong-so", login(CKU_SO, "87654321"), "");
    STEP("so", login(CKU_SO, so_pin), "");
    STEP("so-state", CKR_OK, "%lu", state());
    STEP("user-as-well", login(CKU_USER, user_pin), "");
    CK_SESSION_HANDLE reader;
    STEP("reader-beside-so",
         p11->C_OpenSession(slot_of_token(), CKF_SERIAL_SESSION, NULL, NULL, &reader), "");
    STEP("so-logout", p11->C_Logout(session), "");
    reader = session_open(0);
    STEP("so-beside-reader", login(CKU_SO, so_pin), "");
    STEP("user-beside-reader", login(CKU_USER, user_pin), "");
    STEP("close", p11->C_CloseSession(session), "");
    session = reader;
    STEP("reader-state", CKR_OK, "%lu", state());
}

static CK_RV set_pin(const char *old, const char *new)
{
    return p11->C_SetPIN(session, (CK_UTF8CHAR_PTR)old, strlen(old), (CK_UTF8CHAR_PTR)new, strlen(new));
}

static void pins(void)
{
    module_initialize();
    session = session_open(CKF_RW_SESSION);
    STEP("set-public", set_pin(user_pin, "newer pin"), "");
    STEP("login-old", login(CKU_USER, user_pin), "");
    STEP("login-new", login(CKU_USER, "newer pin"), "");
    STEP("set-wrong-old", set_pin(user_pin, "newest pin"), "");
    STEP("set-short", set_pin("newer pin", "1"), "");
    STEP("set-empty", set_pin("newer pin", ""), "");
    STEP("set-user", set_pin("newer pin", user_pin), "");
    STEP("init-as-user", p11->C_InitPIN(session, (CK_UTF8CHAR_PTR) "other pin", 9), "");
    STEP("logout", p11->C_Logout(session), "");
    STEP("login-so", login(CKU_SO, so_pin), "");
    STEP("init-short", p11->C_InitPIN(session, (CK_UTF8CHAR_PTR) "1", 1), "");
    STEP("init", p11->C_InitPIN(session, (CK_UTF8CHAR_PTR) "other pin", 9), "");
    STEP("set-so", set_pin(so_pin, "so pin too"), "");
    STEP("set-so-back", set_pin("so pin too", so_pin), "");
    STEP("logout-so", p11->C_Logout(session), "");
    STEP("login-other", login(CKU_USER, "other pin"), "");
    STEP("set-back", set_pin("other pin", user_pin), "");
    STEP("logout-user", p11->C_Logout(session), "");
    STEP("login-user", login(CKU_USER, user_pin), "");
    session = session_open(0);
    STEP("set-read-only", set_pin(user_pin, "newer pin"), "");
}

static CK_RV init_token(CK_SLOT_ID slot, const char *pin, const char *label)
{
    CK_UTF8CHAR padded[33];
    snprintf((char *)padded, sizeof padded, "%-32s", label);
    return p11->C_InitToken(slot, (CK_UTF8CHAR_PTR)pin, strlen(pin), padded);
}

static CK_RV restart(void)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_RV rv = p11->C_Finalize(NULL);
    return rv != CKR_OK ? rv : p11->C_Initialize(&args);
}

static void spare_slot(void)
{
    CK_ULONG count = 0;
    module_initialize();
    CK_SLOT_ID slot = slot_uninitialised();
    STEP("short-pin", init_token(slot, "1", "second"), "");
    STEP("init", init_token(slot, so_pin, "second"), "");
    STEP("slots-now", p11->C_GetSlotList(CK_FALSE, NULL, &count), "%lu", count);
    token_label = "second";
    slot = slot_of_token();
    STEP("flags-now", CKR_OK, "%s", flags_of(slot));
    session = session_open(CKF_RW_SESSION);
    STEP("login-without-pin", login(CKU_USER, user_pin), "");
    STEP("login-so", login(CKU_SO, so_pin), "");
    STEP("init-pin", p11->C_InitPIN(session, (CK_UTF8CHAR_PTR) "second pin", 10), "");
    STEP("flags-with-pin", CKR_OK, "%s", flags_of(slot));
    STEP("init-with-session", init_token(slot, so_pin, "second"), "");
    STEP("logout", p11->C_Logout(session), "");
    STEP("login", login(CKU_USER, "second pin"), "");
    STEP("close-all", p11->C_CloseAllSessions(slot), "");
    STEP("restart", restart(), "");
    STEP("slots-after-restart", p11->C_GetSlotList(CK_TRUE, NULL, &count), "%lu", count);
    slot = slot_of_token();
    STEP("flags-after-restart", CKR_OK, "%s", flags_of(slot));
    session = session_open(CKF_RW_SESSION);
    STEP("login-after-restart", login(CKU_USER, "second pin"), "");
    STEP("next-spare", CKR_OK, "%s", flags_of(slot_uninitialised()));
    token_label = "no such token";
}

static void initialised_anew(void)
{
    CK_ULONG count = 0;
    CK_OBJECT_HANDLE object;
    CK_ATTRIBUTE stored[] = {ATTR_ULONG(CKA_CLASS, CKO_DATA), ATTR_TRUE(CKA_TOKEN),
                             ATTR_FALSE(CKA_PRIVATE), ATTR_TEXT(CKA_LABEL, "to be lost")};
    module_initialize();
    session = session_user();
    CK_SLOT_ID slot = slot_of_token();
    STEP("store", p11->C_CreateObject(session, stored, COUNT(stored), &object), "");
    STEP("with-session", init_token(slot, so_pin, token_label), "");
    STEP("close", p11->C_CloseAllSessions(slot), "");
    STEP("wrong-pin", init_token(slot, "87654321", token_label), "");
    STEP("flags-after-wrong", CKR_OK, "%s", flags_of(slot));
    STEP("anew", init_token(slot, so_pin, token_label), "");
    STEP("slots-after", p11->C_GetSlotList(CK_TRUE, NULL, &count), "%lu", count);
    STEP("flags-after", CKR_OK, "%s", flags_of(slot_of_token()));
    session = session_open(CKF_RW_SESSION);
    must(p11->C_FindObjectsInit(session, &stored[3], 1), "C_FindObjectsInit");
    STEP("nothing-stored", p11->C_FindObjects(session, &object, 1, &count), "%lu", count);
    p11->C_FindObjectsFinal(session);
    STEP("user-pin-gone", login(CKU_USER, user_pin), "");
    STEP("login-so", login(CKU_SO, so_pin), "");
    STEP("init-pin", p11->C_InitPIN(session, (CK_UTF8CHAR_PTR)user_pin, strlen(user_pin)), "");
    STEP("logout", p11->C_Logout(session), "");
    STEP("login", login(CKU_USER, user_pin), "");
    STEP("restart", restart(), "");
    session = session_user();
    STEP("after-restart", CKR_OK, "%lu", state());
}

static const struct test_case cases[] = {
    {"slots", slots}, {"logins", logins}, {"pins", pins}, {"spare-slot", spare_slot},
    {"anew", initialised_anew}, {NULL, NULL},
};

const struct topic tokens_topic = {"tokens", cases};
