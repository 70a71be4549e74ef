import Base

/// Operations on strings of bits, a word at a time. Bit 0 is the highest of the first byte.
enum BitOperations {
    enum Operation: Int64 { case and = 0, or = 1, xor = 2, not = 3 }

    /// The number of ones among `bits` of `bytes`.
    static func countOnes(_ bytes: ByteView, _ bits: Range<Int>) -> Int {
        let bits = bits.clamped(to: 0..<bytes.count * 8)
        guard !bits.isEmpty, let base = bytes.baseAddress else { return 0 }
        let first = bits.lowerBound / 8, last = (bits.upperBound - 1) / 8
        let head = UInt8(0xff) >> UInt8(bits.lowerBound % 8)
        let tail = UInt8(truncatingIfNeeded: 0xff00 >> ((bits.upperBound - 1) % 8 + 1))
        guard first < last else { return (bytes[first] & head & tail).nonzeroBitCount }
        var count = (bytes[first] & head).nonzeroBitCount + (bytes[last] & tail).nonzeroBitCount
        var position = first + 1
        while position + 8 <= last {
            count &+= base.loadUnaligned(fromByteOffset: position, as: UInt64.self).nonzeroBitCount
            position &+= 8
        }
        while position < last {
            count &+= bytes[position].nonzeroBitCount
            position &+= 1
        }
        return count
    }

    /// The first of `bits` that is `bit`, or nil.
    static func position(of bit: Bool, in bytes: ByteView, _ bits: Range<Int>) -> Int? {
        let bits = bits.clamped(to: 0..<bytes.count * 8)
        guard !bits.isEmpty, let base = bytes.baseAddress else { return nil }
        // Looked for are ones, in the complement when it is zeros that are wanted.
        let flip: UInt8 = bit ? 0 : 0xff, wideFlip: UInt64 = bit ? 0 : .max
        var position = bits.lowerBound / 8
        let end = (bits.upperBound + 7) / 8
        func inside(_ found: Int) -> Int? { found < bits.upperBound ? found : nil }
        let head = (bytes[position] ^ flip) & (UInt8(0xff) >> UInt8(bits.lowerBound % 8))
        if head != 0 { return inside(position * 8 + head.leadingZeroBitCount) }
        position += 1
        while position + 8 <= end {
            let word = UInt64(bigEndian: base.loadUnaligned(fromByteOffset: position, as: UInt64.self)) ^ wideFlip
            if word != 0 { return inside(position * 8 + word.leadingZeroBitCount) }
            position += 8
        }
        while position < end {
            let byte = bytes[position] ^ flip
            if byte != 0 { return inside(position * 8 + byte.leadingZeroBitCount) }
            position += 1
        }
        return nil
    }

    /// The combination of the sources, the shorter ones continued with zeros; `not` looks at the first only.
    static func combine(_ operation: Operation, _ sources: [Bytes]) -> Bytes {
        guard var result = sources.max(by: { $0.count < $1.count }), let first = sources.first else { return [] }
        let count = result.count
        for position in result.indices { result[position] = position < first.count ? first[position] : 0 }
        if operation == .not {
            for position in result.indices { result[position] = ~result[position] }
            return result
        }
        result.withUnsafeMutableBytes { target in
            for source in sources.dropFirst() {
                source.withUnsafeBytes { combine(operation, target, $0, count) }
            }
        }
        return result
    }

    private static func combine(
        _ operation: Operation, _ target: UnsafeMutableRawBufferPointer, _ source: ByteView, _ count: Int
    ) {
        guard let into = target.baseAddress else { return }
        var position = 0
        if let from = source.baseAddress {
            while position + 8 <= source.count {
                let left = into.loadUnaligned(fromByteOffset: position, as: UInt64.self)
                let right = from.loadUnaligned(fromByteOffset: position, as: UInt64.self)
                into.storeBytes(of: apply(operation, left, right), toByteOffset: position, as: UInt64.self)
                position += 8
            }
            while position < source.count {
                target[position] = apply(operation, target[position], source[position])
                position += 1
            }
        }
        // Beyond the source there are zeros: they change something for `and` only.
        if operation == .and {
            while position < count {
                target[position] = 0
                position += 1
            }
        }
    }

    @inline(__always) private static func apply<Word: FixedWidthInteger>(
        _ operation: Operation, _ left: Word, _ right: Word
    ) -> Word {
        switch operation {
        case .and: left & right
        case .or: left | right
        case .xor: left ^ right
        case .not: ~left
        }
    }
}
