/* C_GetInterfaceList and C_GetInterface. SoftHSM 2.6.1 has neither, so these are no comparison but
 * checks against the standard (PKCS #11 3.2, 5.4): a step is CKR_OK when the check holds. */
#include "abi.h"

#include <dlfcn.h>
#include <stdio.h>

struct interface {
    CK_UTF8CHAR *name;
    void *functions;
    CK_FLAGS flags;
};

/* How many function pointers follow the version, in each version of the list. */
static const struct {
    CK_VERSION version;
    size_t functions;
} versions[] = {{{2, 40}, 68}, {{3, 0}, 92}, {{3, 2}, 104}};

static CK_RV (*get_list)(struct interface *, CK_ULONG *);
static CK_RV (*get_interface)(const CK_UTF8CHAR *, CK_VERSION *, struct interface **, CK_FLAGS);

static CK_RV holds(bool condition)
{
    return condition ? CKR_OK : CKR_GENERAL_ERROR;
}

static void begin(void)
{
    void *library = module_load();
    *(void **)&get_list = dlsym(library, "C_GetInterfaceList");
    *(void **)&get_interface = dlsym(library, "C_GetInterface");
    STEP("exported-list", holds(get_list != NULL), "");
    STEP("exported-get", holds(get_interface != NULL), "");
    must(holds(get_list != NULL && get_interface != NULL), "the module has interfaces");
}

static void list(void)
{
    struct interface found[16];
    CK_ULONG count = 0;
    begin();
    STEP("null-count", holds(get_list(NULL, NULL) == CKR_ARGUMENTS_BAD), "");
    STEP("size", get_list(NULL, &count), "%lu", count);
    STEP("three-versions", holds(count >= COUNT(versions) && count <= COUNT(found)), "");
    CK_ULONG small = count - 1;
    STEP("too-small", holds(get_list(found, &small) == CKR_BUFFER_TOO_SMALL), "");
    STEP("too-small-count", holds(small == count), "%lu", small);
    CK_ULONG room = COUNT(found);
    STEP("list", get_list(found, &room), "%lu", room);
    bool named = true, complete = true;
    for (CK_ULONG i = 0; i < room; i++) {
        named = named && strcmp((const char *)found[i].name, "PKCS 11") == 0;
        complete = complete && found[i].functions != NULL;
    }
    STEP("names", holds(named), "");
    STEP("functions", holds(complete), "");
    for (size_t v = 0; v < COUNT(versions); v++) {
        bool present = false;
        for (CK_ULONG i = 0; i < room; i++)
            present = present ||
                      memcmp(found[i].functions, &versions[v].version, sizeof(CK_VERSION)) == 0;
        char name[32];
        snprintf(name, sizeof name, "has-%u.%u", versions[v].version.major, versions[v].version.minor);
        STEP(name, holds(present), "");
    }
}

static void get(void)
{
    const CK_UTF8CHAR *name = (const CK_UTF8CHAR *)"PKCS 11";
    struct interface *found = NULL, *again = NULL;
    begin();
    STEP("null-result", holds(get_interface(NULL, NULL, NULL, 0) == CKR_ARGUMENTS_BAD), "");
    STEP("default", get_interface(NULL, NULL, &found, 0), "");
    STEP("default-name", holds(found != NULL && strcmp((char *)found->name, "PKCS 11") == 0), "");
    STEP("by-name", get_interface(name, NULL, &again, 0), "");
    STEP("same", holds(again != NULL && found->functions == again->functions), "");
    STEP("other-name", holds(get_interface((const CK_UTF8CHAR *)"Vendor", NULL, &again, 0) != CKR_OK), "");
    STEP("empty-name", holds(get_interface((const CK_UTF8CHAR *)"", NULL, &again, 0) != CKR_OK), "");
    STEP("unknown-version", holds(get_interface(name, &(CK_VERSION){9, 9}, &again, 0) != CKR_OK), "");
    STEP("unknown-flags", holds(get_interface(name, NULL, &again, 0x80) != CKR_OK), "");
    for (size_t v = 0; v < COUNT(versions); v++) {
        CK_VERSION version = versions[v].version;
        char title[32], detail[16] = "";
        snprintf(title, sizeof title, "%u.%u", version.major, version.minor);
        found = NULL;
        STEP(title, get_interface(name, &version, &found, 0), "");
        must(holds(found != NULL), "the interface");
        STEP(join(title, "version", ""), holds(memcmp(found->functions, &version, sizeof version) == 0), "");
        void **functions = (void **)((char *)found->functions + sizeof(void *));
        size_t missing = 0;
        for (size_t i = 0; i < versions[v].functions; i++)
            missing += functions[i] == NULL;
        snprintf(detail, sizeof detail, "%zu", missing);
        STEP(join(title, "complete", ""), holds(missing == 0), "%s", detail);
    }
}

