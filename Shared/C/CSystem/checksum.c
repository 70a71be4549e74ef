// Checksums. Both table versions work in slices of eight bytes (Intel's "slicing-by-8"): table k gives the effect of a
// byte that is followed by k zero bytes, so that eight look-ups advance the register by eight bytes at once.
#include "CSystem.h"
#include <string.h>

static uint32_t crc32c_table[8][256];
static uint16_t crc16_table[8][256];

__attribute__((constructor)) static void fill_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t wide = byte;
        uint16_t narrow = (uint16_t)(byte << 8);
        for (int bit = 0; bit < 8; bit++) {
            wide = (wide & 1) ? (wide >> 1) ^ 0x82F63B78u : wide >> 1;
            narrow = (narrow & 0x8000) ? (uint16_t)((narrow << 1) ^ 0x1021) : (uint16_t)(narrow << 1);
        }
        crc32c_table[0][byte] = wide;
        crc16_table[0][byte] = narrow;
    }
    for (int slice = 1; slice < 8; slice++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t wide = crc32c_table[slice - 1][byte];
            crc32c_table[slice][byte] = (wide >> 8) ^ crc32c_table[0][wide & 0xff];
            uint16_t narrow = crc16_table[slice - 1][byte];
            crc16_table[slice][byte] = (uint16_t)((narrow << 8) ^ crc16_table[0][narrow >> 8]);
        }
}

uint32_t orbit_crc32c_software(uint32_t crc, const void *bytes, size_t count) {
    const uint8_t *p = bytes;
    crc = ~crc;
    for (; count >= 8; p += 8, count -= 8) {
        uint32_t low = crc ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24);
        crc = crc32c_table[7][low & 0xff] ^ crc32c_table[6][low >> 8 & 0xff] ^ crc32c_table[5][low >> 16 & 0xff] ^
              crc32c_table[4][low >> 24] ^ crc32c_table[3][p[4]] ^ crc32c_table[2][p[5]] ^ crc32c_table[1][p[6]] ^
              crc32c_table[0][p[7]];
    }
    for (; count; p++, count--) crc = (crc >> 8) ^ crc32c_table[0][(crc ^ *p) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_hardware(uint32_t start, const void *bytes, size_t count) {
    const uint8_t *p = bytes;
    uint64_t crc = (uint32_t)~start;
    for (; count >= 8; p += 8, count -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        crc = __builtin_ia32_crc32di(crc, word);
    }
    for (; count; p++, count--) crc = __builtin_ia32_crc32qi((uint32_t)crc, *p);
    return ~(uint32_t)crc;
}

uint32_t orbit_crc32c(uint32_t crc, const void *bytes, size_t count) {
    return __builtin_cpu_supports("sse4.2") ? crc32c_hardware(crc, bytes, count)
                                            : orbit_crc32c_software(crc, bytes, count);
}
#else
uint32_t orbit_crc32c(uint32_t crc, const void *bytes, size_t count) {
    return orbit_crc32c_software(crc, bytes, count);
}
#endif

uint16_t orbit_crc16(const void *bytes, size_t count) {
    const uint8_t *p = bytes;
    uint16_t crc = 0;
    for (; count >= 8; p += 8, count -= 8)
        crc = crc16_table[7][p[0] ^ crc >> 8] ^ crc16_table[6][p[1] ^ (crc & 0xff)] ^ crc16_table[5][p[2]] ^
              crc16_table[4][p[3]] ^ crc16_table[3][p[4]] ^ crc16_table[2][p[5]] ^ crc16_table[1][p[6]] ^
              crc16_table[0][p[7]];
    for (; count; p++, count--) crc = (uint16_t)((crc << 8) ^ crc16_table[0][(crc >> 8) ^ *p]);
    return crc;
}
