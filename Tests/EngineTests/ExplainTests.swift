import Base
import Testing

@testable import Engine

@Suite("EXPLAIN")
struct ExplainTests {
    private func database() -> MemoryDatabase {
        let database = MemoryDatabase()
        for statement in [
            "CREATE TABLE job (id int PRIMARY KEY, state text, owner int)",
            "CREATE TABLE person (id int PRIMARY KEY, name text)",
            "INSERT INTO job VALUES (1, 'free', 1), (2, 'free', 2), (3, 'done', 1)",
            "INSERT INTO person VALUES (1, 'Ada'), (2, 'Bob')",
        ] { #expect(database.run(statement) != .done(tag: "")) }
        return database
    }

    private func explain(_ text: String, _ database: MemoryDatabase) -> [String] {
        guard case .rows(let lines) = database.run(text) else { return ["\(database.run(text))"] }
        return lines
    }

    @Test("plans are written as a tree")
    func tree() {
        let database = database()
        #expect(
            explain("EXPLAIN (COSTS OFF) SELECT state FROM job WHERE id = 2", database) == [
                "Key Lookup on job", "  Key Cond: (id = 2)", "  Filter: (id = 2)",
            ])
        #expect(
            explain(
                "EXPLAIN (COSTS OFF) SELECT j.id, name FROM job j JOIN person p ON p.id = j.owner "
                    + "WHERE state = 'free' ORDER BY name DESC LIMIT 1",
                database) == [
                    "Limit", "  ->  Top-N Sort", "        Sort Key: p.name DESC",
                    "        ->  Lookup Join", "              ->  Seq Scan on job j",
                    "                    Filter: (j.state = 'free'::text)", "              ->  Key Lookup on person p",
                    "                    Key Cond: (id = j.owner)",
                ])
        #expect(
            explain("EXPLAIN (COSTS OFF) UPDATE job SET owner = NULL WHERE state = 'done'", database) == [
                "Update on job", "  ->  LockRows", "        Relations: job",
                "        Recheck Cond: (state = 'done'::text)", "        ->  Seq Scan on job",
                "              Filter: (state = 'done'::text)",
            ])
        #expect(
            explain(
                "EXPLAIN (COSTS OFF) WITH c AS (SELECT owner, count(*) FROM job GROUP BY owner) SELECT * FROM c",
                database) == [
                    "CTE Scan on c", "  CTE c", "    ->  HashAggregate", "          Group Key: job.owner",
                    "          ->  Seq Scan on job",
                ])
    }

    @Test("nothing is done unless ANALYZE says so, and then its rows are counted")
    func execution() {
        let database = database()
        _ = explain("EXPLAIN DELETE FROM job", database)
        #expect(database.run("SELECT count(*) FROM job") == .rows(["3"]))
        let lines = explain(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) DELETE FROM job WHERE state = 'free'", database)
        #expect(lines.first == "Delete on job (actual rows=0 loops=1)")
        #expect(
            lines.contains("        ->  Seq Scan on job (actual rows=2 loops=1)")
                || lines.contains { $0.hasSuffix("Seq Scan on job (actual rows=2 loops=1)") })
        #expect(database.run("SELECT count(*) FROM job") == .rows(["1"]))
        let applied = explain(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT (SELECT name FROM person p WHERE p.id = o) "
                + "FROM (VALUES (1), (2), (3)) v(o)",
            database)
        #expect(applied.contains { $0.contains("Key Lookup on person p (actual rows=1 loops=3)") }, "\(applied)")
        let timed = explain("EXPLAIN ANALYZE SELECT 1", database)
        #expect(timed.count == 3 && timed[1].hasPrefix("Planning Time: ") && timed[2].hasSuffix(" ms"))
    }

    @Test("JSON has the same tree")
    func json() {
        let text = explain("EXPLAIN (FORMAT JSON, ANALYZE, TIMING OFF) SELECT * FROM job ORDER BY state", database())
            .joined()
        for part in [
            "\"Node Type\": \"Sort\"", "\"Sort Key\": \"state\"", "\"Relation Name\": \"job\"", "\"Actual Rows\": 3",
            "\"Planning Time\"",
        ] {
            #expect(text.contains(part), "\(text)")
        }
    }

    @Test("options that are not there are refused")
    func options() {
        let database = database()
        for (text, state) in [
            ("EXPLAIN (NONSENSE) SELECT 1", "42601"), ("EXPLAIN (FORMAT YAML) SELECT 1", "0A000"),
            ("EXPLAIN (FORMAT other) SELECT 1", "22023"), ("EXPLAIN (BUFFERS) SELECT 1", "0A000"),
            ("EXPLAIN (ANALYZE maybe) SELECT 1", "42601"), ("EXPLAIN (TIMING) SELECT 1", "22023"),
            ("EXPLAIN SELECT nothing", "42703"),
        ] {
            guard case .failed(let error) = database.run(text) else {
                Issue.record("\(text) was explained")
                continue
            }
            #expect(error.state.rawValue == state, "\(text): \(error)")
        }
    }
}
