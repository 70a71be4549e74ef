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
        for item in list {
            if plan[item].kind == .namedArgument { throw unsupported("a named argument", at: node.position) }
            if plan[item].kind == .star { throw unsupported("a row as an argument", at: node.position) }
            arguments.append(try bindExpression(item, scope, inner, allowsRows: aggregates.isEmpty))
        }
        if !aggregates.isEmpty || isWindowOnly {
            if isWindowOnly, over == 0 {
                throw StatementError(
                    .windowingError, "window function \(node.name) requires an OVER clause", position: node.position)
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

    private func chooseAggregate(
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

    // MARK: Windows

    private func bindWindowCall(
        _ node: LogicalPlan.Node, _ rows: [AggregateFunction], _ arguments: [BoundExpression],
        _ filter: BoundExpression?, _ scope: Scope, _ place: ExpressionPlace
    ) throws(StatementError) -> BoundExpression {
        guard place.allowsWindows else {
            throw StatementError(
                .windowingError, "window functions are not allowed in \(place.title)", position: node.position)
        }
        if node.flags.contains(.isDistinct) {
            throw StatementError(
                .featureNotSupported, "DISTINCT is not implemented for window functions", position: node.position)
        }
        if node.children[2] != 0 {
            throw StatementError(
                .featureNotSupported, "aggregate ORDER BY is not implemented for window functions",
                position: node.position)
        }
        let window = try bindWindow(node.children[4], scope)
        let function: WindowCall.Function, given: [BoundExpression], type: DataType
        if let native = WindowFunction(rawValue: node.name) {
            guard filter == nil else {
                throw StatementError(
                    .featureNotSupported, "FILTER is not implemented for non-aggregate window functions",
                    position: node.position)
            }
            (given, type) = try native.signature(arguments, self, at: node.position)
            function = .native(native)
        } else {
            let chosen = try chooseAggregate(node, rows, arguments)
            (function, given, type) = (.aggregate(chosen.0), chosen.1, chosen.2)
        }
        let call = WindowCall(
            function: function, arguments: given, filter: filter, partition: window.partition, order: window.order,
            frame: window.frame, type: type)
        return BoundExpression(form: .window(call), type: type, position: node.position)
    }

    private struct Window {
        var partition: [BoundExpression] = []
        var order: [SortTerm] = []
        var frame = WindowFrame()
    }

    private func bindWindow(_ index: Int32, _ scope: Scope) throws(StatementError) -> Window {
        let node = plan[index]
        if node.kind == .windowReference { return try namedWindow(node.name, scope, at: node.position) }
        var window = node.name.isEmpty ? Window() : try namedWindow(node.name, scope, at: node.position)
        for item in plan.list(node.children[0]) {
            let bound = try bindExpression(item, scope, .window)
            window.partition.append(try resolveUnknown(bound, as: .text))
        }
        for item in plan.list(node.children[1]) {
            let bound = try resolveUnknown(try bindExpression(plan[item].children[0], scope, .window), as: .text)
            window.order.append(try sortTerm(plan[item], bound))
        }
        if node.children[2] != 0 { window.frame = try bindFrame(plan[node.children[2]], scope, window.order) }
        return window
    }

    private func namedWindow(_ name: String, _ scope: Scope, at position: Int32) throws(StatementError) -> Window {
        guard let index = scope.windows[name] else {
            throw StatementError(.undefinedObject, "window \"\(name)\" does not exist", position: position)
        }
        return try bindWindow(index, scope)
    }

    private func bindFrame(_ node: LogicalPlan.Node, _ scope: Scope, _ order: [SortTerm]) throws(StatementError)
        -> WindowFrame
    {
        guard node.number >> 2 == 0 else { throw unsupported("EXCLUDE in a window frame", at: node.position) }
        let modes: [WindowFrame.Mode] = [.range, .rows, .groups]
        var frame = WindowFrame(mode: modes[min(Int(node.number), 2)])
        frame.start = try bindBound(plan[node.children[0]], scope, frame.mode)
        frame.end = node.children[1] == 0 ? .current : try bindBound(plan[node.children[1]], scope, frame.mode)
        switch (frame.start, frame.end) {
        case (.unboundedFollowing, _):
            throw StatementError(.windowingError, "frame start cannot be UNBOUNDED FOLLOWING", position: node.position)
        case (_, .unboundedPreceding):
            throw StatementError(.windowingError, "frame end cannot be UNBOUNDED PRECEDING", position: node.position)
        case (.current, .preceding):
            throw StatementError(
                .windowingError, "frame starting from current row cannot have preceding rows", position: node.position)
        case (.following, .preceding), (.following, .current):
            throw StatementError(
                .windowingError, "frame starting from following row cannot have preceding rows",
                position: node.position)
        case _: break  // All others can have rows.
        }
        if frame.mode == .groups, order.isEmpty {
            throw StatementError(.windowingError, "GROUPS mode requires an ORDER BY clause", position: node.position)
        }
        return frame
    }

    private func bindBound(_ node: LogicalPlan.Node, _ scope: Scope, _ mode: WindowFrame.Mode) throws(StatementError)
        -> WindowFrame.Bound
    {
        switch node.number {
        case 0: return .unboundedPreceding
        case 2: return .current
        case 4: return .unboundedFollowing
        case _: break  // An offset, before or after.
        }
        guard mode != .range else { throw unsupported("RANGE with an offset", at: node.position) }
        let bound = try coerce(
            try bindExpression(node.children[0], scope, .limit), to: .int64, .assignment, at: node.position)
        guard case .integer(let offset)? = bound.constantValue else {
            throw unsupported("a frame offset that is no constant", at: node.position)
        }
        guard offset >= 0 else {
            throw StatementError(
                .invalidPrecedingOrFollowingSize,
                "frame \(node.number == 1 ? "starting" : "ending") offset must not be negative")
        }
        return node.number == 1 ? .preceding(offset) : .following(offset)
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

extension WindowFunction {
    /// Arguments as it takes them, and its result.
    func signature(_ arguments: [BoundExpression], _ binder: Binder, at position: Int32) throws(StatementError)
        -> ([BoundExpression], DataType)
    {
        func count(_ range: ClosedRange<Int>) throws(StatementError) {
            guard range.contains(arguments.count) else {
                throw binder.failure(.none, rawValue, arguments.map(\.type), at: position)
            }
        }
        func typed() throws(StatementError) -> [BoundExpression] {
            var given = arguments
            if !given.isEmpty { given[0] = try binder.resolveUnknown(given[0], as: .text) }
            return given
        }
        switch self {
        case .rowNumber, .rank, .denseRank:
            try count(0...0)
            return ([], .int64)
        case .percentRank, .cumulativeDistribution:
            try count(0...0)
            return ([], .float64)
        case .ntile:
            try count(1...1)
            return ([try binder.coerce(arguments[0], to: .int32, .implicit, at: position)], .int32)
        case .firstValue, .lastValue:
            try count(1...1)
            let given = try typed()
            return (given, given[0].type)
        case .nthValue:
            try count(2...2)
            var given = try typed()
            given[1] = try binder.coerce(given[1], to: .int32, .implicit, at: position)
            return (given, given[0].type)
        case .lag, .lead:
            try count(1...3)
            var given = try typed()
            if given.count > 1 { given[1] = try binder.coerce(given[1], to: .int32, .implicit, at: position) }
            if given.count > 2 {
                let type = try binder.commonType([given[0], given[2]], place: "anycompatible", at: position)
                given[0] = try binder.coerce(given[0], to: type, .implicit, at: position)
                given[2] = try binder.coerce(given[2], to: type, .implicit, at: position)
            }
            return (given, given[0].type)
        }
    }
}
