import Base
import Contracts
import DataModel

// Arms of set operations: literals and parameters in them get their type from the arm beside them.

extension DataType {
    /// Of a literal or a parameter that nothing has given a type.
    var isOpen: Bool { kind == .unknown && !isArray }
}

extension Binder {
    /// A query beside another one. Its outputs that are literals or parameters of no type are open.
    func bindArm(_ index: Int32, in scope: Scope) throws(StatementError) -> Query {
        keepsOpen = plan[index].kind == .select
        return try bindQuery(index, in: scope)
    }

    /// Of the open targets of an arm those stay open that nothing but the other arm looks at; the others are texts.
    func settleArm(
        _ targets: inout [Target], _ order: Order, _ groups: inout Groups, isDistinct: Bool
    ) throws(StatementError) {
        let isGrouped = groups.expressions.contains(where: \.type.isOpen)
        for index in groups.expressions.indices {
            groups.expressions[index] = try resolveUnknown(groups.expressions[index], as: .text)
        }
        for index in targets.indices {
            let isRead = isDistinct || isGrouped || order.places.contains(index)
            if isRead { targets[index].expression = try resolveUnknown(targets[index].expression, as: .text) }
            // What a parameter is may have been said by a condition.
            guard case .parameter(let number) = targets[index].expression.form else { continue }
            targets[index].expression.type = parameterTypes[number]
        }
    }
}

extension Binder.Query {
    /// Gives an open output its type.
    mutating func settle(_ index: Int, as type: DataType, _ binder: Binder) throws(StatementError) {
        plan = try plan.settling(outputs[index].attribute, as: type, binder)
        outputs[index].type = type
    }
}

extension RelationalPlan {
    /// Where the statement has what a column of a query is; 0 if that is not one place.
    func position(of attribute: Attribute) -> Int32 {
        switch self {
        case .project(let child, let projections):
            guard let found = projections.first(where: { $0.attribute == attribute }) else { return 0 }
            return found.expression.attribute == attribute
                ? child.position(of: attribute) : found.expression.position
        case .sort(let child, _, _), .limit(let child, _), .with(_, let child), .apply(_, let child, _):
            return child.position(of: attribute)
        case .combine(let plan):
            guard let place = plan.outputs.firstIndex(where: { $0.attribute == attribute }) else { return 0 }
            return plan.left.position(of: plan.leftAttributes[place])
        case .single, .scan, .values, .input, .filter, .join, .merge, .aggregate, .distinct, .rows, .unroll, .window,
            .shared, .working, .recursive, .modify, .lock:
            return 0
        }
    }

    /// The plan of an arm with a type for one of its open columns.
    fileprivate func settling(_ attribute: Attribute, as type: DataType, _ binder: Binder) throws(StatementError)
        -> RelationalPlan
    {
        switch self {
        case .project(let child, var projections):
            guard let place = projections.firstIndex(where: { $0.attribute == attribute }) else { return self }
            let expression = projections[place].expression
            if expression.attribute == attribute {
                projections[place].expression = .attribute(attribute, type, at: expression.position)
                return .project(try child.settling(attribute, as: type, binder), projections)
            }
            projections[place].expression = try binder.coerce(expression, to: type, .implicit, at: expression.position)
            return .project(child, projections)
        case .sort(let child, let terms, let limit):
            return .sort(try child.settling(attribute, as: type, binder), terms, limit: limit)
        case .limit(let child, let limits): return .limit(try child.settling(attribute, as: type, binder), limits)
        case .with(let tables, let child): return .with(tables, try child.settling(attribute, as: type, binder))
        case .apply(let left, let right, let kind):
            return .apply(left, try right.settling(attribute, as: type, binder), kind)
        case .single, .scan, .values, .input, .filter, .join, .merge, .aggregate, .distinct, .combine, .rows, .unroll,
            .window, .shared, .working, .recursive, .modify, .lock:
            return self  // No arm with open columns has these at its top.
        }
    }
}
