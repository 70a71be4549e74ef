import Base

/// Patterns of KEYS, CONFIG GET and ACL rules: `*`, `?`, `[a-z]`, `[^a]`, `\x`.
package enum Glob {
    /// Whether `text` matches `pattern` as a whole.
    ///
    /// Only the last `*` is ever tried again, because an earlier one that took more could not do better: so the time
    /// is at most the product of the lengths, whatever a client sends.
    package static func matches(_ pattern: ByteView, _ text: ByteView, ignoringCase: Bool = false) -> Bool {
        var position = 0, offset = 0
        var retry: (position: Int, offset: Int)?
        while offset < text.count {
            if position < pattern.count, pattern[position] == UInt8(ascii: "*") {
                retry = (position + 1, offset)
                position += 1
            } else if let next = step(pattern, position, text[offset], ignoringCase) {
                position = next
                offset += 1
            } else if let (restart, start) = retry {
                retry = (restart, start + 1)
                position = restart
                offset = start + 1
            } else {
                return false
            }
        }
        while position < pattern.count, pattern[position] == UInt8(ascii: "*") { position += 1 }
        return position == pattern.count
    }

    /// The place behind the element at `position` if it accepts `byte`.
    private static func step(_ pattern: ByteView, _ position: Int, _ byte: UInt8, _ ignoringCase: Bool) -> Int? {
        guard position < pattern.count else { return nil }
        func fold(_ value: UInt8) -> UInt8 { ignoringCase ? value.asciiLowercased : value }
        switch pattern[position] {
        case UInt8(ascii: "?"):
            return position + 1
        case UInt8(ascii: "["):
            return set(pattern, position + 1, fold(byte), fold)
        case UInt8(ascii: "\\") where position + 1 < pattern.count:
            return fold(pattern[position + 1]) == fold(byte) ? position + 2 : nil
        case let literal:
            return fold(literal) == fold(byte) ? position + 1 : nil
        }
    }

    /// A set whose `[` is before `start`; one that is not closed ends with the pattern, as in Redis.
    private static func set(_ pattern: ByteView, _ start: Int, _ byte: UInt8, _ fold: (UInt8) -> UInt8) -> Int? {
        var position = start, accepts = false
        let isNegated = position < pattern.count && pattern[position] == UInt8(ascii: "^")
        if isNegated { position += 1 }
        while position < pattern.count, pattern[position] != UInt8(ascii: "]") {
            if pattern[position] == UInt8(ascii: "\\"), position + 1 < pattern.count {
                position += 1
                if fold(pattern[position]) == byte { accepts = true }
            } else if position + 2 < pattern.count, pattern[position + 1] == UInt8(ascii: "-") {
                let (first, last) = (fold(pattern[position]), fold(pattern[position + 2]))
                if byte >= min(first, last), byte <= max(first, last) { accepts = true }
                position += 2
            } else if fold(pattern[position]) == byte {
                accepts = true
            }
            position += 1
        }
        return accepts != isNegated ? min(position + 1, pattern.count) : nil
    }
}
