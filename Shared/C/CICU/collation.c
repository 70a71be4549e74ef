#include "CICU.h"
#include <stdlib.h>
#include <unicode/ucol.h>
#include <unicode/ustring.h>

const void *orbit_icu_root(void) {
    UErrorCode status = U_ZERO_ERROR;
    UCollator *collator = ucol_open("und", &status);
    if (U_SUCCESS(status)) return collator;
    if (collator) ucol_close(collator);
    return NULL;
}

// A text in the units that ICU works with: `room` if it is short, else its own memory.
typedef struct {
    UChar room[256];
    UChar *units;
    int32_t count;
} Units;

static int32_t open_units(Units *units, const uint8_t *text, size_t length) {
    // A unit for every byte at most; the sizes below stay within 32 bits.
    if (length > INT32_MAX / 8) return orbit_icu_failed;
    units->units = units->room;
    int32_t capacity = sizeof units->room / sizeof units->room[0];
    if (length > (size_t)capacity) {
        units->units = malloc(length * sizeof(UChar));
        if (!units->units) return orbit_icu_failed;
        capacity = (int32_t)length;
    }
    UErrorCode status = U_ZERO_ERROR;
    u_strFromUTF8(units->units, capacity, &units->count, (const char *)text, (int32_t)length, &status);
    if (U_SUCCESS(status)) return orbit_icu_done;
    if (units->units != units->room) free(units->units);
    return status == U_INVALID_CHAR_FOUND ? orbit_icu_invalid : orbit_icu_failed;
}

static void close_units(Units *units) {
    if (units->units != units->room) free(units->units);
}

int32_t orbit_icu_key(
    const void *collator, const uint8_t *text, size_t length, uint8_t *key, size_t capacity, size_t *needed) {
    Units units;
    int32_t result = open_units(&units, text, length);
    if (result != orbit_icu_done) return result;
    int32_t room = capacity > INT32_MAX ? INT32_MAX : (int32_t)capacity;
    // The count that comes back has the byte 0 in it; none at all is a failure.
    int32_t count = ucol_getSortKey((const UCollator *)collator, units.units, units.count, key, room);
    close_units(&units);
    if (count <= 0) return orbit_icu_failed;
    *needed = (size_t)count;
    if (count > room) return orbit_icu_short;
    *needed -= 1;
    return orbit_icu_done;
}

int32_t orbit_icu_mapped(
    int32_t mapping, const uint8_t *text, size_t length, uint8_t *result, size_t capacity, size_t *needed) {
    Units units;
    int32_t outcome = open_units(&units, text, length);
    if (outcome != orbit_icu_done) return outcome;
    // No character becomes more than three.
    int32_t room = units.count * 3 + 1, count = 0;
    UChar *mapped = malloc((size_t)room * sizeof(UChar));
    if (!mapped) {
        close_units(&units);
        return orbit_icu_failed;
    }
    UErrorCode status = U_ZERO_ERROR;
    if (mapping == 0) {
        count = u_strToLower(mapped, room, units.units, units.count, "", &status);
    } else if (mapping == 1) {
        count = u_strToUpper(mapped, room, units.units, units.count, "", &status);
    } else {
        count = u_strToTitle(mapped, room, units.units, units.count, NULL, "", &status);
    }
    close_units(&units);
    if (U_SUCCESS(status)) {
        int32_t bytes = 0, limit = capacity > INT32_MAX ? INT32_MAX : (int32_t)capacity;
        u_strToUTF8((char *)result, limit, &bytes, mapped, count, &status);
        *needed = (size_t)bytes;
    }
    free(mapped);
    if (status == U_BUFFER_OVERFLOW_ERROR) return orbit_icu_short;
    return U_SUCCESS(status) ? orbit_icu_done : orbit_icu_failed;
}
