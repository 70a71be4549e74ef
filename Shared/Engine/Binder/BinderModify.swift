import Base
import Contracts
import DataModel

// INSERT, UPDATE, DELETE.

extension Binder {
    /// The collection that is written, with an alias if it has one.
    private func bindWritten(_ index: Int32, _ verb: String) throws(StatementError) -> (CollectionDescriptor, String) {
        let node = plan[index]
        let collection = try findCollection(node.name, qualifier: nameParts(node.children[0]), at: node.position)
        if SystemCatalogs.isComputed(collection) {
            throw StatementError(
                .insufficientPrivilege, "permission denied: \"\(collection.name)\" is a system catalog",
                position: 0)
        }
        switch collection.kind {
        case .table: break
        case .view:
            throw StatementError(
                .objectNotInPrerequisiteState, "cannot \(verb) view \"\(collection.name)\"",
                detail: "Views are not updatable.")
        case .sequence:
            throw StatementError(
                .wrongObjectType, "cannot change sequence \"\(collection.name)\"", position: node.position)
        }
        guard collection.foreignKeys.isEmpty else { throw unsupported("writing to a table with foreign keys", at: 0) }
        return (collection, node.children[1] == 0 ? node.name : plan[node.children[1]].name)
    }

    private func column(_ name: String, _ collection: CollectionDescriptor, at position: Int32) throws(StatementError)
        -> Int
    {
        guard let place = collection.columns.firstIndex(where: { $0.name == name }) else {
            throw StatementError(
                .undefinedColumn, "column \"\(name)\" of relation \"\(collection.name)\" does not exist",
                position: position)
        }
        return place
    }

    /// A value as a column takes it.
    func assign(_ expression: BoundExpression, to column: CollectionDescriptor.Column, at position: Int32)
        throws(StatementError) -> BoundExpression
    {
        let isKnown = expression.type.kind != .unknown || expression.type.isArray
        guard !isKnown || Casts.find(from: expression.type, to: column.type, .assignment, at: position) != nil else {
            throw StatementError(
                .datatypeMismatch,
                "column \"\(column.name)\" is of type \(column.type.title) but expression is of type "
                    + expression.type.title,
                hint: "You will need to rewrite or cast the expression.",
                position: expression.position == 0 ? position : expression.position)
        }
        return try coerce(expression, to: column.type, .assignment, at: position)
    }

    /// What a column has if nothing is said: its DEFAULT, or NULL. Numbers of sequences are drawn elsewhere.
    private func defaultValue(_ column: CollectionDescriptor.Column) throws(StatementError) -> BoundExpression {
        guard column.sequence == nil, let stored = column.defaultValue else { return .constant(.null, column.type) }
        let inner = Binder(try StoredPlans.expression(stored), within: self)
        let bound = try inner.bindExpression(inner.plan.root, Scope(parent: nil), .columnDefault)
        let value = try inner.assign(bound, to: column, at: 0)
        absorb(inner)
        return value
    }

    func checks(_ collection: CollectionDescriptor, _ columns: [ScopeColumn]) throws(StatementError) -> [(
        name: String, condition: BoundExpression
    )] {
        var checks: [(name: String, condition: BoundExpression)] = []
        // Of several that a row violates, the first by its name is told.
        let inOrder = collection.checks.sorted { $0.name.utf8.lexicographicallyPrecedes($1.name.utf8) }
        for check in inOrder {
            let inner = Binder(try StoredPlans.expression(check.condition), within: self)
            let scope = Scope(parent: nil)
            scope.columns = columns
            scope.relations = [ScopeRelation(alias: collection.name, columns: columns)]
            checks.append((check.name, try inner.bindCondition(inner.plan.root, scope, .check, "CHECK")))
            absorb(inner)
        }
        return checks
    }

