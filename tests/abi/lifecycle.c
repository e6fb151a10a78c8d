/* C_Initialize in all its forms, C_Finalize, loading and unloading. */
#include "every_call.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

static CK_RV mutex_create(void **mutex)
{
    *mutex = malloc(sizeof(pthread_mutex_t));
    return pthread_mutex_init(*mutex, NULL) == 0 ? CKR_OK : CKR_HOST_MEMORY;
}

static CK_RV mutex_destroy(void *mutex)
{
    pthread_mutex_destroy(mutex);
    free(mutex);
    return CKR_OK;
}

static CK_RV mutex_lock(void *mutex)
{
    return pthread_mutex_lock(mutex) == 0 ? CKR_OK : CKR_MUTEX_BAD;
}

static CK_RV mutex_unlock(void *mutex)
{
    return pthread_mutex_unlock(mutex) == 0 ? CKR_OK : CKR_MUTEX_NOT_LOCKED;
}

static CK_C_INITIALIZE_ARGS with_callbacks(unsigned which, CK_FLAGS flags)
{
    return (CK_C_INITIALIZE_ARGS){
        .CreateMutex = which & 1 ? mutex_create : NULL,
        .DestroyMutex = which & 2 ? mutex_destroy : NULL,
        .LockMutex = which & 4 ? mutex_lock : NULL,
        .UnlockMutex = which & 8 ? mutex_unlock : NULL,
        .flags = flags,
    };
}

static void initialize_with(const char *name, CK_C_INITIALIZE_ARGS *args)
{
    CK_ULONG count = 0;
    PROBE(join(name, "initialize", ""), p11->C_Initialize(args), "");
    PROBE(join(name, "slots", ""), p11->C_GetSlotList(CK_FALSE, NULL, &count), "%lu", count);
    PROBE(join(name, "finalize", ""), p11->C_Finalize(NULL), "");
}

static void forms(void)
{
    module_load();
    initialize_with("null", NULL);
    initialize_with("flags-0", &(CK_C_INITIALIZE_ARGS){.flags = 0});
    initialize_with("os-locking", &(CK_C_INITIALIZE_ARGS){.flags = CKF_OS_LOCKING_OK});
    initialize_with("no-os-threads",
                    &(CK_C_INITIALIZE_ARGS){.flags = CKF_LIBRARY_CANT_CREATE_OS_THREADS});
    initialize_with("no-os-threads-os-locking",
                    &(CK_C_INITIALIZE_ARGS){.flags = CKF_LIBRARY_CANT_CREATE_OS_THREADS |
                                                     CKF_OS_LOCKING_OK});
    initialize_with("unknown-flag", &(CK_C_INITIALIZE_ARGS){.flags = 0x80});
    CK_C_INITIALIZE_ARGS args = with_callbacks(15, 0);
    initialize_with("callbacks", &args);
    args = with_callbacks(15, CKF_OS_LOCKING_OK);
    initialize_with("callbacks-os-locking", &args);
}

static void partial_callbacks(void)
{
    static const char *const which[] = {"0", "1", "2",  "3",  "4",  "5",  "6",
                                        "7", "8", "9", "10", "11", "12", "13", "14"};
    module_load();
    for (unsigned i = 1; i < COUNT(which); i++) {
        CK_C_INITIALIZE_ARGS plain = with_callbacks(i, 0);
        CK_C_INITIALIZE_ARGS locking = with_callbacks(i, CKF_OS_LOCKING_OK);
        PROBE(join("callbacks", which[i], ""), p11->C_Initialize(&plain), "");
        p11->C_Finalize(NULL);
        PROBE(join("callbacks-os-locking", which[i], ""), p11->C_Initialize(&locking), "");
        p11->C_Finalize(NULL);
    }
}

static void reserved(void)
{
    char parameters[] = "name=value";
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK, .pReserved = parameters};
    module_load();
    PROBE("string", p11->C_Initialize(&args), "");
    p11->C_Finalize(NULL);
    args.pReserved = "";
    PROBE("empty-string", p11->C_Initialize(&args), "");
    p11->C_Finalize(NULL);
}

