/* A dead mount: calls for files with certain names never return. Loaded with LD_PRELOAD.

   stalls-stat, stalls-open and stalls-read in a path say which call it is; a read stalls once 64 kB have been read, or
   at once if the path contains stalls-read-all. A path with fails-read is a broken disk: from 64 kB on, reading is an
   error. The first call that stalls creates the file that STALL_STAMP names. */
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

enum { READ_BEFORE = 65536 };

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void stall(const char *path, const char *mark)
{
    if (path == NULL || strstr(path, mark) == NULL)
        return;
    const char *stamp = getenv("STALL_STAMP");
    if (stamp != NULL)
        close(REAL(open)(stamp, O_CREAT | O_WRONLY, 0600));
    for (;;)
        pause();
}

static mode_t mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                                                                                     \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = mode_of(flags, rest);                                                                            \
        va_end(rest);                                                                                                  \
        stall(path, "stalls-open");                                                                                    \
        return REAL(name)(path, flags, mode);                                                                          \
    }

OPEN(open)
OPEN(open64)

int stat(const char *path, struct stat *found)
{
    stall(path, "stalls-stat");
    return REAL(stat)(path, found);
}

int stat64(const char *path, struct stat64 *found)
{
    stall(path, "stalls-stat");
    return REAL(stat64)(path, found);
}

ssize_t read(int file, void *data, size_t count)
{
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = 0;
    if (strstr(path, "stalls-read") != NULL && lseek(file, 0, SEEK_CUR) >= READ_BEFORE)
        stall(path, "stalls-read");
    stall(path, "stalls-read-all");
    if (strstr(path, "fails-read") != NULL && lseek(file, 0, SEEK_CUR) >= READ_BEFORE) {
        errno = EIO;
        return -1;
    }
    return REAL(read)(file, data, count);
}
