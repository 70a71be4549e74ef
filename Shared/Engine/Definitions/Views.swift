import Base
import Contracts
import DataModel

/// CREATE VIEW, and what views mean for the tables that they read.
extension DefinitionPlanner {
    /// Of an encoded plan: what the catalog takes.
    private static let planLimit = 1 << 20

    mutating func createView(_ node: LogicalPlan.Node) throws(StatementError) {
        if node.flags.contains(.isTemporary) { throw Self.unsupported("CREATE TEMPORARY VIEW") }
        if node.flags.contains(.isRecursive) { throw Self.unsupported("CREATE RECURSIVE VIEW") }
        if node.number != 0 { throw Self.unsupported("WITH CHECK OPTION of a view") }
        if node.children[3] != 0 { throw Self.unsupported("WITH (…) of a view") }
        let name = try qualifiedName(node.children[0])
        let namespace = try target(name)
        let old = catalog.collection(named: name.name, in: namespace.id)
        if let old, node.flags.contains(.isReplace) {
            guard old.kind == .view else {
                throw StatementError(.wrongObjectType, "\"\(name.name)\" is not a view")
            }
        } else if isTaken(name.name, in: namespace.id) {
            throw StatementError(.duplicateTable, "relation \"\(name.name)\" already exists")
        }
        let names = plan.list(node.children[1]).map { plan[$0].name }
        let (query, columns) = try viewQuery(node.children[2], names)
        if var view = old {
            try checkReplacement(view, by: columns)
            view.query = query
            for index in columns.indices where index >= view.columns.count {
                var column = columns[index]
                column.id = view.nextColumn
                view.nextColumn = ColumnID(rawValue: view.nextColumn.rawValue + 1)
                view.columns.append(column)
            }
            put(view)
            return
        }
        var view = CollectionDescriptor(
            id: try newCollection(), namespace: namespace.id, name: name.name, kind: .view, owner: context.owner)
        view.columns = columns
        view.nextColumn = ColumnID(rawValue: UInt16(columns.count + 1))
        view.query = query
        put(view)
    }

    /// The query as the catalog keeps it, and the columns that it has.
    private func viewQuery(_ index: Int32, _ names: [String]) throws(StatementError) -> (
        StoredExpression, [CollectionDescriptor.Column]
    ) {
        var settings = EngineSettings()
        settings.user = context.owner
        settings.searchPath = context.searchPath.compactMap { catalog.namespaces[$0]?.name }
        let binder = Binder(plan, catalog: catalog, settings: settings, parameterTypes: [])
        let recorder = ViewRecorder()
        binder.recorder = recorder
        let bound = try binder.bindQuery(index, in: nil)
        if !binder.parameterTypes.isEmpty {
            throw StatementError(.undefinedParameter, "there is no parameter $1")
        }
        guard names.count <= bound.outputs.count else {
            throw StatementError(.syntaxError, "CREATE VIEW specifies more column names than columns")
        }
        guard bound.outputs.count < 1600 else {
            throw StatementError(.tooManyColumns, "views can have at most 1600 columns")
        }
        var columns: [CollectionDescriptor.Column] = []
        for (place, output) in bound.outputs.enumerated() {
            let name = place < names.count ? names[place] : output.name
            guard !columns.contains(where: { $0.name.utf8.elementsEqual(name.utf8) }) else {
                throw StatementError(.duplicateColumn, "column \"\(name)\" specified more than once")
            }
            guard output.type.kind != .record, output.type.kind != .void else {
                throw StatementError(
                    .invalidTableDefinition, "column \"\(name)\" has pseudo-type \(output.type.formatted)")
            }
            var column = CollectionDescriptor.Column(
                id: ColumnID(rawValue: UInt16(place + 1)), name: name, type: output.type)
            column.collation = try binder.collation(ofViewColumn: name, output)
            columns.append(column)
        }
        let kept = ViewPlan.make(plan, index, recorder, names: columns.map(\.name))
        return (try stored(kept), columns)
    }

    private func stored(_ query: LogicalPlan) throws(StatementError) -> StoredExpression {
        guard let text = query.text(ofQuery: query.root) else {
            throw Self.unsupported("keeping this query in the catalog")
        }
        let encoded = query.encode()
        guard encoded.count < Self.planLimit, text.utf8.count < Self.planLimit else {
            throw StatementError(.programLimitExceeded, "the query of a view may have \(Self.planLimit) bytes")
        }
        return StoredExpression(plan: encoded, text: text)
    }

