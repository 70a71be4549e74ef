import Base
import Contracts
import DataModel

// FROM: relations and joins.

extension Binder {
    /// A part of FROM: its plan, and what it makes visible.
    struct FromPart {
        var plan: RelationalPlan
        var relations: [ScopeRelation]
        var columns: [ScopeColumn]
    }

    /// All of FROM, joined; and into the scope what it makes visible.
    func bindFrom(_ list: Int32, into scope: Scope) throws(StatementError) -> RelationalPlan {
        var result: RelationalPlan?
        for item in plan.list(list) {
            let part = try bindRelation(item, in: scope, visible: result == nil ? nil : scope)
            try checkAliases(part.relations, beside: scope.relations, at: plan[item].position)
            scope.relations += part.relations
            scope.columns += part.columns
            result = result.map { join($0, part.plan, .inner, nil) } ?? part.plan
        }
        return result ?? .single
    }

    /// A join, or an apply where the right side reads columns of the left one.
    func join(_ left: RelationalPlan, _ right: RelationalPlan, _ kind: JoinKind, _ condition: BoundExpression?)
        -> RelationalPlan
    {
        let isLateral = !right.freeAttributes.isDisjoint(with: left.attributes)
        guard isLateral, kind == .inner || kind == .left else {
            return .join(kind, left, right, condition: condition)
        }
        return .apply(left, right, .join(isLeft: kind == .left, condition: condition))
    }

    private func checkAliases(_ fresh: [ScopeRelation], beside others: [ScopeRelation], at position: Int32)
        throws(StatementError)
    {
        for relation in fresh where !relation.alias.isEmpty {
            guard
                let other = others.first(where: { $0.alias == relation.alias }),
                other.namespace == nil || relation.namespace == nil || other.namespace == relation.namespace
            else { continue }
            throw StatementError(
                .duplicateAlias, "table name \"\(relation.alias)\" specified more than once", position: 0)
        }
    }

    func bindRelation(_ index: Int32, in scope: Scope, visible: Scope?) throws(StatementError) -> FromPart {
        let node = plan[index]
        switch node.kind {
        case .table: return try bindTable(node, index, in: scope)
        case .derivedTable:
            // Without LATERAL it sees what is around the query, not what is beside it.
            let outer = node.flags.contains(.isLateral) ? lateral(scope, visible) : beside(scope)
            let alias = node.children[1] == 0 ? "" : plan[node.children[1]].name
            if plan[node.children[0]].kind != .values { inheritedLockings = locking(within: alias, scope) }
            let query = try bindQuery(node.children[0], in: outer)
            return try part(query.plan, query.outputs, alias: node.children[1], name: "")
        case .functionTable: return try bindFunctionTable(node, in: lateral(scope, visible))
        case .join: return try bindJoin(node, index, in: scope, visible: visible)
        case _: throw unsupported("this relation", at: node.position)  // Relations have no other kinds.
        }
    }

    /// A scope from which a part of FROM sees WITH queries and outer queries, but not its neighbours.
    private func beside(_ scope: Scope) -> Scope {
        let outer = Scope(parent: scope.parent)
        outer.commonTables = scope.commonTables
        outer.hidden = Set(scope.relations.map(\.alias))
        return outer
    }

    private func lateral(_ scope: Scope, _ visible: Scope?) -> Scope {
        guard let visible else { return beside(scope) }
        let outer = beside(scope)
        outer.relations = visible.relations
        outer.columns = visible.columns
        return outer
    }

    private func bindTable(_ node: LogicalPlan.Node, _ index: Int32, in scope: Scope) throws(StatementError) -> FromPart
    {
        let qualifier = nameParts(node.children[0])
        if qualifier.isEmpty, !isStored || node.number == 0, let entry = scope.commonTable(node.name) {
            return try bindCommonTable(entry, node)
        }
        let collection =
            isStored && node.number != 0
            ? try collection(numbered: node.number, node.name)
            : try findCollection(node.name, qualifier: qualifier, at: node.position)
        recorder?.tables[index] = collection.id
        switch collection.kind {
        case .table: break
        case .view:
            // What it is made of is asked about behind it.
            let place = accesses.count, part = try bindView(collection, node, scope)
            needs(.select, on: collection, part.columns)
            accesses.insert(accesses.removeLast(), at: place)
            return part
        case .sequence: throw unsupported("reading a sequence as a table", at: node.position)
        }
        var (scan, columns) = scanPlan(collection)
        needs(.select, on: collection, columns)
        scan.alias = node.children[1] == 0 ? node.name : plan[node.children[1]].name
        var relation = ScopeRelation(
            alias: node.name, namespace: catalog.name(of: collection.namespace), columns: columns,
            collection: collection, key: scan.key, source: .table)
        try rename(&relation, alias: node.children[1])
        return FromPart(plan: .scan(scan), relations: [relation], columns: relation.columns)
    }

