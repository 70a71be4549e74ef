import Base
import DataModel
import TestKit
import Testing

@testable import Engine

/// The same statements on two tables with the same rows, of which one has indexes that are used wherever they can be.
@Suite("Indexes change no answer")
struct IndexPropertyTests {
    /// Types of columns, and literals of them that meet one another often.
    private static let kinds: [(type: String, values: [String])] = [
        ("int", ["-70000", "-1", "0", "1", "2", "3", "255", "256", "70000"]),
        ("smallint", ["-5", "0", "1", "2", "3"]), ("bigint", ["-9000000000", "0", "1", "9000000000"]),
        ("text", ["''", "'a'", "'ab'", "'abc'", "'b'", "'é'", "'ét'", "'z%'", "'a_c'", "'a\\c'"]),
        ("varchar(5)", ["''", "'a'", "'ab'", "'b'", "'ba'"]), ("char(3)", ["'a'", "'ab'", "'b'", "''", "'ba '"]),
        ("numeric", ["-1.5", "0", "1", "1.0", "1.50", "2", "1e10", "'NaN'"]),
        ("float8", ["-1.5", "0", "'-0'", "1", "'NaN'", "'Infinity'", "'-Infinity'"]),
        ("real", ["-1.5", "0.1", "0", "1"]), ("bool", ["true", "false"]),
        ("date", ["'2000-01-01'", "'1999-12-31'", "'infinity'", "'2000-01-02'"]),
        ("timestamp", ["'2000-01-01 00:00'", "'2000-01-01 00:00:01'", "'-infinity'"]),
        ("timestamptz", ["'2000-01-01 00:00+00'", "'2000-01-01 01:00+01'", "'2000-01-02 00:00+00'"]),
        ("interval", ["'1 month'", "'30 days'", "'1 day'", "'-1 hour'"]),
        ("bytea", ["'\\x'", "'\\x00'", "'\\x0001'", "'\\xff'"]),
        ("uuid", ["'00000000-0000-0000-0000-000000000001'", "'ffffffff-0000-0000-0000-000000000001'"]),
        ("int[]", ["'{}'", "'{1}'", "'{1,2}'", "'{NULL}'", "'{1,NULL}'"]),
        ("jsonb", ["'1'", "'{\"a\": 1}'", "'[1, 2]'", "'\"x\"'", "'null'"]),
    ]
    private static let patterns = [
        "'a%'", "'ab%'", "'a_c'", "'%b'", "'a'", "''", "'é%'", "'a\\_%'", "'z\\%'", "'a\\\\%'",
    ]

    /// Statements over `@`, which stands for the table.
    private struct Maker {
        var random: SplitMix64
        let kinds: [(type: String, values: [String])]

        mutating func below(_ bound: Int) -> Int { Int(random.next() % UInt64(bound)) }

        mutating func value(_ column: Int, nulls: Bool = true) -> String {
            if nulls, below(6) == 0 { return "NULL" }
            return kinds[column].values[below(kinds[column].values.count)] + "::" + kinds[column].type
        }

        mutating func atom(_ column: Int) -> String {
            let name = "c\(column)", isText = ["text", "varchar(5)"].contains(kinds[column].type)
            switch below(isText ? 11 : 9) {
            case 0, 1: return "\(name) = \(value(column))"
            case 2: return "\(value(column)) \(["<", ">", "<=", ">="][below(4)]) \(name)"
            case 3: return "\(name) \(["<", ">", "<=", ">=", "<>"][below(5)]) \(value(column))"
            case 4: return "\(name) BETWEEN \(value(column)) AND \(value(column))"
            case 5: return "\(name) IN (\(value(column)), \(value(column)), \(value(column)))"
            case 6:
                let type = kinds[column].type
                if type == "int[]" { return "\(name) IS NOT NULL" }
                return "\(name) = ANY (ARRAY[\(value(column)), \(value(column))]::\(type)[])"
            case 7: return "\(name) IS NULL"
            case 8:
                if kinds[column].type == "bool" { return below(2) == 0 ? name : "NOT \(name)" }
                return "(\(name) = \(value(column)) OR \(name) IS NULL OR \(name) = \(value(column)))"
            case _: return "\(name) LIKE \(IndexPropertyTests.patterns[below(IndexPropertyTests.patterns.count)])"
            }
        }

