import Base
import Contracts
import DataModel

/// CREATE TABLE.
extension DefinitionPlanner {
    mutating func createTable(_ node: LogicalPlan.Node) throws(StatementError) {
        if node.flags.contains(.isTemporary) { throw Self.unsupported("CREATE TEMPORARY TABLE") }
        if node.flags.contains(.isUnlogged) { throw Self.unsupported("CREATE UNLOGGED TABLE") }
        if node.number != 0 { throw Self.unsupported("ON COMMIT of a table") }
        let name = try qualifiedName(node.children[0])
        let namespace = try target(name)
        if isTaken(name.name, in: namespace.id) {
            let error = StatementError(.duplicateTable, "relation \"\(name.name)\" already exists")
            guard node.flags.contains(.isConditional) else { throw error }
            return notices.append(
                StatementError(.duplicateTable, "relation \"\(name.name)\" already exists, skipping"))
        }
        try checkOptions(try withoutKeyOption(plan.list(node.children[2])))
        var draft = TableDraft(name: name.name, namespace: namespace.id)
        for element in plan.list(node.children[1]) {
            switch plan[element].kind {
            case .columnDefinition: try add(column: element, to: &draft)
            case .likeTable: throw Self.unsupported("LIKE in CREATE TABLE", at: plan[element].position)
            case _: draft.constraints.append(element)
            }
        }
        try create(&draft)
    }

    /// `resp_keys` says what becomes of keys of Redis that would name records of the table.
    private mutating func withoutKeyOption(_ options: [Int32]) throws(StatementError) -> [Int32] {
        var others: [Int32] = []
        for option in options {
            let node = plan[option], value = plan[node.children.first ?? 0]
            guard node.name == "resp_keys" else {
                others.append(option)
                continue
            }
            switch value.name {
            case "hide": hidesKeys = true
            case "import": throw Self.unsupported("resp_keys = 'import'", at: node.position)
            case _:
                throw StatementError(
                    .invalidParameterValue, "invalid value for enum option \"resp_keys\": \(value.name)",
                    detail: "Valid values are \"hide\" and \"import\".")
            }
        }
        return others
    }

    /// Storage parameters. How full a page is made means nothing where there are no pages; it is checked, since tools
    /// give it, and nothing else is taken.
    func checkOptions(_ options: [Int32]) throws(StatementError) {
        for option in options {
            let node = plan[option], value = plan[node.children.first ?? 0]
            guard node.name == "fillfactor" else {
                throw StatementError(.invalidParameterValue, "unrecognized parameter \"\(node.name)\"")
            }
            guard value.kind == .integer else {
                throw StatementError(
                    .invalidParameterValue, "invalid value for integer option \"fillfactor\": \(value.name)")
            }
            guard 10...100 ~= value.number else {
                throw StatementError(
                    .invalidParameterValue, "value \(value.number) out of bounds for option \"fillfactor\"",
                    detail: "Valid values are between \"10\" and \"100\".")
            }
        }
    }

    /// A table while its parts are read.
    struct TableDraft {
        var name: String
        var namespace: NamespaceID
        var columns: [CollectionDescriptor.Column] = []
        /// Of columns that draw from a sequence, what that is: by the column's name.
        var sequences: [(column: Int, sequence: CollectionDescriptor.Sequence, isSerial: Bool)] = []
        /// Nodes of constraints, with the column that they stand at.
        var columnConstraints: [(node: Int32, column: Int)] = []
        var constraints: [Int32] = []
    }

    // MARK: Columns

    mutating func add(column index: Int32, to draft: inout TableDraft) throws(StatementError) {
        let node = plan[index]
        guard !draft.columns.contains(where: { $0.name.utf8.elementsEqual(node.name.utf8) }) else {
            throw StatementError(.duplicateColumn, "column \"\(node.name)\" specified more than once")
        }
        guard draft.columns.count < 1600 else {
            throw StatementError(.tooManyColumns, "tables can have at most 1600 columns")
        }
        let serial = plan.serial(node.children[0])
        let type: DataType
        if let serial { type = serial } else { type = try resolvedType(plan, node.children[0]) }
        guard type.kind != .record, type.kind != .void, type.kind != .unknown else {
            throw StatementError(
                .invalidTableDefinition, "column \"\(node.name)\" has pseudo-type \(type.formatted)")
        }
        var column = CollectionDescriptor.Column(
            id: ColumnID(rawValue: UInt16(draft.columns.count + 1)), name: node.name, type: type)
        column.collation = try collation(node.children[1], of: type)
        if let serial {
            column.isNotNull = true
            draft.sequences.append((draft.columns.count, Self.sequence(of: serial), true))
        }
        let position = draft.columns.count
        draft.columns.append(column)
        try addConstraints(plan.list(node.children[2]), ofColumn: position, isSerial: serial != nil, to: &draft)
    }

