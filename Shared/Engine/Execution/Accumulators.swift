import Base
import DataModel

/// count(*) and count(x).
final class CountAccumulator: Accumulator {
    var counts: [Int64] = []

    func grow(to groups: Int) { while counts.count < groups { counts.append(0) } }

    func add(_ arguments: [Column], rows: [Int32], groups: [Int32], context: ExecutionContext) {
        for group in groups { counts[Int(group)] += 1 }
    }

    func result(of group: Int) -> Value { .integer(counts[group]) }
}

/// Sums and averages of integers, exactly.
final class IntegerSumAccumulator: Accumulator {
    /// What comes out: sum as int64, sum as decimal, or the average.
    enum Output { case integer, decimal, average }

    private let output: Output
    var sums: [Int128] = []
    var counts: [Int64] = []

    init(_ output: Output) { self.output = output }

    func grow(to groups: Int) {
        while sums.count < groups {
            sums.append(0)
            counts.append(0)
        }
    }

    func add(_ arguments: [Column], rows: [Int32], groups: [Int32], context: ExecutionContext) {
        guard case .integers(let values) = arguments[0].storage else { return }
        for (row, group) in zip(rows, groups) {
            sums[Int(group)] += Int128(values[Int(row)])
            counts[Int(group)] += 1
        }
    }

    func result(of group: Int) throws(StatementError) -> Value {
        guard counts[group] > 0 else { return .null }
        if output == .integer {
            guard let sum = Int64(exactly: sums[group]) else {
                throw StatementError(.numericValueOutOfRange, "bigint out of range")
            }
            return .integer(sum)
        }
        do throws(DatabaseError) {
            let sum: Decimal
            if let small = Int64(exactly: sums[group]) {
                sum = Decimal(small)
            } else {
                sum = try Decimal(parsing: String(sums[group]))
            }
            return .decimal(output == .decimal ? sum : try sum.divided(by: Decimal(counts[group])))
        } catch {
            throw StatementError(error)
        }
    }
}

/// Sums and averages of floats.
final class FloatSumAccumulator: Accumulator {
    private let isAverage: Bool
    private let kind: DataType.Kind
    var sums: [Double] = []
    var counts: [Int64] = []

    init(isAverage: Bool, kind: DataType.Kind) { (self.isAverage, self.kind) = (isAverage, kind) }

    func grow(to groups: Int) {
        while sums.count < groups {
            // A sum is the first value, and others: of negative zeros it is one.
            sums.append(isAverage ? 0 : -0.0)
            counts.append(0)
        }
    }

    func add(_ arguments: [Column], rows: [Int32], groups: [Int32], context: ExecutionContext) throws(StatementError) {
        guard case .floats(let values) = arguments[0].storage else { return }
        for (row, group) in zip(rows, groups) {
            try add(values[Int(row)], count: 1, to: Int(group))
        }
    }

    @inline(__always)
    func add(_ value: Double, count: Int64, to group: Int) throws(StatementError) {
        let before = sums[group]
        var sum = before + value
        if kind == .float32, !isAverage { sum = Double(Float(sum)) }
        if sum.isInfinite, before.isFinite, value.isFinite { throw FloatArithmetic.overflow }
        sums[group] = sum
        counts[group] &+= count
    }

    func result(of group: Int) -> Value {
        guard counts[group] > 0 else { return .null }
        return .float(isAverage ? sums[group] / Double(counts[group]) : sums[group])
    }
}

/// Keeps one value for each group, changed by a function of it and the next one: min, max, bool_and, sums of decimals.
final class FoldAccumulator: Accumulator {
    let combine: @Sendable (Value, Value) throws(StatementError) -> Value
    var values: [Value] = []

    init(_ combine: @escaping @Sendable (Value, Value) throws(StatementError) -> Value) { self.combine = combine }

    func grow(to groups: Int) { while values.count < groups { values.append(.null) } }

    func add(_ arguments: [Column], rows: [Int32], groups: [Int32], context: ExecutionContext) throws(StatementError) {
        for (row, group) in zip(rows, groups) {
            let value = arguments[0].value(at: Int(row)), index = Int(group)
            if value.isNull { continue }
            values[index] = values[index].isNull ? value : try combine(values[index], value)
        }
    }

    func result(of group: Int) -> Value { values[group] }
}

/// min and max of integers and their like.
final class IntegerExtremeAccumulator: Accumulator {
    let isMax: Bool
    private let type: DataType
    var values: [Int64] = []
    var isThere: [Bool] = []

    init(isMax: Bool, type: DataType) { (self.isMax, self.type) = (isMax, type) }

    func grow(to groups: Int) {
        while values.count < groups {
            values.append(isMax ? .min : .max)
            isThere.append(false)
        }
    }

    func add(_ arguments: [Column], rows: [Int32], groups: [Int32], context: ExecutionContext) {
        guard case .integers(let source) = arguments[0].storage else { return }
        for (row, group) in zip(rows, groups) {
            take(source[Int(row)], into: Int(group))
        }
    }

    @inline(__always)
    func take(_ value: Int64, into group: Int) {
        isThere[group] = true
        if isMax ? value > values[group] : value < values[group] { values[group] = value }
    }

    func result(of group: Int) -> Value { isThere[group] ? type.value(ofInteger: values[group]) : .null }
}

/// Gathers all rows of a group, and computes at the end: array_agg, string_agg, statistics.
final class GatheringAccumulator: Accumulator {
    private let finish: @Sendable ([[Value]]) throws(StatementError) -> Value
    private var rows: [[[Value]]] = []

    /// `finish` gets the rows of a group, each with its arguments.
    init(_ finish: @escaping @Sendable ([[Value]]) throws(StatementError) -> Value) { self.finish = finish }

    func grow(to groups: Int) { while rows.count < groups { rows.append([]) } }

    func add(_ arguments: [Column], rows: [Int32], groups: [Int32], context: ExecutionContext) throws(StatementError) {
        for (row, group) in zip(rows, groups) {
            self.rows[Int(group)].append(arguments.map { $0.value(at: Int(row)) })
        }
        try context.charge(rows.count * 48 * max(arguments.count, 1))
    }

    func result(of group: Int) throws(StatementError) -> Value {
        rows[group].isEmpty ? .null : try finish(rows[group])
    }
}
