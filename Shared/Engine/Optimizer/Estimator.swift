import Base
import DataModel

/// About how many rows plans give, and what they cost: from the statistics of ANALYZE, or as PostgreSQL guesses without
/// them. No answer depends on it.
///
/// A row that is scanned costs 0.01. What is found by its key costs about five times that, and a look into every bucket
/// of the cluster about as much as fifty rows.
struct Estimator {
    /// Of tables that nobody has analyzed.
    static let unknownRows = 10_000.0
    static let rowCost = 0.01, keyCost = 0.05, conditionCost = 0.0025, rangeCost = 0.5, startCost = 1.0
    static let hashCost = 0.015
    /// A row that is compared with those of the other side, or with the one before.
    static let mergeCost = 0.01
    /// What a row costs that is read in the order of the keys, beside one that is read in any.
    static let orderedCost = 2.0

    /// A column of a table, behind an attribute.
    struct Origin {
        let rows: Double
        let column: CollectionDescriptor.Statistics.Column?
        /// No two rows have the same value.
        let isUnique: Bool
    }

    private(set) var origins: [Attribute: Origin] = [:]
    /// Of columns of tables.
    private var types: [Attribute: DataType] = [:]

    init(_ plan: RelationalPlan) { collect(plan) }

    private mutating func collect(_ plan: RelationalPlan) {
        if case .scan(let scan) = plan {
            let rows = Self.rows(of: scan.collection)
            for output in scan.outputs {
                types[output.attribute] = output.type
                guard let id = output.column else { continue }
                let isUnique =
                    scan.collection.primaryKey == [id]
                    || scan.indexes.contains { $0.isUnique && $0.columns == [id] }
                origins[output.attribute] = Origin(
                    rows: rows, column: scan.collection.statistics?.columns.first { $0.column == id },
                    isUnique: isUnique)
            }
        }
        if case .project(let child, let projections) = plan {
            collect(child)
            for projection in projections {
                if let source = projection.expression.attribute, let origin = origins[source] {
                    origins[projection.attribute] = origin
                }
            }
            return
        }
        for child in plan.children { collect(child) }
    }

    static func rows(of collection: CollectionDescriptor) -> Double {
        if SystemCatalogs.isComputed(collection) { return 100 }
        return collection.statistics.map { max(Double($0.rows), 1) } ?? unknownRows
    }

    /// How many different values an expression has among `rows` rows.
    func distinct(_ expression: BoundExpression, among rows: Double) -> Double {
        guard let attribute = expression.attribute, let origin = origins[attribute] else { return min(200, rows) }
        if origin.isUnique { return max(min(origin.rows, rows), 1) }
        if let column = origin.column { return max(min(Double(column.distinct), rows), 1) }
        return max(min(200, rows), 1)
    }

    // MARK: Rows

    func rows(_ plan: RelationalPlan) -> Double {
        switch plan {
        case .single: 1
        case .scan(let scan): rows(scan)
        case .values(let rows, _): max(Double(rows.count), 1)
        case .input, .shared, .working: 1000
        case .filter(let child, let condition):
            max(rows(child) * Selectivity(self).of(condition.conjuncts), 1)
        case .project(let child, _), .sort(let child, _, nil), .window(let child, _), .lock(let child, _):
            rows(child)
        case .sort(let child, _, let limit?): limited(rows(child), limit)
        case .join(let kind, let left, let right, let condition):
            joined(
                kind, left, right,
                JoinCondition(condition, left: Set(left.attributes), right: Set(right.attributes)))
        case .merge(let plan): joined(plan.kind, plan.left, plan.right, JoinCondition(plan))
        case .apply(let left, let right, let kind):
            if case .value = kind { rows(left) } else { rows(left) * max(rows(right), 1) }
        case .aggregate(let aggregate): groups(aggregate)
        case .limit(let child, let limit): limit.count.map { limited(rows(child), $0) } ?? rows(child)
        case .distinct(let child, _): max(rows(child) / 2, 1)
        case .combine(let combine):
            switch combine.operation {
            case .union: rows(combine.left) + rows(combine.right)
            case .intersect: max(min(rows(combine.left), rows(combine.right)) / 2, 1)
            case .except: max(rows(combine.left) / 2, 1)
            }
        case .rows: 1000
        case .unroll(let child, _): rows(child) * 10
        case .with(_, let child): rows(child)
        case .recursive(let recursive): rows(recursive.start) * 10
        case .modify(let modify): rows(modify.child)
        }
    }

    private func limited(_ rows: Double, _ limit: BoundExpression) -> Double {
        guard case .integer(let count)? = limit.constantValue else { return max(rows / 10, 1) }
        return max(min(rows, Double(count)), 1)
    }

