import Base
import DataModel

/// An expression ready to be computed over batches whose columns lie in a known order.
final class Evaluator {
    private indirect enum Step {
        case column(Int)
        /// A column whose trailing blanks do not count here, whatever it is where it comes from.
        case padded(Int)
        case outer(Attribute)
        case constant(Column)
        case parameter(Int)
        case call(ScalarFunction, [Evaluator])
        case and([Evaluator])
        case or([Evaluator])
        case not(Evaluator)
        case isNull(Evaluator, isNegated: Bool)
        case choice([(condition: Evaluator, result: Evaluator)], otherwise: Evaluator?)
        case coalesce([Evaluator])
        case array([Evaluator])
        case row([Evaluator])
    }

    let type: DataType
    private let step: Step
    /// It cannot fail, so computing it for rows that do not need it does no harm.
    private let isSafe: Bool

    /// `layout` says at which place of a batch an attribute is; others belong to outer queries.
    init(_ expression: BoundExpression, layout: Layout) throws(StatementError) {
        type = expression.type
        var parts: [Evaluator] = []
        for operand in expression.operands { parts.append(try Evaluator(operand, layout: layout)) }
        let areSafe = parts.allSatisfy(\.isSafe)
        switch expression.form {
        case .attribute(let attribute):
            step = Self.step(attribute, layout.place(of: attribute), expression.type)
            isSafe = true
        case .constant(let value):
            step = .constant(.constant(value, expression.type, count: 1))
            isSafe = true
        case .parameter(let index): (step, isSafe) = (.parameter(index), true)
        case .call(let function, _): (step, isSafe) = (.call(function, parts), areSafe && function.isSafe)
        case .and: (step, isSafe) = (.and(parts), areSafe)
        case .or: (step, isSafe) = (.or(parts), areSafe)
        case .not: (step, isSafe) = (.not(parts[0]), areSafe)
        case .isNull(_, let isNegated): (step, isSafe) = (.isNull(parts[0], isNegated: isNegated), areSafe)
        case .choice(let branches, let otherwise):
            let pairs = branches.indices.map { (condition: parts[$0 * 2], result: parts[$0 * 2 + 1]) }
            (step, isSafe) = (.choice(pairs, otherwise: otherwise == nil ? nil : parts[parts.count - 1]), areSafe)
        case .coalesce: (step, isSafe) = (.coalesce(parts), areSafe)
        case .array: (step, isSafe) = (.array(parts), areSafe)
        case .row: (step, isSafe) = (.row(parts), areSafe)
        case .subquery, .aggregate, .window, .rows:
            throw StatementError(
                .internalError, "an expression was not taken apart before its execution",
                position: expression.position)
        }
    }

    private static func step(_ attribute: Attribute, _ place: Int?, _ type: DataType) -> Step {
        guard let place else { return .outer(attribute) }
        return type.kind == .char && !type.isArray ? .padded(place) : .column(place)
    }

    /// The value for every row, flat.
    func evaluate(_ batch: ColumnBatch, _ context: ExecutionContext) throws(StatementError) -> Column {
        let column = try compute(batch, context)
        guard column.isConstant, case .bytes(let texts) = column.storage else { return column.flattened() }
        guard texts.data.count < Self.largestColumn / max(batch.count, 1) else { throw Self.tooLarge }
        return column.flattened()
    }

    /// What the texts of one column in a batch may take: offsets have 32 bits.
    private static let largestColumn = 1 << 30
    private static var tooLarge: StatementError {
        StatementError(.outOfMemory, "out of memory", detail: "The texts of a batch of rows are too large.")
    }

    /// The one value of an expression without columns.
    func value(_ context: ExecutionContext) throws(StatementError) -> Value {
        try compute(ColumnBatch([], count: 1), context).value(at: 0)
    }

    /// The rows for which it is true.
    func select(_ batch: ColumnBatch, _ context: ExecutionContext) throws(StatementError) -> [Int32] {
        let column = try compute(batch, context)
        guard case .booleans(let flags) = column.storage else { return [] }
        var rows: [Int32] = []
        if column.isConstant {
            return flags[0] && !column.isNull(at: 0) ? Array(0..<Int32(batch.count)) : []
        }
        rows.reserveCapacity(batch.count)
        if let validity = column.validity {
            for row in 0..<batch.count where flags[row] && validity[row] { rows.append(Int32(row)) }
        } else {
            for row in 0..<batch.count where flags[row] { rows.append(Int32(row)) }
        }
        return rows
    }