    private mutating func addConstraints(
        _ constraints: [Int32], ofColumn position: Int, isSerial: Bool, to draft: inout TableDraft
    ) throws(StatementError) {
        var nullability: Bool?
        var hasDefault = isSerial
        let name = draft.columns[position].name
        for index in constraints {
            let node = plan[index]
            switch node.kind {
            case .notNullConstraint, .nullConstraint:
                let isNotNull = node.kind == .notNullConstraint
                guard nullability == nil || nullability == isNotNull else {
                    throw StatementError(
                        .syntaxError,
                        "conflicting NULL/NOT NULL declarations for column \"\(name)\" of table \"\(draft.name)\"",
                        position: Int(node.position))
                }
                nullability = isNotNull
                if isNotNull { draft.columns[position].isNotNull = true }
            case .defaultConstraint:
                guard !hasDefault else {
                    throw StatementError(
                        .syntaxError,
                        "multiple default values specified for column \"\(name)\" of table \"\(draft.name)\"",
                        position: Int(node.position))
                }
                hasDefault = true
                draft.columns[position].defaultValue = try stored(
                    defaultValue: node.children[0], of: draft.columns[position])
            case .identityConstraint:
                guard !hasDefault else {
                    throw StatementError(
                        .syntaxError,
                        "both default and identity specified for column \"\(name)\" of table \"\(draft.name)\"",
                        position: Int(node.position))
                }
                hasDefault = true
                let type = draft.columns[position].type
                guard [.int16, .int32, .int64].contains(type.kind), !type.isArray else {
                    throw StatementError(
                        .invalidParameterValue, "identity column type must be smallint, integer, or bigint")
                }
                var sequence = Self.sequence(of: type)
                try apply(options: plan.list(node.children[0]), to: &sequence)
                draft.columns[position].isNotNull = true
                draft.columns[position].identity = node.flags.contains(.isAll) ? .always : .byDefault
                draft.sequences.append((position, sequence, false))
            case .generatedConstraint: throw Self.unsupported("a generated column", at: node.position)
            case _: draft.columnConstraints.append((index, position))
            }
        }
    }

    static func sequence(of type: DataType) -> CollectionDescriptor.Sequence {
        var sequence = CollectionDescriptor.Sequence()
        sequence.type = type
        switch type.kind {
        case .int16: sequence.maximum = Int64(Int16.max)
        case .int32: sequence.maximum = Int64(Int32.max)
        case _: sequence.maximum = .max
        }
        return sequence
    }

    // MARK: Making it

    private mutating func create(_ draft: inout TableDraft) throws(StatementError) {
        var table = CollectionDescriptor(
            id: CollectionID(rawValue: 0), namespace: draft.namespace, name: draft.name, kind: .table,
            owner: context.owner)
        table.columns = draft.columns
        table.nextColumn = ColumnID(rawValue: UInt16(draft.columns.count + 1))
        for (column, sequence, _) in draft.sequences {
            table.columns[column].sequence = try create(
                sequence, for: draft.columns[column].name, of: draft.name, in: draft.namespace)
        }
        let ofColumns = draft.columnConstraints.map { ($0.node, Optional($0.column)) }
        let constraints = ofColumns + draft.constraints.map { ($0, nil) }
        // The primary key first: a UNIQUE of the same columns is the same.
        for isKey in [true, false] {
            for (index, column) in constraints where (plan[index].kind == .primaryKeyConstraint) == isKey {
                try add(constraint: index, to: &table, column: column.map { table.columns[$0] })
            }
        }
        try makeEntries(of: &table)
        put(table)
    }

    /// The sequence that a column draws from.
    mutating func create(
        _ sequence: CollectionDescriptor.Sequence, for column: String, of table: String, in namespace: NamespaceID
    ) throws(StatementError) -> CollectionID {
        let id = try newCollection()
        let name = chosenName(table, [column], "seq") { isTaken($0, in: namespace) }
        var descriptor = CollectionDescriptor(
            id: id, namespace: namespace, name: name, kind: .sequence, owner: context.owner)
        descriptor.sequence = sequence
        put(descriptor)
        return id
    }

