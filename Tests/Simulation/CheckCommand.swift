import Base
import Glibc
import TestKit

/// `orbit-simulate check FILE [--level LEVEL]`: 0 if the history shows nothing that the level forbids, 1 if it does,
/// 65 if it is none.
func checkHistory(_ words: [String]) -> Int32 {
    var level = IsolationLevel.strictSerializable
    var path: String?
    var rest = words[...]
    while let word = rest.popFirst() {
        if word == "--level" {
            guard let name = rest.popFirst(), let known = IsolationLevel(rawValue: name) else {
                let names = IsolationLevel.allCases.map(\.rawValue).joined(separator: ", ")
                fail("--level needs one of: \(names)\n", code: 64)
            }
            level = known
        } else if path == nil, !word.hasPrefix("-") {
            path = word
        } else {
            fail(usage, code: 64)
        }
    }
    guard let path else { fail(usage, code: 64) }
    guard let bytes = contents(path) else { fail("\(path): \(String(cString: strerror(errno)))\n", code: 66) }
    let history: TransactionHistory
    do { history = try HistoryFile.read(bytes) } catch { fail("\(path): \(error)\n", code: 65) }
    let start = SystemClock().monotonicNanoseconds()
    let report = IsolationChecker().check(history)
    let milliseconds = (SystemClock().monotonicNanoseconds() - start) / 1_000_000
    let violations = report.violations(of: level)
    for anomaly in violations { writeOut(anomaly.explanation + "\n\n") }
    let more = report.counts.filter { $0.key.level <= level && $0.value > IsolationReport.told }
    for (kind, count) in more.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
        writeOut("\(count - IsolationReport.told) more: \(kind.rawValue)\n")
    }
    let verdict = report.level.map { "as far as it shows \($0.rawValue)" } ?? "not even read-committed"
    writeOut(
        "\(history.transactions.count) transactions, \(report.committed) committed, checked in \(milliseconds) ms: "
            + "\(verdict)\n")
    return violations.isEmpty ? 0 : 1
}

/// A whole file; nil with `errno` if it cannot be read.
private func contents(_ path: String) -> Bytes? {
    guard let file = fopen(path, "r") else { return nil }
    defer { fclose(file) }
    var bytes = Bytes()
    var chunk = Bytes(repeating: 0, count: 1 << 16)
    while true {
        let count = fread(&chunk, 1, chunk.count, file)
        if count == 0 { return ferror(file) == 0 ? bytes : nil }
        bytes += chunk[..<count]
    }
}
