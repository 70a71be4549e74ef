import Base
import DataModel

/// Under a limit, rows that are wanted in the order of the primary key or of an index are read in that order, up to the
/// limit, and not sorted, if that costs less than to find all of them. Without a limit too, where they are too many to
/// be kept in memory.
struct OrderedScanRule {
    /// Rows that a limit wants whose value is not known: a page of an application.
    static let usualLimit = 100.0
    /// Bytes of rows that are sorted rather than read in the order of their keys.
    static let sortedBytes = 64e6

    let estimator: Estimator
    let avoidsScans: Bool

    static func apply(_ plan: RelationalPlan, _ estimator: Estimator, avoidsScans: Bool) -> RelationalPlan {
        OrderedScanRule(estimator: estimator, avoidsScans: avoidsScans).applied(plan)
    }

    private func applied(_ plan: RelationalPlan) -> RelationalPlan {
        let plan = plan.replacingChildren(plan.children.map { applied($0) })
        switch plan {
        case .limit(let child, let limit) where limit.count != nil:
            return .limit(inOrder(child, limit), limit)
        case .sort(let child, let terms, nil):
            let bytes = estimator.rows(plan) * Double(estimator.width(plan.attributes) + 48)
            return bytes > Self.sortedBytes ? ordered(child, terms, nil, sortLimit: nil) ?? plan : plan
        default: return plan  // Nothing is sorted, or all of it is wanted.
        }
    }

    /// What is under a limit, with the sort in it gone if it can be.
    private func inOrder(_ plan: RelationalPlan, _ limit: LimitPlan) -> RelationalPlan {
        switch plan {
        case .project(let child, let projections): .project(inOrder(child, limit), projections)
        case .lock(let child, let lock): .lock(inOrder(child, limit), lock)
        case .sort(let child, let terms, let sortLimit): ordered(child, terms, limit, sortLimit: sortLimit) ?? plan
        default: plan  // Others may drop or make rows.
        }
    }

    /// The plan with its rows in the order of `terms`; nil if it is not worth it.
    func ordered(_ plan: RelationalPlan, _ terms: [SortTerm], _ limit: LimitPlan?, sortLimit: BoundExpression?)
        -> RelationalPlan?
    {
        switch plan {
        case .scan(var scan):
            guard let order = best(scan, terms, limit, sortLimit: sortLimit) else { return nil }
            scan.order = order
            return .scan(scan)
        case .project(let child, let projections):
            var below = terms
            for (index, term) in terms.enumerated() {
                guard let attribute = term.expression.attribute,
                    let source = projections.first(where: { $0.attribute == attribute })?.expression,
                    source.attribute != nil
                else { return nil }
                below[index].expression = source
            }
            return ordered(child, below, limit, sortLimit: sortLimit).map { .project($0, projections) }
        case .apply(let left, let right, let kind):
            // For each row of the left side there may be several, or none.
            guard case .value = kind else { return nil }
            return ordered(left, terms, limit, sortLimit: sortLimit).map { .apply($0, right, kind) }
        default: return nil  // Rows come in another order.
        }
    }

    private func best(_ scan: ScanPlan, _ terms: [SortTerm], _ limit: LimitPlan?, sortLimit: BoundExpression?)
        -> ScanOrder?
    {
        guard !SystemCatalogs.isSystem(scan.collection), KeyspaceTables.table(scan.collection) == nil,
            !scan.isForUpdate, scan.lookup == nil, scan.limit == nil, scan.keys?.isComplete != true
        else { return nil }
        let plain = RelationalPlan.scan(scan), mustAvoid = avoidsScans && scan.keys == nil && scan.index == nil
        var least = mustAvoid ? .infinity : estimator.cost(.sort(plain, terms, limit: sortLimit))
        var best: ScanOrder?
        for index in [nil] + (limit == nil ? [] : scan.indexes.map(Optional.some)) {
            guard var order = ScanOrder(terms, of: scan, along: index) else { continue }
            (order.count, order.offset, order.sortLimit) = (limit?.count, limit?.offset, sortLimit)
            let cost = limit == nil ? 0 : estimator.cost(order, of: scan)
            guard cost < least else { continue }
            (least, best) = (cost, order)
        }
        return best
    }
}

extension ScanOrder {
    /// Nil if the order of the primary key, or of the index, is not the one that the terms ask for.
    init?(_ terms: [SortTerm], of scan: ScanPlan, along index: TableIndex?) {
        let table = scan.collection, columns = index?.columns ?? table.primaryKey
        condition = KeyCondition(on: columns, of: scan) ?? KeyCondition()
        guard !columns.isEmpty, condition.equal.allSatisfy({ $0.count == 1 && $0[0].isValue }) else { return nil }
        // An entry that may be there several times has the key of its row behind the values.
        let isUnique = index?.isUnique ?? true
        let key = columns + (isUnique ? [] : table.primaryKey)
        var known = Set(columns.prefix(condition.equal.count)), place = condition.equal.count, hasNulls = false
        (self.index, self.terms) = (index, terms)
        for term in terms {
            guard let output = scan.outputs.first(where: { $0.attribute == term.expression.attribute }),
                let column = output.column
            else { return nil }
            if known.contains(column) { continue }
            while place < key.count, known.contains(key[place]) { place += 1 }
            // No two rows have the same whole key, unless it is that of an index with NULL.
            if place == key.count, !hasNulls { continue }
            guard place < key.count, key[place] == column else { return nil }
            let isFirst = known.count == condition.equal.count
            if isFirst { isDescending = term.isDescending }
            guard term.isDescending == isDescending else { return nil }
            let isBounded =
                place == condition.equal.count
                && (condition.lower != nil || condition.upper != nil || condition.pattern != nil)
            let isFilled =
                isBounded || table.primaryKey.contains(column) || table.column(column)?.isNotNull == true
            if !isFilled {
                let isLed = isFirst && place == condition.equal.count
                if isLed, scan.isNotNull(output.attribute) {
                    nulls = .leftOut
                } else {
                    hasNulls = hasNulls || isUnique
                    // Keys have NULL first.
                    if term.isNullsFirst == isDescending {
                        guard isLed else { return nil }
                        nulls = .apart
                    }
                }
            }
            known.insert(column)
            place += 1
        }
    }
}

extension ScanPlan {
    /// The filter lets no row through in which that is NULL, since it says so.
    fileprivate func isNotNull(_ attribute: Attribute) -> Bool {
        filter?.conjuncts.contains { condition in
            guard case .isNull(let operand, isNegated: true) = condition.form else { return false }
            return operand.attribute == attribute
        } ?? false
    }
}

extension KeyCondition.Choice {
    fileprivate var isValue: Bool { if case .value = self { true } else { false } }
}
