/* What every topic of the transcript shares: the module under test, the report, the templates.
 *
 * A transcript is one line per step, "topic/case/step RV [detail]", with nothing in it that may
 * differ between two runs on equal tokens: no handles, serials, slot ids or random bytes. So two
 * modules behave alike exactly when their transcripts are equal, line by line.
 */
#ifndef ABI_H
#define ABI_H

#include <p11-kit/pkcs11.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* The function list of the module under test, and what the topics call through it. */
extern CK_FUNCTION_LIST_PTR p11;
extern const char *module_path;
extern const char *user_pin, *so_pin, *token_label;

/* --- module.c: loading, slots, sessions -------------------------------------------------- */

void *module_load(void);               /* dlopen + C_GetFunctionList; ends the process on failure */
void module_initialize(void);          /* module_load + C_Initialize(CKF_OS_LOCKING_OK) */
CK_SLOT_ID slot_of_token(void);        /* the slot whose token carries token_label */
CK_SLOT_ID slot_uninitialised(void);   /* the spare slot */
CK_SESSION_HANDLE session_open(CK_FLAGS flags);
CK_SESSION_HANDLE session_user(void);  /* read-write, user logged in */
CK_RV login_user(CK_SESSION_HANDLE session);
void must(CK_RV rv, const char *what); /* a failed precondition ends the process */

/* --- report.c: steps and crashes --------------------------------------------------------- */

struct test_case {
    const char *name;
    void (*run)(void);
};

struct topic {
    const char *name;
    const struct test_case *cases; /* ended by a NULL name */
};

/* Runs every case of a topic in a child process of its own, and goes on after a crash. */
void topic_run(const struct topic *topic);

/* One step: its RV, and a detail in printf form ("" for none), which may use step_rv. */
#define STEP(name, call, ...)                                                                      \
    do {                                                                                           \
        report_enter(name);                                                                        \
        CK_RV step_rv = (call);                                                                    \
        report_leave(name, step_rv, __VA_ARGS__);                                                  \
    } while (0)

/* A step on which nothing later depends: after a crash the case goes on with the next probe. */
#define PROBE(name, call, ...)                                                                     \
    do {                                                                                           \
        if (report_probe(name)) {                                                                  \
            CK_RV step_rv = (call);                                                                \
            report_leave(name, step_rv, __VA_ARGS__);                                              \
        }                                                                                          \
    } while (0)

void report_enter(const char *name);
bool report_probe(const char *name);
void report_leave(const char *name, CK_RV rv, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
const char *rv_name(CK_RV rv);
/* How many seconds the case has from now on until its step is a HANG; 0 for as many as any case. */
void report_within(unsigned seconds);
/* Short bytes in hexadecimal, long ones as a checksum; the text lives until the 8th next call. */
const char *hex(const void *bytes, CK_ULONG length);
/* A length as text; "none" for CK_UNAVAILABLE_INFORMATION. */
const char *len(CK_ULONG length);
/* A step name made of two or three parts; lives until the 8th next call. */
const char *join(const char *a, const char *b, const char *c);

/* --- fixed_keys.c: templates and keys of known value -------------------------------------------------- */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ATTR_BYTES(type, bytes) {type, (void *)(bytes), sizeof(bytes)}
#define ATTR_TEXT(type, text) {type, (void *)(text), sizeof(text) - 1}
#define ATTR_ULONG(type, number) {type, &(CK_ULONG){number}, sizeof(CK_ULONG)}
#define ATTR_TRUE(type) {type, &ck_true, sizeof ck_true}
#define ATTR_FALSE(type) {type, &ck_false, sizeof ck_false}

extern CK_BBOOL ck_true, ck_false;

struct key_pair {
    CK_OBJECT_HANDLE public_key, private_key;
};

CK_OBJECT_HANDLE make_aes(CK_SESSION_HANDLE session, CK_ULONG length);
CK_OBJECT_HANDLE make_des3(CK_SESSION_HANDLE session);
CK_OBJECT_HANDLE make_secret(CK_SESSION_HANDLE session, CK_ULONG length);
CK_OBJECT_HANDLE make_data(CK_SESSION_HANDLE session, const char *label, const char *value);
struct key_pair make_rsa(CK_SESSION_HANDLE session);
struct key_pair make_ec(CK_SESSION_HANDLE session);
struct key_pair make_ed(CK_SESSION_HANDLE session);
struct key_pair make_dsa(CK_SESSION_HANDLE session);
CK_OBJECT_HANDLE make_dh(CK_SESSION_HANDLE session);

/* --- one per topic ------------------------------------------------------------------------ */

extern const struct topic lifecycle_topic, forks_topic, arguments_topic, handles_topic,
    outputs_topic, sequences_topic, objects_topic, attributes_topic, mechanisms_topic,
    generation_topic, learning_topic, sizes_topic, surroundings_topic,
    tokens_topic, threads_topic, interfaces_topic, conduct_topic;

#endif
