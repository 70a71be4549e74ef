/// How much memory a part of the process may hold: actors, connection buffers, a request.
///
/// Counts what its users declare; it neither allocates nor frees. A budget under another charges both, so that the sum
/// of parts is limited too. Confined to one loop.
package final class MemoryBudget {
    /// What this budget pays for, in error messages and metrics.
    package let name: String
    package var limit: Int
    package private(set) var used = 0
    /// The most that was ever used.
    package private(set) var peak = 0
    private let parent: MemoryBudget?

    package init(_ name: String, limit: Int, parent: MemoryBudget? = nil) {
        self.name = name
        self.limit = limit
        self.parent = parent
    }

    /// Bytes that can still be reserved here and above.
    package var available: Int { min(max(0, limit - used), parent?.available ?? .max) }

    /// True when more is charged than the limit: time to evict.
    package var isExceeded: Bool { used > limit || (parent?.isExceeded ?? false) }

    /// Bytes to free until the budget holds again.
    package var excess: Int { max(used - limit, parent?.excess ?? 0, 0) }

    /// Counts memory that is there already, or whose refusal would come too late: the limit may be exceeded.
    package func charge(_ bytes: Int) {
        used += bytes
        if used > peak { peak = used }
        parent?.charge(bytes)
    }

    /// Counts `bytes` if they fit; refuses otherwise.
    package func reserve(_ bytes: Int) throws(DatabaseError) {
        guard bytes <= available else {
            throw DatabaseError(.outOfMemory, "\(bytes) bytes exceed what is left of the memory for \(name)")
        }
        charge(bytes)
    }

    /// Gives back what was charged or reserved.
    package func release(_ bytes: Int) {
        used -= bytes
        parent?.release(bytes)
    }
}
