import Base
import DataModel

// States that can be put together: of the frames of windows, and of the parts of a table.

/// An accumulator in which the states of two runs of rows make that of both: exactly, and in whichever order.
protocol MergeableAccumulator: Accumulator {
    /// Group `target` becomes as group `source` is.
    func copy(_ source: Int, to target: Int)
    /// Group `target` takes in what group `source` has seen.
    func merge(_ source: Int, into target: Int) throws(StatementError)
}

extension CountAccumulator: MergeableAccumulator {
    func copy(_ source: Int, to target: Int) { counts[target] = counts[source] }
    func merge(_ source: Int, into target: Int) { counts[target] += counts[source] }
}

extension IntegerSumAccumulator: MergeableAccumulator {
    func copy(_ source: Int, to target: Int) { (sums[target], counts[target]) = (sums[source], counts[source]) }

    func merge(_ source: Int, into target: Int) {
        sums[target] += sums[source]
        counts[target] += counts[source]
    }
}

extension FoldAccumulator: MergeableAccumulator {
    func copy(_ source: Int, to target: Int) { values[target] = values[source] }

    func merge(_ source: Int, into target: Int) throws(StatementError) {
        if values[source].isNull { return }
        values[target] = values[target].isNull ? values[source] : try combine(values[target], values[source])
    }
}

extension IntegerExtremeAccumulator: MergeableAccumulator {
    func copy(_ source: Int, to target: Int) {
        (values[target], isThere[target]) = (values[source], isThere[source])
    }

    func merge(_ source: Int, into target: Int) {
        guard isThere[source] else { return }
        isThere[target] = true
        if isMax ? values[source] > values[target] : values[source] < values[target] { values[target] = values[source] }
    }
}

// MARK: States that travel

/// An accumulator whose states are values: shards make them of their rows, and one place merges them.
protocol PartialAccumulator: Accumulator {
    /// Of its states, if its results have the type `result`.
    func stateType(_ result: DataType) -> DataType
    func state(of group: Int) -> Value
    /// `state` may come from elsewhere: what is none of this accumulator's is an error.
    func merge(state: Value, into group: Int) throws(StatementError)
}

private let damagedState = StatementError(.dataCorrupted, "the state of an aggregate cannot be read")

extension CountAccumulator: PartialAccumulator {
    func stateType(_ result: DataType) -> DataType { .int64 }
    func state(of group: Int) -> Value { .integer(counts[group]) }

    func merge(state: Value, into group: Int) throws(StatementError) {
        guard case .integer(let count) = state else { throw damagedState }
        counts[group] &+= count
    }
}

extension IntegerSumAccumulator: PartialAccumulator {
    func stateType(_ result: DataType) -> DataType { .bytes }

    /// Count, and the halves of the sum.
    func state(of group: Int) -> Value {
        var buffer = ByteBuffer(capacity: 24)
        buffer.append(littleEndian: counts[group])
        buffer.append(littleEndian: UInt64(truncatingIfNeeded: sums[group]))
        buffer.append(littleEndian: Int64(truncatingIfNeeded: sums[group] >> 64))
        return .bytes(buffer.readable.bytes)
    }

    func merge(state: Value, into group: Int) throws(StatementError) {
        guard case .bytes(let bytes) = state,
            let (count, low, high) = bytes.withUnsafeBytes({ view -> (Int64, UInt64, Int64)? in
                var reader = ByteReader(view)
                guard let count = reader.littleEndian(Int64.self), let low = reader.littleEndian(UInt64.self),
                    let high = reader.littleEndian(Int64.self)
                else { return nil }
                return (count, low, high)
            })
        else { throw damagedState }
        counts[group] &+= count
        sums[group] &+= Int128(high) << 64 | Int128(low)
    }
}

extension FloatSumAccumulator: PartialAccumulator {
    func stateType(_ result: DataType) -> DataType { .bytes }

    func state(of group: Int) -> Value {
        var buffer = ByteBuffer(capacity: 16)
        buffer.append(littleEndian: counts[group])
        buffer.append(littleEndian: sums[group].bitPattern)
        return .bytes(buffer.readable.bytes)
    }

    func merge(state: Value, into group: Int) throws(StatementError) {
        guard case .bytes(let bytes) = state,
            let (count, bits) = bytes.withUnsafeBytes({ view -> (Int64, UInt64)? in
                var reader = ByteReader(view)
                guard let count = reader.littleEndian(Int64.self), let bits = reader.littleEndian(UInt64.self) else {
                    return nil
                }
                return (count, bits)
            })
        else { throw damagedState }
        try add(Double(bitPattern: bits), count: count, to: group)
    }
}

extension FoldAccumulator: PartialAccumulator {
    func stateType(_ result: DataType) -> DataType { result }
    func state(of group: Int) -> Value { values[group] }

    func merge(state: Value, into group: Int) throws(StatementError) {
        if state.isNull { return }
        values[group] = values[group].isNull ? state : try combine(values[group], state)
    }
}

extension IntegerExtremeAccumulator: PartialAccumulator {
    func stateType(_ result: DataType) -> DataType { result }
    func state(of group: Int) -> Value { result(of: group) }

    func merge(state: Value, into group: Int) { if !state.isNull { take(state.columnInteger, into: group) } }
}

// MARK: All rows at once

/// An accumulator that takes all rows of columns without NULL into its only group, faster than row by row.
protocol WholeAccumulator: Accumulator {
    func addAll(_ arguments: [Column], count: Int)
}

extension CountAccumulator: WholeAccumulator {
    func addAll(_ arguments: [Column], count: Int) { counts[0] += Int64(count) }
}

extension IntegerSumAccumulator: WholeAccumulator {
    func addAll(_ arguments: [Column], count: Int) {
        guard case .integers(let values) = arguments[0].storage else { return }
        // Halves of 32 bits each: neither sum can overflow over the rows of a batch.
        var (high, low): (Int64, Int64) = (0, 0)
        for value in values {
            high &+= value >> 32
            low &+= value & 0xffff_ffff
        }
        sums[0] += Int128(high) << 32 + Int128(low)
        counts[0] += Int64(count)
    }
}

extension IntegerExtremeAccumulator: WholeAccumulator {
    func addAll(_ arguments: [Column], count: Int) {
        guard case .integers(let values) = arguments[0].storage, let extreme = isMax ? values.max() : values.min()
        else { return }
        take(extreme, into: 0)
    }
}