/* Functions that came with 3.0 and 3.2, by their places in the list. */
static void newer_functions(void)
{
    struct interface *found = NULL;
    typedef CK_RV (*any_function)(CK_ULONG, void *, CK_ULONG, void *, CK_ULONG, void *, CK_ULONG,
                                  void *, void *);
    begin();
    must(get_interface(NULL, &(CK_VERSION){3, 2}, &found, 0), "3.2");
    any_function *functions = (any_function *)((char *)found->functions + sizeof(void *));
    CK_BYTE room[256] = {0};
    for (size_t i = 70; i < 104; i++) {
        char name[32];
        snprintf(name, sizeof name, "uninitialised-%zu", i);
        PROBE(name, holds(functions[i](1, room, 1, room, 1, room, 1, room, room) ==
                          CKR_CRYPTOKI_NOT_INITIALIZED), "");
    }
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    must(p11->C_Initialize(&args), "C_Initialize");
    CK_SESSION_HANDLE session = session_open(CKF_RW_SESSION);
    CK_MECHANISM mechanism = {CKM_SHA256, NULL, 0};
    static const struct {
        const char *name;
        size_t place;
    } starts[] = {{"C_MessageEncryptInit", 72}, {"C_MessageDecryptInit", 77},
                  {"C_MessageSignInit", 82}, {"C_MessageVerifyInit", 87}},
      ends[] = {{"C_MessageEncryptFinal", 76}, {"C_MessageDecryptFinal", 81},
                {"C_MessageSignFinal", 86}, {"C_MessageVerifyFinal", 91},
                {"C_VerifySignatureFinal", 97}};
    for (size_t i = 0; i < COUNT(starts); i++) {
        CK_RV (*start)(CK_SESSION_HANDLE, CK_MECHANISM *, CK_OBJECT_HANDLE);
        memcpy(&start, &functions[starts[i].place], sizeof start);
        PROBE(starts[i].name, holds(start(session, &mechanism, 1) == CKR_FUNCTION_NOT_SUPPORTED), "");
    }
    for (size_t i = 0; i < COUNT(ends); i++) {
        CK_RV (*end)(CK_SESSION_HANDLE);
        memcpy(&end, &functions[ends[i].place], sizeof end);
        PROBE(ends[i].name, holds(end(session) == CKR_FUNCTION_NOT_SUPPORTED), "");
    }
    CK_RV (*cancel)(CK_SESSION_HANDLE, CK_FLAGS);
    memcpy(&cancel, &functions[71], sizeof cancel);
    PROBE("C_SessionCancel", holds(cancel(session, CKF_DIGEST) == CKR_FUNCTION_NOT_SUPPORTED), "");
    CK_RV (*login_as)(CK_SESSION_HANDLE, CK_USER_TYPE, CK_UTF8CHAR *, CK_ULONG, CK_UTF8CHAR *, CK_ULONG);
    memcpy(&login_as, &functions[70], sizeof login_as);
    PROBE("C_LoginUser", holds(login_as(session, CKU_USER, (CK_UTF8CHAR_PTR)user_pin, strlen(user_pin),
                                        (CK_UTF8CHAR_PTR) "name", 4) == CKR_FUNCTION_NOT_SUPPORTED), "");
}

/* Before C_Initialize both must answer; and the list they give must be the one that works. */
static void use(void)
{
    struct interface *found = NULL;
    begin();
    must(get_interface(NULL, NULL, &found, 0), "C_GetInterface");
    p11 = found->functions;
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_INFO info = {{0, 0}, "", 0, "", {0, 0}};
    STEP("initialize", p11->C_Initialize(&args), "");
    STEP("info", p11->C_GetInfo(&info), "");
    CK_SESSION_HANDLE session = session_user();
    CK_MECHANISM digest = {CKM_SHA256, NULL, 0};
    CK_BYTE out[32];
    CK_ULONG length = sizeof out;
    STEP("digest-init", p11->C_DigestInit(session, &digest), "");
    STEP("digest", p11->C_Digest(session, (CK_BYTE_PTR) "abc", 3, out, &length), "%s", hex(out, length));
    STEP("finalize", p11->C_Finalize(NULL), "");
    STEP("after-finalize", get_interface(NULL, NULL, &found, 0), "");
}

static const struct test_case cases[] = {
    {"list", list}, {"get", get}, {"newer", newer_functions}, {"use", use}, {NULL, NULL},
};

const struct topic interfaces_topic = {"interfaces", cases};
