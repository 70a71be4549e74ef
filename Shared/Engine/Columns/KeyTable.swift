import Base
import DataModel

/// Writes values of columns so that the order of the bytes is the order of the values, and equal values have equal
/// bytes: one form serves sorting, grouping, joining and DISTINCT.
struct RowKeyWriter: ~Copyable {
    /// One column of the key.
    struct Part {
        var isDescending = false
        var isNullsFirst = false
    }

    var buffer = ByteBuffer(capacity: 256)

    /// Appends the value of `row` in `column`.
    mutating func append(_ column: Column, row: Int, part: Part = Part()) {
        let start = buffer.count
        if column.isNull(at: row) {
            buffer.append(part.isNullsFirst ? 0 : 2)
            return
        }
        buffer.append(1)
        let index = column.isConstant ? 0 : row
        switch column.storage {
        case .integers(let values): buffer.append(bigEndian: UInt64(bitPattern: values[index]) ^ (1 << 63))
        case .floats(let values): append(float: values[index])
        case .booleans(let values): buffer.append(values[index] ? 1 : 0)
        case .bytes(let values):
            let isPadded = column.type.kind == .char
            let range = Int(values.offsets[index])..<Int(values.offsets[index + 1])
            values.data.withUnsafeBytes { all in
                var view = ByteView(rebasing: all[range])
                if isPadded { view = view.withoutTrailingBlanks }
                append(escaping: view)
            }
        case .values(let values): append(values[index])
        }
        if part.isDescending { invert(from: start + 1) }
    }

    private mutating func append(float value: Double) {
        // NaN is the greatest, and both zeros are one.
        var bits = value.isNaN ? Double.nan.bitPattern & (.max >> 1) : (value == 0 ? 0 : value.bitPattern)
        bits = bits >> 63 != 0 ? ~bits : bits | (1 << 63)
        buffer.append(bigEndian: bits)
    }

    /// A zero byte becomes 0 255, the end is 0 1: so a prefix sorts before what continues it.
    private mutating func append(escaping view: ByteView) {
        if memchrZero(view) {
            for byte in view {
                buffer.append(byte)
                if byte == 0 { buffer.append(255) }
            }
        } else {
            buffer.append(view)
        }
        buffer.append(0)
        buffer.append(1)
    }

    private func memchrZero(_ view: ByteView) -> Bool {
        for byte in view where byte == 0 { return true }
        return false
    }

    private mutating func append(_ value: Value) {
        KeyEncoding.append(value, into: &buffer)
    }

    private mutating func invert(from start: Int) {
        let bytes = buffer.mutableReadable
        for index in start..<bytes.count { bytes[index] = ~bytes[index] }
    }
}

extension ByteView {
    /// Without the blanks that pad a `char(n)`: they do not count when such are compared.
    var withoutTrailingBlanks: ByteView {
        var end = count
        while end > 0, self[end - 1] == UInt8(ascii: " ") { end -= 1 }
        return ByteView(rebasing: self[0..<end])
    }
}

/// Numbers distinct keys from 0 in the order in which they come. Open addressing over one arena of key bytes.
struct KeyTable: ~Copyable {
    private var slots: [Int32]
    private var hashes: [UInt64] = []
    private var offsets: [Int] = [0]
    private var arena = ByteBuffer(capacity: 4096)
    private var mask: Int

    init() {
        slots = Array(repeating: -1, count: 64)
        mask = 63
    }

    var count: Int { hashes.count }

    /// Bytes that it holds.
    var footprint: Int { arena.count + hashes.count * 24 + slots.count * 4 }

    /// The number of the key; nil if it has none.
    func find(_ key: ByteView) -> Int? {
        let hash = ByteHash.hash(key)
        var slot = Int(truncatingIfNeeded: hash) & mask
        while slots[slot] >= 0 {
            let index = Int(slots[slot])
            if hashes[index] == hash, self.key(index).equals(key) { return index }
            slot = (slot + 1) & mask
        }
        return nil
    }

    /// The number of the key, which gets one if it has none.
    mutating func insert(_ key: ByteView) -> (index: Int, isNew: Bool) {
        let hash = ByteHash.hash(key)
        var slot = Int(truncatingIfNeeded: hash) & mask
        while slots[slot] >= 0 {
            let index = Int(slots[slot])
            if hashes[index] == hash, self.key(index).equals(key) { return (index, false) }
            slot = (slot + 1) & mask
        }
        let index = hashes.count
        slots[slot] = Int32(truncatingIfNeeded: index)
        hashes.append(hash)
        arena.append(key)
        offsets.append(arena.count)
        if hashes.count * 2 > slots.count { grow() }
        return (index, true)
    }

    /// The bytes of a key; valid until the next insertion.
    func key(_ index: Int) -> ByteView {
        ByteView(rebasing: arena.readable[offsets[index]..<offsets[index + 1]])
    }

    private mutating func grow() {
        let size = slots.count * 2
        mask = size - 1
        slots = Array(repeating: -1, count: size)
        for (index, hash) in hashes.enumerated() {
            var slot = Int(truncatingIfNeeded: hash) & mask
            while slots[slot] >= 0 { slot = (slot + 1) & mask }
            slots[slot] = Int32(truncatingIfNeeded: index)
        }
    }
}
