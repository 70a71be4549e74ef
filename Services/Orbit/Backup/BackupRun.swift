import Backup
import Base
import Contracts
import Net
import ServiceKit

/// One run of `orbit backup DIR`: asks all nodes for the present, keeps it, reads bucket after bucket as of the latest
/// of their answers, and writes what is new.
final class BackupRun {
    /// Buckets that are read at once.
    private static let parallel = 4
    private static let holdMilliseconds: UInt32 = 60_000
    private static let renewMilliseconds = 10_000
    private static let pauseMilliseconds = 100
    /// Times that a bucket is begun: more than once where its leader changes meanwhile.
    private static let attempts = 600

    private let calls: NodeCalls
    private let directory: BackupDirectory
    private let isFull: Bool
    private let console: Console
    private let clock = SystemClock()
    private let backup: UInt64
    private var meter: ProgressMeter
    private var draft: BackupDraft?
    private var timestamp = Timestamp.zero
    private var buckets: UInt32 = 0
    private var shards: UInt32 = 0
    private var next: UInt32 = 0
    private var running = 0
    private var done: UInt32 = 0
    private var failure: (any Error)?
    private var began: UInt64 = 0
    /// Bytes of records that came, and of those that did not need to.
    fileprivate(set) var movedBytes: UInt64 = 0
    fileprivate(set) var keptBytes: UInt64 = 0
    private(set) var id: Bytes = []

    init(_ calls: NodeCalls, _ directory: BackupDirectory, isFull: Bool, console: Console) {
        (self.calls, self.directory, self.isFull, self.console) = (calls, directory, isFull, console)
        meter = ProgressMeter(console)
        var random = SystemRandom()
        backup = random.next()
    }

    var milliseconds: UInt64 { meter.milliseconds }
    var salvagedPieces: Int { draft?.salvagedPieces ?? 0 }

    /// Makes the backup; what its manifest says.
    func run() throws -> BackupManifest {
        began = clock.wallMilliseconds()
        calls.run { [self] in begin() }
        if let failure { throw failure }
        guard let draft else { throw DatabaseError(.internalFailure, "no backup was made") }
        id = try draft.finish(shards: shards, began: began, ended: clock.wallMilliseconds())
        return draft.manifest
    }

    private func fail(_ error: any Error) {
        if failure == nil { failure = error }
        end()
    }

    // MARK: The moment

    /// All nodes are asked; one that is down leads nothing, or nothing that it could acknowledge for long.
    private func begin() {
        var answers: [BackupBegan] = [], left = calls.count, why = ""
        for node in 0..<calls.count {
            hold(node) { [self] result in
                switch result {
                case .success(let answer): answers.append(answer)
                case .failure(let error): why = "\(calls.names[node]): \(error.message)"
                }
                left -= 1
                guard left == 0 else { return }
                guard let first = answers.first else {
                    return fail(DatabaseError(.unavailable, "no storage node answers (\(why))"))
                }
                start(first, answers.map(\.timestamp).max() ?? first.timestamp)
            }
        }
        renewLater()
    }

    private func hold(_ node: Int, _ completion: @escaping (Result<BackupBegan, DatabaseError>) -> Void) {
        let request = BackupBegin(backup: backup, holdMilliseconds: Self.holdMilliseconds).encode()
        calls.ask(node, BackupPath.begin, request) { result in
            switch result {
            case .failure(let status): completion(.failure(DatabaseError(.unavailable, status.message)))
            case .success(let bytes):
                do throws(DatabaseError) {
                    completion(
                        .success(
                            try bytes.withView { (view: ByteView) throws(DatabaseError) in
                                try BackupBegan(decoding: view)
                            }))
                } catch {
                    completion(.failure(error))
                }
            }
        }
    }

    /// What is held is held for a minute, unless it is asked for again.
    private func renewLater() {
        calls.loop.schedule(afterMilliseconds: Self.renewMilliseconds) { [self] in
            guard failure == nil, buckets == 0 || done < buckets else { return }
            for node in 0..<calls.count { hold(node) { _ in } }
            renewLater()
        }
    }

