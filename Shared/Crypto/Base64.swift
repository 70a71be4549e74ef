import Base

/// Base64 (RFC 4648, section 4): the alphabet of SCRAM and PEM, with padding.
package enum Base64 {
    private static let alphabet = Bytes("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    package static func encode(_ bytes: Bytes) -> String {
        var text: Bytes = []
        text.reserveCapacity((bytes.count + 2) / 3 * 4)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let second = start + 1 < bytes.count ? UInt32(bytes[start + 1]) : nil
            let third = start + 2 < bytes.count ? UInt32(bytes[start + 2]) : nil
            let group = UInt32(bytes[start]) << 16 | (second ?? 0) << 8 | (third ?? 0)
            text.append(alphabet[Int(group >> 18)])
            text.append(alphabet[Int(group >> 12 & 63)])
            text.append(second == nil ? UInt8(ascii: "=") : alphabet[Int(group >> 6 & 63)])
            text.append(third == nil ? UInt8(ascii: "=") : alphabet[Int(group & 63)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Strict: nil for a wrong length, a foreign character, misplaced padding or padding bits that are not zero.
    package static func decode(_ text: some StringProtocol) -> Bytes? {
        let source = Bytes(text.utf8)
        guard source.count % 4 == 0 else { return nil }
        let padding = source.suffix(2).count { $0 == UInt8(ascii: "=") }
        let digits = source.dropLast(padding)
        var result: Bytes = []
        result.reserveCapacity(source.count / 4 * 3)
        var (group, bits): (UInt32, Int) = (0, 0)
        for character in digits {
            guard let digit = value(character) else { return nil }
            group = group << 6 | digit
            bits += 6
            if bits >= 8 {
                bits -= 8
                result.append(UInt8(truncatingIfNeeded: group >> UInt32(bits)))
                group &= (1 << UInt32(bits)) - 1
            }
        }
        return group == 0 ? result : nil
    }

    private static func value(_ character: UInt8) -> UInt32? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
