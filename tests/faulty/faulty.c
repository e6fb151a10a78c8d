/* A Cryptoki module for tests that misbehaves as the environment variable FAULTY says. Build: gcc -shared -fPIC -o faulty.so faulty.c
 *
 * Words of FAULTY, separated by commas (none: it behaves):
 *   crash-load hang-load fail-load    the loader runs into a crash, a hang, exit(1)
 *   fail-list null-list bad-version   C_GetFunctionList fails, gives NULL, gives version 9.9
 *   no-functions                      the list is empty but for C_Initialize and C_Finalize
 *   crash-init hang-init slow-init fail-init    C_Initialize
 *   crash-sign hang-sign slow-sign exit-sign    C_Sign
 *   slow-close                        C_CloseSession
 *   few-sessions                      no more than two at a time, and C_GetTokenInfo tells how many
 *   hang                              every call after C_Initialize
 *   hang-finalize                     C_Finalize
 *   thread                            C_Initialize leaves a thread running for ever
 *   garbage-length                    output lengths and counts far above what was asked for, with CKR_OK
 *   noise                             text on standard output and standard error
 *   short-interface                   C_GetInterface gives a 3.0 list that ends where version 3.0 ends
 * FAULTY_DELAY: milliseconds of slow-init, slow-sign and slow-close (default 500).
 * FAULTY_MARK: path of a file that is made when such a delay begins.
 * FAULTY_VERSION: "2.40" (default), "3.0" or "3.2": what C_GetInterface offers.
 *
 * It has one slot (0) with a token "faulty", any session, no PIN. C_Sign gives the session's number of signatures so far and the data
 * reversed. Message encryption (3.0) XORs with 0x55, and writes a fresh IV (pIv) and a tag (pTag) as a token does.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long ulong;
typedef unsigned char byte;

enum {
    OK = 0x0, SLOT_ID_INVALID = 0x3, GENERAL_ERROR = 0x5, ARGUMENTS_BAD = 0x7, NO_EVENT = 0x8,
    ATTRIBUTE_TYPE_INVALID = 0x12, DEVICE_ERROR = 0x30, FUNCTION_NOT_SUPPORTED = 0x54, MECHANISM_PARAM_INVALID = 0x71,
    OPERATION_NOT_INITIALIZED = 0x91, SESSION_HANDLE_INVALID = 0xb3, BUFFER_TOO_SMALL = 0x150,
    NOT_INITIALIZED = 0x190, ALREADY_INITIALIZED = 0x191
};
#define GARBAGE (1UL << 60)
#define SESSIONS 64
#define FEW 2
#define AES_GCM 0x1087UL

struct version { byte major, minor; };
struct list { struct version version; void *function[104]; };
struct interface { const char *name; void *list; ulong flags; };
struct attribute { ulong type; void *value; ulong length; };
struct mechanism { ulong type; void *parameter; ulong length; };
struct gcm_message { byte *iv; ulong iv_length, iv_fixed_bits, generator; byte *tag; ulong tag_bits; };
struct initialize_args { void *callbacks[4]; ulong flags; const char *reserved; };
struct info { struct version cryptoki; byte manufacturer[32]; ulong flags; byte description[32]; struct version library; };
struct slot_info { byte description[64], manufacturer[32]; ulong flags; struct version hardware, firmware; };
struct token_info { byte label[32], manufacturer[32], model[16], serial[16]; ulong flags, numbers[10]; struct version hardware, firmware; byte time[16]; };
struct session_info { ulong slot, state, flags, error; };

static struct { int open; ulong signatures; int signing, message; } sessions[SESSIONS + 1];
static int initialised;
static ulong flags_seen;
static char reserved_seen[64];

static int faulty(const char *word)
{
    const char *list = getenv("FAULTY");
    size_t length = strlen(word);
    while (list && *list) {
        size_t own = strcspn(list, ",");
        if (own == length && memcmp(list, word, length) == 0)
            return 1;
        list += own + (list[own] == ',');
    }
    return 0;
}

static void crash(void) { *(volatile int *)0 = 1; }
static void hang(void) { for (;;) pause(); }
static void *sleep_for_ever(void *unused)
{
    for (;;) pause();
    return unused;
}

static void delay(void)
{
    const char *text = getenv("FAULTY_DELAY"), *mark = getenv("FAULTY_MARK");
    FILE *file = mark ? fopen(mark, "w") : NULL;
    if (file) fclose(file);
    usleep((useconds_t)(text ? atoi(text) : 500) * 1000);
}

__attribute__((constructor)) static void load(void)
{
    if (faulty("crash-load")) crash();
    if (faulty("hang-load")) hang();
    if (faulty("fail-load")) exit(1);
    if (faulty("noise")) {
        puts("noise on standard output");
        fflush(stdout);
        fputs("noise on standard error\n", stderr);
    }
}

static ulong enter(void)
{
    if (!initialised) return NOT_INITIALIZED;
    if (faulty("hang")) hang();
    return OK;
}
#define ENTER() do { ulong rv_ = enter(); if (rv_) return rv_; } while (0)
#define SESSION(h) do { ENTER(); if ((h) == 0 || (h) > SESSIONS || !sessions[h].open) return SESSION_HANDLE_INVALID; } while (0)

static void pad(byte *field, size_t size, const char *text)
{
    memset(field, ' ', size);
    memcpy(field, text, strlen(text));
}

/* The convention for every output buffer. */
static ulong give(const byte *data, ulong length, byte *buffer, ulong *room)
{
    if (!room) return ARGUMENTS_BAD;
    if (faulty("garbage-length")) { *room = GARBAGE; return OK; }
    if (buffer && *room < length) { *room = length; return BUFFER_TOO_SMALL; }
    if (buffer) memcpy(buffer, data, length);
    *room = length;
    return OK;
}