    /// A table of a query that the catalog keeps.
    private func collection(numbered number: Int64, _ name: String) throws(StatementError) -> CollectionDescriptor {
        let id = CollectionID(rawValue: UInt32(exactly: number) ?? 0)
        if let table = SystemCatalogs.collection(id) { return table }
        guard let found = catalog.collection(id), found.entriesOf == nil else {
            throw StatementError(.undefinedTable, "relation \"\(name)\" does not exist")
        }
        versions[found.id] = found.version
        return found
    }

    /// A scan of all columns, with the key; what is not needed is taken away later.
    func scanPlan(_ collection: CollectionDescriptor) -> (ScanPlan, [ScopeColumn]) {
        var outputs: [OutputColumn] = [], columns: [ScopeColumn] = []
        for column in collection.columns {
            let attribute = newAttribute()
            note(attribute, column)
            outputs.append(
                OutputColumn(
                    attribute: attribute, name: column.name, type: column.type, collection: collection.id,
                    column: column.id))
            columns.append(
                ScopeColumn(
                    name: column.name, expression: .attribute(attribute, column.type), collection: collection.id,
                    column: column.id))
        }
        var scan = ScanPlan(collection: collection, outputs: outputs, key: newAttribute())
        for index in collection.indexes where index.state == .ready {
            guard let id = index.entries, let entries = catalog.collection(id) else { continue }
            scan.indexes.append(
                TableIndex(
                    name: index.name, isUnique: index.isUnique, columns: index.parts.map(\.column), entries: entries))
        }
        return (scan, columns)
    }

    private func bindCommonTable(_ entry: CommonTableEntry, _ node: LogicalPlan.Node) throws(StatementError)
        -> FromPart
    {
        switch entry {
        case .made(let table):
            guard !table.outputs.isEmpty || table.use != .toTheEnd else {
                throw StatementError(
                    .featureNotSupported, "WITH query \"\(table.name)\" does not have a RETURNING clause",
                    position: node.position)
            }
            let outputs = renewed(table.outputs)
            return try part(
                .shared(table, outputs: outputs), outputs, alias: node.children[1], name: node.name, .common)
        case .working(let id, let name, let columns):
            let outputs = renewed(columns)
            return try part(.working(id, outputs: outputs), outputs, alias: node.children[1], name: name, .working)
        }
    }

    /// The same columns under attributes of their own.
    private func renewed(_ outputs: [OutputColumn]) -> [OutputColumn] {
        outputs.map { output in
            var fresh = output
            fresh.attribute = newAttribute()
            if let state = collations[output.attribute] { collations.set(state, of: fresh.attribute) }
            return fresh
        }
    }

    private func bindView(_ view: CollectionDescriptor, _ node: LogicalPlan.Node, _ scope: Scope) throws(StatementError)
        -> FromPart
    {
        guard let stored = view.query else {
            throw StatementError(.internalError, "view \"\(view.name)\" has no query")
        }
        guard !openViews.contains(view.id) else {
            throw StatementError(
                .invalidObjectDefinition, "infinite recursion detected in rules for relation \"\(view.name)\"")
        }
        let inner = Binder(try StoredPlans.query(stored), within: self, of: view.id)
        try inner.checkViewDepth()
        inner.inheritedLockings = locking(
            within: node.children[1] == 0 ? node.name : plan[node.children[1]].name, scope)
        if !inner.inheritedLockings.isEmpty { needs(.update, on: view, isNamed: !isStored) }
        var query = try inner.bindQuery(inner.plan.root, in: nil)
        absorb(inner)
        for (index, column) in view.columns.enumerated() where index < query.outputs.count {
            query.outputs[index].name = column.name
        }
        return try part(query.plan, query.outputs, alias: node.children[1], name: node.name)
    }

