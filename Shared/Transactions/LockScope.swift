import Base
import DataModel

/// A key of the shard, as locks name it. It knows its hash: tables that grow need not look at the keys of millions.
package struct LockKey: Hashable, Sendable {
    package let database: UInt8
    package let key: Bytes
    private let digest: UInt64

    package init(_ database: UInt8, _ key: Bytes) {
        (self.database, self.key) = (database, key)
        digest = key.withUnsafeBytes { ByteHash.hash($0) } &+ UInt64(database)
    }

    package static func == (left: LockKey, right: LockKey) -> Bool {
        left.digest == right.digest && left.database == right.database && left.key == right.key
    }

    package func hash(into hasher: inout Hasher) { hasher.combine(digest) }
}

/// How a key is locked.
package enum LockMode: UInt8, CaseIterable, Hashable, Sendable {
    /// Nobody else may change it.
    case shared = 1
    /// Nobody else may lock or change it.
    case exclusive = 2
}

/// What a statement does at a key that somebody else has locked. The raw values are the wire's.
package enum WaitPolicy: UInt8, CaseIterable, Hashable, Sendable {
    case wait = 0
    /// It is refused.
    case noWait = 1
    /// It is done without the key.
    case skipLocked = 2
}

/// What a call or a part touches.
package struct LockScope: Hashable, Sendable {
    /// What it may change.
    package private(set) var exclusive: [LockKey]
    /// What it only reads.
    package private(set) var shared: [LockKey]
    /// Of calls that have no single key: FLUSHALL changes the whole shard; SCAN, DBSIZE read it.
    package private(set) var shard: LockMode?
    /// Of a call outside transactions: those among `shared` that nobody may be changing, not even provisionally: the
    /// definitions that what it writes is made by.
    package var steady: Set<LockKey> = []

    /// Keys may be named more than once, and in both lists: then they are changed.
    package init(exclusive: [LockKey] = [], shared: [LockKey] = [], shard: LockMode? = nil) {
        self.exclusive = exclusive.count > 1 ? Self.unique(exclusive) : exclusive
        self.shard = shard
        if shared.isEmpty || (shared.count == 1 && exclusive.isEmpty) {
            self.shared = shared
        } else {
            if exclusive.count <= Self.few, shared.count <= Self.few {
                self.shared = shared.filter { !exclusive.contains($0) }
            } else {
                let changed = Set(exclusive)
                self.shared = shared.filter { !changed.contains($0) }
            }
            if self.shared.count > 1 { self.shared = Self.unique(self.shared) }
        }
    }

    /// So many keys are compared one by one sooner than by a table.
    private static let few = 4

    /// Of keys that are named once.
    init(distinct exclusive: [LockKey], _ shared: [LockKey], shard: LockMode?) {
        (self.exclusive, self.shared, self.shard) = (exclusive, shared, shard)
    }

    /// Keys that may be changed.
    package static func keys(_ keys: [LockKey]) -> LockScope { LockScope(exclusive: keys) }

    /// Everything may be changed.
    package static let shard = LockScope(shard: .exclusive)

    /// Whether the keys take no more than so many bytes in a record.
    func isWithin(_ bytes: Int) -> Bool {
        var left = bytes
        for key in exclusive { left -= key.key.count + 6 }
        for key in shared { left -= key.key.count + 6 }
        return left >= 0
    }

    private static func unique(_ keys: [LockKey]) -> [LockKey] {
        if keys.count <= few { return keys.indices.filter { !keys[..<$0].contains(keys[$0]) }.map { keys[$0] } }
        var known: Set<LockKey> = []
        return keys.filter { known.insert($0).inserted }
    }

    package var isEmpty: Bool { exclusive.isEmpty && shared.isEmpty && shard == nil }

    var bytes: Int {
        (exclusive + shared).reduce(shard == nil ? 0 : 64) { $0 + Self.bytes(of: $1) }
    }

    static func bytes(of key: LockKey) -> Int { key.key.count + 64 }
}

/// A call that may have to wait, whole: it is kept by who asks, under `token`, and begins anew when it is woken.
package struct WaitingCall: Hashable, Sendable {
    package let token: UInt64
    /// The client connection that it comes from; a later call of a lane waits behind an earlier one. 0: none.
    package let lane: UInt64
    /// What it takes to keep it.
    package let bytes: Int
    /// In milliseconds; then it is refused.
    package let deadline: UInt64

    package init(token: UInt64, lane: UInt64, bytes: Int, deadline: UInt64) {
        (self.token, self.lane, self.bytes, self.deadline) = (token, lane, bytes, deadline)
    }
}
