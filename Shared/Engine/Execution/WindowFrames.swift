import Base
import DataModel

/// The evaluators of a window function's call.
struct WindowCallPlan {
    let call: WindowCall
    let arguments: [Evaluator]
    let filter: Evaluator?
    let start: Offset?
    let end: Offset?
    let rangeKey: Evaluator?

    struct Offset {
        let distance: Evaluator
        let isNegative: Evaluator?
        let limit: Evaluator?

        init(_ offset: FrameOffset, _ layout: Layout) throws(StatementError) {
            distance = try Evaluator(offset.distance, layout: layout)
            isNegative = if let test = offset.isNegative { try Evaluator(test, layout: layout) } else { nil }
            limit = if let limit = offset.limit { try Evaluator(limit, layout: layout) } else { nil }
        }
    }

    init(_ call: WindowCall, _ layout: Layout) throws(StatementError) {
        self.call = call
        var arguments: [Evaluator] = []
        for argument in call.arguments { arguments.append(try Evaluator(argument, layout: layout)) }
        self.arguments = arguments
        filter = if let filter = call.filter { try Evaluator(filter, layout: layout) } else { nil }
        start = if let offset = call.start { try Offset(offset, layout) } else { nil }
        end = if let offset = call.end { try Offset(offset, layout) } else { nil }
        rangeKey = if let key = call.rangeKey { try Evaluator(key, layout: layout) } else { nil }
    }

    /// Distances are the same for all rows, so one row is looked at; they count where there are no rows too.
    func checkOffsets(of rows: ColumnBatch, _ context: ExecutionContext) throws(StatementError) {
        let row = rows.slice(0..<min(rows.count, 1))
        for (offset, word) in [(start, "starting"), (end, "ending")] {
            guard let offset else { continue }
            let value = try offset.distance.evaluate(row, context).value(at: 0)
            guard !value.isNull else {
                throw StatementError(.nullValueNotAllowed, "frame \(word) offset must not be null")
            }
            if case .integer(let number) = value, offset.isNegative == nil, number < 0 {
                throw StatementError(
                    .invalidPrecedingOrFollowingSize, "frame \(word) offset must not be negative")
            }
            guard let test = offset.isNegative, rows.count > 0 else { continue }
            let isNaN =
                switch value {
                case .float(let number): number.isNaN
                case .decimal(let number): number == .notANumber
                case _: false
                }
            var isFault = isNaN
            if case .bool(true) = try test.evaluate(row, context).value(at: 0) { isFault = true }
            if isFault {
                throw StatementError(
                    .invalidPrecedingOrFollowingSize, "invalid preceding or following size in window function")
            }
        }
    }
}

/// Where the frame of a row begins and ends. Rows are asked for in their order: both ends only ever move forwards
/// within a partition, so that all frames of a window are found in one pass.
struct WindowFrames {
    private let frame: WindowFrame
    private let window: WindowRows
    private let start: Int64, end: Int64
    private let range: Limits?
    private var partition = 0..<0
    private var head = 0, tail = 0

    /// The values that the limits of a range are compared with, as keys that sort as they do.
    private final class Limits {
        let keys: SortedKeys
        let starts: SortedKeys?
        let ends: SortedKeys?
        let isDescending: Bool
        let isNullsFirst: Bool

        init(_ plan: WindowCallPlan, _ key: Evaluator, _ rows: ColumnBatch, _ context: ExecutionContext)
            throws(StatementError)
        {
            keys = SortedKeys(try key.evaluate(rows, context))
            starts = if let limit = plan.start?.limit { SortedKeys(try limit.evaluate(rows, context)) } else { nil }
            ends = if let limit = plan.end?.limit { SortedKeys(try limit.evaluate(rows, context)) } else { nil }
            isDescending = plan.call.order.first?.isDescending ?? false
            isNullsFirst = plan.call.order.first?.isNullsFirst ?? false
        }
    }

    init(_ plan: WindowCallPlan, _ rows: ColumnBatch, _ window: WindowRows, _ context: ExecutionContext)
        throws(StatementError)
    {
        frame = plan.call.frame
        self.window = window
        let first = rows.slice(0..<min(rows.count, 1))
        func distance(_ offset: WindowCallPlan.Offset?) throws(StatementError) -> Int64 {
            guard let offset, offset.limit == nil, rows.count > 0,
                case .integer(let number) = try offset.distance.evaluate(first, context).value(at: 0)
            else { return 0 }
            return number
        }
        start = try distance(plan.start)
        end = try distance(plan.end)
        range = if let key = plan.rangeKey { try Limits(plan, key, rows, context) } else { nil }
    }

    /// Bytes that it keeps.
    var footprint: Int {
        (range?.keys.footprint ?? 0) + (range?.starts?.footprint ?? 0) + (range?.ends?.footprint ?? 0)
    }