static void twice(void)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_SESSION_INFO info;
    module_load();
    PROBE("function-list-null", p11->C_GetFunctionList(NULL), "");
    STEP("finalize-first", p11->C_Finalize(NULL), "");
    STEP("initialize", p11->C_Initialize(&args), "");
    STEP("initialize-again", p11->C_Initialize(&args), "");
    STEP("initialize-again-null", p11->C_Initialize(NULL), "");
    CK_SESSION_HANDLE session = session_open(CKF_RW_SESSION);
    STEP("finalize-reserved", p11->C_Finalize(&args), "");
    STEP("session-after-it", p11->C_GetSessionInfo(session, &info), "state %lu", info.state);
    STEP("finalize", p11->C_Finalize(NULL), "");
    STEP("finalize-again", p11->C_Finalize(NULL), "");
    STEP("session-when-finalized", p11->C_GetSessionInfo(session, &info), "");
    STEP("initialize-anew", p11->C_Initialize(&args), "");
    STEP("old-session", p11->C_GetSessionInfo(session, &info), "");
    session = session_open(CKF_RW_SESSION);
    STEP("new-session", p11->C_GetSessionInfo(session, &info), "state %lu", info.state);
    STEP("login", login_user(session), "");
    STEP("finalize-logged-in", p11->C_Finalize(NULL), "");
    STEP("initialize-third", p11->C_Initialize(&args), "");
    session = session_open(CKF_RW_SESSION);
    STEP("not-logged-in", p11->C_GetSessionInfo(session, &info), "state %lu", info.state);
}

static void reload(void)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_RV worst = CKR_OK;
    for (int round = 0; round < 10; round++) {
        void *library = module_load();
        CK_ULONG count = 0;
        CK_RV rv = p11->C_Initialize(&args);
        rv = rv != CKR_OK ? rv : p11->C_GetSlotList(CK_TRUE, NULL, &count);
        rv = rv != CKR_OK ? rv : p11->C_Finalize(NULL);
        worst = rv != CKR_OK ? rv : worst;
        if (dlclose(library) != 0)
            worst = CKR_GENERAL_ERROR;
    }
    STEP("ten-rounds", worst, "");
    void *library = module_load();
    STEP("unused-module", dlclose(library) == 0 ? CKR_OK : CKR_GENERAL_ERROR, "");
    library = module_load();
    p11->C_Initialize(&args);
    STEP("without-finalize", dlclose(library) == 0 ? CKR_OK : CKR_GENERAL_ERROR, "");
    library = module_load();
    for (int round = 0; round < 20; round++) {
        CK_RV rv = p11->C_Initialize(&args);
        rv = rv != CKR_OK && rv != CKR_CRYPTOKI_ALREADY_INITIALIZED ? rv : p11->C_Finalize(NULL);
        worst = rv != CKR_OK ? rv : worst;
    }
    STEP("twenty-initialisations", worst, "");
}

static void uninitialised(void)
{
    module_load();
    for (const struct call *each = slot_calls; each->name != NULL; each++)
        PROBE(each->name, each->run(1, 1, 0), "");
    for (const struct call *each = session_calls; each->name != NULL; each++)
        PROBE(each->name, each->run(1, 1, 0), "");
    CK_SLOT_ID slot;
    PROBE("C_WaitForSlotEvent", p11->C_WaitForSlotEvent(CKF_DONT_BLOCK, &slot, NULL), "");
}

static void info(void)
{
    CK_INFO info;
    CK_SLOT_ID slot;
    module_initialize();
    STEP("C_GetInfo", p11->C_GetInfo(&info), "version %u.%u flags %lu", info.cryptokiVersion.major,
         info.cryptokiVersion.minor, info.flags);
    PROBE("wait-do-not-block", p11->C_WaitForSlotEvent(CKF_DONT_BLOCK, &slot, NULL), "");
    PROBE("wait-reserved", p11->C_WaitForSlotEvent(CKF_DONT_BLOCK, &slot, &info), "");
    /* Some answer at once that they can't, others wait for ever. */
    report_within(10);
    PROBE("wait-blocking", p11->C_WaitForSlotEvent(0, &slot, NULL), "");
    report_within(0);
    PROBE("wait-null", p11->C_WaitForSlotEvent(CKF_DONT_BLOCK, NULL, NULL), "");
    STEP("list-version", CKR_OK, "%u.%u", p11->version.major, p11->version.minor);
}

static const struct test_case cases[] = {
    {"forms", forms},
    {"partial-callbacks", partial_callbacks},
    {"reserved", reserved},
    {"twice", twice},
    {"reload", reload},
    {"uninitialised", uninitialised},
    {"info", info},
    {NULL, NULL},
};

const struct topic lifecycle_topic = {"lifecycle", cases};
