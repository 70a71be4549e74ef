import Base

/// Messages of a server as people read them.
enum BackendText {
    static func describe(_ view: ByteView) -> [String] {
        var lines: [String] = [], reader = ByteReader(view)
        // The answer to SSLRequest is a byte, and no message.
        if view.count == 1 { return ["send \(Character(UnicodeScalar(view[0])))"] }
        while let type = reader.byte() {
            guard let length = reader.bigEndian(Int32.self), let body = reader.view(Int(length) - 4) else {
                lines.append("send a broken message")
                break
            }
            lines.append("send " + describe(Character(UnicodeScalar(type)), body))
        }
        return lines
    }

    private static func text(_ reader: inout ByteReader) -> String {
        let rest = reader.rest
        guard let end = rest.firstIndex(of: 0), let view = reader.view(end) else { return "?" }
        _ = reader.byte()
        return String(decoding: view, as: UTF8.self)
    }

    private static func describe(_ type: Character, _ body: ByteView) -> String {
        var reader = ByteReader(body)
        switch type {
        case "R":
            let code = reader.bigEndian(Int32.self) ?? -1
            let rest = String(decoding: reader.rest.map { $0 == 0 ? 32 : $0 }, as: UTF8.self)
            return "R \(code)\(rest.isEmpty ? "" : " \(rest.drop { $0 == " " })")"
        case "S": return "S \(text(&reader)) = \(text(&reader))"
        case "K": return "K"
        case "Z":
            switch reader.byte() {
            case UInt8(ascii: "I"): return "Z idle"
            case UInt8(ascii: "T"): return "Z in transaction"
            default: return "Z failed"
            }
        case "C": return "C \(text(&reader))"
        case "1": return "ParseComplete"
        case "2": return "BindComplete"
        case "3": return "CloseComplete"
        case "n": return "NoData"
        case "I": return "EmptyQuery"
        case "s": return "PortalSuspended"
        case "c": return "CopyDone"
        case "d": return "CopyData \(String(decoding: body, as: UTF8.self))"
        case "G", "H":
            let format = reader.byte() ?? 9, columns = reader.bigEndian(Int16.self) ?? -1
            return "\(type == "G" ? "CopyIn" : "CopyOut") \(format) \(columns)"
        case "t":
            var types: [String] = []
            _ = reader.bigEndian(Int16.self)
            while let oid = reader.bigEndian(UInt32.self) { types.append("\(oid)") }
            return "t \(types.joined(separator: ","))"
        case "T": return "T \(columns(&reader))"
        case "D": return "D \(values(&reader))"
        case "E", "N": return "\(type) \(fields(&reader))"
        case "v":
            let version = reader.bigEndian(Int32.self) ?? 0
            return "v \(version >> 16).\(version & 0xffff) \(reader.bigEndian(Int32.self) ?? 0) \(text(&reader))"
        default: return "\(type) ?"
        }
    }

    private static func columns(_ reader: inout ByteReader) -> String {
        let count = reader.bigEndian(Int16.self) ?? 0
        return (0..<count).map { _ in
            let name = text(&reader)
            _ = (reader.bigEndian(UInt32.self), reader.bigEndian(Int16.self))
            let type = reader.bigEndian(UInt32.self) ?? 0, length = reader.bigEndian(Int16.self) ?? 0
            let modifier = reader.bigEndian(Int32.self) ?? 0, format = reader.bigEndian(Int16.self) ?? 9
            return "\(name):\(type)/\(length)\(modifier == -1 ? "" : "(\(modifier))")\(format == 0 ? "" : " binary")"
        }.joined(separator: ", ")
    }

    private static func values(_ reader: inout ByteReader) -> String {
        let count = reader.bigEndian(Int16.self) ?? 0
        return (0..<count).map { _ in
            let length = reader.bigEndian(Int32.self) ?? 0
            guard length >= 0, let view = reader.view(Int(length)) else { return "NULL" }
            return String(decoding: view, as: UTF8.self)
        }.joined(separator: ", ")
    }

    private static func fields(_ reader: inout ByteReader) -> String {
        var words: [String] = []
        while let field = reader.byte(), field != 0 {
            let value = text(&reader)
            switch Character(UnicodeScalar(field)) {
            case "S", "C": words.append(value)
            case "V": break
            case "M": words.append("| \(value)")
            case let other: words.append("| \(other): \(value)")
            }
        }
        return words.joined(separator: " ")
    }
}
