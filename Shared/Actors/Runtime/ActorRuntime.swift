import Base
import Contracts
import DataModel

/// The Redis types of one shard: hot values decoded in memory, evaluated against pending state, written through the
/// log.
///
/// The leader's loop calls `evaluate` for each call of a tick, `finishEntry` to get the effects of the log entry that
/// they make, and `didCommit` when entries are committed and applied to the store behind the `RecordReader`.
///
/// Invariants:
/// - The value of a key is that of its activation, or, if it has none, that of the store. So an activation stays
///   while its last change is not committed; after a flush of a database that is not committed the store counts as
///   empty.
/// - An entry's effects are the difference between activations and what earlier entries made of the store. They are
///   complete: applied in order to the same store they give the same state on every replica.
/// - A reply depends on the newest pending index that `evaluate` returns: it must wait until that is committed.
/// - A generation is given to one value of one key only; sub-records filed under it are written and removed with it.
/// - A key whose time has come is absent for everybody at once; its records go with `expireDue` or with the next
///   write.
///
/// One runtime belongs to one loop; nothing here waits, and nothing is done by the clock unless the caller says its
/// time.
package final class ActorRuntime {
    // What the shard is.

    let reader: any RecordReader
    var limits: ActorLimits
    /// Buckets of the cluster, and which of them are the shard's.
    let bucketCount: Int
    let buckets: Range<Int>
    var random: SplitMix64

    // What is in memory.

    var hand = 0

    // What is pending.

    /// Everything up to this index is committed and visible to the reader.
    var committed = LogIndex.zero
    /// Other effects of the entry being built; they come before those of the activations.
    var deferred: [DeferredEffect] = []
    /// Per database: the entry of its last flush. While it is not committed, what the store shows of it is gone.
    var flushIndex = [LogIndex](repeating: .zero, count: KeyCounters.databases)
    /// The last entry that collected garbage; it must be visible before more is collected.
    var collectIndex = LogIndex.zero
    /// No key expires before this time: until then there is nothing to look for. 0 = not known.
    var earliestExpiry: UInt64 = 0
    /// Whether there may be garbage, and the last entry that left some.
    var mayHaveGarbage = true
    var garbageIndex = LogIndex.zero

    /// The counters as they were before the part that is being evaluated.
    var countersBeforePart: KeyCounters?
    /// This is the runtime of an open transaction (`ScopeEvaluation`).
    var isScope = false
    /// A value from another shard could not be put in place: what belongs to it must not be done either.
    var brokenTransfer: DatabaseError?
    /// The reader shows the counters of keys as of the same moment as the keys. A reader of the past does not quite: a
    /// transaction over several shards has a time of its own, the counters that of the entry that took it over.
    package var hasExactCounters = true
    /// So it is with every call that is evaluated now, whose batch is done as a whole.
    package var isWhole = false
    /// What is known of keys that have no record.
    var absences = Absences(floor: .zero)
    /// What is known of the shard's catalog.
    var schema = SchemaMemory()
    /// Statements on single records; nil: there are none.
    package var programs: (any RowPrograms)?
    /// What statements do with many rows; nil: nothing is known of it.
    package var fragments: (any RowFragments)?

    /// Events of keys are recorded (`recordsEvents`), in the form of a note of the log.
    var isRecording = false
    var eventBuffer = ByteBuffer(capacity: 64)
    /// Memory above which a call takes a second look: the budget, or less than nothing while events are recorded.
    var attentionMark: Int

    // The call being evaluated.

    /// Where the bytes of its key are: another key of the call in another shard is another error.
    var callKey: UnsafeRawPointer?
    var now: UInt64 = 0
    /// When the transaction began that it belongs to, for programs of records: microseconds since 1970; 0: none has.
    package var transactionTime: Int64 = 0
    var stamp = Timestamp.zero
    var entryIndex = LogIndex.zero
    var lastGeneration = Timestamp.zero

    /// Tags of the keys that were looked ahead to.
    var upcoming: [UInt64] = []

    // Tables and buffers, all that is changed by every call.

    let workspace: UnsafeMutablePointer<Workspace>

    /// The runtime of the shard that owns `buckets` of a cluster with `bucketCount`; `seed` chooses random keys and
    /// fields.
    package init(
        reader: any RecordReader, buckets: Range<Int>, bucketCount: Int = Slot.count / 256,
        limits: ActorLimits = .init(),
        seed: UInt64
    ) {
        self.reader = reader
        self.buckets = buckets
        self.bucketCount = bucketCount
        self.limits = limits
        attentionMark = limits.memoryBytes
        workspace = .allocate(capacity: 1)
        workspace.initialize(to: Workspace(buckets: buckets))
        random = SplitMix64(seed: seed)
    }

    deinit {
        workspace.deinitialize(count: 1)
        workspace.deallocate()
    }

    /// Evaluates a call at wall time `now` (milliseconds since 1970) and appends its reply.
    ///
    /// `entryIndex` is the index that the entry being built will have, `writeTimestamp` the time of writes, above
    /// that of every earlier one. Returns the newest index that the reply depends on; it may leave once that is
    /// committed.
    package func evaluate(
        _ call: ActorCallView, id: UInt64, now: UInt64, writeTimestamp: Timestamp, entryIndex: LogIndex,
        replies: ReplyBatchEncoder
    ) -> LogIndex {
        self.now = now
        callKey = call.key.baseAddress
        stamp = writeTimestamp
        self.entryIndex = entryIndex
        newest = .zero
        if memoryUsed > attentionMark, takesAttention(call, id, replies) { return newest }
        do throws(DatabaseError) {
            guard Int(call.database) < KeyCounters.databases || call.isOfRecords else { throw Failure.database }
            let reply = Reply(id: id, encoder: replies)
            if schema.mayName, call.database == 0, try evaluateOnRecords(call, reply) { return newest }
            try dispatch(call, reply)
        } catch {
            if isWhole || call.method == .install { brokenTransfer = error }
            replies.error(id, error)
        }
        return newest
    }

    /// Looks ahead: asks the memory for what a call of `key` will need. After some of them, before the calls, comes
    /// `prefetchActivations`. Evaluating a batch then waits for memory about once, not several times a call.
    package func prefetch(_ database: UInt8, _ key: ByteView) {
        lookupKey.removeAll()
        lookupKey.append(database)
        lookupKey.append(key)
        upcoming.append(table.prefetch(lookupKey.readable))
    }

    /// The other steps of looking ahead: the table's entries are there, now the activations, then their strings.
    package func prefetchActivations() {
        for tag in upcoming { table.prefetchObject(tag) }
        for tag in upcoming { table.withPrefetchedObject(tag) { $0.prefetchBytes() } }
        upcoming.removeAll(keepingCapacity: true)
    }

    /// Declares the entries up to `index` committed, and visible to the reader.
    package func didCommit(_ index: LogIndex) {
        guard index > committed else { return }
        committed = index
        guard !pending.isEmpty else { return }
        pending.keep { activation in
            if activation.pendingIndex > index || activation.isDirty { return true }
            activation.isPending = false
            if let fields = activation.fields, !fields.pending.isEmpty {
                fields.settle(index)
                recharge(activation)
            }
            return false
        }
    }

    /// Forgets everything, pending changes too: leadership is lost, or the store was replaced. `committed` is what the
    /// reader shows from now on, and `floor` is above the time of every change up to now (zero for who asks for no
    /// versions).
    package func reset(committed: LogIndex, floor: Timestamp) {
        absences = Absences(floor: floor)
        schema.reset(committed: self.committed)
        forgetAll()
        collectIndex = .zero
        earliestExpiry = 0
        mayHaveGarbage = true
        garbageIndex = .zero
        counters = KeyCounters(buckets: buckets)
        self.committed = committed
    }

    /// Forgets all activations, and what they have changed.
    func forgetAll() {
        countersBeforePart = nil
        brokenTransfer = nil
        table.removeAll()
        // An open transaction forgets its few after every statement.
        ring.removeAll(keepingCapacity: ring.count < 16)
        hand = 0
        memoryUsed = 0
        pending.removeAll()
        dirty.removeAll()
        deferred = []
        eventBuffer.removeAll()
        entryBytes = 0
        for database in flushIndex.indices { flushIndex[database] = .zero }
    }

    /// Activations in memory.
    package var activationCount: Int { ring.count }

    /// Whether the entry being built has effects: if not, there is nothing to propose.
    package var hasEffects: Bool { !dirty.isEmpty || !deferred.isEmpty }

    // MARK: Dispatch

    func dispatch(_ call: ActorCallView, _ reply: Reply) throws(DatabaseError) {
        switch call.method {
        case .get: try get(call, reply)
        case .set: try set(call, reply)
        case .delete: try delete(call, reply)
        case .exists, .touch: try exists(call, reply)
        case .type: try type(call, reply)
        case .expire: try expire(call, reply)
        case .persist: try persist(call, reply)
        case .timeToLive: try timeToLive(call, reply)
        case .expireTime: try expireTime(call, reply)
        case .rename: try rename(call, reply)
        case .copy: try copy(call, reply)
        case .move: try move(call, reply)
        case .randomKey: try randomKey(call, reply)
        case .scan: try scan(call, reply)
        case .keys: try keys(call, reply)
        case .databaseSize: try databaseSize(call, reply)
        case .flushDatabase: try flushDatabase(call, reply)
        case .flushAll: try flushAll(reply)
        case .objectEncoding: try objectEncoding(call, reply)
        case .objectIdleTime: try objectIdleTime(call, reply)
        case .memoryUsage: try memoryUsage(call, reply)
        case .version: try version(call, reply)
        case .dump: try dump(call, reply)
        case .install: try install(call, reply)
        case .getDelete: try getDelete(call, reply)
        case .getExpire: try getExpire(call, reply)
        case .append: try append(call, reply)
        case .stringLength: try stringLength(call, reply)
        case .getRange: try getRange(call, reply)
        case .setRange: try setRange(call, reply)
        case .incrementBy: try incrementBy(call, reply)
        case .incrementByFloat: try incrementByFloat(call, reply)
        case .multiGet: try multiGet(call, reply)
        case .multiSet: try multiSet(call, reply)
        case .longestCommonSubsequence: try longestCommonSubsequence(call, reply)
        case .setBit: try setBit(call, reply)
        case .getBit: try getBit(call, reply)
        case .bitCount: try bitCount(call, reply)
        case .bitPosition: try bitPosition(call, reply)
        case .bitOperation: try bitOperation(call, reply)
        case .bitField: try bitField(call, reply)
        case .bitOperationOfValues: try bitOperationOfValues(call, reply)
        case .longestCommonSubsequenceOfValues: try longestCommonSubsequenceOfValues(call, reply)
        case .hashSet: try hashSet(call, reply)
        case .hashGet: try hashGet(call, reply)
        case .hashMultiGet: try hashMultiGet(call, reply)
        case .hashGetAll: try hashItems(call, reply, fields: true, values: true)
        case .hashKeys: try hashItems(call, reply, fields: true, values: false)
        case .hashValues: try hashItems(call, reply, fields: false, values: true)
        case .hashLength: try hashLength(call, reply)
        case .hashExists: try hashExists(call, reply)
        case .hashDelete: try hashDelete(call, reply)
        case .hashStringLength: try hashStringLength(call, reply)
        case .hashIncrementBy: try hashIncrementBy(call, reply)
        case .hashIncrementByFloat: try hashIncrementByFloat(call, reply)
        case .hashRandomField: try hashRandomField(call, reply)
        case .hashScan: try hashScan(call, reply)
        case .rowGet: try rowGet(call, reply)
        case .rowPut: try rowPut(call, reply)
        case .rowDelete: try rowDelete(call, reply)
        case .rowScan, .rowFragment: try readRows(call, reply)
        case .schemaPut: try schemaPut(call, reply)
        case .schemaDrop: try schemaDrop(call, reply)
        case .schemaRead: try schemaRead(call, reply)
        case .sequenceNext: try sequenceNext(call, reply)
        case .sequenceSet: try sequenceSet(call, reply)
        case .rowQuery: try rowQuery(call, reply)
        case .rowModify: try rowModify(call, reply)
        }
    }
}

