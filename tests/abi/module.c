/* Loading the module under test, finding its slots, opening sessions. */
#include "abi.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

CK_FUNCTION_LIST_PTR p11;
const char *module_path;
const char *user_pin, *so_pin, *token_label;

void must(CK_RV rv, const char *what)
{
    if (rv == CKR_OK)
        return;
    fprintf(stderr, "precondition failed: %s: %s\n", what, rv_name(rv));
    fflush(NULL);
    _Exit(3);
}

void *module_load(void)
{
    void *library = dlopen(module_path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        _Exit(3);
    }
    CK_C_GetFunctionList get_list;
    *(void **)&get_list = dlsym(library, "C_GetFunctionList");
    must(get_list == NULL ? CKR_GENERAL_ERROR : get_list(&p11), "C_GetFunctionList");
    return library;
}

void module_initialize(void)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    module_load();
    must(p11->C_Initialize(&args), "C_Initialize");
}

static CK_SLOT_ID slot_where(bool (*wanted)(const CK_TOKEN_INFO *), const char *what)
{
    CK_SLOT_ID slots[64];
    CK_ULONG count = COUNT(slots);
    must(p11->C_GetSlotList(CK_TRUE, slots, &count), "C_GetSlotList");
    for (CK_ULONG i = 0; i < count; i++) {
        CK_TOKEN_INFO info;
        if (p11->C_GetTokenInfo(slots[i], &info) == CKR_OK && wanted(&info))
            return slots[i];
    }
    must(CKR_SLOT_ID_INVALID, what);
    return 0;
}

static bool is_token_under_test(const CK_TOKEN_INFO *info)
{
    char padded[sizeof info->label + 1];
    snprintf(padded, sizeof padded, "%-*s", (int)sizeof info->label, token_label);
    return memcmp(padded, info->label, sizeof info->label) == 0;
}

static bool is_uninitialised(const CK_TOKEN_INFO *info)
{
    return (info->flags & CKF_TOKEN_INITIALIZED) == 0;
}

CK_SLOT_ID slot_of_token(void)
{
    return slot_where(is_token_under_test, "a token of the given label");
}

CK_SLOT_ID slot_uninitialised(void)
{
    return slot_where(is_uninitialised, "a spare uninitialised token");
}

CK_SESSION_HANDLE session_open(CK_FLAGS flags)
{
    CK_SESSION_HANDLE session;
    must(p11->C_OpenSession(slot_of_token(), CKF_SERIAL_SESSION | flags, NULL, NULL, &session),
         "C_OpenSession");
    return session;
}

CK_RV login_user(CK_SESSION_HANDLE session)
{
    return p11->C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR)user_pin, strlen(user_pin));
}

CK_SESSION_HANDLE session_user(void)
{
    CK_SESSION_HANDLE session = session_open(CKF_RW_SESSION);
    must(login_user(session), "C_Login");
    return session;
}
