import Backup
import Base
import Contracts
import DataModel
import Net
import Placement
import Storage

/// `orbit.v1.BackupService`: what `orbit backup` and `orbit restore` ask of a node (docs/backup.md).
///
/// Buckets are read on the loop, because overlays are confined to it, in small steps at a bounded rate: clients use the
/// same loop and the same disk.
final class BackupService {
    /// Bytes of one step, and of a second over all scans of the node.
    static let stepBytes = 256 << 10
    static let bytesPerSecond: UInt64 = 192 << 20

    let node: Node
    private var rate: TokenBucket
    /// What backups hold, and until when, by their numbers.
    var holds: [UInt64: BackupHold] = [:]
    var ends: [UInt64: UInt64] = [:]

    init(_ node: Node) {
        self.node = node
        rate = TokenBucket(rate: Self.bytesPerSecond, burst: 4 << 20, now: node.loop.now)
    }

    /// Offers the methods on `server`.
    func register(on server: GRPCServer) {
        server.registerUnary(path: BackupPath.begin) { [self] request, call in
            answer(call) { () throws(DatabaseError) in
                call.reply(try begin(BackupBegin(decoding: request)).encode())
            }
        }
        server.registerUnary(path: BackupPath.end) { [self] request, call in
            answer(call) { () throws(DatabaseError) in
                end(try BackupEnd(decoding: request))
                call.reply([])
            }
        }
        server.register(path: BackupPath.read) { [self] stream in BackupReading(self, stream) }
        server.registerUnary(path: BackupPath.restore) { [self] request, call in
            answer(call) { () throws(DatabaseError) in
                try restore(RestoreStep(decoding: request)) { result in
                    switch result {
                    case .success(let answer): call.reply(answer.encode())
                    case .failure(let error): call.fail(GRPCStatus(error))
                    }
                }
            }
        }
    }

    private func answer(_ call: GRPCUnaryCall, _ body: () throws(DatabaseError) -> Void) {
        do throws(DatabaseError) { try body() } catch { call.fail(GRPCStatus(error)) }
    }

    func map() throws(DatabaseError) -> ShardMap {
        guard let map = node.adopted?.map else { throw DatabaseError(.unavailable, "This node has no shard map yet") }
        return map
    }

    /// Who serves a bucket here.
    func executor(of bucket: UInt32) throws(DatabaseError) -> ShardExecutor {
        let map = try map()
        guard bucket < UInt32(map.bucketCount) else {
            throw DatabaseError(.invalidArgument, "There is no bucket \(bucket): the cluster has \(map.bucketCount)")
        }
        let executor = node.executors.first { executor in
            executor.isServing && executor.buckets.contains { $0.contains(Int(bucket)) }
        }
        guard let executor else {
            throw DatabaseError(.notLeader, "This node does not lead the shard of bucket \(bucket)")
        }
        return executor
    }

    // MARK: Scans

    /// Runs a scan to its end, as long as `goesOn` says so; `completion` hears whether it got there.
    func run(
        _ scan: BucketScan, while goesOn: @escaping () -> Bool,
        _ completion: @escaping (Result<Bool, DatabaseError>) -> Void
    ) {
        guard goesOn() else { return completion(.success(false)) }
        let now = node.loop.now, cost = UInt64(Self.stepBytes)
        guard rate.take(cost, now: now) else {
            let wait = (rate.ready(cost, now: now) &- now) / 1_000_000 &+ 1
            node.loop.schedule(afterMilliseconds: Int(clamping: wait)) { [self] in
                run(scan, while: goesOn, completion)
            }
            return
        }
        do throws(StoreError) {
            guard try scan.step(limit: Self.stepBytes) != nil else { return completion(.success(true)) }
        } catch {
            return completion(.failure(error.databaseError))
        }
        node.loop.runLater { [self] in run(scan, while: goesOn, completion) }
    }

    // MARK: Restore

    private func restore(
        _ step: RestoreStep, _ completion: @escaping ShardExecutor.RestoreCompletion
    ) throws(DatabaseError) {
        let executor = try executor(of: step.bucket)
        if step.kind == .begin {
            let count = try map().bucketCount
            guard step.buckets == UInt32(count) else {
                throw DatabaseError(
                    .invalidArgument,
                    "the backup is of a cluster with \(step.buckets) buckets, and this one has \(count)")
            }
        }
        let bucket = BucketID(rawValue: UInt16(truncatingIfNeeded: step.bucket))
        guard step.kind == .complete else { return executor.restore(step, at: bucket, completion) }
        try complete(step, bucket, executor, completion)
    }

    /// Compares what a bucket holds with what it should.
    private func complete(
        _ step: RestoreStep, _ bucket: BucketID, _ executor: ShardExecutor,
        _ completion: @escaping ShardExecutor.RestoreCompletion
    ) throws(DatabaseError) {
        let record = try ShardExecutor.mine(executor.restores.record(of: bucket), step)
        guard record.state == .loading, record.piece == UInt64(step.pieces.count) else {
            return completion(.success(record.answer))
        }
        let comparison = RestoreComparison(count: step.pieces.count)
        let known = step.pieces.map { KnownPiece(from: $0.from, size: $0.size, digest: $0.digest) }
        let scan = BucketScan(bucket, known: known) { [executor] (from, to, body) throws(StoreError) in
            try executor.store.scan(from: from, to: to, body)
        } found: {
            comparison.take($0)
        }
        guard let scan else { throw DatabaseError(.invalidArgument, "not the pieces of bucket \(bucket)") }
        scan.onKey = { comparison.count($0) }
        executor.clearUnloaded(bucket, record) { [self] error in
            if let error { return completion(.failure(error)) }
            run(scan, while: { executor.isEvaluating && executor.restores.record(of: bucket) == record }) { result in
                switch result {
                case .failure(let error): completion(.failure(error))
                case .success(false):
                    completion(.failure(DatabaseError(.unavailable, "The shard's leader has changed; ask again")))
                case .success(true):
                    guard comparison.isSame else {
                        return completion(
                            .failure(
                                DatabaseError(
                                    .corruption, "what bucket \(bucket) holds now is not what its backup holds")))
                    }
                    executor.completeRestore(of: bucket, record, counts: comparison.counts, completion)
                }
            }
        }
    }
}

/// What a restored bucket has, held against what it should have.
private final class RestoreComparison {
    private let expected: Int
    private var next = 0
    private var hasChanged = false
    /// Keys by their database.
    private(set) var counts: [UInt8: Int64] = [:]

    init(count: Int) { expected = count }

    var isSame: Bool { !hasChanged && next == expected }

    func take(_ found: PieceFinding) {
        switch found {
        case .same(let place) where place == next: next += 1
        case .same, .changed: hasChanged = true
        }
    }

    func count(_ key: ByteView) {
        if case .record(_, let database, _, _) = NativeKey(parsing: key) { counts[database, default: 0] += 1 }
    }
}
