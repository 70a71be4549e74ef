import Base
import Contracts
import DataModel

/// ALTER COLUMN … TYPE.
extension DefinitionPlanner {
    mutating func setType(
        _ node: LogicalPlan.Node, of table: inout CollectionDescriptor, _ work: inout TableWork
    ) throws(StatementError) {
        guard let position = table.columns.firstIndex(where: { $0.name.utf8.elementsEqual(node.name.utf8) }) else {
            throw StatementError(
                .undefinedColumn, "column \"\(node.name)\" of relation \"\(table.name)\" does not exist")
        }
        let column = table.columns[position], type = try resolvedType(plan, node.children[0])
        // Without COLLATE it is that of the type again.
        let collation = try collation(node.children[1], of: type)
        if column.identity != .none, ![.int16, .int32, .int64].contains(type.kind) || type.isArray {
            throw StatementError(
                .invalidParameterValue, "identity column type must be smallint, integer, or bigint")
        }
        if column.type != type || column.collation != collation { try refuseViews(reading: work.before, column) }
        let cast = Casts.context(from: column.type, to: type)
        let isAssignable = column.type.unconstrained == type.unconstrained || cast.map { $0 <= .assignment } ?? false
        guard isAssignable || node.children[2] != 0 else {
            throw StatementError(
                .datatypeMismatch,
                "column \"\(column.name)\" cannot be cast automatically to type \(type.title)",
                hint: "You might need to specify \"USING \(column.name)::\(type.formatted)\".")
        }
        guard column.defaultValue == nil || isAssignable else {
            throw StatementError(
                .datatypeMismatch,
                "default for column \"\(column.name)\" cannot be cast automatically to type \(type.title)")
        }
        table.columns[position].type = type
        table.columns[position].collation = collation
        if column.collation != collation {
            // No value is another one; but a condition on their order may be.
            work.checks += table.checks.filter { usesColumn(column.name, $0.condition) }.map(\.name)
        }
        if node.children[2] != 0 {
            work.values[column.id] = try stored(transform: node.children[2], of: work.before)
            work.isRewrite = true
        } else if !Self.keepsValues(from: column.type, to: type) {
            work.isRewrite = true
        }
    }

    /// What COLLATE says of a column; nil if it says nothing, or no more than the type does.
    func collation(_ index: Int32, of type: DataType) throws(StatementError) -> Collation? {
        guard index != 0 else { return nil }
        var parts: [String] = [], current = index
        while current != 0, plan[current].kind == .name {
            parts.insert(plan[current].name, at: 0)
            current = plan[current].children.first ?? 0
        }
        let position = plan[index].position
        let found = try Collation.named(parts, hasNamespace: catalog.hasNamespace, at: position)
        guard let usual = Collation.of(type) else {
            throw StatementError(
                .datatypeMismatch, "collations are not supported by type \(type.title)", position: position)
        }
        return found == usual ? nil : found
    }

    /// Whether every value of the one type is the same value of the other, in records and in keys.
    static func keepsValues(from old: DataType, to new: DataType) -> Bool {
        if old == new { return true }
        guard !old.isArray, !new.isArray else { return false }
        let integers: [DataType.Kind] = [.int16, .int32, .int64], texts: [DataType.Kind] = [.text, .varchar]
        if let from = integers.firstIndex(of: old.kind), let to = integers.firstIndex(of: new.kind) {
            return from <= to
        }
        if texts.contains(old.kind), texts.contains(new.kind) {
            return new.modifier < 0 || old.kind == new.kind && old.modifier >= 0 && new.modifier >= old.modifier
        }
        return old.kind == .decimal && new.kind == .decimal && new.modifier < 0
    }
}
