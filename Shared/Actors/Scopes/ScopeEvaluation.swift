import Base
import Contracts
import DataModel

/// The calls of one open transaction at a shard: evaluated by actors of its own, seen by nobody else, and forgotten
/// unless they are committed.
///
/// The node lets a *statement* happen between `begin` and `end`: some calls, which are done all or not at all. Its
/// effects are then in front of what the next one reads. `rollBack` takes back whole statements, `write` makes one
/// list of effects of them all. Nothing here locks: what the calls write must be locked before `begin`, and must not
/// have pending changes by others (`ActorRuntime.pendingIndex`).
///
/// What lies behind is the store, either as of one time, which stays the same for all statements, or as it is, newly
/// read for each (`isRepeatable`). Actors, tables and buffers are kept for the next transaction (`open` again).
package final class ScopeEvaluation {
    /// What one transaction may keep at a shard.
    package struct Limits: Sendable {
        /// Memory of effects that are not committed, with what later statements have overwritten.
        package var effectBytes = 1 << 30
        /// Memory for activations.
        package var memoryBytes = 256 << 10

        package init() {}
    }

    private let limits: Limits
    private let records: ProvisionalRecords
    private let runtime: ActorRuntime
    private var isRepeatable = false
    /// Counts the statements, as entries: what one has changed is before the next as if it were committed.
    private var entry = LogIndex.zero
    private var statement: UInt32 = 0
    /// How far its pieces are written.
    private var progress = ProvisionalRecords.Progress()

    /// Evaluates for the shard that owns `buckets`; `open` must follow.
    package init(
        reader: any RecordReader, buckets: Range<Int>, bucketCount: Int, actorLimits: ActorLimits = .init(),
        limits: Limits = .init(), seed: UInt64
    ) {
        self.limits = limits
        records = ProvisionalRecords(reader)
        var actorLimits = actorLimits
        actorLimits.memoryBytes = limits.memoryBytes
        actorLimits.callBytes = min(actorLimits.callBytes, limits.effectBytes)
        runtime = ActorRuntime(
            reader: records, buckets: buckets, bucketCount: bucketCount, limits: actorLimits, seed: seed)
        runtime.becomeScope()
    }

    // MARK: A transaction

    /// Begins anew, with another transaction.
    package func open(reader: any RecordReader, isRepeatable: Bool) {
        records.removeAll()
        progress = ProvisionalRecords.Progress()
        records.base = reader
        self.isRepeatable = isRepeatable
        // Counters of a time would not tell of what was committed at it and applied later.
        runtime.hasExactCounters = !isRepeatable
        runtime.restartSchema()
        startOver()
    }

    /// Something was changed that is not taken back.
    package var hasEffects: Bool { !records.isEmpty }

    /// Bytes of effects that are kept.
    package var effectBytes: Int { records.bytes }

    /// Bytes in memory, about.
    package var memoryUsed: Int { records.bytes + runtime.memoryUsed }

    /// Takes back all statements above `number`.
    package func rollBack(to number: UInt32) {
        runtime.rollBackSchema(to: number)
        if records.rollBack(to: number) { startOver() }
    }

    /// What all statements have written, as it lies in the log, at most.
    package var writtenBytes: Int { records.writtenBytes }

    /// Writes what all statements come to, as effects that are applied at once, and returns how they change counters.
    package func write(_ sink: some EffectSink) -> [KeyCountChange] {
        records.write(sink)
        return records.counterChanges
    }

    /// Writes the next effects of it, as long as there is room for one more, of so many bytes; with the last ones it
    /// returns how all of them change counters. After the first time there are no more statements.
    package func writePiece(_ sink: some EffectSink, hasRoom: (Int) -> Bool) -> [KeyCountChange]? {
        records.write(sink, &progress, hasRoom: hasRoom) ? records.counterChanges : nil
    }

    // MARK: A statement

    /// Before the first call of the statement `number`. `floor` is above the time of every change up to now; `time` is
    /// when the transaction began, in microseconds since 1970.
    package func begin(_ number: UInt32, floor: Timestamp, time: Int64 = 0) {
        statement = number
        runtime.transactionTime = time
        entry = LogIndex(rawValue: entry.rawValue &+ 1)
        if !isRepeatable {
            runtime.forgetAll()
            if !runtime.countsDifferences { startOver() }
        }
        runtime.beginStatement(floor: floor)
        runtime.beginSchema(number)
    }

    /// Evaluates a call at wall time `now`, and appends its reply.
    package func evaluate(
        _ call: ActorCallView, id: UInt64, now: UInt64, writeTimestamp: Timestamp, replies: ReplyBatchEncoder
    ) {
        _ = runtime.evaluate(
            call, id: id, now: now, writeTimestamp: writeTimestamp, entryIndex: entry, replies: replies)
    }

    /// Whether the condition on a key holds at wall time `now`.
    package func holds(_ watch: WatchView, now: UInt64) throws(DatabaseError) -> Bool {
        try runtime.holds(watch, now: now).0
    }

    /// Why a value from another shard could not be put in place, once: then `undo`.
    package func takeBrokenTransfer() -> DatabaseError? { runtime.takeBrokenTransfer() }

    /// Whether the calls so far change more than can be kept: then `undo`.
    package var isTooLarge: Bool { records.bytes &+ runtime.entryBytes > limits.effectBytes }

    /// After the last call.
    package func end() {
        records.begin(statement)
        records.end(runtime.finishStatement(records))
        runtime.didCommit(entry)
        runtime.evict(steps: 64)
    }

    /// Whether what statements do to keys is recorded, for who listens to it.
    package func recordEvents(_ isWanted: Bool) { runtime.recordsEvents = isWanted }

    /// Instead of `end`: nothing of the statement has happened.
    package func undo() {
        if statement > 0 { runtime.rollBackSchema(to: statement - 1) }
        startOver()
    }

    /// The shard's catalog, with what the transaction has changed of it.
    package func catalog() throws(DatabaseError) -> Catalog { try runtime.catalog() }

    /// Calls are made by the catalog of the shard, and by what the transaction makes of it.
    package func shareCatalog(_ source: @escaping () throws(DatabaseError) -> Catalog) {
        runtime.shareCatalog(isChecked: true, source)
    }

    /// Gives it the statements on single records that the node knows.
    package func sharePrograms(_ programs: (any RowPrograms)?) { runtime.programs = programs }

    /// Gives it what statements do with many rows.
    package func shareFragments(_ fragments: (any RowFragments)?) { runtime.fragments = fragments }

    /// Reads everything again that is not in `records`.
    private func startOver() { runtime.restartScope(committed: entry, counters: records.counterChanges) }
}
