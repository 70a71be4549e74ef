import Base
import Contracts
import DataModel

/// ALTER of tables, sequences and schemas.
extension DefinitionPlanner {
    mutating func alter(_ node: LogicalPlan.Node) throws(StatementError) -> String {
        guard let object = PlanObject(rawValue: node.number) else { throw Self.unsupported("ALTER of this") }
        guard object == .table else { throw Self.unsupported("ALTER " + "\(object)".uppercased()) }
        let name = try qualifiedName(node.children[0])
        guard var table = try find(name) else {
            let text = "relation \"\(name.text)\" does not exist"
            guard node.flags.contains(.isConditional) else {
                throw StatementError(.undefinedTable, text, position: name.position)
            }
            notices.append(StatementError(.undefinedTable, text + ", skipping"))
            return "ALTER TABLE"
        }
        guard table.kind == .table, table.entriesOf == nil else {
            throw StatementError(.wrongObjectType, "\"\(table.name)\" is not a table")
        }
        for action in plan.list(node.children[1]) { try alter(&table, action) }
        try makeEntries(of: &table)
        put(table)
        try renameInViews(table)
        return "ALTER TABLE"
    }

    private mutating func alter(_ table: inout CollectionDescriptor, _ action: Int32) throws(StatementError) {
        let node = plan[action]
        switch node.kind {
        case .addColumn: try add(node, to: &table)
        case .dropColumn: try dropColumn(node, of: &table)
        case .renameColumn: try renameColumn(node, of: &table)
        case .rename:
            let name = plan[node.children[0]].name
            guard !isTaken(name, in: table.namespace) else {
                throw StatementError(.duplicateTable, "relation \"\(name)\" already exists")
            }
            table.name = name
        case .setSchema:
            let target = try namespace(named: node.name)
            guard !isTaken(table.name, in: target.id) else {
                throw StatementError(
                    .duplicateTable, "relation \"\(table.name)\" already exists in schema \"\(node.name)\"")
            }
            table.namespace = target.id
            for index in table.indexes {
                guard let id = index.entries, var entries = catalog.collection(id) else { continue }
                guard !isTaken(index.name, in: target.id) else {
                    throw StatementError(
                        .duplicateTable, "relation \"\(index.name)\" already exists in schema \"\(node.name)\"")
                }
                entries.namespace = target.id
                put(entries)
            }
        case .setColumnDefault:
            let position = try column(node.name, of: table)
            guard table.columns[position].identity == .none else {
                throw StatementError(
                    .syntaxError,
                    "column \"\(node.name)\" of relation \"\(table.name)\" is an identity column")
            }
            table.columns[position].sequence = nil
            table.columns[position].defaultValue =
                node.children[0] == 0 ? nil : try stored(defaultValue: node.children[0], of: table.columns[position])
        case .setColumnNotNull:
            let position = try column(node.name, of: table)
            if node.flags.contains(.isNegated) {
                guard !table.primaryKey.contains(table.columns[position].id) else {
                    throw StatementError(
                        .invalidTableDefinition, "column \"\(node.name)\" is in a primary key")
                }
                table.columns[position].isNotNull = false
            } else if !table.columns[position].isNotNull {
                mustBeEmpty(table.id, "SET NOT NULL on a table that has rows is not supported")
                table.columns[position].isNotNull = true
            }
        case .addConstraint:
            if plan[node.children[0]].kind == .primaryKeyConstraint {
                mustBeEmpty(table.id, "ADD PRIMARY KEY to a table that has rows is not supported")
            } else {
                mustBeEmpty(table.id, "ADD CONSTRAINT to a table that has rows is not supported")
            }
            try add(constraint: node.children[0], to: &table, column: nil)
        case .dropConstraint: try dropConstraint(node, of: &table)
        case _: throw Self.unsupported("ALTER TABLE … \(node.kind)", at: node.position)
        }
    }

    private func column(_ name: String, of table: CollectionDescriptor) throws(StatementError) -> Int {
        guard let position = table.columns.firstIndex(where: { $0.name.utf8.elementsEqual(name.utf8) }) else {
            throw StatementError(
                .undefinedColumn, "column \"\(name)\" of relation \"\(table.name)\" does not exist")
        }
        return position
    }

