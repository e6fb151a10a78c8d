/* Load generator for one Cryptoki module: makes one kind of call from N threads and prints one JSON line.
 *
 *   load [-t THREADS] [-s SECONDS] [-w WARMUP] [-p PAUSE_US] [-n COUNT] [-o FILE] MODULE OPERATION
 *
 * rsa2048-sign     C_SignInit + C_Sign, CKM_SHA256_RSA_PKCS over 32 bytes
 * p256-sign        C_SignInit + C_Sign, CKM_ECDSA over a digest of 32 bytes
 * random16         C_GenerateRandom of 16 bytes
 * sha256-1m        C_DigestInit + C_Digest, CKM_SHA256 over 1 MiB
 * aes-1m           C_EncryptInit + C_Encrypt, CKM_AES_CBC over 1 MiB, with a key of the session
 * open-context     C_Initialize, C_GetSlotList, C_OpenSession, C_CloseSession, C_Finalize (one thread)
 * contexts         -n processes call C_Initialize at once; ends when each has a session or has failed
 * prepare          creates the signing keys as token objects, unless they exist, and removes those of a listing
 * prepare-listing  creates key pairs until the token holds -n key objects for the listing
 *
 * The token is named by KEYWAY_TOKEN (its label) and opened with KEYWAY_PIN. With -n the measured operations make
 * exactly COUNT steps a thread and no warm-up, which is what counting round trips needs; SIGINT ends them early. With -o every step is written to
 * FILE when all is over: the thread, begin and end on CLOCK_MONOTONIC in nanoseconds, and the CK_RV, each in 64 bits.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <p11-kit/pkcs11.h>

#define RSA_LABEL "bench-rsa2048"
#define P256_LABEL "bench-p256"
#define LISTING_LABEL "bench-listing"
#define MAX_SLOTS 64
#define PAYLOAD (1 << 20)
#define MAX_ERRORS 100 /* of one thread, after which it gives up */
#define CONTEXTS_DEADLINE_S 60

static CK_FUNCTION_LIST_PTR p11;
static volatile sig_atomic_t interrupted;

struct options {
    const char *module, *operation, *token, *pin, *trace;
    int threads;
    double seconds, warmup;
    long pause_us, count;
};

_Noreturn static void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

