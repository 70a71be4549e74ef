import Backup
import Base
import Contracts
import DataModel
import Storage

/// Which buckets of a shard are being restored, and who waits for that to be durable.
///
/// While one is, the shard's leader evaluates nothing: what is loaded shows no moment of the past before all of it is
/// there. The records of the buckets say so too, so that a crash or another leader changes nothing.
final class ShardRestores {
    typealias Completion = (DatabaseError?) -> Void

    private var records: [BucketID: RestoreRecord] = [:]
    /// Not served, although no record says so yet.
    private var held: Set<BucketID> = []
    private var waiting: [(index: LogIndex, completion: Completion)] = []
    /// Nothing of the shard may be served.
    private(set) var isActive = false

    func record(of bucket: BucketID) -> RestoreRecord? { records[bucket] }

    func set(_ record: RestoreRecord?, of bucket: BucketID) {
        records[bucket] = record
        update()
    }

    func hold(_ bucket: BucketID, _ isHeld: Bool) {
        if isHeld { held.insert(bucket) } else { held.remove(bucket) }
        update()
    }

    private func update() { isActive = !held.isEmpty || records.values.contains { $0.isUnderWay } }

    /// What the store says takes the place of everything; who waits is told that it was in vain.
    func reset(_ stored: [BucketID: RestoreRecord]) {
        records = stored
        held = []
        update()
        fail()
    }

    func wait(for index: LogIndex, _ completion: @escaping Completion) { waiting.append((index, completion)) }

    /// Everything up to `index` is applied.
    func settled(upTo index: LogIndex) {
        guard !waiting.isEmpty else { return }
        let ready = waiting.filter { $0.index <= index }
        waiting.removeAll { $0.index <= index }
        for waiter in ready { waiter.completion(nil) }
    }

    private static let lost = DatabaseError(.unavailable, "The shard's leader has changed; ask again")

    /// What was proposed may be lost.
    func fail() {
        let lost = waiting
        waiting = []
        for waiter in lost { waiter.completion(Self.lost) }
    }
}

/// The restore of buckets, step by step; every step is an entry of the log, and may be made again.
extension ShardExecutor {
    typealias RestoreCompletion = (Result<RestoreAnswer, DatabaseError>) -> Void

    static var beingRestored: DatabaseError { RestoreAnswer.underWay }
    private static let notLed = DatabaseError(.notLeader, "This node does not lead the bucket's shard")

    /// Reads how far restores are; before anything is evaluated. False when it cannot be told.
    func loadRestores() -> Bool {
        var found: [BucketID: RestoreRecord] = [:]
        do {
            for number in buckets.joined() {
                let bucket = BucketID(rawValue: UInt16(truncatingIfNeeded: number))
                guard let record = try Self.restoreRecord(of: bucket, in: store) else { continue }
                found[bucket] = record
            }
        } catch {
            onFatal(error)
            return false
        }
        restores.reset(found)
        return true
    }

    private static func restoreRecord(of bucket: BucketID, in store: ShardStore) throws(StoreError) -> RestoreRecord? {
        try RestoreRecord.key(bucket).withView { (key: ByteView) throws(StoreError) in
            guard let value = try store.get(key) else { return nil }
            guard let record = value.withUnsafeBytes({ RestoreRecord(decoding: $0) }) else {
                throw StoreError(.corruption, "the record of a bucket's restore is damaged")
            }
            return record
        }
    }

    /// Whether what this replica has applied of a bucket is a part of a restore. For reads that do not go to a leader:
    /// all buckets are marked before anything is loaded, and all is loaded before a mark goes.
    func isBeingRestored(_ bucket: BucketID) -> Bool {
        if isServing { return restores.isActive }
        guard let record = try? Self.restoreRecord(of: bucket, in: store) else { return false }
        return record.isUnderWay
    }

    // MARK: Steps

    func restore(_ step: RestoreStep, at bucket: BucketID, _ completion: @escaping RestoreCompletion) {
        guard isEvaluating else { return completion(.failure(Self.notLed)) }
        let known = restores.record(of: bucket)
        do throws(DatabaseError) {
            switch step.kind {
            case .status: completion(.success(known?.answer ?? RestoreAnswer(.none)))
            case .begin: try begin(step, at: bucket, known, completion)
            case .load: try load(step, at: bucket, Self.mine(known, step), completion)
            case .complete: throw DatabaseError(.internalFailure, "a step of the node's, not of the shard's")
            case .finish: try finish(at: bucket, Self.mine(known, step), completion)
            case .cancel: try cancel(at: bucket, Self.mine(known, step), completion)
            }
        } catch {
            completion(.failure(error))
        }
    }