static ulong initialize(struct initialize_args *args)
{
    if (initialised) return ALREADY_INITIALIZED;
    if (faulty("crash-init")) crash();
    if (faulty("hang-init")) hang();
    if (faulty("slow-init")) delay();
    if (faulty("thread")) {
        pthread_t thread;
        pthread_create(&thread, NULL, sleep_for_ever, NULL);
    }
    if (faulty("fail-init")) return DEVICE_ERROR;
    flags_seen = args ? args->flags : 0;
    snprintf(reserved_seen, sizeof reserved_seen, "%s", args && args->reserved ? args->reserved : "");
    if (args && (args->callbacks[0] || args->callbacks[1] || args->callbacks[2] || args->callbacks[3])) return ARGUMENTS_BAD;
    initialised = 1;
    return OK;
}

static ulong finalize(void *reserved)
{
    if (reserved) return ARGUMENTS_BAD;
    if (faulty("hang-finalize")) hang();
    ENTER();
    initialised = 0;
    memset(sessions, 0, sizeof sessions);
    return OK;
}

static ulong get_info(struct info *info)
{
    ENTER();
    if (!info) return ARGUMENTS_BAD;
    info->cryptoki = (struct version){2, 40};
    /* What C_Initialize was given, for tests to look at. */
    info->flags = flags_seen;
    pad(info->manufacturer, sizeof info->manufacturer, "faulty");
    pad(info->description, sizeof info->description, strlen(reserved_seen) < 32 ? reserved_seen : "");
    info->library = (struct version){1, 0};
    return OK;
}

static ulong get_slot_list(byte present, ulong *slots, ulong *count)
{
    (void)present;
    ENTER();
    if (!count) return ARGUMENTS_BAD;
    if (faulty("garbage-length")) { *count = GARBAGE; return OK; }
    if (slots && *count < 1) { *count = 1; return BUFFER_TOO_SMALL; }
    if (slots) slots[0] = 0;
    *count = 1;
    return OK;
}

static ulong get_slot_info(ulong slot, struct slot_info *info)
{
    ENTER();
    if (slot) return SLOT_ID_INVALID;
    if (!info) return ARGUMENTS_BAD;
    pad(info->description, sizeof info->description, "faulty slot");
    pad(info->manufacturer, sizeof info->manufacturer, "faulty");
    info->flags |= 1; /* as some modules do: token present, added to what was there */
    return OK;
}

static ulong get_token_info(ulong slot, struct token_info *info)
{
    ENTER();
    if (slot) return SLOT_ID_INVALID;
    if (!info) return ARGUMENTS_BAD;
    memset(info, 0, sizeof *info);
    pad(info->label, sizeof info->label, "faulty");
    pad(info->manufacturer, sizeof info->manufacturer, "faulty");
    pad(info->model, sizeof info->model, "faulty");
    pad(info->serial, sizeof info->serial, "0123456789abcdef");
    info->flags = 0x401; /* RNG, token initialised */
    for (int i = 0; i < 10; i++) info->numbers[i] = ~0UL;
    if (faulty("few-sessions")) {
        info->numbers[0] = FEW;
        info->numbers[1] = 0;
        for (ulong i = 1; i <= SESSIONS; i++) info->numbers[1] += sessions[i].open;
    }
    return OK;
}

