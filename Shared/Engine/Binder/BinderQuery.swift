import Base
import Contracts
import DataModel

// Queries: select blocks, set operations, VALUES, ORDER BY and LIMIT.

extension Binder {
    /// A query in a scope around it (nil: none). Its outputs are all that its plan makes.
    func bindQuery(_ index: Int32, in outer: Scope?) throws(StatementError) -> Query {
        let node = plan[index]
        let inherited = inheritedLockings
        inheritedLockings = []
        switch node.kind {
        case .select: return try bindSelect(node, in: outer, inherited)
        case .setOperation:
            if let clause = (inherited + (try lockings(node.children[6]))).first {
                throw StatementError(
                    .featureNotSupported, "\(clause.title) is not allowed with UNION/INTERSECT/EXCEPT")
            }
            return try bindSetOperation(node, in: outer)
        case .values: return try bindValuesQuery(node, in: outer)
        case .insert: return try bindInsert(node, in: outer)
        case .update: return try bindUpdate(node, in: outer)
        case .delete: return try bindDelete(node, in: outer)
        case _: throw unsupported("this query", at: node.position)  // Queries have no other kinds.
        }
    }

    // MARK: Select

    /// One target of a select block.
    struct Target {
        var name: String
        var expression: BoundExpression
        var collection: CollectionID?
        var column: ColumnID?
        /// By what it is compared in a query around this one.
        var collation = CollationState()
    }

    private func bindSelect(_ node: LogicalPlan.Node, in outer: Scope?, _ inherited: [Locking]) throws(StatementError)
        -> Query
    {
        let scope = Scope(parent: outer), columns = assignedColumns, isArm = keepsOpen
        (assignedColumns, keepsOpen) = ([], false)
        let tables = try bindWith(node.children[0], scope)
        scope.lockings = try lockings(node.children[11]) + inherited
        var below = try bindFrom(node.children[3], into: scope)
        try bindWindows(node.children[7], scope)
        // In PostgreSQL's order: of several faults, the first that it meets is told.
        var targets: [Target] = []
        for target in plan.list(node.children[2]) {
            let bound = try bindTarget(plan[target], scope, isKept: isArm || targets.count < columns.count)
            if bound.count == 1 { recorder?.targets[target] = bound[0].name }
            targets += bound
        }
        if node.children[4] != 0 {
            let condition = try bindCondition(node.children[4], scope, .condition, "WHERE")
            let flat = try extractSubqueries(condition, &below)
            below = .filter(below, flat)
        }
        var having: BoundExpression?
        if node.children[6] != 0 { having = try bindCondition(node.children[6], scope, .having, "HAVING") }
        if !isArm {
            for index in targets.indices { try settle(&targets[index].expression, columns.dropFirst(index).first) }
        }
        let order = try bindOrder(node.children[8], scope, &targets)
        if collations.areUsed {
            // Before groups and windows take the place of what says it.
            for index in targets.indices {
                targets[index].collation = try columnState(of: targets[index].expression)
                if node.flags.contains(.isDistinct), index < targets.count - order.hidden {
                    _ = try requireOneCollation(targets[index].expression)
                }
            }
        }
        let visible = targets.count - order.hidden
        if let clause = scope.lockings.first {
            try checkLocking(node, clause, targets.map(\.expression))
            let query = try bindLocked(node, below, scope, targets, order)
            return tables.isEmpty ? query : Query(plan: .with(tables, query.plan), outputs: query.outputs)
        }
        var groups = try bindGroups(node.children[5], scope, targets.prefix(visible).map { ($0.name, $0.expression) })
        if isArm { try settleArm(&targets, order, &groups, isDistinct: node.flags.contains(.isDistinct)) }
        var expressions = targets.map(\.expression)
        try group(&expressions, &having, groups, scope, &below, isDistinct: node.flags.contains(.isGroupDistinct))
        if let having { below = .filter(below, having) }
        try unwindow(&expressions, &below)
        for index in expressions.indices { expressions[index] = try extractSubqueries(expressions[index], &below) }
        try unroll(&expressions, &below)
        for index in targets.indices { targets[index].expression = expressions[index] }
        let result = try project(node, scope, below, targets, order)
        return tables.isEmpty ? result : Query(plan: .with(tables, result.plan), outputs: result.outputs)
    }

