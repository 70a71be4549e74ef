import Base

/// Custom metadata of a call: headers or trailers apart from those gRPC and HTTP/2 use themselves.
///
/// A name ending in `-bin` carries any bytes (base64 on the wire), every other name carries printable ASCII.
package struct GRPCMetadata: Hashable, Sendable {
    /// One field.
    package struct Entry: Hashable, Sendable {
        package let name: String
        /// Decoded, for `-bin` names.
        package let value: Bytes
    }

    package private(set) var entries: [Entry] = []

    package init() {}

    /// The first text value under `name`.
    package func text(_ name: String) -> String? {
        binary(name).map { String(decoding: $0, as: UTF8.self) }
    }

    /// The first value under `name`, as bytes.
    package func binary(_ name: String) -> Bytes? {
        entries.first { $0.name == name }?.value
    }

    /// Adds text; false, and nothing added, when HTTP/2 could not carry it (name: lower case letters, digits, `_-.`
    /// and not reserved; value: printable ASCII).
    @discardableResult
    package mutating func add(_ name: String, _ value: String) -> Bool {
        guard Self.isValid(name), !name.hasSuffix("-bin"), value.utf8.allSatisfy({ (0x20...0x7e).contains($0) }) else {
            return false
        }
        entries.append(Entry(name: name, value: Bytes(value.utf8)))
        return true
    }

    /// Adds bytes under a name that ends in `-bin`; false when the name is not of that kind.
    @discardableResult
    package mutating func add(_ name: String, binary value: Bytes) -> Bool {
        guard Self.isValid(name), name.hasSuffix("-bin") else { return false }
        entries.append(Entry(name: name, value: value))
        return true
    }

    /// Adds a header of gRPC's own.
    mutating func addReserved(_ name: String, _ value: String) {
        entries.append(Entry(name: name, value: Bytes(value.utf8)))
    }

    private static func isValid(_ name: String) -> Bool {
        guard !name.isEmpty, !isReserved(name) else { return false }
        return name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
            case UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "."): true
            default: false
            }
        }
    }

    private static func isReserved(_ name: String) -> Bool {
        name.hasPrefix(":") || name.hasPrefix("grpc-") || name == "content-type" || name == "te" || name == "host"
    }

    /// The custom ones among `headers`. A `-bin` value that is no base64 is left out.
    init(_ headers: HTTP2Headers) {
        headers.forEach { name, value in
            let name = String(decoding: name, as: UTF8.self)
            guard !Self.isReserved(name) else { return }
            guard name.hasSuffix("-bin") else {
                entries.append(Entry(name: name, value: value.bytes))
                return
            }
            // Several values may share one field, separated by commas.
            for part in value.split(separator: UInt8(ascii: ",")) {
                if let decoded = MetadataBase64.decode(part) { entries.append(Entry(name: name, value: decoded)) }
            }
        }
    }

    func append(to headers: inout HTTP2Headers) {
        for entry in entries {
            let value = entry.name.hasSuffix("-bin") ? MetadataBase64.encode(entry.value) : entry.value
            headers.append(entry.name, bytes: value)
        }
    }
}

/// MetadataBase64 with the standard alphabet; written without padding, read with or without, as gRPC asks.
package enum MetadataBase64 {
    private static let alphabet: StaticString = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

    package static func encode(_ bytes: Bytes) -> Bytes {
        var result: Bytes = []
        result.reserveCapacity((bytes.count * 4 + 2) / 3)
        var bits: UInt32 = 0
        var count: UInt32 = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            count += 8
            while count >= 6 {
                count -= 6
                result.append(alphabet.utf8Start[Int(bits >> count & 63)])
            }
            bits &= (1 << count) - 1
        }
        if count > 0 { result.append(alphabet.utf8Start[Int(bits << (6 - count) & 63)]) }
        return result
    }

    package static func decode(_ text: some Sequence<UInt8>) -> Bytes? {
        var result: Bytes = []
        var bits: UInt32 = 0
        var count: UInt32 = 0
        var symbols = 0
        var padding = 0
        for byte in text {
            if byte == UInt8(ascii: "=") {
                padding += 1
                continue
            }
            guard padding == 0, let value = value(byte) else { return nil }
            symbols += 1
            bits = bits << 6 | value
            count += 6
            if count >= 8 {
                count -= 8
                result.append(UInt8(truncatingIfNeeded: bits >> count))
            }
            bits &= (1 << count) - 1
        }
        return symbols % 4 == 1 || padding > 2 ? nil : result
    }

    private static func value(_ byte: UInt8) -> UInt32? {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(byte - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(byte - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(byte - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"), UInt8(ascii: "-"): 62
        case UInt8(ascii: "/"), UInt8(ascii: "_"): 63
        default: nil
        }
    }
}
