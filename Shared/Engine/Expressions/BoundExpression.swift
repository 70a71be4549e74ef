import Base
import DataModel

/// Names a column that some node of a plan makes: unique within a statement, so that a rule may move an expression
/// from node to node without counting columns again.
struct Attribute: Hashable, Sendable {
    let id: Int32
}

/// An expression whose names are resolved and whose types are known.
struct BoundExpression: Sendable {
    indirect enum Form: Sendable {
        case attribute(Attribute)
        case constant(Value)
        /// From 0.
        case parameter(Int)
        case call(ScalarFunction, [BoundExpression])
        /// Of two or more, evaluated from left to right until the result is known.
        case and([BoundExpression])
        case or([BoundExpression])
        case not(BoundExpression)
        case isNull(BoundExpression, isNegated: Bool)
        /// CASE: the result of the first condition that is true.
        case choice([(condition: BoundExpression, result: BoundExpression)], otherwise: BoundExpression?)
        case coalesce([BoundExpression])
        case array([BoundExpression])
        case row([BoundExpression])
        /// Taken out into an apply before anything is executed.
        case subquery(BoundSubquery)
        /// Taken out into an aggregate.
        case aggregate(AggregateCall)
        /// Taken out into a window.
        case window(WindowCall)
        /// A function that gives rows, in a place where it is unrolled.
        case rows(RowsFunction, [BoundExpression])
    }

    var form: Form
    var type: DataType
    /// The character of the statement, for errors.
    var position: Int32 = 0
    /// What COLLATE said of it, for the binder and for EXPLAIN: nothing is evaluated by it.
    var collation: Collation?

    static func attribute(_ attribute: Attribute, _ type: DataType, at position: Int32 = 0) -> BoundExpression {
        BoundExpression(form: .attribute(attribute), type: type, position: position)
    }

    static func constant(_ value: Value, _ type: DataType, at position: Int32 = 0) -> BoundExpression {
        BoundExpression(form: .constant(value), type: type, position: position)
    }

    static let yes = constant(.bool(true), .bool)

    /// A literal whose type is not known yet.
    var isUnknownLiteral: Bool {
        if case .constant = form { return type.kind == .unknown && !type.isArray }
        return false
    }

    var constantValue: Value? {
        if case .constant(let value) = form { return value }
        return nil
    }

    var attribute: Attribute? {
        if case .attribute(let attribute) = form { return attribute }
        return nil
    }

    /// The expressions right below; not the plans of subqueries.
    var operands: [BoundExpression] {
        switch form {
        case .attribute, .constant, .parameter: []
        case .call(_, let list), .and(let list), .or(let list), .coalesce(let list), .array(let list), .row(let list),
            .rows(_, let list):
            list
        case .not(let operand), .isNull(let operand, _): [operand]
        case .choice(let branches, let otherwise):
            branches.flatMap { [$0.condition, $0.result] } + (otherwise.map { [$0] } ?? [])
        case .subquery(let subquery): subquery.comparands
        case .aggregate(let call): call.operands
        case .window(let call): call.operands
        }
    }

    /// The same over other operands, as many as `operands` has.
    func replacingOperands(_ fresh: [BoundExpression]) -> BoundExpression {
        var result = self
        switch form {
        case .attribute, .constant, .parameter: break
        case .call(let function, _): result.form = .call(function, fresh)
        case .and: result.form = .and(fresh)
        case .or: result.form = .or(fresh)
        case .coalesce: result.form = .coalesce(fresh)
        case .array: result.form = .array(fresh)
        case .row: result.form = .row(fresh)
        case .rows(let function, _): result.form = .rows(function, fresh)
        case .not: result.form = .not(fresh[0])
        case .isNull(_, let isNegated): result.form = .isNull(fresh[0], isNegated: isNegated)
        case .choice(let branches, let otherwise):
            let pairs = branches.indices.map { (condition: fresh[$0 * 2], result: fresh[$0 * 2 + 1]) }
            result.form = .choice(pairs, otherwise: otherwise == nil ? nil : fresh[fresh.count - 1])
        case .subquery(var subquery):
            subquery.comparands = fresh
            result.form = .subquery(subquery)
        case .aggregate(let call): result.form = .aggregate(call.replacingOperands(fresh))
        case .window(let call): result.form = .window(call.replacingOperands(fresh))
        }
        return result
    }

    /// The expression with `change` asked at every node, from the top: what it answers takes the node's place.
    func rewritten(_ change: (BoundExpression) throws(StatementError) -> BoundExpression?)
        throws(StatementError) -> BoundExpression
    {
        if let fresh = try change(self) { return fresh }
        let old = operands
        if old.isEmpty { return self }
        var fresh: [BoundExpression] = []
        fresh.reserveCapacity(old.count)
        for operand in old { fresh.append(try operand.rewritten(change)) }
        return replacingOperands(fresh)
    }

