/// A pattern of KEYS, MATCH and change feeds: `*`, `?`, `[a-z]`, `[^…]`, and `\` before a byte that means itself.
///
/// Compiled to a list of steps. Matching goes back to the last `*` only: what an earlier one took need not be tried
/// again, because the later one can take any bytes that follow. So it costs at most pattern × text, and nothing
/// recurses.
package struct GlobPattern: Sendable {
    private enum Step: Sendable {
        case byte(UInt8)
        case any
        /// Index into `sets`.
        case set(Int)
        case star
    }

    private struct ByteSet: Sendable {
        var low: (UInt64, UInt64) = (0, 0), high: (UInt64, UInt64) = (0, 0)

        func contains(_ byte: UInt8) -> Bool {
            let word = byte < 64 ? low.0 : byte < 128 ? low.1 : byte < 192 ? high.0 : high.1
            return word >> UInt64(byte & 63) & 1 != 0
        }

        mutating func insert(_ byte: UInt8) {
            let bit = UInt64(1) << UInt64(byte & 63)
            switch byte >> 6 {
            case 0: low.0 |= bit
            case 1: low.1 |= bit
            case 2: high.0 |= bit
            case _: high.1 |= bit
            }
        }

        mutating func invert() { (low, high) = ((~low.0, ~low.1), (~high.0, ~high.1)) }
    }

    private var steps: [Step] = []
    private var sets: [ByteSet] = []

    package init(_ pattern: ByteView) {
        var position = 0
        while position < pattern.count {
            switch pattern[position] {
            case UInt8(ascii: "*"):
                if case .star? = steps.last {} else { steps.append(.star) }
            case UInt8(ascii: "?"):
                steps.append(.any)
            case UInt8(ascii: "["):
                position = addSet(pattern, position + 1)
            case UInt8(ascii: "\\") where position + 1 < pattern.count:
                position += 1
                steps.append(.byte(pattern[position]))
            case let byte:
                steps.append(.byte(byte))
            }
            position += 1
        }
    }

    /// Reads a set from behind its bracket; returns the position of the bracket that closes it, or the last of the
    /// pattern: an open set ends with it.
    private mutating func addSet(_ pattern: ByteView, _ start: Int) -> Int {
        var position = start
        var set = ByteSet()
        let isInverted = position < pattern.count && pattern[position] == UInt8(ascii: "^")
        if isInverted { position += 1 }
        while position < pattern.count, pattern[position] != UInt8(ascii: "]") {
            if pattern[position] == UInt8(ascii: "\\"), position + 1 < pattern.count {
                position += 1
                set.insert(pattern[position])
            } else if position + 2 < pattern.count, pattern[position + 1] == UInt8(ascii: "-") {
                let (first, last) = (pattern[position], pattern[position + 2])
                for byte in min(first, last)...max(first, last) { set.insert(byte) }
                position += 2
            } else {
                set.insert(pattern[position])
            }
            position += 1
        }
        if isInverted { set.invert() }
        sets.append(set)
        steps.append(.set(sets.count - 1))
        return min(position, pattern.count - 1)
    }

    /// Whether everything matches.
    package var matchesAll: Bool {
        if case .star? = steps.first, steps.count == 1 { return true }
        return false
    }

    /// Whether the whole text fits.
    package func matches(_ text: ByteView) -> Bool {
        var step = 0, position = 0
        var starStep = -1, starPosition = 0
        while position < text.count {
            if step < steps.count {
                if case .star = steps[step] {
                    (starStep, starPosition) = (step, position)
                    step += 1
                    continue
                }
                if accepts(steps[step], text[position]) {
                    step += 1
                    position += 1
                    continue
                }
            }
            guard starStep >= 0 else { return false }
            // The star takes one byte more.
            starPosition += 1
            (step, position) = (starStep + 1, starPosition)
        }
        while step < steps.count, case .star = steps[step] { step += 1 }
        return step == steps.count
    }

    @inline(__always) private func accepts(_ step: Step, _ byte: UInt8) -> Bool {
        switch step {
        case .byte(let wanted): wanted == byte
        case .any: true
        case .set(let index): sets[index].contains(byte)
        case .star: false
        }
    }
}