        mutating func condition() -> String {
            var parts: [String] = []
            for _ in 0...below(3) { parts.append(atom(below(kinds.count))) }
            if below(8) == 0 { parts.append("id \([">", "<", "="][below(3)]) \(below(60))") }
            let word = below(5) == 0 ? " OR " : " AND "
            return parts.joined(separator: word)
        }

        mutating func statement() -> String {
            let list = (0..<kinds.count).map { "c\($0)" }.joined(separator: ", ")
            switch below(14) {
            case 0: return "UPDATE @ SET c\(0) = \(value(0)) WHERE \(condition())"
            case 1:
                let column = below(kinds.count)
                return "UPDATE @ SET c\(column) = \(value(column)) WHERE \(condition())"
            case 2: return "DELETE FROM @ WHERE id % 4 = \(below(4)) AND (\(condition()))"
            case 3:
                let values = (0..<kinds.count).map { value($0) }.joined(separator: ", ")
                return "INSERT INTO @ SELECT coalesce(max(id), 0) + 1, \(values) FROM @"
            case 4:
                return "SELECT a.id, b.id FROM @ a JOIN @ b ON a.c0 = b.c0 AND a.c1 = b.c1 WHERE "
                    + "a.id < \(below(60)) AND b.id % 3 = 0"
            case 5:
                return "SELECT a.id, b.id FROM @ a LEFT JOIN @ b ON a.c1 = b.c1 AND b.id > 5 WHERE a.id < \(below(60))"
            case 6: return "SELECT id FROM @ a WHERE EXISTS (SELECT 1 FROM @ b WHERE b.c2 = a.c2 AND b.id <> a.id)"
            case 7: return "SELECT id, (SELECT count(*) FROM @ b WHERE b.c0 = a.c0 AND b.c1 > a.c1) FROM @ a"
            case _: return "SELECT id, \(list) FROM @ WHERE \(condition())"
            }
        }
    }

    private static func sorted(_ answer: MemoryDatabase.Answer) -> MemoryDatabase.Answer {
        if case .rows(let rows) = answer { .rows(rows.sorted()) } else { answer }
    }

    @Test(
        "what conditions leave is the same with indexes and without",
        arguments: [
            MemoryRows.Behaviour(), .init(page: 3, isLate: true, isScattered: true),
        ])
    func conditions(behaviour: MemoryRows.Behaviour) {
        let seed = freshSeed("indexes")
        var seeds = SplitMix64(seed: seed)
        for round in 0..<12 {
            var random = SplitMix64(seed: seeds.next())
            let kinds = (0..<3).map { _ in Self.kinds[Int(random.next() % UInt64(Self.kinds.count))] }
            var maker = Maker(random: random, kinds: kinds)
            let database = MemoryDatabase(behaviour)
            let columns = kinds.enumerated().map { "c\($0) \($1.type)" }.joined(separator: ", ")
            for statement in [
                "CREATE TABLE plain (id int, \(columns))", "CREATE TABLE indexed (id int PRIMARY KEY, \(columns))",
                "CREATE INDEX i0 ON indexed (c0)", "CREATE INDEX i1 ON indexed (c1, c2)",
                "CREATE INDEX i2 ON indexed (c2 DESC, c0, c1)", "CREATE UNIQUE INDEX i3 ON indexed (c1, id)",
            ] {
                if case .failed(let error) = database.run(statement) { Issue.record("\(statement): \(error)") }
            }
            func compare(_ statement: String) {
                database.settings.avoidsScans = false
                let wanted = Self.sorted(database.run(statement.replacing("@", with: "plain")))
                database.settings.avoidsScans = true
                let given = Self.sorted(database.run(statement.replacing("@", with: "indexed")))
                switch (wanted, given) {
                // Which row fails first is not the same.
                case (.failed(let one), .failed(let other)): #expect(one.state == other.state)
                case (_, _): #expect(wanted == given, "seed \(seed), round \(round): \(statement)")
                }
            }
            for id in 1...40 {
                let values = (0..<kinds.count).map { maker.value($0) }.joined(separator: ", ")
                compare("INSERT INTO @ VALUES (\(id), \(values))")
            }
            for step in 0..<60 {
                if step == 30 { #expect(database.run("ANALYZE indexed") == .done(tag: "ANALYZE")) }
                compare(maker.statement())
            }
            compare("SELECT * FROM @")
            // What was compared was found by indexes.
            let plan = database.run("EXPLAIN SELECT id FROM indexed WHERE c1 = \(maker.value(1, nulls: false))")
            #expect("\(plan)".contains("Index Scan using i"), "\(plan)")
        }
    }
}
