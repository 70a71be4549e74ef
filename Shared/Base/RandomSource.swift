import CSystem
import Glibc

/// Where randomness comes from; injected, so that a seed replays a run.
package protocol RandomSource: RandomNumberGenerator, Sendable {}

extension RandomSource {
    /// A number in `0 ..< bound` (0 when `bound` is 0). The bias is below `bound` / 2^64.
    @inlinable package mutating func next(below bound: UInt64) -> UInt64 {
        next().multipliedFullWidth(by: bound).high
    }

    /// `count` random bytes.
    package mutating func bytes(_ count: Int) -> Bytes {
        var result = Bytes()
        result.reserveCapacity(count)
        while result.count < count {
            var word = next()
            for _ in 0..<min(8, count - result.count) {
                result.append(UInt8(truncatingIfNeeded: word))
                word >>= 8
            }
        }
        return result
    }

    /// True once in `chances` (never for 0).
    @inlinable package mutating func oneIn(_ chances: UInt64) -> Bool { chances > 0 && next(below: chances) == 0 }
}

/// Steele, Lea and Flood's generator: 64 bits of state, every seed is good. For simulation, sampling and tests, not
/// for secrets.
@usableFromInline package struct SplitMix64: RandomSource {
    @usableFromInline var state: UInt64

    @inlinable package init(seed: UInt64) { state = seed }

    @inlinable package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// The kernel's generator (getrandom): seeds and ids. Secrets come from Crypto.
package struct SystemRandom: RandomSource {
    package init() {}

    package mutating func next() -> UInt64 {
        var value: UInt64 = 0
        var filled = 0
        withUnsafeMutableBytes(of: &value) { room in
            while filled < room.count {
                let got = getrandom(room.baseAddress.map { $0 + filled }, room.count - filled, 0)
                if got > 0 { filled += got } else { precondition(errno == EINTR, "the kernel gives no randomness") }
            }
        }
        return value
    }
}
