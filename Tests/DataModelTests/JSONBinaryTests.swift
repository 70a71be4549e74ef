import Base
import DataModel
import TestKit
import Testing

/// Expected texts and errors are what PostgreSQL 15 answers.
@Suite("JSONBinary")
struct JSONBinaryTests {
    @Test(
        "prints what jsonb prints",
        arguments: [
            (#" {"b":1,"a":[1, 2.50,null],"aa":{}, "b":2} "#, #"{"a": [1, 2.50, null], "b": 2, "aa": {}}"#),
            (#""a\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00""#, #""a\"\\/\b\f\n\r\té😀""#), ("[]", "[]"), ("true", "true"),
            (#"{"":1}"#, #"{"": 1}"#), ("1e3", "1000"), ("-0", "0"), ("1.10e-2", "0.0110"),
            (#""\u001f""#, #""\u001f""#),
        ])
    func text(_ input: String, _ expected: String) throws {
        let document = try JSONBinary(parsing: input)
        #expect(document.text == expected)
        #expect(try JSONBinary(parsing: document.text) == document)
        #expect(document.node?.binary == document)
    }

    @Test(
        "refuses what is no JSON, in PostgreSQL's words",
        arguments: [
            ("", "The input string ended unexpectedly."), ("[", "The input string ended unexpectedly."),
            ("[}", #"Expected JSON value, but found "}"."#), ("[1 2]", #"Expected "," or "]", but found "2"."#),
            ("{1}", #"Expected string or "}", but found "1"."#), (#"{"a"}"#, #"Expected ":", but found "}"."#),
            (#"{"a":1,}"#, #"Expected string, but found "}"."#), ("1 2", #"Expected end of input, but found "2"."#),
            ("abc", #"Token "abc" is invalid."#), ("01", #"Token "01" is invalid."#),
            ("1.", #"Token "1." is invalid."#),
            ("-", #"Token "-" is invalid."#), ("1ex", #"Token "1ex" is invalid."#), ("'a'", #"Token "'" is invalid."#),
            (#""abc"#, #"Token ""abc" is invalid."#), (#""\q""#, #"Escape sequence "\q" is invalid."#),
            ("\"\u{1}\"", "Character with value 0x01 must be escaped."),
            (#""\u12""#, #""\u" must be followed by four hexadecimal digits."#),
            (#""\ud800""#, "Unicode low surrogate must follow a high surrogate."),
            (#""\ud800\ud800""#, "Unicode high surrogate must not follow a high surrogate."),
        ])
    func malformed(_ input: String, _ detail: String) {
        let error = StatementError(
            .invalidTextRepresentation, "invalid input syntax for type json", detail: detail)
        #expect(throws: error) { try JSONBinary(parsing: input) }
    }

    @Test("refuses a zero character and what nests too deep")
    func limits() {
        #expect {
            try JSONBinary(parsing: #""\u0000""#)
        } throws: {
            ($0 as? StatementError)?.state == .untranslatableCharacter
        }
        #expect {
            try JSONBinary(parsing: String(repeating: "[", count: 100_000))
        } throws: {
            ($0 as? StatementError)?.state == .statementTooComplex
        }
    }

    @Test("finds keys, elements and paths")
    func access() throws {
        let document = try JSONBinary(parsing: #"{"a": [10, {"b": "x"}], "c": null, "long key": 1.5}"#)
        #expect(document.value(forKey: "long key")?.text == "1.5")
        #expect(document.value(forKey: "nope") == nil)
        #expect(document.value(forKey: "a")?.element(at: -1)?.text == #"{"b": "x"}"#)
        #expect(document.value(forKey: "a")?.element(at: 2) == nil)
        #expect(document.value(forKey: "a")?.element(at: .min) == nil)
        #expect(document.value(atPath: ["a", "1", "b"])?.unquotedText == "x")
        #expect(document.value(atPath: ["a", "x"]) == nil)
        #expect(document.value(forKey: "c")?.unquotedText == nil)
        #expect(document.hasKey("c") && !document.hasKey("b"))
    }

    @Test(
        "contains as @> does",
        arguments: [
            (#"{"a": 1, "b": [1, 2]}"#, #"{"b": [2]}"#, true), (#"{"a": 1}"#, #"{"a": 2}"#, false),
            ("[1, 2, [1, 3]]", "[[3]]", true), (#"["foo", "bar"]"#, #""bar""#, true), ("[[1]]", "1", false),
            ("[1, 2]", "[2, 2, 1]", true), (#"{"a": {"b": 1}}"#, #"{"b": 1}"#, false), ("1", "1.0", true),
            (#"{"a": [1]}"#, #"{"a": 1}"#, false), ("[]", "[]", true), ("1", "[1]", false), ("[[[1]]]", "[[1]]", false),
        ])
    func containment(_ outer: String, _ inner: String, _ expected: Bool) throws {
        #expect(try JSONBinary(parsing: outer).contains(JSONBinary(parsing: inner)) == expected)
    }

    @Test("compares as PostgreSQL does")
    func order() throws {
        let ladder = try [
            "[]", "null", #""""#, #""a""#, #""b""#, "-1", "1", "1.5", "false", "true", "[1]", "[2]", "[1, 2]",
            #"[[], 1]"#, "[{}, 1]", "[1, 2, 3]", "{}", #"{"a": 1}"#, #"{"a": 2}"#, #"{"b": 1}"#, #"{"a": 1, "b": 1}"#,
        ].map { try JSONBinary(parsing: $0) }
        for (i, left) in ladder.enumerated() {
            for (j, right) in ladder.enumerated() {
                #expect(JSONBinary.compare(left, right).signum() == (i - j).signum(), "\(left.text) \(right.text)")
            }
        }
        #expect(try JSONBinary(parsing: "1.0").hashValue == JSONBinary(parsing: "1").hashValue)
    }

    @Test("damage shows as other values, never as a trap")
    func damage() {
        let seed = freshSeed("JSONBinary damage")
        var random = RandomValues(seed: seed)
        for _ in 0..<150 {
            let bytes = random.json().binary.bytes
            let damaged =
                Damage.truncations(of: bytes) + Damage.corruptions(of: bytes, count: 20, using: &random.random)
            for bytes in damaged {
                let document = JSONBinary(encoded: bytes)
                _ = document.text
                _ = document.node
                _ = document.contains(document)
                #expect(JSONBinary.compare(document, document) == 0, "seed \(seed)")
                _ = document.hashValue
            }
        }
    }
}
