import Base
import DataModel
import Net
import Peers
import Raft
import Replication
import ServiceKit
import Storage

/// The node's half of snapshots: makes those that peers need, stages those that peers send, and puts them in the place
/// of a shard's records. The files are `Storage`'s, the way between nodes is that of `SnapshotLinks`. Loop-confined;
/// the disk's work runs on workers in small steps.
///
/// A snapshot is made of what the store holds, without a flush before: the log reaches back to that index, because it
/// is cut no further than the store has flushed.
final class ShardSnapshots: SnapshotStaging, SnapshotSink {
    /// A shard of this node: its records and their keys.
    struct Shard {
        var store: ShardStore
        var ranges: [KeyRange]
    }

    struct Limits {
        /// Bytes read from the store in a second, over all exports: clients read from the same disk.
        var exportRate: UInt64 = 64 << 20
        /// Bytes in one step of a worker: a flush or a password check waits for no more.
        var step = 1 << 20
        var fileBytes = 16 << 20
    }

    private struct Incoming: Sendable {
        var directory: SnapshotDirectory
        var manifest: SnapshotManifest
    }

    private let loop: EventLoop
    private let area: SnapshotArea
    private let limits: Limits
    private let logger: Logger
    private let shards: (ShardID) -> Shard?
    /// Told when a shard's staged files are of no use any more, to `SnapshotLinks.consumed`.
    var onConsumed: (ShardID) -> Void = { _ in }
    private let outgoing: WorkQueue
    private let received: WorkQueue
    private var bucket: TokenBucket
    private var made: [UInt64: SnapshotDirectory] = [:]
    private var lastNumber: UInt64 = 0
    private var incoming: [ShardID: Incoming] = [:]
    private var isClosed = false

    init(
        loop: EventLoop, workers: WorkerPool, area: SnapshotArea, limits: Limits = Limits(), logger: Logger,
        shards: @escaping (ShardID) -> Shard?
    ) {
        (self.loop, self.area, self.limits, self.logger, self.shards) = (loop, area, limits, logger, shards)
        outgoing = WorkQueue(loop: loop, workers: workers)
        received = WorkQueue(loop: loop, workers: workers)
        bucket = TokenBucket(rate: limits.exportRate, burst: UInt64(limits.step), now: loop.now)
    }

    /// The keys of a shard's records: those of its buckets, and the bound of its clock.
    static func ranges(of shard: ShardID, buckets: [Range<Int>]) -> [KeyRange] {
        func edge(_ bucket: Int) -> Bytes {
            [UInt8(truncatingIfNeeded: bucket >> 8), UInt8(truncatingIfNeeded: bucket)]
        }
        let bound = ClockBoundRecord.key(shard)
        return buckets.map { KeyRange(from: edge($0.lowerBound), to: edge($0.upperBound)) }
            + [KeyRange(from: bound, to: bound + [0])]
    }

    /// Before the store closes: what is under way ends without success at its next step.
    func close() { isClosed = true }

    private static let closed = StoreError(.misuse, "the node is shutting down")

    // MARK: Making

    func make(
        _ shard: ShardID, message: @escaping (LogIndex) -> Message?, completion: @escaping (MadeSnapshot?) -> Void
    ) {
        do throws(StoreError) {
            guard let known = shards(shard) else { return loop.runLater { completion(nil) } }
            let view = try known.store.openView()
            guard let message = message(view.index), case .snapshot(let metadata) = message.body else {
                return loop.runLater { completion(nil) }
            }
            lastNumber += 1
            let number = lastNumber
            let directory = area.outgoing(shard, view.index, number: number)
            let export = try SnapshotExport(
                view, term: metadata.last.term, membership: metadata.membership.encoded(), ranges: known.ranges,
                into: directory, area: area, fileTarget: limits.fileBytes)
            advance(export) { [self] result in
                switch result {
                case .success(let manifest):
                    made[number] = directory
                    completion(
                        MadeSnapshot(
                            shard: shard, leaderTerm: message.term, metadata: metadata, manifest: manifest.encode(),
                            sizes: manifest.files.map(\.size), number: number))
                case .failure(let error):
                    fail(shard, "a snapshot could not be made", error)
                    completion(nil)
                }
            }
        } catch {
            fail(shard, "a snapshot could not be made", error)
            loop.runLater { completion(nil) }
        }
    }