static ulong get_mechanism_list(ulong slot, ulong *list, ulong *count)
{
    ENTER();
    if (slot) return SLOT_ID_INVALID;
    if (!count) return ARGUMENTS_BAD;
    if (faulty("garbage-length")) { *count = GARBAGE; return OK; }
    if (list && *count < 1) { *count = 1; return BUFFER_TOO_SMALL; }
    if (list) list[0] = 0x80000001UL;
    *count = 1;
    return OK;
}

static ulong open_session(ulong slot, ulong flags, void *application, void *notify, ulong *session)
{
    (void)flags;
    ENTER();
    if (slot) return SLOT_ID_INVALID;
    if (!session || application || notify) return ARGUMENTS_BAD;
    for (ulong i = 1; i <= (faulty("few-sessions") ? FEW : SESSIONS); i++)
        if (!sessions[i].open) {
            memset(&sessions[i], 0, sizeof sessions[i]);
            sessions[i].open = 1;
            *session = i;
            return OK;
        }
    return 0xb1; /* CKR_SESSION_COUNT */
}

static ulong close_session(ulong session)
{
    SESSION(session);
    if (faulty("slow-close")) delay();
    sessions[session].open = 0;
    return OK;
}
static ulong close_all_sessions(ulong slot) { ENTER(); if (slot) return SLOT_ID_INVALID; memset(sessions, 0, sizeof sessions); return OK; }

static ulong get_session_info(ulong session, struct session_info *info)
{
    SESSION(session);
    if (!info) return ARGUMENTS_BAD;
    *info = (struct session_info){0, 3, 6, 0};
    return OK;
}

static ulong login(ulong session, ulong user, byte *pin, ulong length) { (void)user; (void)pin; (void)length; SESSION(session); return OK; }
static ulong logout(ulong session) { SESSION(session); return OK; }

static ulong get_attribute_value(ulong session, ulong object, struct attribute *list, ulong count)
{
    ulong rv = OK;
    (void)object;
    SESSION(session);
    if (!list) return ARGUMENTS_BAD;
    for (ulong i = 0; i < count; i++) {
        if (faulty("garbage-length")) { list[i].length = GARBAGE; continue; }
        if (list[i].type == 3) { /* CKA_LABEL */
            ulong own = give((const byte *)"label", 5, list[i].value, &list[i].length);
            if (own) { list[i].length = ~0UL; rv = own; }
        } else {
            list[i].length = ~0UL;
            rv = ATTRIBUTE_TYPE_INVALID;
        }
    }
    return rv;
}

static ulong find_init(ulong session, struct attribute *list, ulong count) { (void)list; (void)count; SESSION(session); return OK; }
static ulong find(ulong session, ulong *objects, ulong most, ulong *count)
{
    SESSION(session);
    if (!objects || !count) return ARGUMENTS_BAD;
    if (faulty("garbage-length")) { *count = most + 1000000; return OK; }
    *count = 0;
    return OK;
}
static ulong find_final(ulong session) { SESSION(session); return OK; }

static ulong sign_init(ulong session, struct mechanism *mechanism, ulong key)
{
    (void)key;
    SESSION(session);
    if (!mechanism) return ARGUMENTS_BAD;
    sessions[session].signing = 1;
    return OK;
}

static ulong sign(ulong session, byte *data, ulong length, byte *signature, ulong *room)
{
    byte own[1024];
    SESSION(session);
    if (!sessions[session].signing) return OPERATION_NOT_INITIALIZED;
    if (faulty("crash-sign")) crash();
    if (faulty("hang-sign")) hang();
    if (faulty("exit-sign")) exit(0);
    if (faulty("slow-sign")) delay();
    if (!data || length > sizeof own - 1) return ARGUMENTS_BAD;
    own[0] = (byte)sessions[session].signatures;
    for (ulong i = 0; i < length; i++) own[1 + i] = data[length - 1 - i];
    ulong rv = give(own, length + 1, signature, room);
    if (rv == OK && signature) { sessions[session].signing = 0; sessions[session].signatures++; }
    return rv;
}

static ulong generate_random(ulong session, byte *data, ulong length)
{
    SESSION(session);
    if (!data) return ARGUMENTS_BAD;
    memset(data, 0x2a, length);
    return OK;
}

