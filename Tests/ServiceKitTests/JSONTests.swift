import Base
import ServiceKit
import Testing

@Suite("JSON")
struct JSONTests {
    static let documents: [(String, JSON)] = [
        ("null", .null), ("true", .bool(true)), ("-12", .integer(-12)), ("1.5e3", .number(1500)), ("[]", .array([])),
        ("{}", .object([])), (#""a\"b\\\nü\u00e9\ud83d\ude00""#, .text("a\"b\\\nüé😀")),
        (
            #" { "a" : [ 1 , {"b":null} ] } "#,
            .object([.init("a", .array([.integer(1), .object([.init("b", .null)])]))])
        ),
    ]

    @Test("parses", arguments: documents)
    func parses(_ text: String, _ value: JSON) throws {
        #expect(try JSON(parsing: text) == value)
        #expect(try JSON(parsing: value.encoded()) == value)
        #expect(try JSON(parsing: value.encoded(isPretty: true)) == value)
    }

    @Test(
        "refuses",
        arguments: [
            "", "{", "[1,", "[1 2]", "{\"a\"}", "{1:2}", "\"abc", "\"\\q\"", "\"\\u12\"", "\"\\ud800x\"", "nul", "1 2",
            "--1", "+1", "1e999", "\"\u{1}\"",
        ])
    func refuses(_ text: String) {
        #expect(throws: JSONError.self) { try JSON(parsing: text) }
    }

    @Test("bounds depth")
    func depth() {
        let limit = JSON.maximumDepth
        #expect(throws: Never.self) {
            try JSON(parsing: String(repeating: "[", count: limit - 1) + String(repeating: "]", count: limit - 1))
        }
        #expect(throws: JSONError.self) { try JSON(parsing: String(repeating: "[", count: 100_000)) }
    }

    @Test("never traps on damaged text")
    func damaged() {
        let text = Bytes(Self.documents.map(\.0).joined(separator: ",").utf8)
        for position in text.indices {
            for byte in [0, 0x22, 0x5C, 0x7B, 0x80, 0xFF] as Bytes {
                var copy: Bytes = [0x5B] + text + [0x5D]
                copy[position] = byte
                _ = try? JSON(parsing: copy)
            }
            _ = try? JSON(parsing: Bytes(text[...position]))
        }
    }

    @Test("indents by two spaces")
    func pretty() {
        let value = JSON.object([.init("a", .array([.integer(1), .text("x")])), .init("b", .object([]))])
        #expect(value.encoded(isPretty: true) == "{\n  \"a\": [\n    1,\n    \"x\"\n  ],\n  \"b\": {}\n}")
    }
}
