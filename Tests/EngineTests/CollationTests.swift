import Base
import DataModel
import TestKit
import Testing

@testable import Engine

@Suite("Collations")
struct CollationTests {
    private func key(_ text: String) throws -> Bytes {
        var key = Bytes()
        try Bytes(text.utf8).withView { view throws(StatementError) in
            try RootCollation.appendKey(of: view, to: &key)
        }
        return key
    }

    @Test("a key has the text behind its first byte 0, and keys are in ICU's order")
    func keys() throws {
        let inOrder = ["", "_", "1", "a", "A", "ä", "b", "B", "é", "e\u{301}", "straße", "z", "Ω", "日本", "\u{10FFFF}"]
        let texts = inOrder.filter { $0 != "é" && $0 != "e\u{301}" }
        for text in inOrder { #expect(RootCollation.text(ofKey: try key(text)).utf8.elementsEqual(text.utf8)) }
        for (left, right) in zip(texts, texts.dropFirst()) {
            #expect(try key(left).lexicographicallyPrecedes(try key(right)), "\(left) \(right)")
        }
        // The same to ICU: the bytes decide.
        #expect(try key("e\u{301}").lexicographicallyPrecedes(try key("é")))
    }

    @Test("long texts have keys, and what is no UTF-8 is refused")
    func limits() throws {
        for count in [1, 255, 256, 257, 100_000] {
            let text = String(repeating: "日ß", count: count)
            #expect(RootCollation.text(ofKey: try key(text)) == text)
            #expect(try RootCollation.mapped(text, .upper) == String(repeating: "日SS", count: count))
        }
        #expect(try RootCollation.mapped("", .title).isEmpty)
        #expect(try RootCollation.mapped(String(repeating: "ΐ", count: 500), .upper).unicodeScalars.count == 1500)
        var random = SplitMix64(seed: freshSeed("bytes that are no text"))
        for _ in 0..<2000 {
            let bytes = (0..<Int.random(in: 0...9, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random)
            }
            let isText = String(validating: bytes, as: UTF8.self) != nil
            var key = Bytes()
            do throws(StatementError) {
                try bytes.withView { view throws(StatementError) in try RootCollation.appendKey(of: view, to: &key) }
                #expect(isText, "\(bytes)")
            } catch {
                #expect(!isText && error.state == .characterNotInRepertoire, "\(bytes): \(error)")
                #expect(key.isEmpty)
            }
        }
    }

    @Test("what PostgreSQL has and Orbit has not is not supported")
    func others() {
        #expect(Expressions.answer("SELECT 'a' COLLATE \"de-x-icu\"").hasPrefix("0A000"))
        #expect(Expressions.answer("SELECT 'a' COLLATE \"de_DE\"").hasPrefix("42704"))
    }

    @Test("an index is read for what is equal, never for an order that it does not have")
    func plans() {
        let database = MemoryDatabase()
        _ = database.run(
            "CREATE TABLE t (k text COLLATE \"und-x-icu\" PRIMARY KEY, a text COLLATE \"und-x-icu\", n int)")
        _ = database.run("CREATE INDEX t_a ON t (a)")
        func plan(_ query: String) -> String { "\(database.run("EXPLAIN (COSTS OFF) " + query))" }
        #expect(plan("SELECT * FROM t WHERE a = 'x'").contains("t_a"))
        #expect(plan("SELECT * FROM t WHERE k = 'x'").contains("Key Lookup"))
        let sorted = plan("SELECT * FROM t ORDER BY k")
        #expect(sorted.contains("Sort Key: k COLLATE") && sorted.contains("und-x-icu"))
        for query in ["SELECT * FROM t WHERE a > 'x'", "SELECT max(a) FROM t", "SELECT * FROM t ORDER BY a LIMIT 1"] {
            let shown = plan(query)
            #expect(!shown.contains("t_a") && !shown.contains("collation key"), "\(shown)")
        }
        #expect(!plan("SELECT * FROM t ORDER BY k COLLATE \"C\" LIMIT 1").contains("Sort"))
    }
}