    /// Records from before have no such field: the column is NULL in them, so that is what it must be allowed to be.
    private mutating func add(_ node: LogicalPlan.Node, to table: inout CollectionDescriptor) throws(StatementError) {
        let definition = node.children[0], name = plan[definition].name
        if table.column(named: name) != nil {
            let text = "column \"\(name)\" of relation \"\(table.name)\" already exists"
            guard node.flags.contains(.isConditional) else { throw StatementError(.duplicateColumn, text) }
            return notices.append(StatementError(.duplicateColumn, text + ", skipping"))
        }
        var draft = TableDraft(name: table.name, namespace: table.namespace)
        try add(column: definition, to: &draft)
        guard var column = draft.columns.first, table.nextColumn.rawValue < 1600 else {
            throw StatementError(.tooManyColumns, "tables can have at most 1600 columns")
        }
        if column.isNotNull || column.defaultValue != nil || !draft.sequences.isEmpty {
            mustBeEmpty(
                table.id, "ADD COLUMN with NOT NULL or a default to a table that has rows is not supported")
        }
        column.id = table.nextColumn
        table.nextColumn = ColumnID(rawValue: table.nextColumn.rawValue + 1)
        for (_, sequence, _) in draft.sequences {
            column.sequence = try create(sequence, for: name, of: table.name, in: table.namespace)
        }
        table.columns.append(column)
        for (index, _) in draft.columnConstraints {
            mustBeEmpty(table.id, "ADD COLUMN with a constraint to a table that has rows is not supported")
            try add(constraint: index, to: &table, column: column)
        }
    }

    private mutating func dropColumn(
        _ node: LogicalPlan.Node, of table: inout CollectionDescriptor
    ) throws(StatementError) {
        guard let position = table.columns.firstIndex(where: { $0.name.utf8.elementsEqual(node.name.utf8) }) else {
            let text = "column \"\(node.name)\" of relation \"\(table.name)\" does not exist"
            guard node.flags.contains(.isConditional) else { throw StatementError(.undefinedColumn, text) }
            return notices.append(StatementError(.undefinedColumn, text + ", skipping"))
        }
        let column = table.columns[position]
        guard !table.primaryKey.contains(column.id) else {
            throw Self.unsupported("DROP COLUMN of a part of the primary key", at: node.position)
        }
        if let check = table.checks.first(where: { usesColumn(column.name, $0.condition) }) {
            guard node.flags.contains(.isCascade) else {
                throw StatementError(
                    .dependentObjectsStillExist,
                    "cannot drop column \(column.name) of table \(table.name) because other objects depend on it",
                    detail: "constraint \(check.name) on table \(table.name) depends on column \(column.name)",
                    hint: "Use DROP ... CASCADE to drop the dependent objects too.")
            }
            table.checks.removeAll { usesColumn(column.name, $0.condition) }
        }
        try dropViews(reading: table, column: column, isCascade: node.flags.contains(.isCascade))
        for index in table.indexes where index.parts.contains(where: { $0.column == column.id }) {
            drop(index: index, of: &table)
        }
        if let sequence = column.sequence { drop(sequence) }
        table.columns.remove(at: position)
    }

    private func usesColumn(_ name: String, _ expression: StoredExpression) -> Bool {
        let plan = try? expression.plan.withView { try LogicalPlan(decoding: $0) }
        return plan?.nodes.contains { $0.kind == .columnReference && $0.name.utf8.elementsEqual(name.utf8) } ?? true
    }

    private mutating func renameColumn(
        _ node: LogicalPlan.Node, of table: inout CollectionDescriptor
    ) throws(StatementError) {
        let position = try column(node.name, of: table), name = plan[node.children[0]].name
        guard table.column(named: name) == nil else {
            throw StatementError(
                .duplicateColumn, "column \"\(name)\" of relation \"\(table.name)\" already exists")
        }
        // Checks name columns in words: they would have to be written anew.
        guard !table.checks.contains(where: { usesColumn(node.name, $0.condition) }) else {
            throw Self.unsupported("RENAME COLUMN of a column that a check uses", at: node.position)
        }
        table.columns[position].name = name
    }

    private mutating func dropConstraint(
        _ node: LogicalPlan.Node, of table: inout CollectionDescriptor
    ) throws(StatementError) {
        if let position = table.checks.firstIndex(where: { $0.name.utf8.elementsEqual(node.name.utf8) }) {
            table.checks.remove(at: position)
        } else if let index = table.indexes.first(where: {
            $0.isConstraint && $0.name.utf8.elementsEqual(node.name.utf8)
        }) {
            drop(index: index, of: &table)
        } else if !table.primaryKey.isEmpty, table.primaryKeyName.utf8.elementsEqual(node.name.utf8) {
            throw Self.unsupported("DROP CONSTRAINT of a primary key", at: node.position)
        } else {
            let text = "constraint \"\(node.name)\" of relation \"\(table.name)\" does not exist"
            guard node.flags.contains(.isConditional) else { throw StatementError(.undefinedObject, text) }
            notices.append(StatementError(.undefinedObject, text + ", skipping"))
        }
    }
}
