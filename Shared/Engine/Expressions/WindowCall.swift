import DataModel

/// Which rows of its partition a window function sees, as seen from the row that it is computed for.
struct WindowFrame: Hashable, Sendable {
    /// What `preceding` and `following` count: rows, values of the order, or groups of equal rows.
    enum Mode: Hashable, Sendable { case rows, range, groups }
    enum Bound: Hashable, Sendable { case unboundedPreceding, preceding, current, following, unboundedFollowing }
    /// Rows that are left out: the one itself, it and its equals, its equals alone.
    enum Exclusion: Hashable, Sendable { case none, row, group, ties }

    var mode = Mode.range
    var start = Bound.unboundedPreceding
    var end = Bound.current
    var exclusion = Exclusion.none
}

/// How far from the row a bound of a frame lies. Nothing here depends on a row of the query but `limit`.
struct FrameOffset: Sendable {
    var distance: BoundExpression
    /// Of a range: whether the distance is negative, and the value of the order where the frame begins or ends.
    var isNegative: BoundExpression?
    var limit: BoundExpression?

    fileprivate var operands: [BoundExpression] { [distance, isNegative, limit].compactMap { $0 } }

    fileprivate mutating func replace(_ next: () -> BoundExpression?) {
        distance = next() ?? distance
        if isNegative != nil { isNegative = next() }
        if limit != nil { limit = next() }
    }
}

/// A window function where it stands.
struct WindowCall: Sendable {
    enum Function: Sendable {
        case native(WindowFunction)
        case aggregate(AggregateFunction)
    }

    let function: Function
    var arguments: [BoundExpression]
    var filter: BoundExpression?
    var partition: [BoundExpression]
    var order: [SortTerm]
    let frame: WindowFrame
    var start: FrameOffset?
    var end: FrameOffset?
    /// What the limits of a range are compared with: the value of the order, in their type.
    var rangeKey: BoundExpression?
    let type: DataType

    var operands: [BoundExpression] {
        var all = arguments + partition + order.map(\.expression)
        all += (start?.operands ?? []) + (end?.operands ?? [])
        return all + [filter, rangeKey].compactMap { $0 }
    }

    func replacingOperands(_ fresh: [BoundExpression]) -> WindowCall {
        var call = self, rest = fresh[...]
        func next() -> BoundExpression? { rest.popFirst() }
        for index in arguments.indices { call.arguments[index] = next() ?? arguments[index] }
        for index in partition.indices { call.partition[index] = next() ?? partition[index] }
        for index in order.indices { call.order[index].expression = next() ?? order[index].expression }
        call.start?.replace(next)
        call.end?.replace(next)
        if filter != nil { call.filter = next() }
        if rangeKey != nil { call.rangeKey = next() }
        return call
    }

    /// Whether both see the rows in the same order.
    func hasSameOrder(as other: WindowCall) -> Bool {
        partition.count == other.partition.count && order.count == other.order.count
            && zip(partition, other.partition).allSatisfy { $0.isSame(as: $1) }
            && zip(order, other.order).allSatisfy {
                $0.expression.isSame(as: $1.expression) && $0.isDescending == $1.isDescending
                    && $0.isNullsFirst == $1.isNullsFirst
            }
    }

    func isSame(as other: WindowCall) -> Bool {
        switch (function, other.function) {
        case (.native(let left), .native(let right)): guard left == right else { return false }
        case (.aggregate(let left), .aggregate(let right)): guard left === right else { return false }
        case (.native, .aggregate), (.aggregate, .native): return false
        }
        let mine = operands, theirs = other.operands
        return hasSameOrder(as: other) && frame == other.frame && arguments.count == other.arguments.count
            && (filter == nil) == (other.filter == nil) && mine.count == theirs.count
            && zip(mine, theirs).allSatisfy { $0.isSame(as: $1) }
    }
}