static ulong wait_for_slot_event(ulong flags, ulong *slot, void *reserved)
{
    (void)slot;
    ENTER();
    if (reserved) return ARGUMENTS_BAD;
    if (flags & 1) return NO_EVENT;
    hang();
    return OK;
}

static ulong login_user(ulong session, ulong user, byte *pin, ulong pin_length, byte *name, ulong name_length)
{
    (void)user; (void)pin; (void)pin_length;
    SESSION(session);
    return name && name_length ? OK : ARGUMENTS_BAD;
}

static ulong message_init(ulong session, struct mechanism *mechanism, ulong key)
{
    (void)key;
    SESSION(session);
    if (!mechanism) { sessions[session].message = 0; return OK; }
    if (mechanism->type != AES_GCM) return 0x70; /* CKR_MECHANISM_INVALID */
    sessions[session].message = 1;
    return OK;
}

static ulong message_crypt(ulong session, struct gcm_message *p, ulong size, byte *extra, ulong extra_length, byte *in, ulong length,
                           byte *out, ulong *room)
{
    byte own[1024];
    (void)extra;
    SESSION(session);
    if (!sessions[session].message) return OPERATION_NOT_INITIALIZED;
    if (!p || size != sizeof *p || !p->iv || !p->tag) return MECHANISM_PARAM_INVALID;
    if (!in || length > sizeof own) return ARGUMENTS_BAD;
    for (ulong i = 0; i < length; i++) own[i] = in[i] ^ 0x55;
    ulong rv = give(own, length, out, room);
    if (rv == OK && out) {
        memset(p->iv, 0xaa, p->iv_length);
        memset(p->tag, (int)extra_length, (p->tag_bits + 7) / 8);
    }
    return rv;
}

static ulong message_final(ulong session) { SESSION(session); sessions[session].message = 0; return OK; }

static ulong encapsulate(ulong session, struct mechanism *mechanism, ulong key, struct attribute *list, ulong count, byte *out, ulong *room,
                         ulong *object)
{
    SESSION(session);
    if (!mechanism || !object || (!list && count)) return ARGUMENTS_BAD;
    ulong rv = give((const byte *)"ciphertext", 10, out, room);
    if (rv == OK && out) *object = key + count;
    return rv;
}

static struct list functions;

static void fill(byte major, byte minor)
{
    void **f = functions.function;
    functions.version = (struct version){major, minor};
    memset(f, 0, sizeof functions.function);
    f[0] = initialize; f[1] = finalize;
    if (faulty("no-functions")) return;
    f[2] = get_info; f[4] = get_slot_list; f[5] = get_slot_info; f[6] = get_token_info; f[7] = get_mechanism_list;
    f[12] = open_session; f[13] = close_session; f[14] = close_all_sessions; f[15] = get_session_info;
    f[18] = login; f[19] = logout; f[24] = get_attribute_value; f[26] = find_init; f[27] = find; f[28] = find_final;
    f[42] = sign_init; f[43] = sign; f[64] = generate_random; f[67] = wait_for_slot_event;
    if (faulty("short-interface")) {
        /* Beyond the end of a 3.0 list: whoever calls these has read too far. */
        for (int i = 92; i < 104; i++) f[i] = (void *)1;
        return;
    }
    f[70] = login_user; f[72] = message_init; f[73] = message_crypt; f[76] = message_final; f[92] = encapsulate;
}

ulong C_GetFunctionList(struct list **list)
{
    if (faulty("fail-list")) return GENERAL_ERROR;
    if (!list) return ARGUMENTS_BAD;
    *list = NULL;
    if (faulty("null-list")) return OK;
    fill(faulty("bad-version") ? 9 : 2, faulty("bad-version") ? 9 : 40);
    *list = &functions;
    return OK;
}

ulong C_GetInterface(const char *name, struct version *version, struct interface **interface, ulong flags)
{
    static struct interface own;
    const char *text = getenv("FAULTY_VERSION");
    byte major = text && text[0] == '3' ? 3 : 2, minor = text && text[0] == '3' && text[2] == '2' ? 2 : 0;
    (void)flags;
    if (major == 2 || !interface || (name && strcmp(name, "PKCS 11"))) return ARGUMENTS_BAD;
    /* A short interface answers to the newer version, as some modules do, but says in its list what it is. */
    if (faulty("short-interface")) minor = 0;
    else if (version && (version->major != major || version->minor != minor)) return ARGUMENTS_BAD;
    fill(major, minor);
    own = (struct interface){"PKCS 11", &functions, 0};
    *interface = &own;
    return OK;
}