    private func start(_ cluster: BackupBegan, _ timestamp: Timestamp) {
        do {
            let newest = try directory.newest()
            let base = try newest.map { try directory.manifest(of: $0) }
            if isFull, let base, base.manifest.cluster != cluster.cluster {
                throw UsageError("\(directory.path) holds backups of another cluster; take another directory")
            }
            let number = try directory.interrupted() ?? (newest ?? 0) + 1
            draft = try BackupDraft(
                directory, number: number, base: isFull ? nil : base.map { ($0.manifest, $0.id) },
                cluster: cluster.cluster, timestamp: timestamp, bucketCount: Int(cluster.buckets))
        } catch {
            return fail(error)
        }
        (self.timestamp, buckets, shards) = (timestamp, cluster.buckets, cluster.shards)
        for _ in 0..<Self.parallel { advance() }
    }

    // MARK: Buckets

    private func advance() {
        guard failure == nil else { return }
        guard next < buckets else {
            if running == 0 { end() }
            return
        }
        running += 1
        read(next, attempt: 1)
        next += 1
    }

    private func read(_ bucket: UInt32, attempt: Int) {
        guard failure == nil, let draft else { return }
        let known = draft.begin(bucket: Int(bucket))
        let request = BackupRead(
            backup: backup, timestamp: timestamp, bucket: bucket,
            known: known.map { BackupPiece(from: $0.from, size: $0.size, digest: $0.digest) })
        let receiver = BucketReceiver(self, draft, bucket, known) { [self] status, error in
            if let error { return fail(error) }
            guard let status else {
                (running, done) = (running - 1, done + 1)
                return advance()
            }
            guard calls.mayRetry(status, bucket), attempt < Self.attempts else {
                return fail(calls.error(status, bucket))
            }
            calls.loop.schedule(afterMilliseconds: Self.pauseMilliseconds) { [self] in
                read(bucket, attempt: attempt + 1)
            }
        }
        calls.open(BackupPath.read, bucket: bucket, request: request.encode(), handler: receiver)
    }

    fileprivate func progress() {
        meter.show(bytes: movedBytes + keptBytes, "bucket \(done) of \(buckets)")
    }

    // MARK: The end

    private func end() {
        var left = calls.count
        let request = BackupEnd(backup: backup).encode()
        for node in 0..<calls.count {
            calls.ask(node, BackupPath.end, request) { [self] _ in
                left -= 1
                if left == 0 { calls.stop() }
            }
        }
    }
}

/// Takes in one bucket.
private final class BucketReceiver: GRPCStreamHandler {
    private let run: BackupRun
    private let draft: BackupDraft
    private let bucket: UInt32
    private let known: [StoredPiece]
    /// How it ended: nil and nil is well.
    private let completion: (GRPCStatus?, (any Error)?) -> Void
    private var isComplete = false
    private var failure: (any Error)?

    init(
        _ run: BackupRun, _ draft: BackupDraft, _ bucket: UInt32, _ known: [StoredPiece],
        _ completion: @escaping (GRPCStatus?, (any Error)?) -> Void
    ) {
        (self.run, self.draft, self.bucket, self.known) = (run, draft, bucket, known)
        self.completion = completion
    }

    func received(_ message: ByteView) {
        guard failure == nil, !isComplete else { return }
        do {
            switch try BackupPart(decoding: message) {
            case .same(let place):
                guard Int(place) < known.count else {
                    throw DatabaseError(.protocolViolation, "a node names a piece that it was not told of")
                }
                let piece = known[Int(place)]
                try draft.keep(piece, bucket: Int(bucket))
                run.keptBytes += piece.size
            case .changed(let from, let records, let digest):
                try records.withView { (view: ByteView) throws(DatabaseError) in
                    try draft.add(from: from, records: view, digest: digest, bucket: Int(bucket))
                }
                run.movedBytes += UInt64(records.count)
            case .end(let records, let bytes):
                try draft.finish(bucket: Int(bucket), records: records, bytes: bytes)
                isComplete = true
            }
            run.progress()
        } catch {
            failure = error
        }
    }

    func closed(_ status: GRPCStatus) {
        if let failure { return completion(nil, failure) }
        if isComplete { return completion(nil, nil) }
        completion(status.isOK ? GRPCStatus(.unavailable, "the bucket is not complete") : status, nil)
    }
}
