import Base
import ServiceKit
import TestKit

/// Reads a history of transactions that real clients have recorded; docs/simulation.md says what a line holds.
struct HistoryFile {
    /// Where a file is not as it should be.
    struct Fault: Error, CustomStringConvertible {
        let line: Int
        let message: String

        var description: String { "line \(line): \(message)" }
    }

    private var history = TransactionHistory()
    private var keys: [String: Int] = [:]
    private var values: [String: Int] = [:]
    private var line = 0

    static func read(_ bytes: Bytes) throws(Fault) -> TransactionHistory {
        var file = HistoryFile()
        var start = bytes.startIndex
        while start < bytes.endIndex {
            let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")) ?? bytes.endIndex
            file.line += 1
            try file.add(Bytes(bytes[start..<end]))
            start = end + 1
        }
        return file.history
    }

    private func fault(_ message: String) -> Fault { Fault(line: line, message: message) }

    private mutating func add(_ bytes: Bytes) throws(Fault) {
        let object: JSON
        do { object = try JSON(parsing: bytes) } catch { throw fault("\(error)") }
        guard let client = object["client"]?.integer, let begin = object["begin"]?.integer, begin >= 0 else {
            throw fault("client and begin must be numbers, begin not below 0")
        }
        let outcome: RecordedOperation.Outcome
        switch object["outcome"]?.text {
        case "committed":
            guard let end = object["end"]?.integer, end >= begin else { throw fault("end must not be below begin") }
            outcome = .completed(UInt64(end))
        case "aborted": outcome = .refused
        case "unknown": outcome = .unknown
        case _: throw fault("outcome must be committed, aborted or unknown")
        }
        guard case .array(let rows) = object["operations"] else { throw fault("operations must be a list") }
        var operations: [RecordedTransaction.Operation] = []
        for row in rows { operations.append(try operation(row)) }
        history.transactions.append(
            RecordedTransaction(
                client: Int(client), operations: operations, invoked: UInt64(begin), outcome: outcome))
    }

    private mutating func operation(_ row: JSON) throws(Fault) -> RecordedTransaction.Operation {
        let words = row.elements
        guard words.count == 3, let kind = words[0].text, let name = words[1].text else {
            throw fault("an operation is [kind, key, value]")
        }
        let key = Self.number(of: name, in: &keys, &history.keyNames)
        switch (kind, words[2]) {
        case ("append", .text(let text)): return .append(key: key, value: value(text))
        case ("write", .text(let text)): return .write(key: key, value: value(text))
        case ("read", .null): return .readRegister(key: key, value: nil)
        case ("read", .text(let text)): return .readRegister(key: key, value: value(text))
        case ("list", .array(let elements)):
            var list: [Int] = []
            list.reserveCapacity(elements.count)
            for element in elements {
                guard let text = element.text else { throw fault("the values of a list are texts") }
                list.append(value(text))
            }
            return .readList(key: key, values: list)
        case _: throw fault("an operation is append, write or read with a text, read with null, or list with a list")
        }
    }

    private mutating func value(_ text: String) -> Int { Self.number(of: text, in: &values, &history.valueNames) }

    private static func number(of text: String, in numbers: inout [String: Int], _ names: inout [String]) -> Int {
        if let number = numbers[text] { return number }
        numbers[text] = names.count
        names.append(text)
        return names.count - 1
    }
}
