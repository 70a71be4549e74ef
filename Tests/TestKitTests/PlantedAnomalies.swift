import Base
import TestKit
import Testing

/// An anomaly as clients would see it, in transactions that run beside others.
struct PlantedAnomaly: Sendable, CustomTestStringConvertible {
    typealias Operation = RecordedTransaction.Operation

    struct Row: Sendable {
        var operations: [Operation]
        var outcome = Outcome.committed
        /// One after the other where they differ, all at once where they do not.
        var turn: UInt64 = 0

        enum Outcome { case committed, aborted, unknown }
    }

    let name: String
    let kind: IsolationAnomaly.Kind
    /// Which of the rows are to be named.
    let guilty: Set<Int>
    let rows: [Row]

    var testDescription: String { name }

    init(_ name: String, _ kind: IsolationAnomaly.Kind, guilty: Set<Int>, _ rows: Row...) {
        (self.name, self.kind, self.guilty, self.rows) = (name, kind, guilty, rows)
    }

    /// The history with the rows at places and times that the generator chooses; and where they are.
    func planted(in history: TransactionHistory, using random: inout SplitMix64) -> (TransactionHistory, [Int]) {
        let middle = 1000 + random.next(below: 2000)
        var recorded = history.transactions.map { (row: -1, transaction: $0) }
        for (number, row) in rows.enumerated() {
            let begin = middle + row.turn * 100 - random.next(below: 40)
            let end = middle + row.turn * 100 + random.next(below: 40)
            let outcome: RecordedOperation.Outcome =
                switch row.outcome {
                case .committed: .completed(end)
                case .aborted: .refused
                case .unknown: .unknown
                }
            let transaction = RecordedTransaction(
                client: 100 + number, operations: row.operations, invoked: begin, outcome: outcome)
            recorded.insert((number, transaction), at: Int(random.next(below: UInt64(recorded.count))))
        }
        let places = rows.indices.map { number in recorded.firstIndex { $0.row == number } ?? -1 }
        return (TransactionHistory(recorded.map(\.transaction)), places)
    }

    // Keys and values that no other history has: x and y are lists, p and q registers.
    private static let (x, y, p, q) = (1_000_000, 1_000_002, 1_000_001, 1_000_003)

    private static func add(_ key: Int, _ value: Int) -> Operation { .append(key: key, value: value) }
    private static func list(_ key: Int, _ values: Int...) -> Operation { .readList(key: key, values: values) }
    private static func set(_ key: Int, _ value: Int) -> Operation { .write(key: key, value: value) }
    private static func get(_ key: Int, _ value: Int?) -> Operation { .readRegister(key: key, value: value) }
    private static func row(_ operations: Operation..., outcome: Row.Outcome = .committed, turn: UInt64 = 0) -> Row {
        Row(operations: operations, outcome: outcome, turn: turn)
    }

    static let catalog = seenAtOnce + cycles + againstTime

    private static let seenAtOnce: [PlantedAnomaly] = [
        .init("a value written twice", .malformed, guilty: [0, 1], row(add(x, 1)), row(add(x, 1))),
        .init("a list that is a register", .malformed, guilty: [0, 1], row(add(x, 1)), row(get(x, 1))),
        .init("a list with a value of nobody", .unwritten, guilty: [1], row(add(x, 1)), row(list(x, 1, 2))),
        .init("a register with a value of nobody", .unwritten, guilty: [0], row(get(p, 1))),
        .init("an append done twice", .duplicate, guilty: [0, 1], row(add(x, 1)), row(list(x, 1, 1))),
        .init(
            "two orders", .incompatibleOrders, guilty: [2, 3], row(add(x, 1)), row(add(x, 2)), row(list(x, 1, 2)),
            row(list(x, 2, 1))),
        .init("own append not seen", .own, guilty: [0], row(add(x, 1), list(x)), row(list(x, 1))),
        .init("own append seen before it", .own, guilty: [0], row(list(x, 1), add(x, 1))),
        .init("own write not seen", .own, guilty: [0], row(set(p, 1), get(p, nil))),
        .init("own write undone", .own, guilty: [1], row(set(p, 1)), row(get(p, 1), set(p, 2), get(p, 1))),
        .init("own appends turned round", .own, guilty: [0], row(add(x, 1), add(x, 2)), row(list(x, 2, 1))),
        .init("half of the own appends", .own, guilty: [0], row(add(x, 1), add(x, 2)), row(list(x, 2))),
        .init(
            "list of an aborted", .abortedRead, guilty: [0, 1], row(add(x, 1), outcome: .aborted), row(list(x, 1))),
        .init(
            "list of an aborted beside others", .abortedRead, guilty: [0, 1], row(add(x, 1), outcome: .aborted),
            row(list(x, 2, 1)), row(add(x, 2)), row(add(x, 3)), row(list(x, 2, 3))),
        .init(
            "register of an aborted", .abortedRead, guilty: [0, 1], row(set(p, 1), outcome: .aborted),
            row(get(p, 1))),
        .init(
            "list in between", .intermediateRead, guilty: [0, 1], row(add(x, 1), add(x, 2)), row(list(x, 1)),
            row(list(x, 1, 2))),
        .init("register in between", .intermediateRead, guilty: [0, 1], row(set(p, 1), set(p, 2)), row(get(p, 1))),
        .init(
            "list that changes", .nonRepeatableRead, guilty: [1], row(add(x, 1)), row(list(x), list(x, 1))),
        .init(
            "register that changes", .nonRepeatableRead, guilty: [2], row(set(p, 1)), row(set(p, 2)),
            row(get(p, 1), get(p, 2))),
        .init(
            "lost append", .lostUpdate, guilty: [0, 1], row(list(x), add(x, 1)), row(list(x), add(x, 2)),
            row(list(x, 1))),
        .init(
            "append after an old read", .lostUpdate, guilty: [0, 1], row(list(x), add(x, 1)),
            row(list(x), add(x, 2)), row(list(x, 1, 2))),
        .init(
            "lost write", .lostUpdate, guilty: [1, 2], row(set(p, 1)), row(get(p, 1), set(p, 2)),
            row(get(p, 1), set(p, 3)), row(get(p, 3))),
    ]

