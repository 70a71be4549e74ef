import Base
import Contracts
import QueryLanguages
import Testing

@testable import PgGateway

@Suite("Shapes of statements")
struct StatementShapesTests {
    private func planned(_ shapes: inout StatementShapes, _ text: String) throws -> PlannedStatement {
        let statements = try shapes.read(Bytes(text.utf8))
        guard case .node(let planned) = try #require(statements.first), statements.count == 1 else {
            throw StatementError(.internalError, "no statement for nodes")
        }
        return planned
    }

    @Test("statements that differ in their numbers have one plan")
    func same() throws {
        var shapes = StatementShapes()
        let first = try planned(&shapes, "SELECT a FROM t WHERE id = 123 AND n < 2.5;")
        let second = try planned(&shapes, "SELECT a FROM t WHERE id = 999 AND n < 7.5;")
        #expect(first.fingerprint == second.fingerprint)
        #expect(first.numbers.map(\.form) == [.int32, .decimal])
        #expect(second.numbers.map { String(decoding: $0.text, as: UTF8.self) } == ["999", "7.5"])
        #expect(second.text == Bytes("SELECT a FROM t WHERE id = 999 AND n < 7.5;".utf8))
        // A parser that was asked gives the same plan as the shape.
        var others = StatementShapes()
        #expect(try planned(&others, "SELECT a FROM t WHERE id = 999 AND n < 7.5;").fingerprint == first.fingerprint)
    }

    @Test(
        "numbers of another kind or length are another shape",
        arguments: [
            "SELECT a FROM t WHERE id = 1234 AND n < 2.5;", "SELECT a FROM t WHERE id = 3000000000 AND n < 2.5;",
            "SELECT a FROM t WHERE id = 1.3 AND n < 2.5;",
        ])
    func other(text: String) throws {
        var shapes = StatementShapes()
        let first = try planned(&shapes, "SELECT a FROM t WHERE id = 123 AND n < 2.5;")
        let scans = [first.text, Bytes(text.utf8)].map { StatementShapes.scan($0)?.shape }
        #expect(scans[0] != scans[1])
    }

    @Test(
        "numbers that are no values stay where they are",
        arguments: [
            "SELECT a FROM t WHERE id = 5 ORDER BY 1", "SELECT a, 7 FROM t WHERE id = 5", "SELECT 1",
            "SELECT a FROM t WHERE id = 5 LIMIT 1", "SELECT count(*) FROM t GROUP BY 1",
            "SELECT a FROM t WHERE b = varchar(3) 'x'", "SELECT a FROM t WHERE id = $1 AND n = 2",
            "SELECT a FROM t WHERE s = '12'", "SELECT a FROM t WHERE id = 5 -- 6", "SELECT a FROM t WHERE f(5) = a",
            "SELECT a FROM t WHERE id = 5; SELECT 2", "SELECT a FROM t WHERE id = 1e5", "CREATE TABLE t (a varchar(5))",
            "SELECT a FROM t WHERE id = 99999999999999999999", "SELECT a FROM t WHERE id IN (SELECT 5)",
            "SELECT a FROM t WHERE id = 007", "SELECT a FROM t WHERE b = a[1]",
        ])
    func kept(text: String) throws {
        var shapes = StatementShapes()
        for _ in 0..<2 {
            for case .node(let planned) in try shapes.read(Bytes(text.utf8)) { #expect(planned.numbers.isEmpty) }
        }
    }

    @Test("values that are inserted or set are numbers too")
    func written() throws {
        var shapes = StatementShapes()
        let insert = try planned(&shapes, "INSERT INTO t VALUES (1, -2, NULL), (3, 4 + 5, CAST(6 AS text))")
        #expect(insert.numbers.count == 6)
        let update = try planned(&shapes, "UPDATE t SET a = a + -12, b = 3 WHERE id BETWEEN 4 AND 5 OR id IN (6, 7)")
        #expect(update.numbers.map { String(decoding: $0.text, as: UTF8.self) } == ["12", "3", "4", "5", "6", "7"])
        #expect(try planned(&shapes, "DELETE FROM t WHERE id = 8").numbers.count == 1)
    }

    @Test("what cannot be read is refused as ever, whatever was read before")
    func refused() throws {
        var shapes = StatementShapes()
        _ = try planned(&shapes, "SELECT a FROM t WHERE id = 5")
        for text in [
            "SELECT a FROM t WHERE id = \u{1}", "SELECT a FROM t WHER id = 5", "SELECT a FROM t WHERE id = 5x",
        ] {
            #expect(throws: StatementError.self, "\(text)") { try shapes.read(Bytes(text.utf8)) }
        }
    }
}
