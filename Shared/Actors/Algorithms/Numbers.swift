import Base
import Glibc

// Numbers as Redis reads and writes them.

/// What Redis computes floating-point increments in on the machine at hand.
#if arch(x86_64) || arch(i386)
typealias LongDouble = Float80
#else
typealias LongDouble = Double
#endif

/// A decimal integer in its one canonical form (no sign `+`, no leading zeros, no spaces, no `-0`); nil for anything
/// else.
func decimalInteger(_ text: ByteView) -> Int64? {
    guard text.count > 0, text.count <= 20 else { return nil }
    let isNegative = text[0] == UInt8(ascii: "-")
    let digits = isNegative ? ByteView(rebasing: text[1...]) : text
    guard let first = digits.first else { return nil }
    if first == UInt8(ascii: "0") { return digits.count == 1 && !isNegative ? 0 : nil }
    var magnitude: UInt64 = 0
    for byte in digits {
        guard byte >= 48, byte <= 57 else { return nil }
        let (product, overflow) = magnitude.multipliedReportingOverflow(by: 10)
        let (sum, carry) = product.addingReportingOverflow(UInt64(byte - 48))
        guard !overflow, !carry else { return nil }
        magnitude = sum
    }
    if isNegative { return magnitude <= 1 << 63 ? Int64(truncatingIfNeeded: 0 &- magnitude) : nil }
    return Int64(exactly: magnitude)
}

/// The canonical form of an integer.
func decimalBytes(_ value: Int64) -> Bytes {
    var reversed: Bytes = []
    var rest = value.magnitude
    repeat {
        reversed.append(UInt8(truncatingIfNeeded: 48 + rest % 10))
        rest /= 10
    } while rest > 0
    if value < 0 { reversed.append(UInt8(ascii: "-")) }
    return reversed.reversed()
}

/// A floating-point number as `strtold` reads it in the C locale: decimal or hexadecimal, or infinite; nil for NaN,
/// for spaces around it, and for what is too large or too small to represent.
func parseLongDouble(_ text: ByteView) -> LongDouble? {
    guard text.count > 0, text.count < 5120, text.allSatisfy({ $0 > 32 && $0 < 127 }) else { return nil }
    guard let value = LongDouble(String(decoding: text, as: UTF8.self)), !value.isNaN else { return nil }
    let isWord = text.contains { $0 | 32 == UInt8(ascii: "i") }
    if value.isInfinite { return isWord ? value : nil }
    // A zero made of other digits is an underflow.
    if value == 0, !isZero(text) { return nil }
    return value
}

private func isZero(_ text: ByteView) -> Bool {
    var isHexadecimal = false
    for byte in text {
        switch byte | 32 {
        case UInt8(ascii: "x"): isHexadecimal = true
        case UInt8(ascii: "p"): return true
        case UInt8(ascii: "e") where !isHexadecimal: return true
        case UInt8(ascii: "1")...UInt8(ascii: "9"), UInt8(ascii: "a")...UInt8(ascii: "f"): return false
        case _: continue
        }
    }
    return true
}

/// A finite number with 17 digits after the point, trailing zeros trimmed, never with an exponent.
func formatLongDouble(_ value: LongDouble) -> Bytes {
    // The largest has 4933 digits before the point.
    var text = Bytes(repeating: 0, count: 5120)
    #if arch(x86_64) || arch(i386)
    let format = "%.17Lf"
    #else
    let format = "%.17f"
    #endif
    let written = text.withUnsafeMutableBytes { buffer in
        buffer.withMemoryRebound(to: CChar.self) { target in
            withVaList([value]) { vsnprintf(target.baseAddress, target.count, format, $0) }
        }
    }
    text.removeSubrange(min(max(0, Int(written)), text.count)...)
    guard text.contains(UInt8(ascii: ".")) else { return text }
    while text.last == UInt8(ascii: "0") { text.removeLast() }
    if text.last == UInt8(ascii: ".") { text.removeLast() }
    return text == [UInt8(ascii: "-"), UInt8(ascii: "0")] ? [UInt8(ascii: "0")] : text
}