    private static let cycles: [PlantedAnomaly] = [
        .init(
            "appends crossed", .dirtyWrite, guilty: [0, 1], row(add(x, 1), add(y, 1)), row(add(x, 2), add(y, 2)),
            row(list(x, 1, 2), list(y, 2, 1))),
        .init(
            "appends interleaved", .dirtyWrite, guilty: [0, 1], row(add(x, 1), add(x, 3)), row(add(x, 2)),
            row(list(x, 1, 2, 3))),
        .init(
            "both see each other's list", .circularInformation, guilty: [0, 1], row(add(x, 1), list(y, 1)),
            row(add(y, 1), list(x, 1))),
        .init(
            "three see each other's register", .circularInformation, guilty: [0, 1, 2], row(set(p, 1), get(q, 1)),
            row(set(q, 1), list(x, 1)), row(add(x, 1), get(p, 1))),
        .init("half of the lists", .readSkew, guilty: [0, 1], row(list(x), list(y, 1)), row(add(x, 1), add(y, 1))),
        .init(
            "half of an unknown one", .readSkew, guilty: [0, 1], row(list(x), list(y, 1)),
            row(add(x, 1), add(y, 1), outcome: .unknown)),
        .init(
            "half of an unknown one that only an unknown one saw", .readSkew, guilty: [0, 1],
            row(list(x), list(y, 1), add(y, 2), outcome: .unknown),
            row(add(x, 1), add(y, 1), outcome: .unknown), row(list(y, 1, 2))),
        .init(
            "half of the registers", .readSkew, guilty: [0, 1], row(get(p, nil), get(q, 1)),
            row(set(p, 1), set(q, 1))),
        .init(
            "an old and a new register", .readSkew, guilty: [1, 2], row(set(p, 1)),
            row(get(p, 1), set(p, 2), set(q, 2)),
            row(get(q, 2), get(p, 1))),
        .init(
            "long fork", .nonadjacent, guilty: [0, 1, 2, 3], row(add(x, 1)), row(set(p, 1)),
            row(list(x, 1), get(p, nil)), row(list(x), get(p, 1))),
        .init("lists skewed", .writeSkew, guilty: [0, 1], row(list(x), add(y, 1)), row(list(y), add(x, 1))),
        .init(
            "registers skewed", .writeSkew, guilty: [0, 1], row(get(p, nil), set(q, 1)), row(get(q, nil), set(p, 1))),
        .init(
            "three skewed", .writeSkew, guilty: [0, 1, 2], row(get(p, nil), set(q, 1)), row(get(q, nil), add(x, 1)),
            row(list(x), set(p, 1))),
    ]

    private static let againstTime: [PlantedAnomaly] = [
        .init("an old list", .realTime, guilty: [0, 1], row(add(x, 1)), row(list(x), turn: 1)),
        .init(
            "an old register", .realTime, guilty: [0, 1, 2], row(set(p, 1)), row(set(p, 2), turn: 1),
            row(get(p, 1), turn: 2)),
        .init(
            "an append before one that had ended", .realTime, guilty: [0, 1], row(add(x, 1)), row(add(x, 2), turn: 1),
            row(list(x, 2, 1), turn: 2)),
        .init("a list from the future", .realTime, guilty: [0, 1], row(list(x, 1)), row(add(x, 1), turn: 1)),
        .init(
            "a lost append of an unknown one that was seen", .realTime, guilty: [0, 1, 2],
            row(add(x, 1), outcome: .unknown), row(list(x, 1), turn: 1), row(list(x), turn: 2)),
    ]

    /// Strange, and allowed.
    static let harmless: [PlantedAnomaly] = [
        .init("touching a key never seen", .realTime, guilty: [], row(list(x), get(p, nil))),
        .init(
            "an unknown one that nobody saw", .realTime, guilty: [], row(add(x, 1), outcome: .unknown),
            row(list(x), turn: 1)),
        .init(
            "an unknown one that was seen late", .realTime, guilty: [], row(set(p, 1), add(x, 1), outcome: .unknown),
            row(get(p, nil), turn: 1), row(get(p, 1), list(x, 1), turn: 2)),
        .init(
            "reads of one that aborted", .realTime, guilty: [], row(list(x, 7), get(p, 3), outcome: .aborted)),
        .init(
            "own writes", .realTime, guilty: [],
            row(list(x), add(x, 1), list(x, 1), add(x, 2), list(x, 1, 2), set(p, 1), get(p, 1), set(p, 2), get(p, 2))),
        .init(
            "appends that nobody reads", .realTime, guilty: [], row(add(x, 1)), row(list(x), add(x, 2)),
            row(add(x, 3))),
        .init(
            "writes at once, seen in one order", .realTime, guilty: [], row(set(p, 1)), row(set(p, 2)),
            row(get(p, 2), turn: 1), row(get(p, 2), turn: 2)),
    ]
}
