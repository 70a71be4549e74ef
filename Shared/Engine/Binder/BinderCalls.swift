import Base
import Contracts
import DataModel

// Calls: functions, aggregates, window functions, functions that give rows.

extension Binder {
    func bindCall(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace) throws(StatementError)
        -> BoundExpression
    {
        let qualifier = nameParts(node.children[0])
        guard qualifier.isEmpty || qualifier == ["pg_catalog"] else {
            throw StatementError(
                .undefinedFunction, "function \((qualifier + [node.name]).joined(separator: ".")) does not exist",
                position: node.position)
        }
        if node.flags.contains(.isVariadic) { throw unsupported("VARIADIC", at: node.position) }
        if node.flags.contains(.isWithinGroup) { throw unsupported("WITHIN GROUP", at: node.position) }
        let list = plan.list(node.children[1])
        let over = node.children[4]
        let aggregates = Registry.aggregates(node.name)
        let isWindowOnly = WindowFunction(rawValue: node.name) != nil
        let inner: ExpressionPlace = aggregates.isEmpty || over != 0 ? place : .aggregateArgument
        var arguments: [BoundExpression] = []
        for item in try ordered(list, node) {
            if item == 0 {
                arguments.append(.constant(.integer(0), .int32))
                continue
            }
            if plan[item].kind == .star { throw unsupported("a row as an argument", at: node.position) }
            arguments.append(try bindExpression(item, scope, inner, allowsRows: aggregates.isEmpty))
        }
        if !aggregates.isEmpty || isWindowOnly {
            if isWindowOnly, over == 0 {
                throw StatementError(
                    .wrongObjectType, "window function \(node.name) requires an OVER clause", position: node.position)
            }
            return try bindAggregate(node, aggregates, arguments, scope, place)
        }
        try refuseAggregateParts(node)
        let rows = Registry.rows(node.name)
        if !rows.isEmpty {
            let function: RowsFunction
            do throws(ResolutionFailure) {
                function = try resolve(rows, arguments.map(\.type), isOperator: false)
            } catch {
                throw failure(error, node.name, arguments.map(\.type), at: node.position)
            }
            return try bindRows(function, arguments, at: node.position)
        }
        return try bindFunction(node.name, arguments, at: node.position)
    }

    /// Arguments in the order of the parameters: those that are named go to their places, 0 stands for a default.
    private func ordered(_ list: [Int32], _ node: LogicalPlan.Node) throws(StatementError) -> [Int32] {
        guard let first = list.firstIndex(where: { plan[$0].kind == .namedArgument }) else {
            return list + Array(repeating: 0, count: max((ParameterNames.defaults[node.name] ?? 0) - list.count, 0))
        }
        guard let names = ParameterNames.names[node.name] else {
            throw unsupported("a named argument", at: node.position)
        }
        var places = Array(list.prefix(first)) + Array(repeating: 0, count: max(names.count - first, 0))
        for item in list.dropFirst(first) {
            guard plan[item].kind == .namedArgument, let place = names.firstIndex(of: plan[item].name),
                place < places.count,
                places[place] == 0
            else {
                throw StatementError(
                    .undefinedFunction, "function \(node.name) has no such combination of arguments",
                    position: node.position)
            }
            places[place] = plan[item].children[0]
        }
        guard ParameterNames.defaults[node.name] != nil || !places.contains(0) else {
            throw unsupported("a call that leaves out an argument", at: node.position)
        }
        return places
    }

    private func refuseAggregateParts(_ node: LogicalPlan.Node) throws(StatementError) {
        func refuse(_ what: String) -> StatementError {
            StatementError(
                .wrongObjectType, "\(what) specified, but \(node.name) is not an aggregate function",
                position: node.position)
        }
        if node.flags.contains(.isStar) { throw refuse("\(node.name)(*)") }
        if node.flags.contains(.isDistinct) { throw refuse("DISTINCT") }
        if node.children[2] != 0 { throw refuse("ORDER BY") }
        if node.children[3] != 0 { throw refuse("FILTER") }
        if node.children[4] != 0 {
            throw StatementError(
                .wrongObjectType,
                "OVER specified, but \(node.name) is not a window function nor an aggregate function",
                position: node.position)
        }
    }

