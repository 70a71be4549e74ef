import Base
import DataModel

/// One window function over the rows of a window: asked for its values row by row, in their order.
final class WindowCallRun {
    let plan: WindowCallPlan
    private let window: WindowRows
    private let context: ExecutionContext
    private var frames: WindowFrames
    private let arguments: [Column]
    private let aggregate: WindowAggregate?
    private var denseRank: Int64 = 0
    /// Of ntile: how many buckets the partition has; NULL where that was not said.
    private var buckets: Int64?
    private var charge: Int

    init(_ plan: WindowCallPlan, _ rows: ColumnBatch, _ window: WindowRows, _ context: ExecutionContext)
        throws(StatementError)
    {
        var chosen: [Int32]?
        if let filter = plan.filter { chosen = try filter.select(rows, context) }
        // With a filter, arguments are computed where it is true only.
        let source = chosen.map { rows.gathered($0) } ?? rows
        var columns: [Column] = []
        for evaluator in plan.arguments { columns.append(try evaluator.evaluate(source, context)) }
        if let chosen {
            var places = [Int32](repeating: -1, count: rows.count)
            for (place, row) in chosen.enumerated() { places[Int(row)] = Int32(place) }
            columns = columns.map { $0.gathered(places) }
        }
        let frames = try WindowFrames(plan, rows, window, context)
        charge = frames.footprint + ColumnBatch(columns, count: rows.count).footprint
        if case .aggregate(let function) = plan.call.function {
            var counts = chosen.map { chosen in
                var bitmap = Bitmap(repeating: false, count: rows.count)
                for row in chosen { bitmap[Int(row)] = true }
                return bitmap
            }
            if function.isStrict { for column in columns { counts = Bitmap.both(counts, column.validity) } }
            aggregate = WindowAggregate(function, plan.call, columns, counts, context)
        } else {
            aggregate = nil
        }
        (self.plan, self.window, self.context) = (plan, window, context)
        (self.frames, arguments) = (frames, columns)
    }

    /// Bytes that it holds more than when it was last asked.
    func takeCharge() -> Int {
        defer { charge = 0 }
        return charge + (aggregate?.takeCharge() ?? 0)
    }

    func value(at row: Int) throws(StatementError) -> Value {
        if row & 255 == 0 { try context.checkCancelled() }
        switch plan.call.function {
        case .native(let function): return try native(function, row)
        case .aggregate: break
        }
        guard let aggregate else { return .null }
        let frame = frames.frame(of: row)
        if plan.call.frame.exclusion == .none {
            return try aggregate.value(of: frame, within: window.partition(of: row))
        }
        return try aggregate.value(of: frames.parts(frame, row))
    }

    private func native(_ function: WindowFunction, _ row: Int) throws(StatementError) -> Value {
        let partition = window.partition(of: row)
        let place = Int64(row - partition.lowerBound)
        switch function {
        case .rowNumber: return .integer(place + 1)
        case .rank: return .integer(Int64(window.group(of: row).lowerBound - partition.lowerBound) + 1)
        case .denseRank:
            if row == partition.lowerBound { denseRank = 0 }
            if row == window.group(of: row).lowerBound { denseRank += 1 }
            return .integer(denseRank)
        case .percentRank:
            guard partition.count > 1 else { return .float(0) }
            return .float(
                Double(window.group(of: row).lowerBound - partition.lowerBound) / Double(partition.count - 1))
        case .cumulativeDistribution:
            return .float(Double(window.group(of: row).upperBound - partition.lowerBound) / Double(partition.count))
        case .ntile: return try tile(row, place, partition)
        case .lag, .lead: return shifted(function, row, partition)
        case .firstValue, .lastValue, .nthValue: return try framed(function, row)
        }
    }

    private func tile(_ row: Int, _ place: Int64, _ partition: Range<Int>) throws(StatementError) -> Value {
        if row == partition.lowerBound { buckets = nil }
        if buckets == nil {
            guard case .integer(let wanted) = arguments[0].value(at: row) else { return .null }
            guard wanted > 0 else {
                throw StatementError(.invalidArgumentForNtile, "argument of ntile must be greater than zero")
            }
            buckets = wanted
        }
        guard let buckets else { return .null }
        let (size, larger) = Int64(partition.count).quotientAndRemainder(dividingBy: buckets)
        // The first ones have one row more.
        let border = larger * (size + 1)
        return .integer(place < border ? place / (size + 1) + 1 : larger + (place - border) / max(size, 1) + 1)
    }

    private func shifted(_ function: WindowFunction, _ row: Int, _ partition: Range<Int>) -> Value {
        var distance: Int64 = 1
        if arguments.count > 1 {
            guard case .integer(let said) = arguments[1].value(at: row) else { return .null }
            distance = said
        }
        let place = function == .lag ? Int64(row) - distance : Int64(row) + distance
        if partition.contains(Int(place)) { return arguments[0].value(at: Int(place)) }
        return arguments.count > 2 ? arguments[2].value(at: row) : .null
    }

    private func framed(_ function: WindowFunction, _ row: Int) throws(StatementError) -> Value {
        let frame = frames.frame(of: row)
        let parts = plan.call.frame.exclusion == .none ? [frame] : frames.parts(frame, row)
        var rest = 0
        switch function {
        case .lastValue:
            guard let last = parts.last, !last.isEmpty else { return .null }
            return arguments[0].value(at: last.upperBound - 1)
        case .nthValue:
            guard case .integer(let wanted) = arguments[1].value(at: row) else { return .null }
            guard wanted > 0 else {
                throw StatementError(.invalidArgumentForNthValue, "argument of nth_value must be greater than zero")
            }
            rest = Int(wanted) - 1
        case .firstValue, .rowNumber, .rank, .denseRank, .percentRank, .cumulativeDistribution, .ntile, .lag, .lead:
            break
        }
        for part in parts {
            if rest < part.count { return arguments[0].value(at: part.lowerBound + rest) }
            rest -= part.count
        }
        return .null
    }
}

