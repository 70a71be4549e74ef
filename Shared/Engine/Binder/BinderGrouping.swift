import Base
import Contracts
import DataModel

// GROUP BY, HAVING and aggregates: from expressions over rows to expressions over groups.

extension Binder {
    /// What GROUP BY says: expressions, and which of them each grouping set has.
    struct Groups {
        var expressions: [BoundExpression] = []
        var sets: [[Int]] = [[]]
        var isThere = false
        /// ROLLUP, CUBE or GROUPING SETS.
        var hasSets = false
    }

    func bindGroups(_ list: Int32, _ scope: Scope, _ targets: [(String, BoundExpression)]) throws(StatementError)
        -> Groups
    {
        var groups = Groups()
        let named = targets.map { (name: $0.0, expression: $0.1) }
        for item in plan.list(list) {
            groups.isThere = true
            let sets = try bindGroupingItem(item, scope, named, &groups)
            // Elements side by side: every combination of their sets.
            groups.sets = groups.sets.flatMap { left in sets.map { left + $0 } }
            if groups.sets.count > 4096 {
                throw StatementError(.statementTooComplex, "too many grouping sets present (maximum 4096)")
            }
        }
        return groups
    }

    private func bindGroupingItem(
        _ index: Int32, _ scope: Scope, _ targets: [(name: String, expression: BoundExpression)],
        _ groups: inout Groups
    ) throws(StatementError) -> [[Int]] {
        let node = plan[index]
        guard node.kind == .groupingSet else { return [try groupMembers(index, scope, targets, &groups)] }
        groups.hasSets = true
        switch node.number {
        case 0: return [[]]
        case 2, 3:
            var parts: [[Int]] = []
            for child in node.children { parts.append(try groupMembers(child, scope, targets, &groups)) }
            if node.number == 2 {
                return (0...parts.count).map { Array(parts.prefix(parts.count - $0).joined()) }
            }
            guard parts.count <= 12 else {
                throw StatementError(
                    .tooManyColumns, "CUBE is limited to 12 elements", position: node.position)
            }
            return (0..<(1 << parts.count)).map { mask in
                Array(parts.indices.filter { mask >> (parts.count - 1 - $0) & 1 == 0 }.map { parts[$0] }.joined())
            }
        case _:
            var sets: [[Int]] = []
            for child in node.children { sets += try bindGroupingItem(child, scope, targets, &groups) }
            return sets
        }
    }

    /// The expressions of one element; a parenthesised list has several.
    private func groupMembers(
        _ index: Int32, _ scope: Scope, _ targets: [(name: String, expression: BoundExpression)],
        _ groups: inout Groups
    ) throws(StatementError) -> [Int] {
        let node = plan[index]
        let items = node.kind == .row && !node.flags.contains(.isExplicit) ? node.children : [index]
        var members: [Int] = []
        for item in items {
            let expression = try bindGroupItem(item, scope, targets)
            _ = try requireOneCollation(expression, isEquality: true)
            if let same = groups.expressions.firstIndex(where: { $0.isSame(as: expression) }) {
                members.append(same)
            } else {
                members.append(groups.expressions.count)
                groups.expressions.append(expression)
            }
        }
        return members
    }

