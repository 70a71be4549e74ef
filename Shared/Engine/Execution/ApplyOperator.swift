import Base
import DataModel

/// Runs its right side for every row of the left one: LATERAL, and subqueries in expressions.
///
/// A right side that reads nothing of the left row is run once. One that does is run once for each different row of
/// what it reads, as far as the results are kept (`cacheLimit`).
final class ApplyOperator: Operator {
    private static let cacheLimit = 4096

    private let left: Operator
    private let right: Operator
    private let kind: ApplyKind
    /// What the right side reads of a row: attribute and place in the left batch.
    private let bindings: [(attribute: Attribute, place: Int)]
    private let condition: Evaluator?
    private let comparands: [Evaluator]
    private let compared: [Evaluator]
    private let outputPlaces: [Int]

    private var batch: ColumnBatch?
    private var operands: [Column] = []
    private var row = 0
    private var gathering: Gathering
    private var isRunning = false
    /// Results of the right side by what it read.
    private var keys = KeyTable()
    private var results: [Outcome] = []
    private var charged = 0
    private var values: [Value] = []
    /// Of a join: pairs that were not given yet, the rows of the right side for this left row, and how far they are.
    private var joined: [ColumnBatch] = []
    private var joinedRows = 0
    private var partners: ColumnBatch?
    private var partner = 0
    private var hasPartner = false

    private struct Outcome {
        let rows: ColumnBatch
        /// Of `= ANY` over one column: the values, for a look-up rather than a search. And whether NULL is among them.
        let members: Members?
    }

    private final class Members {
        var keys = KeyTable()
        var hasNull = false
    }

    init(
        _ left: Operator, _ right: Operator, _ kind: ApplyKind, free: Set<Attribute>
    ) throws(StatementError) {
        (self.left, self.right, self.kind) = (left, right, kind)
        bindings = left.layout.attributes.enumerated().filter { free.contains($1) }.map { ($1, $0) }
        gathering = Gathering(right.types)
        var layout = left.layout.attributes, types = left.types
        switch kind {
        case .join(_, let condition):
            layout += right.layout.attributes
            types += right.types
            let pairs = Layout(layout)
            self.condition = if let condition { try Evaluator(condition, layout: pairs) } else { nil }
            (comparands, compared, outputPlaces) = ([], [], [])
        case .value(let subquery, let attribute):
            condition = nil
            var comparands: [Evaluator] = [], compared: [Evaluator] = []
            for expression in subquery.comparands {
                comparands.append(try Evaluator(expression, layout: left.layout))
            }
            for expression in subquery.compared { compared.append(try Evaluator(expression, layout: right.layout)) }
            (self.comparands, self.compared) = (comparands, compared)
            outputPlaces = try right.layout.places(of: subquery.outputs.map(\.attribute))
            layout.append(attribute)
            types.append(Self.type(of: subquery))
        }
        super.init(layout: Layout(layout), types: types, context: left.context)
    }

    /// The type of what a subquery comes to.
    static func type(of subquery: BoundSubquery) -> DataType {
        switch subquery.role {
        case .exists, .quantified: .bool
        case .scalar: subquery.outputs.first?.type ?? .unknown
        case .array: subquery.outputs.first?.type.array ?? .unknown
        }
    }

    override func next() throws(StatementError) -> OperatorStep {
        while true {
            guard let batch else {
                let step = try left.next()
                guard case .batch(let fresh) = step else { return step }
                self.batch = fresh
                row = 0
                values = []
                operands = []
                for evaluator in comparands { operands.append(try evaluator.evaluate(fresh, context)) }
                continue
            }
            while row < batch.count {
                switch kind {
                case .value(let subquery, _):
                    guard let outcome = try outcome(for: row, of: batch) else { return .waiting }
                    values.append(try value(of: subquery, outcome))
                    row += 1
                case .join(let isLeft, _):
                    if partners == nil {
                        guard let outcome = try outcome(for: row, of: batch) else { return .waiting }
                        (partners, partner, hasPartner) = (outcome.rows, 0, false)
                    }
                    if try join(batch, isLeft: isLeft) { row += 1 }
                    if joinedRows >= ColumnBatch.rows, let result = result(batch) { return .batch(result) }
                }
                if try context.isSliceOver() { return .waiting }
            }
            self.batch = nil
            if let result = result(batch) { return .batch(result) }
        }
    }

    /// What the right side gives for a row; nil while it waits.
    private func outcome(for row: Int, of batch: ColumnBatch) throws(StatementError) -> Outcome? {
        var writer = RowKeyWriter()
        for (_, place) in bindings { writer.append(batch.columns[place], row: row) }
        if !isRunning {
            if let known = keys.find(writer.buffer.readable) { return results[known] }
            for (attribute, place) in bindings {
                let column = batch.columns[place]
                context.setOuter(attribute, .constant(column.value(at: row), column.type, count: 1))
            }
            try right.restart()
            gathering = Gathering(right.types)
            isRunning = true
        }
        guard let rows = try rows() else { return nil }
        isRunning = false
        let outcome = Outcome(rows: rows, members: try members(of: rows))
        if results.count < Self.cacheLimit {
            _ = keys.insert(writer.buffer.readable)
            results.append(outcome)
            charged += gathering.charged
        } else {
            try context.charge(-gathering.charged)
        }
        return outcome
    }

