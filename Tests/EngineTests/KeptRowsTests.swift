import Base
import Contracts
import DataModel
import QueryLanguages
import Testing

@testable import Engine

@Suite("Rows that are kept for the next outer row")
struct KeptRowsTests {
    private static func database(_ behaviour: MemoryRows.Behaviour) -> MemoryDatabase {
        let database = MemoryDatabase(behaviour)
        for statement in [
            "CREATE TABLE o (id int PRIMARY KEY, x int)", "CREATE TABLE i (id int PRIMARY KEY, y int, c text)",
            "INSERT INTO o SELECT n, n * 7 % 50 FROM generate_series(1, 50) AS n",
            "INSERT INTO i SELECT n, n * 3 % 60, repeat('c', 100) FROM generate_series(1, 400) AS n",
        ] {
            if case .failed(let error) = database.run(statement) { Issue.record("\(statement): \(error)") }
        }
        return database
    }

    /// The rows that come, and how many records are read for them.
    private func run(
        _ database: MemoryDatabase, _ text: String, _ behaviour: MemoryRows.Behaviour, memory: Int = 64 << 20
    ) throws -> (rows: [[Value]], read: Int) {
        var settings = database.settings
        settings.memoryLimit = memory
        let plan = try #require(try SQLParser.parse(Bytes(text.utf8)).first?.plan)
        let prepared = try PreparedPlan(plan, catalog: database.contents.catalog, settings: settings)
        let access = MemoryRows(database, behaviour)
        let execution = try prepared.execute([], settings: settings, access: access)
        var rows: [[Value]] = []
        while true {
            switch try execution.next() {
            case .batch(let batch):
                for row in 0..<batch.count { rows.append(batch.columns.map { $0.value(at: row) }) }
            case .paused: continue
            case .waiting: #expect(behaviour.isLate)
            case .end: return (rows, access.rowsRead)
            }
        }
    }

    private static let behaviours = [
        MemoryRows.Behaviour(), MemoryRows.Behaviour(page: 7, isLate: true),
        MemoryRows.Behaviour(page: 100, prefersFragments: true),
    ]

    @Test(
        "a table is read once for all outer rows, or anew where it is too large to be kept, with the same answers",
        arguments: [
            "SELECT id, (SELECT count(c) FROM i WHERE i.y < o.x) FROM o ORDER BY id",
            "SELECT id FROM o WHERE EXISTS (SELECT 1 FROM i WHERE y + 0 = x AND c <> 'd') OR id = 1 ORDER BY id",
            "SELECT id, n FROM o, LATERAL (SELECT max(c) AS n FROM i WHERE i.id % 5 < 4 AND y > x) s ORDER BY id",
        ])
    func once(_ statement: String) throws {
        for behaviour in Self.behaviours {
            let database = Self.database(behaviour)
            let kept = try run(database, statement, behaviour)
            #expect(kept.read <= 50 + 400)
            let again = try run(database, statement, behaviour, memory: 40 << 10)
            #expect(again.read > 10 * 400, "it was to be too large")
            #expect(again.rows == kept.rows && !kept.rows.isEmpty)
        }
    }

    @Test("rows of keys and entries that an outer row names are looked up for each")
    func lookups() throws {
        let database = Self.database(.init())
        let found = try run(database, "SELECT id, (SELECT c FROM i WHERE i.id = o.x) FROM o", .init())
        #expect(found.read <= 100)
    }
}
