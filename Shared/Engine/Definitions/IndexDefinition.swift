import Base
import Contracts
import DataModel

/// CREATE INDEX, and the indexes of UNIQUE.
extension DefinitionPlanner {
    mutating func createIndex(_ node: LogicalPlan.Node) throws(StatementError) {
        let name = try qualifiedName(node.children[0])
        guard var table = try find(name) else {
            throw StatementError(.undefinedTable, "relation \"\(name.text)\" does not exist")
        }
        guard table.kind == .table, table.entriesOf == nil else {
            let kind = table.entriesOf != nil ? "indexes" : "\(table.kind)s"
            throw StatementError(
                .wrongObjectType, "cannot create index on relation \"\(table.name)\"",
                detail: "This operation is not supported for \(kind).")
        }
        if !node.name.isEmpty, isTaken(node.name, in: table.namespace) {
            let text = "relation \"\(node.name)\" already exists"
            guard node.flags.contains(.isConditional) else { throw StatementError(.duplicateTable, text) }
            return notices.append(StatementError(.duplicateTable, text + ", skipping"))
        }
        if node.flags.contains(.isMarked) { throw Self.unsupported("NULLS NOT DISTINCT", at: node.position) }
        if node.children[2] != 0, !plan.list(node.children[2]).isEmpty {
            throw Self.unsupported("INCLUDE", at: node.position)
        }
        if node.children[3] != 0 { throw Self.unsupported("a partial index", at: node.position) }
        try checkOptions(plan.list(node.children[4]))
        try checkMethod(plan[node.children[5]].name)
        var parts: [CollectionDescriptor.IndexPart] = []
        for element in plan.list(node.children[1]) { parts.append(try part(plan[element], of: table)) }
        let chosen =
            node.name.isEmpty
            ? chosenName(table.name, parts.compactMap { table.column($0.column)?.name }, "idx") { [self] in
                isTaken($0, in: table.namespace)
            } : node.name
        let work = TableWork(table)
        try addIndex(chosen, parts, isUnique: node.flags.contains(.isUnique), isConstraint: false, to: &table)
        try finish(&table, work)
    }

    private func checkMethod(_ method: String) throws(StatementError) {
        switch method {
        case "", "btree": return
        case "hash", "gin", "gist", "spgist", "brin": throw Self.unsupported("an index of access method \(method)")
        case _: throw StatementError(.undefinedObject, "access method \"\(method)\" does not exist")
        }
    }

    private func part(
        _ element: LogicalPlan.Node, of table: CollectionDescriptor
    ) throws(StatementError) -> CollectionDescriptor.IndexPart {
        let value = plan[element.children[0]]
        guard value.kind == .columnReference, value.children.allSatisfy({ $0 == 0 }) else {
            throw Self.unsupported("an index on an expression", at: value.position)
        }
        guard let column = table.column(named: value.name) else {
            throw StatementError(.undefinedColumn, "column \"\(value.name)\" does not exist")
        }
        if let collation = try collation(element.children[1], of: column.type), let own = column.actualCollation {
            // The entries are in the order of bytes, and of an order of its own nothing would be kept.
            guard collation == own || collation.isByBytes && own.isByBytes else {
                throw Self.unsupported("another collation of an index than that of its column", at: element.position)
            }
        }
        if element.children[2] != 0 {
            // Texts are compared by their bytes, so these are what every index of texts is.
            let name = plan[element.children[2]].name
            guard ["text_pattern_ops", "varchar_pattern_ops"].contains(name) else {
                throw Self.unsupported("operator class \(name)", at: element.position)
            }
        }
        let isDescending = element.flags.contains(.isDescending)
        if element.flags.contains(isDescending ? .isNullsLast : .isNullsFirst) {
            throw Self.unsupported("NULLS FIRST or LAST in an index", at: element.position)
        }
        return .init(column: column.id, isDescending: isDescending)
    }

