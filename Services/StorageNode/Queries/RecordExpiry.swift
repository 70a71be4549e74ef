import Base
import Contracts
import DataModel
import Engine
import GatewayKit

/// EXPIRE and PERSIST of a record whose table has indexes: its entries get a time with it, in one transaction
/// (docs/decisions/0014-indexes.md).
final class RecordExpiry {
    /// How much longer than its record an entry is there: the clocks of two shards differ, and a record that is there
    /// must have its entry.
    static let grace: Int64 = 60_000

    private let method: Method
    private let flags: UInt32
    private let numbers: [Int64]
    private let catalog: Catalog
    private let calls: TransactionCalls

    init(_ method: Method, _ flags: UInt32, _ numbers: [Int64], _ catalog: Catalog, _ calls: TransactionCalls) {
        (self.method, self.flags, self.numbers) = (method, flags, numbers)
        (self.catalog, self.calls) = (catalog, calls)
    }

    /// Answers what the command does: whether the record got another time.
    func begin(
        _ collection: CollectionDescriptor, _ primaryKey: Bytes,
        _ completion: @escaping (Result<Bool, StatementError>) -> Void
    ) throws(StatementError) {
        guard !catalog.isReferenced(collection.id) else {
            throw StatementError(
                .featureNotSupported, "records of \(collection.name) have references to them, and cannot expire")
        }
        let key = primaryKey.withUnsafeBytes { RowKey.make(collection.id, primaryKey: $0) }
        var builder = RowCallBuilder()
        builder.append(.rowGet, key: key, numbers: [Int64(bitPattern: collection.version)])
        builder.append(method, key: key, flags: flags, numbers: numbers)
        builder.append(.expireTime, key: key, numbers: [])
        let share = InteractiveRun.Share(slot: Self.slot(primaryKey), body: builder.body, isWrite: true)
        calls.perform([share], lock: .update, wait: .wait) { [self] result in
            do throws(StatementError) {
                let batches = try result.mapError(StatementError.init(ofShard:)).get()
                guard let change = try Change(batches) else { return completion(.success(false)) }
                let entries = try RowEntries.keys(of: change.record, at: primaryKey, in: collection, catalog)
                try follow(entries, change.time) { completion($0.map { true }) }
            } catch {
                completion(.failure(error))
            }
        }
    }

    /// The entries go with their record, or get its time, or none.
    private func follow(
        _ entries: [(collection: CollectionDescriptor, key: Bytes)], _ time: Int64,
        _ completion: @escaping (Result<Void, StatementError>) -> Void
    ) throws(StatementError) {
        guard !entries.isEmpty else { return completion(.success(())) }
        // Two may be of one shard, which takes one batch of a statement.
        let division = try RowKeeper.divide(entries.map { Self.slot($0.key) }, calls.router)
        let shares = division.map { share in
            var builder = RowCallBuilder()
            for position in share.positions {
                let entry = entries[position]
                let key = entry.key.withUnsafeBytes { RowKey.make(entry.collection.id, primaryKey: $0) }
                switch time {
                case Change.gone:
                    builder.append(.rowDelete, key: key, numbers: [Int64(bitPattern: entry.collection.version)])
                case Change.never: builder.append(.persist, key: key, numbers: [])
                case _: builder.append(.expire, key: key, numbers: [Self.end(ofEntry: time)])
                }
            }
            return InteractiveRun.Share(slot: share.slot, body: builder.body, isWrite: true)
        }
        calls.perform(shares, lock: .none, wait: .wait) { result in
            do throws(StatementError) {
                let batches = try result.mapError(StatementError.init(ofShard:)).get()
                try RowKeeper.read(batches) { (_, _, _) throws(StatementError) in }
                completion(.success(()))
            } catch {
                completion(.failure(error))
            }
        }
    }

    /// When an entry ends whose record ends at a time.
    static func end(ofEntry time: Int64) -> Int64 {
        let (sum, overflows) = time.addingReportingOverflow(grace)
        return overflows ? .max : sum
    }

    private static func slot(_ key: Bytes) -> UInt32 { key.withUnsafeBytes { UInt32(Slot.ofPartition($0).rawValue) } }

    /// What the command has done to the record.
    private struct Change {
        static let never: Int64 = -1, gone: Int64 = -2

        var record: Bytes = []
        /// As `expireTime` answers it.
        var time = Change.never

        /// Nil: nothing.
        init?(_ batches: [Bytes]) throws(StatementError) {
            var record: Bytes?, isDone = false, time = Change.never
            try RowKeeper.read(batches) { (_, call, reply) throws(StatementError) in
                switch (call, reply.kind) {
                case (0, .list):
                    var items = reply.items
                    if case .data(let data)? = items.next() { record = data.bytes }
                case (1, .integer): isDone = reply.integer == 1
                case (2, .integer): time = reply.integer
                case (_, _): throw RowKeeper.malformed
                }
            }
            guard isDone, let record else { return nil }
            (self.record, self.time) = (record, time)
        }
    }
}
