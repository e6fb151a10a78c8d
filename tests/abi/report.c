/* The transcript: names and RVs of steps, and the processes that keep a crash to one step.
 *
 * Each case runs in a child. The page shared with the parent says which step is under way; when
 * the child dies of a signal the parent prints CRASH for it. Steps are numbered within a case, so
 * a second child can pass over the probes that are done and print no step twice.
 */
#include "abi.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CASE_SECONDS = 60, RING = 8 };

struct progress {
    int number;     /* of the step under way, from 1; 0 outside steps */
    int printed;    /* steps up to this one are in the transcript */
    bool probe;     /* whether the step under way is a probe */
    char name[128];
};

static struct progress *progress;
static const char *topic_name, *case_name;
static int step_number;

static void line(const char *name, const char *outcome, const char *detail)
{
    printf("%s/%s/%s %s%s%s\n", topic_name, case_name, name, outcome, *detail ? " " : "", detail);
    fflush(stdout);
}

static void mark(const char *name, bool probe)
{
    step_number++;
    snprintf(progress->name, sizeof progress->name, "%s", name);
    progress->probe = probe;
    progress->number = step_number;
}

void report_enter(const char *name)
{
    mark(name, false);
}

bool report_probe(const char *name)
{
    if (step_number + 1 <= progress->printed) {
        step_number++;
        return false;
    }
    mark(name, true);
    return true;
}

