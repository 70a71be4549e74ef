import Base
import Contracts
import DataModel

// Calls: functions, aggregates, window functions, functions that give rows.

extension Binder {
    func bindCall(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace) throws(StatementError)
        -> BoundExpression
    {
        let qualifier = nameParts(node.children[0])
        guard qualifier.isEmpty || qualifier == ["pg_catalog"] || SystemRoutine.isInformation(qualifier, node.name)
        else {
            throw StatementError(
                .undefinedFunction, "function \((qualifier + [node.name]).joined(separator: ".")) does not exist",
                position: node.position)
        }
        if let drawn = try bindSequenceCall(node) { return drawn }
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
            if let row = try wholeRow(item, scope, for: node.name) {
                arguments.append(row)
                continue
            }
            arguments.append(try bindExpression(item, scope, inner, allowsRows: aggregates.isEmpty))
        }
        if !aggregates.isEmpty || isWindowOnly {
            if isWindowOnly, node.flags.contains(.isWithinGroup) {
                throw unsupported("hypothetical-set aggregate \(node.name)", at: node.position)
            }
            if isWindowOnly, over == 0 {
                throw StatementError(
                    .wrongObjectType, "window function \(node.name) requires an OVER clause", position: node.position)
            }
            return try bindAggregate(node, aggregates, arguments, scope, place)
        }
        if node.name == "pg_collation_for" { return try bindCollationFor(node, arguments) }
        let rows = Registry.rows(node.name)
        if Registry.functions(node.name).isEmpty, rows.isEmpty, hasAggregateParts(node) {
            throw failure(.none, node.name, arguments.map(\.type), at: node.position)
        }
        try refuseAggregateParts(node)
        if node.flags.contains(.isVariadic) { return try bindVariadic(node, arguments) }
        if !rows.isEmpty {
            let function: RowsFunction
            do throws(ResolutionFailure) {
                function = try resolve(rows, arguments.map(\.type), isOperator: false)
            } catch {
                throw failure(error, node.name, arguments.map(\.type), at: node.position)
            }
            return try bindRows(function, arguments, at: node.position)
        }
        let isBuiltIn = node.flags.contains(.isBuiltIn) || qualifier == ["pg_catalog"]
        return try bindFunction(node.name, arguments, isBuiltIn: isBuiltIn, at: node.position)
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
        // What may be left out at the end has a row of its own.
        if ParameterNames.defaults[node.name] == nil { while places.last == 0 { places.removeLast() } }
        guard ParameterNames.defaults[node.name] != nil || !places.contains(0) else {
            throw unsupported("a call that leaves out an argument", at: node.position)
        }
        return places
    }

    private func hasAggregateParts(_ node: LogicalPlan.Node) -> Bool {
        !node.flags.isDisjoint(with: [.isStar, .isWithinGroup, .isDistinct])
            || node.children[2] != 0 || node.children[3] != 0 || node.children[4] != 0
    }

    private func refuseAggregateParts(_ node: LogicalPlan.Node) throws(StatementError) {
        func refuse(_ what: String) -> StatementError {
            StatementError(
                .wrongObjectType, "\(what) specified, but \(node.name) is not an aggregate function",
                position: node.position)
        }
        if node.flags.contains(.isStar) { throw refuse("\(node.name)(*)") }
        if node.flags.contains(.isWithinGroup) { throw refuse("WITHIN GROUP") }
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

    /// A function that gives rows, by its name.
    func bindRowsCall(_ name: String, _ arguments: [BoundExpression], _ node: LogicalPlan.Node) throws(StatementError)
        -> BoundExpression
    {
        let function: RowsFunction
        do throws(ResolutionFailure) {
            function = try resolve(Registry.rows(name), arguments.map(\.type), isOperator: false)
        } catch {
            throw failure(error, name, arguments.map(\.type), at: node.position)
        }
        return try bindRows(function, arguments, at: node.position)
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
        if over == 0,
            let row = arguments.first(where: { $0.contains { if case .window = $0.form { true } else { false } } })
        {
            throw StatementError(
                .groupingError, "aggregate function calls cannot contain window function calls", position: row.position)
        }
        var filter: BoundExpression?
        if node.children[3] != 0 { filter = try bindCondition(node.children[3], scope, .filter, "FILTER") }
        if over != 0 { return try bindWindowCall(node, rows, arguments, filter, scope, place) }
        var terms: [BoundExpression] = []
        for item in plan.list(node.children[2]) {
            let bound = try bindExpression(plan[item].children[0], scope, .aggregateArgument)
            terms.append(try resolveUnknown(bound, as: .text))
        }
        let isOrderedSet = try checkWithinGroup(node, rows, arguments)
        let (function, chosen, type) = try chooseAggregate(node, rows, isOrderedSet ? arguments + terms : arguments)
        var given = chosen
        // What is sorted within the group has the type that the aggregate takes.
        if isOrderedSet { terms = Array(given.suffix(terms.count)) }
        var order: [SortTerm] = []
        for (index, item) in plan.list(node.children[2]).enumerated() {
            // With DISTINCT it is an argument that is sorted by: as the aggregate takes it.
            let same = arguments.firstIndex { $0.isSame(as: terms[index]) }
            if node.flags.contains(.isDistinct), !isOrderedSet, let same { terms[index] = given[same] }
            order.append(try sortTerm(plan[item], terms[index]))
        }
        let isDistinct = node.flags.contains(.isDistinct)
        // What is told apart by sorting comes out sorted.
        let sortsItself = isDistinct && order.isEmpty && node.name.hasSuffix("_agg")
        if sortsItself { for part in given { order.append(try sortTerm(part)) } }
        let stray = order.first { term in !given.contains { $0.isSame(as: term.expression) } }
        if isDistinct, !sortsItself, let stray {
            throw StatementError(
                .invalidColumnReference,
                "in an aggregate with DISTINCT, ORDER BY expressions must appear in argument list",
                position: stray.expression.position)
        }
        let takesKeys = try takesKeys(function, &given, at: node.position)
        let call = AggregateCall(
            function: function, arguments: given, isDistinct: isDistinct, order: order.map(\.keyed), filter: filter,
            type: takesKeys ? given[0].type : type)
        let value: BoundExpression
        if let home = try home(of: call, scope, at: node.position) {
            value = try adopted(call, by: home, at: node.position)
        } else {
            guard place.allowsAggregates else { throw misplaced(place, at: node.position) }
            value = BoundExpression(form: .aggregate(call), type: call.type, position: node.position)
        }
        return takesKeys ? CollationFunctions.text(ofKey: value, type) : value
    }

    /// Whether the call is WITHIN GROUP, as its aggregate demands or forbids.
    private func checkWithinGroup(
        _ node: LogicalPlan.Node, _ rows: [AggregateFunction], _ arguments: [BoundExpression]
    ) throws(StatementError) -> Bool {
        let isOrderedSet = rows.first?.isOrderedSet ?? false, isWithin = node.flags.contains(.isWithinGroup)
        guard isOrderedSet != isWithin else { return isWithin }
        guard isWithin || rows.contains(where: { $0.parameters.count == arguments.count }) else {
            throw failure(.none, node.name, arguments.map(\.type), at: node.position)
        }
        throw StatementError(
            .wrongObjectType,
            isWithin
                ? "\(node.name) is not an ordered-set aggregate, so it cannot have WITHIN GROUP"
                : "WITHIN GROUP is required for ordered-set aggregate \(node.name)",
            position: node.position)
    }

    /// A call whose last argument is an array of all that come there.
    private func bindVariadic(_ node: LogicalPlan.Node, _ arguments: [BoundExpression]) throws(StatementError)
        -> BoundExpression
    {
        let rows = Registry.functions(node.name).filter { $0.isVariadic && $0.parameters.count == arguments.count }
        guard let function = rows.first, let last = arguments.last else {
            throw failure(.none, node.name, arguments.map(\.type), at: node.position)
        }
        guard last.type.isArrayLike || last.isUnknownLiteral else {
            throw StatementError(.datatypeMismatch, "VARIADIC argument must be an array", position: last.position)
        }
        let array = try resolveUnknown(last, as: .text.array)
        let (types, result) = try concrete(
            function.parameters, function.result, isVariadic: true,
            Array(arguments.dropLast()) + [.constant(.null, array.type.element)], at: node.position)
        var given: [BoundExpression] = []
        for (index, argument) in arguments.dropLast().enumerated() {
            given.append(try coerce(argument, to: types[index], .implicit, at: argument.position))
        }
        let element = types[types.count - 1], fixed = types.dropLast()
        given.append(try coerce(array, to: element.array, .implicit, at: last.position))
        let spread = ScalarFunction(
            "variadic \(function.name)", of: function, result: result, volatility: function.volatility, isStrict: false
        ) { a, context throws(StatementError) in
            var elements: [Value] = []
            if case .array(let array)? = a.last {
                elements = array.elements
            } else if function.name != "format" {
                // A NULL is no list; format takes it for an empty one.
                return .null
            }
            let values = a.dropLast() + elements
            if function.isStrict, values.contains(where: \.isNull) { return .null }
            let types = fixed + Array(repeating: element, count: elements.count)
            return try function.specialized(Array(types), result).body(Array(values), context)
        }
        return fold(BoundExpression(form: .call(spread, given), type: result, position: node.position))
    }

    /// The name of a relation as an argument of what makes JSON: its row as an object, made here where the names of its
    /// columns are known.
    private func wholeRow(_ index: Int32, _ scope: Scope, for function: String) throws(StatementError)
        -> BoundExpression?
    {
        let takers = [
            "row_to_json", "to_json", "to_jsonb", "json_agg", "jsonb_agg", "json_object_agg", "jsonb_object_agg",
            "json_build_object", "jsonb_build_object", "json_build_array", "jsonb_build_array",
        ]
        let node = plan[index]
        guard takers.contains(function), let relation = try relation(named: index, scope) else { return nil }
        let keys = relation.columns.map { JSONMaking.quoted($0.name) + ":" }
        let types = relation.columns.map(\.expression.type)
        let maker = ScalarFunction(
            "row of " + keys.joined(), of: Casts.cast, result: .record, volatility: .stable, isStrict: false
        ) { a, context throws(StatementError) in
            let parts = a.indices.map { keys[$0] + JSONMaking.text(a[$0], types[$0], context.settings) }
            return .text("{" + parts.joined(separator: ",") + "}")
        }
        let made = BoundExpression(
            form: .call(maker, relation.columns.map(\.expression)), type: .record, position: node.position)
        return ifThere(made, relation)
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
