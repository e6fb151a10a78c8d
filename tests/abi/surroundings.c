/* Programs that are not alone: signals that interrupt, small stacks, closed standard streams, other
 * directories, and neighbours that use the same token. */
#include "abi.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static CK_SESSION_HANDLE session;
static struct key_pair rsa;
static CK_BYTE data[32] = "thirty-two bytes of data to sign";

static void begin(void)
{
    module_initialize();
    session = session_user();
    rsa = make_rsa(session);
}

static CK_RV sign_rounds(CK_SESSION_HANDLE where, int rounds)
{
    CK_MECHANISM mechanism = {CKM_SHA256_RSA_PKCS, NULL, 0};
    CK_BYTE first[256], out[256];
    for (int round = 0; round < rounds; round++) {
        CK_ULONG length = sizeof out;
        CK_RV rv = p11->C_SignInit(where, &mechanism, rsa.private_key);
        rv = rv != CKR_OK ? rv : p11->C_Sign(where, data, sizeof data, out, &length);
        if (rv != CKR_OK)
            return rv;
        if (round == 0)
            memcpy(first, out, sizeof first);
        else if (memcmp(first, out, sizeof first) != 0)
            return CKR_SIGNATURE_INVALID;
    }
    return CKR_OK;
}

static volatile sig_atomic_t interruptions;

static void on_signal(int number)
{
    (void)number;
    interruptions++;
}

/* Every call is interrupted; none of them may notice (no SA_RESTART). */
static void signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    struct itimerval often = {{0, 300}, {0, 300}}, never = {{0, 0}, {0, 0}};
    begin();
    sigaction(SIGPROF, &action, NULL);
    sigaction(SIGVTALRM, &action, NULL);
    struct sigaction real = {.sa_handler = on_signal};
    sigaction(SIGALRM, &real, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    STEP("sign", sign_rounds(session, 200), "");
    static CK_BYTE large[1 << 20];
    CK_MECHANISM sha256 = {CKM_SHA256, NULL, 0};
    CK_BYTE out[32];
    CK_ULONG length = sizeof out;
    STEP("digest-init", p11->C_DigestInit(session, &sha256), "");
    STEP("digest", p11->C_Digest(session, large, sizeof large, out, &length), "%s", hex(out, length));
    STEP("random", p11->C_GenerateRandom(session, large, sizeof large), "");
    STEP("finalize", p11->C_Finalize(NULL), "");
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    STEP("initialize", p11->C_Initialize(&args), "");
    setitimer(ITIMER_REAL, &never, NULL);
    STEP("interrupted", interruptions > 10 ? CKR_OK : CKR_GENERAL_ERROR, "");
}

/* The module must not change how its caller handles signals. */
static void dispositions(void)
{
    struct sigaction before[32], after[32];
    sigset_t mask_before, mask_after;
    for (int number = 1; number < 32; number++)
        sigaction(number, NULL, &before[number]);
    sigprocmask(SIG_BLOCK, NULL, &mask_before);
    begin();
    STEP("sign", sign_rounds(session, 3), "");
    int changed = 0;
    for (int number = 1; number < 32; number++) {
        sigaction(number, NULL, &after[number]);
        changed += before[number].sa_handler != after[number].sa_handler;
    }
    sigprocmask(SIG_BLOCK, NULL, &mask_after);
    STEP("handlers", CKR_OK, "%d", changed);
    STEP("mask", CKR_OK, "%d", memcmp(&mask_before, &mask_after, sizeof mask_before) != 0);
}

static void *in_thread(void *result)
{
    CK_SESSION_HANDLE own;
    CK_RV rv = p11->C_OpenSession(slot_of_token(), CKF_SERIAL_SESSION, NULL, NULL, &own);
    *(CK_RV *)result = rv != CKR_OK ? rv : sign_rounds(own, 5);
    p11->C_CloseSession(own);
    return NULL;
}

static CK_RV with_stack(size_t bytes)
{
    pthread_attr_t attributes;
    pthread_t thread;
    CK_RV rv = CKR_HOST_MEMORY;
    pthread_attr_init(&attributes);
    if (pthread_attr_setstacksize(&attributes, bytes) == 0 &&
        pthread_create(&thread, &attributes, in_thread, &rv) == 0)
        pthread_join(thread, NULL);
    return rv;
}

static void stacks(void)
{
    begin();
    PROBE("256k", with_stack(256 << 10), "");
    PROBE("128k", with_stack(128 << 10), "");
    PROBE("64k", with_stack(64 << 10), "");
    PROBE("32k", with_stack(32 << 10), "");
}