    /// The frame of a row, what is excluded from it still in it.
    mutating func frame(of row: Int) -> Range<Int> {
        if !partition.contains(row) {
            partition = window.partition(of: row)
            (head, tail) = (partition.lowerBound, partition.lowerBound)
        }
        let first = bound(frame.start, row, isStart: true), last = bound(frame.end, row, isStart: false)
        return first..<max(first, last)
    }

    private mutating func bound(_ bound: WindowFrame.Bound, _ row: Int, isStart: Bool) -> Int {
        switch bound {
        case .unboundedPreceding: return partition.lowerBound
        case .unboundedFollowing: return partition.upperBound
        case .current:
            if frame.mode == .rows { return isStart ? row : row + 1 }
            let group = window.group(of: row)
            return isStart ? group.lowerBound : group.upperBound
        case .preceding, .following:
            let distance = isStart ? start : end
            switch frame.mode {
            case .rows:
                // No partition has more rows than fit into 32 bits.
                let step = Int(min(distance, 1 << 32))
                let place = bound == .preceding ? row - step : row + step
                return min(max(place + (isStart ? 0 : 1), partition.lowerBound), partition.upperBound)
            case .groups: return group(distance, bound == .preceding, row, isStart: isStart)
            case .range: return isStart ? advanceHead(row) : advanceTail(row)
            }
        }
    }

    private func group(_ distance: Int64, _ isPreceding: Bool, _ row: Int, isStart: Bool) -> Int {
        let step = Int(min(distance, 1 << 32)), own = Int(window.groups[row])
        let first = Int(window.groups[partition.lowerBound]), last = Int(window.groups[partition.upperBound - 1])
        let wanted = isPreceding ? own - step : own + step
        if wanted < first { return partition.lowerBound }
        if wanted > last { return partition.upperBound }
        let rows = window.rows(ofGroup: wanted)
        return isStart ? rows.lowerBound : rows.upperBound
    }

    // MARK: Ranges

    // NULL lies nowhere on the line: it is in the frames of NULLs, and theirs alone, on its side of the order.

    private mutating func advanceHead(_ row: Int) -> Int {
        guard let range, let limits = range.starts else { return partition.lowerBound }
        let isNull = range.keys.isNull(row)
        while head < partition.upperBound {
            let isHeadNull = range.keys.isNull(head)
            if isHeadNull || isNull {
                if range.isNullsFirst ? !isHeadNull || isNull : isHeadNull || !isNull { break }
            } else {
                let order = range.keys.compare(head, with: limits, row)
                if range.isDescending ? order <= 0 : order >= 0 { break }
            }
            head += 1
        }
        return head
    }

    private mutating func advanceTail(_ row: Int) -> Int {
        guard let range, let limits = range.ends else { return partition.upperBound }
        let isNull = range.keys.isNull(row)
        while tail < partition.upperBound {
            let isTailNull = range.keys.isNull(tail)
            if isTailNull || isNull {
                if range.isNullsFirst ? !isTailNull : !isNull { break }
            } else {
                let order = range.keys.compare(tail, with: limits, row)
                if range.isDescending ? order < 0 : order > 0 { break }
            }
            tail += 1
        }
        return tail
    }

    /// The parts of a frame that are left without what it excludes, in their order.
    func parts(_ whole: Range<Int>, _ row: Int) -> [Range<Int>] {
        let group = window.group(of: row)
        let holes: [Range<Int>] =
            switch frame.exclusion {
            case .none: []
            case .row: [row..<row + 1]
            case .group: [group]
            case .ties: [group.lowerBound..<row, (row + 1)..<group.upperBound]
            }
        var parts = [whole]
        for hole in holes where !hole.isEmpty {
            parts = parts.flatMap { part in
                let overlap = part.clamped(to: hole)
                if overlap.isEmpty { return [part] }
                return [part.lowerBound..<overlap.lowerBound, overlap.upperBound..<part.upperBound]
            }
        }
        return parts.filter { !$0.isEmpty }
    }
}

/// Values of a column as bytes that sort as they do.
final class SortedKeys {
    private let bytes: Bytes
    private let offsets: [Int]
    private let column: Column

    init(_ column: Column) {
        var writer = RowKeyWriter()
        var offsets = [0]
        offsets.reserveCapacity(column.count + 1)
        for row in 0..<column.count {
            writer.append(column, row: row)
            offsets.append(writer.buffer.count)
        }
        (bytes, self.offsets, self.column) = (writer.buffer.readable.bytes, offsets, column)
    }

    var footprint: Int { bytes.count + offsets.count * 8 }

    func isNull(_ row: Int) -> Bool { column.isNull(at: row) }

    /// Below 0: the row's key is less than the other's.
    func compare(_ row: Int, with other: SortedKeys, _ otherRow: Int) -> Int {
        bytes.withUnsafeBytes { mine in
            other.bytes.withUnsafeBytes { theirs in
                compareKeys(
                    ByteView(rebasing: mine[offsets[row]..<offsets[row + 1]]),
                    ByteView(rebasing: theirs[other.offsets[otherRow]..<other.offsets[otherRow + 1]]))
            }
        }
    }
}