    /// A relation over the outputs of a plan.
    private func part(
        _ plan: RelationalPlan, _ outputs: [OutputColumn], alias: Int32, name: String,
        _ source: ScopeRelation.Source = .query
    ) throws(StatementError) -> FromPart {
        let columns = outputs.map {
            ScopeColumn(
                name: $0.name, expression: .attribute($0.attribute, $0.type), collection: $0.collection,
                column: $0.column)
        }
        var relation = ScopeRelation(alias: name, columns: columns, source: source)
        try rename(&relation, alias: alias)
        return FromPart(plan: plan, relations: [relation], columns: relation.columns)
    }

    /// AS name (columns).
    private func rename(
        _ relation: inout ScopeRelation, alias: Int32, title: String = "table"
    ) throws(StatementError) {
        guard alias != 0 else { return }
        let node = plan[alias]
        relation.alias = node.name
        relation.namespace = nil
        let names = plan.list(node.children.first ?? 0)
        guard names.count <= relation.columns.count else {
            throw StatementError(
                .invalidColumnReference,
                "\(title) \"\(node.name)\" has \(relation.columns.count) columns available but \(names.count) columns "
                    + "specified", position: node.position)
        }
        for (index, name) in names.enumerated() { relation.columns[index].name = plan[name].name }
    }

    private func bindFunctionTable(_ node: LogicalPlan.Node, in scope: Scope) throws(StatementError) -> FromPart {
        let calls = plan.list(node.children[0])
        if calls.count > 1 || severalArrays(calls[0]) { return try bindRowsFrom(node, calls, in: scope) }
        let item = plan[calls[0]]
        let call = plan[item.children[0]]
        let alias = node.children[1], isOrdinal = node.flags.contains(.isWithOrdinality)
        let ordinality = isOrdinal ? newAttribute() : nil
        let title = call.kind == .functionCall || call.kind == .specialValue ? call.name : targetName(item.children[0])
        let function: RowsFunction, arguments: [BoundExpression]
        var type = DataType.record
        if let records = try bindRecords(item, isOrdinal: isOrdinal, in: scope) {
            (function, arguments) = records
        } else {
            let bound = try bindExpression(item.children[0], scope, .functionInFrom, allowsRows: true)
            try refuseNestedRows(bound)
            type = bound.type
            if case .rows(let rows, let list) = bound.form {
                (function, arguments) = (rows, list)
            } else {
                // Any function is a relation of one row.
                (function, arguments) = (RowsFunctions.single, [bound])
            }
        }
        // A single column is called as the alias of the relation.
        let single = alias == 0 ? title : plan[alias].name
        var outputs =
            function.columns.isEmpty
            ? [OutputColumn(attribute: newAttribute(), name: single, type: type)]
            : function.columns.map { OutputColumn(attribute: newAttribute(), name: $0.name, type: $0.type) }
        if collations.areUsed {
            // What comes out is compared as what goes in.
            let state = try merged(arguments)
            for output in outputs where Collation.of(output.type) != nil {
                collations.set(state.asColumn, of: output.attribute)
            }
        }
        let rows = RowsPlan(function: function, arguments: arguments, outputs: outputs, ordinality: ordinality)
        if let ordinality { outputs.append(OutputColumn(attribute: ordinality, name: "ordinality", type: .int64)) }
        return try part(try extractSubqueries(from: rows), outputs, alias: alias, name: title, .function)
    }

    private func refuseNestedRows(_ call: BoundExpression) throws(StatementError) {
        for argument in call.operands where argument.contains({ if case .rows = $0.form { true } else { false } }) {
            throw StatementError(
                .featureNotSupported, "set-returning functions must appear at top level of FROM",
                position: argument.position)
        }
    }

    private func severalArrays(_ item: Int32) -> Bool {
        let call = plan[plan[item].children[0]]
        return call.kind == .functionCall && call.name == "unnest" && plan.list(call.children[1]).count > 1
    }