/// An aggregate over frames that move forwards.
///
/// While the frame only grows, its state grows with it. When rows leave it at the front, what is left is put together
/// from states where that is exact (`MergeableAccumulator`): of the rows up to a point, one state for every row from
/// which on they count; of those behind it, one that grows. So each row is looked at a bounded number of times. Other
/// aggregates are computed anew for each frame that has lost rows, as PostgreSQL does for them.
final class WindowAggregate {
    private let function: AggregateFunction
    private let call: WindowCall
    private let arguments: [Column]
    /// The rows that count; nil: all.
    private let counts: Bitmap?
    private let context: ExecutionContext
    private var accumulator: any Accumulator
    private var mergeable: (any MergeableAccumulator)?
    private var slots = 0
    /// The rows that are in the state, or in the states of both halves.
    private var current = 0..<0
    private var partition = 0..<0
    /// Slot 0 has the rows from here on; the slots from 2 on those before, from each row up to here. Slot 1 is a
    /// place to put both together in.
    private var middle = 0
    private var front = 0..<0
    private var last: (frame: Range<Int>, value: Value)?
    private var charge = 0

    init(
        _ function: AggregateFunction, _ call: WindowCall, _ arguments: [Column], _ counts: Bitmap?,
        _ context: ExecutionContext
    ) {
        (self.function, self.call, self.arguments) = (function, call, arguments)
        (self.counts, self.context) = (counts, context)
        accumulator = function.make(call.arguments.map(\.type), call.type)
        mergeable = accumulator as? any MergeableAccumulator
        grow(to: 2)
    }

    func takeCharge() -> Int {
        defer { charge = 0 }
        return charge
    }

    private func grow(to count: Int) {
        guard count > slots else { return }
        accumulator.grow(to: count)
        charge += (count - slots) * 40
        slots = count
    }

    private func reset() {
        accumulator = function.make(call.arguments.map(\.type), call.type)
        mergeable = accumulator as? any MergeableAccumulator
        charge -= (slots - 2) * 40
        slots = 0
        grow(to: 2)
        charge -= 80
    }

    private func add(_ rows: Range<Int>, to slot: Int) throws(StatementError) {
        guard !rows.isEmpty else { return }
        var chosen: [Int32] = []
        if let counts {
            for row in rows where counts[row] { chosen.append(Int32(row)) }
        } else {
            chosen = Array(Int32(rows.lowerBound)..<Int32(rows.upperBound))
        }
        guard !chosen.isEmpty else { return }
        try accumulator.add(
            arguments, rows: chosen, groups: Array(repeating: Int32(slot), count: chosen.count), context: context)
    }

    /// Over a frame in one piece, the next one of a partition.
    func value(of frame: Range<Int>, within partition: Range<Int>) throws(StatementError) -> Value {
        if let last, last.frame == frame, self.partition == partition { return last.value }
        if self.partition != partition || frame.lowerBound > current.upperBound {
            reset()
            (self.partition, current) = (partition, frame.lowerBound..<frame.lowerBound)
            (middle, front) = (frame.lowerBound, frame.lowerBound..<frame.lowerBound)
        }
        // An empty frame may lie anywhere: it has no rows to look at.
        let value: Value
        if frame.isEmpty {
            value = try empty()
        } else if let mergeable {
            value = try merged(frame, mergeable)
        } else {
            if frame.lowerBound != current.lowerBound || frame.upperBound < current.upperBound {
                reset()
                current = frame.lowerBound..<frame.lowerBound
            }
            try add(current.upperBound..<frame.upperBound, to: 0)
            current = frame
            value = try accumulator.result(of: 0)
        }
        last = (frame, value)
        return value
    }

    private func merged(_ frame: Range<Int>, _ states: any MergeableAccumulator) throws(StatementError) -> Value {
        if frame.upperBound > current.upperBound {
            try add(max(current.upperBound, middle)..<frame.upperBound, to: 0)
        }
        current = frame.lowerBound..<max(frame.upperBound, current.upperBound)
        if frame.lowerBound > middle || front.isEmpty && frame.lowerBound > front.lowerBound {
            return try turned(frame)
        }
        if frame.lowerBound == middle { return try accumulator.result(of: 0) }
        states.copy(2 + frame.lowerBound - front.lowerBound, to: 1)
        try states.merge(0, into: 1)
        return try accumulator.result(of: 1)
    }

    /// Makes a state for every row of the frame: from it up to the frame's end.
    private func turned(_ frame: Range<Int>) throws(StatementError) -> Value {
        reset()
        guard let states = mergeable else { return .null }
        grow(to: 2 + frame.count)
        for row in frame.reversed() {
            let slot = 2 + row - frame.lowerBound
            if row + 1 < frame.upperBound { states.copy(slot + 1, to: slot) }
            try add(row..<row + 1, to: slot)
        }
        (middle, front, current) = (frame.upperBound, frame, frame)
        return try accumulator.result(of: 2)
    }

    /// Over the parts of a frame from which rows are excluded.
    func value(of parts: [Range<Int>]) throws(StatementError) -> Value {
        reset()
        for part in parts { try add(part, to: 0) }
        return try accumulator.result(of: 0)
    }

    /// Over no rows.
    private func empty() throws(StatementError) -> Value {
        let none = function.make(call.arguments.map(\.type), call.type)
        none.grow(to: 1)
        return try none.result(of: 0)
    }
}
