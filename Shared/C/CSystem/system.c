#define _GNU_SOURCE
#include "CSystem.h"
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int32_t orbit_thread_id(void) {
    static __thread int32_t cached;
    if (!cached) cached = (int32_t)syscall(SYS_gettid);
    return cached;
}

const char *orbit_error_text(int32_t code) {
    const char *text = strerrordesc_np(code);
    return text ? text : "unknown error";
}

const char *orbit_error_name(int32_t code) {
    const char *name = strerrorname_np(code);
    return name ? name : "?";
}