    /// May give a constant column. At least one row, please: of none, the columns are empty.
    func compute(_ batch: ColumnBatch, _ context: ExecutionContext) throws(StatementError) -> Column {
        let count = batch.count
        switch step {
        case .column(let place): return batch.columns[place]
        case .padded(let place):
            return batch.columns[place].labelled(type)
        case .outer(let attribute): return context.outerColumn(attribute, type, count: count).labelled(type)
        case .constant(let column): return column.recounted(count)
        case .parameter(let index):
            let value = index < context.parameters.count ? context.parameters[index] : .null
            return .constant(value, type, count: count)
        case .call(let function, let parts): return try call(function, parts, batch, context)
        case .and(let parts): return try connect(parts, isAnd: true, batch, context)
        case .or(let parts): return try connect(parts, isAnd: false, batch, context)
        case .not(let part):
            let column = try part.compute(batch, context)
            guard case .booleans(let flags) = column.storage else { return column }
            let negated = Column(.bool, .booleans(flags.map { !$0 }), validity: column.validity, count: count)
            return column.isConstant
                ? .constant(column.isNull(at: 0) ? .null : .bool(!flags[0]), .bool, count: count) : negated
        case .isNull(let part, let isNegated):
            let column = try part.compute(batch, context)
            guard let validity = column.validity else { return .constant(.bool(isNegated), .bool, count: count) }
            return Column(.bool, .booleans((0..<count).map { validity[$0] == isNegated }), count: count)
        case .choice(let branches, let otherwise):
            return try choose(branches, otherwise, batch, context)
        case .coalesce(let parts): return try coalesce(parts, batch, context)
        case .array(let parts):
            let columns = try computeAll(parts, batch, context)
            var builder = ColumnBuilder(type)
            for row in 0..<count { builder.append(try ArrayForms.build(columns.map { $0.value(at: row) }, type)) }
            return builder.finish()
        case .row(let parts):
            let columns = try computeAll(parts, batch, context)
            return Column(
                type, .values((0..<count).map { row in .tuple(columns.map { $0.value(at: row) }) }), count: count)
        }
    }

    private func computeAll(_ parts: [Evaluator], _ batch: ColumnBatch, _ context: ExecutionContext)
        throws(StatementError) -> [Column]
    {
        var columns: [Column] = []
        columns.reserveCapacity(parts.count)
        for part in parts { columns.append(try part.compute(batch, context)) }
        return columns
    }

    private func call(
        _ function: ScalarFunction, _ parts: [Evaluator], _ batch: ColumnBatch, _ context: ExecutionContext
    ) throws(StatementError) -> Column {
        let columns = try computeAll(parts, batch, context)
        if batch.count == 0 { return ColumnBuilder(type).finish() }
        let isFixed = function.volatility != .volatile && columns.allSatisfy(\.isConstant)
        if let kernel = function.kernel, !isFixed {
            let column = try kernel(columns, batch.count)
            return column.labelled(type)
        }
        var arguments = [Value](repeating: .null, count: columns.count)
        var builder = ColumnBuilder(type)
        let rows = isFixed ? 1 : batch.count
        builder.reserve(rows)
        var size = 0
        rows: for row in 0..<rows {
            for (index, column) in columns.enumerated() {
                let value = column.value(at: row)
                if function.isStrict, value.isNull {
                    builder.appendNull()
                    continue rows
                }
                arguments[index] = value
            }
            let value = try function.body(arguments, context)
            if case .text(let text) = value {
                size += text.utf8.count
                guard size < Self.largestColumn else { throw Self.tooLarge }
            }
            builder.append(value)
        }
        let column = builder.finish()
        return isFixed ? .constant(column.value(at: 0), type, count: batch.count) : column
    }

    /// AND and OR of three values; what comes later is not computed for rows that are decided, unless it is harmless.
    private func connect(_ parts: [Evaluator], isAnd: Bool, _ batch: ColumnBatch, _ context: ExecutionContext)
        throws(StatementError) -> Column
    {
        let count = batch.count
        // 0 false, 1 true, 2 NULL.
        var states = [UInt8](repeating: isAnd ? 1 : 0, count: count)
        let decided: UInt8 = isAnd ? 0 : 1
        var open: [Int32]?
        for (index, part) in parts.enumerated() {
            if index > 0, !part.isSafe {
                open = (0..<Int32(count)).filter { states[Int($0)] != decided }
                if open?.isEmpty == true { break }
            }
            let rows = open
            let column = try part.compute(rows.map { $0.count == count ? batch : batch.gathered($0) } ?? batch, context)
            guard case .booleans(let flags) = column.storage else { continue }
            for place in 0..<(rows?.count ?? count) {
                let row = rows.map { Int($0[place]) } ?? place
                guard states[row] != decided else { continue }
                if column.isNull(at: place) {
                    states[row] = 2
                } else if flags[place * column.stride] != isAnd {
                    states[row] = decided
                }
            }
            open = nil
        }
        let validity: Bitmap? = states.contains(2) ? Self.bitmap(states) : nil
        return Column(.bool, .booleans(states.map { $0 == 1 }), validity: validity, count: count)
    }

    private static func bitmap(_ states: [UInt8]) -> Bitmap {
        var bitmap = Bitmap(repeating: true, count: states.count)
        for (row, state) in states.enumerated() where state == 2 { bitmap[row] = false }
        return bitmap
    }

