import Base
import Contracts
import DataModel

// Window functions and the windows that they are called over.

extension Binder {
    func bindWindowCall(
        _ node: LogicalPlan.Node, _ rows: [AggregateFunction], _ arguments: [BoundExpression],
        _ filter: BoundExpression?, _ scope: Scope, _ place: ExpressionPlace
    ) throws(StatementError) -> BoundExpression {
        guard place != .aggregateArgument else {
            throw StatementError(
                .groupingError, "aggregate function calls cannot contain window function calls",
                position: node.position)
        }
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
        let function: WindowCall.Function, type: DataType
        var given: [BoundExpression], takesKeys = false
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
            takesKeys = try self.takesKeys(chosen.0, &given, at: node.position)
        }
        for part in given + (filter.map { [$0] } ?? []) { try refuseNested(part) }
        let window = try bindWindow(node.children[4], scope)
        let call = WindowCall(
            function: function, arguments: given, filter: filter, partition: window.partition, order: window.order,
            frame: window.frame, start: window.start, end: window.end, rangeKey: window.rangeKey,
            type: takesKeys ? given[0].type : type)
        let value = BoundExpression(form: .window(call), type: call.type, position: node.position)
        return takesKeys ? CollationFunctions.text(ofKey: value, type) : value
    }

    private func refuseNested(_ expression: BoundExpression) throws(StatementError) {
        if case .rows = expression.form {
            throw StatementError(
                .featureNotSupported, "window function calls cannot contain set-returning function calls",
                hint: "You might be able to move the set-returning function into a LATERAL FROM item.",
                position: expression.position)
        }
        guard case .window = expression.form else {
            for operand in expression.operands { try refuseNested(operand) }
            return
        }
        throw StatementError(
            .windowingError, "window function calls cannot be nested", position: expression.position)
    }

    /// A window with its parts bound.
    struct Window {
        var partition: [BoundExpression] = []
        var order: [SortTerm] = []
        var hasFrame = false
        var frame = WindowFrame()
        var start: FrameOffset?
        var end: FrameOffset?
        var rangeKey: BoundExpression?
    }

    /// The windows of a WINDOW clause: each is bound here, so that one that nothing refers to is checked too.
    func bindWindows(_ list: Int32, _ scope: Scope) throws(StatementError) {
        for item in plan.list(list) {
            let node = plan[item]
            guard scope.windows[node.name] == nil else {
                throw StatementError(
                    .windowingError, "window \"\(node.name)\" is already defined", position: node.position)
            }
            // It may begin from those before it only, so there is no endless recursion.
            let window = try bindWindow(node.children[0], scope)
            scope.windows[node.name] = window
        }
    }

    private func bindWindow(_ index: Int32, _ scope: Scope) throws(StatementError) -> Window {
        let node = plan[index]
        if node.kind == .windowReference { return try namedWindow(node.name, scope, at: node.position) }
        var window = Window()
        if !node.name.isEmpty {
            window = try namedWindow(node.name, scope, at: node.position)
            try checkCopy(of: window, node)
        }
        for item in plan.list(node.children[0]) {
            window.partition.append(try bindWindowItem(item, scope, "PARTITION BY"))
        }
        for item in plan.list(node.children[1]) {
            let bound = try bindWindowItem(plan[item].children[0], scope, "ORDER BY")
            window.order.append(try sortTerm(plan[item], bound).keyed)
        }
        if node.children[2] != 0 { try bindFrame(plan[node.children[2]], scope, &window) }
        return window
    }

    /// Numbers are constants here, not places of targets.
    private func bindWindowItem(_ index: Int32, _ scope: Scope, _ clause: String) throws(StatementError)
        -> BoundExpression
    {
        let bound = try resolveUnknown(try bindExpression(index, scope, .window), as: .text)
        if clause == "ORDER BY" { try requireOrder(bound, at: plan[index].position) }
        return bound
    }

    private func checkCopy(of window: Window, _ node: LogicalPlan.Node) throws(StatementError) {
        func refuse(_ what: String) -> StatementError {
            StatementError(
                .windowingError, "cannot override \(what) clause of window \"\(node.name)\"", position: node.position)
        }
        if node.children[0] != 0 { throw refuse("PARTITION BY") }
        if node.children[1] != 0, !window.order.isEmpty { throw refuse("ORDER BY") }
        guard window.hasFrame else { return }
        let isBare = node.children[1] == 0 && node.children[2] == 0
        throw StatementError(
            .windowingError, "cannot copy window \"\(node.name)\" because it has a frame clause",
            hint: isBare ? "Omit the parentheses in this OVER clause." : nil, position: node.position)
    }

    private func namedWindow(_ name: String, _ scope: Scope, at position: Int32) throws(StatementError) -> Window {
        guard let window = scope.windows[name] else {
            throw StatementError(.undefinedObject, "window \"\(name)\" does not exist", position: position)
        }
        return window
    }

    // MARK: Frames

    private func bindFrame(_ node: LogicalPlan.Node, _ scope: Scope, _ window: inout Window) throws(StatementError) {
        let modes: [WindowFrame.Mode] = [.range, .rows, .groups]
        let exclusions: [WindowFrame.Exclusion] = [.none, .row, .group, .ties]
        let mode = Int(node.number & 3), exclusion = Int(node.number >> 2)
        guard modes.indices.contains(mode), exclusions.indices.contains(exclusion) else {
            throw unsupported("this window frame", at: node.position)
        }
        let first = plan[node.children[0]], last = plan[node.children[1]]
        window.hasFrame = true
        window.frame = WindowFrame(mode: modes[mode], exclusion: exclusions[exclusion])
        window.frame.start = try bound(first)
        window.frame.end = node.children[1] == 0 ? .current : try bound(last)
        let isMeasured = first.children[0] != 0 || node.children[1] != 0 && last.children[0] != 0
        if window.frame.mode == .groups, window.order.isEmpty {
            throw StatementError(.windowingError, "GROUPS mode requires an ORDER BY clause", position: node.position)
        }
        if window.frame.mode == .range, isMeasured, window.order.count != 1 {
            throw StatementError(
                .windowingError, "RANGE with offset PRECEDING/FOLLOWING requires exactly one ORDER BY column",
                position: node.position)
        }
        window.start = try offset(first, scope, window)
        if node.children[1] != 0 { window.end = try offset(last, scope, window) }
        // One key serves both limits.
        if let limit = (window.start ?? window.end)?.limit {
            window.rangeKey = try coerce(
                window.order[0].expression, to: limit.type, .explicit, at: node.position)
            if let other = window.end?.limit, other.type != limit.type {
                window.end?.limit = try coerce(other, to: limit.type, .explicit, at: node.position)
            }
        }
    }

    private func bound(_ node: LogicalPlan.Node) throws(StatementError) -> WindowFrame.Bound {
        switch (node.number, node.children[0]) {
        case (0, 0): return .unboundedPreceding
        case (1, 1...): return .preceding
        case (2, 0): return .current
        case (3, 1...): return .following
        case (4, 0): return .unboundedFollowing
        case _: throw unsupported("this bound of a window frame", at: node.position)  // No parser writes it.
        }
    }

    private func offset(_ node: LogicalPlan.Node, _ scope: Scope, _ window: Window) throws(StatementError)
        -> FrameOffset?
    {
        guard node.children[0] != 0 else { return nil }
        let position = plan[node.children[0]].position
        let mode = window.frame.mode
        let title = mode == .rows ? "ROWS" : mode == .groups ? "GROUPS" : "RANGE"
        let place: ExpressionPlace = mode == .rows ? .frameRows : mode == .groups ? .frameGroups : .frameRange
        var distance = try bindExpression(node.children[0], scope, place)
        if mode != .range {
            distance = try resolveUnknown(distance, as: .int64)
            guard Casts.find(from: distance.type, to: .int64, .assignment, at: position) != nil else {
                throw StatementError(
                    .datatypeMismatch,
                    "argument of \(title) must be type bigint, not type \(distance.type.title)", position: position)
            }
            distance = try coerce(distance, to: .int64, .assignment, at: position)
        }
        guard distance.attributes.isDisjoint(with: scope.ownAttributes) else {
            throw StatementError(
                .invalidColumnReference, "argument of \(title) must not contain variables", position: position)
        }
        guard mode == .range else { return FrameOffset(distance: distance) }
        return try rangeOffset(distance, isPreceding: node.number == 1, window.order[0], at: position)
    }

    /// How far a range reaches, in what is added to a value of the order: a number for numbers, an interval for times.
    private func rangeOffset(
        _ given: BoundExpression, isPreceding: Bool, _ term: SortTerm, at position: Int32
    ) throws(StatementError) -> FrameOffset {
        var distance = given, key = term.expression
        let wanted: DataType
        switch key.type.isArray ? .unknown : key.type.kind {
        // One kind wider than the column: no value is so large that the limit would not be one.
        case .int16, .int32: wanted = .int64
        case .int64, .decimal: wanted = .decimal
        case .float32, .float64: wanted = .float64
        case .date, .timestamp, .timestampWithZone, .interval: wanted = .interval
        case _:  // No others can be measured.
            throw StatementError(
                .featureNotSupported,
                "RANGE with offset PRECEDING/FOLLOWING is not supported for column type \(key.type.title)",
                position: key.position == 0 ? position : key.position)
        }
        let isUnknown = distance.type.kind == .unknown && !distance.type.isArray
        if isUnknown {
            // A literal is read as a distance of this column would be.
            let bare = key.type.unconstrained
            let isOfKind = wanted == .interval || wanted == .float64
            distance = try resolveUnknown(distance, as: isOfKind ? wanted : bare)
        }
        let fits: Bool =
            switch key.type.kind {
            case .int16, .int32, .int64: [.int16, .int32, .int64].contains(distance.type.kind)
            case .decimal: Casts.isImplicit(from: distance.type, to: .decimal)
            case .float32, .float64: Casts.isImplicit(from: distance.type, to: .float64)
            case _: distance.type.kind == .interval  // Dates and times.
            }
        guard fits, !distance.type.isArray else {
            throw StatementError(
                .featureNotSupported,
                "RANGE with offset PRECEDING/FOLLOWING is not supported for column type \(key.type.title) and offset "
                    + "type \(distance.type.title)", hint: "Cast the offset value to an appropriate type.",
                position: position)
        }
        distance = try coerce(distance, to: wanted, .implicit, at: position)
        // A day and an interval make a moment.
        let measured = wanted == .interval && key.type.kind == .date ? .timestamp : wanted
        if measured != .interval { key = try coerce(key, to: measured, .implicit, at: position) }
        let zero = try resolveUnknown(.constant(.text("0"), .unknown), as: wanted)
        let isNegative = try bindOperator("<", distance, zero, at: position)
        let name = isPreceding == term.isDescending ? "+" : "-"
        let limit = try bindOperator(name, key, distance, at: position)
        return FrameOffset(distance: distance, isNegative: isNegative, limit: limit)
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
                guard let type = try? binder.commonType([given[0], given[2]], place: "anycompatible", at: position)
                else { throw binder.failure(.none, rawValue, arguments.map(\.type), at: position) }
                given[0] = try binder.coerce(given[0], to: type, .implicit, at: position)
                given[2] = try binder.coerce(given[2], to: type, .implicit, at: position)
            }
            return (given, given[0].type)
        }
    }
}