    /// Puts an aggregate over `below`, if the query has groups or aggregates, and rewrites what is over it.
    func group(
        _ expressions: inout [BoundExpression], _ having: inout BoundExpression?, _ groups: Groups, _ scope: Scope,
        _ below: inout RelationalPlan, isDistinct: Bool
    ) throws(StatementError) {
        func isAggregate(_ expression: BoundExpression) -> Bool {
            switch expression.form {
            case .aggregate: true
            default: false  // All the others are over rows.
            }
        }
        guard
            groups.isThere || having != nil || !scope.outerAggregates.isEmpty
                || expressions.contains(where: { $0.contains(isAggregate) })
        else {
            let own = scope.ownAttributes
            for expression in expressions {
                guard let found = ownGrouping(in: expression, own) else { continue }
                throw misplacedGrouping(at: found.operands.first?.position ?? found.position)
            }
            return
        }
        try refuseInRecursion(expressions + (having.map { [$0] } ?? []), scope)
        var flat: [BoundExpression] = []
        for expression in groups.expressions { flat.append(try extractSubqueries(expression, &below)) }
        try unroll(&flat, &below)
        let keys = flat.map { Projection(attribute: newAttribute(), expression: $0) }
        var grouping = Grouping(
            keys: keys, expressions: groups.expressions, own: scope.ownAttributes, scope: scope,
            hasSets: groups.hasSets)
        if !groups.hasSets { addDependents(&grouping) }
        for outer in scope.outerAggregates {
            grouping.calls.append((outer.attribute, try withoutSubqueries(outer.call, &below)))
        }
        for index in expressions.indices { expressions[index] = try regroup(expressions[index], &grouping, &below) }
        if let condition = having {
            let flat = try regroup(condition, &grouping, &below)
            having = flat
        }
        var sets = groups.sets
        if !groups.hasSets { sets = [Array(grouping.keys.indices)] }
        if isDistinct {
            var seen: Set<Set<Int>> = []
            sets = sets.filter { seen.insert(Set($0)).inserted }
        }
        below = .aggregate(
            AggregatePlan(
                child: below, groups: grouping.keys, sets: sets, calls: grouping.calls,
                groupingID: grouping.groupingID))
        if var condition = having {
            condition = try extractSubqueries(condition, &below)
            having = condition
        }
    }

    private struct Grouping {
        var keys: [Projection]
        /// As they were before their subqueries were taken out.
        var expressions: [BoundExpression]
        let own: Set<Attribute>
        let scope: Scope
        let hasSets: Bool
        var calls: [(attribute: Attribute, call: AggregateCall)] = []
        var groupingID: Attribute?
    }

    /// Columns that follow from a primary key that is grouped by may be used as well.
    private func addDependents(_ grouping: inout Grouping) {
        for relation in grouping.scope.relations {
            guard let collection = relation.collection, !collection.primaryKey.isEmpty else { continue }
            let isKeyed = collection.primaryKey.allSatisfy { id in
                relation.columns.contains { column in
                    column.column == id && grouping.expressions.contains { $0.isSame(as: column.expression) }
                }
            }
            guard isKeyed else { continue }
            for column in relation.columns
            where !grouping.expressions.contains(where: { $0.isSame(as: column.expression) }) {
                grouping.keys.append(Projection(attribute: newAttribute(), expression: column.expression))
                grouping.expressions.append(column.expression)
            }
        }
    }