    /// Each branch is computed for its own rows only.
    private func choose(
        _ branches: [(condition: Evaluator, result: Evaluator)], _ otherwise: Evaluator?, _ batch: ColumnBatch,
        _ context: ExecutionContext
    ) throws(StatementError) -> Column {
        var open = Array(0..<Int32(batch.count))
        var results: [(rows: [Int32], column: Column)] = []
        for branch in branches where !open.isEmpty {
            let rest = open.count == batch.count ? batch : batch.gathered(open)
            let chosen = try branch.condition.select(rest, context)
            guard !chosen.isEmpty else { continue }
            let column = try branch.result.compute(chosen.count == rest.count ? rest : rest.gathered(chosen), context)
            results.append((chosen.map { open[Int($0)] }, column))
            var isChosen = [Bool](repeating: false, count: open.count)
            for place in chosen { isChosen[Int(place)] = true }
            open = open.indices.filter { !isChosen[$0] }.map { open[$0] }
        }
        if let otherwise, !open.isEmpty {
            let rest = open.count == batch.count ? batch : batch.gathered(open)
            results.append((open, try otherwise.compute(rest, context)))
        }
        return scatter(results, count: batch.count)
    }

    private func coalesce(_ parts: [Evaluator], _ batch: ColumnBatch, _ context: ExecutionContext)
        throws(StatementError) -> Column
    {
        var open = Array(0..<Int32(batch.count))
        var results: [(rows: [Int32], column: Column)] = []
        for part in parts where !open.isEmpty {
            let column = try part.compute(open.count == batch.count ? batch : batch.gathered(open), context)
            if column.validity == nil, results.isEmpty { return column.labelled(type) }
            var rest: [Int32] = [], taken: [Int32] = [], places: [Int32] = []
            for (place, row) in open.enumerated() {
                if column.isNull(at: place) {
                    rest.append(row)
                } else {
                    taken.append(row)
                    places.append(Int32(place))
                }
            }
            if !taken.isEmpty { results.append((taken, column.gathered(places))) }
            open = rest
        }
        return scatter(results, count: batch.count)
    }

    /// Puts results for some rows each together; the others are NULL.
    private func scatter(_ results: [(rows: [Int32], column: Column)], count: Int) -> Column {
        if results.count == 1, results[0].rows.count == count { return results[0].column.labelled(type) }
        var source = [(piece: Int32, place: Int32)](repeating: (-1, 0), count: count)
        for (piece, result) in results.enumerated() {
            for (place, row) in result.rows.enumerated() { source[Int(row)] = (Int32(piece), Int32(place)) }
        }
        var builder = ColumnBuilder(type)
        builder.reserve(count)
        for (piece, place) in source {
            if piece < 0 {
                builder.appendNull()
            } else {
                builder.append(results[Int(piece)].column, row: Int(place))
            }
        }
        return builder.finish()
    }
}

/// Where in a batch an attribute is.
struct Layout {
    let attributes: [Attribute]
    private let places: [Attribute: Int]

    init(_ attributes: [Attribute]) {
        self.attributes = attributes
        var places: [Attribute: Int] = [:]
        for (place, attribute) in attributes.enumerated() where places[attribute] == nil { places[attribute] = place }
        self.places = places
    }

    func place(of attribute: Attribute) -> Int? { places[attribute] }

    /// Of attributes that the binder put there.
    func places(of wanted: [Attribute]) throws(StatementError) -> [Int] {
        var found: [Int] = []
        for attribute in wanted {
            guard let place = places[attribute] else {
                throw StatementError(.internalError, "a plan lacks column \(attribute.id)")
            }
            found.append(place)
        }
        return found
    }
}

enum ArrayForms {
    /// ARRAY[…] of values, or of arrays, which must be of one shape.
    static func build(_ elements: [Value], _ type: DataType) throws(StatementError) -> Value {
        guard elements.contains(where: { if case .array = $0 { true } else { false } }) else {
            return .array(ArrayValue(type.element, elements))
        }
        var all: [Value] = []
        var inner: [ArrayValue.Dimension]?
        for element in elements {
            guard case .array(let array) = element, inner == nil || inner == array.dimensions else {
                throw StatementError(
                    .arraySubscriptError,
                    "multidimensional arrays must have array expressions with matching dimensions")
            }
            inner = array.dimensions
            all += array.elements
        }
        let outer = ArrayValue.Dimension(count: Int32(clamping: elements.count))
        guard let inner, !inner.isEmpty else { return .array(ArrayValue(type.element, [])) }
        guard let array = ArrayValue(type.element, dimensions: [outer] + inner, elements: all) else {
            throw StatementError(.programLimitExceeded, "number of array dimensions exceeds the maximum allowed (6)")
        }
        return .array(array)
    }
}