void report_leave(const char *name, CK_RV rv, const char *format, ...)
{
    char detail[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    if (step_number > progress->printed) {
        line(name, rv_name(rv), detail);
        progress->printed = step_number;
    }
    progress->number = 0;
}

void report_within(unsigned seconds)
{
    alarm(seconds != 0 ? seconds : CASE_SECONDS);
}

/* Whether the case must be entered again, behind the step that crashed. */
static bool case_run_once(const struct test_case *test_case)
{
    progress->number = 0;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(CASE_SECONDS);
        step_number = 0;
        test_case->run();
        fflush(NULL);
        _Exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (WIFEXITED(status)) {
        if (WEXITSTATUS(status) != 0)
            line("case", "BROKEN", "");
        return false;
    }
    const char *outcome = WTERMSIG(status) == SIGALRM ? "HANG" : "CRASH";
    if (progress->number == 0) {
        line("case", outcome, "");
        return false;
    }
    line(progress->name, outcome, "");
    progress->printed = progress->number;
    return progress->probe;
}

void topic_run(const struct topic *topic)
{
    progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    topic_name = topic->name;
    for (const struct test_case *each = topic->cases; each->name != NULL; each++) {
        case_name = each->name;
        progress->printed = 0;
        while (case_run_once(each))
            ;
    }
}

const char *hex(const void *bytes, CK_ULONG length)
{
    static char ring[RING][80];
    static int next;
    char *text = ring[next++ % RING];
    const unsigned char *byte = bytes;
    if (length == CK_UNAVAILABLE_INFORMATION)
        return "none";
    if (length <= 32) {
        for (CK_ULONG i = 0; i < length; i++)
            sprintf(text + 2 * i, "%02x", byte[i]);
        text[2 * length] = '\0';
    } else {
        unsigned long long sum = 14695981039346656037ULL; /* FNV-1a */
        for (CK_ULONG i = 0; i < length; i++)
            sum = (sum ^ byte[i]) * 1099511628211ULL;
        sprintf(text, "fnv:%016llx", sum);
    }
    return text;
}

const char *len(CK_ULONG length)
{
    static char ring[RING][24];
    static int next;
    char *text = ring[next++ % RING];
    if (length == CK_UNAVAILABLE_INFORMATION)
        return "none";
    snprintf(text, sizeof ring[0], "%lu", length);
    return text;
}

const char *join(const char *a, const char *b, const char *c)
{
    static char ring[RING][128];
    static int next;
    char *text = ring[next++ % RING];
    snprintf(text, sizeof ring[0], "%s%s%s%s%s", a, *b ? "-" : "", b, *c ? "-" : "", c);
    return text;
}

const char *rv_name(CK_RV rv)
{
#define NAMED(name)                                                                                \
    case name:                                                                                     \
        return #name
    switch (rv) {
        NAMED(CKR_OK);
        NAMED(CKR_CANCEL);
        NAMED(CKR_HOST_MEMORY);
        NAMED(CKR_SLOT_ID_INVALID);
        NAMED(CKR_GENERAL_ERROR);
        NAMED(CKR_FUNCTION_FAILED);
        NAMED(CKR_ARGUMENTS_BAD);
        NAMED(CKR_NO_EVENT);
        NAMED(CKR_NEED_TO_CREATE_THREADS);
        NAMED(CKR_CANT_LOCK);
        NAMED(CKR_ATTRIBUTE_READ_ONLY);
        NAMED(CKR_ATTRIBUTE_SENSITIVE);
        NAMED(CKR_ATTRIBUTE_TYPE_INVALID);
        NAMED(CKR_ATTRIBUTE_VALUE_INVALID);
        NAMED(CKR_ACTION_PROHIBITED);
        NAMED(CKR_DATA_INVALID);
        NAMED(CKR_DATA_LEN_RANGE);
        NAMED(CKR_DEVICE_ERROR);
        NAMED(CKR_DEVICE_MEMORY);
        NAMED(CKR_DEVICE_REMOVED);
        NAMED(CKR_ENCRYPTED_DATA_INVALID);
        NAMED(CKR_ENCRYPTED_DATA_LEN_RANGE);
        NAMED(CKR_FUNCTION_CANCELED);
        NAMED(CKR_FUNCTION_NOT_PARALLEL);
        NAMED(CKR_FUNCTION_NOT_SUPPORTED);
        NAMED(CKR_KEY_HANDLE_INVALID);
        NAMED(CKR_KEY_SIZE_RANGE);
        NAMED(CKR_KEY_TYPE_INCONSISTENT);
        NAMED(CKR_KEY_NOT_NEEDED);
        NAMED(CKR_KEY_CHANGED);
        NAMED(CKR_KEY_NEEDED);
        NAMED(CKR_KEY_INDIGESTIBLE);
        NAMED(CKR_KEY_FUNCTION_NOT_PERMITTED);
        NAMED(CKR_KEY_NOT_WRAPPABLE);
        NAMED(CKR_KEY_UNEXTRACTABLE);
        NAMED(CKR_MECHANISM_INVALID);
        NAMED(CKR_MECHANISM_PARAM_INVALID);
        NAMED(CKR_OBJECT_HANDLE_INVALID);
        NAMED(CKR_OPERATION_ACTIVE);
        NAMED(CKR_OPERATION_NOT_INITIALIZED);
        NAMED(CKR_PIN_INCORRECT);
        NAMED(CKR_PIN_INVALID);
        NAMED(CKR_PIN_LEN_RANGE);
        NAMED(CKR_PIN_EXPIRED);
        NAMED(CKR_PIN_LOCKED);
        NAMED(CKR_SESSION_CLOSED);
        NAMED(CKR_SESSION_COUNT);
        NAMED(CKR_SESSION_HANDLE_INVALID);
        NAMED(CKR_SESSION_PARALLEL_NOT_SUPPORTED);
        NAMED(CKR_SESSION_READ_ONLY);
        NAMED(CKR_SESSION_EXISTS);
        NAMED(CKR_SESSION_READ_ONLY_EXISTS);
        NAMED(CKR_SESSION_READ_WRITE_SO_EXISTS);
        NAMED(CKR_SIGNATURE_INVALID);
        NAMED(CKR_SIGNATURE_LEN_RANGE);
        NAMED(CKR_TEMPLATE_INCOMPLETE);
        NAMED(CKR_TEMPLATE_INCONSISTENT);
        NAMED(CKR_TOKEN_NOT_PRESENT);
        NAMED(CKR_TOKEN_NOT_RECOGNIZED);
        NAMED(CKR_TOKEN_WRITE_PROTECTED);
        NAMED(CKR_UNWRAPPING_KEY_HANDLE_INVALID);
        NAMED(CKR_UNWRAPPING_KEY_SIZE_RANGE);
        NAMED(CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT);
        NAMED(CKR_USER_ALREADY_LOGGED_IN);
        NAMED(CKR_USER_NOT_LOGGED_IN);
        NAMED(CKR_USER_PIN_NOT_INITIALIZED);
        NAMED(CKR_USER_TYPE_INVALID);
        NAMED(CKR_USER_ANOTHER_ALREADY_LOGGED_IN);
        NAMED(CKR_USER_TOO_MANY_TYPES);
        NAMED(CKR_WRAPPED_KEY_INVALID);
        NAMED(CKR_WRAPPED_KEY_LEN_RANGE);
        NAMED(CKR_WRAPPING_KEY_HANDLE_INVALID);
        NAMED(CKR_WRAPPING_KEY_SIZE_RANGE);
        NAMED(CKR_WRAPPING_KEY_TYPE_INCONSISTENT);
        NAMED(CKR_RANDOM_SEED_NOT_SUPPORTED);
        NAMED(CKR_RANDOM_NO_RNG);
        NAMED(CKR_DOMAIN_PARAMS_INVALID);
        NAMED(CKR_BUFFER_TOO_SMALL);
        NAMED(CKR_SAVED_STATE_INVALID);
        NAMED(CKR_INFORMATION_SENSITIVE);
        NAMED(CKR_STATE_UNSAVEABLE);
        NAMED(CKR_CRYPTOKI_NOT_INITIALIZED);
        NAMED(CKR_CRYPTOKI_ALREADY_INITIALIZED);
        NAMED(CKR_MUTEX_BAD);
        NAMED(CKR_MUTEX_NOT_LOCKED);
        NAMED(CKR_FUNCTION_REJECTED);
    }
#undef NAMED
    static char number[RING][32];
    static int next;
    char *text = number[next++ % RING];
    snprintf(text, sizeof number[0], "0x%08lx", rv);
    return text;
}