    func indexes(_ collection: CollectionDescriptor) throws(StatementError) -> [ModifyPlan.IndexWrite] {
        var indexes: [ModifyPlan.IndexWrite] = []
        for index in collection.indexes {
            guard let id = index.entries, let entries = catalog.collection(id) else {
                throw StatementError(.internalError, "the index \(index.name) has no entries")
            }
            let places = index.parts.compactMap { part in collection.columns.firstIndex { $0.id == part.column } }
            versions[entries.id] = entries.version
            indexes.append(
                ModifyPlan.IndexWrite(name: index.name, isUnique: index.isUnique, entries: entries, columns: places))
        }
        return indexes
    }

    func columns(_ collection: CollectionDescriptor, _ attributes: [Attribute]) -> [ScopeColumn] {
        zip(collection.columns, attributes).map { column, attribute in
            note(attribute, column)
            return ScopeColumn(
                name: column.name, expression: .attribute(attribute, column.type), collection: collection.id,
                column: column.id)
        }
    }

    private func bindReturning(_ list: Int32, _ scope: Scope, _ modify: inout ModifyPlan) throws(StatementError) {
        for target in plan.list(list) {
            let node = plan[target]
            let value = plan[node.children[0]]
            if value.kind == .star {
                let qualifier = nameParts(value.children[0])
                let found =
                    qualifier.isEmpty
                    ? scope.columns : try findRelation(qualifier, scope, at: value.position).columns
                for column in found {
                    try append(column.name, column.expression, column.collection, column.column, to: &modify)
                }
                continue
            }
            let bound = try resolveUnknown(try bindExpression(node.children[0], scope, .returning), as: .text)
            let source = scope.columns.first {
                $0.expression.attribute != nil && $0.expression.attribute == bound.attribute
            }
            let name = node.name.isEmpty ? targetName(node.children[0]) : node.name
            try append(name, bound, source?.collection, source?.column, to: &modify)
        }
    }

    private func append(
        _ name: String, _ expression: BoundExpression, _ collection: CollectionID?, _ column: ColumnID?,
        to modify: inout ModifyPlan
    ) throws(StatementError) {
        let attribute = newAttribute()
        try note(attribute, expression)
        modify.returning.append(Projection(attribute: attribute, expression: expression))
        modify.outputs.append(
            OutputColumn(
                attribute: attribute, name: name, type: expression.type, collection: collection, column: column))
    }

    /// The statement as a whole: over the change, what its RETURNING asks of other rows.
    private func finish(_ change: ModifyPlan, _ tables: [CommonTable], _ scope: Scope) throws(StatementError) -> Query {
        var modify = change
        var result = RelationalPlan.modify(modify)
        let hasQuery = modify.returning.contains { projection in
            projection.expression.contains { if case .subquery = $0.form { true } else { false } }
        }
        if hasQuery {
            var read: Set<Attribute> = [], carried: [Projection] = [], outputs: [OutputColumn] = []
            for projection in modify.returning { projection.expression.collectAttributes(into: &read) }
            for column in scope.relations.flatMap(\.columns) {
                guard let attribute = column.expression.attribute, read.remove(attribute) != nil else { continue }
                carried.append(Projection(attribute: attribute, expression: column.expression))
                outputs.append(
                    OutputColumn(attribute: attribute, name: column.name, type: column.expression.type))
            }
            if carried.isEmpty {
                let one = newAttribute()
                carried.append(Projection(attribute: one, expression: .yes))
                outputs.append(OutputColumn(attribute: one, name: "", type: .bool))
            }
            var projections = modify.returning
            (modify.returning, modify.outputs) = (carried, outputs)
            result = .modify(modify)
            for index in projections.indices {
                projections[index].expression = try extractSubqueries(projections[index].expression, &result)
            }
            result = .project(result, projections)
        }
        return Query(plan: tables.isEmpty ? result : .with(tables, result), outputs: change.outputs)
    }

    // MARK: INSERT

