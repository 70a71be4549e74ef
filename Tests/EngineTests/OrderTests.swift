import Base
import Contracts
import DataModel
import QueryLanguages
import TestKit
import Testing

@testable import Engine

/// Joins and groups along an order, beside the same by nested loops and hash tables.
@Suite("Joins and groups along an order")
struct OrderTests {
    static let behaviours = [
        MemoryRows.Behaviour(), .init(page: 3, isLate: true, isScattered: true),
        .init(page: 100, isScattered: true, prefersFragments: true),
    ]

    /// Two tables with many equal keys and NULLs: `l` has a primary key of two columns, `r` an index.
    private static func database(_ behaviour: MemoryRows.Behaviour, _ random: inout SplitMix64) -> MemoryDatabase {
        let database = MemoryDatabase(behaviour)
        if behaviour.isLate { database.settings.batchesPerSlice = 1 }
        func value(_ range: UInt64) -> String { random.next() % 6 == 0 ? "NULL" : "\(random.next() % range)" }
        func text() -> String {
            random.next() % 6 == 0 ? "NULL" : ["''", "'a'", "'ab'", "'b'"][Int(random.next() % 4)]
        }
        var statements = [
            "CREATE TABLE l (k int, n int, a int, b text, v int, PRIMARY KEY (k, n))",
            "CREATE TABLE r (id int PRIMARY KEY, k bigint NOT NULL, a bigint, b text, v int)",
            "CREATE INDEX r_k ON r (k)", "CREATE INDEX r_a_b ON r (a, b)",
        ]
        for row in 0..<(20 + random.next() % 60) {
            statements.append(
                "INSERT INTO l VALUES (\(random.next() % 12), \(row), \(value(8)), \(text()), \(value(30)))")
        }
        for row in 0..<(20 + random.next() % 60) {
            statements.append(
                "INSERT INTO r VALUES (\(row), \(random.next() % 12), \(value(8)), \(text()), \(value(30)))")
        }
        if random.next() % 2 == 0 { statements += ["ANALYZE l", "ANALYZE r"] }
        for statement in statements {
            if case .failed(let error) = database.run(statement) { Issue.record("\(statement): \(error)") }
        }
        return database
    }

    private static func rows(_ answer: MemoryDatabase.Answer, _ comment: String) -> [String] {
        guard case .rows(let rows) = answer else {
            Issue.record("\(comment): \(answer)")
            return []
        }
        return rows
    }

    /// Conditions with an equation, and the same so that nobody finds it.
    private static let conditions = [
        ("l.k = r.k", "NOT l.k <> r.k"), ("l.a = r.a", "NOT l.a <> r.a"), ("r.b = l.b", "NOT r.b <> l.b"),
        ("l.a = r.a AND l.b = r.b", "NOT l.a <> r.a AND NOT l.b <> r.b"),
        ("l.k = r.k AND l.v < r.v", "NOT l.k <> r.k AND l.v < r.v"),
        ("l.a = r.a AND l.v < r.v AND l.b = r.b", "NOT l.a <> r.a AND l.v < r.v AND NOT l.b <> r.b"),
        ("l.n = r.id AND l.v IS NOT NULL", "NOT l.n <> r.id AND l.v IS NOT NULL"),
    ]

    @Test("joins of every kind meet the rows that a nested loop meets", arguments: behaviours)
    func joins(behaviour: MemoryRows.Behaviour) {
        let seed = freshSeed("order")
        var random = SplitMix64(seed: seed)
        for _ in 0..<3 {
            let database = Self.database(behaviour, &random)
            for (condition, plain) in Self.conditions {
                let shapes =
                    ["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"].map { word in
                        { (condition: String) in "SELECT l.*, r.* FROM l \(word) r ON \(condition)" }
                    }
                    + ["EXISTS", "NOT EXISTS"].map { word in
                        { (condition: String) in "SELECT * FROM l WHERE \(word) (SELECT 1 FROM r WHERE \(condition))" }
                    }
                for shape in shapes {
                    let statement = shape(condition), comment = "seed \(seed): \(statement)"
                    let wanted = Self.rows(database.run(shape(plain)), comment).sorted()
                    database.settings.avoidsHashJoins = true
                    let plan = Self.rows(database.run("EXPLAIN \(statement)"), comment).joined(separator: "\n")
                    #expect(plan.contains("Merge"), "\(comment)\n\(plan)")
                    let given = Self.rows(database.run(statement), comment).sorted()
                    database.settings.avoidsHashJoins = false
                    #expect(given == wanted, "\(comment)\n\(plan)")
                }
            }
        }
    }

