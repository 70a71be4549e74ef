import Base
import Contracts
import Transactions

/// Which keys calls change, and which they only look at: what has to be locked for them.
struct TouchedKeys {
    private(set) var written: [LockKey] = []
    private(set) var read: [LockKey] = []
    private var shard: LockMode?

    mutating func add(_ call: ActorCallView) {
        let method = call.method
        guard !method.isKeyless else {
            if method.isWrite { shard = .exclusive } else if shard == nil { shard = .shared }
            return
        }
        var isFirst = true
        call.forEachKey { database, key in
            // The others of a call that writes are all written.
            let isWritten = method == .copy ? !isFirst : method == .bitOperation ? isFirst : method.isWrite
            isFirst = false
            if isWritten {
                written.append(LockKey(database, key.bytes))
            } else {
                read.append(LockKey(database, key.bytes))
            }
        }
    }

    mutating func add(_ batch: CallBatchView) {
        var calls = batch.calls, watches = batch.watches
        while let call = calls.next() { add(call) }
        while let watch = watches.next() { read.append(LockKey(watch.database, watch.key.bytes)) }
    }

    /// All of it.
    var scope: LockScope { LockScope(exclusive: written, shared: read, shard: shard) }

    /// What a statement of an open transaction locks, and what it only reads.
    func divided(_ mode: InvocationScope.LockMode) -> (locks: LockScope, reads: LockScope) {
        let locked = LockScope(exclusive: written, shard: shard == .exclusive ? .exclusive : nil)
        switch mode {
        case .none: return (locked, LockScope(shared: read, shard: shard == .shared ? .shared : nil))
        case .share: return (scope, LockScope())
        case .update: return (LockScope(exclusive: written + read, shard: shard == nil ? nil : .exclusive), LockScope())
        }
    }
}
