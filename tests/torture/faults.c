/* Counts the changes that a process makes to files in one folder; at the n-th, a signal comes or the call fails.

   Loaded with LD_PRELOAD, and idle until torture_arm() is called. A change is a call that creates, writes, syncs,
   renames, links, shortens, touches or removes. The folder of a file descriptor is asked of /proc/self/fd, so that
   files, folders and files without a name are all found.

   cc -O2 -shared -fPIC -o faults.so faults.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SMALL = 1, NEEDS_SPACE = 2 };

static char folder[4096];
static size_t folder_length;
static long count, nth;
static int signal_number, error_number, lasting, log_file = -1;
static pid_t armed;

/* From now on, counts below `place`. At the n-th change (never if n is 0), sends itself `signal_to_send`, or lets the
   call fail with `error`, and with `for_good` all later ones as well: those that need space where the disk is full, all
   where it is broken. Each change is a line in `log`. */
void torture_arm(const char *place, long n, int signal_to_send, int error, int for_good, int log) {
    snprintf(folder, sizeof folder, "%s", place);
    folder_length = strlen(folder);
    nth = n, signal_number = signal_to_send, error_number = error, lasting = for_good, log_file = log;
    count = 0;
    armed = getpid();
}

static int inside(const char *path) {
    return !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

/* The absolute path of `path` below the folder that `at` leads to, in `full`; 0 where it is none of ours. */
static int placed(int at, const char *path, char *full, size_t size) {
    if (!armed || !path) return 0;
    if (path[0] == '/') {
        snprintf(full, size, "%s", path);
    } else {
        char link[64], where[4096];
        snprintf(link, sizeof link, at == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", at);
        ssize_t length = readlink(link, where, sizeof where - 1);
        if (length < 0) return 0;
        where[length] = 0;
        snprintf(full, size, "%s/%s", where, path);
    }
    return inside(full);
}

static int opened(int fd, char *full, size_t size) {
    if (!armed || fd < 0) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, full, size - 1);
    if (length < 0) return 0;
    full[length] = 0;
    return inside(full);
}

/* Whether the call that makes this change must fail; errno is then set. */
static int change(const char *what, const char *path, int flags) {
    long number = __sync_add_and_fetch(&count, 1);
    int before = errno;
    if (log_file >= 0) dprintf(log_file, "%ld %s %s\n", number, what, path + folder_length);
    errno = before;
    if (!nth || number < nth) return 0;
    if (signal_number) {
        if (number == nth && getpid() == armed) kill(armed, signal_number);
        return 0;
    }
    int fails = number == nth || (lasting && ((flags & NEEDS_SPACE) || error_number == EIO));
    if (fails) errno = error_number;
    return fails;
}

/* Of a write of `size` bytes that a SIGKILL or a full disk interrupts, half arrives. */
static size_t torn(size_t size) {
    return nth && count + 1 == nth && size > 1 && (signal_number == SIGKILL || (lasting && error_number != EIO)) ? size / 2 : 0;
}

#define REAL(name) static __typeof__(name) *real; if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)
#define AT_PATH(at, path, what, flags) char full[8192]; if (placed(at, path, full, sizeof full) && change(what, full, flags)) return -1
#define AT_FD(fd, what, flags) char full[8192]; if (opened(fd, full, sizeof full) && change(what, full, flags)) return -1

static int creates(int at, const char *path, int flags) {
    struct stat there;
    if ((flags & O_TMPFILE) == O_TMPFILE) return 1;
    return (flags & O_TRUNC) || ((flags & O_CREAT) && fstatat(at, path, &there, AT_SYMLINK_NOFOLLOW));
}

#define OPEN(name, PARAMETERS, at, ...)                                                   \
    int name(PARAMETERS const char *path, int flags, ...) {                               \
        REAL(name);                                                                       \
        va_list more;                                                                     \
        va_start(more, flags);                                                            \
        mode_t mode = va_arg(more, mode_t);                                               \
        va_end(more);                                                                     \
        char full[8192];                                                                  \
        if (placed(at, path, full, sizeof full) && creates(at, path, flags) && change("create", full, NEEDS_SPACE)) return -1; \
        return real(__VA_ARGS__ path, flags, mode);                                       \
    }
/* The kernel refuses what is there already, or not there, before it looks for space. */
static int is_there(int at, const char *path) {
    struct stat there;
    return path && !fstatat(at, path, &there, AT_SYMLINK_NOFOLLOW);
}

#define COMMA ,
OPEN(open, , AT_FDCWD, )
OPEN(open64, , AT_FDCWD, )
OPEN(openat, int at COMMA, at, at COMMA)
OPEN(openat64, int at COMMA, at, at COMMA)

#define FOPEN(name)                                                                       \
    FILE *name(const char *path, const char *mode) {                                      \
        REAL(name);                                                                       \
        char full[8192];                                                                  \
        if (strpbrk(mode, "wa+") && placed(AT_FDCWD, path, full, sizeof full) && change("create", full, NEEDS_SPACE)) return NULL; \
        return real(path, mode);                                                          \
    }
FOPEN(fopen)
FOPEN(fopen64)

ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    char where[8192];
    if (opened(fd, where, sizeof where)) {
        size_t half = torn(size);
        if (half) real(fd, data, half);
        if (change("write", where, NEEDS_SPACE)) return half ? (ssize_t)half : -1;
    }
    return real(fd, data, size);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { REAL(pwrite); AT_FD(fd, "write", NEEDS_SPACE); return real(fd, data, size, at); }
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) { REAL(pwrite64); AT_FD(fd, "write", NEEDS_SPACE); return real(fd, data, size, at); }
ssize_t writev(int fd, const struct iovec *data, int n) { REAL(writev); AT_FD(fd, "write", NEEDS_SPACE); return real(fd, data, n); }
ssize_t sendfile(int to, int from, off_t *at, size_t size) { REAL(sendfile); AT_FD(to, "write", NEEDS_SPACE); return real(to, from, at, size); }
ssize_t sendfile64(int to, int from, off64_t *at, size_t size) { REAL(sendfile64); AT_FD(to, "write", NEEDS_SPACE); return real(to, from, at, size); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t size, unsigned flags) { REAL(copy_file_range); AT_FD(to, "write", NEEDS_SPACE); return real(from, a, to, b, size, flags); }
int ftruncate(int fd, off_t size) { REAL(ftruncate); AT_FD(fd, "truncate", SMALL); return real(fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(ftruncate64); AT_FD(fd, "truncate", SMALL); return real(fd, size); }
int truncate(const char *path, off_t size) { REAL(truncate); AT_PATH(AT_FDCWD, path, "truncate", SMALL); return real(path, size); }
int fsync(int fd) { REAL(fsync); AT_FD(fd, "sync", SMALL); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); AT_FD(fd, "sync", SMALL); return real(fd); }

