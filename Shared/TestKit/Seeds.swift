import Base
import Glibc

/// A seed for a randomised test, printed: that of `ORBIT_SEED`, or a new one if that is not a number.
package func freshSeed(_ what: String) -> UInt64 {
    var random = SystemRandom()
    let given = getenv("ORBIT_SEED").flatMap { UInt64(String(cString: $0)) }
    let seed = given ?? random.next()
    print("\(what): replay with ORBIT_SEED=\(seed)")
    return seed
}

/// The ways in which a network or a disk hands a decoder less or other bytes than were written.
package enum Damage {
    /// Every proper prefix.
    package static func truncations(of bytes: Bytes) -> [Bytes] { (0..<bytes.count).map { Bytes(bytes[..<$0]) } }

    /// `count` copies, each with one to four bytes replaced, removed or inserted.
    package static func corruptions(of bytes: Bytes, count: Int, using random: inout SplitMix64) -> [Bytes] {
        (0..<count).map { _ in
            var copy = bytes
            for _ in 0...random.next(below: 4) {
                let position = Int(random.next(below: UInt64(copy.count + 1)))
                let byte = UInt8(truncatingIfNeeded: random.next())
                switch random.next(below: 4) {
                case 0: copy.insert(byte, at: position)
                case 1: if position < copy.count { copy.remove(at: position) }
                case _: if position < copy.count { copy[position] = byte }
                }
            }
            return copy
        }
    }
}
