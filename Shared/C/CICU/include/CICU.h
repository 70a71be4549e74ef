// ICU's root collation and full case mapping, over UTF-8. ICU's own headers rename every function by a macro, which
// Swift does not see, so nothing of them is shown here.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// A collator of the root locale; null if ICU cannot make one (its data is missing). It is never closed, and may be
/// used by all threads at once.
const void *orbit_icu_root(void);

/// What a call came to: `orbit_icu_short` says that `needed` is more than there was room for.
enum { orbit_icu_done = 0, orbit_icu_short = 1, orbit_icu_invalid = 2, orbit_icu_failed = 3 };

/// The sort key of a text, without a byte 0 at its end: keys compare by bytes as the texts do by the collator. No key
/// has a byte 0 within. `invalid` for what is not UTF-8.
int32_t orbit_icu_key(
    const void *collator, const uint8_t *text, size_t length, uint8_t *key, size_t capacity, size_t *needed);

/// 0 lower, 1 upper, 2 the first letter of every word upper and the others lower; by the rules of no language.
int32_t orbit_icu_mapped(
    int32_t mapping, const uint8_t *text, size_t length, uint8_t *result, size_t capacity, size_t *needed);