    func bindInsert(_ node: LogicalPlan.Node, in parent: Scope? = nil) throws(StatementError) -> Query {
        let outer = Scope(parent: parent)
        let tables = try bindWith(node.children[0], outer)
        let (collection, alias) = try bindWritten(node.children[1], "insert into")
        let asked = accesses.count
        var places: [Int] = []
        for item in plan.list(node.children[2]) {
            let place = try column(plan[item].name, collection, at: plan[item].position)
            guard !places.contains(place) else {
                throw StatementError(
                    .duplicateColumn, "column \"\(plan[item].name)\" specified more than once",
                    position: plan[item].position)
            }
            places.append(place)
        }
        let isNamed = !places.isEmpty
        if !isNamed { places = Array(collection.columns.indices) }
        var source = try bindSource(node, collection, &places, isNamed: isNamed, outer)
        needsInserting(node, collection, alias, places, before: asked)
        // Every column of the table, in its order.
        var projections: [Projection] = [], values: [Attribute] = [], draws: [ModifyPlan.Draw] = []
        for (index, column) in collection.columns.enumerated() {
            let given = places.firstIndex(of: index)
            try checkIdentity(column, isGiven: given.map { source.isGiven[$0] } ?? false, node)
            let attribute = newAttribute()
            values.append(attribute)
            if let given {
                projections.append(Projection(attribute: attribute, expression: source.values[given]))
            } else {
                projections.append(Projection(attribute: attribute, expression: try defaultValue(column)))
            }
            guard let sequence = column.sequence else { continue }
            if column.identity == .none, given.map({ source.flags[$0] != nil }) ?? true,
                let numbers = catalog.collection(sequence)
            {
                needsDrawing(from: numbers)
            }
            if let given {
                guard let flag = source.flags[given] else { continue }
                projections.append(Projection(attribute: flag, expression: .attribute(flag, .bool)))
                draws.append(ModifyPlan.Draw(value: attribute, flag: flag, sequence: sequence))
            } else {
                draws.append(ModifyPlan.Draw(value: attribute, flag: nil, sequence: sequence))
            }
        }
        for index in projections.indices {
            projections[index].expression = try extractSubqueries(projections[index].expression, &source.plan)
        }
        let target = columns(collection, values)
        var old: [OutputColumn] = []
        var rows = RelationalPlan.project(source.plan, projections)
        let action = try bindConflict(node.children[4], collection, alias, target, in: outer, &old, &rows)
        var modify = ModifyPlan(
            child: rows, collection: collection,
            schema: catalog.name(of: collection.namespace), action: .insert(action), values: values, old: old,
            draws: draws, indexes: try indexes(collection), checks: try checks(collection, target))
        if node.children[4] != 0 { modify.arbiters = try arbiters(plan[node.children[4]], collection) }
        outer.relations = [ScopeRelation(alias: alias, columns: target, collection: collection)]
        outer.columns = target
        try bindReturning(node.children[5], outer, &modify)
        return try finish(modify, tables, outer)
    }

    private func checkIdentity(_ column: CollectionDescriptor.Column, isGiven: Bool, _ node: LogicalPlan.Node)
        throws(StatementError)
    {
        guard column.identity == .always, isGiven, node.number != 2 else { return }
        if node.number == 1 { throw unsupported("OVERRIDING USER VALUE", at: node.position) }
        throw StatementError(
            .generatedAlways, "cannot insert a non-DEFAULT value into column \"\(column.name)\"",
            detail: "Column \"\(column.name)\" is an identity column defined as GENERATED ALWAYS.",
            hint: "Use OVERRIDING SYSTEM VALUE to override.")
    }

    private struct Source {
        var plan: RelationalPlan
        /// By place in the list of columns.
        var values: [BoundExpression]
        /// Of columns with DEFAULT in some rows: where.
        var flags: [Attribute?]
        /// Whether a value was said that is not DEFAULT.
        var isGiven: [Bool]
    }