/* stdio writes inside libc, past write() above: when a buffer is full, flushed or closed, and whole blocks at once. */
size_t fwrite(const void *data, size_t size, size_t n, FILE *file) {
    REAL(fwrite);
    char where[8192];
    if (size * n >= BUFSIZ && opened(fileno(file), where, sizeof where) && change("write", where, NEEDS_SPACE)) return 0;
    return real(data, size, n, file);
}
int fflush(FILE *file) {
    REAL(fflush);
    char where[8192];
    if (file && opened(fileno(file), where, sizeof where) && change("flush", where, NEEDS_SPACE)) return EOF;
    return real(file);
}
int fclose(FILE *file) {
    REAL(fclose);
    char where[8192];
    int fails = (fcntl(fileno(file), F_GETFL) & O_ACCMODE) != O_RDONLY && opened(fileno(file), where, sizeof where) && change("close", where, NEEDS_SPACE);
    int ended = real(file);
    if (fails) errno = error_number;
    return fails ? EOF : ended;
}

int rename(const char *from, const char *to) { REAL(rename); AT_PATH(AT_FDCWD, to, "rename", SMALL); return real(from, to); }
int renameat(int a, const char *from, int b, const char *to) { REAL(renameat); AT_PATH(b, to, "rename", SMALL); return real(a, from, b, to); }
int link(const char *from, const char *to) { REAL(link); AT_PATH(AT_FDCWD, to, "link", NEEDS_SPACE); return real(from, to); }
int linkat(int a, const char *from, int b, const char *to, int flags) { REAL(linkat); AT_PATH(b, to, "link", NEEDS_SPACE); return real(a, from, b, to, flags); }
int mkdir(const char *path, mode_t mode) { REAL(mkdir); if (is_there(AT_FDCWD, path)) return real(path, mode); AT_PATH(AT_FDCWD, path, "mkdir", NEEDS_SPACE); return real(path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { REAL(mkdirat); if (is_there(at, path)) return real(at, path, mode); AT_PATH(at, path, "mkdir", NEEDS_SPACE); return real(at, path, mode); }
int unlink(const char *path) { REAL(unlink); if (!is_there(AT_FDCWD, path)) return real(path); AT_PATH(AT_FDCWD, path, "unlink", SMALL); return real(path); }
int unlinkat(int at, const char *path, int flags) { REAL(unlinkat); if (!is_there(at, path)) return real(at, path, flags); AT_PATH(at, path, flags ? "rmdir" : "unlink", SMALL); return real(at, path, flags); }
int rmdir(const char *path) { REAL(rmdir); if (!is_there(AT_FDCWD, path)) return real(path); AT_PATH(AT_FDCWD, path, "rmdir", SMALL); return real(path); }
int utimensat(int at, const char *path, const struct timespec times[2], int flags) { REAL(utimensat); AT_PATH(at, path, "touch", SMALL); return real(at, path, times, flags); }
