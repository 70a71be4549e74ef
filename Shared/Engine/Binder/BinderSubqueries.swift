import Base
import Contracts
import DataModel

// Queries in expressions, and how they and other special parts are taken out of them.

extension Binder {
    func bindSubquery(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace) throws(StatementError)
        -> BoundExpression
    {
        guard place.allowsSubqueries else {
            throw StatementError(
                .featureNotSupported,
                place == .check
                    ? "cannot use subquery in check constraint" : "cannot use subquery in DEFAULT expression")
        }
        let outside = scope.subqueryPlace
        scope.subqueryPlace = place
        defer { scope.subqueryPlace = outside }
        switch node.kind {
        case .exists:
            let query = try bindQuery(node.children[0], in: scope)
            return subquery(
                BoundSubquery(role: .exists, plan: query.plan, outputs: query.outputs, comparands: []), node)
        case .scalarQuery:
            let query = try bindQuery(node.children[0], in: scope)
            guard query.outputs.count == 1 else {
                throw StatementError(.syntaxError, "subquery must return only one column", position: node.position)
            }
            return subquery(
                BoundSubquery(role: .scalar, plan: query.plan, outputs: query.outputs, comparands: []), node)
        case .arrayQuery:
            let query = try bindQuery(node.children[0], in: scope)
            guard query.outputs.count == 1 else {
                throw StatementError(.syntaxError, "subquery must return only one column", position: node.position)
            }
            return subquery(BoundSubquery(role: .array, plan: query.plan, outputs: query.outputs, comparands: []), node)
        case .inQuery:
            let found = try quantified(node, "=", isAll: false, scope, place)
            return node.flags.contains(.isNegated) ? BoundExpression(form: .not(found), type: .bool) : found
        case .quantifiedQuery:
            return try quantified(node, node.name, isAll: node.flags.contains(.isAll), scope, place)
        case _: throw unsupported("this subquery", at: node.position)  // Only these are asked for.
        }
    }

    /// The columns of a query for one row, each as a query of its own.
    func bindColumns(
        ofQuery node: LogicalPlan.Node, count: Int, _ scope: Scope, otherwise: (Int) -> StatementError
    ) throws(StatementError) -> [BoundExpression] {
        var columns: [BoundExpression] = []
        for index in 0..<count {
            let query = try bindQuery(node.children[0], in: scope)
            guard query.outputs.count == count else { throw otherwise(query.outputs.count) }
            columns.append(
                subquery(
                    BoundSubquery(role: .scalar, plan: query.plan, outputs: [query.outputs[index]], comparands: []),
                    node))
        }
        return columns
    }

    private func subquery(_ bound: BoundSubquery, _ node: LogicalPlan.Node) -> BoundExpression {
        BoundExpression(form: .subquery(bound), type: ApplyOperator.type(of: bound), position: node.position)
    }

    private func quantified(
        _ node: LogicalPlan.Node, _ name: String, isAll: Bool, _ scope: Scope, _ place: ExpressionPlace
    ) throws(StatementError) -> BoundExpression {
        let left = plan[node.children[0]]
        let parts = left.kind == .row ? left.children : [node.children[0]]
        let query = try bindQuery(node.children[1], in: scope)
        guard parts.count == query.outputs.count else {
            throw StatementError(
                .syntaxError,
                parts.count < query.outputs.count ? "subquery has too many columns" : "subquery has too few columns",
                position: node.position)
        }
        var functions: [ScalarFunction] = [], comparands: [BoundExpression] = [], compared: [BoundExpression] = []
        for (index, part) in parts.enumerated() {
            let output = query.outputs[index]
            let mine = try bindExpression(part, scope, place)
            let comparison = try bindOperator(name, mine, .attribute(output.attribute, output.type), at: node.position)
            guard case .call(let function, let sides) = comparison.form, comparison.type == .bool else {
                throw StatementError(
                    .datatypeMismatch, "row comparison operator must yield type boolean", position: node.position)
            }
            functions.append(function)
            comparands.append(sides[0])
            compared.append(sides[1])
        }
        guard parts.count == 1 || name == "=" && !isAll || name == "<>" && isAll else {
            throw unsupported("this comparison of a row with a subquery", at: node.position)
        }
        let bound = BoundSubquery(
            role: .quantified(functions, isAll: isAll), plan: query.plan, outputs: query.outputs,
            comparands: comparands, compared: compared)
        return subquery(bound, node)
    }

    /// The expression with columns in place of its subqueries, which become applies over `below`.
    func extractSubqueries(_ expression: BoundExpression, _ below: inout RelationalPlan) throws(StatementError)
        -> BoundExpression
    {
        guard expression.contains({ if case .subquery = $0.form { true } else { false } }) else { return expression }
        return try expression.rewritten { part throws(StatementError) in
            guard case .subquery(var subquery) = part.form else { return nil }
            for index in subquery.comparands.indices {
                subquery.comparands[index] = try self.extractSubqueries(subquery.comparands[index], &below)
            }
            let attribute = self.newAttribute()
            below = .apply(below, subquery.plan, .value(subquery, attribute))
            return .attribute(attribute, part.type, at: part.position)
        }
    }

    /// Takes functions that give rows out of targets; those within others first.
    func unroll(_ expressions: inout [BoundExpression], _ below: inout RelationalPlan) throws(StatementError) {
        func isRows(_ expression: BoundExpression) -> Bool {
            if case .rows = expression.form { return true }
            return false
        }
        while expressions.contains(where: { $0.contains(isRows) }) {
            var calls: [(attribute: Attribute, call: BoundExpression)] = []
            for index in expressions.indices {
                expressions[index] = try expressions[index].rewritten { part throws(StatementError) in
                    guard isRows(part), !part.operands.contains(where: { $0.contains(isRows) }) else { return nil }
                    let attribute = self.newAttribute()
                    calls.append((attribute, part))
                    return .attribute(attribute, part.type, at: part.position)
                }
            }
            below = .unroll(below, calls)
        }
    }

    /// Takes window functions out of targets.
    func unwindow(_ expressions: inout [BoundExpression], _ below: inout RelationalPlan) throws(StatementError) {
        var calls: [(attribute: Attribute, call: WindowCall)] = []
        for index in expressions.indices {
            expressions[index] = try expressions[index].rewritten { part throws(StatementError) in
                guard case .window(let call) = part.form else { return nil }
                if let same = calls.first(where: { $0.call.isSame(as: call) }) {
                    return .attribute(same.attribute, part.type, at: part.position)
                }
                let attribute = self.newAttribute()
                calls.append((attribute, call))
                return .attribute(attribute, part.type, at: part.position)
            }
        }
        guard !calls.isEmpty else { return }
        for index in calls.indices {
            var fresh: [BoundExpression] = []
            for operand in calls[index].call.operands { fresh.append(try extractSubqueries(operand, &below)) }
            calls[index].call = calls[index].call.replacingOperands(fresh)
        }
        // One window after the other; those of one order together.
        while let first = calls.first {
            let same = calls.filter { $0.call.hasSameOrder(as: first.call) }
            below = .window(below, same)
            calls.removeAll { $0.call.hasSameOrder(as: first.call) }
        }
    }
}