    private func bindSource(
        _ node: LogicalPlan.Node, _ collection: CollectionDescriptor, _ places: inout [Int], isNamed: Bool,
        _ scope: Scope
    ) throws(StatementError) -> Source {
        let index = node.children[3]
        guard index != 0 else {
            places = []
            return Source(plan: .single, values: [], flags: [], isGiven: [])
        }
        let query = plan[index]
        if query.kind == .input { return bindInput(collection, places) }
        let isPlain = query.kind == .values && query.children[0] == 0 && query.children[2...].allSatisfy { $0 == 0 }
        if isPlain { return try bindRows(query, collection, &places, isNamed: isNamed, scope) }
        if query.kind == .select, !query.flags.contains(.isDistinct) {
            assignedColumns = places.map { collection.columns[$0] }
        }
        let bound = try bindQuery(index, in: scope)
        try checkCount(bound.outputs.count, &places, isNamed: isNamed, at: query.position)
        var values: [BoundExpression] = []
        for (output, place) in zip(bound.outputs, places) {
            values.append(
                try assign(.attribute(output.attribute, output.type), to: collection.columns[place], at: query.position)
            )
        }
        return Source(
            plan: bound.plan, values: values, flags: values.map { _ in nil }, isGiven: values.map { _ in true })
    }

    /// Rows that come with the request have the types of the columns.
    private func bindInput(_ collection: CollectionDescriptor, _ places: [Int]) -> Source {
        let columns = places.map { collection.columns[$0] }
        inputs = columns.map { ResultColumn(name: $0.name, type: $0.type, collection: collection.id, column: $0.id) }
        let outputs = columns.map { OutputColumn(attribute: newAttribute(), name: $0.name, type: $0.type) }
        return Source(
            plan: .input(outputs), values: outputs.map { .attribute($0.attribute, $0.type) },
            flags: outputs.map { _ in nil }, isGiven: outputs.map { _ in true })
    }

    private func checkCount(_ count: Int, _ places: inout [Int], isNamed: Bool, at position: Int32)
        throws(StatementError)
    {
        if count > places.count {
            throw StatementError(.syntaxError, "INSERT has more expressions than target columns", position: position)
        }
        if count < places.count {
            guard !isNamed else {
                throw StatementError(
                    .syntaxError, "INSERT has more target columns than expressions", position: position)
            }
            places = Array(places.prefix(count))
        }
    }

    /// VALUES of an INSERT: each row's values go to the columns on their own, and may be DEFAULT.
    private func bindRows(
        _ query: LogicalPlan.Node, _ collection: CollectionDescriptor, _ places: inout [Int], isNamed: Bool,
        _ scope: Scope
    ) throws(StatementError) -> Source {
        var rows: [[BoundExpression]] = []
        var isDefault: [[Bool]] = []
        for row in plan.list(query.children[1]) {
            let items = plan.list(row)
            if let first = rows.first, first.count != items.count {
                throw StatementError(
                    .syntaxError, "VALUES lists must all be the same length", position: plan[row].position)
            }
            let odd = items.count > places.count ? items[places.count] : items.first ?? row
            try checkCount(items.count, &places, isNamed: isNamed, at: plan[odd].position)
            var line: [BoundExpression] = [], defaults: [Bool] = []
            for (item, place) in zip(items, places) {
                let column = collection.columns[place]
                let isSaid = plan[item].kind == .default
                defaults.append(isSaid)
                line.append(
                    isSaid
                        ? try defaultValue(column)
                        : try assign(
                            try bindExpression(item, scope, .values), to: column, at: plan[item].position))
            }
            rows.append(line)
            isDefault.append(defaults)
        }
        var flags: [Attribute?] = [], isGiven: [Bool] = []
        var extra: [Int] = []
        for place in places.indices {
            let hasDefault = isDefault.contains { $0[place] }
            isGiven.append(isDefault.contains { !$0[place] })
            let isDrawn = hasDefault && collection.columns[places[place]].sequence != nil
            flags.append(isDrawn ? newAttribute() : nil)
            if isDrawn { extra.append(place) }
        }
        for row in rows.indices { rows[row] += extra.map { .constant(.bool(isDefault[row][$0]), .bool) } }
        var result = try valuesPlan(rows)
        let values = result.outputs.prefix(places.count).map { BoundExpression.attribute($0.attribute, $0.type) }
        // The flags under their attributes.
        if !extra.isEmpty {
            var projections = result.outputs.prefix(places.count).map {
                Projection(attribute: $0.attribute, expression: .attribute($0.attribute, $0.type))
            }
            for (number, place) in extra.enumerated() {
                guard let flag = flags[place] else { continue }
                let output = result.outputs[places.count + number]
                projections.append(Projection(attribute: flag, expression: .attribute(output.attribute, .bool)))
            }
            result.plan = .project(result.plan, projections)
        }
        return Source(plan: result.plan, values: Array(values), flags: flags, isGiven: isGiven)
    }

