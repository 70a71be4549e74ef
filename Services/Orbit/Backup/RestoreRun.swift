import Backup
import Base
import Contracts
import DataModel
import Net
import ServiceKit

/// One run of `orbit restore DIR`. Every bucket of the cluster is begun before anything is loaded, and all are loaded
/// and compared before any is served; a run that was interrupted goes on where the buckets' own records say.
final class RestoreRun {
    /// Buckets that are worked on at once, each with one piece on its way.
    private static let parallel = 8

    private let calls: NodeCalls
    private let reader: BackupReader
    private var meter: ProgressMeter
    private var failure: (any Error)?
    private(set) var loadedBytes: UInt64 = 0
    /// Bytes that an earlier run had loaded.
    private(set) var foundBytes: UInt64 = 0
    private(set) var wasRestored = false

    init(_ calls: NodeCalls, _ reader: BackupReader, console: Console) {
        (self.calls, self.reader) = (calls, reader)
        meter = ProgressMeter(console, total: reader.manifest.bytes)
    }

    var milliseconds: UInt64 { meter.milliseconds }
    private var manifest: BackupManifest { reader.manifest }

    func run() throws {
        try reader.checkFiles()
        let states = try phase { [self] bucket, done in send(.status, bucket, done) }
        if states.allSatisfy({ $0.state == .done && $0.backup == reader.id }) {
            wasRestored = true
            return
        }
        try begin(states)
        let loaded = try phase { [self] bucket, done in load(bucket, done) }
        guard loaded.allSatisfy({ [.complete, .done].contains($0.state) }) else {
            throw DatabaseError(.internalFailure, "a bucket is not complete")
        }
        _ = try phase { [self] bucket, done in send(.finish, bucket, done) }
    }

    /// Marks all buckets; takes the marks away again where one cannot be.
    private func begin(_ states: [RestoreAnswer]) throws {
        do {
            _ = try phase { [self] bucket, done in
                if states[Int(bucket)].state == .done, states[Int(bucket)].backup == reader.id {
                    return done(.success(states[Int(bucket)]))
                }
                send(.begin, bucket, done)
            }
        } catch {
            let isFresh = states.allSatisfy { $0.state == .none }
            // What cannot be cancelled had been loaded by an earlier run, or was never begun.
            if isFresh {
                failure = nil
                _ = try? phase { [self] bucket, done in
                    send(.cancel, bucket) { _ in done(.success(RestoreAnswer(.none))) }
                }
            }
            throw error
        }
    }

    private typealias Done = (Result<RestoreAnswer, any Error>) -> Void

    /// Does something for all buckets, a few at a time.
    private func phase(_ body: @escaping (UInt32, @escaping Done) -> Void) throws -> [RestoreAnswer] {
        let count = UInt32(manifest.buckets.count)
        var answers = Array(repeating: RestoreAnswer(.none), count: Int(count))
        var next: UInt32 = 0, running = 0
        func advance() {
            while failure == nil, running < Self.parallel, next < count {
                let bucket = next
                (next, running) = (next + 1, running + 1)
                body(bucket) { [self] result in
                    running -= 1
                    switch result {
                    case .success(let answer): answers[Int(bucket)] = answer
                    case .failure(let error): if failure == nil { failure = error }
                    }
                    calls.loop.runLater { advance() }
                }
            }
            if running == 0, failure != nil || next == count { calls.stop() }
        }
        calls.run { advance() }
        if let failure { throw failure }
        return answers
    }

    // MARK: One bucket

    private func send(_ kind: RestoreStep.Kind, _ bucket: UInt32, _ done: @escaping Done) {
        var step = RestoreStep(kind, backup: reader.id, bucket: bucket)
        (step.timestamp, step.buckets) = (manifest.timestamp, UInt32(manifest.buckets.count))
        send(step, done)
    }

    private func send(_ step: RestoreStep, _ done: @escaping Done) {
        calls.askLeader(of: step.bucket, BackupPath.restore, step.encode()) { result in
            switch result {
            case .failure(let error): done(.failure(error))
            case .success(let bytes):
                do throws(DatabaseError) {
                    let answer = try bytes.withView { (view: ByteView) throws(DatabaseError) in
                        try RestoreAnswer(decoding: view)
                    }
                    done(.success(answer))
                } catch {
                    done(.failure(error))
                }
            }
        }
    }

    private func load(_ bucket: UInt32, _ done: @escaping Done) {
        send(.status, bucket) { [self] result in
            if case .success(let answer) = result {
                for piece in manifest.buckets[Int(bucket)].prefix(Int(clamping: answer.piece)) {
                    foundBytes += piece.size
                }
            }
            follow(bucket, result, done)
        }
    }

    /// Sends what a bucket wants next.
    private func follow(_ bucket: UInt32, _ result: Result<RestoreAnswer, any Error>, _ done: @escaping Done) {
        meter.show(bytes: loadedBytes + foundBytes)
        do {
            let answer = try result.get()
            guard answer.backup == reader.id else {
                throw DatabaseError(.internalFailure, "bucket \(bucket) is not being restored from this backup")
            }
            guard answer.state == .loading else { return done(.success(answer)) }
            let pieces = manifest.buckets[Int(bucket)]
            var step: RestoreStep
            if answer.piece < UInt64(pieces.count) {
                step = RestoreStep(.load, backup: reader.id, bucket: bucket)
                step.piece = answer.piece
                step.records = try reader.records(pieces[Int(answer.piece)])
                loadedBytes += UInt64(step.records.count)
            } else {
                step = RestoreStep(.complete, backup: reader.id, bucket: bucket)
                step.pieces = pieces.map { BackupPiece(from: $0.from, size: $0.size, digest: $0.digest) }
            }
            send(step) { [self] next in follow(bucket, next, done) }
        } catch {
            done(.failure(error))
        }
    }
}