/// The reply of the call being evaluated.
struct Reply {
    let id: UInt64
    let encoder: ReplyBatchEncoder

    @inline(__always) func null() { encoder.null(id) }
    @inline(__always) func ok() { encoder.ok(id) }
    @inline(__always) func integer(_ value: Int) { encoder.integer(id, Int64(value)) }
    @inline(__always) func integer(_ value: Int64) { encoder.integer(id, value) }
    @inline(__always) func data(_ view: ByteView) { encoder.data(id, view) }
    @inline(__always) func data(_ bytes: Bytes) { bytes.withUnsafeBytes { encoder.data(id, $0) } }
    @inline(__always) func data(_ text: StaticString) {
        encoder.data(id, ByteView(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }
    @inline(__always) func beginList() { encoder.beginList(id) }
    @inline(__always) func item(_ bytes: Bytes) { bytes.withUnsafeBytes { encoder.listData($0) } }
}

/// The errors of the actors, in the words of Redis 7.0; the gateway adds the prefix of the code.
enum Failure {
    static let wrongType = DatabaseError(
        .wrongType, "Operation against a key holding the wrong kind of value")
    static let notAnInteger = DatabaseError(.notAnInteger, "value is not an integer or out of range")
    static let notAFloat = DatabaseError(.notAFloat, "value is not a valid float")
    static let overflow = DatabaseError(.overflow, "increment or decrement would overflow")
    static let notFinite = DatabaseError(.overflow, "increment would produce NaN or Infinity")
    static let incrementNotFinite = DatabaseError(.notAFloat, "value is NaN or Infinity")
    static let hashNotAnInteger = DatabaseError(.notAnInteger, "hash value is not an integer")
    static let hashNotAFloat = DatabaseError(.notAFloat, "hash value is not a float")
    static let noSuchKey = DatabaseError(.noSuchKey, "no such key")
    static let tooLong = DatabaseError(
        .limitExceeded, "string exceeds maximum allowed size (proto-max-bulk-len)")
    static let sameObject = DatabaseError(.invalidArgument, "source and destination objects are the same")
    static let bit = DatabaseError(.invalidArgument, "bit is not an integer or out of range")
    static let bitOffset = DatabaseError(.invalidArgument, "bit offset is not an integer or out of range")
    static let bitBound = DatabaseError(.invalidArgument, "The bit argument must be 1 or 0.")
    static let bitFieldType = DatabaseError(
        .invalidArgument,
        "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.")
    static let offset = DatabaseError(.invalidArgument, "offset is out of range")
    static let outOfRange = DatabaseError(.invalidArgument, "value is out of range")
    static let database = DatabaseError(.invalidArgument, "DB index is out of range")
    static let syntax = DatabaseError(.syntax, "syntax error")
    static let cursor = DatabaseError(.invalidArgument, "invalid cursor")
    static let lcsTypes = DatabaseError(.invalidArgument, "The specified keys must contain string values")
    static let lcsMemory = DatabaseError(
        .limitExceeded, "Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
    static let keyTooLong = DatabaseError(.limitExceeded, "key exceeds maximum allowed size")
    static let fieldTooLong = DatabaseError(.limitExceeded, "hash field exceeds maximum allowed size")
    static let callTooLarge = DatabaseError(.limitExceeded, "the command changes more than fits in one log entry")
    static let replyTooLarge = DatabaseError(.limitExceeded, "the reply exceeds the maximum allowed size")
    static let otherShard = DatabaseError(.staleMap, "the key's slot is not served by this shard")
    static let crossShard = DatabaseError(.crossShard, "Keys in request don't hash to the same slot")
    static let noRecord = DatabaseError(.invalidArgument, "the key is none of a record of the collection")
    static let noCollection = DatabaseError(.invalidArgument, "the call names other objects than it changes")
    static let recordTooLong = DatabaseError(.limitExceeded, "the record exceeds the maximum allowed size")
    static let staleSchema = DatabaseError(.staleSchema, "the shard has another version of the schema")
    static let damaged = DatabaseError(.corruption, "a stored record is damaged")
    static func expireTime(_ command: StaticString) -> DatabaseError {
        DatabaseError(.invalidArgument, "invalid expire time in '\(command)' command")
    }
}