    /// A select block from its targets on: DISTINCT, ORDER BY and LIMIT.
    private func project(
        _ node: LogicalPlan.Node, _ scope: Scope, _ below: RelationalPlan, _ targets: [Target], _ order: Order
    ) throws(StatementError) -> Query {
        var order = order
        let visible = targets.count - order.hidden, late = lateTargets(node, targets, order)
        var projections: [Projection] = [], outputs: [OutputColumn] = []
        for (index, target) in targets.enumerated() {
            // A column that goes through keeps its attribute, if it is there once.
            let attribute = newAttribute()
            collations.set(target.collation, of: attribute)
            if !late.contains(index) {
                projections.append(Projection(attribute: attribute, expression: target.expression))
            }
            outputs.append(
                OutputColumn(
                    attribute: attribute, name: target.name, type: target.expression.type,
                    collection: target.collection, column: target.column))
        }
        projections += carried(late.map { targets[$0].expression }, from: below)
        for index in order.terms.indices {
            let place = order.places[index]
            order.terms[index].expression = .attribute(outputs[place].attribute, outputs[place].type)
        }
        var result: RelationalPlan = .project(below, projections)
        result = try distinct(result, node, scope, outputs, visible, order.terms)
        order.terms = order.terms.map(\.keyed)
        if !order.terms.isEmpty { result = .sort(result, order.terms, limit: nil) }
        result = try limit(result, node.children[9], node.children[10], node.flags, order.terms, scope)
        if order.hidden > 0 || !late.isEmpty {
            outputs.removeLast(order.hidden)
            result = .project(
                result,
                outputs.enumerated().map { index, output in
                    Projection(
                        attribute: output.attribute,
                        expression: late.contains(index)
                            ? targets[index].expression : .attribute(output.attribute, output.type))
                })
        }
        return Query(plan: result, outputs: outputs)
    }

    /// Targets that are computed of the rows that come out, in their order: each draws its own number of a sequence.
    private func lateTargets(_ node: LogicalPlan.Node, _ targets: [Target], _ order: Order) -> [Int] {
        let isCut = node.children[9] != 0 || node.children[10] != 0
        guard isCut || !order.terms.isEmpty, !node.flags.contains(.isDistinct) else { return [] }
        return targets.indices.dropLast(order.hidden).filter { index in
            !order.places.contains(index) && targets[index].expression.isVolatile
        }
    }

    /// What expressions that are computed later read of a plan.
    private func carried(_ expressions: [BoundExpression], from below: RelationalPlan) -> [Projection] {
        let made = Set(below.attributes)
        var seen: Set<Attribute> = [], found: [Projection] = []
        func look(_ expression: BoundExpression) {
            if let attribute = expression.attribute, made.contains(attribute), seen.insert(attribute).inserted {
                found.append(Projection(attribute: attribute, expression: .attribute(attribute, expression.type)))
            }
            for operand in expression.operands { look(operand) }
        }
        for expression in expressions { look(expression) }
        return found
    }

    private func bindTarget(_ node: LogicalPlan.Node, _ scope: Scope, isKept: Bool) throws(StatementError)
        -> [Target]
    {
        let value = plan[node.children[0]]
        if value.kind == .allFields, let relation = try relation(named: value.children[0], scope) {
            return relation.columns.map {
                Target(name: $0.name, expression: $0.expression, collection: $0.collection, column: $0.column)
            }
        }
        if value.kind == .star {
            let qualifier = nameParts(value.children[0])
            if qualifier.isEmpty, scope.relations.isEmpty {
                throw StatementError(
                    .syntaxError, "SELECT * with no tables specified is not valid", position: value.position)
            }
            let columns =
                qualifier.isEmpty
                ? scope.columns : try findRelation(qualifier, scope, at: value.position).columns
            recorder?.stars[node.children[0]] = columns.map { ViewRecorder.column($0, among: scope.relations) }
            return columns.map {
                Target(name: $0.name, expression: $0.expression, collection: $0.collection, column: $0.column)
            }
        }
        let bound = try bindExpression(node.children[0], scope, .targets)
        // What type a parameter has, conditions may say; and a literal, the column that it goes into.
        let isOpen =
            switch bound.form {
            case .parameter: bound.type.kind == .unknown
            case .constant: isKept
            case _: false
            }
        let expression = isOpen ? bound : try resolveUnknown(bound, as: .text)
        var target = Target(
            name: node.name.isEmpty ? targetName(node.children[0]) : node.name, expression: expression)
        if value.kind == .columnReference, let attribute = expression.attribute {
            for column in scope.columns where column.expression.attribute == attribute {
                (target.collection, target.column) = (column.collection, column.column)
            }
        }
        return [target]
    }

