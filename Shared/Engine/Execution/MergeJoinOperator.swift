import Base
import DataModel

/// A join of any kind whose sides come in the order of what is compared: both are read once, side by side, and nothing
/// is kept but a batch of each, and those rows of the right side that have one key.
///
/// Rows come out in the order of the left side; of a right or full join those of the right side without a partner in
/// between, where their keys belong. Rows with NULL in a key have no partner, wherever they lie.
final class MergeJoinOperator: Operator {
    private let kind: JoinKind
    private let left: MergeSide
    private let right: MergeSide
    /// Over the columns of both sides.
    private let residual: Evaluator?
    /// Rows of the right side that no row of the left meets come out.
    private let keepsRight: Bool
    /// One has to know whether a row of the left side has met another.
    private let marksLeft: Bool
    private let isOneSided: Bool

    // What comes next: pairs of rows of the two batches. A row of the left side with -1 stands behind its last pair,
    // and says that it is through; -1 with a row of the right side, that one.
    private var mine: [Int32] = []
    private var theirs: [Int32] = []
    /// The row of the left side that is being joined has a partner.
    private var isRowMatched = false
    /// By row of the right batch.
    private var isMatched: [Bool] = []

    /// The rows of the right batch with the key that is being joined, and which of them is next.
    private var group: Range<Int>?
    private var candidate = 0
    /// The batches that a group goes over which has not ended yet.
    private var pieces: [ColumnBatch] = []
    private var isGathering = false
    private var charged = 0

    init(_ plan: MergePlan, _ left: Operator, _ right: Operator) throws(StatementError) {
        let kind = plan.kind
        self.kind = kind
        let parts = plan.keys.map { RowKeyWriter.Part(isDescending: $0.isDescending) }
        self.left = try MergeSide(left, plan.keys.map(\.left), parts)
        self.right = try MergeSide(right, plan.keys.map(\.right), parts)
        let pairs = Layout(left.layout.attributes + right.layout.attributes)
        residual = if let rest = plan.rest { try Evaluator(rest, layout: pairs) } else { nil }
        keepsRight = kind == .right || kind == .full
        marksLeft = kind != .inner && kind != .right
        isOneSided = kind == .semi || kind == .anti
        super.init(
            layout: isOneSided ? left.layout : pairs, types: isOneSided ? left.types : left.types + right.types,
            context: left.context)
    }

    private enum Stop { case full, left, right, end }

    override func next() throws(StatementError) -> OperatorStep {
        while true {
            let stop = advance()
            if !mine.isEmpty {
                // Before one of the batches goes.
                if let batch = try joined() { return .batch(batch) }
                if try context.isSliceOver() { return .waiting }
                continue
            }
            switch stop {
            case .full: continue
            case .end: return .end
            case .left: if try !left.read() { return .waiting }
            case .right: if try !readRight() { return .waiting }
            }
            if try context.isSliceOver() { return .waiting }
        }
    }

    // MARK: Pairs

    /// Goes on through both batches, until there are enough pairs or one of the batches is through.
    private func advance() -> Stop {
        while mine.count < ColumnBatch.rows {
            if let group {
                if left.isThrough, !left.isDone { return .left }
                pair(group)
                continue
            }
            if left.isThrough {
                guard left.isDone else { return .left }
                guard keepsRight else { return .end }
                if right.isThrough { return right.isDone ? .end : .right }
                passRight()
                continue
            }
            if left.keys.isNull(left.row) {
                passLeft()
                continue
            }
            if right.isThrough {
                guard right.isDone else { return .right }
                guard marksLeft, kind != .semi else { return .end }
                passLeft()
                continue
            }
            if right.keys.isNull(right.row) {
                passRight()
                continue
            }
            let order = left.keys.compare(left.row, right.keys, right.row)
            if order < 0 {
                passLeft()
            } else if order > 0 {
                passRight()
            } else if !beginGroup() {
                return .right
            }
        }
        return .full
    }