    func rows(_ scan: ScanPlan) -> Double {
        let all = Self.rows(of: scan.collection)
        var rows = all * Selectivity(self).of(scan.filter?.conjuncts ?? [])
        if let keys = scan.keys, keys.isComplete { rows = min(rows, Self.count(keys)) }
        if let use = scan.index, use.index.isUnique, use.condition.isComplete {
            rows = min(rows, Self.count(use.condition))
        }
        if let limit = scan.limit { rows = limited(rows, limit) }
        if let order = scan.order, order.count != nil { rows = min(rows, wanted(order)) }
        return max(rows, 1)
    }

    /// How many rows are asked for of a scan in an order.
    private func wanted(_ order: ScanOrder) -> Double { wanted(order.count, order.offset) }

    /// How many rows a limit asks for.
    func wanted(_ count: BoundExpression?, _ offset: BoundExpression?) -> Double {
        [count, offset].reduce(0) { sum, number in
            guard let number else { return sum }
            guard case .integer(let count)? = number.constantValue else { return sum + OrderedScanRule.usualLimit }
            return sum + max(Double(count), 0)
        }
    }

    /// What reading in an order costs up to the last row that is asked for: all that the filter drops is read as well.
    func cost(_ order: ScanOrder, of scan: ScanPlan) -> Double {
        let all = Self.rows(of: scan.collection)
        let within = max(all * Selectivity(self).of(order.condition, scan, order.index), 1)
        let found = max(all * Selectivity(self).of(scan.filter?.conjuncts ?? []), 1)
        let read = order.count == nil ? within : min(wanted(order) * max(within / found, 1), within)
        let conditions = Double(scan.filter?.conjuncts.count ?? 0) * Self.conditionCost
        let each = Self.rowCost * Self.orderedCost + conditions + (order.index == nil ? 0 : Self.keyCost)
        return Self.startCost * (order.index == nil ? 1 : 2) + Self.rangeCost + read * each
    }

    /// How many values a condition names.
    static func count(_ condition: KeyCondition) -> Double {
        condition.equal.reduce(1) { count, choices in
            count
                * choices.reduce(0) { sum, choice in
                    guard case .elements(let array) = choice else { return sum + 1 }
                    if case .array(let parts) = array.form { return sum + Double(parts.count) }
                    guard case .array(let value)? = array.constantValue else { return sum + 10 }
                    return sum + Double(value.elements.count)
                }
        }
    }

    private func joined(
        _ kind: JoinKind, _ left: RelationalPlan, _ right: RelationalPlan, _ condition: JoinCondition
    ) -> Double {
        let mine = rows(left), theirs = rows(right)
        let pairs = pairs(mine, theirs, condition)
        switch kind {
        case .inner: return pairs
        case .left: return max(pairs, mine)
        case .right: return max(pairs, theirs)
        case .full: return max(pairs, mine + theirs)
        case .semi, .anti: return max(mine / 2, 1)
        }
    }

    /// What an inner join of two sides gives.
    func pairs(
        _ mine: Double, _ left: Set<Attribute>, _ theirs: Double, _ right: Set<Attribute>,
        _ condition: BoundExpression?
    ) -> Double {
        pairs(mine, theirs, JoinCondition(condition, left: left, right: right))
    }

    private func pairs(_ mine: Double, _ theirs: Double, _ condition: JoinCondition) -> Double {
        var pairs = mine * theirs
        for (first, second) in condition.equations {
            pairs /= max(distinct(first, among: mine), distinct(second, among: theirs))
        }
        for _ in condition.rest { pairs /= 3 }
        return max(pairs, 1)
    }

    private func groups(_ plan: AggregatePlan) -> Double {
        let rows = rows(plan.child)
        if plan.groups.isEmpty { return 1 }
        let groups = plan.groups.reduce(1) { $0 * distinct($1.expression, among: rows) }
        return max(min(groups, rows), 1) * max(Double(plan.sets.count), 1)
    }

    // MARK: Costs

    /// All that it takes to read its rows to the end.
    func cost(_ plan: RelationalPlan) -> Double {
        switch plan {
        case .single: 0.01
        case .scan(let scan): cost(scan)
        case .values, .input, .shared, .working, .rows: rows(plan) * Self.rowCost
        case .filter(let child, let condition):
            cost(child) + rows(child) * Self.conditionCost * Double(condition.conjuncts.count)
        case .project(let child, _), .limit(let child, _), .with(_, let child), .lock(let child, _):
            cost(child) + (plan.isLock ? rows(child) * Self.keyCost : 0)
        case .sort(let child, _, _), .window(let child, _):
            cost(child) + rows(child) * Self.conditionCost * log2(rows(child) + 2)
        case .join(_, let left, let right, let condition):
            joinCost(left, right, condition)
        case .merge(let plan):
            cost(plan.left) + cost(plan.right) + Self.mergeCost * (rows(plan.left) + rows(plan.right))
        case .apply(let left, let right, _): cost(left) + rows(left) * cost(right)
        case .aggregate, .distinct, .combine, .unroll, .recursive:
            plan.children.reduce(0) { $0 + cost($1) + rows($1) * Self.hashCost }
        case .modify(let modify): cost(modify.child) + rows(modify.child) * Self.keyCost
        }
    }