    private func bindConflict(
        _ index: Int32, _ collection: CollectionDescriptor, _ alias: String, _ target: [ScopeColumn], in outer: Scope,
        _ old: inout [OutputColumn], _ below: inout RelationalPlan
    ) throws(StatementError) -> ModifyPlan.ConflictAction {
        guard index != 0 else { return .fail }
        let node = plan[index]
        let elements = plan.list(node.children[0]), assignments = plan.list(node.children[2])
        guard node.children[1] == 0 else {
            throw unsupported("ON CONFLICT with WHERE on its columns", at: node.position)
        }
        guard !elements.isEmpty || !node.name.isEmpty || assignments.isEmpty else {
            throw StatementError(
                .syntaxError, "ON CONFLICT DO UPDATE requires inference specification or constraint name",
                hint: "For example, ON CONFLICT (column_name).", position: node.position)
        }
        guard !assignments.isEmpty else { return .nothing }
        old = collection.columns.map { OutputColumn(attribute: newAttribute(), name: $0.name, type: $0.type) }
        let existing = columns(collection, old.map(\.attribute))
        let scope = Scope(parent: outer)
        scope.relations = [
            ScopeRelation(alias: alias, columns: existing, collection: collection),
            ScopeRelation(alias: "excluded", columns: target),
        ]
        scope.columns = existing
        var values = existing.map(\.expression)
        try bindAssignments(assignments, collection, scope, &values)
        var condition: BoundExpression?
        if node.children[3] != 0 { condition = try bindCondition(node.children[3], scope, .condition, "WHERE") }
        // What a query gives is known before the row that is there is: unless it reads that.
        let existingAttributes = Set(old.map(\.attribute))
        func flat(_ expression: BoundExpression) throws(StatementError) -> BoundExpression {
            let reads = expression.contains { part in
                guard case .subquery = part.form else { return false }
                return !part.attributes.isDisjoint(with: existingAttributes)
            }
            if reads { throw unsupported("a subquery in ON CONFLICT over the row that is there", at: node.position) }
            return try extractSubqueries(expression, &below)
        }
        for place in values.indices { values[place] = try flat(values[place]) }
        if let test = condition { condition = try flat(test) }
        let isKeyChanged = collection.primaryKey.contains { id in
            guard let place = collection.columns.firstIndex(where: { $0.id == id }) else { return true }
            return values[place].attribute != old[place].attribute
        }
        if isKeyChanged { throw unsupported("a change of the primary key in ON CONFLICT", at: node.position) }
        return .update(values, condition: condition)
    }