    /// Adds an index to the table's descriptor; `makeEntries` gives it the collection of its entries.
    mutating func addIndex(
        _ name: String, _ parts: [CollectionDescriptor.IndexPart], isUnique: Bool, isConstraint: Bool,
        to table: inout CollectionDescriptor
    ) throws(StatementError) {
        guard parts.count <= 32 else {
            throw StatementError(.tooManyColumns, "cannot use more than 32 columns in an index")
        }
        for part in parts {
            guard let type = table.column(part.column)?.type, type.kind == .json else { continue }
            throw StatementError(
                .undefinedObject,
                "data type \(type.title) has no default operator class for access method \"btree\"",
                hint: "You must specify an operator class for the index or define a default operator class for the "
                    + "data type.")
        }
        let used = Set(table.indexes.map(\.id.rawValue))
        guard let id = (1...UInt8(63)).first(where: { !used.contains($0) }) else {
            throw StatementError(.programLimitExceeded, "a table can have at most 63 indexes")
        }
        var index = CollectionDescriptor.Index(
            id: IndexID(rawValue: id), name: name, parts: parts, isUnique: isUnique)
        index.isConstraint = isConstraint
        table.indexes.append(index)
    }

    /// A hidden collection for each index that has none. One of a table that is new gets its number too, which is the
    /// one that follows: then the table is to be put next.
    mutating func makeEntries(of table: inout CollectionDescriptor) throws(StatementError) {
        let places = table.indexes.indices.filter { table.indexes[$0].entries == nil }
        if table.id.rawValue == 0 {
            guard let id = Catalog.collectionID(madeBy: catalog.version &+ UInt64(places.count) &+ 1) else {
                throw StatementError(.programLimitExceeded, "there are no more numbers for collections")
            }
            table.id = id
        }
        for place in places {
            let id = try newCollection()
            var entries = CollectionDescriptor(
                id: id, namespace: table.namespace, name: table.indexes[place].name, kind: .table, owner: table.owner)
            entries.entriesOf = table.id
            table.indexes[place].entries = id
            put(entries)
        }
    }

    // MARK: DROP INDEX

    mutating func dropIndex(_ index: Int32, isConditional: Bool) throws(StatementError) {
        let name = try qualifiedName(index)
        func missing() throws(StatementError) -> StatementError? {
            let text = "index \"\(name.text)\" does not exist"
            guard isConditional else { throw StatementError(.undefinedObject, text) }
            return StatementError(.successfulCompletion, text + ", skipping")
        }
        if let namespace = name.namespace, catalog.namespace(named: namespace) == nil, isConditional {
            return notices.append(
                StatementError(.successfulCompletion, "schema \"\(namespace)\" does not exist, skipping"))
        }
        guard let (table, id) = try findIndex(name) else {
            if let other = try find(name) {
                throw StatementError(
                    .wrongObjectType, "\"\(name.name)\" is not an index",
                    hint: "Use DROP \("\(other.kind)".uppercased()) to remove \(Self.article(other.kind)).")
            }
            if let notice = try missing() { notices.append(notice) }
            return
        }
        let found = table.indexes.first { $0.id == id }
        guard let found, !found.isConstraint else {
            throw StatementError(
                .dependentObjectsStillExist,
                "cannot drop index \(name.name) because constraint \(name.name) on table \(table.name) requires it",
                hint: "You can drop constraint \(name.name) on table \(table.name) instead.")
        }
        try mustOwn(table.owner, "index", found.name)
        var changed = table, work = TableWork(table)
        drop(index: found, of: &changed, &work)
        try finish(&changed, work)
    }

    /// The index of that name, and its table; 0 is the primary key.
    func findIndex(_ name: QualifiedName) throws(StatementError) -> (CollectionDescriptor, IndexID)? {
        if let wanted = name.namespace {
            return index(named: name.name, in: try namespace(named: wanted, at: name.position).id)
        }
        return context.searchPath.lazy.compactMap { index(named: name.name, in: $0) }.first
    }

    /// Takes an index from a table that is altered.
    func drop(index: CollectionDescriptor.Index, of table: inout CollectionDescriptor, _ work: inout TableWork) {
        table.indexes.removeAll { $0.id == index.id }
        if let entries = index.entries { work.dropped.append(entries) }
    }
}
