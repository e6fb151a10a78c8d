/* A process that forks with the module initialised: what the child sees, what the parent keeps. */
#include "every_call.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static CK_SESSION_HANDLE session;
static CK_MECHANISM digest = {CKM_SHA256, NULL, 0};

static CK_RV digest_in(CK_SESSION_HANDLE where)
{
    CK_BYTE out[32];
    CK_ULONG length = sizeof out;
    CK_RV rv = p11->C_DigestInit(where, &digest);
    return rv != CKR_OK ? rv : p11->C_Digest(where, (CK_BYTE_PTR) "abc", 3, out, &length);
}

/* What run answers in a forked child, or CKR_DEVICE_REMOVED when the child dies of a signal. */
static CK_RV in_child(CK_RV (*run)(void))
{
    CK_RV rv = CKR_DEVICE_REMOVED;
    int ends[2];
    if (pipe(ends) != 0)
        return CKR_HOST_MEMORY;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        rv = run();
        _Exit(write(ends[1], &rv, sizeof rv) == sizeof rv ? 0 : 1);
    }
    close(ends[1]);
    if (read(ends[0], &rv, sizeof rv) != sizeof rv)
        rv = CKR_DEVICE_REMOVED;
    close(ends[0]);
    waitpid(child, NULL, 0);
    return rv;
}

static CK_RV child_uses_session(void)
{
    return digest_in(session);
}

static CK_RV child_lists_slots(void)
{
    CK_ULONG count;
    return p11->C_GetSlotList(CK_FALSE, NULL, &count);
}

static CK_RV child_finalizes(void)
{
    return p11->C_Finalize(NULL);
}

static CK_RV child_initializes(void)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    return p11->C_Initialize(&args);
}

/* What a careful program does: a child that wants the module starts it for itself. */
static CK_RV child_starts_anew(void)
{
    child_finalizes();
    CK_RV rv = child_initializes();
    if (rv != CKR_OK)
        return rv;
    CK_SESSION_HANDLE own = session_user();
    rv = digest_in(own);
    p11->C_Finalize(NULL);
    return rv;
}

static void child(void)
{
    module_initialize();
    session = session_user();
    STEP("uses-session", in_child(child_uses_session), "");
    STEP("lists-slots", in_child(child_lists_slots), "");
    STEP("finalizes", in_child(child_finalizes), "");
    STEP("initializes", in_child(child_initializes), "");
}

static void parent(void)
{
    module_initialize();
    session = session_user();
    CK_OBJECT_HANDLE key = make_aes(session, 16);
    CK_ULONG size;
    STEP("child-starts-anew", in_child(child_starts_anew), "");
    STEP("digest-after", digest_in(session), "");
    STEP("object-after", p11->C_GetObjectSize(session, key, &size), "");
    must(p11->C_DigestInit(session, &digest), "C_DigestInit");
    in_child(child_starts_anew);
    CK_BYTE out[32];
    CK_ULONG length = sizeof out;
    STEP("operation-after", p11->C_Digest(session, (CK_BYTE_PTR) "abc", 3, out, &length), "%s",
         hex(out, length));
    for (int i = 0; i < 5; i++)
        in_child(child_starts_anew);
    STEP("after-many", digest_in(session), "");
    STEP("finalize", p11->C_Finalize(NULL), "");
    STEP("child-of-finalized", in_child(child_starts_anew), "");
}

/* A child that uses nothing and exits must take nothing from its parent. */
static CK_RV child_does_nothing(void)
{
    return CKR_OK;
}

static void idle_child(void)
{
    module_initialize();
    session = session_user();
    for (int i = 0; i < 5; i++)
        in_child(child_does_nothing);
    STEP("digest-after", digest_in(session), "");
    STEP("finalize", p11->C_Finalize(NULL), "");
}

static const struct test_case cases[] = {
    {"child", child},
    {"parent", parent},
    {"idle-child", idle_child},
    {NULL, NULL},
};

const struct topic forks_topic = {"forks", cases};
