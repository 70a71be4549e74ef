import Base
import Contracts
import DataModel

/// ALTER of tables, sequences and schemas.
extension DefinitionPlanner {
    mutating func alter(_ node: LogicalPlan.Node) throws(StatementError) -> String {
        guard let object = PlanObject(rawValue: node.number) else { throw Self.unsupported("ALTER of this") }
        if object == .database {
            try alterDatabase(node)
            return "ALTER DATABASE"
        }
        let actions = plan.list(node.children[1])
        if actions.count == 1, plan[actions[0]].kind == .setOwner { return try alterOwner(node, object, actions[0]) }
        guard object == .table else { throw Self.unsupported("ALTER " + "\(object)".uppercased()) }
        let name = try qualifiedName(node.children[0])
        guard var table = try find(name) else {
            let text = "relation \"\(name.text)\" does not exist"
            guard node.flags.contains(.isConditional) else {
                throw StatementError(.undefinedTable, text)
            }
            notices.append(StatementError(.undefinedTable, text + ", skipping"))
            return "ALTER TABLE"
        }
        guard table.kind == .table, table.entriesOf == nil else {
            throw StatementError(.wrongObjectType, "\"\(table.name)\" is not a table")
        }
        var work = TableWork(table)
        for action in plan.list(node.children[1]) { try alter(&table, action, &work) }
        try finish(&table, work)
        return "ALTER TABLE"
    }

    private mutating func alter(
        _ table: inout CollectionDescriptor, _ action: Int32, _ work: inout TableWork
    ) throws(StatementError) {
        let node = plan[action]
        switch node.kind {
        case .addColumn: try add(node, to: &table, &work)
        case .dropColumn: try dropColumn(node, of: &table, &work)
        case .setColumnType: try setType(node, of: &table, &work)
        case .renameConstraint: try renameConstraint(node, of: &table)
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
                work.notNull.append(table.columns[position].id)
                table.columns[position].isNotNull = true
            }
        case .addConstraint: try add(constraint: node.children[0], to: &table, nil, &work)
        case .dropConstraint: try dropConstraint(node, of: &table, &work)
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

    /// Adds a constraint that the rows which are there must meet too.
    private mutating func add(
        constraint index: Int32, to table: inout CollectionDescriptor, _ column: CollectionDescriptor.Column?,
        _ work: inout TableWork
    ) throws(StatementError) {
        if plan[index].flags.contains(.isWithoutData) { throw Self.unsupported("NOT VALID", at: plan[index].position) }
        try add(constraint: index, to: &table, column: column)
        switch plan[index].kind {
        case .primaryKeyConstraint: work.isRewrite = true
        case .checkConstraint: if let check = table.checks.last { work.checks.append(check.name) }
        case _: break  // The entries of a new index are filled.
        }
    }

    /// Records from before have no such field. What it is in them is either one value, which the descriptor keeps, or
    /// they are written anew.
    private mutating func add(
        _ node: LogicalPlan.Node, to table: inout CollectionDescriptor, _ work: inout TableWork
    ) throws(StatementError) {
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
        column.id = table.nextColumn
        table.nextColumn = ColumnID(rawValue: table.nextColumn.rawValue + 1)
        if !draft.sequences.isEmpty {
            work.mustBeEmpty = "ADD COLUMN with numbers of a sequence to a table that has rows is not supported"
        } else if let stored = column.defaultValue {
            if let value = try constant(stored, for: column) {
                column.missing = value.isNull ? nil : value
            } else {
                work.isRewrite = true
            }
            work.values[column.id] = stored
        }
        if column.isNotNull, column.missing == nil, draft.sequences.isEmpty { work.notNull.append(column.id) }
        for (_, sequence, _) in draft.sequences {
            column.sequence = try create(sequence, for: name, of: table.name, in: table.namespace)
        }
        table.columns.append(column)
        for (index, _) in draft.columnConstraints { try add(constraint: index, to: &table, column, &work) }
    }

    private mutating func dropColumn(
        _ node: LogicalPlan.Node, of table: inout CollectionDescriptor, _ work: inout TableWork
    ) throws(StatementError) {
        guard let position = table.columns.firstIndex(where: { $0.name.utf8.elementsEqual(node.name.utf8) }) else {
            let text = "column \"\(node.name)\" of relation \"\(table.name)\" does not exist"
            guard node.flags.contains(.isConditional) else { throw StatementError(.undefinedColumn, text) }
            return notices.append(StatementError(.undefinedColumn, text + ", skipping"))
        }
        let column = table.columns[position]
        // The rows keep the keys they have; they mean nothing any more.
        if table.primaryKey.contains(column.id) { (table.primaryKey, table.primaryKeyName) = ([], "") }
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
            drop(index: index, of: &table, &work)
        }
        if let sequence = column.sequence { drop(sequence) }
        work.notNull.removeAll { $0 == column.id }
        table.columns.remove(at: position)
    }