    private func joinCost(_ left: RelationalPlan, _ right: RelationalPlan, _ condition: BoundExpression?) -> Double {
        if case .scan(let scan) = right, let lookup = scan.lookup,
            let cost = cost(lookup, in: scan, for: rows(left))
        {
            return self.cost(left) + cost
        }
        let mine = rows(left), theirs = rows(right)
        let parts = JoinCondition(condition, left: Set(left.attributes), right: Set(right.attributes))
        let pairs = parts.equations.isEmpty ? mine * theirs * Self.conditionCost : 0
        // The right side is kept.
        return cost(left) + cost(right) + Self.hashCost * (mine + 2 * theirs) + pairs
    }

    private func cost(_ scan: ScanPlan) -> Double {
        let all = Self.rows(of: scan.collection)
        let conditions = Double(scan.filter?.conjuncts.count ?? 0) * Self.conditionCost
        if let order = scan.order { return cost(order, of: scan) }
        if let keys = scan.keys { return cost(keys, on: nil, of: scan) + conditions }
        if let use = scan.index { return cost(use.condition, on: use.index, of: scan) + conditions }
        return Self.startCost + (scan.limit == nil ? all : rows(scan)) * (Self.rowCost + conditions)
    }

    /// What reading by a condition costs; `index` nil: on the primary key.
    func cost(_ condition: KeyCondition, on index: TableIndex?, of scan: ScanPlan) -> Double {
        let count = Self.count(condition)
        let isExact = condition.isComplete && (index?.isUnique ?? true)
        if isExact { return Self.startCost * (index == nil ? 1 : 2) + count * Self.keyCost * (index == nil ? 1 : 2) }
        let found = Self.rows(of: scan.collection) * Selectivity(self).of(condition, scan, index)
        guard count <= Double(KeyRanges.rangeLimit) else {
            return Self.startCost + Self.rows(of: scan.collection) * Self.rowCost
        }
        return Self.startCost + count * Self.rangeCost + found * Self.rowCost
            + (index == nil ? 0 : Self.startCost + found * Self.keyCost)
    }

    /// Whether so few rows come from the other side of a join that theirs are looked up.
    func looksUp(_ scan: ScanPlan, for outer: RelationalPlan) -> Bool {
        scan.lookup.map { cost($0, in: scan, for: rows(outer)) != nil } ?? false
    }

    /// What looking up costs for the rows of the other side of a join; nil: there are too many of them.
    private func cost(_ lookup: ScanLookup, in scan: ScanPlan, for outer: Double) -> Double? {
        let known = KeyCondition(
            equal: lookup.values.map { [.value($0)] },
            isComplete: lookup.values.count == (lookup.index?.columns ?? scan.collection.primaryKey).count)
        let isExact = known.isComplete && (lookup.index?.isUnique ?? true)
        if outer > Double(isExact ? LookupJoinOperator.fewRows : KeyRanges.rangeLimit) { return nil }
        let part = Selectivity(self).of(known, scan, lookup.index)
        let each = isExact ? 1 : max(Self.rows(of: scan.collection) * part, 1)
        return Self.startCost * 2 + outer * ((isExact ? 0 : Self.rangeCost) + each * Self.keyCost * 1.5)
    }

    // MARK: Widths

    /// Bytes of a row, about.
    func width(_ attributes: [Attribute]) -> Int {
        attributes.reduce(0) { sum, attribute in
            if let known = origins[attribute]?.column?.width, known > 0 { return sum + Int(known) }
            return sum + (types[attribute]?.usualWidth ?? 8)
        }
    }
}

extension RelationalPlan {
    fileprivate var isLock: Bool { if case .lock = self { true } else { false } }
}

extension DataType {
    /// Bytes of a value, where nobody has measured it: what PostgreSQL supposes.
    var usualWidth: Int {
        if isArray { return 32 }
        switch postgres.length {
        case let length where length > 0: return Int(length)
        case _: return kind == .json || kind == .jsonb || kind == .text || kind == .varchar ? 32 : 16
        }
    }
}

private func log2(_ value: Double) -> Double { Double(value.exponent) + (value.significand - 1) }
