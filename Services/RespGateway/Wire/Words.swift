import Base

/// Where a word of a command lies, counted from the first byte of the command.
package struct Word: Hashable, Sendable {
    package var offset: UInt32, length: UInt32
}

/// The words of one command, as slices of the read buffer: valid until the buffer is touched again.
package struct Words {
    fileprivate let base: UnsafeRawPointer
    fileprivate let table: UnsafePointer<Word>
    package let count: Int

    package init(base: UnsafeRawPointer, table: UnsafePointer<Word>, count: Int) {
        self.base = base
        self.table = table
        self.count = count
    }

    /// The word at `position`; empty past the end, so that a wrong row cannot reach a trap.
    @inline(__always) package subscript(_ position: Int) -> ByteView {
        guard position >= 0, position < count else { return ByteView(start: nil, count: 0) }
        let word = table[position]
        return ByteView(start: base + Int(word.offset), count: Int(word.length))
    }

    /// Whether the word at `position` is `text`, ASCII case ignored. `text` is lower case.
    package func matches(_ position: Int, _ text: StaticString) -> Bool {
        self[position].matches(text)
    }
}

extension ByteView {
    /// Equality with an ASCII text in lower case, the case of our letters ignored.
    package func matches(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount, let base = baseAddress else { return count == text.utf8CodeUnitCount }
        let expected = text.utf8Start
        for position in 0..<count {
            let byte = base.load(fromByteOffset: position, as: UInt8.self)
            guard byte.asciiLowercased == expected[position] else { return false }
        }
        return true
    }

    /// The bytes as text, invalid UTF-8 replaced; for messages, never for data.
    package var text: String { String(decoding: self, as: UTF8.self) }

    /// A signed decimal in its only spelling (no plus sign, no leading zero, no space), as Redis' `string2ll` reads it.
    package var decimal: Int64? {
        guard let base = baseAddress, count > 0, count <= 20 else { return nil }
        var position = 0
        var first = base.load(as: UInt8.self)
        if count == 1 { return first >= 48 && first <= 57 ? Int64(first - 48) : nil }
        let isNegative = first == UInt8(ascii: "-")
        if isNegative {
            position = 1
            first = base.load(fromByteOffset: 1, as: UInt8.self)
        }
        guard first >= 49, first <= 57 else { return nil }
        var magnitude: UInt64 = 0
        while position < count {
            let digit = base.load(fromByteOffset: position, as: UInt8.self) &- 48
            guard digit <= 9 else { return nil }
            let (product, overflow) = magnitude.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(digit))
            guard !overflow, !carry else { return nil }
            magnitude = sum
            position += 1
        }
        if isNegative { return magnitude <= 1 << 63 ? Int64(truncatingIfNeeded: 0 &- magnitude) : nil }
        return Int64(exactly: magnitude)
    }
}

extension UInt8 {
    @inline(__always) package var asciiLowercased: UInt8 { self &- 65 < 26 ? self | 0x20 : self }
    @inline(__always) package var asciiUppercased: UInt8 { self &- 97 < 26 ? self & 0xDF : self }
}

extension Words {
    /// The words after the first `dropped`: a command inside a command.
    package func dropFirst(_ dropped: Int) -> Words {
        Words(base: base, table: table + min(dropped, count), count: max(count - dropped, 0))
    }
}
