import Base
import Contracts
import DataModel

/// DROP.
extension DefinitionPlanner {
    mutating func drop(_ node: LogicalPlan.Node) throws(StatementError) -> String {
        guard let object = PlanObject(rawValue: node.number) else { throw Self.unsupported("DROP of this") }
        let names = plan.list(node.children[0])
        switch object {
        case .table, .sequence, .view:
            let kind: CollectionDescriptor.Kind =
                object == .table ? .table : object == .sequence ? .sequence : .view
            var found: [CollectionDescriptor] = []
            for index in names {
                if let collection = try dropped(index, kind, isConditional: node.flags.contains(.isConditional)) {
                    found.append(collection)
                }
            }
            for collection in found {
                try drop(collection, with: found, isCascade: node.flags.contains(.isCascade))
            }
            return "DROP " + "\(object)".uppercased()
        case .schema:
            for index in names { try dropSchema(index, node.flags) }
            return "DROP SCHEMA"
        case .index:
            for index in names { try dropIndex(index, isConditional: node.flags.contains(.isConditional)) }
            return "DROP INDEX"
        case .column, .constraint, .role, .database, .type, .function:
            throw Self.unsupported("DROP " + "\(object)".uppercased())
        }
    }

    private mutating func dropped(
        _ index: Int32, _ kind: CollectionDescriptor.Kind, isConditional: Bool
    ) throws(StatementError) -> CollectionDescriptor? {
        let name = try qualifiedName(index)
        let found: CollectionDescriptor?
        if let namespace = name.namespace, catalog.namespace(named: namespace) == nil, isConditional {
            notices.append(
                StatementError(.successfulCompletion, "schema \"\(namespace)\" does not exist, skipping"))
            return nil
        } else {
            found = try find(name)
        }
        let word = "\(kind)"
        guard let found else {
            let text = "\(word) \"\(name.name)\" does not exist"
            guard isConditional else { throw StatementError(.undefinedTable, text) }
            notices.append(StatementError(.successfulCompletion, text + ", skipping"))
            return nil
        }
        guard found.entriesOf == nil, found.kind == kind else {
            if found.entriesOf != nil {
                throw StatementError(
                    .wrongObjectType, "\"\(name.name)\" is not a \(word)", hint: "Use DROP INDEX to remove an index.")
            }
            let hint = "Use DROP \("\(found.kind)".uppercased()) to remove \(Self.article(found.kind))."
            throw StatementError(.wrongObjectType, "\"\(name.name)\" is not a \(word)", hint: hint)
        }
        return found
    }

    static func article(_ kind: CollectionDescriptor.Kind) -> String { "a \(kind)" }

    private mutating func drop(
        _ collection: CollectionDescriptor, with others: [CollectionDescriptor], isCascade: Bool
    ) throws(StatementError) {
        guard catalog.collection(collection.id) != nil else { return }  // Named twice, or gone with another.
        try dropViews(reading: collection, isCascade: isCascade, besides: others)
        switch collection.kind {
        case .table:
            for column in collection.columns {
                guard let sequence = column.sequence else { continue }
                following.insert(sequence)
                drop(sequence)
            }
            for id in hidden(of: collection.id) { drop(id) }
        case .sequence:
            try drop(defaultsFrom: collection, isCascade: isCascade, others)
        case .view: break
        }
        drop(collection.id)
    }

    /// Columns draw from a sequence: it goes only with their defaults.
    private mutating func drop(
        defaultsFrom sequence: CollectionDescriptor, isCascade: Bool, _ others: [CollectionDescriptor]
    ) throws(StatementError) {
        for table in catalog.collections.values.sorted(by: { $0.id < $1.id }) {
            guard let column = table.columns.first(where: { $0.sequence == sequence.id }) else { continue }
            if column.identity != .none {
                throw StatementError(
                    .dependentObjectsStillExist,
                    "cannot drop sequence \(sequence.name) because column \(column.name) of table \(table.name) "
                        + "requires it",
                    hint: "You can drop column \(column.name) of table \(table.name) instead.")
            }
            guard isCascade else {
                throw StatementError(
                    .dependentObjectsStillExist,
                    "cannot drop sequence \(sequence.name) because other objects depend on it",
                    detail: "default value for column \(column.name) of table \(table.name) depends on sequence "
                        + sequence.name,
                    hint: "Use DROP ... CASCADE to drop the dependent objects too.")
            }
            var changed = table
            for position in changed.columns.indices where changed.columns[position].sequence == sequence.id {
                changed.columns[position].sequence = nil
            }
            notices.append(
                StatementError(
                    .successfulCompletion,
                    "drop cascades to default value for column \(column.name) of table \(table.name)"))
            following.insert(table.id)
            put(changed)
        }
    }

    private mutating func dropSchema(_ index: Int32, _ flags: PlanFlags) throws(StatementError) {
        let name = plan[index].name
        guard SystemCatalogs.namespace(named: name) == nil else {
            throw StatementError(
                .dependentObjectsStillExist,
                "cannot drop schema \(name) because it is required by the database system")
        }
        guard let namespace = catalog.namespace(named: name) else {
            guard flags.contains(.isConditional) else {
                throw StatementError(.invalidSchemaName, "schema \"\(name)\" does not exist")
            }
            return notices.append(
                StatementError(.successfulCompletion, "schema \"\(name)\" does not exist, skipping"))
        }
        guard namespace.id != .default else {
            throw StatementError(
                .dependentObjectsStillExist,
                "cannot drop schema \(name) because it is the namespace that all clients share")
        }
        let inside = catalog.collections.values.filter { $0.namespace == namespace.id && $0.entriesOf == nil }
            .sorted { $0.id < $1.id }
        if let first = inside.first, !flags.contains(.isCascade) {
            throw StatementError(
                .dependentObjectsStillExist, "cannot drop schema \(name) because other objects depend on it",
                detail: "\(first.kind) \(name).\(first.name) depends on schema \(name)",
                hint: "Use DROP ... CASCADE to drop the dependent objects too.")
        }
        following.formUnion(inside.map(\.id))
        for collection in inside { try drop(collection, with: inside, isCascade: true) }
        drop(namespace.id)
    }
}