    func usesColumn(_ name: String, _ expression: StoredExpression) -> Bool {
        let plan = try? expression.plan.withView { try LogicalPlan(decoding: $0) }
        return plan?.nodes.contains { $0.kind == .columnReference && $0.name.utf8.elementsEqual(name.utf8) } ?? true
    }

    private mutating func renameColumn(
        _ node: LogicalPlan.Node, of table: inout CollectionDescriptor
    ) throws(StatementError) {
        guard table.column(named: node.name) != nil else {
            throw StatementError(.undefinedColumn, "column \"\(node.name)\" does not exist")
        }
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

    private mutating func renameConstraint(
        _ node: LogicalPlan.Node, of table: inout CollectionDescriptor
    ) throws(StatementError) {
        let name = plan[node.children[0]].name
        func isNamed(_ other: String) -> Bool { other.utf8.elementsEqual(node.name.utf8) }
        let isRelation = isNamed(table.primaryKeyName) || table.indexes.contains { isNamed($0.name) }
        guard !isRelation || !isTaken(name, in: table.namespace) else {
            throw StatementError(.duplicateTable, "relation \"\(name)\" already exists")
        }
        guard !table.checks.contains(where: { $0.name.utf8.elementsEqual(name.utf8) }) else {
            throw StatementError(
                .duplicateObject, "constraint \"\(name)\" for relation \"\(table.name)\" already exists")
        }
        if !table.primaryKey.isEmpty, isNamed(table.primaryKeyName) {
            table.primaryKeyName = name
        } else if let place = table.checks.firstIndex(where: { isNamed($0.name) }) {
            table.checks[place].name = name
        } else if let place = table.indexes.firstIndex(where: { $0.isConstraint && isNamed($0.name) }) {
            table.indexes[place].name = name
            guard let id = table.indexes[place].entries, var entries = catalog.collection(id) else { return }
            entries.name = name
            put(entries)
        } else {
            throw StatementError(
                .undefinedObject, "constraint \"\(node.name)\" for table \"\(table.name)\" does not exist")
        }
    }

    private mutating func dropConstraint(
        _ node: LogicalPlan.Node, of table: inout CollectionDescriptor, _ work: inout TableWork
    ) throws(StatementError) {
        if let position = table.checks.firstIndex(where: { $0.name.utf8.elementsEqual(node.name.utf8) }) {
            table.checks.remove(at: position)
        } else if let index = table.indexes.first(where: {
            $0.isConstraint && $0.name.utf8.elementsEqual(node.name.utf8)
        }) {
            drop(index: index, of: &table, &work)
        } else if !table.primaryKey.isEmpty, table.primaryKeyName.utf8.elementsEqual(node.name.utf8) {
            (table.primaryKey, table.primaryKeyName) = ([], "")
        } else {
            let text = "constraint \"\(node.name)\" of relation \"\(table.name)\" does not exist"
            guard node.flags.contains(.isConditional) else { throw StatementError(.undefinedObject, text) }
            notices.append(StatementError(.undefinedObject, text + ", skipping"))
        }
    }
}
