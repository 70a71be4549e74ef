import Actors
import Base
import Contracts
import DataModel
import Storage
import Transactions

/// Which keys calls change, and which they only look at: what has to be locked for them.
///
/// The catalog and each collection have a lock too: who changes a collection's descriptor has it alone, and statements
/// of open transactions share it, whatever they do to its records, until they are over. Who gives a collection a name
/// that keys of Redis begin with has a lock of that name (`ReservedNames`).
struct TouchedKeys {
    private(set) var written: [LockKey] = []
    private(set) var read: [LockKey] = []
    private var collections: [LockKey] = []
    private var shard: LockMode?
    /// Where the calls read, or more: `all` if that is not told by collections of records.
    private(set) var visited = CollectionSet()

    /// Knows which keys of Redis name records.
    private let runtime: ActorRuntime

    init(_ runtime: ActorRuntime) { self.runtime = runtime }

    private static let catalog = LockKey(RowKey.database, [])

    /// The lock of a collection: no record has a key that is so short.
    static func isCollection(_ key: LockKey) -> Bool {
        key.database == RowKey.database && key.key.count == RowKey.prefixSize
    }

    mutating func add(_ call: ActorCallView) {
        let method = call.method
        switch method.keys {
        case .none:
            visited = .all
            addShard(method.isWrite ? .exclusive : .shared)
        case .collection:
            add(collection: call.key)
            addShard(.shared)
        case .catalog: addCatalog(call)
        case .first, .firstTwice, .two, .all, .pairs: addKeys(call)
        }
    }

    private mutating func addKeys(_ call: ActorCallView) {
        let method = call.method
        var isFirst = true
        call.forEachKey { database, key in
            // The others of a call that writes are all written.
            let isWritten = method == .copy ? !isFirst : method == .bitOperation ? isFirst : method.isWrite
            isFirst = false
            let key = lock(database, key)
            if isWritten { written.append(key) } else { read.append(key) }
        }
    }

    /// The lock of a key, or of the record that it names.
    private mutating func lock(_ database: UInt8, _ key: ByteView) -> LockKey {
        if let row = runtime.recordKey(database, key) {
            row.withUnsafeBytes { add(collection: $0) }
            return LockKey(RowKey.database, row)
        }
        if database == RowKey.database { add(collection: key) } else { visited = .all }
        return LockKey(database, key.bytes)
    }

    private mutating func addShard(_ mode: LockMode) {
        if shard == nil || mode == .exclusive { shard = mode }
    }

    /// The collection whose id the bytes begin with.
    private mutating func add(collection bytes: ByteView) {
        guard bytes.count >= RowKey.prefixSize else { return }
        if let id = RowKey.collection(prefix: bytes) { visited.insert(id) } else { visited = .all }
        let prefix = ByteView(rebasing: bytes[..<RowKey.prefixSize])
        if let last = collections.last, last.key.withUnsafeBytes({ compareKeys($0, prefix) == 0 }) { return }
        collections.append(LockKey(RowKey.database, prefix.bytes))
    }

    private mutating func addCatalog(_ call: ActorCallView) {
        visited = .all
        guard call.method.isWrite else { return read.append(Self.catalog) }
        written.append(Self.catalog)
        // Who only puts statistics disturbs nobody.
        if call.method == .schemaPut, call.flags & SchemaPutFlags.statistics.rawValue != 0 { return }
        if call.method == .schemaPut { addNames(call) }
        guard call.flags & 1 == 0 else { return }  // Namespaces.
        for start in stride(from: 0, to: call.key.count - call.key.count % RowKey.prefixSize, by: RowKey.prefixSize) {
            written.append(LockKey(RowKey.database, call.key[start..<start + RowKey.prefixSize].map { $0 }))
        }
    }

    /// The names of collections whose records keys of Redis may name from then on.
    private mutating func addNames(_ call: ActorCallView) {
        for position in 0..<call.arguments.count {
            guard case .collection(let collection)? = try? CatalogObject(decoding: call.arguments[position]),
                collection.namingColumn != nil
            else { continue }
            written.append(LockKey(ReservedNames.database, Bytes(collection.name.utf8)))
        }
    }

    mutating func add(_ batch: CallBatchView) {
        var calls = batch.calls, watches = batch.watches
        while let call = calls.next() { add(call) }
        while let watch = watches.next() {
            read.append(lock(watch.database, watch.key))
        }
    }

    /// All of it.
    var scope: LockScope {
        var scope = LockScope(exclusive: written, shared: read + collections, shard: shard)
        if !written.isEmpty, !collections.isEmpty { scope.steady = Set(collections) }
        return scope
    }

    /// What a statement of an open transaction locks, and what it only reads.
    func divided(_ mode: InvocationScope.LockMode) -> (locks: LockScope, reads: LockScope) {
        let locked = LockScope(
            exclusive: written, shared: collections, shard: shard == .exclusive ? .exclusive : nil)
        switch mode {
        case .none: return (locked, LockScope(shared: read, shard: shard == .shared ? .shared : nil))
        case .share: return (scope, LockScope())
        case .update:
            return (
                LockScope(exclusive: written + read, shared: collections, shard: shard == nil ? nil : .exclusive),
                LockScope()
            )
        }
    }
}
