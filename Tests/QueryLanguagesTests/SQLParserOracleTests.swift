import Base
import Contracts
import Foundation
import QueryLanguages
import Testing

/// Tests/SQL/parser/verdicts.txt is what PostgreSQL 15's own parser says to some thousand statements, most of them
/// wrong in one place (oracle.py there makes it). Ours must say the same, in the same words at the same place, but for
/// what it refuses as not supported.
@Suite("SQLParser against PostgreSQL's parser")
struct SQLParserOracleTests {
    struct Count {
        var statements = 0, agreed = 0, unsupported = 0
        var differences: [String] = []
    }

    /// How many are judged otherwise: it may only shrink.
    static let known = 50

    static func compare() throws -> Count {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        let path = root.appendingPathComponent("SQL/parser/verdicts.txt")
        var count = Count()
        for line in try String(contentsOf: path, encoding: .utf8).split(separator: "\n") {
            guard let tab = line.firstIndex(of: "\t") else { continue }
            let verdict = line[..<tab], statement = line[line.index(after: tab)...]
            count.statements += 1
            var ours = "ok", position = 0
            do throws(StatementError) {
                for parsed in try SQLParser.parse(Array(statement.utf8)) {
                    do throws(DatabaseError) { try parsed.plan.validate() } catch { ours = "invalid plan: \(error)" }
                }
            } catch {
                (ours, position) = (error.message, error.position)
                if error.state == .featureNotSupported, ours.hasSuffix("is not supported") {
                    count.unsupported += 1
                    continue
                }
            }
            var theirs = String(verdict), place = 0
            if theirs != "ok", let space = verdict.firstIndex(of: " ") {
                (theirs, place) = (String(verdict[verdict.index(after: space)...]), Int(verdict[..<space]) ?? 0)
            }
            if ours == theirs, place == 0 || place == position {
                count.agreed += 1
            } else {
                count.differences.append(
                    "\(statement)\n    PostgreSQL \(place) \(theirs)\n    here \(position) \(ours)")
            }
        }
        return count
    }

    @Test("accepts and refuses what PostgreSQL does, in its words and at its place")
    func verdicts() throws {
        let count = try Self.compare()
        let text = count.differences.prefix(200).joined(separator: "\n")
        print(
            "SQL parser: of \(count.statements) statements \(count.agreed) judged as PostgreSQL does, "
                + "\(count.unsupported) refused as not supported, \(count.differences.count) judged otherwise")
        if let path = ProcessInfo.processInfo.environment["ORBIT_SQL_DIFFERENCES"] {
            try text.write(toFile: path, atomically: true, encoding: .utf8)
        }
        #expect(count.statements > 1000)
        // The rest: faults that PostgreSQL finds later (in analysis) or one word further on.
        #expect(count.differences.count <= Self.known, "\(text)")
    }
}