    /// Steps as the rate allows.
    private func advance(
        _ export: SnapshotExport, then completion: @escaping (Result<SnapshotManifest, StoreError>) -> Void
    ) {
        guard !isClosed else { return loop.runLater { completion(.failure(Self.closed)) } }
        let cost = UInt64(limits.step)
        guard bucket.take(cost, now: loop.now) else {
            let wait = (bucket.ready(cost, now: loop.now) &- loop.now) / 1_000_000 &+ 1
            loop.schedule(afterMilliseconds: Int(clamping: wait)) { [self] in advance(export, then: completion) }
            return
        }
        let limit = limits.step
        outgoing.submit {
            Self.outcome { () throws(StoreError) in
                _ = try export.step(limit: limit)
                return export.manifest
            }
        } then: { [self] result in
            switch result {
            case .success(nil): advance(export, then: completion)
            case .success(.some(let manifest)): completion(.success(manifest))
            case .failure(let error): completion(.failure(error))
            }
        }
    }

    func read(_ snapshot: MadeSnapshot, from: SnapshotPosition, count: Int, completion: @escaping (Bytes?) -> Void) {
        guard let directory = made[snapshot.number] else { return loop.runLater { completion(nil) } }
        outgoing.submit {
            Self.outcome { () throws(StoreError) in
                try directory.read(file: from.file, offset: Int(clamping: from.offset), count: count)
            }
        } then: { [self] result in
            if case .failure(let error) = result { fail(snapshot.shard, "a snapshot cannot be read", error) }
            completion(try? result.get())
        }
    }

    func release(_ snapshot: MadeSnapshot) {
        guard let directory = made.removeValue(forKey: snapshot.number) else { return }
        remove(directory, of: snapshot.shard, on: outgoing)
    }

    // MARK: Receiving

    func open(_ offer: SnapshotOffer, completion: @escaping (Result<Int, SnapshotFailure>) -> Void) {
        incoming[offer.shard] = nil
        guard let known = shards(offer.shard) else {
            return loop.runLater { completion(.failure(SnapshotFailure(.busy, "no replica of the shard is here yet"))) }
        }
        guard offer.metadata.last.index > known.store.appliedIndex else {
            return loop.runLater { completion(.failure(SnapshotFailure(.stale, "everything in it is applied here"))) }
        }
        let (area, directory, ranges) = (area, area.incoming(offer.shard), known.ranges)
        received.submit {
            Self.outcome { () throws(StoreError) in try Self.open(offer, directory, ranges, area) }
        } then: { [self] result in
            switch result {
            case .success(let (manifest, held)):
                incoming[offer.shard] = Incoming(directory: directory, manifest: manifest)
                completion(.success(held))
            case .failure(let error):
                completion(.failure(Self.failure(error, damaged: .malformed)))
            }
        }
    }

    private static func open(
        _ offer: SnapshotOffer, _ directory: SnapshotDirectory, _ ranges: [KeyRange], _ area: SnapshotArea
    ) throws(StoreError) -> (SnapshotManifest, held: Int) {
        let manifest = try offer.manifest.withView { view throws(StoreError) in try SnapshotManifest(decoding: view) }
        let (last, membership) = (offer.metadata.last, offer.metadata.membership.encoded())
        guard manifest.shard == offer.shard, manifest.index == last.index, manifest.term == last.term,
            manifest.membership == membership, manifest.files.map(\.size) == offer.sizes, manifest.ranges == ranges
        else { throw StoreError(.corruption, "the manifest is of another snapshot, or of other keys") }
        var before: SnapshotManifest?
        // One that is damaged is as good as none.
        do throws(StoreError) { before = try directory.manifest() } catch  where error.kind == .corruption {}
        if before == manifest {
            let held = try directory.verifiedFiles(manifest)
            try area.admit(manifest.sizeToCome(behind: held))
            return (manifest, held)
        }
        try directory.remove()
        try area.admit(manifest.sizeToCome(behind: 0))
        try directory.create()
        try directory.write(manifest)
        return (manifest, 0)
    }

    func write(
        _ shard: ShardID, at: SnapshotPosition, _ bytes: Bytes,
        completion: @escaping (Result<Void, SnapshotFailure>) -> Void
    ) {
        guard let directory = incoming[shard]?.directory else {
            return loop.runLater { completion(Self.nothingOpen()) }
        }
        received.submit {
            Self.outcome { () throws(StoreError) in
                try bytes.withView { view throws(StoreError) in
                    try directory.write(file: at.file, offset: Int(clamping: at.offset), view)
                }
            }
        } then: {
            completion($0.mapError { Self.failure($0, damaged: .failed) })
        }
    }

