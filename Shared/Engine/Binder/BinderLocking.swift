import Base
import Contracts
import DataModel

// FOR UPDATE and its like; and the locks of UPDATE and DELETE.

/// One locking clause.
struct Locking {
    /// 0 KEY SHARE, 1 SHARE, 2 NO KEY UPDATE, 3 UPDATE.
    var strength: Int64
    /// Empty: all.
    var names: [(name: String, position: Int32)] = []
    var wait: LockWait

    var title: String {
        "FOR " + ["KEY SHARE", "SHARE", "NO KEY UPDATE", "UPDATE"][Int(min(max(strength, 0), 3))]
    }

    func covers(_ alias: String) -> Bool { names.isEmpty || names.contains { $0.name == alias } }
}

extension LockWait {
    /// Of two clauses for one relation the more impatient one counts.
    fileprivate func merged(_ other: LockWait) -> LockWait {
        if self == .noWait || other == .noWait { return .noWait }
        return self == .skipLocked || other == .skipLocked ? .skipLocked : .wait
    }
}

extension Binder {
    func lockings(_ list: Int32) throws(StatementError) -> [Locking] {
        var clauses: [Locking] = []
        for index in plan.list(list) {
            let node = plan[index]
            var clause = Locking(
                strength: node.number,
                wait: node.flags.contains(.isNoWait)
                    ? .noWait : node.flags.contains(.isSkipLocked) ? .skipLocked : .wait)
            for name in plan.list(node.children[0]) {
                guard plan[name].children[0] == 0 else {
                    throw StatementError(
                        .syntaxError, "\(clause.title) must specify unqualified relation names",
                        position: plan[name].position)
                }
                clause.names.append((plan[name].name, plan[name].position))
            }
            clauses.append(clause)
        }
        return clauses
    }

    /// What a clause means for the tables within a part of FROM that is a query itself.
    func locking(within alias: String, _ scope: Scope) -> [Locking] {
        scope.lockings.filter { $0.covers(alias) }.map { Locking(strength: $0.strength, wait: $0.wait) }
    }

    /// What a select block with a locking clause must not have.
    func checkLocking(
        _ node: LogicalPlan.Node, _ clause: Locking, _ targets: [BoundExpression]
    ) throws(StatementError) {
        func contains(_ test: (BoundExpression) -> Bool) -> Bool { targets.contains { $0.contains(test) } }
        let fault: String? =
            if node.flags.contains(.isDistinct) {
                "DISTINCT clause"
            } else if node.children[5] != 0 {
                "GROUP BY clause"
            } else if node.children[6] != 0 {
                "HAVING clause"
            } else if contains({ if case .aggregate = $0.form { true } else { false } }) {
                "aggregate functions"
            } else if contains({ if case .window = $0.form { true } else { false } }) {
                "window functions"
            } else if contains({ if case .rows = $0.form { true } else { false } }) {
                "set-returning functions in the target list"
            } else {
                nil
            }
        guard let fault else { return }
        throw StatementError(.featureNotSupported, "\(clause.title) is not allowed with \(fault)")
    }

    /// The relations of a scope that its clauses are about, each with the strongest of them.
    private func lockedRelations(_ scope: Scope) throws(StatementError) -> [LockPlan.Relation] {
        var strengths: [Int: (strength: Int64, wait: LockWait)] = [:]
        for clause in scope.lockings {
            func mark(_ index: Int) throws(StatementError) {
                guard !scope.relations[index].isNullable else {
                    throw StatementError(
                        .featureNotSupported,
                        "\(clause.title) cannot be applied to the nullable side of an outer join")
                }
                let old = strengths[index] ?? (0, clause.wait)
                strengths[index] = (max(old.strength, clause.strength), old.wait.merged(clause.wait))
            }
            for index in scope.relations.indices where clause.names.isEmpty && scope.relations[index].key != nil {
                try mark(index)
            }
            for (name, position) in clause.names {
                guard let index = scope.relations.firstIndex(where: { $0.alias == name }) else {
                    throw StatementError(
                        .undefinedTable, "relation \"\(name)\" in \(clause.title) clause not found in FROM clause",
                        position: position)
                }
                switch scope.relations[index].source {
                case .table: try mark(index)
                case .query: break  // Its own tables are locked within it.
                case .function, .common, .working, .join:
                    throw StatementError(
                        .featureNotSupported,
                        "\(clause.title) cannot be applied to \(scope.relations[index].source.title)",
                        position: position)
                }
            }
        }
        for index in strengths.keys {
            if let collection = scope.relations[index].collection { needs(.update, on: collection) }
        }
        return strengths.sorted { $0.key < $1.key }.compactMap { index, lock in
            relation(scope.relations[index], isExclusive: lock.strength >= 2, wait: lock.wait)
        }
    }

