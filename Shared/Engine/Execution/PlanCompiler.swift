import Base
import DataModel

/// Makes the operators of one execution from a plan.
enum PlanCompiler {
    static func compile(_ plan: RelationalPlan, _ context: ExecutionContext) throws(StatementError) -> Operator {
        guard let probe = context.probe else { return try make(plan, context) }
        let number = probe.enter()
        return MeasuredOperator(try make(plan, context), probe, number)
    }

    private static func make(_ plan: RelationalPlan, _ context: ExecutionContext) throws(StatementError) -> Operator {
        switch plan {
        case .single: return SingleOperator(layout: Layout([]), types: [], context: context)
        case .scan(let scan): return try self.scan(scan, context)
        case .values(let rows, let outputs): return try ValuesOperator(rows: rows, outputs: outputs, context: context)
        case .input(let outputs): return InputOperator(outputs, context: context)
        case .filter(let child, let condition): return try FilterOperator(compile(child, context), condition)
        case .project(let child, let projections): return try ProjectOperator(compile(child, context), projections)
        case .join(let kind, let left, let right, let condition):
            if case .scan(let scan) = right, let lookup = scan.lookup, let condition {
                return try lookupJoin(kind, compile(left, context), scan, lookup, condition, context)
            }
            return try JoinOperator(kind, compile(left, context), compile(right, context), condition: condition)
        case .apply(let left, let right, let kind):
            let outer = try compile(left, context), free = right.freeAttributes, isRepeated = context.isRepeated
            context.isRepeated = isRepeated || !free.isEmpty
            defer { context.isRepeated = isRepeated }
            return try ApplyOperator(outer, compile(right, context), kind, free: free)
        case .merge(let plan):
            return try MergeJoinOperator(plan, compile(plan.left, context), compile(plan.right, context))
        case .aggregate(let plan):
            let child = try compile(plan.child, context)
            if let runs = plan.runs { return try RunAggregateOperator(plan, runs, child) }
            return try AggregateOperator(plan, child)
        case .sort(let child, let terms, let limit):
            return try SortOperator(compile(child, context), terms, limit: limit)
        case .limit(let child, let plan): return try LimitOperator(compile(child, context), plan)
        case .distinct(let child, let on): return try DistinctOperator(compile(child, context), on: on)
        case .combine(let plan):
            return try CombineOperator(plan, compile(plan.left, context), compile(plan.right, context))
        case .rows(let plan): return try RowsOperator(plan, context: context)
        case .unroll(let child, let calls): return try UnrollOperator(compile(child, context), calls)
        case .window(let child, let calls): return try WindowOperator(compile(child, context), calls)
        case .with(let tables, let child):
            var sources: [WithOperator.Table] = []
            for table in tables { sources.append((table, try compile(table.plan, context))) }
            return WithOperator(sources, try compile(child, context))
        case .shared(let table, let outputs): return SharedOperator(table, outputs: outputs, context: context)
        case .working(let id, let outputs): return WorkingOperator(id, outputs: outputs, context: context)
        case .recursive(let plan):
            return try RecursiveOperator(plan, start: compile(plan.start, context), step: compile(plan.step, context))
        case .modify(let plan): return try ModifyOperator(plan, compile(plan.child, context))
        case .lock(let child, let plan): return try LockOperator(plan, compile(child, context))
        }
    }

    /// What cannot be read in an order is sorted.
    private static func scan(_ scan: ScanPlan, _ context: ExecutionContext) throws(StatementError) -> Operator {
        if context.isRepeated, let (scan, condition) = scan.kept {
            let rows = KeptRowsOperator(try ScanOperator(scan, context: context))
            return if let condition { try FilterOperator(rows, condition) } else { rows }
        }
        guard let order = scan.order else { return try ScanOperator(scan, context: context) }
        if let reading = try OrderedReading(order, scan, context) {
            return try ScanOperator(scan, context: context, reading: reading)
        }
        return try SortOperator(ScanOperator(scan, context: context), order.terms, limit: order.sortLimit)
    }

    private static func lookupJoin(
        _ kind: JoinKind, _ left: Operator, _ scan: ScanPlan, _ lookup: ScanLookup, _ condition: BoundExpression,
        _ context: ExecutionContext
    ) throws(StatementError) -> Operator {
        let number = context.probe?.enter()
        return try LookupJoinOperator(kind, left, scan, lookup, condition: condition) {
            places throws(StatementError) in
            let rows = try ScanOperator(scan, context: context, places: places)
            guard let number, let probe = context.probe else { return rows }
            return MeasuredOperator(rows, probe, number)
        }
    }
}