    /// A constraint of a table, one that stands at a column too.
    mutating func add(
        constraint index: Int32, to table: inout CollectionDescriptor, column: CollectionDescriptor.Column?
    ) throws(StatementError) {
        let node = plan[index]
        if node.flags.contains(.isDeferrable) { throw Self.unsupported("DEFERRABLE", at: node.position) }
        switch node.kind {
        case .primaryKeyConstraint:
            let columns = try keyColumns(node, of: table, column)
            guard table.primaryKey.isEmpty else {
                throw StatementError(
                    .invalidTableDefinition,
                    "multiple primary keys for table \"\(table.name)\" are not allowed", position: Int(node.position))
            }
            for position in table.columns.indices where columns.contains(table.columns[position].id) {
                table.columns[position].isNotNull = true
            }
            table.primaryKey = columns
            table.primaryKeyName = try constraintName(node, of: table, columns: [], "pkey")
        case .uniqueConstraint:
            if node.flags.contains(.isMarked) { throw Self.unsupported("NULLS NOT DISTINCT", at: node.position) }
            let columns = try keyColumns(node, of: table, column)
            let isNew = table.id.rawValue == 0
            let known = table.indexes.map { $0.parts.map(\.column) } + [table.primaryKey]
            if isNew, node.name.isEmpty, known.contains(columns) { return }
            let names = columns.compactMap { table.column($0)?.name }
            let name = try constraintName(node, of: table, columns: names, "key")
            try addIndex(name, columns.map { .init(column: $0) }, isUnique: true, isConstraint: true, to: &table)
        case .checkConstraint:
            if node.flags.contains(.isMarked) { throw Self.unsupported("NO INHERIT of a check", at: node.position) }
            let names = Set(columnNames(in: node.children[0]))
            let only = names.count == 1 ? Array(names) : []
            let name = try constraintName(node, of: table, columns: only, "check")
            table.checks.append(.init(name: name, condition: try stored(condition: node.children[0], of: table)))
        case .foreignKeyConstraint: throw Self.unsupported("FOREIGN KEY", at: node.position)
        case _: throw Self.unsupported("\(node.kind) of a table", at: node.position)
        }
    }

    private func keyColumns(
        _ node: LogicalPlan.Node, of table: CollectionDescriptor, _ column: CollectionDescriptor.Column?
    ) throws(StatementError) -> [ColumnID] {
        if node.children[1] != 0 { throw Self.unsupported("INCLUDE", at: node.position) }
        try checkOptions(plan.list(node.children[2]))
        if let column { return [column.id] }
        var ids: [ColumnID] = []
        for index in plan.list(node.children[0]) {
            let name = plan[index].name
            guard let column = table.column(named: name) else {
                throw StatementError(
                    .undefinedColumn, "column \"\(name)\" named in key does not exist", position: Int(node.position))
            }
            guard !ids.contains(column.id) else {
                let kind = node.kind == .primaryKeyConstraint ? "primary key" : "unique"
                throw StatementError(
                    .duplicateColumn, "column \"\(name)\" appears twice in \(kind) constraint",
                    position: Int(node.position))
            }
            ids.append(column.id)
        }
        return ids
    }

    /// As it was said, or chosen; of a primary key or UNIQUE it must be free among the names of tables.
    private func constraintName(
        _ node: LogicalPlan.Node, of table: CollectionDescriptor, columns: [String], _ suffix: String
    ) throws(StatementError) -> String {
        let own = table.checks.map(\.name) + [table.primaryKeyName] + table.indexes.map(\.name)
        let isRelation = node.kind != .checkConstraint
        func isUsed(_ name: String) -> Bool {
            own.contains { $0.utf8.elementsEqual(name.utf8) }
                || isRelation && (name.utf8.elementsEqual(table.name.utf8) || isTaken(name, in: table.namespace))
        }
        guard !node.name.isEmpty else { return chosenName(table.name, columns, suffix, isTaken: isUsed) }
        guard isUsed(node.name) else { return node.name }
        throw isRelation
            ? StatementError(.duplicateTable, "relation \"\(node.name)\" already exists")
            : StatementError(
                .duplicateObject,
                "constraint \"\(node.name)\" for relation \"\(table.name)\" already exists")
    }

    /// The columns that an expression names, without what they are of.
    func columnNames(in index: Int32) -> [String] {
        let node = plan[index]
        if node.kind == .columnReference { return [node.name] }
        return node.children.filter { $0 != 0 }.flatMap { columnNames(in: $0) }
    }
}