    private func regroup(
        _ expression: BoundExpression, _ grouping: inout Grouping, _ below: inout RelationalPlan
    ) throws(StatementError) -> BoundExpression {
        if let key = grouping.expressions.firstIndex(where: { $0.isSame(as: expression) }) {
            return .attribute(grouping.keys[key].attribute, expression.type, at: expression.position)
        }
        // A cast that changes nothing but the type has left no trace but that.
        if let same = expression.attribute, let key = grouping.expressions.firstIndex(where: { $0.attribute == same }) {
            return .attribute(grouping.keys[key].attribute, expression.type, at: expression.position)
        }
        switch expression.form {
        case .aggregate(var call):
            call = try withoutSubqueries(call, &below)
            if let same = grouping.calls.first(where: { $0.call.isSame(as: call) }) {
                return .attribute(same.attribute, expression.type, at: expression.position)
            }
            let attribute = newAttribute()
            grouping.calls.append((attribute, call))
            return .attribute(attribute, expression.type, at: expression.position)
        case .attribute(let attribute) where grouping.own.contains(attribute):
            throw ungrouped(attribute, grouping.scope, at: expression.position)
        case .subquery(var subquery):
            let grouped = try withGrouping(subquery.plan, &grouping)
            // What it reads of this query are columns of groups from here on.
            let read = grouped.freeAttributes.intersection(grouping.own)
            var renamed: [Attribute: BoundExpression] = [:]
            let open = read.filter { own in !grouping.expressions.contains { $0.attribute == own } }
            if !open.isEmpty { throw ungrouped(open, in: grouped, grouping.scope, at: expression.position) }
            for attribute in read {
                guard let key = grouping.expressions.firstIndex(where: { $0.attribute == attribute }) else { continue }
                renamed[attribute] = .attribute(grouping.keys[key].attribute, grouping.expressions[key].type)
            }
            let plan = try grouped.substituting(renamed)
            var comparands: [BoundExpression] = []
            for operand in subquery.comparands { comparands.append(try regroup(operand, &grouping, &below)) }
            subquery = BoundSubquery(
                role: subquery.role, plan: plan, outputs: subquery.outputs, comparands: comparands,
                compared: subquery.compared)
            return BoundExpression(form: .subquery(subquery), type: expression.type, position: expression.position)
        case .call(let function, _)
        where function === GroupingFunction.marker && isOwn(expression, grouping.own):
            return try groupingValue(expression, &grouping)
        default:  // What is computed from others.
            var fresh: [BoundExpression] = []
            for operand in expression.operands { fresh.append(try regroup(operand, &grouping, &below)) }
            return fresh.isEmpty ? expression : expression.replacingOperands(fresh)
        }
    }

    private func withoutSubqueries(_ call: AggregateCall, _ below: inout RelationalPlan) throws(StatementError)
        -> AggregateCall
    {
        var fresh: [BoundExpression] = []
        for operand in call.operands { fresh.append(try extractSubqueries(operand, &below)) }
        return call.replacingOperands(fresh)
    }

    private func name(of attribute: Attribute, _ scope: Scope) -> String {
        for relation in scope.relations {
            for column in relation.columns where column.expression.attribute == attribute {
                return relation.alias.isEmpty ? column.name : "\(relation.alias).\(column.name)"
            }
        }
        return scope.columns.first { $0.expression.attribute == attribute }?.name ?? "?"
    }

    private func ungrouped(_ attribute: Attribute, _ scope: Scope, at position: Int32) -> StatementError {
        StatementError(
            .groupingError,
            "column \"\(name(of: attribute, scope))\" must appear in the GROUP BY clause or be used in an aggregate "
                + "function", position: position)
    }

    /// Columns that a subquery reads; the first of them is told.
    private func ungrouped(
        _ attributes: Set<Attribute>, in plan: RelationalPlan, _ scope: Scope, at position: Int32
    ) -> StatementError {
        let first = plan.firstReading(of: attributes)
        let attribute = first?.attribute ?? attributes.min { $0.id < $1.id }
        return StatementError(
            .groupingError,
            "subquery uses ungrouped column \"\(attribute.map { name(of: $0, scope) } ?? "?")\" from outer query",
            position: first?.position ?? position)
    }

    // MARK: GROUPING()

    func bindGroupingCall(_ node: LogicalPlan.Node, _ scope: Scope, _ place: ExpressionPlace) throws(StatementError)
        -> BoundExpression
    {
        guard place.allowsAggregates else {
            throw StatementError(
                .groupingError, "grouping operations are not allowed in \(place.title)", position: node.position)
        }
        var arguments: [BoundExpression] = []
        for child in node.children { arguments.append(try bindExpression(child, scope, place)) }
        return BoundExpression(
            form: .call(GroupingFunction.marker, arguments), type: .int32, position: node.position)
    }

    /// Whether GROUPING is about the groups of the query with these attributes, and not about those of one around it.
    private func isOwn(_ call: BoundExpression, _ own: Set<Attribute>) -> Bool {
        let read = call.attributes
        return read.isEmpty || !read.isDisjoint(with: own)
    }

