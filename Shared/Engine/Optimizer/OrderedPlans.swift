import Base
import DataModel

// Plans whose rows come in an order without a sort of all of them.

extension OrderRule {
    /// The plan with its rows in the order of `terms`, of which a `part` from 0 to 1 will be read; nil: nothing below
    /// has that order.
    func ordered(_ plan: RelationalPlan, _ terms: [SortTerm], part: Double) -> RelationalPlan? {
        if terms.isEmpty || terms.contains(where: { $0.expression.attribute == nil }) { return nil }
        if plan.deliveredOrder.begins(with: terms) { return plan }
        switch plan {
        case .scan(let scan): return scanned(scan, terms, part: part)
        case .filter(let child, let condition):
            return ordered(child, terms, part: part).map { .filter($0, condition) }
        case .project(let child, let projections):
            var below = terms
            for (index, term) in terms.enumerated() {
                guard let source = projections.first(where: { $0.attribute == term.expression.attribute })?.expression,
                    source.attribute != nil
                else { return nil }
                below[index].expression = source
            }
            return ordered(child, below, part: part).map { .project($0, projections) }
        case .apply(let left, let right, .value(let subquery, let attribute)):
            return ordered(left, terms, part: part).map { .apply($0, applied(right), .value(subquery, attribute)) }
        case .join(let kind, let left, let right, let condition):
            let merged = merged(kind, left, right, condition, terms, part: part)
            let probed = probed(kind, left, right, condition, terms, part: part)
            guard let merged, let probed else { return merged ?? probed }
            return estimator.cost(merged) <= estimator.cost(probed) ? merged : probed
        case .aggregate(let aggregate): return grouped(aggregate, terms, part: part)
        default: return nil  // Rows come in another order.
        }
    }

    /// In the order of the primary key, or of the entries of an index.
    private func scanned(_ given: ScanPlan, _ terms: [SortTerm], part: Double) -> RelationalPlan? {
        var scan = given
        scan.lookup = nil
        // Values of `char` are compared without the blanks that keys have.
        guard !SystemCatalogs.isSystem(scan.collection), KeyspaceTables.table(scan.collection) == nil,
            !scan.isForUpdate, scan.limit == nil, scan.keys?.isComplete != true, scan.order == nil,
            !terms.contains(where: { $0.expression.type.kind == .char })
        else { return nil }
        var best: RelationalPlan?, least = Double.infinity
        for index in [nil] + scan.indexes.map(Optional.some) {
            guard var order = ScanOrder(terms, of: scan, along: index) else { continue }
            if part < 1 {
                // Some more: what is asked for at once is read at once.
                let count = (estimator.rows(scan) * part * 1.5).rounded(.up) + 10
                if index != nil, count > Double(OrderedReading.entryLimit) { continue }
                order.count = .constant(.integer(Int64(count)), .int64)
            } else {
                order.isLong = index != nil
            }
            var candidate = scan
            candidate.order = order
            let cost = estimator.cost(.scan(candidate))
            if cost < least { (best, least) = (.scan(candidate), cost) }
        }
        return best
    }

    /// A join by a hash table of the right side: rows come out in the order of the left one.
    private func probed(
        _ kind: JoinKind, _ left: RelationalPlan, _ right: RelationalPlan, _ condition: BoundExpression?,
        _ terms: [SortTerm], part: Double
    ) -> RelationalPlan? {
        switch kind {
        case .inner, .semi, .anti: break
        case .left, .right, .full: return nil
        }
        let own = Set(left.attributes), plain = right.withoutLookup
        let join = RelationalPlan.join(kind, left, plain, condition: condition)
        guard terms.allSatisfy({ $0.expression.attributes.isSubset(of: own) }), !isTooLarge(join),
            !JoinCondition(condition, left: own, right: Set(right.attributes)).equations.isEmpty
        else { return nil }
        return ordered(left, terms, part: part).map { .join(kind, $0, applied(plain), condition: condition) }
    }

    // MARK: Joins