    // MARK: Order

    struct Order {
        var terms: [SortTerm] = []
        /// Of each term: which target it is.
        var places: [Int] = []
        /// Targets that were added for the order only.
        var hidden = 0
    }

    private func bindOrder(_ list: Int32, _ scope: Scope, _ targets: inout [Target]) throws(StatementError) -> Order {
        var order = Order()
        let visible = targets.count
        for item in plan.list(list) {
            let node = plan[item]
            let place: Int
            let bound = try bindOrderItem(
                node.children[0], scope, .order, targets.prefix(visible).map { ($0.name, $0.expression) })
            switch bound {
            case .target(let index): place = index
            case .expression(let expression):
                if let same = targets.firstIndex(where: { $0.expression.isSame(as: expression) }) {
                    place = same
                } else {
                    place = targets.count
                    targets.append(Target(name: "", expression: try resolveUnknown(expression, as: .text)))
                    order.hidden += 1
                }
            }
            order.places.append(place)
            order.terms.append(try sortTerm(node, targets[place].expression))
        }
        return order
    }

    func sortTerm(_ node: LogicalPlan.Node, _ expression: BoundExpression) throws(StatementError) -> SortTerm {
        var isDescending = node.flags.contains(.isDescending)
        switch node.name {
        case "", "<": break
        case ">": isDescending = true
        case let name:
            throw StatementError(
                .wrongObjectType, "operator \(name) is not a valid ordering operator", position: node.position)
        }
        try requireOrder(expression, at: node.position)
        let isFirst =
            node.flags.contains(.isNullsFirst) || (isDescending && !node.flags.contains(.isNullsLast))
        var term = try sortTerm(expression)
        (term.isDescending, term.isNullsFirst) = (isDescending, isFirst)
        return term
    }

    func requireOrder(_ expression: BoundExpression, at position: Int32) throws(StatementError) {
        guard expression.type.kind == .json, !expression.type.isArray else { return }
        throw StatementError(
            .undefinedFunction, "could not identify an ordering operator for type json",
            hint: "Use an explicit ordering operator or modify the query.", position: position)
    }

    private enum OrderItem { case target(Int), expression(BoundExpression) }

    /// A name or number of a target, or any expression. ORDER BY prefers names of targets, GROUP BY columns.
    private func bindOrderItem(
        _ index: Int32, _ scope: Scope, _ place: ExpressionPlace,
        _ targets: [(name: String, expression: BoundExpression)]
    ) throws(StatementError) -> OrderItem {
        let node = plan[index]
        if node.kind == .integer {
            guard node.number >= 1, node.number <= targets.count else {
                throw StatementError(
                    .invalidColumnReference, "\(place.title) position \(node.number) is not in select list",
                    position: node.position)
            }
            return .target(Int(node.number) - 1)
        }
        if node.kind == .string || node.kind == .null || node.kind == .decimal {
            throw StatementError(
                .syntaxError, "non-integer constant in \(place.title)", position: node.position)
        }
        if node.kind == .columnReference, node.children[0] == 0 {
            let isColumn = place == .grouping && scope.columns.contains { $0.name == node.name }
            let found = isColumn ? [] : targets.indices.filter { targets[$0].name == node.name }
            if let first = found.first {
                guard
                    found.dropFirst().allSatisfy({ targets[$0].expression.isSame(as: targets[first].expression) })
                else {
                    throw StatementError(
                        .ambiguousColumn, "\(place.title) \"\(node.name)\" is ambiguous", position: node.position)
                }
                return .target(first)
            }
        }
        return .expression(try bindExpression(index, scope, place))
    }

