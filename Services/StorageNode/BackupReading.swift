import Backup
import Base
import Contracts
import Net
import Storage

/// One bucket on its way into a backup: a call of `BackupService.Read`. Nothing is read while the stream holds more for
/// a slow reader than its high mark.
final class BackupReading: GRPCStreamHandler {
    /// How often transactions are looked at that are prepared and not decided.
    private static let pauseMilliseconds = 10

    private let service: BackupService
    private let stream: GRPCServerStream
    private var request: BackupRead?
    private var isOver = false
    /// Goes on when the reader has caught up.
    private var resume: (() -> Void)?

    init(_ service: BackupService, _ stream: GRPCServerStream) {
        (self.service, self.stream) = (service, stream)
    }

    func received(_ message: ByteView) {
        guard request == nil else { return fail(DatabaseError(.invalidArgument, "one message is enough")) }
        do throws(DatabaseError) { request = try BackupRead(decoding: message) } catch { fail(error) }
    }

    func receivedEnd() {
        guard let request, !isOver else { return }
        do throws(DatabaseError) { try begin(request) } catch { fail(error) }
    }

    func closed(_ status: GRPCStatus) {
        isOver = true
        resume = nil
    }

    func draining() { fail(DatabaseError(.unavailable, "The node is shutting down")) }

    func writable() {
        let next = resume
        resume = nil
        next?()
    }

    private func fail(_ error: DatabaseError) {
        guard !isOver else { return }
        isOver = true
        resume = nil
        stream.finish(GRPCStatus(error))
    }

    /// Makes the moment past for the shard, then reads.
    private func begin(_ request: BackupRead) throws(DatabaseError) {
        let executor = try service.executor(of: request.bucket)
        guard executor.isEvaluating else {
            throw DatabaseError(.notLeader, "This node does not lead the shard of bucket \(request.bucket)")
        }
        guard !executor.restores.isActive else { throw ShardExecutor.beingRestored }
        wait(executor, request, upTo: try executor.makePast(request.timestamp))
    }

    /// Everything at or below the moment must be decided and applied.
    private func wait(
        _ executor: ShardExecutor, _ request: BackupRead, upTo index: LogIndex, wasUndecided: Bool = false
    ) {
        guard !isOver else { return }
        guard executor.isEvaluating else {
            return fail(DatabaseError(.notLeader, "The leader of bucket \(request.bucket) has changed"))
        }
        let closed = executor.transactions.participant.closedMilliseconds(at: .max)
        let isDecided = closed >= request.timestamp.milliseconds
        let needed = wasUndecided ? max(index, executor.newestIndex) : index
        guard isDecided, executor.store.appliedIndex >= needed else {
            service.node.loop.schedule(afterMilliseconds: Self.pauseMilliseconds) { [self] in
                wait(executor, request, upTo: needed, wasUndecided: !isDecided)
            }
            return
        }
        read(executor, request)
    }

    private func read(_ executor: ShardExecutor, _ request: BackupRead) {
        let known = request.known.map { KnownPiece(from: $0.from, size: $0.size, digest: $0.digest) }
        let time = request.timestamp
        let scan = BucketScan(BucketID(rawValue: UInt16(truncatingIfNeeded: request.bucket)), known: known) {
            [executor] (from, to, body) throws(StoreError) in
            try executor.store.scan(from: from, to: to, asOf: time, body)
        } found: { [self] in
            send($0)
        }
        guard let scan else { return fail(DatabaseError(.invalidArgument, "these are no pieces of the bucket")) }
        go(on: scan)
    }

    private func send(_ found: PieceFinding) {
        guard !isOver else { return }
        let part: BackupPart =
            switch found {
            case .same(let place): .same(UInt32(place))
            case .changed(let from, let records, _, let digest):
                .changed(from: from, records: records.bytes, digest: digest)
            }
        part.encode().withUnsafeBytes { message in
            guard !stream.send(message) else { return }
            fail(DatabaseError(.limitExceeded, "a record is too large for a message"))
        }
    }

    private func go(on scan: BucketScan) {
        service.run(scan, while: { [self] in !isOver && stream.isWritable }) { [self] result in
            guard !isOver else { return }
            switch result {
            case .failure(let error): fail(error)
            case .success(false):
                resume = { [self] in go(on: scan) }
                if stream.isWritable { writable() }
            case .success(true):
                let end = BackupPart.end(records: scan.totalRecords, bytes: scan.totalBytes).encode()
                _ = end.withUnsafeBytes { stream.send($0) }
                isOver = true
                stream.finish(.ok)
            }
        }
    }
}

extension ShardExecutor {
    /// Makes a moment past for the shard, whoever leads it: with the entry that this answers, all effects at or below
    /// it that are decided now are applied, and the log says that later writes lie above it.
    func makePast(_ time: Timestamp) throws(DatabaseError) -> LogIndex {
        try clock.observe(time)
        guard !log.writer.isFull else { throw Self.diskFull }
        _ = nextTimestamp()
        effectsAdded()
        // The open entry too: it may have the effects of a transaction that was decided for an earlier time.
        return newestIndex
    }
}