    /// Functions side by side: as many rows as the longest of them gives, the others filled with NULL.
    private func bindRowsFrom(_ node: LogicalPlan.Node, _ calls: [Int32], in scope: Scope) throws(StatementError)
        -> FromPart
    {
        var parts: [(function: RowsFunction, arguments: Int)] = []
        var arguments: [BoundExpression] = [], columns: [(String, DataType)] = []
        func add(_ function: RowsFunction, _ given: [BoundExpression], _ name: String, _ type: DataType) {
            parts.append((function, given.count))
            arguments += given
            columns += function.columns.isEmpty ? [(name, type)] : function.columns.map { ($0.name, $0.type) }
        }
        for item in calls {
            guard plan.list(plan[item].children[1]).isEmpty else {
                throw unsupported("a column definition list", at: node.position)
            }
            let index = plan[item].children[0], call = plan[plan[item].children[0]]
            if severalArrays(item) {
                for array in plan.list(call.children[1]) {
                    let bound = try bindRowsCall("unnest", [try bindExpression(array, scope, .functionInFrom)], call)
                    if case .rows(let rows, let given) = bound.form { add(rows, given, call.name, bound.type) }
                }
                continue
            }
            let bound = try bindExpression(index, scope, .functionInFrom, allowsRows: true)
            let name = call.kind == .functionCall || call.kind == .specialValue ? call.name : targetName(index)
            if case .rows(let rows, let given) = bound.form {
                add(rows, given, name, bound.type)
            } else {
                add(RowsFunctions.single, [bound], name, bound.type)
            }
        }
        let function = RowsFunctions.together(parts, columns)
        let ordinality = node.flags.contains(.isWithOrdinality) ? newAttribute() : nil
        var outputs = columns.map { OutputColumn(attribute: newAttribute(), name: $0.0, type: $0.1) }
        let rows = RowsPlan(function: function, arguments: arguments, outputs: outputs, ordinality: ordinality)
        if let ordinality { outputs.append(OutputColumn(attribute: ordinality, name: "ordinality", type: .int64)) }
        let title = calls.count == 1 ? plan[plan[calls[0]].children[0]].name : ""
        return try part(try extractSubqueries(from: rows), outputs, alias: node.children[1], name: title, .function)
    }

    private func extractSubqueries(from rows: RowsPlan) throws(StatementError) -> RelationalPlan {
        var rows = rows
        var below = RelationalPlan.single
        for index in rows.arguments.indices {
            rows.arguments[index] = try extractSubqueries(rows.arguments[index], &below)
        }
        guard case .single = below else {
            return .apply(below, .rows(rows), .join(isLeft: false, condition: nil))
        }
        return .rows(rows)
    }

    // MARK: Joins

    private func bindJoin(_ node: LogicalPlan.Node, _ index: Int32, in scope: Scope, visible: Scope?)
        throws(StatementError) -> FromPart
    {
        let kinds: [JoinKind] = [.inner, .left, .right, .full, .inner]
        guard kinds.indices.contains(Int(node.number)) else { throw unsupported("this join", at: node.position) }
        let kind = kinds[Int(node.number)]
        let left = try bindRelation(node.children[0], in: scope, visible: visible)
        // The right side may be lateral to the left one.
        let seen = Scope(parent: scope.parent)
        seen.relations = (visible?.relations ?? []) + left.relations
        seen.columns = (visible?.columns ?? []) + left.columns
        let right = try bindRelation(node.children[1], in: scope, visible: seen)
        try checkAliases(right.relations, beside: left.relations, at: node.position)
        var names: [(name: String, position: Int32)] = []
        for item in plan.list(node.children[3]) { names.append((plan[item].name, plan[item].position)) }
        if node.flags.contains(.isNatural) {
            for column in left.columns where right.columns.contains(where: { $0.name == column.name }) {
                names.append((column.name, node.position))
            }
            recorder?.naturals[index] = names.map(\.name)
        }
        var merged: [ScopeColumn] = []
        var conditions: [BoundExpression] = []
        for (name, position) in names {
            let mine = try columnForUsing(name, in: left.columns, side: "left")
            let theirs = try columnForUsing(name, in: right.columns, side: "right")
            // Compared as they are, shown as what they have in common.
            conditions.append(try bindOperator("=", mine.expression, theirs.expression, at: position))
            let type = try commonType([mine.expression, theirs.expression], place: "JOIN/USING", at: position)
            let leftValue = try coerce(mine.expression, to: type, .implicit, at: position)
            let rightValue = try coerce(theirs.expression, to: type, .implicit, at: position)
            var column = kind == .right ? theirs : mine
            switch kind {
            case .right: column.expression = rightValue
            case .full: column.expression = BoundExpression(form: .coalesce([leftValue, rightValue]), type: type)
            case .inner, .left, .semi, .anti: column.expression = leftValue
            }
            column.name = name
            merged.append(column)
        }
        if node.children[2] != 0 {
            let inner = Scope(parent: scope.parent)
            inner.commonTables = scope.commonTables
            inner.relations = left.relations + right.relations
            inner.columns = left.columns + right.columns
            inner.hidden = Set((visible?.relations ?? []).map(\.alias))
            conditions.append(try bindCondition(node.children[2], inner, .joinCondition, "JOIN/ON"))
        }
        let rest = (left.columns + right.columns).filter { column in !names.contains { $0.name == column.name } }
        var leftPlan = left.plan, rightPlan = right.plan, condition = BoundExpression.all(conditions)
        try takeSubqueries(of: &condition, kind, &leftPlan, &rightPlan, at: node.position)
        var relations = left.relations + right.relations
        for index in relations.indices {
            let isLeft = index < left.relations.count
            if isLeft ? kind == .right || kind == .full : kind == .left || kind == .full {
                relations[index].isNullable = true
            }
        }
        let joined = try outerJoin(leftPlan, rightPlan, kind, condition, left.relations, at: node.position)
        if node.children[4] != 0 {
            // Its parts have no names any more.
            var whole = ScopeRelation(alias: "", columns: merged + rest, source: .join)
            try rename(&whole, alias: node.children[4], title: "join expression")
            return FromPart(plan: joined, relations: [whole], columns: whole.columns)
        }
        if !node.name.isEmpty {
            let named = ScopeRelation(alias: node.name, columns: merged, source: .join)
            try checkAliases([named], beside: relations, at: node.position)
            relations.append(named)
        }
        return FromPart(plan: joined, relations: relations, columns: merged + rest)
    }