    /// All rows of the right side, or one where only its being there counts; nil while it waits.
    private func rows() throws(StatementError) -> ColumnBatch? {
        guard case .value(let subquery, _) = kind, case .exists = subquery.role else {
            return try gathering.run(right, context)
        }
        switch try right.next() {
        case .batch(let batch): return batch.slice(0..<1)
        case .waiting: return nil
        case .end: return right.empty
        }
    }

    private func members(of rows: ColumnBatch) throws(StatementError) -> Members? {
        guard case .value(let subquery, _) = kind, case .quantified(let functions, let isAll) = subquery.role, !isAll,
            functions.count == 1, functions[0].name == "=", rows.count > 4,
            comparands[0].type.form == compared[0].type.form
        else { return nil }
        let column = try compared[0].evaluate(rows, context)
        let members = Members()
        var writer = RowKeyWriter()
        for row in 0..<rows.count {
            if column.isNull(at: row) {
                members.hasNull = true
                continue
            }
            writer.buffer.removeAll()
            writer.append(column, row: row)
            _ = members.keys.insert(writer.buffer.readable)
        }
        return members
    }

    /// Pairs the row with its next partners, a batch of them at most; true when it has had them all.
    private func join(_ batch: ColumnBatch, isLeft: Bool) throws(StatementError) -> Bool {
        guard let partners else { return true }
        if partner < partners.count {
            let end = min(partner + ColumnBatch.rows, partners.count)
            let theirs = partners.slice(partner..<end)
            partner = end
            let mine = [Int32](repeating: Int32(row), count: theirs.count)
            var pairs = ColumnBatch(batch.columns.map { $0.gathered(mine) } + theirs.columns, count: theirs.count)
            if let condition {
                let chosen = try condition.select(pairs, context)
                if chosen.count < pairs.count { pairs = pairs.gathered(chosen) }
            }
            if pairs.count > 0 {
                hasPartner = true
                joined.append(pairs)
                joinedRows += pairs.count
            }
        }
        guard partner >= partners.count else { return false }
        if isLeft, !hasPartner {
            let mine = batch.gathered([Int32(row)])
            joined.append(ColumnBatch(mine.columns + right.types.map { .nulls($0, count: 1) }, count: 1))
            joinedRows += 1
        }
        self.partners = nil
        return true
    }

    private func value(of subquery: BoundSubquery, _ outcome: Outcome) throws(StatementError) -> Value {
        let rows = outcome.rows
        switch subquery.role {
        case .exists: return .bool(rows.count > 0)
        case .scalar:
            guard rows.count <= 1 else {
                throw StatementError(
                    .cardinalityViolation, "more than one row returned by a subquery used as an expression")
            }
            return rows.count == 0 ? .null : rows.columns[outputPlaces[0]].value(at: 0)
        case .array:
            let column = rows.columns.isEmpty ? nil : rows.columns[outputPlaces[0]]
            return try ArrayForms.build(
                (0..<rows.count).map { column?.value(at: $0) ?? .null }, Self.type(of: subquery))
        case .quantified(let functions, let isAll):
            if let members = outcome.members {
                if operands[0].isNull(at: row) { return .null }
                var writer = RowKeyWriter()
                writer.append(operands[0], row: row)
                if members.keys.find(writer.buffer.readable) != nil { return .bool(true) }
                return members.hasNull ? .null : .bool(false)
            }
            return try quantified(functions, isAll: isAll, rows)
        }
    }

    /// `x op ANY (…)` and `x op ALL (…)` of three values; rows compare column by column, and all must.
    private func quantified(_ functions: [ScalarFunction], isAll: Bool, _ rows: ColumnBatch) throws(StatementError)
        -> Value
    {
        var columns: [Column] = []
        if rows.count > 0 { for evaluator in compared { columns.append(try evaluator.evaluate(rows, context)) } }
        var hasNull = false
        for candidate in 0..<rows.count {
            var isTrue = true, isNull = false
            for (index, function) in functions.enumerated() {
                let mine = operands[index].value(at: row), theirs = columns[index].value(at: candidate)
                if function.isStrict, mine.isNull || theirs.isNull {
                    isNull = true
                } else if case .bool(let flag) = try function.body([mine, theirs], context) {
                    if !flag { isTrue = false }
                } else {
                    isNull = true
                }
            }
            if isTrue, isNull {
                hasNull = true
            } else if isTrue != isAll {
                return .bool(!isAll)
            }
        }
        return hasNull ? .null : .bool(isAll)
    }

    /// What there is so far of a join; of all rows, where each has its value.
    private func result(_ batch: ColumnBatch) -> ColumnBatch? {
        switch kind {
        case .join:
            guard !joined.isEmpty else { return nil }
            defer { (joined, joinedRows) = ([], 0) }
            return Gathering.join(joined, types)
        case .value:
            var builder = ColumnBuilder(types[types.count - 1])
            for value in values { builder.append(value) }
            return ColumnBatch(batch.columns + [builder.finish()], count: batch.count)
        }
    }

    override func restart() throws(StatementError) {
        try context.charge(-charged)
        charged = 0
        (batch, partners) = (nil, nil)
        (joined, joinedRows) = ([], 0)
        isRunning = false
        keys = KeyTable()
        results = []
        try left.restart()
    }
}