    private func passLeft() {
        if marksLeft {
            mine.append(Int32(truncatingIfNeeded: left.row))
            theirs.append(-1)
        }
        left.row += 1
    }

    private func passRight() {
        if keepsRight {
            mine.append(-1)
            theirs.append(Int32(truncatingIfNeeded: right.row))
        }
        right.row += 1
    }

    /// Finds the rows of the right side with the key of its row; false while there may be more in the next batch.
    private func beginGroup() -> Bool {
        let start = right.row
        var end = start + 1
        // One partner is enough where only its being there counts.
        if !(isOneSided && residual == nil) {
            while end < right.keys.count, !right.keys.isNull(end), right.keys.compare(start, right.keys, end) == 0 {
                end += 1
            }
            isGathering = end == right.keys.count && !right.isDone
            if isGathering { return false }
        }
        group = start..<end
        candidate = start
        return true
    }

    /// The pairs of the row of the left side with a group, or the group's end.
    private func pair(_ group: Range<Int>) {
        let isEnd: Bool
        if left.isThrough {
            isEnd = true
        } else if left.keys.isNull(left.row) {
            return passLeft()
        } else {
            isEnd = left.keys.compare(left.row, right.keys, group.lowerBound) != 0
        }
        if isEnd {
            while keepsRight, candidate < group.upperBound, mine.count < ColumnBatch.rows {
                mine.append(-1)
                theirs.append(Int32(truncatingIfNeeded: candidate))
                candidate += 1
            }
            guard !keepsRight || candidate == group.upperBound else { return }
            right.row = group.upperBound
            self.group = nil
            return
        }
        while candidate < group.upperBound, mine.count < ColumnBatch.rows {
            mine.append(Int32(truncatingIfNeeded: left.row))
            theirs.append(Int32(truncatingIfNeeded: candidate))
            candidate += 1
        }
        if candidate == group.upperBound {
            candidate = group.lowerBound
            passLeft()
        }
    }

    // MARK: Batches

    /// What the pairs come to; nil: nothing.
    private func joined() throws(StatementError) -> ColumnBatch? {
        defer {
            mine.removeAll(keepingCapacity: true)
            theirs.removeAll(keepingCapacity: true)
        }
        if kind == .inner, residual == nil { return batch(mine, theirs) }
        let meets = try residual.map { residual throws(StatementError) in try meeting(residual) }
        var outMine: [Int32] = [], outTheirs: [Int32] = []
        for (place, row) in mine.enumerated() {
            let other = theirs[place]
            if row >= 0, other >= 0 {
                guard meets?[place] ?? true else { continue }
                isRowMatched = true
                if keepsRight { isMatched[Int(other)] = true }
                if isOneSided { continue }
            } else if row >= 0 {
                let isWanted = isRowMatched == (kind == .semi)
                isRowMatched = false
                guard isWanted else { continue }
            } else if isMatched[Int(other)] {
                continue
            }
            outMine.append(row)
            outTheirs.append(other)
        }
        return outMine.isEmpty ? nil : batch(outMine, outTheirs)
    }

    /// Of which pairs the rest of the condition is true.
    private func meeting(_ residual: Evaluator) throws(StatementError) -> [Bool] {
        let places = mine.indices.filter { mine[$0] >= 0 && theirs[$0] >= 0 }
        var meets = [Bool](repeating: false, count: mine.count)
        guard !places.isEmpty else { return meets }
        let columns =
            left.columns(places.map { mine[$0] }) + right.columns(places.map { theirs[$0] })
        for row in try residual.select(ColumnBatch(columns, count: places.count), context) {
            meets[places[Int(row)]] = true
        }
        return meets
    }

    private func batch(_ mine: [Int32], _ theirs: [Int32]) -> ColumnBatch {
        ColumnBatch(left.columns(mine) + (isOneSided ? [] : right.columns(theirs)), count: mine.count)
    }

    // MARK: The right side

