/* An application in miniature: loads a Cryptoki module and takes the steps that its arguments name.
 *
 *   client MODULE STEP...
 *
 * initialize, finalize   of the module
 * slots                  how many have a token
 * open, close            a session with the token of the label KEYWAY_TOKEN
 * login                  with KEYWAY_PIN
 * keys                   makes a P-256 key pair and an AES key, for the session only
 * sign                   a digest, and verifies the signature
 * random                 16 bytes
 * large:N                N threads with a session each encrypt and decrypt 1 MiB four times; the RV is the first bad one
 * endure:N               N threads get random bytes 1000 times each, over as many sessions as it takes; the RV is the first
 *                        one that does not mean that the connection was lost
 * fork                   a child that finds itself not initialised, starts anew, signs and ends; its status is the RV
 * leave                  a child that ends at once
 * pause                  prints "pause" and waits for a line
 *
 * Each step prints a line: its name, the RV in hexadecimal digits, and for slots their number. What the standard leaves
 * to the system is left out, so that it compiles with any C library.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <p11-kit/pkcs11.h>

#define LARGE (1 << 20)
#define ROUNDS 4
#define MAX_THREADS 64
#define ENOUGH 1000
#define TOO_OFTEN 100000

static CK_FUNCTION_LIST_PTR p11;
static CK_SESSION_HANDLE session;
static CK_OBJECT_HANDLE private_key, public_key, secret_key;

static void fail(const char *what)
{
    fprintf(stderr, "client: %s\n", what);
    exit(2);
}

static CK_RV initialize(void)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    return p11->C_Initialize(&args);
}

static CK_RV find_slot(CK_SLOT_ID *slot)
{
    CK_SLOT_ID slots[64];
    CK_ULONG count = 64;
    const char *label = getenv("KEYWAY_TOKEN");
    if (!label)
        fail("KEYWAY_TOKEN is not set");
    CK_RV rv = p11->C_GetSlotList(CK_TRUE, slots, &count);
    for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++) {
        CK_TOKEN_INFO info;
        rv = p11->C_GetTokenInfo(slots[i], &info);
        if (rv == CKR_OK && !memcmp(info.label, label, strlen(label)) && info.label[strlen(label)] == ' ') {
            *slot = slots[i];
            return CKR_OK;
        }
    }
    return rv == CKR_OK ? CKR_SLOT_ID_INVALID : rv;
}

static CK_RV open_session(CK_SESSION_HANDLE *handle)
{
    CK_SLOT_ID slot;
    CK_RV rv = find_slot(&slot);
    return rv != CKR_OK ? rv : p11->C_OpenSession(slot, CKF_SERIAL_SESSION | CKF_RW_SESSION, NULL, NULL, handle);
}

static CK_RV login(void)
{
    char *pin = getenv("KEYWAY_PIN");
    if (!pin)
        fail("KEYWAY_PIN is not set");
    return p11->C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR)pin, strlen(pin));
}

static CK_RV make_keys(void)
{
    static CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    CK_BBOOL yes = CK_TRUE;
    CK_ULONG length = 16;
    CK_ATTRIBUTE for_public[] = {{CKA_EC_PARAMS, p256, sizeof p256}, {CKA_VERIFY, &yes, sizeof yes}};
    CK_ATTRIBUTE for_private[] = {{CKA_SIGN, &yes, sizeof yes}};
    CK_ATTRIBUTE for_secret[] = {
        {CKA_VALUE_LEN, &length, sizeof length}, {CKA_ENCRYPT, &yes, sizeof yes}, {CKA_DECRYPT, &yes, sizeof yes}};
    CK_MECHANISM pair = {CKM_EC_KEY_PAIR_GEN, NULL, 0}, secret = {CKM_AES_KEY_GEN, NULL, 0};
    CK_RV rv = p11->C_GenerateKeyPair(session, &pair, for_public, 2, for_private, 1, &public_key, &private_key);
    return rv != CKR_OK ? rv : p11->C_GenerateKey(session, &secret, for_secret, 3, &secret_key);
}

static CK_RV sign(void)
{
    CK_BYTE digest[32], signature[64];
    CK_ULONG length = sizeof signature;
    CK_MECHANISM ecdsa = {CKM_ECDSA, NULL, 0};
    memset(digest, 0x5a, sizeof digest);
    CK_RV rv = p11->C_SignInit(session, &ecdsa, private_key);
    if (rv == CKR_OK)
        rv = p11->C_Sign(session, digest, sizeof digest, signature, &length);
    if (rv == CKR_OK)
        rv = p11->C_VerifyInit(session, &ecdsa, public_key);
    return rv != CKR_OK ? rv : p11->C_Verify(session, digest, sizeof digest, signature, length);
}

static CK_RV get_random(void)
{
    CK_BYTE bytes[16];
    return p11->C_GenerateRandom(session, bytes, sizeof bytes);
}

static void *encrypt_and_decrypt(void *result)
{
    CK_BYTE iv[16] = {1}, *plain = malloc(LARGE), *secret = malloc(LARGE), *again = malloc(LARGE);
    CK_MECHANISM cbc = {CKM_AES_CBC, iv, sizeof iv};
    CK_SESSION_HANDLE own;
    if (!plain || !secret || !again)
        fail("out of memory");
    for (size_t i = 0; i < LARGE; i++)
        plain[i] = (CK_BYTE)(i >> 8 ^ i ^ (size_t)result);
    CK_RV rv = open_session(&own);
    for (int round = 0; rv == CKR_OK && round < ROUNDS; round++) {
        CK_ULONG length = LARGE;
        rv = p11->C_EncryptInit(own, &cbc, secret_key);
        if (rv == CKR_OK)
            rv = p11->C_Encrypt(own, plain, LARGE, secret, &length);
        if (rv == CKR_OK)
            rv = p11->C_DecryptInit(own, &cbc, secret_key);
        if (rv == CKR_OK)
            rv = p11->C_Decrypt(own, secret, length, again, &length);
        if (rv == CKR_OK && (length != LARGE || memcmp(plain, again, LARGE)))
            fail("what was decrypted is not what was encrypted");
    }
    if (rv == CKR_OK)
        rv = p11->C_CloseSession(own);
    *(CK_RV *)result = rv;
    free(plain), free(secret), free(again);
    return NULL;
}

static int is_lost(CK_RV rv)
{
    return rv == CKR_DEVICE_ERROR || rv == CKR_DEVICE_REMOVED || rv == CKR_TOKEN_NOT_PRESENT || rv == CKR_SLOT_ID_INVALID;
}

static void *endure(void *result)
{
    CK_SESSION_HANDLE own;
    CK_BYTE bytes[16];
    CK_RV rv = CKR_DEVICE_REMOVED;
    int good = 0;
    for (int tries = 0; good < ENOUGH && tries < TOO_OFTEN && (rv == CKR_OK || is_lost(rv)); tries++) {
        if (rv != CKR_OK)
            rv = open_session(&own);
        if (rv == CKR_OK) {
            rv = p11->C_GenerateRandom(own, bytes, sizeof bytes);
            if (rv == CKR_OK)
                good++;
            else if (p11->C_CloseSession(own) != CKR_OK)
                fail("a lost session can't be closed");
        }
    }
    *(CK_RV *)result = rv;
    return NULL;
}

static CK_RV with_threads(int threads, void *(*body)(void *))
{
    pthread_t ids[MAX_THREADS];
    CK_RV rvs[MAX_THREADS], first = CKR_OK;
    if (threads < 1 || threads > MAX_THREADS)
        fail("a wrong number of threads");
    for (int i = 0; i < threads; i++)
        if (pthread_create(&ids[i], NULL, body, &rvs[i]))
            fail("no thread");
    for (int i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        if (first == CKR_OK)
            first = rvs[i];
    }
    return first;
}

static CK_RV start_anew(void)
{
    if (get_random() != CKR_CRYPTOKI_NOT_INITIALIZED)
        return 101;
    CK_RV (*steps[])(void) = {initialize, NULL, login, make_keys, sign};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        CK_RV rv = steps[i] ? steps[i]() : open_session(&session);
        if (rv != CKR_OK)
            return rv;
    }
    return p11->C_Finalize(NULL);
}

static CK_RV in_child(CK_RV (*body)(void))
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        exit(body ? (int)(body() & 0xff) : 0);
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        fail("the child did not end by itself");
    return (CK_RV)WEXITSTATUS(status);
}

static CK_RV wait_for_line(void)
{
    int sign;
    do
        sign = getchar();
    while (sign != '\n' && sign != EOF);
    return CKR_OK;
}

static CK_RV take(const char *step)
{
    if (!strcmp(step, "initialize"))
        return initialize();
    if (!strcmp(step, "finalize"))
        return p11->C_Finalize(NULL);
    if (!strcmp(step, "open"))
        return open_session(&session);
    if (!strcmp(step, "close"))
        return p11->C_CloseSession(session);
    if (!strcmp(step, "login"))
        return login();
    if (!strcmp(step, "keys"))
        return make_keys();
    if (!strcmp(step, "sign"))
        return sign();
    if (!strcmp(step, "random"))
        return get_random();
    if (!strncmp(step, "large:", 6))
        return with_threads(atoi(step + 6), encrypt_and_decrypt);
    if (!strncmp(step, "endure:", 7))
        return with_threads(atoi(step + 7), endure);
    if (!strcmp(step, "fork"))
        return in_child(start_anew);
    if (!strcmp(step, "leave"))
        return in_child(NULL);
    fail("no such step");
    return CKR_OK;
}

int main(int count, char **arguments)
{
    CK_RV (*get)(CK_FUNCTION_LIST_PTR_PTR);
    void *library = count > 1 ? dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library)
        fail(count > 1 ? dlerror() : "no module");
    *(void **)&get = dlsym(library, "C_GetFunctionList");
    if (!get || get(&p11) != CKR_OK)
        fail("no Cryptoki module");
    for (int i = 2; i < count; i++) {
        const char *step = arguments[i];
        if (!strcmp(step, "pause")) {
            puts(step);
            fflush(stdout);
            wait_for_line();
        } else if (!strcmp(step, "slots")) {
            CK_ULONG slots = 0;
            CK_RV rv = p11->C_GetSlotList(CK_TRUE, NULL, &slots);
            printf("%s %lx %lu\n", step, rv, slots);
        } else {
            printf("%s %lx\n", step, take(step));
        }
        fflush(stdout);
    }
    return 0;
}