    @Test("rows come in the order that is asked for, and the first ones under a limit", arguments: behaviours)
    func limits(behaviour: MemoryRows.Behaviour) {
        let seed = freshSeed("order-limits")
        var random = SplitMix64(seed: seed)
        for _ in 0..<3 {
            let database = Self.database(behaviour, &random)
            for (list, rest) in [
                ("l.k", "l JOIN r ON l.k = r.k ORDER BY l.k"), ("r.k", "l JOIN r ON l.k = r.k ORDER BY r.k DESC"),
                ("l.k, l.n", "l LEFT JOIN r ON l.k = r.k ORDER BY l.k, l.n"),
                ("r.k", "l RIGHT JOIN r ON l.k = r.k AND l.v > 3 ORDER BY r.k"),
                ("l.k, l.n", "l WHERE EXISTS (SELECT 1 FROM r WHERE r.k = l.k) ORDER BY l.k DESC, l.n DESC"),
                ("l.k", "l WHERE NOT EXISTS (SELECT 1 FROM r WHERE r.k = l.k AND r.v > l.v) ORDER BY l.k"),
                ("r.a", "l JOIN r ON l.a = r.a ORDER BY r.a"), ("l.k", "l JOIN r ON l.a = r.a ORDER BY l.k"),
                ("l.k", "l JOIN r ON l.k = r.k JOIN l AS x ON x.k = r.k ORDER BY l.k"),
                ("k, count(*)", "l GROUP BY k ORDER BY k"), ("k, n, max(v)", "l GROUP BY n, k ORDER BY k DESC, n DESC"),
                ("a, b, sum(v)", "r GROUP BY b, a ORDER BY a, b"), ("a, count(*)", "r GROUP BY a ORDER BY a DESC"),
                ("l.k, count(*)", "l JOIN r ON l.k = r.k GROUP BY l.k ORDER BY l.k"),
            ] {
                for part in ["LIMIT 5", "LIMIT 3 OFFSET 4", "LIMIT 1000", ""] {
                    let statement = "SELECT \(list) FROM \(rest) \(part)"
                    let plan = Self.rows(database.run("EXPLAIN \(statement)"), statement).joined(separator: "\n")
                    let wanted = Self.rows(database.run(Self.sorted(list, rest, part)), statement)
                    #expect(
                        Self.rows(database.run(statement), statement) == wanted, "seed \(seed): \(statement)\n\(plan)")
                }
            }
        }
    }

    /// The same by a sort of all rows, which come from where no order is known.
    private static func sorted(_ list: String, _ rest: String, _ part: String) -> String {
        let parts = rest.components(separatedBy: " ORDER BY "), columns = list.components(separatedBy: ", ")
        let order = parts[1].components(separatedBy: ", ").map { term in
            let words = term.components(separatedBy: " ")
            let place = (columns.firstIndex(of: words[0]) ?? 0) + 1
            return words.count > 1 ? "\(place) DESC" : "\(place)"
        }
        return "WITH rows AS (SELECT \(list) FROM \(parts[0])) SELECT * FROM rows ORDER BY "
            + "\(order.joined(separator: ", ")) \(part)"
    }

    @Test("groups have the rows that a hash table gives them", arguments: behaviours)
    func groups(behaviour: MemoryRows.Behaviour) {
        let seed = freshSeed("order-groups")
        var random = SplitMix64(seed: seed)
        for _ in 0..<3 {
            let database = Self.database(behaviour, &random)
            for statement in [
                "SELECT k, count(*), sum(v), count(DISTINCT a) FROM l GROUP BY k",
                "SELECT n, k, count(*) FILTER (WHERE v > 10), max(b) FROM l GROUP BY n, k HAVING count(v) > 0",
                "SELECT a, b, string_agg(b, ',' ORDER BY v DESC, id), array_agg(DISTINCT v) FROM r GROUP BY a, b",
                "SELECT k, a, b, avg(v), GROUPING(k) FROM l GROUP BY k, a, b",
                "SELECT b, sum(v) FROM r WHERE a = 3 GROUP BY b", "SELECT v % 5, count(*) FROM l GROUP BY v % 5",
                "SELECT l.k, count(*), sum(r.v) FROM l JOIN r ON l.k = r.k GROUP BY l.k",
                "SELECT k, count(*) FROM l WHERE v < 0 GROUP BY k",
            ] {
                let wanted = Self.rows(database.run(statement), statement).sorted()
                database.settings.avoidsHashAggregates = true
                let plan = Self.rows(database.run("EXPLAIN \(statement)"), statement).joined(separator: "\n")
                #expect(plan.contains("GroupAggregate") != statement.contains("%"), "\(plan)")
                #expect(Self.rows(database.run(statement), statement).sorted() == wanted, "seed \(seed): \(statement)")
                database.settings.avoidsHashAggregates = false
            }
        }
    }

    @Test("they run anew for every outer row", arguments: behaviours)
    func restarts(behaviour: MemoryRows.Behaviour) {
        var random = SplitMix64(seed: freshSeed("order-restarts"))
        let database = Self.database(behaviour, &random)
        for statement in [
            "SELECT id, (SELECT count(*) FROM l JOIN x ON l.k = x.k WHERE l.v > r.v) FROM r AS r, LATERAL (SELECT 1) o",
            "SELECT id, s.* FROM r, LATERAL (SELECT k, sum(n) FROM l WHERE l.v > r.v GROUP BY k) AS s",
            "SELECT r.id, s.* FROM r, LATERAL (SELECT l.k, x.id AS other FROM l "
                + "FULL JOIN r AS x ON l.k = x.k AND x.v < r.v ORDER BY l.k, l.n, x.id LIMIT 7) AS s",
        ] {
            let statement = statement.replacing("JOIN x", with: "JOIN r AS x")
            let wanted = Self.rows(database.run(statement), statement).sorted()
            (database.settings.avoidsHashJoins, database.settings.avoidsHashAggregates) = (true, true)
            #expect(Self.rows(database.run(statement), statement).sorted() == wanted, "\(statement)")
            (database.settings.avoidsHashJoins, database.settings.avoidsHashAggregates) = (false, false)
            #expect(!wanted.isEmpty)
        }
    }

    /// Two tables of many rows, of which a statement may keep only a few.
    private static func large() -> MemoryDatabase {
        let database = MemoryDatabase()
        for statement in [
            "CREATE TABLE big (id int PRIMARY KEY, v int, t text)",
            "CREATE TABLE huge (id int PRIMARY KEY, v int, t text)",
            "INSERT INTO big SELECT n, n % 7, repeat('b', 40) FROM generate_series(1, 6000) AS n",
            "INSERT INTO huge SELECT n * 2, n % 5, repeat('h', 40) FROM generate_series(1, 6000) AS n",
            "ANALYZE big", "ANALYZE huge",
        ] {
            if case .failed(let error) = database.run(statement) { Issue.record("\(statement): \(error)") }
        }
        database.settings.memoryLimit = 300 << 10
        return database
    }

    @Test("what is too large for a hash table runs along an order")
    func memory() {
        let database = Self.large()
        for (statement, rows) in [
            ("SELECT count(*), sum(b.v), max(h.t) FROM big b JOIN huge h ON b.id = h.id", 3000),
            ("SELECT count(*) FROM big b LEFT JOIN huge h ON b.id = h.id", 6000),
            ("SELECT count(*) FROM big b FULL JOIN huge h ON b.id = h.id", 9000),
            ("SELECT count(*) FROM big b RIGHT JOIN huge h ON b.id = h.id AND b.v = h.v", 6000),
        ] {
            database.settings.avoidsMergeJoins = true
            guard case .failed(let error) = database.run(statement) else {
                Issue.record("\(statement): there was to be no room for it")
                continue
            }
            #expect(error.state == .outOfMemory)
            database.settings.avoidsMergeJoins = false
            #expect("\(database.run(statement))".hasPrefix("[\"\(rows)"), "\(statement)")
        }
        let groups = "SELECT count(*), sum(c) FROM (SELECT @, count(*) AS c, max(t) FROM big GROUP BY @) AS g"
        guard case .failed(let error) = database.run(groups.replacing("@", with: "(id + 0)")) else {
            Issue.record("there was to be no room for the groups")
            return
        }
        #expect(error.state == .outOfMemory)
        #expect(database.run(groups.replacing("@", with: "id")) == .rows(["6000|6000"]))
    }

    @Test(
        "under a limit, few rows are read",
        arguments: [
            ("SELECT b.id, h.t FROM big b JOIN huge h ON b.id = h.id ORDER BY b.id LIMIT 10", 10, 200),
            ("SELECT h.id, b.t FROM big b RIGHT JOIN huge h ON b.id = h.id ORDER BY h.id DESC LIMIT 10", 10, 200),
            ("SELECT id, count(*) FROM big GROUP BY id ORDER BY id LIMIT 10", 10, 200),
            ("SELECT id FROM big b WHERE EXISTS (SELECT 1 FROM huge h WHERE h.id = b.id) ORDER BY id LIMIT 5", 5, 200),
        ])
    func few(_ statement: String, rows: Int, read: Int) throws {
        let database = Self.large()
        let plan = try #require(try SQLParser.parse(Bytes(statement.utf8)).first?.plan)
        let prepared = try PreparedPlan(plan, catalog: database.contents.catalog, settings: database.settings)
        let access = MemoryRows(database, .init())
        let execution = try prepared.execute([], settings: database.settings, access: access)
        var count = 0
        loop: while true {
            switch try execution.next() {
            case .batch(let batch): count += batch.count
            case .paused: continue
            case .waiting, .end: break loop
            }
        }
        #expect(count == rows)
        #expect(access.rowsRead <= read)
    }

    @Test("EXPLAIN says so as PostgreSQL does")
    func explained() {
        let database = Self.large()
        (database.settings.avoidsHashJoins, database.settings.avoidsHashAggregates) = (true, true)
        #expect(
            database.run("EXPLAIN (COSTS OFF) SELECT * FROM big b LEFT JOIN huge h ON b.id = h.id AND b.v < h.v")
                == .rows([
                    "Merge Left Join", "  Merge Cond: (b.id = h.id)", "  Join Filter: (b.v < h.v)",
                    "  ->  Index Scan using big_pkey on big b", "  ->  Index Scan using huge_pkey on huge h",
                ]))
        #expect(
            database.run("EXPLAIN (COSTS OFF) SELECT v, count(*) FROM big GROUP BY v ORDER BY v")
                == .rows([
                    "GroupAggregate", "  Group Key: v", "  ->  Sort", "        Sort Key: v",
                    "        ->  Seq Scan on big",
                ]))
        #expect(
            database.run(
                "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) "
                    + "SELECT count(*) FROM big b JOIN huge h USING (id)")
                == .rows([
                    "Aggregate (actual rows=1 loops=1)", "  ->  Merge Join (actual rows=3000 loops=1)",
                    "        Merge Cond: (b.id = h.id)",
                    "        ->  Index Scan using big_pkey on big b (actual rows=6000 loops=1)",
                    "        ->  Index Scan using huge_pkey on huge h (actual rows=4000 loops=1)",
                ]))
        let json = "\(database.run("EXPLAIN (FORMAT JSON) SELECT id, max(v) FROM big GROUP BY id"))"
        #expect(json.contains("GroupAggregate") && json.contains("Group Key"), "\(json)")
    }
}
