import Base

/// What the actors read: the shard's committed records, nothing pending. The node adapts its store to it.
///
/// Everything committed up to the index given to `ActorRuntime.didCommit` must be visible; more may be.
package protocol RecordReader: AnyObject {
    /// The value of `key`, or nil.
    func get(_ key: ByteView) throws(DatabaseError) -> Bytes?
    /// Calls `body` with the records of `from ..< to` in key order until it answers false. The views end with the
    /// call, which must not come back to the reader.
    func scan(from: ByteView, to: ByteView, _ body: (ByteView, ByteView) -> Bool) throws(DatabaseError)
    /// The same, as of the oldest time that can still be read: what was put there later does not show.
    func scanSettled(from: ByteView, to: ByteView, _ body: (ByteView, ByteView) -> Bool) throws(DatabaseError)
    /// Where to begin to find about the `count` last records of `from ..< to`, if that is known; nil: at `from`.
    func key(_ count: Int, before to: ByteView, from: ByteView) throws(DatabaseError) -> Bytes?
}

extension RecordReader {
    /// For readers that know nothing.
    package func key(_ count: Int, before to: ByteView, from: ByteView) throws(DatabaseError) -> Bytes? { nil }

    /// For readers without a past.
    package func scanSettled(
        from: ByteView, to: ByteView, _ body: (ByteView, ByteView) -> Bool
    ) throws(DatabaseError) {
        try scan(from: from, to: to, body)
    }
}

/// Where the effects of an entry go, in the order in which they are to be applied. The views end with the call.
package protocol EffectSink: AnyObject {
    /// Sets the value of `key`.
    func put(key: ByteView, value: ByteView)
    /// Removes `key`, which may be absent.
    func delete(key: ByteView)
    /// Removes every key of `from ..< to`.
    func deleteRange(from: ByteView, to: ByteView)
    /// The same for records that nobody sees, in the past neither, as far back as it can be read.
    func collectRange(from: ByteView, to: ByteView)
    /// What was done to keys, as `KeyEvents` says it: no change of its own.
    func note(_ events: ByteView)
}

extension EffectSink {
    /// For sinks without a past.
    package func collectRange(from: ByteView, to: ByteView) { deleteRange(from: from, to: to) }
    /// For sinks that nobody listens to.
    package func note(_ events: ByteView) {}
}

/// The bounds of a shard's actors. A call that would cross one is refused before it has changed anything.
package struct ActorLimits: Sendable {
    /// Bytes of the longest string and of the longest hash value.
    package var valueBytes = 8 << 20
    /// Bytes of the longest key and of the longest hash field.
    package var keyBytes = 65536
    /// Effects that one call may make, in bytes: an entry may have four MiB more when it is full at `pendingBytes`.
    package var callBytes = 12 << 20
    /// Bytes of the largest reply.
    package var replyBytes = 64 << 20
    /// Memory for activations; what is not committed yet stays above it.
    package var memoryBytes = 256 << 20
    /// An activation that nobody used for so long leaves memory.
    package var idleMilliseconds: UInt64 = 600_000
    /// Hashes with more fields are not read whole when they are activated, but field by field.
    package var completeFields = 4096
    /// Fields that a hash that is not in memory whole keeps.
    package var cachedFields = 65536
    /// Cells of the table that LCS compares two strings in: time on the shard's loop, about a nanosecond each.
    package var lcsCells = 64 << 20
    /// Keys or fields that one step of a scan looks at, however many were asked for.
    package var scanCount = 100_000

    package init() {}
}

/// What the actors have done since they were made; counters for the metrics.
package struct ActorStatistics: Hashable, Sendable {
    /// Keys found in memory, and keys that had to be read from the store.
    package var hits: UInt64 = 0, misses: UInt64 = 0
    /// Activations made, put out for memory, and put out for idleness.
    package var activations: UInt64 = 0, evictions: UInt64 = 0, deactivations: UInt64 = 0
    /// Keys removed because their time had come; generations collected.
    package var expiredKeys: UInt64 = 0, collectedGenerations: UInt64 = 0

    package init() {}
}