    private func relation(_ relation: ScopeRelation, isExclusive: Bool, wait: LockWait) -> LockPlan.Relation? {
        guard let collection = relation.collection, let key = relation.key else { return nil }
        let outputs = relation.columns.compactMap { column in
            column.expression.attribute.map {
                OutputColumn(
                    attribute: $0, name: column.name, type: column.expression.type, collection: collection.id,
                    column: column.column)
            }
        }
        return LockPlan.Relation(
            collection: collection, key: key, outputs: outputs, isExclusive: isExclusive, wait: wait)
    }

    /// What a row must still meet once it is locked: the conditions over columns of this query's relations alone. Those
    /// over subqueries keep what they came to.
    private func recheck(_ below: RelationalPlan, _ scope: Scope) -> BoundExpression? {
        let made = Set(below.attributes), own = scope.ownAttributes
        return BoundExpression.all(
            below.choosingConditions.filter { condition in
                !condition.isVolatile && condition.attributes.intersection(made).isSubset(of: own)
            })
    }

    /// The rows that UPDATE and DELETE are about, locked: the first relation of the scope is the table.
    func lockWritten(_ below: RelationalPlan, _ scope: Scope) -> RelationalPlan {
        guard let written = relation(scope.relations[0], isExclusive: true, wait: .wait) else { return below }
        return .lock(below, LockPlan(relations: [written], condition: recheck(below, scope)))
    }

    /// A select block from its sorting on: its rows are locked when they are in order and before any is counted by
    /// LIMIT, so that no row is locked which does not come; what is selected is computed of the rows as they are then.
    func bindLocked(
        _ node: LogicalPlan.Node, _ source: RelationalPlan, _ scope: Scope, _ targets: [Target], _ order: Order
    ) throws(StatementError) -> Query {
        var below = source
        let relations = try lockedRelations(scope)
        let condition = recheck(below, scope)
        var terms = order.terms
        if !terms.isEmpty {
            var carried: [Projection] = [], keys: [Projection] = []
            for index in terms.indices {
                let expression = try extractSubqueries(targets[order.places[index]].expression, &below)
                keys.append(Projection(attribute: newAttribute(), expression: expression))
                terms[index].expression = .attribute(keys[index].attribute, expression.type)
            }
            var seen: Set<Attribute> = []
            for relation in scope.relations {
                for column in relation.columns {
                    guard let attribute = column.expression.attribute, seen.insert(attribute).inserted else { continue }
                    carried.append(Projection(attribute: attribute, expression: column.expression))
                }
                if let key = relation.key {
                    carried.append(Projection(attribute: key, expression: .attribute(key, .bytes)))
                }
            }
            terms = terms.map(\.keyed)
            below = .sort(.project(below, carried + keys), terms, limit: nil)
        }
        var plan = LockPlan(relations: relations, condition: condition)
        let limited = try limit(
            .single, node.children[9], node.children[10], node.flags, terms, scope)
        if scope.lockings.contains(where: { $0.wait == .skipLocked }), node.flags.contains(.isWithTies) {
            throw StatementError(.syntaxError, "SKIP LOCKED and WITH TIES options cannot be used together")
        }
        if case .limit(_, let limits) = limited, let count = limits.count, limits.ties == nil {
            plan.limits = [count] + (limits.offset.map { [$0] } ?? [])
        }
        if case .apply = limited { throw unsupported("a subquery in LIMIT beside \(scope.lockings[0].title)", at: 0) }
        if !relations.isEmpty { below = .lock(below, plan) }
        if case .limit(_, let limits) = limited { below = .limit(below, limits) }
        var projections: [Projection] = [], outputs: [OutputColumn] = []
        for target in targets.dropLast(order.hidden) {
            let attribute = newAttribute()
            collations.set(target.collation, of: attribute)
            projections.append(
                Projection(attribute: attribute, expression: try extractSubqueries(target.expression, &below)))
            outputs.append(
                OutputColumn(
                    attribute: attribute, name: target.name, type: target.expression.type,
                    collection: target.collection, column: target.column))
        }
        return Query(plan: .project(below, projections), outputs: outputs)
    }
}

extension RelationalPlan {
    /// The conditions that every row which comes out has met, of the query block at whose top this is.
    fileprivate var choosingConditions: [BoundExpression] {
        switch self {
        case .filter(let child, let condition): child.choosingConditions + condition.conjuncts
        case .join(.inner, let left, let right, let condition):
            left.choosingConditions + right.choosingConditions + (condition?.conjuncts ?? [])
        case .join(.left, let left, _, _), .join(.semi, let left, _, _), .join(.anti, let left, _, _):
            left.choosingConditions
        case .join(.right, _, let right, _): right.choosingConditions
        case .apply(let left, let right, .join(isLeft: false, let condition)):
            left.choosingConditions + right.choosingConditions + (condition?.conjuncts ?? [])
        case .apply(let left, _, .value), .apply(let left, _, .join(isLeft: true, _)): left.choosingConditions
        case .lock(let child, _): child.choosingConditions
        case .single, .scan, .values, .input, .project, .join(.full, _, _, _), .merge, .aggregate, .sort, .limit,
            .distinct, .combine, .rows, .unroll, .window, .with, .shared, .working, .recursive, .modify:
            []
        }
    }
}