/* A daemon: no standard streams, another directory, another session, after the module was loaded. */
static void daemons(void)
{
    begin();
    int saved = dup(STDOUT_FILENO);
    close(STDIN_FILENO);
    close(STDOUT_FILENO);
    close(STDERR_FILENO);
    CK_RV moved = chdir("/") == 0 ? CKR_OK : CKR_GENERAL_ERROR;
    setsid();
    CK_RV signed_then = sign_rounds(session, 3);
    CK_RV finalized = p11->C_Finalize(NULL);
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_RV initialized = p11->C_Initialize(&args);
    dup2(saved, STDOUT_FILENO);
    STEP("moved", moved, "");
    STEP("sign", signed_then, "");
    STEP("finalize", finalized, "");
    STEP("initialize-without-streams", initialized, "");
    session = session_user();
    rsa = make_rsa(session);
    STEP("sign-again", sign_rounds(session, 3), "");
}

/* --- neighbours: another process with the module of its own -------------------------------------- */

static void neighbour(void (*run)(void))
{
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        p11->C_Finalize(NULL); /* of a module that takes a fork for itself */
        CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
        must(p11->C_Initialize(&args), "C_Initialize");
        session = session_user();
        run();
        p11->C_Finalize(NULL);
        _Exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    must(status == 0 ? CKR_OK : CKR_GENERAL_ERROR, "the neighbour");
}

static CK_ATTRIBUTE shared_label[] = {ATTR_TEXT(CKA_LABEL, "shared")};

static CK_ULONG found(CK_OBJECT_HANDLE *first)
{
    CK_OBJECT_HANDLE objects[8];
    CK_ULONG count = 0;
    must(p11->C_FindObjectsInit(session, shared_label, 1), "C_FindObjectsInit");
    must(p11->C_FindObjects(session, objects, COUNT(objects), &count), "C_FindObjects");
    must(p11->C_FindObjectsFinal(session), "C_FindObjectsFinal");
    *first = count > 0 ? objects[0] : CK_INVALID_HANDLE;
    return count;
}

static void create_shared(void)
{
    CK_OBJECT_HANDLE object;
    CK_ATTRIBUTE template[] = {
        ATTR_ULONG(CKA_CLASS, CKO_DATA), ATTR_TRUE(CKA_TOKEN),   ATTR_FALSE(CKA_PRIVATE),
        shared_label[0],                 ATTR_TEXT(CKA_APPLICATION, "one"),
    };
    must(p11->C_CreateObject(session, template, COUNT(template), &object), "C_CreateObject");
}

static void change_shared(void)
{
    CK_OBJECT_HANDLE object;
    CK_ATTRIBUTE value = ATTR_TEXT(CKA_APPLICATION, "another");
    found(&object);
    must(p11->C_SetAttributeValue(session, object, &value, 1), "C_SetAttributeValue");
}

static void destroy_shared(void)
{
    CK_OBJECT_HANDLE object;
    while (found(&object) > 0)
        must(p11->C_DestroyObject(session, object), "C_DestroyObject");
}

static void logs_out(void)
{
    must(p11->C_Logout(session), "C_Logout");
}

static void neighbours(void)
{
    CK_OBJECT_HANDLE object;
    CK_BYTE value[32];
    CK_ATTRIBUTE read = {CKA_APPLICATION, value, sizeof value};
    CK_SESSION_INFO state;
    begin();
    STEP("before", CKR_OK, "%lu", found(&object));
    neighbour(create_shared);
    STEP("created", CKR_OK, "%lu", found(&object));
    STEP("value", p11->C_GetAttributeValue(session, object, &read, 1), "%s",
         hex(value, read.ulValueLen));
    neighbour(change_shared);
    read.ulValueLen = sizeof value;
    STEP("changed", p11->C_GetAttributeValue(session, object, &read, 1), "%s",
         hex(value, read.ulValueLen));
    neighbour(destroy_shared);
    STEP("destroyed", p11->C_GetAttributeValue(session, object, &read, 1), "");
    STEP("after", CKR_OK, "%lu", found(&object));
    neighbour(logs_out);
    STEP("login-is-ours", p11->C_GetSessionInfo(session, &state), "%lu", state.state);
    STEP("sign", sign_rounds(session, 3), "");
}

static const struct test_case cases[] = {
    {"signals", signals}, {"dispositions", dispositions}, {"stacks", stacks},
    {"daemons", daemons}, {"neighbours", neighbours},     {NULL, NULL},
};

const struct topic surroundings_topic = {"surroundings", cases};
