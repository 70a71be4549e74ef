import Base
import DataModel

/// Averages of decimals, exactly.
final class DecimalAverageAccumulator: PartialAccumulator {
    private var sums: [Decimal] = []
    private var counts: [Int64] = []

    func grow(to groups: Int) {
        while sums.count < groups {
            sums.append(.zero)
            counts.append(0)
        }
    }

    func add(_ arguments: [Column], rows: [Int32], groups: [Int32], context: ExecutionContext) throws(StatementError) {
        guard case .values(let values) = arguments[0].storage else { return }
        for (row, group) in zip(rows, groups) {
            if case .decimal(let number) = values[Int(row)] { try add(number, count: 1, to: Int(group)) }
        }
    }

    private func add(_ sum: Decimal, count: Int64, to group: Int) throws(StatementError) {
        sums[group] = counts[group] == 0 ? sum : try ArithmeticFunctions.compute(.add, sums[group], sum)
        counts[group] &+= count
    }

    func result(of group: Int) throws(StatementError) -> Value {
        guard counts[group] > 0 else { return .null }
        return .decimal(try ArithmeticFunctions.compute(.divide, sums[group], Decimal(counts[group])))
    }

    func stateType(_ result: DataType) -> DataType { DataType(.record) }
    func state(of group: Int) -> Value { .tuple([.decimal(sums[group]), .integer(counts[group])]) }

    func merge(state: Value, into group: Int) throws(StatementError) {
        guard case .tuple(let parts) = state, parts.count == 2, case .decimal(let sum) = parts[0],
            case .integer(let count) = parts[1]
        else { throw StatementError(.dataCorrupted, "the state of an aggregate cannot be read") }
        if count != 0 { try add(sum, count: count, to: group) }
    }
}
