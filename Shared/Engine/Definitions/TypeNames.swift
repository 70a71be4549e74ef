import Base
import Contracts
import DataModel

/// The type that the `typeName` at `index` means; errors as PostgreSQL's.
package func resolvedType(_ plan: LogicalPlan, _ index: Int32) throws(StatementError) -> DataType {
    let node = plan[index]
    guard node.kind == .typeName else {
        throw StatementError(.internalError, "\(node.kind) is no name of a type", position: Int(node.position))
    }
    let qualifier = plan[node.children.first ?? 0]
    var shown = node.name
    if qualifier.kind != .none { shown = qualifier.name + "." + node.name }
    if node.flags.contains(.isAll) {
        throw StatementError(
            .featureNotSupported, "SETOF \(shown) is not supported here", position: Int(node.position))
    }
    if node.flags.contains(.isMarked) {
        throw StatementError(.featureNotSupported, "\(shown)%TYPE is not supported", position: Int(node.position))
    }
    let isOurs = qualifier.kind == .none || qualifier.name.utf8.elementsEqual("pg_catalog".utf8)
    guard isOurs, var type = PostgresTypes.type(named: node.name) else {
        throw StatementError(
            .undefinedObject, "type \"\(shown)\" does not exist", position: Int(node.position))
    }
    let modifiers = plan.list(node.children.count > 1 ? node.children[1] : 0)
    do throws(StatementError) {
        type = try constrained(type, by: modifiers, plan)
    } catch {
        var error = error
        if error.position == 0 { error.position = Int(node.position) }
        throw error
    }
    guard node.number > 0 else { return type }
    guard !type.isArray else {
        throw StatementError(
            .undefinedObject, "type \"\(shown)[]\" does not exist", position: Int(node.position))
    }
    return type.array
}

private func constrained(
    _ type: DataType, by modifiers: [Int32], _ plan: LogicalPlan
) throws(StatementError) -> DataType {
    guard !modifiers.isEmpty else { return type }
    var numbers: [Int32] = []
    for index in modifiers {
        let value = plan[index]
        guard value.kind == .integer, let number = Int32(exactly: value.number) else {
            throw StatementError(
                .syntaxError, "type modifiers must be simple constants or identifiers",
                position: Int(value.position))
        }
        numbers.append(number)
    }
    // An interval says its fields first.
    if type.kind == .interval, let mask = numbers.first {
        let fields = IntervalFields(mask: mask, precision: numbers.count > 1 ? numbers[1] : nil)
        return DataType(type.kind, modifier: fields.modifier, isArray: type.isArray)
    }
    return try type.constrained(by: numbers)
}

/// What a `typeName` of a plan means beside types.
extension LogicalPlan {
    /// Words that are no types, but a column's way to say that it counts.
    private static let serials: [String: DataType] = [
        "serial": .int32, "serial4": .int32, "bigserial": .int64, "serial8": .int64, "smallserial": .int16,
        "serial2": .int16,
    ]

    /// The type of a `serial` column; nil for every other.
    func serial(_ index: Int32) -> DataType? {
        let node = self[index]
        guard node.kind == .typeName, node.number == 0, node.children.allSatisfy({ $0 == 0 }) else { return nil }
        return Self.serials[node.name]
    }

    /// `SELECT` of the expression at `index` alone: how the catalog keeps expressions, since a plan is a statement.
    func extracted(_ index: Int32) -> LogicalPlan {
        var nodes = [Node(.none)]
        func copy(_ index: Int32) -> Int32 {
            guard index != 0 else { return 0 }
            var node = self[index]
            node.children = node.children.map(copy)
            node.position = 0
            nodes.append(node)
            return Int32(nodes.count - 1)
        }
        func add(_ node: Node) -> Int32 {
            nodes.append(node)
            return Int32(nodes.count - 1)
        }
        let target = add(Node(.target, [copy(index)]))
        let targets = add(Node(.list, [target]))
        let root = add(Node(.select, [0, 0, targets] + [Int32](repeating: 0, count: 9)))
        return LogicalPlan(dialect: dialect, nodes: nodes, root: root)
    }
}
