import Base

/// The longest common subsequence of two strings, found by the table of common lengths.
///
/// Two rows of the table are kept, and for each cell one bit, which is all that tracing back needs: whether the way
/// leads up. Where several subsequences are longest the choice is that of Redis (up only if that is strictly longer),
/// since clients see it.
struct CommonSubsequence {
    struct Match: Hashable {
        let left: Int, right: Int
        var length: Int
    }

    var length = 0
    var bytes: Bytes = []
    /// Runs of matching bytes, the last first.
    var matches: [Match] = []

    /// Nil if the table would have more than `cellLimit` cells. Without `needsTrace` only the length is found.
    static func of(_ left: Bytes, _ right: Bytes, cellLimit: Int, needsTrace: Bool) -> CommonSubsequence? {
        let (cells, overflow) = left.count.multipliedReportingOverflow(by: right.count)
        guard !overflow, cells <= cellLimit else { return nil }
        var result = CommonSubsequence()
        guard cells > 0 else { return result }
        let width = right.count
        var above = [UInt32](repeating: 0, count: width + 1), row = above
        var isUp = [UInt64](repeating: 0, count: needsTrace ? (cells + 63) / 64 : 0)
        for i in 0..<left.count {
            let byte = left[i]
            for j in 0..<width {
                if byte == right[j] {
                    row[j + 1] = above[j] + 1
                } else if above[j + 1] > row[j] {
                    row[j + 1] = above[j + 1]
                    if needsTrace {
                        let cell = i * width + j
                        isUp[cell >> 6] |= 1 << UInt64(cell & 63)
                    }
                } else {
                    row[j + 1] = row[j]
                }
            }
            swap(&above, &row)
        }
        result.length = Int(above[width])
        if needsTrace { result.trace(left, right, isUp) }
        return result
    }

    private mutating func trace(_ left: Bytes, _ right: Bytes, _ isUp: [UInt64]) {
        var i = left.count, j = right.count
        while i > 0, j > 0 {
            if left[i - 1] == right[j - 1] {
                i -= 1
                j -= 1
                bytes.append(left[i])
                if let last = matches.last, last.left == i + 1, last.right == j + 1 {
                    matches[matches.count - 1] = Match(left: i, right: j, length: last.length + 1)
                } else {
                    matches.append(Match(left: i, right: j, length: 1))
                }
            } else {
                let cell = (i - 1) * right.count + j - 1
                if isUp[cell >> 6] >> UInt64(cell & 63) & 1 != 0 { i -= 1 } else { j -= 1 }
            }
        }
        bytes.reverse()
    }
}