    /// An element of GROUP BY.
    func bindGroupItem(_ index: Int32, _ scope: Scope, _ targets: [(name: String, expression: BoundExpression)])
        throws(StatementError) -> BoundExpression
    {
        switch try bindOrderItem(index, scope, .grouping, targets) {
        case .target(let place):
            if targets[place].expression.contains({ if case .aggregate = $0.form { true } else { false } }) {
                throw StatementError(
                    .groupingError, "aggregate functions are not allowed in GROUP BY", position: plan[index].position)
            }
            if targets[place].expression.contains({ if case .window = $0.form { true } else { false } }) {
                throw StatementError(
                    .windowingError, "window functions are not allowed in GROUP BY",
                    position: targets[place].expression.position)
            }
            return targets[place].expression
        case .expression(let expression): return try resolveUnknown(expression, as: .text)
        }
    }

    private func distinct(
        _ below: RelationalPlan, _ node: LogicalPlan.Node, _ scope: Scope, _ outputs: [OutputColumn], _ visible: Int,
        _ order: [SortTerm]
    ) throws(StatementError) -> RelationalPlan {
        guard node.flags.contains(.isDistinct) else { return below }
        let on = plan.list(node.children[1])
        guard !on.isEmpty else {
            guard outputs.count == visible else {
                throw StatementError(
                    .invalidColumnReference,
                    "for SELECT DISTINCT, ORDER BY expressions must appear in select list")
            }
            for output in outputs where output.type.kind == .json {
                throw StatementError(.undefinedFunction, "could not identify an equality operator for type json")
            }
            return .distinct(below, on: nil)
        }
        // Each expression is a target already, or is one of ORDER BY; the first rows are those of the order.
        var keys: [BoundExpression] = []
        guard case .project(let child, let projections) = below else { return below }
        var all = projections
        let targets = projections.prefix(visible).enumerated().map { (outputs[$0.offset].name, $0.element.expression) }
        for item in on {
            let expression: BoundExpression
            switch try bindOrderItem(item, scope, .order, targets) {
            case .target(let place):
                keys.append(.attribute(projections[place].attribute, projections[place].expression.type))
                continue
            case .expression(let bound): expression = bound
            }
            if let same = all.first(where: { $0.expression.isSame(as: expression) }) {
                keys.append(.attribute(same.attribute, expression.type))
            } else {
                let attribute = newAttribute()
                all.append(Projection(attribute: attribute, expression: expression))
                keys.append(.attribute(attribute, expression.type))
            }
        }
        for term in order.prefix(keys.count) {
            guard keys.contains(where: { $0.isSame(as: term.expression) }) else {
                throw StatementError(
                    .invalidColumnReference,
                    "SELECT DISTINCT ON expressions must match initial ORDER BY expressions")
            }
        }
        let terms =
            order
            + keys.filter { key in !order.contains { $0.expression.isSame(as: key) } }.map {
                SortTerm(expression: $0)
            }
        return .distinct(.sort(.project(child, all), terms.map(\.keyed), limit: nil), on: keys)
    }

    func limit(
        _ below: RelationalPlan, _ count: Int32, _ offset: Int32, _ flags: PlanFlags, _ order: [SortTerm],
        _ scope: Scope
    ) throws(StatementError) -> RelationalPlan {
        guard count != 0 || offset != 0 else { return below }
        var source = RelationalPlan.single
        func bound(_ index: Int32, _ clause: String) throws(StatementError) -> BoundExpression? {
            guard index != 0, plan[index].kind != .null else { return nil }
            let outer = Scope(parent: scope.parent)
            let expression: BoundExpression
            do throws(StatementError) {
                expression = try bindExpression(index, outer, .limit)
            } catch {
                guard error.state == .undefinedColumn else { throw error }
                throw StatementError(
                    .invalidColumnReference, "argument of \(clause) must not contain variables",
                    position: plan[index].position)
            }
            let number = try coerce(expression, to: .int64, .assignment, at: plan[index].position)
            return try extractSubqueries(number, &source)
        }
        var limits = LimitPlan(count: try bound(count, "LIMIT"), offset: try bound(offset, "OFFSET"))
        if flags.contains(.isWithTies) {
            guard count == 0 || plan[count].kind != .null else {
                throw StatementError(
                    .invalidRowCountInLimitClause, "row count cannot be null in FETCH FIRST ... WITH TIES clause")
            }
            guard !order.isEmpty else {
                throw StatementError(.syntaxError, "WITH TIES cannot be specified without ORDER BY clause")
            }
            limits.ties = order
        }
        // Numbers that a query gives are there before the rows are: an outer row, for all of them.
        if case .single = source { return .limit(below, limits) }
        return .apply(source, .limit(below, limits), .join(isLeft: false, condition: nil))
    }