    private func outerJoin(
        _ left: RelationalPlan, _ right: RelationalPlan, _ kind: JoinKind, _ condition: BoundExpression?,
        _ relations: [ScopeRelation], at position: Int32
    ) throws(StatementError) -> RelationalPlan {
        let read = right.freeAttributes
        if kind == .right || kind == .full, !read.isDisjoint(with: left.attributes) {
            let named = relations.first { $0.columns.contains { !$0.expression.attributes.isDisjoint(with: read) } }
            throw StatementError(
                .invalidColumnReference,
                "invalid reference to FROM-clause entry" + (named.map { " for table \"\($0.alias)\"" } ?? ""),
                detail: "The combining JOIN type must be INNER or LEFT for a LATERAL reference.", position: position)
        }
        // The other way round, the condition's subqueries may read both sides.
        if kind == .right, !left.freeAttributes.isDisjoint(with: right.attributes) {
            return join(right, left, .left, condition)
        }
        return join(left, right, kind, condition)
    }

    /// Subqueries in a condition of a join become columns of the side that they read. What reads both becomes one of
    /// the side that may have no partner, which is then made for each row of the other.
    private func takeSubqueries(
        of condition: inout BoundExpression?, _ kind: JoinKind, _ left: inout RelationalPlan,
        _ right: inout RelationalPlan, at position: Int32
    ) throws(StatementError) {
        guard let whole = condition, whole.contains({ if case .subquery = $0.form { true } else { false } }) else {
            return
        }
        let leftSide = Set(left.attributes), rightSide = Set(right.attributes)
        condition = try whole.rewritten { expression throws(StatementError) in
            guard case .subquery = expression.form else { return nil }
            let read = expression.attributes
            if read.isDisjoint(with: leftSide) { return try self.extractSubqueries(expression, &right) }
            if read.isDisjoint(with: rightSide) { return try self.extractSubqueries(expression, &left) }
            guard kind != .full else {
                throw StatementError(
                    .featureNotSupported,
                    "FULL JOIN is only supported with merge-joinable or hash-joinable join conditions")
            }
            return try kind == .right
                ? self.extractSubqueries(expression, &left) : self.extractSubqueries(expression, &right)
        }
    }

    private func columnForUsing(_ name: String, in columns: [ScopeColumn], side: String)
        throws(StatementError) -> ScopeColumn
    {
        let found = columns.filter { $0.name == name }
        guard let column = found.first else {
            throw StatementError(
                .undefinedColumn,
                "column \"\(name)\" specified in USING clause does not exist in \(side) table")
        }
        guard found.count == 1 else {
            throw StatementError(
                .ambiguousColumn, "common column name \"\(name)\" appears more than once in \(side) table")
        }
        return column
    }
}