    func check(_ shard: ShardID, file: Int, completion: @escaping (Result<Bool, SnapshotFailure>) -> Void) {
        guard let incoming = incoming[shard], file >= 0, file < incoming.manifest.files.count else {
            return loop.runLater { completion(Self.nothingOpen()) }
        }
        received.submit {
            Self.outcome { () throws(StoreError) in
                try incoming.directory.verify(file: file, incoming.manifest.files[file])
            }
        } then: {
            completion($0.mapError { Self.failure($0, damaged: .failed) })
        }
    }

    func discard(_ shard: ShardID) {
        incoming[shard] = nil
        remove(area.incoming(shard), of: shard, on: received)
    }

    private static func nothingOpen<Value>() -> Result<Value, SnapshotFailure> {
        .failure(SnapshotFailure(.failed, "no snapshot is open"))
    }

    // MARK: Installing

    func installSnapshot(_ metadata: SnapshotMetadata, of shard: ShardID, completion: @escaping (Bool) -> Void) {
        guard let staged = incoming[shard], let known = shards(shard), staged.manifest.index == metadata.last.index,
            staged.manifest.term == metadata.last.term
        else { return loop.runLater { completion(false) } }
        guard !known.store.isFlushing else {
            // A flush of this shard and an install must not meet; flushes end soon.
            loop.schedule(afterMilliseconds: 5) { [self] in installSnapshot(metadata, of: shard, completion: completion)
            }
            return
        }
        do throws(StoreError) {
            let install = try known.store.beginInstall(staged.manifest, from: staged.directory, ranges: known.ranges)
            advance(install, known.store) { [self] isDone in
                completion(isDone)
                onConsumed(shard)
            }
        } catch {
            fail(shard, "a snapshot was not installed", error)
            loop.runLater { [self] in
                completion(false)
                onConsumed(shard)
            }
        }
    }

    private func advance(_ install: SnapshotInstall, _ store: ShardStore, then completion: @escaping (Bool) -> Void) {
        let (limit, isClosed) = (limits.step, isClosed)
        received.submit {
            Self.outcome { () throws(StoreError) in
                guard !isClosed else { throw Self.closed }
                _ = try install.step(limit: limit)
                return install.isComplete
            }
        } then: { [self] result in
            switch result {
            case .success(false): advance(install, store, then: completion)
            case .success(true):
                store.finishInstall(install)
                completion(true)
            case .failure(let error):
                fail(store.shard, "a snapshot was not installed", error)
                completion(abandon(install, store))
            }
        }
    }

    private func abandon(_ install: SnapshotInstall, _ store: ShardStore) -> Bool {
        do throws(StoreError) { return try store.abandonInstall(install) } catch {
            fail(store.shard, "the store cannot say whether a snapshot was installed", error)
            return false
        }
    }

    // MARK: Errors

    private func remove(_ directory: SnapshotDirectory, of shard: ShardID, on queue: WorkQueue) {
        queue.submit {
            Self.outcome { () throws(StoreError) in try directory.remove() }
        } then: { [self] result in
            // The next start sweeps it.
            if case .failure(let error) = result { fail(shard, "a snapshot's files were not removed", error) }
        }
    }

    private func fail(_ shard: ShardID, _ what: String, _ error: StoreError) {
        logger.warning(what, ["shard": .count(shard.rawValue), "reason": .text(error.description)])
    }

    private static func outcome<Value>(_ body: () throws(StoreError) -> Value) -> Result<Value, StoreError> {
        do throws(StoreError) { return .success(try body()) } catch { return .failure(error) }
    }

    private static func failure(_ error: StoreError, damaged: SnapshotRefusal) -> SnapshotFailure {
        switch error.kind {
        case .corruption: SnapshotFailure(damaged, error.message)
        case .full: SnapshotFailure(.full, error.message)
        case .inputOutput, .misuse, .tooOld: SnapshotFailure(.failed, error.message)
        }
    }
}

extension SnapshotManifest {
    /// What a receiver still needs of its disk: the files behind the first `held`, and all of it again as the store's
    /// own files while it is installed.
    func sizeToCome(behind held: Int) -> UInt64 {
        var needed = size
        for file in files.dropFirst(held) {
            let (sum, overflow) = needed.addingReportingOverflow(file.size)
            if overflow { return .max }
            needed = sum
        }
        return needed
    }
}
