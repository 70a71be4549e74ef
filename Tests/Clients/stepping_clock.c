// A wall clock that steps, for one process under test: preloaded, it adds an offset to CLOCK_REALTIME. The offset lies
// in a file that the test writes, $TEST_CLOCK_DIRECTORY/PID, as a 64-bit count of nanoseconds. The machine's clock, and
// the clocks that never go back, are left alone.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int (*next)(clockid_t, struct timespec *);
static volatile int64_t *offset;

__attribute__((constructor)) static void begin(void) {
    char path[4096];
    const char *directory = getenv("TEST_CLOCK_DIRECTORY");
    next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (!directory) return;
    snprintf(path, sizeof path, "%s/%d", directory, (int)getpid());
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (descriptor < 0 || ftruncate(descriptor, sizeof *offset) != 0) return;
    void *map = mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, descriptor, 0);
    if (map != MAP_FAILED) offset = map;
    close(descriptor);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!next) next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = next(clock, time);
    if (result == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t nanoseconds = time->tv_nsec + *offset % 1000000000;
        time->tv_sec += *offset / 1000000000 + (nanoseconds >= 1000000000) - (nanoseconds < 0);
        time->tv_nsec = (nanoseconds + 1000000000) % 1000000000;
    }
    return result;
}
