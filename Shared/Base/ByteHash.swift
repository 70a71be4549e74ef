/// 64-bit hashes of byte strings, after Wang Yi's wyhash: unaligned eight-byte loads, folded by 64 × 64 → 128 bit
/// multiplication.
///
/// Two uses that must not be mixed up:
/// - `hash` is keyed by secrets drawn when the process starts. A client that knows this source cannot prepare keys that
///   collide (HashDoS), and no result may leave the process.
/// - `stable` has fixed secrets. Results are written to disk (native key layout, SCAN cursors): the function is frozen
///   by test vectors, and nothing whose speed depends on a good spread of hostile keys may use it.
///
/// Unlike plain wyhash, `fold` keeps its operands in the result: otherwise a word equal to a secret multiplies by zero
/// and swallows its neighbour whatever the seed, which is a collision that an attacker can aim at.
@usableFromInline package enum ByteHash {
    /// What keys a hash function: a start value and three words to hide the input from the multiplier.
    @usableFromInline package struct Secret: Sendable {
        @usableFromInline let seed: UInt64, first: UInt64, second: UInt64, third: UInt64

        /// Fixed for ever: hashes on disk depend on it.
        @usableFromInline package static let stable = Secret(
            seed: 0x2d35_8dcc_aa6c_78a5, first: 0x8bb8_4b93_962e_acc9, second: 0x4b33_a62e_d433_d4a3,
            third: 0x4d5a_2da5_1de1_aa47)

        /// Drawn once per process.
        @usableFromInline package static let process: Secret = {
            var random = SystemRandom()
            return Secret(seed: random.next(), first: random.next(), second: random.next(), third: random.next())
        }()
    }

    /// For tables in memory; differs from process to process.
    @inlinable package static func hash(_ view: ByteView) -> UInt64 { hash(view, secret: .process) }

    /// For what is written to disk; the same for ever.
    @inlinable package static func stable(_ view: ByteView) -> UInt64 { hash(view, secret: .stable) }

    @inlinable static func fold(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let product = left.multipliedFullWidth(by: right)
        return (left ^ product.low) ^ (right ^ product.high)
    }

    @inlinable static func word(_ base: UnsafeRawPointer, _ offset: Int) -> UInt64 {
        UInt64(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    @inlinable static func half(_ base: UnsafeRawPointer, _ offset: Int) -> UInt64 {
        UInt64(UInt32(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
    }

    @inlinable package static func hash(_ view: ByteView, secret: Secret) -> UInt64 {
        let count = view.count
        var state = secret.seed
        var left: UInt64 = 0
        var right: UInt64 = 0
        if let base = view.baseAddress, count > 0 {
            if count > 16 {
                (state, left, right) = long(base, count, secret)
            } else if count >= 8 {
                left = word(base, 0)
                right = word(base, count - 8)
            } else if count >= 4 {
                left = half(base, 0)
                right = half(base, count - 4)
            } else {
                // One to three bytes: first, middle and last cover them all.
                left =
                    UInt64(base.load(as: UInt8.self)) << 16
                    | UInt64(base.load(fromByteOffset: count >> 1, as: UInt8.self)) << 8
                    | UInt64(base.load(fromByteOffset: count - 1, as: UInt8.self))
            }
        }
        let mixed = (left ^ secret.first).multipliedFullWidth(by: right ^ state)
        let low = left ^ secret.first ^ mixed.low
        let high = right ^ state ^ mixed.high
        return fold(low ^ secret.second ^ UInt64(truncatingIfNeeded: count), high ^ secret.first)
    }

    /// More than 16 bytes: 48 at a time in three lanes, then 16 at a time; the last 16 are left for the final mix.
    @inlinable static func long(
        _ base: UnsafeRawPointer, _ count: Int, _ secret: Secret
    ) -> (state: UInt64, left: UInt64, right: UInt64) {
        var state = secret.seed
        var offset = 0
        if count >= 48 {
            var second = state
            var third = state
            repeat {
                state = fold(word(base, offset) ^ secret.first, word(base, offset + 8) ^ state)
                second = fold(word(base, offset + 16) ^ secret.second, word(base, offset + 24) ^ second)
                third = fold(word(base, offset + 32) ^ secret.third, word(base, offset + 40) ^ third)
                offset += 48
            } while count - offset >= 48
            state ^= second ^ third
        }
        while count - offset > 16 {
            state = fold(word(base, offset) ^ secret.first, word(base, offset + 8) ^ state)
            offset += 16
        }
        return (state, word(base, count - 16), word(base, count - 8))
    }
}
