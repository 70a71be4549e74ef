import Base
import Contracts
import Foundation
import QueryLanguages
import TestKit
import Testing

@Suite("SQLParser")
struct SQLParserTests {
    static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("SQL/parser")

    static func corpus() throws -> [String] {
        try String(contentsOf: folder.appendingPathComponent("statements.sql"), encoding: .utf8)
            .split(separator: "\n").map(String.init)
    }

    static func parse(_ text: String) throws(StatementError) -> [ParsedStatement] {
        try SQLParser.parse(Array(text.utf8))
    }

    static func failure(_ text: String) -> StatementError? {
        do throws(StatementError) { _ = try parse(text) } catch { return error }
        return nil
    }

    /// plans.txt: each statement of the corpus that is read, and its plan. `REWRITE=1` accepts what comes out.
    @Test("makes the plans of the golden file")
    func golden() throws {
        var text = ""
        for statement in try Self.corpus() {
            guard let parsed = try? Self.parse(statement), !parsed.isEmpty else { continue }
            text += "> \(statement)\n"
            for part in parsed { text += part.plan.describe() + "\n" }
            text += "\n"
        }
        let file = Self.folder.appendingPathComponent("plans.txt")
        if ProcessInfo.processInfo.environment["REWRITE"] == "1" {
            try text.write(to: file, atomically: true, encoding: .utf8)
        }
        let expected = try String(contentsOf: file, encoding: .utf8)
        let different = zip(text.split(separator: "\n"), expected.split(separator: "\n")).first { $0 != $1 }
        #expect(text == expected, "first difference: \(String(describing: different))")
    }

    @Test("gives every statement of a query string its range")
    func ranges() throws {
        let text = " SELECT 1 ;; SELECT 'é' ; -- end\n"
        let statements = try Self.parse(text)
        let parts = statements.map { String(decoding: Array(text.utf8)[$0.range], as: UTF8.self) }
        #expect(parts == ["SELECT 1", "SELECT 'é'"])
        #expect(statements[1].plan.describe(positions: true).contains("@14"))
        #expect(try Self.parse("").isEmpty && Self.parse(" ; -- x").isEmpty)
    }

    @Test("tells the position in characters, and in words what cannot be read at all")
    func positions() {
        #expect(Self.failure("SELECT é, ü x y")?.position == 15)
        #expect(Self.failure("SELECT 'a")?.message == "unterminated quoted string at or near \"'a\"")
        #expect(Self.failure("SELECT FOO BAR BAZ 'a")?.message == "syntax error at or near \"BAZ\"")
        #expect(Self.failure("CREATE FUNCTION f() RETURNS int")?.state == .featureNotSupported)
        #expect(Self.failure("CREATE FUNCTION f()")?.message == "CREATE FUNCTION is not supported")
        #expect(Self.failure("DO $$ x $$")?.message == "DO is not supported")
    }

    @Test("refuses what nests too deep, of every kind, in PostgreSQL's words")
    func depth() {
        for unit in [
            "(", "((SELECT ", "NOT ", "- ", "f(", "CASE WHEN ", "ARRAY[", "a[", "1 + (", "EXISTS (SELECT ",
            "CAST(", "COALESCE(", "x IN (", "a::numeric(", "SUBSTRING(",
        ] {
            let error = Self.failure("SELECT " + String(repeating: unit, count: (1 << 20) / unit.utf8.count))
            #expect(error?.state == .statementTooComplex, "\(unit): \(String(describing: error))")
            #expect(error?.message == "stack depth limit exceeded")
        }
        for (front, unit) in [("SELECT * FROM ", "("), ("", "("), ("EXPLAIN ", "("), ("SELECT * FROM ", "a JOIN ")] {
            let error = Self.failure(front + String(repeating: unit, count: 1 << 17))
            #expect(error != nil, "\(front)\(unit)")
        }
        #expect(Self.failure("SELECT " + Array(repeating: "1", count: 5000).joined(separator: "+")) != nil)
    }