    /// A GROUPING in a query that has no groups.
    private func ownGrouping(in expression: BoundExpression, _ own: Set<Attribute>) -> BoundExpression? {
        if case .call(let function, _) = expression.form, function === GroupingFunction.marker {
            return isOwn(expression, own) ? expression : nil
        }
        for operand in expression.operands {
            if let found = ownGrouping(in: operand, own) { return found }
        }
        return nil
    }

    private func misplacedGrouping(at position: Int32) -> StatementError {
        StatementError(
            .groupingError, "arguments to GROUPING must be grouping expressions of the associated query level",
            position: position)
    }

    /// The plan of a subquery with the values of GROUPING over the groups around it.
    private func withGrouping(_ plan: RelationalPlan, _ grouping: inout Grouping) throws(StatementError)
        -> RelationalPlan
    {
        try plan.rewritingExpressions { expression throws(StatementError) in
            try expression.rewritten { part throws(StatementError) in
                guard case .call(let function, _) = part.form, function === GroupingFunction.marker,
                    self.isOwn(part, grouping.own)
                else { return nil }
                return try self.groupingValue(part, &grouping)
            }
        }
    }

    /// The recursive part of a query must not aggregate what it has made so far.
    private func refuseInRecursion(_ expressions: [BoundExpression], _ scope: Scope) throws(StatementError) {
        guard scope.relations.contains(where: { $0.source == .working }) else { return }
        func aggregate(_ expression: BoundExpression) -> BoundExpression? {
            if case .aggregate = expression.form { return expression }
            for operand in expression.operands {
                if let found = aggregate(operand) { return found }
            }
            return nil
        }
        for expression in expressions {
            guard let found = aggregate(expression) else { continue }
            throw StatementError(
                .invalidRecursion, "aggregate functions are not allowed in a recursive query's recursive term",
                position: found.position)
        }
    }

    /// The bits of its arguments out of those of the grouping set.
    private func groupingValue(_ expression: BoundExpression, _ grouping: inout Grouping) throws(StatementError)
        -> BoundExpression
    {
        var places: [Int] = []
        for argument in expression.operands {
            guard let key = grouping.expressions.firstIndex(where: { $0.isSame(as: argument) }) else {
                throw misplacedGrouping(at: argument.position)
            }
            places.append(key)
        }
        let attribute = grouping.groupingID ?? newAttribute()
        grouping.groupingID = attribute
        let wanted = places
        let pick = ScalarFunction("grouping", [.of(.int64)], .of(.int32), example: nil) {
            arguments, _ throws(StatementError) in
            guard case .integer(let bits) = arguments[0] else { return .null }
            return .integer(wanted.reduce(0) { $0 << 1 | (bits >> Int64($1) & 1) })
        }
        return BoundExpression(
            form: .call(pick, [.attribute(attribute, .int64)]), type: .int32, position: expression.position)
    }
}

/// Stands for GROUPING(…) until the groups are known.
enum GroupingFunction {
    static let marker = ScalarFunction("grouping", [.any], .of(.int32), isVariadic: true, example: nil) {
        _, _ throws(StatementError) in .null
    }
}

extension RelationalPlan {
    /// The plan with expressions in place of attributes that it does not make itself.
    func substituting(_ replacements: [Attribute: BoundExpression]) throws(StatementError) -> RelationalPlan {
        if replacements.isEmpty { return self }
        return try rewritingExpressions { expression throws(StatementError) in
            try expression.rewritten { part throws(StatementError) in
                if let attribute = part.attribute { return replacements[attribute] }
                guard case .subquery(let subquery) = part.form else { return nil }
                let plan = try subquery.plan.substituting(replacements)
                return BoundExpression(
                    form: .subquery(
                        BoundSubquery(
                            role: subquery.role, plan: plan, outputs: subquery.outputs,
                            comparands: subquery.comparands, compared: subquery.compared)),
                    type: part.type, position: part.position)
            }
        }
    }
}
