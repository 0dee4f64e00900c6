/* A slow disk for one program: preload it, and the reads and writes of files pass at a given rate.
 *
 * SLOW_DISK_RATE  bytes per second, reads and writes together
 * SLOW_DISK_LOG   a file that gets `{"read": bytes, "written": bytes}` at the end
 *
 * The disk serves one request after the other, each for its bytes at the rate, and a call returns when its request has
 * been served: no cache, no seeks, no request is free because it was read before. It may work ahead of the program by
 * AHEAD_NS, as read-ahead and write-back do, so that a sleep that ends late costs nothing. Only pread and pwrite are
 * seen, as that is how tilework reads and writes; the log says how many bytes that were, to be held against its own
 * count. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { NS = 1000000000, AHEAD_NS = 10000000 };

static ssize_t (*real_pread)(int, void *, size_t, off_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static double ns_per_byte;
static pthread_mutex_t disk = PTHREAD_MUTEX_INITIALIZER;
static long long free_at_ns;
static atomic_llong bytes_read, bytes_written;

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * NS + t.tv_nsec;
}

/* Queues a request that came in at `asked_ns` and sleeps until it has been served. */
static void serve(ssize_t bytes, long long asked_ns) {
    pthread_mutex_lock(&disk);
    if (free_at_ns < asked_ns - AHEAD_NS) free_at_ns = asked_ns - AHEAD_NS;
    free_at_ns += (long long)(bytes * ns_per_byte);
    long long served_ns = free_at_ns;
    pthread_mutex_unlock(&disk);
    // Even a sleep until a time gone by costs a change of threads.
    if (served_ns <= now_ns()) return;
    struct timespec until = {served_ns / NS, served_ns % NS};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL)) {
    }
}

ssize_t pread64(int fd, void *into, size_t count, off_t offset) {
    long long asked_ns = now_ns();
    ssize_t done = real_pread(fd, into, count, offset);
    if (done > 0) {
        atomic_fetch_add(&bytes_read, done);
        serve(done, asked_ns);
    }
    return done;
}

ssize_t pwrite64(int fd, const void *from, size_t count, off_t offset) {
    long long asked_ns = now_ns();
    ssize_t done = real_pwrite(fd, from, count, offset);
    if (done > 0) {
        atomic_fetch_add(&bytes_written, done);
        serve(done, asked_ns);
    }
    return done;
}

ssize_t pread(int fd, void *into, size_t count, off_t offset) { return pread64(fd, into, count, offset); }
ssize_t pwrite(int fd, const void *from, size_t count, off_t offset) { return pwrite64(fd, from, count, offset); }

__attribute__((constructor)) static void start(void) {
    real_pread = (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, "pread64");
    real_pwrite = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    const char *rate = getenv("SLOW_DISK_RATE");
    ns_per_byte = rate ? NS / atof(rate) : 0;
}

__attribute__((destructor)) static void finish(void) {
    const char *path = getenv("SLOW_DISK_LOG");
    FILE *log = path ? fopen(path, "w") : NULL;
    if (!log) return;
    fprintf(log, "{\"read\": %lld, \"written\": %lld}\n", bytes_read, bytes_written);
    fclose(log);
}