    @Test("reads long statements in linear time")
    func long() throws {
        func isRead(_ text: String) -> Bool { Self.failure(text) == nil }
        let many = 100_000
        #expect(isRead("SELECT " + Array(repeating: "a", count: many).joined(separator: ", ")))
        #expect(isRead("SELECT x IN (" + Array(repeating: "1", count: many).joined(separator: ",") + ")"))
        #expect(isRead("SELECT " + Array(repeating: "x=1", count: many).joined(separator: " AND ")))
        #expect(isRead("INSERT INTO t VALUES " + Array(repeating: "(1,'é')", count: many).joined(separator: ",")))
        #expect(isRead(String(repeating: "SELECT 1;", count: many)))
        #expect(isRead("SELECT '" + String(repeating: "é", count: 1 << 20) + "'"))
        #expect(isRead("SELECT " + String(repeating: "(", count: 60) + "1" + String(repeating: ")", count: 60)))
    }

    @Test("never traps, and makes valid plans only, of words in any order")
    func soup() throws {
        let words =
            Array(
                Set(try Self.corpus().flatMap { $0.split(whereSeparator: { " ,()".contains($0) }).map(String.init) })
            ).sorted() + Array(repeating: ["(", ")", ","], count: 60).flatMap { $0 }
        var random = SplitMix64(seed: freshSeed("SQL words"))
        for _ in 0..<4000 {
            var text = ["SELECT ", "CREATE TABLE t (", "INSERT INTO t ", "ALTER TABLE t ", ""][Int(random.next() % 5)]
            for _ in 0..<Int(random.next() % 24) { text += words[Int(random.next() % UInt64(words.count))] + " " }
            guard let parsed = try? Self.parse(text) else { continue }
            for part in parsed { #expect(throws: Never.self, "\(text)") { try part.plan.validate() } }
        }
        let statements = try Self.corpus()
        for _ in 0..<4000 {
            var bytes = Array(statements[Int(random.next() % UInt64(statements.count))].utf8)
            bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(truncatingIfNeeded: random.next())
            for part in (try? SQLParser.parse(bytes)) ?? [] {
                #expect(throws: Never.self, "\(bytes)") { try part.plan.validate() }
            }
        }
    }

    @Test("writes queries that read back as the same plan")
    func writer() throws {
        var written = 0
        for statement in try Self.corpus() {
            for part in (try? Self.parse(statement)) ?? [] {
                guard let text = SQLWriter.query(part.plan.root, of: part.plan) else { continue }
                written += 1
                let again = try Self.parse(text)
                #expect(again.first?.plan.describe() == part.plan.describe(), "\(statement)\n\(text)")
            }
        }
        #expect(written > 90)
    }

    @Test(
        "writes expressions as PostgreSQL does",
        arguments: [
            ("a + b * 2 > c", "((a + (b * 2)) > c)"), ("a and not b or c", "((a AND (NOT b)) OR c)"),
            ("x::varchar(10)", "(x)::character varying(10)"), ("'it''s'::text", "'it''s'::text"),
            ("e'a\\\\b'", "E'a\\\\b'"), ("\"A\".b is not null", "(\"A\".b IS NOT NULL)"),
            ("lower(\"select\")", "lower(\"select\")"), ("current_timestamp(3)", "CURRENT_TIMESTAMP(3)"),
            ("case a when 1 then 'x' else null end", "CASE a WHEN 1 THEN 'x' ELSE NULL END"),
            ("nextval('s'::regclass)", "nextval('s'::regclass)"), ("a in (1, 2)", "(a IN (1, 2))"),
            ("extract(year from d)", "EXTRACT(year FROM d)"), ("d at time zone 'UTC'", "(d AT TIME ZONE 'UTC')"),
            ("interval '1' day to second(3)", "'1'::interval day to second(3)"), ("-a", "(- a)"),
            ("timestamptz '2020-01-01'", "'2020-01-01'::timestamptz"),
            (
                "a::timestamp(3) with time zone",
                "(a)::timestamp(3) with time zone"
            ), ("a between 1 and 2", "(a BETWEEN 1 AND 2)"),
        ])
    func expressions(_ source: String, _ expected: String) throws {
        let plan = try SQLParser.parse(expression: Array(source.utf8))
        try plan.validate()
        let target = try #require(plan.list(plan[plan.root].children[2]).first)
        #expect(SQLWriter.expression(plan[target].children[0], of: plan) == expected)
    }
}
