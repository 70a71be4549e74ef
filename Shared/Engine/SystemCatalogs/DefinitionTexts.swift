import Base
import Contracts
import DataModel

/// Objects of the catalog as the statements that would make them.
extension SystemCatalog {
    /// What a column gets if nothing is said.
    func defaultText(_ attribute: RelationColumn, isPretty: Bool) -> String? {
        let column = attribute.column
        if let stored = column.defaultValue {
            return ExpressionText.text(stored, of: nil, type: column.type, settings, isPretty: isPretty)
        }
        guard attribute.isSerial, let sequence = column.sequence else { return nil }
        let name = SQLWriter.literal(ObjectNames(self).relation(sequence.rawValue))
        return "nextval(\(name)::regclass)"
    }

    /// The condition of a CHECK; in parentheses of its own, if it is one that has some.
    func checkText(_ constraint: TableConstraint, isPretty: Bool) -> String? {
        guard case .check(let check) = constraint.form else { return nil }
        return "(" + conditionText(check, constraint.table, isPretty: isPretty) + ")"
    }

    private func conditionText(
        _ check: CollectionDescriptor.Check, _ table: CollectionDescriptor, isPretty: Bool
    ) -> String {
        ExpressionText.text(check.condition, of: table, type: .bool, settings, isPretty: isPretty)
    }

    func definition(of constraint: TableConstraint, isPretty: Bool) -> String {
        switch constraint.form {
        case .primaryKey: return "PRIMARY KEY (\(names(constraint.columns, constraint.table)))"
        case .unique: return "UNIQUE (\(names(constraint.columns, constraint.table)))"
        case .check: return "CHECK " + (checkText(constraint, isPretty: isPretty) ?? "()")
        case .foreignKey(let key):
            guard let target = catalog.collection(key.target) else { return "" }
            let name = ObjectNames(self).relation(target.id.rawValue, isAlwaysQualified: !isPretty)
            var text = "FOREIGN KEY (\(names(key.columns, constraint.table))) REFERENCES "
            text += "\(name)(\(names(key.targetColumns, target)))"
            if key.onUpdate != .noAction { text += " ON UPDATE \(key.onUpdate.title)" }
            if key.onDelete != .noAction { text += " ON DELETE \(key.onDelete.title)" }
            return text
        }
    }

    private func names(_ columns: [ColumnID], _ table: CollectionDescriptor) -> String {
        columns.compactMap { table.column($0).map { SQLWriter.quoted($0.name) } }.joined(separator: ", ")
    }

    /// `column` counts from 1; 0: the whole statement.
    func definition(of index: IndexRelation, column: Int = 0, isPretty: Bool = false) -> String {
        var parts: [String] = []
        for part in index.parts {
            let name = index.table.column(part.column).map { SQLWriter.quoted($0.name) } ?? ""
            parts.append(column == 0 && part.isDescending ? name + " DESC" : name)
        }
        if column != 0 { return parts.indices.contains(column - 1) ? parts[column - 1] : "" }
        let table = ObjectNames(self).relation(index.table.id.rawValue, isAlwaysQualified: !isPretty)
        return "CREATE \(index.isUnique ? "UNIQUE " : "")INDEX \(SQLWriter.quoted(index.name)) ON \(table) "
            + "USING btree (\(parts.joined(separator: ", ")))"
    }

    /// The query of a view.
    func viewDefinition(_ relation: Relation) -> String? {
        relation.collection.query.map { " " + $0.text + ";" }
    }

    /// What `pg_get_expr` makes of something that stands for an expression.
    func text(of node: String, isPretty: Bool) -> String? {
        switch StoredNode(node) {
        case .none: return node
        case .columnDefault(let relation, let column):
            guard let table = self.relation(relation), let found = table.collection.column(ColumnID(rawValue: column))
            else { return nil }
            return defaultText(RelationColumn(relation: table, column: found, number: column), isPretty: isPretty)
        case .check(let number):
            guard let constraint = constraint(number), case .check(let check) = constraint.form else { return nil }
            return conditionText(check, constraint.table, isPretty: isPretty)
        }
    }
}