    private func bindRows(_ function: RowsFunction, _ arguments: [BoundExpression], at position: Int32)
        throws(StatementError) -> BoundExpression
    {
        let (types, result) = try concrete(
            function.parameters, function.result, isVariadic: function.isVariadic, arguments, at: position)
        var given: [BoundExpression] = []
        for (index, argument) in arguments.enumerated() {
            given.append(try coerce(argument, to: types[index], .implicit, at: argument.position))
        }
        return BoundExpression(form: .rows(function, given), type: result, position: position)
    }

    // MARK: Aggregates

    private func bindAggregate(
        _ node: LogicalPlan.Node, _ rows: [AggregateFunction], _ arguments: [BoundExpression], _ scope: Scope,
        _ place: ExpressionPlace
    ) throws(StatementError) -> BoundExpression {
        let over = node.children[4]
        guard over != 0 || place.allowsAggregates else {
            let message =
                place == .aggregateArgument
                ? "aggregate function calls cannot be nested"
                : "aggregate functions are not allowed in \(place.title)"
            throw StatementError(.groupingError, message, position: node.position)
        }
        if over == 0,
            let row = arguments.first(where: { $0.contains { if case .window = $0.form { true } else { false } } })
        {
            throw StatementError(
                .groupingError, "aggregate function calls cannot contain window function calls", position: row.position)
        }
        var filter: BoundExpression?
        if node.children[3] != 0 { filter = try bindCondition(node.children[3], scope, .filter, "FILTER") }
        if over != 0 { return try bindWindowCall(node, rows, arguments, filter, scope, place) }
        let (function, given, type) = try chooseAggregate(node, rows, arguments)
        var order: [SortTerm] = []
        for item in plan.list(node.children[2]) {
            let bound = try bindExpression(plan[item].children[0], scope, .aggregateArgument)
            order.append(try sortTerm(plan[item], try resolveUnknown(bound, as: .text)))
        }
        let isDistinct = node.flags.contains(.isDistinct)
        if isDistinct, order.contains(where: { term in !given.contains { $0.isSame(as: term.expression) } }) {
            throw StatementError(
                .invalidColumnReference,
                "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list",
                position: node.position)
        }
        let call = AggregateCall(
            function: function, arguments: given, isDistinct: isDistinct, order: order, filter: filter, type: type)
        try checkLevel(call, scope, at: node.position)
        return BoundExpression(form: .aggregate(call), type: type, position: node.position)
    }

    /// An aggregate of nothing but outer columns belongs to the outer query.
    private func checkLevel(_ call: AggregateCall, _ scope: Scope, at position: Int32) throws(StatementError) {
        var read: Set<Attribute> = []
        for argument in call.arguments { argument.collectAttributes(into: &read) }
        guard !read.isEmpty, read.isDisjoint(with: scope.ownAttributes) else { return }
        throw unsupported("an aggregate over columns of an outer query", at: position)
    }

    func chooseAggregate(
        _ node: LogicalPlan.Node, _ rows: [AggregateFunction], _ arguments: [BoundExpression]
    ) throws(StatementError) -> (AggregateFunction, [BoundExpression], DataType) {
        if node.flags.contains(.isStar) {
            guard let count = rows.first(where: { $0.parameters.isEmpty }) else {
                throw StatementError(
                    .undefinedFunction, "function \(node.name)() does not exist",
                    hint:
                        "No function matches the given name and argument types. "
                        + "You might need to add explicit type casts.",
                    position: node.position)
            }
            return (count, [], .int64)
        }
        if arguments.isEmpty, node.name == "count" {
            throw StatementError(
                .wrongObjectType, "count(*) must be used to call a parameterless aggregate function",
                position: node.position)
        }
        let function: AggregateFunction
        do throws(ResolutionFailure) {
            function = try resolve(rows.filter { !$0.parameters.isEmpty }, arguments.map(\.type), isOperator: false)
        } catch {
            throw failure(error, node.name, arguments.map(\.type), at: node.position)
        }
        let (types, type) = try concrete(
            function.parameters, function.result, isVariadic: function.isVariadic, arguments, at: node.position)
        var given: [BoundExpression] = []
        for (index, argument) in arguments.enumerated() {
            given.append(try coerce(argument, to: types[index], .implicit, at: argument.position))
        }
        return (function, given, type)
    }

    // MARK: Values of the session

    func bindSpecialValue(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace) throws(StatementError)
        -> BoundExpression
    {
        let bound = try bindFunction(node.name, [], at: node.position)
        guard node.number >= 0 else { return bound }
        let type = DataType(bound.type.kind, modifier: Int32(clamping: min(node.number, 6)))
        return try coerce(bound, to: type, .explicit, at: node.position)
    }
}