    /// The record, if it is of the step's backup.
    static func mine(_ known: RestoreRecord?, _ step: RestoreStep) throws(DatabaseError) -> RestoreRecord {
        guard let known, known.backup == step.backup else {
            throw DatabaseError(
                .invalidArgument,
                known == nil
                    ? "bucket \(step.bucket) is not being restored" : "bucket \(step.bucket) is of another backup")
        }
        return known
    }

    private func begin(
        _ step: RestoreStep, at bucket: BucketID, _ known: RestoreRecord?, _ completion: @escaping RestoreCompletion
    ) throws(DatabaseError) {
        if let known {
            if known.backup == step.backup { return completion(.success(known.answer)) }
            guard !known.isUnderWay else {
                throw DatabaseError(
                    .invalidArgument, "the cluster is half restored from another backup; go on with that one")
            }
        }
        // The records' timestamps, and those of what follows, must rise.
        try clock.observe(step.timestamp)
        guard transactions.participant.locks.isFree else {
            throw DatabaseError(.busy, "transactions are under way on the shard")
        }
        restores.hold(bucket, true)
        locksChanged()
        settle { [self] error in
            if let error { return letGo(bucket, error, completion) }
            do throws(DatabaseError) {
                if let kind = try foreignRecord(in: bucket) {
                    throw DatabaseError(
                        .invalidArgument,
                        "the cluster is not empty (bucket \(step.bucket) has \(kind)); "
                            + "a backup is restored into a new cluster")
                }
                write(RestoreRecord(.loading, backup: step.backup), at: bucket) { [self] error in
                    restores.hold(bucket, false)
                    locksChanged()
                    completion(self.answer(bucket, error))
                }
            } catch {
                letGo(bucket, error, completion)
            }
        }
    }

    private func letGo(_ bucket: BucketID, _ error: DatabaseError, _ completion: RestoreCompletion) {
        restores.hold(bucket, false)
        locksChanged()
        completion(.failure(error))
    }

    private func answer(_ bucket: BucketID, _ error: DatabaseError?) -> Result<RestoreAnswer, DatabaseError> {
        if let error { return .failure(error) }
        return .success(restores.record(of: bucket)?.answer ?? RestoreAnswer(.none))
    }

    /// Calls back when everything that was evaluated so far is applied.
    private func settle(_ completion: @escaping ShardRestores.Completion) {
        let index = newestIndex
        guard index > store.appliedIndex else { return completion(nil) }
        restores.wait(for: index, completion)
    }

    /// What a new cluster has not; nil when the bucket has nothing but its users and what shards write for themselves.
    private func foreignRecord(in bucket: BucketID) throws(DatabaseError) -> String? {
        let harmless: Set<CollectionID> = [.systemUsers, .systemOutcomes]
        var found: String?
        for range in BackupContents.ranges(of: bucket) where found == nil {
            do throws(StoreError) {
                try range.from.withView { (from: ByteView) throws(StoreError) in
                    try range.to.withView { (to: ByteView) throws(StoreError) in
                        try store.scan(from: from, to: to) { key, _ in
                            guard let collection = BackupContents.collection(of: key) else { return true }
                            if harmless.contains(collection) { return true }
                            found = collection < .firstUnreserved ? "keys" : "records"
                            return false
                        }
                    }
                }
            } catch {
                throw error.databaseError
            }
        }
        return found
    }

    private func load(
        _ step: RestoreStep, at bucket: BucketID, _ known: RestoreRecord, _ completion: @escaping RestoreCompletion
    ) throws(DatabaseError) {
        guard known.state == .loading, step.piece == known.piece else { return completion(.success(known.answer)) }
        try checkRoom()
        try Self.check(step.records, of: bucket)
        _ = nextTimestamp()
        if known.piece == 0 { clear(bucket) }
        step.records.withUnsafeBytes { view in
            var reader = ByteReader(view)
            while isEvaluating, let record = RecordBlock.next(&reader) {
                open.put(key: record.key, value: record.value)
                if open.size >= Self.entryTarget { propose() }
            }
        }
        guard isEvaluating else { throw Self.notLed }
        var next = known
        next.piece &+= 1
        write(next, at: bucket) { [self] error in completion(answer(bucket, error)) }
    }