    // MARK: Set operations

    private func bindSetOperation(_ node: LogicalPlan.Node, in outer: Scope?) throws(StatementError) -> Query {
        let scope = Scope(parent: outer)
        let tables = try bindWith(node.children[0], scope)
        for side in node.children[1...2] where plan[side].kind == .select {
            guard let clause = try lockings(plan[side].children[11]).first else { continue }
            throw StatementError(
                .featureNotSupported, "\(clause.title) is not allowed with UNION/INTERSECT/EXCEPT")
        }
        let operation: SetOperation = node.number == 0 ? .union : node.number == 1 ? .intersect : .except
        let left = try bindArm(node.children[1], in: scope), right = try bindArm(node.children[2], in: scope)
        let combined = try combine(operation, node.flags.contains(.isAll), left, right, at: node.position)
        let result = try finish(
            combined, order: node.children[3], node.children[4], node.children[5], node.flags, scope)
        return Query(plan: tables.isEmpty ? result.plan : .with(tables, result.plan), outputs: result.outputs)
    }

    func combine(_ operation: SetOperation, _ isAll: Bool, _ left: Query, _ right: Query, at position: Int32)
        throws(StatementError) -> Query
    {
        let title = operation == .union ? "UNION" : operation == .intersect ? "INTERSECT" : "EXCEPT"
        guard left.outputs.count == right.outputs.count else {
            throw StatementError(
                .syntaxError, "each \(title) query must have the same number of columns", position: position)
        }
        var outputs: [OutputColumn] = [], left = left, right = right
        for (index, (mine, theirs)) in zip(left.outputs, right.outputs).enumerated() {
            let type = try commonType(
                [
                    .attribute(mine.attribute, mine.type),
                    .attribute(theirs.attribute, theirs.type, at: right.plan.position(of: theirs.attribute)),
                ], place: title, at: position)
            if mine.type.isOpen { try left.settle(index, as: type, self) }
            if theirs.type.isOpen { try right.settle(index, as: type, self) }
            let output = OutputColumn(attribute: newAttribute(), name: mine.name, type: type)
            try note(output, [mine, theirs], isAll: operation == .union && isAll, at: position)
            outputs.append(output)
        }
        let (leftPlan, leftAttributes) = try retype(left, to: outputs.map(\.type), at: position)
        let (rightPlan, rightAttributes) = try retype(right, to: outputs.map(\.type), at: position)
        let combined = CombinePlan(
            operation: operation, isAll: isAll, left: leftPlan, right: rightPlan, leftAttributes: leftAttributes,
            rightAttributes: rightAttributes, outputs: outputs)
        return Query(plan: .combine(combined), outputs: outputs)
    }

    /// The query with its columns cast to `types`, where they differ.
    func retype(_ query: Query, to types: [DataType], at position: Int32) throws(StatementError)
        -> (RelationalPlan, [Attribute])
    {
        var projections: [Projection] = []
        var isSame = true
        for (output, type) in zip(query.outputs, types) {
            let value = BoundExpression.attribute(output.attribute, output.type)
            if output.type == type {
                projections.append(Projection(attribute: output.attribute, expression: value))
            } else {
                isSame = false
                projections.append(
                    Projection(
                        attribute: newAttribute(), expression: try coerce(value, to: type, .implicit, at: position)))
            }
        }
        return (isSame ? query.plan : .project(query.plan, projections), projections.map(\.attribute))
    }

