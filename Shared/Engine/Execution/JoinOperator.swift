import Base
import DataModel

/// Joins of every kind: the right side is gathered into a hash table by the keys of the condition's equations, the left
/// one streams past it. Without an equation every row of the right side is a candidate: the nested loop.
final class JoinOperator: Operator {
    private let kind: JoinKind
    private let left: Operator
    private let right: Operator
    private let leftKeys: [Evaluator]
    private let rightKeys: [Evaluator]
    /// Over the columns of both sides.
    private let residual: Evaluator?
    private let pairTypes: [DataType]

    private var gathering: Gathering
    private var build: ColumnBatch?
    private var keys = KeyTable()
    /// By key: the first row with it; by row: the next one with the same key.
    private var heads: [Int32] = []
    private var following: [Int32] = []
    private var isMatched: [Bool] = []

    // The batch of the left side that is being joined, and how far.
    private var probe: ColumnBatch?
    private var probeHeads: [Int32] = []
    private var probeMatched: [Bool] = []
    private var probeRow = 0
    private var candidate: Int32 = -2
    private var isLeftDone = false
    private var unmatchedRow = 0

    init(
        _ kind: JoinKind, _ left: Operator, _ right: Operator, condition: BoundExpression?
    ) throws(StatementError) {
        (self.kind, self.left, self.right) = (kind, left, right)
        let pairs = Layout(left.layout.attributes + right.layout.attributes)
        let parts = JoinCondition(
            condition, left: Set(left.layout.attributes), right: Set(right.layout.attributes))
        var leftKeys: [Evaluator] = [], rightKeys: [Evaluator] = []
        for (mine, theirs) in parts.equations {
            leftKeys.append(try Evaluator(mine, layout: left.layout))
            rightKeys.append(try Evaluator(theirs, layout: right.layout))
        }
        (self.leftKeys, self.rightKeys) = (leftKeys, rightKeys)
        residual = if let rest = BoundExpression.all(parts.rest) { try Evaluator(rest, layout: pairs) } else { nil }
        pairTypes = left.types + right.types
        gathering = Gathering(right.types)
        let isOneSided = kind == .semi || kind == .anti
        super.init(
            layout: isOneSided ? left.layout : pairs, types: isOneSided ? left.types : pairTypes, context: left.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if build == nil {
            guard let rows = try gathering.run(right, context) else { return .waiting }
            try index(rows)
        }
        guard let build else { return .end }
        while true {
            if let probe {
                if let batch = try advance(probe, build) { return .batch(batch) }
                if context.isPaused { return .waiting }
                self.probe = nil
                if let batch = try leftOver(probe, build) { return .batch(batch) }
                if try context.isSliceOver() { return .waiting }
                continue
            }
            if isLeftDone { return unmatchedBuild(build) }
            switch try left.next() {
            case .batch(let batch): try begin(batch)
            case .waiting: return .waiting
            case .end: isLeftDone = true
            }
        }
    }

    private func index(_ rows: ColumnBatch) throws(StatementError) {
        build = rows
        following = Array(repeating: -1, count: rows.count)
        isMatched = kind == .right || kind == .full ? Array(repeating: false, count: rows.count) : []
        guard !rightKeys.isEmpty else {
            for row in 0..<max(rows.count - 1, 0) { following[row] = Int32(row + 1) }
            heads = [rows.count > 0 ? 0 : -1]
            return
        }
        var columns: [Column] = []
        if rows.count > 0 { for key in rightKeys { columns.append(try key.evaluate(rows, context)) } }
        var writer = RowKeyWriter()
        // From the last row, so that rows with one key come in their own order.
        rows: for row in stride(from: rows.count - 1, through: 0, by: -1) {
            writer.buffer.removeAll()
            for column in columns {
                if column.isNull(at: row) { continue rows }
                writer.append(column, row: row)
            }
            let (key, isNew) = keys.insert(writer.buffer.readable)
            if isNew {
                heads.append(Int32(row))
            } else {
                following[row] = heads[key]
                heads[key] = Int32(row)
            }
        }
        try context.charge(keys.footprint)
    }

    private func begin(_ batch: ColumnBatch) throws(StatementError) {
        probe = batch
        probeRow = 0
        candidate = -2
        probeMatched = Array(repeating: false, count: batch.count)
        if leftKeys.isEmpty {
            probeHeads = Array(repeating: heads.first ?? -1, count: batch.count)
            return
        }
        var columns: [Column] = []
        for key in leftKeys { columns.append(try key.evaluate(batch, context)) }
        probeHeads = Array(repeating: -1, count: batch.count)
        var writer = RowKeyWriter()
        rows: for row in 0..<batch.count {
            writer.buffer.removeAll()
            for column in columns {
                if column.isNull(at: row) { continue rows }
                writer.append(column, row: row)
            }
            if let key = keys.find(writer.buffer.readable) { probeHeads[row] = heads[key] }
        }
    }

    /// The next joined rows of the batch; nil when it is through, or the slice is over.
    private func advance(_ probe: ColumnBatch, _ build: ColumnBatch) throws(StatementError) -> ColumnBatch? {
        let isOneSided = kind == .semi || kind == .anti
        while probeRow < probe.count {
            var mine: [Int32] = [], theirs: [Int32] = []
            while probeRow < probe.count, mine.count < ColumnBatch.rows {
                if candidate == -2 { candidate = probeHeads[probeRow] }
                // One partner is enough where only its being there counts.
                if isOneSided, probeMatched[probeRow] || (residual == nil && candidate >= 0) {
                    probeMatched[probeRow] = true
                    candidate = -1
                }
                guard candidate >= 0 else {
                    probeRow += 1
                    candidate = -2
                    continue
                }
                mine.append(Int32(probeRow))
                theirs.append(candidate)
                candidate = following[Int(candidate)]
            }
            guard !mine.isEmpty else { break }
            let columns =
                probe.columns.map { $0.gathered(mine) } + build.columns.map { $0.gathered(theirs) }
            var pairs = ColumnBatch(columns, count: mine.count)
            if let residual {
                let rows = try residual.select(pairs, context)
                for place in rows { mark(mine[Int(place)], theirs[Int(place)]) }
                if isOneSided || rows.isEmpty {
                    // Nobody above sees that there was work.
                    if try context.isSliceOver() { return nil }
                    continue
                }
                if rows.count < pairs.count { pairs = pairs.gathered(rows) }
            } else {
                for place in mine.indices { mark(mine[place], theirs[place]) }
            }
            return pairs
        }
        return nil
    }

    private func mark(_ mine: Int32, _ theirs: Int32) {
        probeMatched[Int(mine)] = true
        if !isMatched.isEmpty { isMatched[Int(theirs)] = true }
    }

    /// What the rows without a partner, or those with one, come to.
    private func leftOver(_ probe: ColumnBatch, _ build: ColumnBatch) throws(StatementError) -> ColumnBatch? {
        let wanted: Bool
        switch kind {
        case .inner, .right: return nil
        case .left, .full, .anti: wanted = false
        case .semi: wanted = true
        }
        let rows = (0..<Int32(probe.count)).filter { probeMatched[Int($0)] == wanted }
        guard !rows.isEmpty else { return nil }
        let mine = probe.gathered(rows)
        if kind == .semi || kind == .anti { return mine }
        return ColumnBatch(mine.columns + right.types.map { .nulls($0, count: rows.count) }, count: rows.count)
    }

    private func unmatchedBuild(_ build: ColumnBatch) -> OperatorStep {
        guard !isMatched.isEmpty else { return .end }
        var rows: [Int32] = []
        while unmatchedRow < build.count, rows.count < ColumnBatch.rows {
            if !isMatched[unmatchedRow] { rows.append(Int32(unmatchedRow)) }
            unmatchedRow += 1
        }
        guard !rows.isEmpty else { return .end }
        let theirs = build.gathered(rows)
        return .batch(
            ColumnBatch(left.types.map { .nulls($0, count: rows.count) } + theirs.columns, count: rows.count))
    }

    override func restart() throws(StatementError) {
        try context.charge(-gathering.charged - (rightKeys.isEmpty || build == nil ? 0 : keys.footprint))
        gathering = Gathering(right.types)
        build = nil
        keys = KeyTable()
        heads = []
        probe = nil
        isLeftDone = false
        unmatchedRow = 0
        try left.restart()
        try right.restart()
    }
}