    /// Whether `test` holds for the expression or one below it.
    func contains(_ test: (BoundExpression) -> Bool) -> Bool {
        test(self) || operands.contains { $0.contains(test) }
    }

    /// The attributes that it reads, those that its subqueries read from outside included.
    func collectAttributes(into found: inout Set<Attribute>) {
        switch form {
        case .attribute(let attribute): found.insert(attribute)
        case .subquery(let subquery):
            found.formUnion(subquery.plan.freeAttributes)
            for operand in subquery.comparands { operand.collectAttributes(into: &found) }
        default: for operand in operands { operand.collectAttributes(into: &found) }  // Nothing of their own.
        }
    }

    var attributes: Set<Attribute> {
        var found: Set<Attribute> = []
        collectAttributes(into: &found)
        return found
    }

    var isVolatile: Bool {
        contains { expression in
            if case .call(let function, _) = expression.form { return function.volatility == .volatile }
            if case .subquery = expression.form { return true }
            return false
        }
    }

    /// The conditions that all must hold.
    var conjuncts: [BoundExpression] {
        if case .and(let list) = form { return list.flatMap(\.conjuncts) }
        return [self]
    }

    /// All of `conditions` in one.
    static func all(_ conditions: [BoundExpression]) -> BoundExpression? {
        guard let first = conditions.first else { return nil }
        return conditions.count == 1 ? first : BoundExpression(form: .and(conditions), type: .bool)
    }

    /// Whether both compute the same: as GROUP BY compares expressions.
    func isSame(as other: BoundExpression) -> Bool {
        guard type == other.type, collation == other.collation else { return false }
        switch (form, other.form) {
        case (.attribute(let left), .attribute(let right)): return left == right
        case (.constant(let left), .constant(let right)):
            return left.isNull == right.isNull && (left.isNull || left == right)
        case (.parameter(let left), .parameter(let right)): return left == right
        case (.call(let left, _), .call(let right, _)):
            guard left.isSame(as: right), left.volatility != .volatile else { return false }
        case (.and, .and), (.or, .or), (.not, .not), (.coalesce, .coalesce), (.array, .array), (.row, .row): break
        case (.isNull(_, let left), .isNull(_, let right)): guard left == right else { return false }
        case (.choice(let left, let leftElse), .choice(let right, let rightElse)):
            guard left.count == right.count, (leftElse == nil) == (rightElse == nil) else { return false }
        case (.rows(let left, _), .rows(let right, _)): guard left === right else { return false }
        case (.aggregate(let left), .aggregate(let right)): return left.isSame(as: right)
        case (.window(let left), .window(let right)): return left.isSame(as: right)
        default: return false  // Two forms, or a subquery, which is never the same as another.
        }
        let mine = operands, theirs = other.operands
        return mine.count == theirs.count && zip(mine, theirs).allSatisfy { $0.isSame(as: $1) }
    }
}

/// A query in an expression.
struct BoundSubquery: Sendable {
    enum Role: Sendable {
        /// Its one value, NULL if there is no row.
        case scalar
        case exists
        /// Whether a row compares true (`isAll`: whether all do); one function for each of the comparands.
        case quantified([ScalarFunction], isAll: Bool)
        case array
    }

    let role: Role
    let plan: RelationalPlan
    let outputs: [OutputColumn]
    /// What is compared, of the outer query.
    var comparands: [BoundExpression]
    /// What a quantified comparison compares with, over `outputs`.
    var compared: [BoundExpression] = []
}

/// A sort key.
struct SortTerm: Sendable {
    var expression: BoundExpression
    var isDescending = false
    var isNullsFirst = false
    /// By what the expression's texts are sorted, as long as it is not bound as a key of them.
    var collation = Collation.standard
}

/// An aggregate where it stands.
struct AggregateCall: Sendable {
    let function: AggregateFunction
    var arguments: [BoundExpression]
    let isDistinct: Bool
    var order: [SortTerm]
    var filter: BoundExpression?
    let type: DataType

    var operands: [BoundExpression] {
        arguments + order.map(\.expression) + (filter.map { [$0] } ?? [])
    }

    func replacingOperands(_ fresh: [BoundExpression]) -> AggregateCall {
        var call = self
        call.arguments = Array(fresh.prefix(arguments.count))
        for index in order.indices { call.order[index].expression = fresh[arguments.count + index] }
        if filter != nil { call.filter = fresh[fresh.count - 1] }
        return call
    }

    func isSame(as other: AggregateCall) -> Bool {
        let mine = operands, theirs = other.operands
        return function === other.function && isDistinct == other.isDistinct && arguments.count == other.arguments.count
            && order.count == other.order.count && (filter == nil) == (other.filter == nil)
            && mine.count == theirs.count && zip(mine, theirs).allSatisfy { $0.isSame(as: $1) }
            && zip(order, other.order).allSatisfy {
                $0.isDescending == $1.isDescending && $0.isNullsFirst == $1.isNullsFirst
            }
    }
}