    /// ORDER BY and LIMIT behind a set operation or VALUES: over its columns by name or number only.
    private func finish(
        _ query: Query, order list: Int32, _ count: Int32, _ offset: Int32, _ flags: PlanFlags, _ scope: Scope
    ) throws(StatementError) -> Query {
        let inner = Scope(parent: nil)
        inner.columns = query.outputs.map { ScopeColumn(name: $0.name, expression: .attribute($0.attribute, $0.type)) }
        let targets = query.outputs.map { ($0.name, BoundExpression.attribute($0.attribute, $0.type)) }
        var terms: [SortTerm] = []
        for item in plan.list(list) {
            let node = plan[item]
            guard case .target(let place) = try bindOrderItem(node.children[0], inner, .order, targets) else {
                throw StatementError(
                    .featureNotSupported, "invalid UNION/INTERSECT/EXCEPT ORDER BY clause",
                    detail: "Only result column names can be used, not expressions or functions.",
                    hint: "Add the expression/function to every SELECT, or move the UNION into a FROM clause.",
                    position: plan[node.children[0]].position)
            }
            terms.append(try sortTerm(node, targets[place].1).keyed)
        }
        let sorted: RelationalPlan = terms.isEmpty ? query.plan : .sort(query.plan, terms, limit: nil)
        return Query(plan: try limit(sorted, count, offset, flags, terms, scope), outputs: query.outputs)
    }

    // MARK: VALUES

    private func bindValuesQuery(_ node: LogicalPlan.Node, in outer: Scope?) throws(StatementError) -> Query {
        if let clause = try lockings(node.children[5]).first {
            throw StatementError(.featureNotSupported, "\(clause.title) cannot be applied to VALUES")
        }
        let scope = Scope(parent: outer)
        let tables = try bindWith(node.children[0], scope)
        var rows: [[BoundExpression]] = []
        for row in plan.list(node.children[1]) {
            var line: [BoundExpression] = []
            for item in plan.list(row) { line += try bindElements(item, scope, .values) }
            if let first = rows.first, first.count != line.count {
                throw StatementError(
                    .syntaxError, "VALUES lists must all be the same length", position: plan[row].position)
            }
            rows.append(line)
        }
        let query = try valuesPlan(rows)
        let result = try finish(query, order: node.children[2], node.children[3], node.children[4], node.flags, scope)
        return Query(plan: tables.isEmpty ? result.plan : .with(tables, result.plan), outputs: result.outputs)
    }

    /// Rows of expressions, each column of one type. Subqueries among them make it a union of selects.
    func valuesPlan(_ rows: [[BoundExpression]]) throws(StatementError) -> Query {
        var rows = rows
        var outputs: [OutputColumn] = []
        for column in (rows.first ?? []).indices {
            let type = try commonType(rows.map { $0[column] }, place: "VALUES", at: 0)
            for row in rows.indices {
                rows[row][column] = try coerce(rows[row][column], to: type, .implicit, at: rows[row][column].position)
            }
            let attribute = newAttribute()
            outputs.append(OutputColumn(attribute: attribute, name: "column\(column + 1)", type: type))
            if collations.areUsed, Collation.of(type) != nil {
                collations.set(try merged(rows.map { $0[column] }).asColumn, of: attribute)
            }
        }
        let isPlain = !rows.contains { row in
            row.contains { $0.contains { if case .subquery = $0.form { true } else { false } } }
        }
        if isPlain { return Query(plan: .values(rows: rows, outputs: outputs), outputs: outputs) }
        var result: Query?
        for row in rows {
            var below = RelationalPlan.single
            var projections: [Projection] = [], columns: [OutputColumn] = []
            for (expression, output) in zip(row, outputs) {
                let flat = try extractSubqueries(expression, &below)
                let attribute = newAttribute()
                projections.append(Projection(attribute: attribute, expression: flat))
                columns.append(OutputColumn(attribute: attribute, name: output.name, type: flat.type))
            }
            let query = Query(plan: .project(below, projections), outputs: columns)
            result = if let before = result { try combine(.union, true, before, query, at: 0) } else { query }
        }
        return result ?? Query(plan: .values(rows: [], outputs: outputs), outputs: outputs)
    }
}
