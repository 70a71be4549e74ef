import Base
import DataModel

/// The keys of a batch's rows, in the order in which they come: made once, compared often.
final class MergeKeys {
    /// Of a single column of integers, the values; otherwise the bytes of all columns of each row behind one another.
    private let integers: [Int64]
    private let bytes: Bytes
    private let offsets: [Int]
    private let isWhole: Bool
    private let isDescending: Bool
    /// Rows in which a column is NULL; empty: there are none.
    private let nulls: [Bool]
    let count: Int

    init(_ columns: [Column], _ parts: [RowKeyWriter.Part], count: Int) {
        self.count = count
        let columns = columns.map { $0.flattened() }
        let hasNulls = columns.contains { $0.validity != nil }
        nulls = hasNulls ? (0..<count).map { row in columns.contains { $0.isNull(at: row) } } : []
        isDescending = parts.first?.isDescending ?? false
        if columns.count == 1, case .integers(let values) = columns[0].storage {
            (integers, bytes, offsets, isWhole) = (values, [], [], true)
            return
        }
        var writer = RowKeyWriter()
        var offsets = [0]
        offsets.reserveCapacity(count + 1)
        for row in 0..<count {
            for (column, part) in zip(columns, parts) { writer.append(column, row: row, part: part) }
            offsets.append(writer.buffer.count)
        }
        (integers, bytes, self.offsets, isWhole) = ([], writer.buffer.readable.bytes, offsets, false)
    }

    /// No rows.
    init() {
        (integers, bytes, offsets, nulls) = ([], [], [], [])
        (isWhole, isDescending, count) = (true, false, 0)
    }

    @inline(__always) func isNull(_ row: Int) -> Bool { nulls.isEmpty ? false : nulls[row] }

    /// Less than 0: the row comes before the other one. Of rows without NULL.
    func compare(_ row: Int, _ other: MergeKeys, _ otherRow: Int) -> Int {
        if isWhole {
            let mine = integers[row], theirs = other.integers[otherRow]
            if mine == theirs { return 0 }
            return (mine < theirs) != isDescending ? -1 : 1
        }
        let mine = offsets[row]..<offsets[row + 1], theirs = other.offsets[otherRow]..<other.offsets[otherRow + 1]
        return bytes.withUnsafeBytes { first in
            other.bytes.withUnsafeBytes { second in
                compareKeys(ByteView(rebasing: first[mine]), ByteView(rebasing: second[theirs]))
            }
        }
    }

    /// The last row without NULL; nil: there is none.
    var last: Int? {
        var row = count - 1
        while row >= 0, isNull(row) { row -= 1 }
        return row < 0 ? nil : row
    }

    /// Whether the rows come in the order, behind those before.
    func areOrdered(behind before: MergeKeys) -> Bool {
        var known = -1
        for row in 0..<count where !isNull(row) {
            if known >= 0 {
                if compare(known, self, row) > 0 { return false }
            } else if let last = before.last, before.compare(last, self, row) > 0 {
                return false
            }
            known = row
        }
        return true
    }
}
