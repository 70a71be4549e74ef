import Base
import DataModel

/// How often operators were asked, and what for: filled by `MeasuredOperator`s, which are there only for EXPLAIN
/// ANALYZE.
final class ExplainProbe {
    struct Figures {
        var loops = 0
        var rows = 0
        /// Nanoseconds, until the first row and in all.
        var first: UInt64 = 0, total: UInt64 = 0
    }

    /// By the number of the node: plans are counted from the root down, children in their order.
    private(set) var figures: [Figures] = []

    /// The number of the next node.
    func enter() -> Int {
        figures.append(Figures())
        return figures.count - 1
    }

    func add(_ number: Int, _ change: (inout Figures) -> Void) { change(&figures[number]) }
}

/// Counts rows and takes the time of the operator that it stands for, waiting for shards included.
final class MeasuredOperator: Operator {
    private let inner: Operator
    private let probe: ExplainProbe
    private let number: Int
    private var isBegun = false
    private var hasRow = false
    /// When it was told to wait.
    private var waitingSince: UInt64?

    init(_ inner: Operator, _ probe: ExplainProbe, _ number: Int) {
        (self.inner, self.probe, self.number) = (inner, probe, number)
        super.init(layout: inner.layout, types: inner.types, context: inner.context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        let start = waitingSince ?? context.settings.elapsed()
        waitingSince = nil
        if !isBegun {
            isBegun = true
            probe.add(number) { $0.loops += 1 }
        }
        let step = try inner.next()
        let now = context.settings.elapsed()
        if case .waiting = step {
            waitingSince = start
            return step
        }
        probe.add(number) { $0.total &+= now &- start }
        guard case .batch(let batch) = step else { return step }
        if !hasRow {
            hasRow = true
            probe.add(number) { if $0.first == 0 { $0.first = $0.total } }
        }
        probe.add(number) { $0.rows += batch.count }
        return step
    }

    override func restart() throws(StatementError) {
        (isBegun, waitingSince) = (false, nil)
        try inner.restart()
    }
}

/// EXPLAIN: executes the plan to its end if that was asked for, and gives its description.
final class ExplainOperator: Operator {
    private let plan: RelationalPlan
    private let options: ExplainOptions
    private let inner: Operator?
    private let planning: UInt64
    private var started: UInt64?
    private var isDone = false

    init(
        _ plan: RelationalPlan, _ options: ExplainOptions, planning: UInt64, output: Attribute,
        context: ExecutionContext
    ) throws(StatementError) {
        if options.isExecuted { context.probe = ExplainProbe() }
        let made = options.isExecuted ? try PlanCompiler.compile(plan, context) : nil
        (self.plan, self.options, self.planning) = (plan, options, planning)
        inner = made
        super.init(layout: Layout([output]), types: [options.isJSON ? .json : .text], context: context)
    }

    override func next() throws(StatementError) -> OperatorStep {
        if isDone { return .end }
        if started == nil { started = context.settings.elapsed() }
        if let inner {
            loop: while true {
                switch try inner.next() {
                case .waiting: return .waiting
                case .end: break loop
                case .batch: continue
                }
            }
        }
        isDone = true
        let execution = context.settings.elapsed() &- (started ?? 0)
        var builder = BatchBuilder(types)
        let tree = ExplainTree.make(plan, context.settings, isVerbose: options.isVerbose)
        let writer = ExplainWriter(
            options: options, figures: context.probe?.figures, planning: planning, execution: execution)
        for line in options.isJSON ? [writer.json(tree)] : writer.text(tree) { builder.append([.text(line)]) }
        return .batch(builder.take())
    }
}
