/* A Cryptoki module for tests that tries to get out of its process. Build: gcc -shared -fPIC -o hostile.so hostile.c
 *
 * It has one slot (0) with a token "hostile". C_SeedRandom takes a word and arguments as text, tries it, and answers CKR_OK if it could be
 * done, else 0x80000000 and the errno:
 *   read PATH, write PATH     open a file, which is made for writing
 *   check PATH                ask whether it could be opened for both
 *   user NUMBER               whether it is this user (else EPERM)
 *   connect PORT              to 127.0.0.1
 *   unix PATH                 connect to a unix socket
 *   socket FAMILY             make a socket
 *   trace PID, peek PID       begin to trace a process; read its memory (an address that nobody has: EFAULT if it may)
 *   memory PID                open /proc/PID/mem
 *   kill PID SIGNAL, limit PID    send a signal; look at a limit of another process
 *   fork, bomb, exec, run     a child that ends; a hundred that stay; become /bin/true; run it
 *   thread                    one that ends
 *   fill, shared              map memory, private or shared, up to 64 GiB, and unmap it
 *   hidden                    memory behind a descriptor
 *   scribble                  write all of the memory that is shared with the daemon
 *   beyond                    write what is behind it, having mapped more
 *   resize BYTES              open its file again, and give it another size
 *   maps PID                  look at what another process has mapped
 *   files                     open up to 100000
 *   call NAME                 a system call with arguments of 0
 *   loaded                    what became of the words in the variable HOSTILE_AT_LOAD when the module was loaded
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

typedef unsigned long ulong;
typedef unsigned char byte;

struct version { byte major, minor; };
struct list { struct version version; void *function[68]; };
struct info { struct version cryptoki; byte manufacturer[32]; ulong flags; byte description[32]; struct version library; };
struct slot_info { byte description[64], manufacturer[32]; ulong flags; struct version hardware, firmware; };
struct token_info { byte label[32], manufacturer[32], model[16], serial[16]; ulong flags, numbers[10]; struct version hardware, firmware; byte time[16]; };
struct session_info { ulong slot, state, flags, error; };

static int loaded;

static int done(int descriptor)
{
    if (descriptor < 0) return -1;
    close(descriptor);
    return 0;
}

static int reach(int family, const void *address, socklen_t length)
{
    int made = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (made < 0) return -1;
    int result = connect(made, address, length), error = errno;
    close(made);
    errno = error;
    return result;
}

static int reach_port(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    return reach(AF_INET, &address, sizeof address);
}

static int reach_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    return reach(AF_UNIX, &address, sizeof address);
}

static int peek(pid_t pid)
{
    char room;
    struct iovec here = {&room, 1}, there = {(void *)8, 1};
    return process_vm_readv(pid, &here, 1, &there, 1, 0) < 0 ? -1 : 0;
}

static int open_memory(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    return done(open(path, O_RDONLY | O_CLOEXEC));
}

static int run(const char *program)
{
    int status;
    pid_t child = fork();
    if (child < 0) return -1;
    if (child == 0) {
        if (program) execl(program, program, NULL);
        _exit(program ? errno : 0);
    }
    if (waitpid(child, &status, 0) != child) return -1;
    errno = WEXITSTATUS(status);
    return status ? -1 : 0;
}

static int bomb(void)
{
    pid_t children[100];
    int count = 0, error = 0;
    while (count < 100) {
        pid_t child = fork();
        if (child < 0) { error = errno; break; }
        if (child == 0) for (;;) pause();
        children[count++] = child;
    }
    for (int i = 0; i < count; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    errno = error;
    return error ? -1 : 0;
}

static void *nothing(void *argument) { return argument; }

static int thread(void)
{
    pthread_t made;
    errno = pthread_create(&made, NULL, nothing, NULL);
    return errno ? -1 : (errno = pthread_join(made, NULL)) ? -1 : 0;
}

static int fill(int how)
{
    enum { PIECES = 256 };
    const size_t piece = (size_t)256 << 20;
    void *all[PIECES];
    int count = 0, error = 0;
    while (count < PIECES) {
        void *mapped = mmap(NULL, piece, PROT_READ | PROT_WRITE, how | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapped == MAP_FAILED) { error = errno; break; }
        all[count++] = mapped;
    }
    for (int i = 0; i < count; i++) munmap(all[i], piece);
    errno = error;
    return error ? -1 : 0;
}

static int open_many(void)
{
    static int all[100000];
    int count = 0, error = 0;
    while (count < (int)(sizeof all / sizeof *all)) {
        int opened = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (opened < 0) { error = errno; break; }
        all[count++] = opened;
    }
    for (int i = 0; i < count; i++) close(all[i]);
    errno = error;
    return error ? -1 : 0;
}

struct mapping { char *start; size_t length; };

/* The memory that is shared with the daemon. */
static int find_shared(struct mapping *found)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "re");
    if (!maps) return -1;
    ulong start, end;
    int result = -1;
    errno = ENOENT;
    while (result && fgets(line, sizeof line, maps))
        if (strstr(line, "/memfd:keyway") && sscanf(line, "%lx-%lx", &start, &end) == 2) {
            *found = (struct mapping){(char *)start, end - start};
            result = 0;
        }
    int error = errno;
    fclose(maps);
    errno = error;
    return result;
}

