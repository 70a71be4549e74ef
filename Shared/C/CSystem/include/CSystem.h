// What Glibc's Swift module lacks or imports badly: epoll, eventfd, checksums that need CPU instructions, and a few
// calls that Swift cannot spell.
#pragma once
#include <stdint.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

/// The kernel thread id of the caller. Not inlined: `pthread_self` is declared const in glibc and gets merged across
/// `await`.
int32_t orbit_thread_id(void);

/// CRC-32C (Castagnoli, reflected) of `count` bytes, continuing `crc` (0 to begin). Uses the CPU's instruction where
/// it has one.
uint32_t orbit_crc32c(uint32_t crc, const void *bytes, size_t count);

/// The same by table, for processors without the instruction; apart from it so that tests compare both.
uint32_t orbit_crc32c_software(uint32_t crc, const void *bytes, size_t count);

/// CRC-16/XMODEM, the checksum that Redis Cluster defines hash slots by.
uint16_t orbit_crc16(const void *bytes, size_t count);

/// Thread-safe `strerror` and `strerrorname_np`: static strings of glibc, never null.
const char *orbit_error_text(int32_t code);
const char *orbit_error_name(int32_t code);

/// From now on writes the number of `signal` as one byte to `fd` whenever the process gets it. 0, or -1 with errno.
int orbit_signal_to(int signal, int fd);

/// accept4 with SOCK_NONBLOCK and SOCK_CLOEXEC.
int orbit_accept(int fd, struct sockaddr *address, socklen_t *length);

/// The credentials of the process at the other end of a Unix socket. 0, or -1 with errno.
int orbit_peer_credentials(int fd, int32_t *process, uint32_t *user, uint32_t *group);

/// Names the calling thread for debuggers and `top`; at most 15 bytes.
void orbit_name_thread(const char *name);

/// Asks the memory for the cache line at `address`, which need not be valid. A hint: it changes nothing.
static inline void orbit_prefetch(const void *address) { __builtin_prefetch(address); }
