/* Sixteen threads, each with a session of its own, then all on few sessions. */
#include "abi.h"

#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 16, ROUNDS = 25 };

static struct key_pair rsa, ec;
static CK_OBJECT_HANDLE secret;
static CK_SLOT_ID slot;
static CK_SESSION_HANDLE shared;
static CK_BYTE data[32] = "thirty-two bytes of data to sign";
static CK_BYTE rsa_signature[256];

static CK_RV sign_in(CK_SESSION_HANDLE session, CK_MECHANISM_TYPE type, CK_OBJECT_HANDLE key,
                     CK_BYTE *out, CK_ULONG *length)
{
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_RV rv = p11->C_SignInit(session, &mechanism, key);
    return rv != CKR_OK ? rv : p11->C_Sign(session, data, sizeof data, out, length);
}

static CK_RV rsa_rounds(CK_SESSION_HANDLE session)
{
    for (int round = 0; round < ROUNDS; round++) {
        CK_BYTE out[256];
        CK_ULONG length = sizeof out;
        CK_RV rv = sign_in(session, CKM_SHA256_RSA_PKCS, rsa.private_key, out, &length);
        if (rv != CKR_OK)
            return rv;
        if (length != sizeof out || memcmp(out, rsa_signature, length) != 0)
            return CKR_SIGNATURE_INVALID;
    }
    return CKR_OK;
}

static CK_RV ec_rounds(CK_SESSION_HANDLE session)
{
    for (int round = 0; round < ROUNDS; round++) {
        CK_BYTE out[64];
        CK_ULONG length = sizeof out;
        CK_MECHANISM mechanism = {CKM_ECDSA, NULL, 0};
        CK_RV rv = sign_in(session, CKM_ECDSA, ec.private_key, out, &length);
        rv = rv != CKR_OK ? rv : p11->C_VerifyInit(session, &mechanism, ec.public_key);
        rv = rv != CKR_OK ? rv : p11->C_Verify(session, data, sizeof data, out, length);
        if (rv != CKR_OK)
            return rv;
    }
    return CKR_OK;
}

static CK_RV parts_rounds(CK_SESSION_HANDLE session)
{
    CK_MECHANISM mechanism = {CKM_SHA256_HMAC, NULL, 0};
    CK_BYTE first[32];
    for (int round = 0; round < ROUNDS; round++) {
        CK_BYTE out[32];
        CK_ULONG length = sizeof out;
        CK_RV rv = p11->C_SignInit(session, &mechanism, secret);
        for (int part = 0; part < 4 && rv == CKR_OK; part++)
            rv = p11->C_SignUpdate(session, data + 8 * part, 8);
        rv = rv != CKR_OK ? rv : p11->C_SignFinal(session, out, &length);
        if (rv != CKR_OK)
            return rv;
        if (round == 0)
            memcpy(first, out, sizeof first);
        else if (memcmp(first, out, sizeof first) != 0)
            return CKR_SIGNATURE_INVALID;
    }
    return CKR_OK;
}

static CK_RV session_rounds(CK_SESSION_HANDLE session)
{
    (void)session;
    for (int round = 0; round < ROUNDS; round++) {
        CK_SESSION_HANDLE own;
        CK_SESSION_INFO info;
        CK_RV rv = p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &own);
        rv = rv != CKR_OK ? rv : p11->C_GetSessionInfo(own, &info);
        rv = rv != CKR_OK ? rv : p11->C_CloseSession(own);
        if (rv != CKR_OK)
            return rv;
    }
    return CKR_OK;
}

static CK_RV object_rounds(CK_SESSION_HANDLE session)
{
    for (int round = 0; round < ROUNDS; round++) {
        CK_OBJECT_HANDLE object = make_data(session, "threaded", "value");
        CK_BYTE value[8];
        CK_ATTRIBUTE read = {CKA_VALUE, value, sizeof value};
        CK_RV rv = p11->C_GetAttributeValue(session, object, &read, 1);
        rv = rv != CKR_OK ? rv : p11->C_DestroyObject(session, object);
        if (rv != CKR_OK || read.ulValueLen != 5)
            return rv != CKR_OK ? rv : CKR_DATA_LEN_RANGE;
    }
    return CKR_OK;
}

/* Digests in the one shared session: any RV may come, but each call must come back. */
static CK_RV shared_rounds(CK_SESSION_HANDLE session)
{
    (void)session;
    for (int round = 0; round < ROUNDS; round++) {
        CK_BYTE out[16];
        CK_RV rv = p11->C_GenerateRandom(shared, out, sizeof out);
        if (rv != CKR_OK)
            return rv;
    }
    return CKR_OK;
}

struct job {
    CK_RV (*rounds)(CK_SESSION_HANDLE);
    CK_RV rv;
};

static void *thread_main(void *argument)
{
    struct job *job = argument;
    CK_SESSION_HANDLE session;
    job->rv = p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, &session);
    if (job->rv == CKR_OK) {
        job->rv = job->rounds(session);
        CK_RV closed = p11->C_CloseSession(session);
        job->rv = job->rv != CKR_OK ? job->rv : closed;
    }
    return NULL;
}

static CK_RV in_threads(CK_RV (*const rounds[])(CK_SESSION_HANDLE), size_t kinds)
{
    pthread_t threads[THREADS];
    struct job jobs[THREADS];
    CK_RV worst = CKR_OK;
    for (size_t i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){rounds[i % kinds], CKR_OK};
        if (pthread_create(&threads[i], NULL, thread_main, &jobs[i]) != 0)
            return CKR_HOST_MEMORY;
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        worst = jobs[i].rv != CKR_OK ? jobs[i].rv : worst;
    }
    return worst;
}

static void begin(void)
{
    module_initialize();
    slot = slot_of_token();
    shared = session_user();
    rsa = make_rsa(shared);
    ec = make_ec(shared);
    secret = make_secret(shared, 64);
    CK_ULONG length = sizeof rsa_signature;
    must(sign_in(shared, CKM_SHA256_RSA_PKCS, rsa.private_key, rsa_signature, &length), "C_Sign");
}

#define ALL(...)                                                                                   \
    in_threads((CK_RV(*const[])(CK_SESSION_HANDLE)){__VA_ARGS__},                                  \
               sizeof((CK_RV(*const[])(CK_SESSION_HANDLE)){__VA_ARGS__}) / sizeof(void *))

static void sixteen(void)
{
    begin();
    PROBE("rsa", ALL(rsa_rounds), "");
    PROBE("ec", ALL(ec_rounds), "");
    PROBE("parts", ALL(parts_rounds), "");
    PROBE("sessions", ALL(session_rounds), "");
    PROBE("objects", ALL(object_rounds), "");
    PROBE("shared-session", ALL(shared_rounds), "");
    PROBE("mixed", ALL(rsa_rounds, ec_rounds, parts_rounds, session_rounds, object_rounds), "");
}

/* Threads that end with the module still initialised, and a finalize afterwards. */
static void finalize_after(void)
{
    begin();
    STEP("threads", ALL(parts_rounds), "");
    STEP("finalize", p11->C_Finalize(NULL), "");
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    STEP("initialize", p11->C_Initialize(&args), "");
    shared = session_user();
    secret = make_secret(shared, 64);
    STEP("threads-again", ALL(parts_rounds), "");
}

static const struct test_case cases[] = {
    {"sixteen", sixteen},
    {"finalize-after", finalize_after},
    {NULL, NULL},
};

const struct topic threads_topic = {"threads", cases};
