import Base
import Crypto
import DataModel

/// Strings of bytes: their parts, their spellings, their digests.
enum BytesFunctions {
    static let rows: [ScalarFunction] = digests + spellings + parts + texts

    // MARK: Digests

    private static let answers: [NamedDigest: String] = [
        .sha224: "\\x23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7",
        .sha256: "\\xba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        .sha384: "\\xcb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
            + "8086072ba1e7cc2358baeca134c825a7",
        .sha512: "\\xddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
            + "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ]

    private static let digests: [ScalarFunction] =
        NamedDigest.allCases.filter { $0 != .md5 }.map { digest in
            .row(digest.rawValue, [.bytes], .bytes, ("\(digest.rawValue)('abc'::bytea)", answers[digest] ?? "")) {
                a, _ throws(StatementError) in .bytes(try hash(a[0].octets, digest))
            }
        } + [
            .row("md5", [.text], .text, ("md5('abc')", "900150983cd24fb0d6963f7d28e17f72")) {
                a, _ throws(StatementError) in .text(hexadecimal(try hash(Bytes(a[0].string.utf8), .md5)))
            },
            .row("md5", [.bytes], .text, ("md5('abc'::bytea)", "900150983cd24fb0d6963f7d28e17f72")) {
                a, _ throws(StatementError) in .text(hexadecimal(try hash(a[0].octets, .md5)))
            },
        ]

    private static func hash(_ bytes: Bytes, _ digest: NamedDigest) throws(StatementError) -> Bytes {
        guard let result = digest.hash(bytes) else {
            throw StatementError(.internalError, "could not compute \(digest.rawValue.uppercased()) hash: unsupported")
        }
        return result
    }

    // MARK: Spellings

    private static let digits = Bytes("0123456789abcdef".utf8)

    static func hexadecimal(_ bytes: Bytes) -> String {
        var text: Bytes = []
        text.reserveCapacity(bytes.count * 2)
        for byte in bytes {
            text.append(digits[Int(byte >> 4)])
            text.append(digits[Int(byte & 15)])
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static let spellings: [ScalarFunction] = [
        .row("encode", [.bytes, .text], .text, ("encode('\\x0123ff', 'base64')", "ASP/")) {
            a, _ throws(StatementError) in
            switch a[1].string.lowercased() {
            case "hex": return .text(hexadecimal(a[0].octets))
            case "base64": return .text(base64(a[0].octets))
            case "escape": return .text(escaped(a[0].octets))
            case _: throw unknown(a[1].string)
            }
        },
        .row("decode", [.text, .text], .bytes, ("decode('0123ff', 'hex')", "\\x0123ff")) {
            a, _ throws(StatementError) in
            switch a[1].string.lowercased() {
            case "hex": return .bytes(try fromHexadecimal(a[0].string))
            case "base64": return .bytes(try fromBase64(a[0].string))
            case "escape": return .bytes(try fromEscaped(a[0].string))
            case _: throw unknown(a[1].string)
            }
        },
        .row("convert_to", [.text, .name], .bytes, ("convert_to('é', 'UTF8')", "\\xc3a9"), volatility: .stable) {
            a, _ throws(StatementError) in
            switch try encoding(a[1].string, "destination") {
            case .utf8: return .bytes(Bytes(a[0].string.utf8))
            case .latin1:
                var bytes: Bytes = []
                for scalar in a[0].string.unicodeScalars {
                    guard let byte = UInt8(exactly: scalar.value) else {
                        throw StatementError(
                            .untranslatableCharacter,
                            "character with byte sequence \(sequence(Bytes(String(scalar).utf8))) in encoding \"UTF8\" "
                                + "has no equivalent in encoding \"LATIN1\"")
                    }
                    bytes.append(byte)
                }
                return .bytes(bytes)
            }
        },
        .row("convert_from", [.bytes, .name], .text, ("convert_from('\\xc3a9', 'UTF8')", "é"), volatility: .stable) {
            a, _ throws(StatementError) in
            switch try encoding(a[1].string, "source") {
            case .utf8:
                guard let text = String(validating: a[0].octets, as: UTF8.self), !text.utf8.contains(0) else {
                    throw invalidCharacter(in: a[0].octets)
                }
                return .text(text)
            case .latin1:
                var view = String.UnicodeScalarView()
                for byte in a[0].octets where byte != 0 { view.append(Unicode.Scalar(byte)) }
                return .text(String(view))
            }
        },
    ]

    private enum Encoding { case utf8, latin1 }

    private static func encoding(_ name: String, _ side: String) throws(StatementError) -> Encoding {
        switch name.lowercased().filter({ $0.isLetter || $0.isNumber }) {
        case "utf8", "unicode": return .utf8
        case "latin1", "iso88591": return .latin1
        case _: throw StatementError(.invalidParameterValue, "invalid \(side) encoding name \"\(name)\"")
        }
    }

    private static func sequence(_ bytes: Bytes) -> String {
        bytes.map { "0x" + hexadecimal([$0]) }.joined(separator: " ")
    }

    private static func unknown(_ name: String) -> StatementError {
        StatementError(.invalidParameterValue, "unrecognized encoding: \"\(name)\"")
    }

    /// In lines of 76 characters.
    private static func base64(_ bytes: Bytes) -> String {
        let whole = Array(Base64.encode(bytes).utf8)
        var text: Bytes = []
        for (index, byte) in whole.enumerated() {
            if index > 0, index % 76 == 0 { text.append(10) }
            text.append(byte)
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// Zero, and what is no ASCII, by three octal digits; a backslash twice.
    private static func escaped(_ bytes: Bytes) -> String {
        var text: Bytes = []
        for byte in bytes {
            if byte == 0 || byte >= 0x80 {
                text += [UInt8(ascii: "\\"), 48 + (byte >> 6), 48 + (byte >> 3 & 7), 48 + (byte & 7)]
            } else {
                if byte == UInt8(ascii: "\\") { text.append(byte) }
                text.append(byte)
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func isBlank(_ byte: UInt8) -> Bool {
        byte == 32 || (9...13).contains(byte) && byte != 11 && byte != 12
    }

    private static func character(_ bytes: Bytes, at index: Int) -> String {
        var end = index + 1
        while end < bytes.count, bytes[end] & 0xc0 == 0x80 { end += 1 }
        return String(decoding: bytes[index..<end], as: UTF8.self)
    }

    private static func fromHexadecimal(_ text: String) throws(StatementError) -> Bytes {
        let source = Bytes(text.utf8)
        var bytes: Bytes = [], high: UInt8?
        for (index, byte) in source.enumerated() where !isBlank(byte) || high != nil {
            guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else {
                throw StatementError(
                    .invalidParameterValue, "invalid hexadecimal digit: \"\(character(source, at: index))\"")
            }
            if let first = high {
                bytes.append(first << 4 | UInt8(digit))
                high = nil
            } else {
                high = UInt8(digit)
            }
        }
        guard high == nil else {
            throw StatementError(.invalidParameterValue, "invalid hexadecimal data: odd number of digits")
        }
        return bytes
    }

    private static func fromBase64(_ text: String) throws(StatementError) -> Bytes {
        let source = Bytes(text.utf8)
        var bytes: Bytes = [], group: UInt32 = 0, count = 0, padding = 0
        for (index, byte) in source.enumerated() where !isBlank(byte) {
            let digit: UInt32
            switch byte {
            case UInt8(ascii: "A")...UInt8(ascii: "Z"): digit = UInt32(byte - 65)
            case UInt8(ascii: "a")...UInt8(ascii: "z"): digit = UInt32(byte - 97) + 26
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = UInt32(byte - 48) + 52
            case UInt8(ascii: "+"): digit = 62
            case UInt8(ascii: "/"): digit = 63
            case UInt8(ascii: "="):
                guard count == 2 || count == 3 else {
                    throw StatementError(.invalidParameterValue, "unexpected \"=\" while decoding base64 sequence")
                }
                padding += 1
                digit = 0
            case _:
                throw StatementError(
                    .invalidParameterValue,
                    "invalid symbol \"\(character(source, at: index))\" found while decoding base64 sequence")
            }
            group = group << 6 | digit
            count += 1
            if count == 4 {
                let triple = [
                    UInt8(truncatingIfNeeded: group >> 16), UInt8(truncatingIfNeeded: group >> 8),
                    UInt8(truncatingIfNeeded: group),
                ]
                bytes += triple.prefix(max(3 - padding, 1))
                (group, count) = (0, 0)
            }
        }
        guard count == 0 else {
            throw StatementError(
                .invalidParameterValue, "invalid base64 end sequence",
                hint: "Input data is missing padding, is truncated, or is otherwise corrupted.")
        }
        return bytes
    }

    private static func fromEscaped(_ text: String) throws(StatementError) -> Bytes {
        let source = Bytes(text.utf8)
        var bytes: Bytes = [], index = 0
        while index < source.count {
            guard source[index] == UInt8(ascii: "\\") else {
                bytes.append(source[index])
                index += 1
                continue
            }
            if index + 1 < source.count, source[index + 1] == UInt8(ascii: "\\") {
                bytes.append(source[index])
                index += 2
                continue
            }
            let octal = source[min(index + 1, source.count)..<min(index + 4, source.count)]
            guard octal.count == 3, octal.allSatisfy({ (48...55).contains($0) }), octal[octal.startIndex] < 52 else {
                throw StatementError(.invalidTextRepresentation, "invalid input syntax for type bytea")
            }
            bytes.append(octal.reduce(0) { $0 << 3 | ($1 - 48) })
            index += 4
        }
        return bytes
    }

    // MARK: Parts

    private static func index(_ value: Value, below limit: Int) throws(StatementError) -> Int {
        guard value.int >= 0, value.int < Int64(limit) else {
            throw StatementError(.arraySubscriptError, "index \(value.int) out of valid range, 0..\(limit - 1)")
        }
        return Int(value.int)
    }

    private static let parts: [ScalarFunction] = [
        .row("get_byte", [.bytes, .int32], .int32, ("get_byte('\\x1234', 1)", "52")) { a, _ throws(StatementError) in
            .integer(Int64(a[0].octets[try index(a[1], below: a[0].octets.count)]))
        },
        .row("set_byte", [.bytes, .int32, .int32], .bytes, ("set_byte('\\x1234', 1, 255)", "\\x12ff")) {
            a, _ throws(StatementError) in
            var bytes = a[0].octets
            bytes[try index(a[1], below: bytes.count)] = UInt8(truncatingIfNeeded: a[2].int)
            return .bytes(bytes)
        },
        .row("get_bit", [.bytes, .int64], .int32, ("get_bit('\\x02'::bytea, 1)", "1")) { a, _ throws(StatementError) in
            let place = try index(a[1], below: a[0].octets.count * 8)
            return .integer(Int64(a[0].octets[place / 8] >> UInt8(place % 8) & 1))
        },
        .row("set_bit", [.bytes, .int64, .int32], .bytes, ("set_bit('\\x00'::bytea, 7, 1)", "\\x80")) {
            a, _ throws(StatementError) in
            var bytes = a[0].octets
            let place = try index(a[1], below: bytes.count * 8)
            guard a[2].int == 0 || a[2].int == 1 else {
                throw StatementError(.invalidParameterValue, "new bit must be 0 or 1")
            }
            let bit: UInt8 = 1 << UInt8(place % 8)
            if a[2].int == 1 { bytes[place / 8] |= bit } else { bytes[place / 8] &= ~bit }
            return .bytes(bytes)
        },
        .row("bit_count", [.bytes], .int64, ("bit_count('\\xff01'::bytea)", "9")) { a, _ throws(StatementError) in
            .integer(a[0].octets.reduce(0) { $0 + Int64($1.nonzeroBitCount) })
        },
        .row("bit_length", [.bytes], .int32, ("bit_length('\\x0102'::bytea)", "16")) { a, _ throws(StatementError) in
            .integer(Int64(a[0].octets.count * 8))
        },
    ]

    /// Bytes `from` up to and without `end`, counted from 1.
    private static func slice(_ bytes: Bytes, from: Int, end: Int) -> Bytes {
        let low = min(max(from, 1) - 1, bytes.count), high = min(max(end, 1) - 1, bytes.count)
        return low < high ? Bytes(bytes[low..<high]) : []
    }

    /// The bytes of the first character that is none.
    private static func invalidCharacter(in octets: Bytes) -> StatementError {
        func width(_ first: UInt8) -> Int {
            first & 0xe0 == 0xc0 ? 2 : first & 0xf0 == 0xe0 ? 3 : first & 0xf8 == 0xf0 ? 4 : 1
        }
        var rest = octets[...]
        while let first = rest.first {
            let character = rest.prefix(width(first))
            if first == 0 || String(validating: character, as: UTF8.self) == nil {
                let words = character.map { "0x" + ($0 < 16 ? "0" : "") + String($0, radix: 16) }
                return StatementError(
                    .characterNotInRepertoire,
                    "invalid byte sequence for encoding \"UTF8\": \(words.joined(separator: " "))")
            }
            rest = rest.dropFirst(character.count)
        }
        return StatementError(.characterNotInRepertoire, "invalid byte sequence for encoding \"UTF8\"")
    }

    private static func overlaid(_ a: [Value], _ count: Int) throws(StatementError) -> Value {
        let start = Int(a[2].int)
        guard start > 0 else { throw StatementError(.substringError, "negative substring length not allowed") }
        guard start + count <= Int(Int32.max) else { throw Casts.outOfRange(.int32) }
        let whole = a[0].octets
        return .bytes(
            slice(whole, from: 1, end: start) + a[1].octets + slice(whole, from: max(start + count, 1), end: .max))
    }

    private static func trimmed(_ a: [Value], _ isLeft: Bool, _ isRight: Bool) -> Value {
        let set = Set(a[1].octets)
        var view = a[0].octets[...]
        while isLeft, let first = view.first, set.contains(first) { view.removeFirst() }
        while isRight, let last = view.last, set.contains(last) { view.removeLast() }
        return .bytes(Bytes(view))
    }

    private static let texts: [ScalarFunction] =
        ["substring", "substr"].flatMap { (name: String) -> [ScalarFunction] in
            [
                .row(name, [.bytes, .int32], .bytes, ("\(name)('\\x010203'::bytea, 2)", "\\x0203")) {
                    a, _ throws(StatementError) in .bytes(slice(a[0].octets, from: Int(a[1].int), end: .max))
                },
                .row(name, [.bytes, .int32, .int32], .bytes, ("\(name)('\\x010203'::bytea, 2, 1)", "\\x02")) {
                    a, _ throws(StatementError) in
                    guard a[2].int >= 0 else {
                        throw StatementError(.substringError, "negative substring length not allowed")
                    }
                    return .bytes(slice(a[0].octets, from: Int(a[1].int), end: Int(a[1].int + a[2].int)))
                },
            ]
        } + [
            .row("position", [.bytes, .bytes], .int32, ("position('\\x02'::bytea in '\\x0102'::bytea)", "2")) {
                a, _ throws(StatementError) in
                let whole = a[0].octets, part = a[1].octets
                if part.isEmpty { return .integer(1) }
                guard part.count <= whole.count else { return .integer(0) }
                let place = (0...(whole.count - part.count)).first { whole[$0..<($0 + part.count)].elementsEqual(part) }
                return .integer(Int64((place ?? -1) + 1))
            },
            .row(
                "overlay", [.bytes, .bytes, .int32], .bytes,
                ("overlay('\\x010203'::bytea placing '\\xff'::bytea from 2)", "\\x01ff03")
            ) { a, _ throws(StatementError) in try overlaid(a, a[1].octets.count) },
            .row(
                "overlay", [.bytes, .bytes, .int32, .int32], .bytes,
                ("overlay('\\x010203'::bytea placing '\\xff'::bytea from 2 for 2)", "\\x01ff")
            ) { a, _ throws(StatementError) in try overlaid(a, Int(a[3].int)) },
            .row("btrim", [.bytes, .bytes], .bytes, ("btrim('\\x000100'::bytea, '\\x00'::bytea)", "\\x01")) {
                a, _ throws(StatementError) in trimmed(a, true, true)
            },
            .row("ltrim", [.bytes, .bytes], .bytes, ("ltrim('\\x000100'::bytea, '\\x00'::bytea)", "\\x0100")) {
                a, _ throws(StatementError) in trimmed(a, true, false)
            },
            .row("rtrim", [.bytes, .bytes], .bytes, ("rtrim('\\x000100'::bytea, '\\x00'::bytea)", "\\x0001")) {
                a, _ throws(StatementError) in trimmed(a, false, true)
            },
        ]
}
