import Base
import Contracts
import DataModel
import QueryLanguages
import Testing

@testable import Engine

@Suite("Reads by indexes")
struct IndexReadTests {
    /// A table of a thousand rows with indexes, and one of as many that refers to it.
    private static func database() -> MemoryDatabase {
        let database = MemoryDatabase()
        for statement in [
            "CREATE TABLE t (id int PRIMARY KEY, a int UNIQUE, b int, c text)",
            "INSERT INTO t SELECT n, n + 5000, n % 100, 'c' || n FROM generate_series(1, 1000) AS n",
            "CREATE INDEX t_b_c ON t (b, c)", "CREATE TABLE r (n int PRIMARY KEY, t int)",
            "INSERT INTO r SELECT n, 1001 - n FROM generate_series(1, 1000) AS n", "CREATE INDEX r_t ON r (t)",
        ] {
            if case .failed(let error) = database.run(statement) { Issue.record("\(statement): \(error)") }
        }
        return database
    }

    /// Rows that come, and records that are read for it: entries of indexes among them.
    private func counts(_ database: MemoryDatabase, _ text: String) throws -> (rows: Int, read: Int) {
        let plan = try #require(try SQLParser.parse(Bytes(text.utf8)).first?.plan)
        let prepared = try PreparedPlan(plan, catalog: database.contents.catalog, settings: database.settings)
        let access = MemoryRows(database, .init())
        let execution = try prepared.execute([], settings: database.settings, access: access)
        var rows = 0
        while true {
            switch try execution.next() {
            case .batch(let batch): rows += batch.count
            case .paused: continue
            case .waiting, .end: return (rows, access.rowsRead)
            }
        }
    }

    @Test(
        "few records are read for few rows",
        arguments: [
            ("SELECT c FROM t WHERE a = 5007", 1, 2), ("SELECT c FROM t WHERE b = 7", 10, 20),
            ("SELECT c FROM t WHERE b = 7 AND c = 'c7'", 1, 2), ("SELECT c FROM t WHERE a IN (5001, 5002, 1)", 2, 4),
            ("SELECT c FROM t WHERE b = 7 AND c >= 'c5' AND c < 'c7'", 2, 4),
            ("SELECT r.n FROM r JOIN t ON r.t = t.id WHERE t.a = 5007", 1, 4),
            ("SELECT r.n FROM t JOIN r ON r.t = t.id WHERE t.b = 7", 10, 40),
            ("SELECT r.n, t.c FROM r LEFT JOIN t ON r.t = t.id WHERE r.n IN (1, 2)", 2, 4),
            ("SELECT t.id FROM t WHERE b = 7 AND EXISTS (SELECT 1 FROM r WHERE r.t = t.id)", 10, 40),
        ])
    func few(_ statement: String, rows: Int, read: Int) throws {
        let counted = try counts(Self.database(), statement)
        #expect(counted.rows == rows)
        #expect(counted.read <= read)
    }

    @Test("many rows are read at once, and joined as they are")
    func many() throws {
        let database = Self.database()
        #expect(try counts(database, "SELECT c FROM t WHERE a > 0") == (1000, 1000))
        #expect(try counts(database, "SELECT r.n FROM r JOIN t ON r.t = t.id") == (1000, 2000))
    }

    @Test(
        "rows that are wanted in the order of a key or an index are read in that order, up to the limit",
        arguments: [
            ("SELECT id FROM t ORDER BY id LIMIT 10", 10), ("SELECT id FROM t ORDER BY id DESC LIMIT 10 OFFSET 5", 15),
            ("SELECT c FROM t WHERE id > 500 ORDER BY id LIMIT 10", 10), ("SELECT max(id) FROM t", 1),
            ("SELECT min(id), max(id), max(a) FROM t", 4), ("SELECT id FROM t ORDER BY a DESC LIMIT 10", 20),
            ("SELECT id FROM t WHERE b = 7 ORDER BY c DESC, id DESC LIMIT 3", 6),
            ("SELECT id FROM t WHERE (a, id) > (5500, 3) ORDER BY a, id LIMIT 5", 10),
            ("SELECT id, (SELECT max(n) FROM r WHERE r.t = x.id) FROM t AS x ORDER BY id LIMIT 2", 6),
        ])
    func ordered(_ statement: String, read: Int) throws {
        #expect(try counts(Self.database(), statement).read <= read)
    }

    @Test("an entry that another row has left is no place in an order")
    func staleOrder() {
        let database = Self.database()
        guard let table = database.contents.catalog.collection(named: "t", in: .default) else { return }
        for id: Int64 in [1, 2] {
            _ = database.contents.collections[table.id]?.remove(KeyForms.encode([.integer(id)], [.int32]))
        }
        #expect(database.run("INSERT INTO t VALUES (2, 5500002, 3, 'x')") == .done(tag: "INSERT 0 1"))
        #expect(database.run("SELECT id FROM t ORDER BY a LIMIT 2") == .rows(["3", "4"]))
        #expect(database.run("SELECT id FROM t ORDER BY a DESC LIMIT 2") == .rows(["2", "1000"]))
    }

    @Test("an entry without its row refuses nobody, and shows nothing")
    func stale() {
        let database = Self.database()
        guard let table = database.contents.catalog.collection(named: "t", in: .default) else { return }
        // What expires is removed from its collection alone.
        for id: Int64 in [7, 8] {
            _ = database.contents.collections[table.id]?.remove(KeyForms.encode([.integer(id)], [.int32]))
        }
        #expect(database.run("SELECT id FROM t WHERE a = 5007 OR b = 7 AND c = 'c7'") == .rows([]))
        #expect(database.run("SELECT id FROM t WHERE a = 5007") == .rows([]))
        #expect(database.run("INSERT INTO t VALUES (2000, 5007, 7, 'c7')") == .done(tag: "INSERT 0 1"))
        #expect(database.run("INSERT INTO t VALUES (8, 5008, 8, 'c8')") == .done(tag: "INSERT 0 1"))
        #expect(database.run("UPDATE t SET a = 7000 WHERE id = 8") == .done(tag: "UPDATE 1"))
        #expect(database.run("SELECT id FROM t WHERE a = 5007") == .rows(["2000"]))
        #expect(database.run("SELECT id FROM t WHERE b = 7 AND c = 'c7'") == .rows(["2000"]))
        #expect(database.run("SELECT id FROM t WHERE b = 8 AND c = 'c8'") == .rows(["8"]))
        let upsert = "INSERT INTO t VALUES (2001, 5007, 7, 'x') ON CONFLICT (a) DO UPDATE SET b = 70 RETURNING id, b"
        #expect(database.run(upsert) == .rows(["2000|70"]))
    }
}
