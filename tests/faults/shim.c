/* Every call that changes a file below a root, counted; the n-th one fails, or the process dies there.

   Preloaded (LD_PRELOAD), so that whatever writes is met: Python, numpy, PIL, torch and safetensors alike. Counters lie
   in shared memory: forked workers count on. A killed write has written half of its bytes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define KINDS 65536
enum { COUNT = 0, KILL = -1 };
struct shared {
    char root[PATH_MAX];
    long target;       /* the call to meet, from 1; 0: none */
    int how;           /* COUNT, KILL or an errno */
    int sticky;        /* a full disk stays full for whatever takes room */
    int no_exchange;   /* RENAME_EXCHANGE is not known here */
    long seen;
    char kinds[KINDS]; /* a letter a call */
};
static struct shared *shared;

#define REAL(name, type) ((type)dlsym(RTLD_NEXT, name))

void fault_arm(const char *root, long target, int how, int sticky, int no_exchange) {
    struct shared *made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    snprintf(made->root, sizeof made->root, "%s", root);
    made->target = target, made->how = how, made->sticky = sticky, made->no_exchange = no_exchange;
    shared = made;
}

static int below(int directory, const char *path) {
    char whole[2 * PATH_MAX], base[PATH_MAX] = "", link[64];
    if (path && path[0] == '/')
        snprintf(whole, sizeof whole, "%s", path);
    else {
        if (directory == AT_FDCWD) {
            if (!getcwd(base, sizeof base)) return 0;
        } else {
            snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
            ssize_t size = readlink(link, base, sizeof base - 1);
            if (size < 0) return 0;
            base[size] = 0;
        }
        if (path) snprintf(whole, sizeof whole, "%s/%s", base, path);
        else snprintf(whole, sizeof whole, "%s", base);
    }
    return strncmp(whole, shared->root, strlen(shared->root)) == 0;
}

/* 1: the call fails with errno; 2: the process is to die, when half of a write is done; 0: go on. */
static int meets(char kind, int directory, const char *path) {
    if (!shared || !below(directory, path)) return 0;
    long number = __sync_add_and_fetch(&shared->seen, 1);
    if (number <= KINDS) shared->kinds[number - 1] = kind;
    if (!shared->target || number < shared->target) return 0;
    int room = strchr("wmol", kind) != NULL; /* write, mkdir, open, link take room */
    if (number > shared->target && !(shared->sticky && room)) return 0;
    if (shared->how == KILL) {
        if (kind == 'w') return 2;
        kill(getpid(), SIGKILL);
    }
    errno = shared->how;
    return shared->how != COUNT;
}

const char *fault_kinds(void) { return shared ? shared->kinds : ""; }
long fault_seen(void) { return shared ? shared->seen : 0; }

ssize_t write(int fd, const void *data, size_t size) {
    ssize_t (*real)(int, const void *, size_t) = REAL("write", ssize_t (*)(int, const void *, size_t));
    switch (shared ? meets('w', fd, NULL) : 0) {
    case 1: return -1;
    case 2: real(fd, data, size / 2); kill(getpid(), SIGKILL);
    }
    return real(fd, data, size);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (shared && meets('w', fd, NULL)) { if (shared->how == KILL) kill(getpid(), SIGKILL); return -1; }
    return REAL("writev", ssize_t (*)(int, const struct iovec *, int))(fd, parts, count);
}
#define PWRITE(name)                                                                                   \
    ssize_t name(int fd, const void *data, size_t size, off_t at) {                                    \
        if (shared && meets('w', fd, NULL)) { if (shared->how == KILL) kill(getpid(), SIGKILL); return -1; } \
        return REAL(#name, ssize_t (*)(int, const void *, size_t, off_t))(fd, data, size, at);         \
    }
PWRITE(pwrite)
PWRITE(pwrite64)
#define SENDFILE(name)                                                                                 \
    ssize_t name(int out, int in, off_t *at, size_t size) {                                            \
        if (shared && meets('w', out, NULL)) { if (shared->how == KILL) kill(getpid(), SIGKILL); return -1; } \
        return REAL(#name, ssize_t (*)(int, int, off_t *, size_t))(out, in, at, size);                 \
    }
SENDFILE(sendfile)
SENDFILE(sendfile64)
ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
    if (shared && meets('w', out, NULL)) { if (shared->how == KILL) kill(getpid(), SIGKILL); return -1; }
    return REAL("copy_file_range", ssize_t (*)(int, off64_t *, int, off64_t *, size_t, unsigned))(in, from, out, to, size, flags);
}
#define OPEN(name)                                                                                     \
    int name(const char *path, int flags, ...) {                                                       \
        va_list rest; va_start(rest, flags); mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; va_end(rest); \
        if (shared && flags & O_CREAT && meets('o', AT_FDCWD, path)) return -1;                        \
        return REAL(#name, int (*)(const char *, int, ...))(path, flags, mode);                        \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                                                                   \
    int name(int directory, const char *path, int flags, ...) {                                        \
        va_list rest; va_start(rest, flags); mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; va_end(rest); \
        if (shared && flags & O_CREAT && meets('o', directory, path)) return -1;                       \
        return REAL(#name, int (*)(int, const char *, int, ...))(directory, path, flags, mode);        \
    }
OPENAT(openat)
OPENAT(openat64)

#define CALL(name, kind, parameters, arguments, directory, path)                                       \
    int name parameters {                                                                              \
        if (shared && meets(kind, directory, path)) return -1;                                         \
        return REAL(#name, int (*) parameters) arguments;                                              \
    }
CALL(mkdir, 'm', (const char *path, mode_t mode), (path, mode), AT_FDCWD, path)
CALL(mkdirat, 'm', (int at, const char *path, mode_t mode), (at, path, mode), at, path)
CALL(rename, 'r', (const char *from, const char *to), (from, to), AT_FDCWD, to)
CALL(renameat, 'r', (int at, const char *from, int there, const char *to), (at, from, there, to), there, to)
CALL(link, 'l', (const char *from, const char *to), (from, to), AT_FDCWD, to)
CALL(linkat, 'l', (int at, const char *from, int there, const char *to, int flags), (at, from, there, to, flags), there, to)
CALL(symlink, 'l', (const char *from, const char *to), (from, to), AT_FDCWD, to)
CALL(unlink, 'u', (const char *path), (path), AT_FDCWD, path)
CALL(unlinkat, 'u', (int at, const char *path, int flags), (at, path, flags), at, path)
CALL(rmdir, 'u', (const char *path), (path), AT_FDCWD, path)
CALL(fsync, 's', (int fd), (fd), fd, NULL)
CALL(fdatasync, 's', (int fd), (fd), fd, NULL)
CALL(ftruncate, 't', (int fd, off_t size), (fd, size), fd, NULL)
CALL(ftruncate64, 't', (int fd, off64_t size), (fd, size), fd, NULL)
CALL(chmod, 'c', (const char *path, mode_t mode), (path, mode), AT_FDCWD, path)
CALL(fchmod, 'c', (int fd, mode_t mode), (fd, mode), fd, NULL)

int renameat2(int at, const char *from, int there, const char *to, unsigned flags) {
    if (shared && shared->no_exchange && flags & 2) { errno = EINVAL; return -1; }
    if (shared && meets('r', there, to)) return -1;
    return REAL("renameat2", int (*)(int, const char *, int, const char *, unsigned))(at, from, there, to, flags);
}
