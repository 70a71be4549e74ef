import Base
import Contracts
import DataModel
import Foundation
import QueryLanguages
import Testing

@testable import Engine

/// What the tests of functions share: a session without tables.
enum Expressions {
    static let settings: EngineSettings = {
        var settings = EngineSettings()
        settings.transactionTime = 1_709_201_723_500_000
        settings.statementTime = settings.transactionTime
        settings.clock = { 1_709_201_723_600_000 }
        settings.random = { 0x1234_5678_9abc_def0 }
        settings.user = "postgres"
        settings.database = "postgres"
        settings.text.now = settings.transactionTime
        settings.text.zoneNamed = { name in
            switch name.lowercased() {
            case "america/new_york": ZoneRules(posix: "EST5EDT,M3.2.0,M11.1.0")
            case "europe/berlin": ZoneRules(posix: "CET-1CEST,M3.5.0,M10.5.0/3")
            case "asia/kolkata": ZoneRules(posix: "IST-5:30")
            default: nil
            }
        }
        return settings
    }()

    /// The rows that a query gives, each value as its text; NULL is nil.
    static func rows(_ query: String) throws -> [[String?]] {
        let statements = try SQLParser.parse(Bytes(query.utf8))
        let plan = try #require(statements.first).plan
        let prepared = try PreparedPlan(plan, catalog: Catalog(), settings: settings)
        let execution = try prepared.execute([], settings: settings, access: nil)
        var rows: [[String?]] = []
        while true {
            switch try execution.next() {
            case .batch(let batch):
                for row in 0..<batch.count {
                    rows.append(
                        batch.columns.map { column in
                            let value = column.value(at: row)
                            return value.isNull ? nil : ValueText.text(of: value, as: column.type, settings.text)
                        })
                }
            case .paused: continue
            case .waiting, .end: return rows
            }
        }
    }

    /// One value; errors as `SQLSTATE: message`.
    static func answer(_ query: String) -> String {
        do {
            let rows = try rows(query)
            return rows.map { $0.map { $0 ?? "NULL" }.joined(separator: "|") }.joined(separator: "\n")
        } catch let error as StatementError {
            return "\(error.state.rawValue): \(error.message)"
        } catch {
            return "\(error)"
        }
    }
}

@Suite("Functions")
struct FunctionExampleTests {
    @Test("every row of the registry does what its example says")
    func examples() {
        let examples = Registry.examples
        #expect(examples.count > 500)
        for example in examples {
            let answer = Expressions.answer(example.query)
            if answer != example.result {
                Issue.record("\(example.query)\n  gives \(answer)\n  not   \(example.result)")
            }
        }
        // For whoever asks PostgreSQL the same.
        guard let path = ProcessInfo.processInfo.environment["ORBIT_FUNCTION_EXAMPLES"] else { return }
        let lines = examples.map { "\($0.query)\t\($0.result)" }.joined(separator: "\n")
        try? Data(lines.utf8).write(to: URL(fileURLWithPath: path))
    }

    /// docs/functions.md: an introduction by hand, and the tables below it. ORBIT_WRITE_DOCS=1 writes them anew.
    @Test("docs/functions.md has the tables of the registry")
    func document() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent()
        let path = root.appendingPathComponent("docs/functions.md")
        let text = try String(contentsOf: path, encoding: .utf8)
        let marker = "## Operators"
        let start = try #require(text.range(of: marker)).lowerBound
        let wanted = Registry.document
        if ProcessInfo.processInfo.environment["ORBIT_WRITE_DOCS"] != nil {
            try (text[..<start] + wanted).write(to: path, atomically: true, encoding: .utf8)
            return
        }
        #expect(
            text[start...].utf8.elementsEqual(wanted.utf8),
            "run ORBIT_WRITE_DOCS=1 swift test --filter FunctionExampleTests, and read what changed")
    }
}