static int scribble(void)
{
    struct mapping shared;
    if (find_shared(&shared) < 0) return -1;
    memset(shared.start, 0xff, shared.length);
    return 0;
}

static int write_beyond(void)
{
    struct mapping shared;
    if (find_shared(&shared) < 0) return -1;
    char *more = mremap(shared.start, shared.length, 2 * shared.length, MREMAP_MAYMOVE);
    if (more == MAP_FAILED) return -1;
    more[shared.length] = 1;
    return 0;
}

static int resize(long size)
{
    struct mapping shared;
    char path[128];
    if (find_shared(&shared) < 0) return -1;
    snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (ulong)shared.start, (ulong)(shared.start + shared.length));
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return -1;
    int result = ftruncate(file, size), error = errno;
    close(file);
    errno = error;
    return result;
}

static int look_at_maps(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    return done(open(path, O_RDONLY | O_CLOEXEC));
}

static int call(const char *name)
{
    static const struct { const char *name; long number; } calls[] = {
        {"mount", SYS_mount}, {"umount2", SYS_umount2}, {"pivot_root", SYS_pivot_root}, {"chroot", SYS_chroot},
        {"unshare", SYS_unshare}, {"setns", SYS_setns}, {"bpf", SYS_bpf}, {"perf_event_open", SYS_perf_event_open},
        {"keyctl", SYS_keyctl}, {"add_key", SYS_add_key}, {"request_key", SYS_request_key}, {"userfaultfd", SYS_userfaultfd},
        {"io_uring_setup", SYS_io_uring_setup}, {"kexec_load", SYS_kexec_load}, {"init_module", SYS_init_module},
        {"open_by_handle_at", SYS_open_by_handle_at}, {"swapon", SYS_swapon}, {"acct", SYS_acct}, {"reboot", SYS_reboot},
        {"kcmp", SYS_kcmp}, {"pidfd_getfd", SYS_pidfd_getfd},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (!strcmp(calls[i].name, name)) return syscall(calls[i].number, 0, 0, 0, 0, 0, 0) < 0 ? -1 : 0;
    errno = ENOTSUP;
    return -1;
}

static int attempt(const char *words)
{
    char word[16] = "", argument[256] = "";
    int second = 0;
    sscanf(words, "%15s %255s %d", word, argument, &second);
    int number = atoi(argument);
#define IS(text) (!strcmp(word, text))
    if (IS("read")) return done(open(argument, O_RDONLY | O_CLOEXEC));
    if (IS("check")) return done(access(argument, R_OK | W_OK));
    if (IS("write")) return done(open(argument, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    if (IS("user")) return geteuid() == (uid_t)number ? 0 : (errno = EPERM, -1);
    if (IS("connect")) return reach_port(number);
    if (IS("unix")) return reach_path(argument);
    if (IS("socket")) return done(socket(number, SOCK_RAW | SOCK_CLOEXEC, 0));
    if (IS("trace")) return ptrace(PTRACE_SEIZE, number, 0, 0) < 0 ? -1 : 0;
    if (IS("peek")) return peek(number);
    if (IS("memory")) return open_memory(number);
    if (IS("kill")) return kill(number, second);
    if (IS("limit")) return prlimit(number, RLIMIT_CPU, NULL, &(struct rlimit){0});
    if (IS("fork")) return run(NULL);
    if (IS("run")) return run("/bin/true");
    if (IS("bomb")) return bomb();
    if (IS("exec")) return execl("/bin/true", "true", NULL);
    if (IS("thread")) return thread();
    if (IS("fill")) return fill(MAP_PRIVATE);
    if (IS("shared")) return fill(MAP_SHARED);
    if (IS("hidden")) return done(memfd_create("hidden", MFD_CLOEXEC));
    if (IS("scribble")) return scribble();
    if (IS("beyond")) return write_beyond();
    if (IS("resize")) return resize(number);
    if (IS("maps")) return look_at_maps(number);
    if (IS("files")) return open_many();
    if (IS("call")) return call(argument);
    errno = loaded;
    return IS("loaded") && !loaded ? 0 : -1;
}

static int try(const char *words)
{
    errno = 0;
    return attempt(words) == 0 ? 0 : errno ? errno : ENOTSUP;
}

__attribute__((constructor)) static void load(void)
{
    const char *words = getenv("HOSTILE_AT_LOAD");
    if (words) loaded = try(words);
}

static void pad(byte *field, size_t size, const char *text)
{
    memset(field, ' ', size);
    memcpy(field, text, strlen(text));
}

static ulong nothing_to_do(void) { return 0; }

static ulong get_info(struct info *info)
{
    info->cryptoki = info->library = (struct version){2, 40};
    info->flags = 0;
    pad(info->manufacturer, sizeof info->manufacturer, "hostile");
    pad(info->description, sizeof info->description, "hostile");
    return 0;
}

static ulong get_slot_list(byte present, ulong *slots, ulong *count)
{
    (void)present;
    if (slots && *count < 1) return 0x150; /* CKR_BUFFER_TOO_SMALL */
    if (slots) slots[0] = 0;
    *count = 1;
    return 0;
}

static ulong get_slot_info(ulong slot, struct slot_info *info)
{
    (void)slot;
    memset(info, 0, sizeof *info);
    pad(info->description, sizeof info->description, "hostile");
    pad(info->manufacturer, sizeof info->manufacturer, "hostile");
    info->flags = 1; /* token present */
    return 0;
}

static ulong get_token_info(ulong slot, struct token_info *info)
{
    (void)slot;
    memset(info, 0, sizeof *info);
    pad(info->label, sizeof info->label, "hostile");
    pad(info->manufacturer, sizeof info->manufacturer, "hostile");
    pad(info->model, sizeof info->model, "hostile");
    pad(info->serial, sizeof info->serial, "1");
    info->flags = 0x401; /* RNG, token initialised */
    return 0;
}

static ulong open_session(ulong slot, ulong flags, void *application, void *notify, ulong *session)
{
    (void)slot; (void)flags; (void)application; (void)notify;
    *session = 1;
    return 0;
}

static ulong get_session_info(ulong session, struct session_info *info)
{
    (void)session;
    *info = (struct session_info){0, 2, 6, 0};
    return 0;
}

static ulong seed_random(ulong session, const byte *data, ulong length)
{
    char words[512];
    (void)session;
    if (length >= sizeof words) return 0x7; /* CKR_ARGUMENTS_BAD */
    memcpy(words, data, length);
    words[length] = 0;
    int error = try(words);
    return error ? 0x80000000UL | (ulong)error : 0;
}

static struct list functions = {{2, 40}, {
    [0] = nothing_to_do, [1] = nothing_to_do, [2] = get_info, [4] = get_slot_list, [5] = get_slot_info, [6] = get_token_info,
    [12] = open_session, [13] = nothing_to_do, [14] = nothing_to_do, [15] = get_session_info, [63] = seed_random,
}};

ulong C_GetFunctionList(struct list **list)
{
    *list = &functions;
    return 0;
}