    /// What a row may be in conflict with: the primary key and unique indexes that ON CONFLICT names, by their columns
    /// or by the name of a constraint; all of them if it names none.
    private func arbiters(_ node: LogicalPlan.Node, _ collection: CollectionDescriptor) throws(StatementError)
        -> [ModifyOperator.Target]
    {
        let isKeyed = !collection.primaryKey.isEmpty
        let unique = collection.indexes.indices.filter { collection.indexes[$0].isUnique }
        if !node.name.isEmpty {
            if isKeyed, node.name == collection.primaryKeyName { return [.rows] }
            let constraints = unique.filter { collection.indexes[$0].isConstraint }
            let named = constraints.first { collection.indexes[$0].name == node.name }
            guard let named else {
                throw StatementError(
                    .undefinedObject,
                    "constraint \"\(node.name)\" for table \"\(collection.name)\" does not exist",
                    position: node.position)
            }
            return [.entries(named)]
        }
        let elements = plan.list(node.children[0])
        if elements.isEmpty { return [.rows] + unique.map(ModifyOperator.Target.entries) }
        var named: Set<ColumnID> = []
        for element in elements {
            let value = plan[plan[element].children[0]]
            guard value.kind == .columnReference else { throw unsupported("this ON CONFLICT", at: node.position) }
            named.insert(collection.columns[try column(value.name, collection, at: value.position)].id)
        }
        var found: [ModifyOperator.Target] = isKeyed && named == Set(collection.primaryKey) ? [.rows] : []
        found += unique.filter { named == Set(collection.indexes[$0].parts.map(\.column)) }.map { .entries($0) }
        guard !found.isEmpty else {
            throw StatementError(
                .invalidColumnReference,
                "there is no unique or exclusion constraint matching the ON CONFLICT specification")
        }
        return found
    }

    // MARK: UPDATE and DELETE

    /// SET: into the values of all columns.
    private func bindAssignments(
        _ list: [Int32], _ collection: CollectionDescriptor, _ scope: Scope, _ values: inout [BoundExpression]
    ) throws(StatementError) {
        var seen: Set<Int> = []
        func claim(_ name: String, at position: Int32) throws(StatementError) -> Int {
            let place = try column(name, collection, at: position)
            guard seen.insert(place).inserted else {
                throw StatementError(
                    .syntaxError, "multiple assignments to same column \"\(name)\"", position: position)
            }
            return place
        }
        func set(_ name: String, _ value: Int32, at position: Int32) throws(StatementError) {
            let place = try claim(name, at: position)
            let target = collection.columns[place]
            if plan[value].kind == .default {
                if target.sequence != nil { throw unsupported("SET to the next number of a sequence", at: position) }
                values[place] = try defaultValue(target)
                return
            }
            if target.identity == .always {
                throw StatementError(
                    .generatedAlways, "column \"\(name)\" can only be updated to DEFAULT",
                    detail: "Column \"\(name)\" is an identity column defined as GENERATED ALWAYS.")
            }
            values[place] = try assign(
                try bindExpression(value, scope, .assignment), to: target, at: plan[value].position)
        }
        for item in list {
            let node = plan[item]
            if node.kind == .assignment {
                try set(node.name, node.children[0], at: node.position)
                continue
            }
            let names = plan.list(node.children[0]), source = plan[node.children[1]]
            if source.kind == .scalarQuery {
                let columns = try bindColumns(ofQuery: source, count: names.count, scope) { _ in
                    StatementError(
                        .syntaxError, "number of columns does not match number of values", position: node.position)
                }
                for (name, value) in zip(names, columns) {
                    let place = try claim(plan[name].name, at: plan[name].position)
                    values[place] = try assign(value, to: collection.columns[place], at: source.position)
                }
                continue
            }
            guard source.kind == .row else { throw unsupported("SET (…) = this", at: node.position) }
            guard names.count == source.children.count else {
                throw StatementError(
                    .syntaxError, "number of columns does not match number of values", position: node.position)
            }
            for (name, value) in zip(names, source.children) {
                try set(plan[name].name, value, at: plan[name].position)
            }
        }
    }

