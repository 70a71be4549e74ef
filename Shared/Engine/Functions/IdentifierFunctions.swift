import Base
import DataModel

/// Names as SQL writes them, taken apart.
enum IdentifierFunctions {
    static let rows: [ScalarFunction] = [
        .row("parse_ident", [.text], .text.array, ("parse_ident('Some.\"Table\"')", "{some,Table}")) {
            a, _ throws(StatementError) in try parts(a[0].string, isStrict: true)
        },
        .row("parse_ident", [.text, .bool], .text.array, ("parse_ident('f(x)', false)", "{f}")) {
            a, _ throws(StatementError) in try parts(a[0].string, isStrict: a[1].flag)
        },
    ]

    private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0d).contains(byte) }

    private static func starts(_ byte: UInt8) -> Bool { byte >= 0x80 || Registry.isWord(byte) }

    private static func continues(_ byte: UInt8) -> Bool {
        starts(byte) || (0x30...0x39).contains(byte) || byte == UInt8(ascii: "$")
    }

    private static func parts(_ text: String, isStrict: Bool) throws(StatementError) -> Value {
        func invalid(_ detail: String? = nil) -> StatementError {
            StatementError(
                .invalidParameterValue, "string is not a valid identifier: \"\(text)\"", detail: detail)
        }
        var rest = Array(text.utf8)[...].drop(while: isBlank), names: [Value] = []
        while true {
            if rest.first == UInt8(ascii: "\"") {
                names.append(.text(try quoted(&rest, invalid)))
            } else if let first = rest.first, starts(first) {
                let name = rest.prefix(while: continues).map { (0x41...0x5a).contains($0) ? $0 | 0x20 : $0 }
                names.append(.text(String(decoding: name, as: UTF8.self)))
                rest = rest.drop(while: continues)
            } else if rest.first == UInt8(ascii: ".") {
                throw invalid("No valid identifier before \".\".")
            } else {
                throw invalid(names.isEmpty ? nil : "No valid identifier after \".\".")
            }
            rest = rest.drop(while: isBlank)
            guard rest.first == UInt8(ascii: ".") else { break }
            rest = rest.dropFirst().drop(while: isBlank)
        }
        guard rest.isEmpty || !isStrict else { throw invalid() }
        return .array(ArrayValue(.text, names))
    }

    /// What stands in double quotes, of which a pair within is one.
    private static func quoted(_ rest: inout ArraySlice<UInt8>, _ invalid: (String?) -> StatementError)
        throws(StatementError) -> String
    {
        let quote = UInt8(ascii: "\"")
        var name: Bytes = []
        rest = rest.dropFirst()
        while true {
            guard let end = rest.firstIndex(of: quote) else { throw invalid("String has unclosed double quotes.") }
            name += rest[..<end]
            rest = rest[(end + 1)...]
            guard rest.first == quote else { break }
            name.append(quote)
            rest = rest.dropFirst()
        }
        guard !name.isEmpty else { throw invalid("Quoted identifier must not be empty.") }
        return String(decoding: name, as: UTF8.self)
    }
}
