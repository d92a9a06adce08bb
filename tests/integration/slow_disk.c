/* A disk that takes its time: preloaded, every write to a file, every fsync and every rename waits first.

   SLOW_DISK_US: microseconds each. SLOW_DISK_LOG: a file that gets a byte for each. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static void wait_first(void) {
    const char *us = getenv("SLOW_DISK_US"), *log = getenv("SLOW_DISK_LOG");
    if (us) usleep((useconds_t)atoi(us));
    if (log) {
        int file = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
        syscall(SYS_write, file, "x", 1);
        close(file);
    }
}

static int is_file(int fd) {
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

ssize_t write(int fd, const void *data, size_t size) {
    if (is_file(fd)) wait_first();
    return ((ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) {
    wait_first();
    return ((ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64"))(fd, data, size, at);
}

int fsync(int fd) {
    wait_first();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

int fdatasync(int fd) {
    wait_first();
    return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
}

int rename(const char *from, const char *to) {
    wait_first();
    return ((int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename"))(from, to);
}
