import Actors
import Base
import DataModel
import Storage

// What a storage node remembers of calls with tokens is the product's own code: here is what it stands on.

/// A simulated shard's records, as the memory of outcomes reads them.
final class SimulatedRecords: RecordReader {
    private let store: ShardStore

    init(_ store: ShardStore) { self.store = store }

    func get(_ key: ByteView) throws(DatabaseError) -> Bytes? {
        do { return try store.get(key) } catch { throw error.databaseError }
    }

    func scan(from: ByteView, to: ByteView, _ body: (ByteView, ByteView) -> Bool) throws(DatabaseError) {
        do { try store.scan(from: from, to: to, body) } catch { throw error.databaseError }
    }
}

/// The effects of one entry.
final class SimulatedEffects: EffectSink {
    private var batch = WriteBatch(capacity: 128)

    var bytes: Bytes { batch.effects.bytes }

    func put(key: ByteView, value: ByteView) { batch.put(key, value) }
    func delete(key: ByteView) { batch.delete(key) }
    func deleteRange(from: ByteView, to: ByteView) { batch.deleteRange(from: from, to: to) }
}

/// A shard's memory of outcomes, asked in the terms of the simulation.
struct SimulatedOutcomes {
    private let memory: OutcomeMemory
    private let bucket: BucketID

    /// The window is narrow, so that late repetitions fall out of it.
    init(_ shard: Int, _ store: ShardStore) {
        bucket = SimulatedKey.outcomes(shard)
        let number = Int(bucket.rawValue)
        var limits = OutcomeLimits()
        limits.window = 2
        memory = OutcomeMemory(reader: SimulatedRecords(store), buckets: number..<number + 1, limits: limits)
    }

    enum Answer {
        /// It may be executed.
        case new
        /// It was executed: known once the entry is committed.
        case executed(LogIndex)
        /// Too old to tell.
        case forgotten
        /// The memory is wrong.
        case violation(String)
    }

    func recall(_ request: ClientRequest) -> Answer {
        do throws(DatabaseError) {
            guard let known = try memory.recall(token(request), digest: request.operation) else { return .new }
            guard known.reply == reply(request) else { return .violation("\(request) has another reply") }
            return .executed(known.index)
        } catch {
            return error.code == .outcomeUnknown ? .forgotten : .violation("\(request): \(error)")
        }
    }

    func remember(_ request: ClientRequest, at index: LogIndex, milliseconds: UInt64, into effects: SimulatedEffects) {
        reply(request).withUnsafeBytes { reply in
            memory.remember(
                token(request), digest: request.operation, reply: reply, at: Timestamp(milliseconds: milliseconds),
                entryIndex: index, into: effects)
        }
    }

    func committed(through index: LogIndex) { memory.committed(upTo: index) }

    func reset() { memory.reset() }

    private func token(_ request: ClientRequest) -> OutcomeToken {
        OutcomeToken(bucket: bucket, session: UInt64(request.client) + 1, sequence: UInt64(request.sequence))
    }

    private func reply(_ request: ClientRequest) -> Bytes { Bytes("\(request.operation)".utf8) }
}