    /// The next batch, behind the rows of a group that may go on in it; false while it is waited for.
    private func readRight() throws(StatementError) -> Bool {
        guard isGathering else {
            guard try right.read() else { return false }
            try settle()
            return true
        }
        if pieces.isEmpty, let batch = right.batch { pieces = [batch.slice(right.row..<batch.count)] }
        guard let fresh = try right.next() else { return false }
        if let fresh {
            try charge(charged + fresh.footprint)
            pieces.append(fresh)
            if try right.goesOn(in: fresh) { return true }
        } else {
            right.isDone = true
        }
        try right.take(Gathering.join(pieces, right.source.types))
        (pieces, isGathering) = ([], false)
        try settle()
        return true
    }

    /// Begins with another batch.
    private func settle() throws(StatementError) {
        try charge(right.batch?.footprint ?? 0)
        if keepsRight { isMatched = Array(repeating: false, count: right.keys.count) }
    }

    private func charge(_ bytes: Int) throws(StatementError) {
        let more = bytes - charged
        charged = bytes
        try context.charge(more)
    }

    override func restart() throws(StatementError) {
        try charge(0)
        mine = []
        theirs = []
        (group, pieces, isGathering, isRowMatched) = (nil, [], false, false)
        try left.restart()
        try right.restart()
    }
}

/// One side of a join along an order: the batch that is at hand, and how far it was read.
final class MergeSide {
    let source: Operator
    private let evaluators: [Evaluator]
    private let parts: [RowKeyWriter.Part]
    private(set) var batch: ColumnBatch?
    private(set) var keys = MergeKeys()
    var row = 0
    /// No batch comes any more.
    var isDone = false

    /// All rows of the batch were read.
    var isThrough: Bool { row >= keys.count }

    init(_ source: Operator, _ keys: [BoundExpression], _ parts: [RowKeyWriter.Part]) throws(StatementError) {
        (self.source, self.parts) = (source, parts)
        var evaluators: [Evaluator] = []
        for key in keys { evaluators.append(try Evaluator(key, layout: source.layout)) }
        self.evaluators = evaluators
    }

    /// What the source gives: a batch, or `.some(nil)` at the end; nil while it waits.
    func next() throws(StatementError) -> ColumnBatch?? {
        switch try source.next() {
        case .batch(let batch): return .some(batch)
        case .waiting: return nil
        case .end: return .some(nil)
        }
    }

    /// Goes on to the next batch; false while it is waited for.
    func read() throws(StatementError) -> Bool {
        guard let next = try next() else { return false }
        guard let next else {
            isDone = true
            return true
        }
        try take(next)
        return true
    }

    private func keys(of batch: ColumnBatch) throws(StatementError) -> MergeKeys {
        var columns: [Column] = []
        for evaluator in evaluators { columns.append(try evaluator.evaluate(batch, source.context)) }
        return MergeKeys(columns, parts, count: batch.count)
    }

    /// Begins with a batch: with another one, or with what was left of the last one and more.
    func take(_ fresh: ColumnBatch) throws(StatementError) {
        let next = try keys(of: fresh)
        // What was left is among the rows that come: they are no less than the first of it.
        let isOrdered = isThrough ? next.areOrdered(behind: keys) : next.areOrdered(behind: MergeKeys())
        guard isOrdered else {
            throw StatementError(.internalError, "rows do not come in the order in which they are joined")
        }
        (batch, keys, row) = (fresh, next, 0)
    }

    /// Whether the rows of the next batch, to its last one, have the key of the row at hand.
    func goesOn(in fresh: ColumnBatch) throws(StatementError) -> Bool {
        let next = try keys(of: fresh)
        guard next.count > 0, !next.isNull(next.count - 1) else { return false }
        return keys.compare(row, next, next.count - 1) == 0
    }

    /// Columns of rows of the batch; of a negative one, NULLs.
    func columns(_ rows: [Int32]) -> [Column] {
        guard let batch else { return source.types.map { .nulls($0, count: rows.count) } }
        return batch.columns.map { $0.gathered(rows) }
    }

    func restart() throws(StatementError) {
        (batch, keys, row, isDone) = (nil, MergeKeys(), 0, false)
        try source.restart()
    }
}
