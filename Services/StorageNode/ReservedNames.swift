import Base
import Contracts
import DataModel
import Transactions

/// Names that keys of Redis begin with, and that open transactions give to collections.
///
/// `users:1` is a key of Redis until there is a collection `users`, and a record of it from then on: no key may be
/// written that the collection would hide, and none after somebody was told of the collection. So the statement that
/// makes it locks the name, which is refused while others change such keys; and from then on until the transaction is
/// over calls that write such keys are refused as stale, and those that read them too, once it is prepared. Who is
/// refused asks for the schema, which waits for the transaction, and calls again.
enum ReservedNames {
    /// No key has it: locks of names are under it.
    static let database: UInt8 = 254

    static let changing = DatabaseError(
        .staleSchema, "a collection is being made whose records the key would name; try again")
    static let occupied = DatabaseError(
        .busy, "keys of Redis that the collection would hide are being changed; try again")
}

extension OperationView {
    /// The keys of Redis in it that might name records, and whether they are written, until `body` says no.
    fileprivate func forEachDivided(_ body: (_ name: ByteView, _ isWrite: Bool) -> Bool) {
        var goesOn = true
        func look(_ database: UInt8, _ key: ByteView, _ isWrite: Bool) {
            guard goesOn, database == 0, let name = RecordName.divide(key) else { return }
            goesOn = body(name.collection, isWrite)
        }
        switch self {
        case .call(let call): call.forEachKey { look($0, $1, call.method.isWrite) }
        case .batch(let batch):
            var calls = batch.calls, watches = batch.watches
            while goesOn, let call = calls.next() { call.forEachKey { look($0, $1, call.method.isWrite) } }
            while goesOn, let watch = watches.next() { look(watch.database, watch.key, false) }
        case .record, .step, .home, .unknown: break
        }
    }
}

extension ShardExecutor {
    /// Why it must not be done now: somebody else gives a collection a name that a key begins with.
    func reservation(_ operation: OperationView, by id: PartID? = nil) -> DatabaseError? {
        guard transactions.participant.locks.isAnyLocked else { return nil }
        var isRefused = false
        operation.forEachDivided { name, isWrite in
            let holder = transactions.participant.locks.holder(ReservedNames.database, name)
            if let holder, holder.id != id, isWrite || holder.isHard { isRefused = true }
            return !isRefused
        }
        return isRefused ? ReservedNames.changing : nil
    }

    /// Why names cannot be given to collections now: transactions change keys that begin with them.
    func occupation(_ batch: CallBatchView) -> DatabaseError? {
        var calls = batch.calls, names: Set<Bytes> = []
        while let call = calls.next() {
            guard call.method == .schemaPut else { continue }
            var touched = TouchedKeys(runtime)
            touched.add(call)
            for key in touched.written where key.database == ReservedNames.database { names.insert(key.key) }
        }
        guard !names.isEmpty else { return nil }
        let isOccupied = transactions.participant.locks.isAnyWritten { key in
            guard key.database == 0 else { return false }
            return key.key.withUnsafeBytes { key in
                RecordName.divide(key).map { names.contains($0.collection.bytes) } ?? false
            }
        }
        return isOccupied ? ReservedNames.occupied : nil
    }

    /// The version of the catalog that calls are evaluated by.
    var schemaVersion: UInt64 { (try? runtime.catalog().version) ?? 0 }

    /// Why a call that has waited since the catalog had that version cannot be done any more: its keys may be others
    /// now than those it has waited for.
    func staleness(_ operation: OperationView, since version: UInt64) -> DatabaseError? {
        guard version != schemaVersion else { return nil }
        var isStale = false
        operation.forEachDivided { _, _ in
            isStale = true
            return false
        }
        return isStale ? ReservedNames.changing : nil
    }
}