    func bindUpdate(_ node: LogicalPlan.Node, in parent: Scope? = nil) throws(StatementError) -> Query {
        let scope = Scope(parent: parent)
        let tables = try bindWith(node.children[0], scope)
        let (collection, alias) = try bindWritten(node.children[1], "update")
        needs(.update, on: collection, .these(assigned(plan.list(node.children[2]), collection)))
        needsReading(collection, as: alias, in: Array(node.children.dropFirst(2)))
        var (below, key, old) = try bindRowsToWrite(collection, alias, from: node.children[3], scope)
        if node.children[4] != 0 {
            let condition = try bindCondition(node.children[4], scope, .condition, "WHERE")
            let flat = try extractSubqueries(condition, &below)
            below = .filter(below, flat)
        }
        below = lockWritten(below, scope)
        var values = old.map { BoundExpression.attribute($0.attribute, $0.type) }
        try bindAssignments(plan.list(node.children[2]), collection, scope, &values)
        var projections = [Projection(attribute: key, expression: .attribute(key, .bytes))]
        for relation in scope.relations {
            for column in relation.columns {
                guard let attribute = column.expression.attribute else { continue }
                projections.append(Projection(attribute: attribute, expression: column.expression))
            }
        }
        var fresh: [Attribute] = []
        for value in values {
            let attribute = newAttribute()
            fresh.append(attribute)
            projections.append(Projection(attribute: attribute, expression: try extractSubqueries(value, &below)))
        }
        let target = columns(collection, fresh)
        var modify = ModifyPlan(
            child: .project(below, projections), collection: collection,
            schema: catalog.name(of: collection.namespace), action: .update(key: key), values: fresh, old: old,
            indexes: try indexes(collection), checks: try checks(collection, target))
        scope.relations[0].columns = target
        scope.columns.replaceSubrange(0..<target.count, with: target)
        try bindReturning(node.children[5], scope, &modify)
        return try finish(modify, tables, scope)
    }

    func bindDelete(_ node: LogicalPlan.Node, in parent: Scope? = nil) throws(StatementError) -> Query {
        let scope = Scope(parent: parent)
        let tables = try bindWith(node.children[0], scope)
        let (collection, alias) = try bindWritten(node.children[1], "delete from")
        needs(.delete, on: collection)
        needsReading(collection, as: alias, in: Array(node.children.dropFirst(2)))
        var (below, key, old) = try bindRowsToWrite(collection, alias, from: node.children[2], scope)
        if node.children[3] != 0 {
            let condition = try bindCondition(node.children[3], scope, .condition, "WHERE")
            let flat = try extractSubqueries(condition, &below)
            below = .filter(below, flat)
        }
        below = lockWritten(below, scope)
        var modify = ModifyPlan(
            child: below, collection: collection, schema: catalog.name(of: collection.namespace),
            action: .delete(key: key), values: old.map(\.attribute), old: old, indexes: try indexes(collection))
        try bindReturning(node.children[4], scope, &modify)
        return try finish(modify, tables, scope)
    }

    /// The rows of the table that is written, joined with what FROM or USING says.
    private func bindRowsToWrite(
        _ collection: CollectionDescriptor, _ alias: String, from list: Int32, _ scope: Scope
    ) throws(StatementError) -> (RelationalPlan, Attribute, [OutputColumn]) {
        let (scan, columns) = scanPlan(collection)
        guard let key = scan.key else { throw StatementError(.internalError, "a scan to write by has no key") }
        scope.relations = [ScopeRelation(alias: alias, columns: columns, collection: collection, key: key)]
        scope.columns = columns
        var below = RelationalPlan.scan(scan)
        let inner = Scope(parent: scope.parent)
        inner.commonTables = scope.commonTables
        let others = try bindFrom(list, into: inner)
        if !plan.list(list).isEmpty {
            if inner.relations.contains(where: { $0.alias == alias }) {
                throw StatementError(.duplicateAlias, "table name \"\(alias)\" specified more than once")
            }
            scope.relations += inner.relations
            scope.columns += inner.columns
            below = join(below, others, .inner, nil)
        }
        return (below, key, scan.outputs)
    }
}
