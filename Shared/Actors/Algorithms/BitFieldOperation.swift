import Base

/// One operation of BITFIELD on an integer of 1 to 64 bits (63 if unsigned) at any bit offset.
struct BitFieldOperation {
    enum Kind: Int64 { case get = 0, set = 1, increment = 2 }
    enum Overflow: Int64 { case wrap = 0, saturate = 1, fail = 2 }

    let kind: Kind
    let isSigned: Bool
    let width: Int
    /// In bits.
    let offset: Int
    let value: Int64
    let overflow: Overflow

    /// The bytes that hold the integer.
    var bytes: Range<Int> { offset / 8..<(offset + width + 7) / 8 }

    /// The integer in a whole string; what lies beyond its end is zeros.
    func read(_ string: ByteView) -> Int64 {
        let range = bytes.clamped(to: 0..<string.count)
        var window = [UInt8](repeating: 0, count: bytes.count)
        for (position, byte) in string[range].enumerated() where bytes.lowerBound < string.count {
            window[position] = byte
        }
        return window.withUnsafeBytes { interpret(load($0)) }
    }

    /// Performs a set or an increment on `window`, the bytes that hold the integer. Returns the answer, nil if it
    /// failed.
    func write(in window: UnsafeMutableRawBufferPointer) -> Int64? {
        let old = interpret(load(ByteView(window)))
        // Nine bytes of headroom: the sum of a 64-bit integer and an increment.
        let wanted: Int128
        switch kind {
        case .get: return old
        case .increment: wanted = Int128(old) + Int128(value)
        // An unsigned field takes a negative value as the large one with the same bits.
        case .set: wanted = isSigned ? Int128(value) : Int128(UInt64(bitPattern: value))
        }
        let upper = isSigned ? (Int128(1) << Int128(width - 1)) - 1 : (Int128(1) << Int128(width)) - 1
        let lower = isSigned ? -upper - 1 : 0
        var new = wanted
        if wanted < lower || wanted > upper {
            switch overflow {
            case .fail: return nil
            case .saturate: new = wanted < lower && !wrapsAround(wanted, upper) ? lower : upper
            case .wrap: break  // The low bits are what is stored.
            }
        }
        let bits = UInt64(truncatingIfNeeded: new) & mask
        store(bits, window)
        return kind == .set ? old : interpret(bits)
    }

    /// Redis takes a set to a number that lies more than 2^63 below the upper bound for too large, because the distance
    /// overflows in its arithmetic.
    private func wrapsAround(_ wanted: Int128, _ upper: Int128) -> Bool {
        kind == .set && width < 64 && upper - wanted > Int128(Int64.max)
    }

    private var mask: UInt64 { width == 64 ? .max : (1 << UInt64(width)) - 1 }

    /// The `width` bits as a signed or unsigned number.
    private func interpret(_ bits: UInt64) -> Int64 {
        guard isSigned, width < 64, bits >> UInt64(width - 1) != 0 else { return Int64(bitPattern: bits) }
        return Int64(bitPattern: bits | ~mask)
    }

    /// How many bits follow the integer in its last byte.
    private var trailing: UInt64 { UInt64(bytes.upperBound * 8 - offset - width) }

    private func load(_ window: ByteView) -> UInt64 {
        var bits: UInt128 = 0
        for byte in window { bits = bits << 8 | UInt128(byte) }
        return UInt64(truncatingIfNeeded: bits >> UInt128(trailing)) & mask
    }

    private func store(_ value: UInt64, _ window: UnsafeMutableRawBufferPointer) {
        var bits: UInt128 = 0
        for byte in window { bits = bits << 8 | UInt128(byte) }
        bits = bits & ~(UInt128(mask) << UInt128(trailing)) | UInt128(value) << UInt128(trailing)
        for position in window.indices.reversed() {
            window[position] = UInt8(truncatingIfNeeded: bits)
            bits >>= 8
        }
    }
}