    /// A join along an order that has `terms` first; without terms, along any that the sides have.
    func merged(
        _ kind: JoinKind, _ left: RelationalPlan, _ right: RelationalPlan, _ condition: BoundExpression?,
        _ terms: [SortTerm], part: Double
    ) -> RelationalPlan? {
        if settings.avoidsMergeJoins { return nil }
        let left = left.withoutLookup, right = right.withoutLookup
        let keys = MergeKeyChoice(kind, left, right, condition)
        if keys.all.isEmpty { return nil }
        var arrangements = keys.arrangements(for: terms, of: Set(left.attributes))
        if terms.isEmpty {
            arrangements += naturalOrders(left).compactMap { keys.arrangement(along: $0, isLeft: true) }
            arrangements += naturalOrders(right).compactMap { keys.arrangement(along: $0, isLeft: false) }
            // Both sides sorted.
            arrangements.append(.init(keys: Array(keys.all.indices)))
        }
        var best: RelationalPlan?, least = Double.infinity
        for arrangement in arrangements {
            let terms = keys.terms(arrangement)
            guard let mine = inOrder(left, terms.left, part: part), let theirs = inOrder(right, terms.right, part: part)
            else { continue }
            let plan = RelationalPlan.merge(
                MergePlan(
                    kind: kind, left: mine, right: theirs, keys: keys.keys(arrangement), rest: keys.rest(arrangement)))
            let cost = estimator.cost(plan)
            if cost < least { (best, least) = (plan, cost) }
        }
        return best
    }

    // MARK: Groups

    /// An aggregate over rows in an order that has `terms` first; without terms, in any that the rows have.
    func grouped(_ plan: AggregatePlan, _ terms: [SortTerm], part: Double) -> RelationalPlan? {
        guard plan.runs == nil, plan.states == nil, !plan.groups.isEmpty, plan.sets == [Array(plan.groups.indices)]
        else { return nil }
        var first: [SortTerm] = []
        for var term in terms where first.count < plan.groups.count {
            guard let group = plan.groups.first(where: { $0.attribute == term.expression.attribute }),
                group.expression.attribute != nil
            else { return nil }
            term.expression = group.expression
            if !first.contains(where: { $0.expression.attribute == term.expression.attribute }) { first.append(term) }
        }
        let sources = plan.groups.map(\.expression).filter { $0.attribute != nil }
        var orders: [[SortTerm]] = []
        if let last = first.last {
            let others = sources.filter { source in !first.contains { $0.expression.attribute == source.attribute } }
            let more = others.map {
                SortTerm(expression: $0, isDescending: last.isDescending, isNullsFirst: last.isDescending)
            }
            orders = more.isEmpty ? [first] : [first + more, first]
        } else {
            for natural in naturalOrders(plan.child) {
                let run = natural.map { attribute in sources.first { $0.attribute == attribute } }
                orders.append(run.prefix { $0 != nil }.compactMap { $0 }.map { SortTerm(expression: $0) })
            }
            orders.sort { $0.count > $1.count }
        }
        for order in orders {
            guard let child = ordered(plan.child, order, part: part) else { continue }
            return .aggregate(plan.along(order, child))
        }
        guard settings.avoidsHashAggregates, !sources.isEmpty else { return nil }
        let order = first.isEmpty ? sources.map { SortTerm(expression: $0) } : orders[0]
        return .aggregate(plan.along(order, .sort(applied(plan.child), order, limit: nil)))
    }

    /// Orders that rows may come in by themselves, ascending.
    private func naturalOrders(_ plan: RelationalPlan) -> [[Attribute]] {
        switch plan {
        case .scan(let scan):
            var orders: [[Attribute]] = []
            for columns in [scan.collection.primaryKey] + scan.indexes.map(\.columns) {
                // Columns with a known value stand in no order.
                let known = KeyCondition(on: columns, of: scan)?.equal.prefix { $0.count == 1 }.count ?? 0
                let attributes = columns.dropFirst(known).map { column in
                    scan.outputs.first { $0.column == column }?.attribute
                }
                orders.append(attributes.prefix { $0 != nil }.compactMap { $0 })
            }
            return orders.filter { !$0.isEmpty }
        case .filter(let child, _), .apply(let child, _, .value): return naturalOrders(child)
        case .project(let child, let projections):
            return naturalOrders(child).map { order in
                let mapped = order.map { source in
                    projections.first { $0.expression.attribute == source }?.attribute
                }
                return mapped.prefix { $0 != nil }.compactMap { $0 }
            }.filter { !$0.isEmpty }
        case .join(let kind, let left, let right, let condition):
            guard kind != .right, kind != .full else { return [] }
            let keys = MergeKeyChoice(kind, left, right, condition)
            return naturalOrders(left).compactMap { order in
                keys.arrangement(along: order, isLeft: true).map { $0.keys.compactMap { keys.all[$0].left.attribute } }
            }
        case .aggregate(let plan):
            return naturalOrders(plan.child).map { order in
                let mapped = order.map { source in
                    plan.groups.first { $0.expression.attribute == source }?.attribute
                }
                return mapped.prefix { $0 != nil }.compactMap { $0 }
            }.filter { !$0.isEmpty }
        default:
            let order = plan.deliveredOrder.prefix { !$0.isDescending && !$0.isNullsFirst }
            return order.isEmpty ? [] : [order.compactMap(\.expression.attribute)]
        }
    }
}

