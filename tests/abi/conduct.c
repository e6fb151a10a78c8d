/* How the module behaves as a guest in somebody's process. No comparison: SoftHSM has no connection to
 * keep. A step is CKR_OK when the check holds. */
#include "abi.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST = 256 };

static CK_RV holds(bool condition)
{
    return condition ? CKR_OK : CKR_GENERAL_ERROR;
}

static size_t entries(const char *directory)
{
    size_t count = 0;
    DIR *listing = opendir(directory);
    if (listing == NULL)
        return 0;
    while (readdir(listing) != NULL)
        count++;
    closedir(listing);
    return count;
}

static void initialize(void)
{
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    must(p11->C_Initialize(&args), "C_Initialize");
}

static void descriptors(void)
{
    bool before[MOST] = {false};
    module_load();
    for (int fd = 0; fd < MOST; fd++)
        before[fd] = fcntl(fd, F_GETFD) != -1;
    initialize();
    session_user();
    int added = 0, inherited = 0, low = 0;
    for (int fd = 0; fd < MOST; fd++) {
        int flags = fcntl(fd, F_GETFD);
        if (flags == -1 || before[fd])
            continue;
        added++;
        inherited += (flags & FD_CLOEXEC) == 0;
        low += fd <= STDERR_FILENO;
    }
    STEP("few", holds(added <= 4), "");
    STEP("closed-on-exec", holds(inherited == 0), "%d", inherited);
    STEP("no-standard-stream", holds(low == 0), "%d", low);
    must(p11->C_Finalize(NULL), "C_Finalize");
    int left = 0;
    for (int fd = 0; fd < MOST; fd++)
        left += fcntl(fd, F_GETFD) != -1 && !before[fd];
    STEP("none-left", holds(left == 0), "%d", left);
}

/* With the standard streams closed, a connection must not become one of them: programs write there. */
static void standard_streams(void)
{
    module_load();
    fflush(NULL);
    int saved = dup(STDOUT_FILENO);
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        close(fd);
    initialize();
    session_user();
    int taken = 0;
    for (int fd = 0; fd <= STDERR_FILENO; fd++)
        taken += fcntl(fd, F_GETFD) != -1;
    p11->C_Finalize(NULL);
    dup2(saved, STDOUT_FILENO);
    STEP("not-taken", holds(taken == 0), "%d", taken);
}

static void leaks(void)
{
    module_load();
    initialize();
    must(p11->C_Finalize(NULL), "C_Finalize");
    size_t files = entries("/proc/self/fd"), threads = entries("/proc/self/task");
    for (int round = 0; round < 50; round++) {
        initialize();
        session_user();
        must(p11->C_Finalize(NULL), "C_Finalize");
    }
    STEP("descriptors", holds(entries("/proc/self/fd") == files), "");
    STEP("threads", holds(entries("/proc/self/task") == threads), "");
}

/* A program that closes every descriptor it does not know, and opens files of its own in their place:
 * the module must lose its connection, and must not write into the program's files. */
static void closed_descriptors(void)
{
    char path[] = "/tmp/abi-conduct-XXXXXX";
    CK_SESSION_INFO info;
    CK_BYTE random[16];
    module_load();
    initialize();
    CK_SESSION_HANDLE session = session_user();
    for (int fd = STDERR_FILENO + 1; fd < MOST; fd++)
        close(fd);
    int file = mkstemp(path);
    for (int copies = 0; copies < 16; copies++)
        dup(file);
    CK_RV first = p11->C_GetSessionInfo(session, &info);
    CK_RV second = p11->C_GenerateRandom(session, random, sizeof random);
    struct stat found;
    fstat(file, &found);
    unlink(path);
    STEP("call-comes-back", CKR_OK, "");
    STEP("nothing-written", holds(found.st_size == 0), "%ld bytes", (long)found.st_size);
    STEP("no-false-answer", holds(first != CKR_OK || info.state == CKS_RW_USER_FUNCTIONS), "%s %s",
         rv_name(first), rv_name(second));
    p11->C_Finalize(NULL);
    for (int fd = STDERR_FILENO + 1; fd < MOST; fd++)
        close(fd);
    initialize();
    STEP("works-anew", p11->C_GenerateRandom(session_user(), random, sizeof random), "");
}

static const struct test_case cases[] = {
    {"descriptors", descriptors},
    {"standard-streams", standard_streams},
    {"leaks", leaks},
    {"closed-descriptors", closed_descriptors},
    {NULL, NULL},
};

const struct topic conduct_topic = {"conduct", cases};
