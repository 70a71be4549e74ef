import DataModel

/// Takes an optimised plan apart into the program that it is, if it is about one record.
struct PointCompiler {
    enum Step {
        case filter(PointExpression)
        case compute([(place: Int, expression: PointExpression)])
    }

    enum Action {
        case read, update, delete, insert, insertOrNothing
        case insertOrUpdate([PointExpression], condition: PointExpression?)
    }

    private(set) var collection: CollectionDescriptor?
    /// Of a change: the name of the collection's namespace.
    private(set) var schema = ""
    private(set) var scan: ScanPlan?
    private(set) var key: [PointProgram.KeyPart] = []
    private(set) var steps: [Step] = []
    private(set) var action = Action.read
    private(set) var outputs: [PointExpression] = []
    private(set) var values: [Int] = []
    private(set) var old: [Int] = []
    private(set) var checks: [(name: String, condition: PointExpression)] = []
    private(set) var places: [Attribute: Int] = [:]
    private(set) var placeCount = 0
    /// What projections give only another name, or compute from parameters alone.
    private var origins: [Attribute: BoundExpression] = [:]

    /// Columns of one statement's rows, in all its steps.
    private static let placeLimit = 4096

    /// False where the statement has another shape.
    mutating func compile(_ prepared: PreparedPlan) -> Bool {
        if case .modify(let plan) = prepared.plan { return compile(plan) }
        // A call that reads takes no locks, so a query that locks rows is none.
        guard prepared.kind == .select, !prepared.writes, walk(prepared.plan), let scan,
            let parts = parts(ofScan: scan)
        else { return false }
        (collection, key) = (scan.collection, parts)
        for output in prepared.outputs {
            guard let place = places[output.attribute], !Self.isNamed(output.type) else { return false }
            outputs.append(.place(place))
        }
        return true
    }

    private mutating func compile(_ plan: ModifyPlan) -> Bool {
        let table = plan.collection
        guard plan.indexes.isEmpty, plan.draws.isEmpty, !SystemCatalogs.isSystem(table), walk(plan.child) else {
            return false
        }
        (collection, schema) = (table, plan.schema)
        switch plan.action {
        case .update, .delete:
            guard let scan, scan.collection.id == table.id, let parts = parts(ofScan: scan) else { return false }
            key = parts
        case .insert:
            guard scan == nil, let parts = parts(ofValues: plan) else { return false }
            key = parts
        }
        switch plan.action {
        case .delete: action = .delete
        case .update:
            guard takeValues(plan), keepsKey(plan) else { return false }
            action = .update
        case .insert(let conflict):
            guard takeValues(plan), take(conflict, plan) else { return false }
        }
        for projection in plan.returning {
            guard let output = expression(projection.expression), !Self.isNamed(projection.expression.type) else {
                return false
            }
            outputs.append(output)
        }
        return true
    }

    // MARK: The way up

    private mutating func walk(_ plan: RelationalPlan) -> Bool {
        guard placeCount < Self.placeLimit else { return false }
        switch plan {
        case .single: return true
        case .scan(let found):
            guard scan == nil, found.limit == nil else { return false }
            scan = found
            for output in found.outputs { place(output.attribute) }
            if let key = found.key { place(key) }
            return found.filter.map { filter($0) } ?? true
        case .values(let rows, let outputs):
            guard rows.count == 1, rows[0].count == outputs.count else { return false }
            return compute(zip(outputs, rows[0]).map { Projection(attribute: $0.attribute, expression: $1) })
        case .filter(let child, let condition): return walk(child) && filter(condition)
        case .project(let child, let projections): return walk(child) && compute(projections)
        case .join, .merge, .apply, .aggregate, .sort, .limit, .distinct, .combine, .rows, .unroll, .window, .with,
            .input,
            .shared, .working, .recursive, .modify, .lock:
            return false
        }
    }

    private mutating func filter(_ condition: BoundExpression) -> Bool {
        guard let condition = expression(condition) else { return false }
        steps.append(.filter(condition))
        return true
    }

    private mutating func compute(_ projections: [Projection]) -> Bool {
        var list: [(place: Int, expression: PointExpression)] = []
        for projection in projections {
            guard let made = expression(projection.expression) else { return false }
            // A name for what has a place needs none of its own.
            if case .place(let place) = made {
                places[projection.attribute] = place
            } else {
                list.append((place(projection.attribute), made))
            }
            origins[projection.attribute] = origin(projection.expression)
        }
        if !list.isEmpty { steps.append(.compute(list)) }
        return true
    }