/// The equations of a join's condition that its sides can be ordered by.
struct MergeKeyChoice {
    /// Some of the keys, in the order in which they count; behind them further columns of the left side.
    struct Arrangement {
        var keys: [Int]
        /// By key.
        var wanted: [Int: SortTerm] = [:]
        var more: [SortTerm] = []
    }

    private let kind: JoinKind
    private(set) var all: [MergePlan.Key] = []
    /// The keys as they stand in the condition.
    private var written: [BoundExpression] = []
    private var others: [BoundExpression]

    init(_ kind: JoinKind, _ left: RelationalPlan, _ right: RelationalPlan, _ condition: BoundExpression?) {
        self.kind = kind
        let parts = JoinCondition(condition, left: Set(left.attributes), right: Set(right.attributes))
        others = parts.rest
        for (equation, text) in zip(parts.equations, parts.written) {
            let isKey =
                equation.left.attribute != nil && equation.right.attribute != nil
                && equation.left.type.isKeyed(as: equation.right.type) && equation.left.type.kind != .char
            let isNew = !all.contains { key in
                key.left.attribute == equation.left.attribute || key.right.attribute == equation.right.attribute
            }
            if isKey, isNew {
                all.append(MergePlan.Key(left: equation.left, right: equation.right))
                written.append(text)
            } else {
                others.append(text)
            }
        }
    }

    /// The key whose value a column of the joined rows has.
    private func key(of attribute: Attribute) -> Int? {
        all.firstIndex { key in
            switch kind {
            case .inner: key.left.attribute == attribute || key.right.attribute == attribute
            case .left, .semi, .anti: key.left.attribute == attribute
            case .right: key.right.attribute == attribute
            case .full: false
            }
        }
    }

    /// Those that give rows in the order of `terms`.
    func arrangements(for terms: [SortTerm], of left: Set<Attribute>) -> [Arrangement] {
        if terms.isEmpty { return [] }
        var result = Arrangement(keys: [])
        for term in terms {
            guard let attribute = term.expression.attribute else { return [] }
            if let key = key(of: attribute) {
                if result.keys.contains(key) { continue }
                if result.more.isEmpty {
                    result.keys.append(key)
                    result.wanted[key] = term
                    continue
                }
            }
            guard left.contains(attribute), kind != .right, kind != .full, !result.keys.isEmpty else { return [] }
            result.more.append(term)
        }
        var whole = result
        whole.keys += all.indices.filter { !result.keys.contains($0) }
        return result.more.isEmpty && whole.keys.count > result.keys.count ? [whole, result] : [result]
    }

    /// That of the first columns of an order which are keys of one side; nil: the first is none.
    func arrangement(along order: [Attribute], isLeft: Bool) -> Arrangement? {
        let keys = order.map { attribute in
            all.firstIndex { (isLeft ? $0.left : $0.right).attribute == attribute }
        }
        let first = keys.prefix { $0 != nil }.compactMap { $0 }
        return first.isEmpty ? nil : Arrangement(keys: first)
    }

    /// The orders of both sides.
    func terms(_ arrangement: Arrangement) -> (left: [SortTerm], right: [SortTerm]) {
        var mine: [SortTerm] = [], theirs: [SortTerm] = []
        for (key, term) in zip(keys(arrangement), arrangement.keys.map { arrangement.wanted[$0] }) {
            let isNullsFirst = term?.isNullsFirst ?? key.isDescending
            mine.append(SortTerm(expression: key.left, isDescending: key.isDescending, isNullsFirst: isNullsFirst))
            theirs.append(SortTerm(expression: key.right, isDescending: key.isDescending, isNullsFirst: isNullsFirst))
        }
        return (mine + arrangement.more, theirs)
    }

    func keys(_ arrangement: Arrangement) -> [MergePlan.Key] {
        var isDescending = false
        return arrangement.keys.map { place in
            // Those that nobody has asked for go the way of the one before.
            isDescending = arrangement.wanted[place]?.isDescending ?? isDescending
            var key = all[place]
            key.isDescending = isDescending
            return key
        }
    }

    /// What else is asked of rows that meet.
    func rest(_ arrangement: Arrangement) -> BoundExpression? {
        BoundExpression.all(others + written.indices.filter { !arrangement.keys.contains($0) }.map { written[$0] })
    }
}

extension AggregatePlan {
    /// The same over rows in an order.
    fileprivate func along(_ runs: [SortTerm], _ child: RelationalPlan) -> AggregatePlan {
        var plan = self
        (plan.child, plan.runs) = (child, runs)
        return plan
    }
}