    /// Writes are refused as those of clients are.
    private func checkRoom() throws(DatabaseError) {
        guard !log.writer.isFull else { throw Self.diskFull }
        guard pendingBytes < Self.pendingLimit else { throw DatabaseError(.busy, "the log cannot keep up") }
    }

    private static func check(_ records: Bytes, of bucket: BucketID) throws(DatabaseError) {
        let isSound = records.withUnsafeBytes { view in
            var reader = ByteReader(view)
            while !reader.isAtEnd {
                guard let record = RecordBlock.next(&reader), BackupContents.bucket(of: record.key) == bucket,
                    BackupContents.holds(record.key)
                else { return false }
            }
            return true
        }
        guard isSound else { throw DatabaseError(.corruption, "a piece of bucket \(bucket) is damaged") }
    }

    /// Everything goes that a new cluster has in a bucket: its first user above all.
    private func clear(_ bucket: BucketID) {
        for range in BackupContents.ranges(of: bucket) + [BackupContents.counters(of: bucket)] {
            range.from.withUnsafeBytes { from in
                range.to.withUnsafeBytes { open.deleteRange(from: from, to: $0) }
            }
        }
    }

    /// A bucket without pieces is cleared as well, before it is looked at.
    func clearUnloaded(
        _ bucket: BucketID, _ known: RestoreRecord, _ completion: @escaping ShardRestores.Completion
    ) {
        guard known.piece == 0 else { return settle(completion) }
        _ = nextTimestamp()
        clear(bucket)
        write(known, at: bucket, completion)
    }

    /// What was loaded has been compared: the counters of its keys, and the word that it is complete.
    func completeRestore(
        of bucket: BucketID, _ known: RestoreRecord, counts: [UInt8: Int64], _ completion: @escaping RestoreCompletion
    ) {
        guard isEvaluating, restores.record(of: bucket) == known else { return completion(.failure(Self.notLed)) }
        _ = nextTimestamp()
        for (database, count) in counts.sorted(by: { $0.key < $1.key }) {
            var key = ByteBuffer(capacity: 16), value = ByteBuffer(capacity: 16)
            NativeKeyLayout.appendCounter(bucket, database: database, into: &key)
            value.append(littleEndian: count)
            open.put(key: key.readable, value: value.readable)
        }
        var next = known
        next.state = .complete
        write(next, at: bucket) { [self] error in completion(answer(bucket, error)) }
    }

    private func finish(
        at bucket: BucketID, _ known: RestoreRecord, _ completion: @escaping RestoreCompletion
    ) throws(DatabaseError) {
        switch known.state {
        case .done: return completion(.success(known.answer))
        case .none, .loading: throw DatabaseError(.invalidArgument, "bucket \(bucket) is not complete")
        case .complete: break
        }
        try checkRoom()
        _ = nextTimestamp()
        var next = known
        next.state = .done
        // Served only when the word is durable: until then it is held.
        restores.hold(bucket, true)
        write(next, at: bucket) { [self] error in
            restores.hold(bucket, false)
            if error == nil, !restores.isActive { rebuild() }
            locksChanged()
            completion(answer(bucket, error))
        }
    }

    private func cancel(
        at bucket: BucketID, _ known: RestoreRecord, _ completion: @escaping RestoreCompletion
    ) throws(DatabaseError) {
        guard known.state == .loading, known.piece == 0 else {
            throw DatabaseError(.invalidArgument, "bucket \(bucket) has been loaded into already")
        }
        try checkRoom()
        _ = nextTimestamp()
        RestoreRecord.key(bucket).withUnsafeBytes { open.delete(key: $0) }
        restores.hold(bucket, true)
        restores.set(nil, of: bucket)
        whenApplied(openIndex) { [self] error in
            restores.hold(bucket, false)
            locksChanged()
            completion(answer(bucket, error))
        }
    }

    private func write(
        _ record: RestoreRecord, at bucket: BucketID, _ completion: @escaping ShardRestores.Completion
    ) {
        RestoreRecord.key(bucket).withUnsafeBytes { key in
            record.encode().withUnsafeBytes { open.put(key: key, value: $0) }
        }
        restores.set(record, of: bucket)
        locksChanged()
        whenApplied(openIndex, completion)
    }

    private func whenApplied(_ index: LogIndex, _ completion: @escaping ShardRestores.Completion) {
        restores.wait(for: index, completion)
        effectsAdded()
    }
}
