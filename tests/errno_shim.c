/* Preloaded into a process, it lets system calls fail as file systems do that are not at hand. From the environment:
 *   FAIL_FLOCK=errno                   flock, on any file
 *   FAIL_FSYNC_FOLDER=errno            fsync of a folder; FAIL_FSYNC_FILE of a file
 *   FAIL_READ=errno FAIL_PATH=ending   reads of files whose path has this ending; FAIL_OPEN when they are opened to be read
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int chosen(const char *name) {
    const char *text = getenv(name);
    return text ? atoi(text) : 0;
}

static int is_meant(const char *path) {
    const char *ending = getenv("FAIL_PATH");
    size_t whole = strlen(path), part = ending ? strlen(ending) : 0;
    return part && whole >= part && strcmp(path + whole - part, ending) == 0;
}

static int failing_read(int descriptor) {
    char link[64], path[4096];
    int code = chosen("FAIL_READ");
    if (!code) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_meant(path) ? code : 0;
}

#define FAIL_WITH(code) do { int failing = (code); if (failing) { errno = failing; return -1; } } while (0)

int flock(int descriptor, int operation) {
    FAIL_WITH(chosen("FAIL_FLOCK"));
    return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(descriptor, operation);
}

int fsync(int descriptor) {
    struct stat about;
    if (!fstat(descriptor, &about)) FAIL_WITH(chosen(S_ISDIR(about.st_mode) ? "FAIL_FSYNC_FOLDER" : "FAIL_FSYNC_FILE"));
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(descriptor);
}

#define OPEN(name)                                                                                   \
    int name(const char *path, int flags, ...) {                                                     \
        va_list more;                                                                                \
        va_start(more, flags);                                                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                      \
        va_end(more);                                                                                \
        if ((flags & O_ACCMODE) == O_RDONLY && is_meant(path)) FAIL_WITH(chosen("FAIL_OPEN"));       \
        return ((int (*)(const char *, int, mode_t))dlsym(RTLD_NEXT, #name))(path, flags, mode);     \
    }
OPEN(open)
OPEN(open64)

ssize_t read(int descriptor, void *to, size_t size) {
    FAIL_WITH(failing_read(descriptor));
    return ((ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read"))(descriptor, to, size);
}

#define PREAD(name)                                                                                                     \
    ssize_t name(int descriptor, void *to, size_t size, off_t from) {                                                   \
        FAIL_WITH(failing_read(descriptor));                                                                            \
        return ((ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, #name))(descriptor, to, size, from);           \
    }
PREAD(pread)
PREAD(pread64)
