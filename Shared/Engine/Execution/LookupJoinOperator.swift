import Base
import DataModel

/// A join that reads the rows of its left side first: if they are few, only the rows of the right side that they can
/// meet are read, by their keys or by an index; otherwise all, as by any other join.
final class LookupJoinOperator: Operator {
    /// Rows of the left side that are few.
    static let fewRows = 512

    private let kind: JoinKind
    private let left: Operator
    private let right: (KeyRanges?) throws(StatementError) -> Operator
    private let scan: ScanPlan
    private let lookup: ScanLookup
    private let condition: BoundExpression
    private let values: [Evaluator]
    private let keyTypes: [DataType]
    private var pieces: [ColumnBatch] = []
    private var rows = 0
    private var join: JoinOperator?

    /// `right` makes what reads the right side: at some places, or everywhere.
    init(
        _ kind: JoinKind, _ left: Operator, _ scan: ScanPlan, _ lookup: ScanLookup, condition: BoundExpression,
        right: @escaping (KeyRanges?) throws(StatementError) -> Operator
    ) throws(StatementError) {
        (self.kind, self.left, self.right, self.scan, self.lookup) = (kind, left, right, scan, lookup)
        self.condition = condition
        var values: [Evaluator] = []
        for expression in lookup.values { values.append(try Evaluator(expression, layout: left.layout)) }
        self.values = values
        let columns = lookup.index?.columns ?? scan.collection.primaryKey
        keyTypes = columns.prefix(values.count).map { scan.collection.column($0)?.type ?? .unknown }
        let theirs = try ScanOperator(scan, context: left.context)
        let isOneSided = kind == .semi || kind == .anti
        super.init(
            layout: isOneSided ? left.layout : Layout(left.layout.attributes + theirs.layout.attributes),
            types: isOneSided ? left.types : left.types + theirs.types, context: left.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        while true {
            try context.checkCancelled()
            if let join { return try join.next() }
            guard rows <= Self.fewRows else {
                join = try made(over: left, places: nil)
                continue
            }
            switch try left.next() {
            case .batch(let batch):
                pieces.append(batch)
                rows += batch.count
            case .waiting: return .waiting
            case .end: join = try made(over: nil, places: try places())
            }
        }
    }

    private func made(over rest: Operator?, places: KeyRanges?) throws(StatementError) -> JoinOperator {
        let outer = ReplayOperator(pieces, rest, like: left)
        pieces = []
        return try JoinOperator(kind, outer, try right(places), condition: condition)
    }

    /// Where the rows are that the left side can meet.
    private func places() throws(StatementError) -> KeyRanges {
        var keys: Set<Bytes> = []
        for piece in pieces {
            var columns: [Column] = []
            for value in values { columns.append(try value.evaluate(piece, context)) }
            for row in 0..<piece.count where !columns.contains(where: { $0.isNull(at: row) }) {
                keys.insert(KeyForms.encode(columns.map { $0.value(at: row) }, keyTypes))
            }
        }
        let isWhole = values.count == (lookup.index?.columns ?? scan.collection.primaryKey).count
        return KeyRanges(keys, isWhole: isWhole, isExact: isWhole && lookup.index?.isUnique ?? true)
    }

    override func restart() throws(StatementError) {
        try join?.restart()
        (join, pieces, rows) = (nil, [], 0)
        try left.restart()
    }
}

/// Rows that were read already, then those that are left.
final class ReplayOperator: Operator {
    private let pieces: [ColumnBatch]
    private var position = 0
    private let rest: Operator?

    init(_ pieces: [ColumnBatch], _ rest: Operator?, like source: Operator) {
        (self.pieces, self.rest) = (pieces, rest)
        super.init(layout: source.layout, types: source.types, context: source.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        guard position < pieces.count else { return try rest?.next() ?? .end }
        position += 1
        return .batch(pieces[position - 1])
    }
}