static void must(CK_RV rv, const char *call)
{
    if (rv != CKR_OK)
        die("%s: CKR 0x%lx", call, rv);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void sleep_until(uint64_t at_ns)
{
    struct timespec t = {(time_t)(at_ns / 1000000000u), (long)(at_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

static double process_cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

/* ---- Cryptoki steps shared by the operations ---------------------------------------------------------------- */

static void load_module(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        die("%s", dlerror());
    CK_C_GetFunctionList get = (CK_C_GetFunctionList)dlsym(library, "C_GetFunctionList");
    if (get == NULL)
        die("%s exports no C_GetFunctionList", path);
    must(get(&p11), "C_GetFunctionList");
}

static CK_RV initialize(void)
{
    /* NULL would promise the module that only one thread calls it. */
    CK_C_INITIALIZE_ARGS arguments = {.flags = CKF_OS_LOCKING_OK};
    return p11->C_Initialize(&arguments);
}

static CK_RV find_slot(const char *label, CK_SLOT_ID *slot)
{
    CK_SLOT_ID slots[MAX_SLOTS];
    CK_ULONG count = MAX_SLOTS;
    char padded[32];
    memset(padded, ' ', sizeof padded);
    memcpy(padded, label, strnlen(label, sizeof padded));
    CK_RV rv = p11->C_GetSlotList(CK_TRUE, slots, &count);
    for (CK_ULONG i = 0; rv == CKR_OK && i < count; i++) {
        CK_TOKEN_INFO info;
        rv = p11->C_GetTokenInfo(slots[i], &info);
        if (rv == CKR_OK && memcmp(info.label, padded, sizeof padded) == 0) {
            *slot = slots[i];
            return CKR_OK;
        }
    }
    return rv == CKR_OK ? CKR_TOKEN_NOT_PRESENT : rv;
}

static CK_SESSION_HANDLE open_session(CK_SLOT_ID slot, CK_FLAGS flags)
{
    CK_SESSION_HANDLE session;
    must(p11->C_OpenSession(slot, CKF_SERIAL_SESSION | flags, NULL, NULL, &session), "C_OpenSession");
    return session;
}

static void login(CK_SESSION_HANDLE session, const char *pin)
{
    must(p11->C_Login(session, CKU_USER, (CK_UTF8CHAR_PTR)pin, strlen(pin)), "C_Login");
}

static CK_ULONG find_objects(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label,
                             CK_OBJECT_HANDLE *objects, CK_ULONG room)
{
    CK_ATTRIBUTE template[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, (void *)label, strlen(label)}};
    CK_ULONG found = 0;
    must(p11->C_FindObjectsInit(session, template, 2), "C_FindObjectsInit");
    must(p11->C_FindObjects(session, objects, room, &found), "C_FindObjects");
    must(p11->C_FindObjectsFinal(session), "C_FindObjectsFinal");
    return found;
}

static CK_OBJECT_HANDLE find_key(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, const char *label)
{
    CK_OBJECT_HANDLE key;
    if (find_objects(session, class, label, &key, 1) != 1)
        die("no key '%s' in the token: run 'prepare' first", label);
    return key;
}

static void generate_pair(CK_SESSION_HANDLE session, CK_MECHANISM_TYPE type, const char *label, unsigned char id)
{
    static CK_BYTE p256[] = {0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07};
    static CK_BYTE exponent[] = {1, 0, 1};
    CK_BBOOL yes = CK_TRUE;
    CK_ULONG bits = 2048;
    CK_MECHANISM mechanism = {type, NULL, 0};
    CK_ATTRIBUTE public[6] = {{CKA_TOKEN, &yes, sizeof yes}, {CKA_VERIFY, &yes, sizeof yes},
                              {CKA_LABEL, (void *)label, strlen(label)}, {CKA_ID, &id, sizeof id}};
    CK_ATTRIBUTE private[] = {{CKA_TOKEN, &yes, sizeof yes}, {CKA_PRIVATE, &yes, sizeof yes},
                              {CKA_SIGN, &yes, sizeof yes}, {CKA_SENSITIVE, &yes, sizeof yes},
                              {CKA_LABEL, (void *)label, strlen(label)}, {CKA_ID, &id, sizeof id}};
    CK_ULONG used = 4;
    if (type == CKM_RSA_PKCS_KEY_PAIR_GEN) {
        public[used++] = (CK_ATTRIBUTE){CKA_MODULUS_BITS, &bits, sizeof bits};
        public[used++] = (CK_ATTRIBUTE){CKA_PUBLIC_EXPONENT, exponent, sizeof exponent};
    } else {
        public[used++] = (CK_ATTRIBUTE){CKA_EC_PARAMS, p256, sizeof p256};
    }
    CK_OBJECT_HANDLE public_key, private_key;
    must(p11->C_GenerateKeyPair(session, &mechanism, public, used, private, 6, &public_key, &private_key),
         "C_GenerateKeyPair");
}

/* ---- The measured operations: one step of a worker each ----------------------------------------------------- */

struct worker;

struct operation {
    const char *name;
    CK_RV (*step)(struct worker *);
    CK_MECHANISM_TYPE mechanism; /* of a signature */
    const char *key;             /* label of the signing key, or NULL */
    CK_ULONG signature_length;
};

struct step {
    uint64_t thread, begin, end, rv;
};

struct worker {
    const struct operation *operation;
    const struct options *options;
    pthread_barrier_t *start;
    uint64_t number;
    const uint64_t *window; /* measured from window[0] to window[1]; set before `start` opens */
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE session;
    CK_OBJECT_HANDLE key;
    CK_BYTE output[512];
    CK_BYTE *result; /* of PAYLOAD bytes */
    uint64_t *samples; /* nanoseconds */
    size_t used, room;
    struct step *trace;
    size_t traced, trace_room;
    long steps; /* all of them, warm-up included */
    long errors;
    CK_RV last_error;
};

static const CK_BYTE message[32] = "thirty-two bytes of a message...";

static CK_RV sign_step(struct worker *w)
{
    CK_MECHANISM mechanism = {w->operation->mechanism, NULL, 0};
    CK_ULONG length = sizeof w->output;
    CK_RV rv = p11->C_SignInit(w->session, &mechanism, w->key);
    if (rv == CKR_OK)
        rv = p11->C_Sign(w->session, (CK_BYTE_PTR)message, sizeof message, w->output, &length);
    return rv == CKR_OK && length != w->operation->signature_length ? CKR_SIGNATURE_LEN_RANGE : rv;
}

static CK_RV random_step(struct worker *w)
{
    CK_BYTE before[16];
    memcpy(before, w->output, sizeof before);
    CK_RV rv = p11->C_GenerateRandom(w->session, w->output, sizeof before);
    return rv == CKR_OK && memcmp(before, w->output, sizeof before) == 0 ? CKR_GENERAL_ERROR : rv;
}

static CK_BYTE payload[PAYLOAD];

static CK_RV digest_step(struct worker *w)
{
    CK_MECHANISM mechanism = {CKM_SHA256, NULL, 0};
    CK_ULONG length = 32;
    CK_BYTE before[32];
    memcpy(before, w->output, sizeof before);
    CK_RV rv = p11->C_DigestInit(w->session, &mechanism);
    if (rv == CKR_OK)
        rv = p11->C_Digest(w->session, payload, sizeof payload, w->output, &length);
    return rv == CKR_OK && w->steps > 0 && memcmp(before, w->output, sizeof before) != 0 ? CKR_GENERAL_ERROR : rv;
}

static CK_RV encrypt_step(struct worker *w)
{
    CK_BYTE iv[16] = {0};
    CK_MECHANISM mechanism = {CKM_AES_CBC, iv, sizeof iv};
    CK_ULONG length = PAYLOAD;
    CK_RV rv = p11->C_EncryptInit(w->session, &mechanism, w->key);
    if (rv == CKR_OK)
        rv = p11->C_Encrypt(w->session, payload, sizeof payload, w->result, &length);
    return rv == CKR_OK && length != PAYLOAD ? CKR_DATA_LEN_RANGE : rv;
}

static CK_OBJECT_HANDLE generate_secret(CK_SESSION_HANDLE session)
{
    CK_BBOOL yes = CK_TRUE, no = CK_FALSE;
    CK_ULONG length = 16;
    CK_MECHANISM mechanism = {CKM_AES_KEY_GEN, NULL, 0};
    CK_ATTRIBUTE template[] = {{CKA_TOKEN, &no, sizeof no}, {CKA_ENCRYPT, &yes, sizeof yes},
                               {CKA_VALUE_LEN, &length, sizeof length}};
    CK_OBJECT_HANDLE key;
    must(p11->C_GenerateKey(session, &mechanism, template, 3, &key), "C_GenerateKey");
    return key;
}

static CK_RV context_step(struct worker *w)
{
    CK_SLOT_ID slots[MAX_SLOTS];
    CK_ULONG count = MAX_SLOTS;
    CK_SESSION_HANDLE session;
    CK_RV rv = initialize();
    if (rv != CKR_OK)
        return rv;
    rv = p11->C_GetSlotList(CK_TRUE, slots, &count);
    if (rv == CKR_OK)
        rv = p11->C_OpenSession(w->slot, CKF_SERIAL_SESSION, NULL, NULL, &session);
    if (rv == CKR_OK)
        rv = p11->C_CloseSession(session);
    CK_RV finalized = p11->C_Finalize(NULL);
    return rv == CKR_OK ? finalized : rv;
}

static const struct operation operations[] = {
    {"rsa2048-sign", sign_step, CKM_SHA256_RSA_PKCS, RSA_LABEL, 256},
    {"p256-sign", sign_step, CKM_ECDSA, P256_LABEL, 64},
    {"random16", random_step, 0, NULL, 0},
    {"sha256-1m", digest_step, 0, NULL, 0},
    {"aes-1m", encrypt_step, 0, NULL, 0},
    {"open-context", context_step, 0, NULL, 0},
};

static void record(struct worker *w, uint64_t nanoseconds)
{
    if (w->used == w->room) {
        w->room = w->room ? 2 * w->room : 65536;
        w->samples = realloc(w->samples, w->room * sizeof *w->samples);
        if (w->samples == NULL)
            die("out of memory");
    }
    w->samples[w->used++] = nanoseconds;
}

static void trace(struct worker *w, uint64_t begin, uint64_t end, CK_RV rv)
{
    if (w->traced == w->trace_room) {
        w->trace_room = w->trace_room ? 2 * w->trace_room : 65536;
        w->trace = realloc(w->trace, w->trace_room * sizeof *w->trace);
        if (w->trace == NULL)
            die("out of memory");
    }
    w->trace[w->traced++] = (struct step){w->number, begin, end, rv};
}

static void write_trace(const struct worker *workers, int count, const char *path)
{
    FILE *file = fopen(path, "wb");
    if (file == NULL)
        die("%s: %s", path, strerror(errno));
    for (int i = 0; i < count; i++)
        fwrite(workers[i].trace, sizeof *workers[i].trace, workers[i].traced, file);
    if (fclose(file) != 0)
        die("%s: %s", path, strerror(errno));
}

static void *work(void *argument)
{
    struct worker *w = argument;
    pthread_barrier_wait(w->start);
    while (!interrupted && (w->options->count == 0 || w->steps < w->options->count)) {
        uint64_t before = now_ns();
        CK_RV rv = w->operation->step(w);
        uint64_t after = now_ns();
        w->steps++;
        if (w->options->trace != NULL)
            trace(w, before, after, rv);
        if (after >= w->window[1])
            break;
        if (rv != CKR_OK) {
            w->last_error = rv;
            if (++w->errors >= MAX_ERRORS)
                break;
        } else if (after >= w->window[0]) {
            record(w, after - before);
        }
        if (w->options->pause_us > 0)
            usleep((useconds_t)w->options->pause_us);
    }
    return NULL;
}

/* The last signature of each thread is checked by the token, so that a fast wrong answer is an error. */
static void verify_last(struct worker *w)
{
    CK_MECHANISM mechanism = {w->operation->mechanism, NULL, 0};
    CK_OBJECT_HANDLE public_key = find_key(w->session, CKO_PUBLIC_KEY, w->operation->key);
    CK_RV rv = p11->C_VerifyInit(w->session, &mechanism, public_key);
    if (rv == CKR_OK)
        rv = p11->C_Verify(w->session, (CK_BYTE_PTR)message, sizeof message, w->output,
                           w->operation->signature_length);
    if (rv != CKR_OK) {
        w->errors++;
        w->last_error = rv;
    }
}

static int by_value(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static double quantile_us(const uint64_t *sorted, size_t count, double q)
{
    return count == 0 ? 0.0 : (double)sorted[(size_t)(q * (double)(count - 1))] / 1e3;
}

static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

static void measure(const struct options *o, const struct operation *operation)
{
    struct worker *workers = calloc((size_t)o->threads, sizeof *workers);
    pthread_t *threads = calloc((size_t)o->threads, sizeof *threads);
    pthread_barrier_t start;
    uint64_t window[2];
    CK_SLOT_ID slot;
    int reopening = operation->step == context_step;

    if (reopening && o->threads != 1)
        die("open-context takes one thread: a process has one context");
    must(initialize(), "C_Initialize");
    must(find_slot(o->token, &slot), "finding the token");
    if (reopening)
        must(p11->C_Finalize(NULL), "C_Finalize");
    pthread_barrier_init(&start, NULL, (unsigned)o->threads + 1);
    for (int i = 0; i < o->threads; i++) {
        struct worker *w = &workers[i];
        *w = (struct worker){
            .operation = operation, .options = o, .start = &start, .number = (uint64_t)i, .window = window, .slot = slot};
        if (!reopening)
            w->session = open_session(slot, 0);
        if (operation->key != NULL) {
            if (i == 0)
                login(w->session, o->pin);
            w->key = find_key(w->session, CKO_PRIVATE_KEY, operation->key);
        }
        if (operation->step == encrypt_step) {
            if (i == 0)
                login(w->session, o->pin);
            w->key = generate_secret(w->session);
            w->result = calloc(1, PAYLOAD);
        }
        if (pthread_create(&threads[i], NULL, work, w) != 0)
            die("cannot start thread %d", i);
    }

    signal(SIGINT, interrupt);
    uint64_t begin = now_ns();
    window[0] = o->count ? begin : begin + (uint64_t)(o->warmup * 1e9);
    window[1] = o->count ? UINT64_MAX : window[0] + (uint64_t)(o->seconds * 1e9);
    pthread_barrier_wait(&start);
    sleep_until(window[0]);
    double cpu = process_cpu_us();
    if (o->count == 0) {
        sleep_until(window[1]);
        cpu = process_cpu_us() - cpu;
    }
    for (int i = 0; i < o->threads; i++)
        pthread_join(threads[i], NULL);
    uint64_t end = now_ns();
    if (o->count != 0)
        cpu = process_cpu_us() - cpu;
    double seconds = (double)((o->count ? end : window[1]) - window[0]) / 1e9;

    if (o->trace != NULL)
        write_trace(workers, o->threads, o->trace);
    size_t total = 0;
    long errors = 0, steps = 0;
    CK_RV last_error = CKR_OK;
    for (int i = 0; i < o->threads; i++) {
        if (operation->key != NULL && workers[i].used > 0)
            verify_last(&workers[i]);
        total += workers[i].used;
        errors += workers[i].errors;
        steps += workers[i].steps;
        if (workers[i].last_error != CKR_OK)
            last_error = workers[i].last_error;
    }
    uint64_t *all = malloc((total + 1) * sizeof *all);
    size_t used = 0;
    for (int i = 0; i < o->threads; i++) {
        if (workers[i].used > 0)
            memcpy(all + used, workers[i].samples, workers[i].used * sizeof *all);
        used += workers[i].used;
    }
    qsort(all, total, sizeof *all, by_value);
    if (!reopening)
        must(p11->C_Finalize(NULL), "C_Finalize");
    printf("{\"operation\": \"%s\", \"threads\": %d, \"ops\": %zu, \"steps\": %ld, \"seconds\": %.4f, \"ops_per_second\": %.2f, "
           "\"median_us\": %.2f, \"p99_us\": %.2f, \"client_cpu_us\": %.0f, \"errors\": %ld, \"last_error\": %lu}\n",
           operation->name, o->threads, total, steps, seconds, (double)total / seconds, quantile_us(all, total, 0.5),
           quantile_us(all, total, 0.99), cpu, errors, last_error);
}

/* ---- Many contexts at once ---------------------------------------------------------------------------------- */

struct outcome {
    uint64_t at; /* 0 while nothing is known */
    CK_RV rv;
};

struct gates {
    int ready[2], start[2], done[2], release[2]; /* pipes; `start` and `release` open by closing the parent's end */
};

_Noreturn static void context_process(const struct options *o, struct gates *g, struct outcome *outcome)
{
    char byte = 0;
    CK_SLOT_ID slot;
    CK_SESSION_HANDLE session;
    close(g->ready[0]), close(g->start[1]), close(g->done[0]), close(g->release[1]);
    load_module(o->module);
    if (write(g->ready[1], &byte, 1) != 1 || read(g->start[0], &byte, 1) != 0)
        _exit(2);
    CK_RV rv = initialize();
    int initialized = rv == CKR_OK;
    if (rv == CKR_OK)
        rv = find_slot(o->token, &slot);
    if (rv == CKR_OK)
        rv = p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &session);
    outcome->rv = rv;
    outcome->at = now_ns();
    if (write(g->done[1], &byte, 1) != 1 || read(g->release[0], &byte, 1) != 0)
        _exit(2);
    if (initialized)
        p11->C_Finalize(NULL);
    _exit(0);
}

/* Reads up to `count` bytes, one for each process; returns early when no writer is left or the time is up. */
static void gather(int descriptor, long count, uint64_t deadline_ns)
{
    char bytes[256];
    while (count > 0) {
        uint64_t now = now_ns();
        struct pollfd poller = {descriptor, POLLIN, 0};
        if (now >= deadline_ns || poll(&poller, 1, (int)((deadline_ns - now) / 1000000u) + 1) <= 0)
            return;
        ssize_t got = read(descriptor, bytes, count < 256 ? (size_t)count : sizeof bytes);
        if (got <= 0)
            return;
        count -= got;
    }
}

static void contexts(const struct options *o)
{
    long count = o->count;
    struct gates g;
    if (count < 1)
        die("contexts needs -n PROCESSES");
    if (pipe(g.ready) || pipe(g.start) || pipe(g.done) || pipe(g.release))
        die("pipe: %s", strerror(errno));
    struct outcome *outcomes = mmap(NULL, (size_t)count * sizeof *outcomes, PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t *children = calloc((size_t)count, sizeof *children);
    uint64_t *times = calloc((size_t)count, sizeof *times);
    if (outcomes == MAP_FAILED || children == NULL || times == NULL)
        die("out of memory");
    for (long i = 0; i < count; i++) {
        children[i] = fork();
        if (children[i] < 0)
            die("fork: %s", strerror(errno));
        if (children[i] == 0)
            context_process(o, &g, &outcomes[i]);
    }
    close(g.ready[1]), close(g.start[0]), close(g.done[1]), close(g.release[0]);
    gather(g.ready[0], count, now_ns() + CONTEXTS_DEADLINE_S * 1000000000ull);
    uint64_t begin = now_ns(), last = begin;
    close(g.start[1]);
    gather(g.done[0], count, begin + CONTEXTS_DEADLINE_S * 1000000000ull);

    size_t opened = 0;
    CK_RV last_error = CKR_OK;
    for (long i = 0; i < count; i++) {
        if (outcomes[i].at == 0) { /* hangs or has crashed */
            last_error = CKR_GENERAL_ERROR;
            kill(children[i], SIGKILL);
        } else if (outcomes[i].rv != CKR_OK) {
            last_error = outcomes[i].rv;
        } else {
            times[opened++] = outcomes[i].at - begin;
            last = outcomes[i].at > last ? outcomes[i].at : last;
        }
    }
    close(g.release[1]);
    for (long i = 0; i < count; i++)
        waitpid(children[i], NULL, 0);
    qsort(times, opened, sizeof *times, by_value);
    double seconds = (double)(last - begin) / 1e9;
    printf("{\"operation\": \"contexts\", \"threads\": 1, \"ops\": %zu, \"steps\": %ld, \"seconds\": %.4f, \"ops_per_second\": %.2f, "
           "\"median_us\": %.2f, \"p99_us\": %.2f, \"client_cpu_us\": 0, \"errors\": %ld, \"last_error\": %lu}\n",
           opened, count, seconds, opened ? (double)opened / seconds : 0.0, quantile_us(times, opened, 0.5),
           quantile_us(times, opened, 0.99), count - (long)opened, last_error);
}

/* ---- Preparation and the command line ----------------------------------------------------------------------- */

/* SoftHSM reads every object of a token when it is initialised, so keys left behind would slow the contexts down. */
static void remove_listing(CK_SESSION_HANDLE session, CK_OBJECT_CLASS class, CK_OBJECT_HANDLE *room, CK_ULONG count)
{
    CK_ULONG found = find_objects(session, class, LISTING_LABEL, room, count);
    for (CK_ULONG i = 0; i < found; i++)
        must(p11->C_DestroyObject(session, room[i]), "C_DestroyObject");
}

static void prepare(const struct options *o, int listing)
{
    CK_OBJECT_HANDLE found[1024];
    CK_SLOT_ID slot;
    must(initialize(), "C_Initialize");
    must(find_slot(o->token, &slot), "finding the token");
    CK_SESSION_HANDLE session = open_session(slot, CKF_RW_SESSION);
    login(session, o->pin);
    if (listing) {
        CK_ULONG have = find_objects(session, CKO_PRIVATE_KEY, LISTING_LABEL, found, 1024);
        for (CK_ULONG i = have; 2 * i < (CK_ULONG)o->count; i++)
            generate_pair(session, CKM_EC_KEY_PAIR_GEN, LISTING_LABEL, (unsigned char)(i + 16));
    } else {
        remove_listing(session, CKO_PRIVATE_KEY, found, 1024);
        remove_listing(session, CKO_PUBLIC_KEY, found, 1024);
        if (find_objects(session, CKO_PRIVATE_KEY, RSA_LABEL, found, 1) == 0)
            generate_pair(session, CKM_RSA_PKCS_KEY_PAIR_GEN, RSA_LABEL, 1);
        if (find_objects(session, CKO_PRIVATE_KEY, P256_LABEL, found, 1) == 0)
            generate_pair(session, CKM_EC_KEY_PAIR_GEN, P256_LABEL, 2);
    }
    must(p11->C_Finalize(NULL), "C_Finalize");
    puts("{\"prepared\": true}");
}

int main(int argc, char **argv)
{
    struct options o = {.threads = 1, .seconds = 1.0, .warmup = 0.2};
    int option;
    while ((option = getopt(argc, argv, "t:s:w:p:n:o:")) != -1) {
        switch (option) {
        case 't': o.threads = atoi(optarg); break;
        case 's': o.seconds = atof(optarg); break;
        case 'w': o.warmup = atof(optarg); break;
        case 'p': o.pause_us = atol(optarg); break;
        case 'n': o.count = atol(optarg); break;
        case 'o': o.trace = optarg; break;
        default: return 2;
        }
    }
    if (argc - optind != 2 || o.threads < 1)
        die("usage: load [-t THREADS] [-s SECONDS] [-w WARMUP] [-p PAUSE_US] [-n COUNT] [-o FILE] MODULE OPERATION");
    o.module = argv[optind];
    o.operation = argv[optind + 1];
    o.token = getenv("KEYWAY_TOKEN");
    o.pin = getenv("KEYWAY_PIN");
    if (o.token == NULL || o.pin == NULL)
        die("KEYWAY_TOKEN and KEYWAY_PIN must be set");
    if (strcmp(o.operation, "contexts") == 0) {
        contexts(&o); /* loads the module in each child */
        return 0;
    }
    load_module(o.module);
    if (strcmp(o.operation, "prepare") == 0 || strcmp(o.operation, "prepare-listing") == 0) {
        prepare(&o, o.operation[7] != '\0');
        return 0;
    }
    for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
        if (strcmp(o.operation, operations[i].name) == 0) {
            measure(&o, &operations[i]);
            return 0;
        }
    }
    die("unknown operation '%s'", o.operation);
}