    private func checkReplacement(
        _ view: CollectionDescriptor, by columns: [CollectionDescriptor.Column]
    ) throws(StatementError) {
        guard columns.count >= view.columns.count else {
            throw StatementError(.invalidTableDefinition, "cannot drop columns from view")
        }
        for (old, new) in zip(view.columns, columns) {
            guard old.name.utf8.elementsEqual(new.name.utf8) else {
                throw StatementError(
                    .invalidTableDefinition, "cannot change name of view column \"\(old.name)\" to \"\(new.name)\"",
                    hint: "Use ALTER VIEW ... RENAME COLUMN ... to change name of view column instead.")
            }
            guard old.type == new.type else {
                throw StatementError(
                    .invalidTableDefinition,
                    "cannot change data type of view column \"\(old.name)\" from \(old.type.formatted) to "
                        + new.type.formatted)
            }
            guard old.collation == new.collation else {
                let names = [old, new].map { $0.actualCollation?.name ?? "default" }
                throw StatementError(
                    .invalidTableDefinition,
                    "cannot change collation of view column \"\(old.name)\" from \"\(names[0])\" to \"\(names[1])\"")
            }
        }
    }

    // MARK: Dependencies

    /// The views that read a collection, or that column of it, in the order in which they were made.
    func views(reading id: CollectionID, _ column: ColumnID? = nil) -> [CollectionDescriptor] {
        catalog.collections.values.filter { view in
            guard view.kind == .view, let query = view.query else { return false }
            return (try? StoredPlans.query(query))?.reads(id, column) ?? false
        }.sorted { $0.id < $1.id }
    }

    /// A view that goes with what it depends on, and how that is said.
    private struct Dependent {
        let view: CollectionDescriptor
        let text: String
    }

    private func title(_ collection: CollectionDescriptor) -> String { "\(collection.kind) \(shownName(collection))" }

    func shownName(_ collection: CollectionDescriptor) -> String {
        if context.searchPath.contains(collection.namespace) { return collection.name }
        let schema = catalog.name(of: collection.namespace)
        return (schema.isEmpty ? "" : schema + ".") + collection.name
    }

    private func dependents(
        of collection: CollectionDescriptor, column: CollectionDescriptor.Column?, _ found: inout [Dependent],
        besides others: [CollectionDescriptor]
    ) {
        for view in views(reading: collection.id, column?.id)
        where !others.contains(where: { $0.id == view.id }) && !found.contains(where: { $0.view.id == view.id }) {
            let what = column.map { "column \($0.name) of \(title(collection))" } ?? title(collection)
            found.append(Dependent(view: view, text: "\(title(view)) depends on \(what)"))
            dependents(of: view, column: nil, &found, besides: others)
        }
    }

    /// Before a collection, or a column of it, goes: views that read it go before it, or forbid it.
    mutating func dropViews(
        reading collection: CollectionDescriptor, column: CollectionDescriptor.Column? = nil, isCascade: Bool,
        besides others: [CollectionDescriptor] = []
    ) throws(StatementError) {
        var found: [Dependent] = []
        dependents(of: collection, column: column, &found, besides: others + [collection])
        guard !found.isEmpty else { return }
        guard isCascade else {
            let what = column.map { "column \($0.name) of \(title(collection))" } ?? title(collection)
            throw StatementError(
                .dependentObjectsStillExist, "cannot drop \(what) because other objects depend on it",
                detail: found.map(\.text).joined(separator: "\n"),
                hint: "Use DROP ... CASCADE to drop the dependent objects too.")
        }
        let lines = found.map { "drop cascades to \(title($0.view))" }
        notices.append(
            lines.count == 1
                ? StatementError(.successfulCompletion, lines[0])
                : StatementError(
                    .successfulCompletion, "drop cascades to \(lines.count) other objects",
                    detail: lines.joined(separator: "\n")))
        following.formUnion(found.map(\.view.id))
        for dependent in found { drop(dependent.view.id) }
    }

    /// Before the type of a column changes.
    func refuseViews(reading table: CollectionDescriptor, _ column: CollectionDescriptor.Column) throws(StatementError)
    {
        guard let view = views(reading: table.id, column.id).first else { return }
        throw StatementError(
            .featureNotSupported, "cannot alter type of a column used by a view or rule",
            detail: "rule _RETURN on view \(shownName(view)) depends on column \"\(column.name)\"")
    }

    /// After a table, or a column of it, got another name: views mean it by number, but say it by name.
    mutating func renameInViews(_ table: CollectionDescriptor, was id: CollectionID) throws(StatementError) {
        let namespace = catalog.namespaces[table.namespace]?.name ?? ""
        for view in views(reading: id) {
            guard let query = view.query else { continue }
            var changed = view, kept = try StoredPlans.query(query)
            kept.rename(table, was: id, in: namespace)
            changed.query = try stored(kept)
            guard changed.query != view.query else { continue }
            following.insert(view.id)
            put(changed)
        }
    }
}