    @discardableResult
    private mutating func place(_ attribute: Attribute) -> Int {
        places[attribute] = placeCount
        placeCount += 1
        return placeCount - 1
    }

    private func expression(_ expression: BoundExpression) -> PointExpression? {
        PointExpression(expression, places: places)
    }

    private func origin(_ expression: BoundExpression) -> BoundExpression {
        expression.attribute.flatMap { origins[$0] } ?? expression
    }

    // MARK: The key

    private func parts(ofScan scan: ScanPlan) -> [PointProgram.KeyPart]? {
        guard let keys = scan.keys?.single, !SystemCatalogs.isSystem(scan.collection) else { return nil }
        var parts: [PointProgram.KeyPart] = []
        for (id, key) in zip(scan.collection.primaryKey, keys) {
            guard let column = scan.collection.column(id), let part = part(key, column.type) else { return nil }
            parts.append(part)
        }
        return parts
    }

    private func parts(ofValues plan: ModifyPlan) -> [PointProgram.KeyPart]? {
        guard !plan.collection.primaryKey.isEmpty else { return [.fresh] }
        var parts: [PointProgram.KeyPart] = []
        for id in plan.collection.primaryKey {
            guard let index = plan.collection.columns.firstIndex(where: { $0.id == id }),
                let value = origins[plan.values[index]], let part = part(value, plan.collection.columns[index].type)
            else { return nil }
            parts.append(part)
        }
        return parts
    }

    private func part(_ expression: BoundExpression, _ type: DataType) -> PointProgram.KeyPart? {
        switch expression.form {
        case .constant(let value):
            return value.isNull ? nil : .constant(KeyForms.encode([value], [type]))
        case .parameter(let index):
            // A length of its own would be cut to fit before it is compared.
            guard Self.isPlain(type), Self.isPlain(expression.type), expression.type.modifier < 0 else { return nil }
            return .parameter(index, column: type)
        case .attribute, .call, .and, .or, .not, .isNull, .choice, .coalesce, .array, .row, .subquery, .aggregate,
            .window, .rows:
            return nil
        }
    }

    /// Shown by a name that the catalog knows.
    private static func isNamed(_ type: DataType) -> Bool {
        [.regclass, .regtype, .regproc, .regnamespace, .regrole].contains(type.kind)
    }

    /// Text of these means the same in every session.
    private static func isPlain(_ type: DataType) -> Bool {
        guard !type.isArray else { return false }
        return [.int16, .int32, .int64, .text, .varchar, .uuid, .bool].contains(type.kind)
    }

    // MARK: Writing

    private mutating func takeValues(_ plan: ModifyPlan) -> Bool {
        for attribute in plan.values {
            guard let place = places[attribute] else { return false }
            values.append(place)
        }
        for (name, condition) in plan.checks {
            guard let made = expression(condition) else { return false }
            checks.append((name, made))
        }
        return true
    }

    /// Whether the row stays where it is.
    private func keepsKey(_ plan: ModifyPlan) -> Bool {
        plan.collection.primaryKey.allSatisfy { id in
            guard let index = plan.collection.columns.firstIndex(where: { $0.id == id }),
                let output = scan?.outputs.first(where: { $0.column == id })
            else { return false }
            return places[plan.values[index]] == places[output.attribute]
        }
    }

    private mutating func take(_ conflict: ModifyPlan.ConflictAction, _ plan: ModifyPlan) -> Bool {
        switch conflict {
        case .fail: action = .insert
        case .nothing: action = .insertOrNothing
        case .update(let expressions, let condition):
            // New values take the places of those that were to be inserted.
            guard Set(values).count == values.count else { return false }
            for output in plan.old { old.append(place(output.attribute)) }
            var made: [PointExpression] = [], test: PointExpression?
            for expression in expressions {
                guard let one = self.expression(expression) else { return false }
                made.append(one)
            }
            if let condition {
                guard let one = expression(condition) else { return false }
                test = one
            }
            action = .insertOrUpdate(made, condition: test)
        }
        return true
    }
}
