import Base
import DataModel

/// What a program for one record computes with: the values of columns, each in its place.
struct PointRow {
    var values: [Value]
    let context: ExecutionContext
}

/// An expression over one row, computed value by value: what `Evaluator` does for columns of many, with the same
/// functions. Columns of one row would cost more to build than most expressions cost to compute.
indirect enum PointExpression: Sendable {
    case place(Int)
    case parameter(Int)
    case constant(Value)
    case call(ScalarFunction, [PointExpression], type: DataType)
    case and([PointExpression])
    case or([PointExpression])
    case not(PointExpression)
    case isNull(PointExpression, isNegated: Bool)
    case choice([(condition: PointExpression, result: PointExpression)], otherwise: PointExpression?)
    case coalesce([PointExpression])
    case array([PointExpression], type: DataType)
    case row([PointExpression])

    /// Nil where it needs more than one row: a subquery, an aggregate, a column of another query; or where it may give
    /// something else each time.
    init?(_ expression: BoundExpression, places: [Attribute: Int]) {
        var parts: [PointExpression] = []
        for operand in expression.operands {
            guard let part = PointExpression(operand, places: places) else { return nil }
            parts.append(part)
        }
        switch expression.form {
        case .attribute(let attribute):
            guard let place = places[attribute] else { return nil }
            self = .place(place)
        case .constant(let value): self = .constant(value)
        case .parameter(let index): self = .parameter(index)
        case .call(let function, _):
            guard function.volatility != .volatile else { return nil }
            self = .call(function, parts, type: expression.type)
        case .and: self = .and(parts)
        case .or: self = .or(parts)
        case .not: self = .not(parts[0])
        case .isNull(_, let isNegated): self = .isNull(parts[0], isNegated: isNegated)
        case .choice(let branches, let otherwise):
            let pairs = branches.indices.map { (condition: parts[$0 * 2], result: parts[$0 * 2 + 1]) }
            self = .choice(pairs, otherwise: otherwise == nil ? nil : parts[parts.count - 1])
        case .coalesce: self = .coalesce(parts)
        case .array: self = .array(parts, type: expression.type)
        case .row: self = .row(parts)
        case .subquery, .aggregate, .window, .rows: return nil
        }
    }

    func value(_ row: borrowing PointRow) throws(StatementError) -> Value {
        switch self {
        case .place(let place): return row.values[place]
        case .parameter(let index):
            return index < row.context.parameters.count ? row.context.parameters[index] : .null
        case .constant(let value): return value
        case .call(let function, let parts, let type): return try Self.call(function, parts, type, row)
        case .and(let parts): return try Self.connect(parts, isAnd: true, row)
        case .or(let parts): return try Self.connect(parts, isAnd: false, row)
        case .not(let part):
            guard case .bool(let flag) = try part.value(row) else { return .null }
            return .bool(!flag)
        case .isNull(let part, let isNegated): return .bool(try part.value(row).isNull != isNegated)
        case .choice(let branches, let otherwise):
            for branch in branches where try branch.condition.isTrue(row) { return try branch.result.value(row) }
            return try otherwise?.value(row) ?? .null
        case .coalesce(let parts):
            for part in parts {
                let value = try part.value(row)
                if !value.isNull { return value }
            }
            return .null
        case .array(let parts, let type): return try ArrayForms.build(try Self.values(parts, row), type)
        case .row(let parts): return .tuple(try Self.values(parts, row))
        }
    }

    /// Neither false nor NULL.
    func isTrue(_ row: borrowing PointRow) throws(StatementError) -> Bool {
        if case .bool(true) = try value(row) { return true }
        return false
    }

    private static func values(_ parts: [PointExpression], _ row: borrowing PointRow) throws(StatementError) -> [Value]
    {
        var values: [Value] = []
        values.reserveCapacity(parts.count)
        for part in parts { values.append(try part.value(row)) }
        return values
    }

    private static func call(
        _ function: ScalarFunction, _ parts: [PointExpression], _ type: DataType, _ row: borrowing PointRow
    ) throws(StatementError) -> Value {
        let arguments = try values(parts, row)
        if function.isStrict, arguments.contains(where: \.isNull) { return .null }
        return try function.body(arguments, row.context)
    }

    private static func connect(
        _ parts: [PointExpression], isAnd: Bool, _ row: borrowing PointRow
    ) throws(StatementError) -> Value {
        var isUnknown = false
        for part in parts {
            guard case .bool(let flag) = try part.value(row) else {
                isUnknown = true
                continue
            }
            if flag != isAnd { return .bool(flag) }
        }
        return isUnknown ? .null : .bool(isAnd)
    }
}
