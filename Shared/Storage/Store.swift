// Storage: where the records of a node's shards live.
//
//     log entry (effects) ──apply──▶ ShardStore overlay ──flush, in the background──▶ Store (RocksDB)
//                                     ▲ reads look here first, then at the frozen overlay, then below
//
// Purpose. The replicated log is the durability of everything in here; this module turns its entries into records
// that can be read, and remembers on disk how far it got, so that the log can be cut and a restart replays only the
// rest.
//
// Invariants.
// 1. Applying is blind: an entry holds physical effects (`Effects`), and applying one needs no read and cannot fail,
// unless
//    bytes are damaged or an index is skipped; then the replica must stop.
// 2. A flush writes a shard's frozen overlay and the index it reaches in one atomic batch. So the store always holds
// exactly
//    the effects of the entries up to its applied index, and `flushedIndex` may only name an index whose batch is
//    durable.
// 3. A read sees the newest of: overlay, frozen overlay, store. A range tombstone hides only what lies below it.
// 4. The store's own write-ahead log is off. What was not flushed is lost by a crash, and comes back from the log.
//
// 5. A snapshot holds a shard's records as of one entry, taken from a view of the store, and is installed in one atomic
//    step with its index (`SnapshotExport`, `SnapshotInstall`, docs/decisions/0004).
//
// A store has two implementations behind one conformance suite (Tests/StorageTests): `RocksDBStore`, and `MemoryStore`
// which forgets on demand what was not flushed.

import Base

/// An ordered map of bytes to bytes. Reads may run while another thread writes or flushes.
package protocol Store: AnyObject, Sendable {
    /// The value of `key`, copied.
    func get(_ key: ByteView) throws(StoreError) -> Bytes?

    /// Calls `body` with the value of `key` in place (nil when there is none); the view is valid during the call only.
    func withValue(_ key: ByteView, _ body: (ByteView?) -> Void) throws(StoreError)

    /// Writes all of the batch or nothing. Visible at once, durable only after `flush`.
    func write(_ batch: borrowing WriteBatch) throws(StoreError)

    /// The records with `from <= key < to` in the order of their keys, as of now; an empty `to` means to the end.
    func scan(from: Bytes, to: Bytes) throws(StoreError) -> any StoreIterator

    /// The key of the `count`-th last record with `from <= key < to`; nil: there are fewer.
    func key(_ count: Int, before to: Bytes, from: Bytes) throws(StoreError) -> Bytes?

    /// The store as of now, for as long as the view lives. Open views are dropped before `close`, or close it late.
    func view() throws(StoreError) -> any StoreView

    /// Begins to replace all records of `ranges` (sound, in order) by others. `drafts` names files that it may write
    /// by number; they are gone with it.
    func replace(_ ranges: [KeyRange], drafts: @escaping (Int) -> String) throws(StoreError) -> any StoreReplacement

    /// Makes everything written so far durable.
    func flush() throws(StoreError)

    /// Gives back the room of what was deleted in `ranges`. Takes as long as it takes, and does nothing that must be
    /// done: it ends early once `stopReclaiming` was called.
    func reclaim(_ ranges: [KeyRange])

    /// Ends a `reclaim` that runs on another thread, and all that would follow.
    func stopReclaiming()

    /// Allows the store to drop versions of records in these buckets that were superseded by `floor`, when and where
    /// it likes: a replica says so once a floor at least as high is durable. It may go back for a bucket whose records
    /// were replaced.
    func setHistoryFloor(_ floor: Timestamp, buckets: Range<Int>)

    /// Bytes in use, roughly.
    var sizeEstimate: UInt64 { get }

    /// Closes the store. Nothing else may be called afterwards.
    func close()
}

extension Store {
    /// For cold code.
    package func get(_ key: Bytes) throws(StoreError) -> Bytes? {
        var result: Result<Bytes?, StoreError> = .success(nil)
        key.withUnsafeBytes { view in
            do throws(StoreError) { result = .success(try get(view)) } catch { result = .failure(error) }
        }
        return try result.get()
    }
}

/// What a store held at one moment. Any thread.
package protocol StoreView: AnyObject, Sendable {
    /// The value of `key`, copied.
    func get(_ key: ByteView) throws(StoreError) -> Bytes?
    /// As the store's.
    func scan(from: Bytes, to: Bytes) throws(StoreError) -> any StoreIterator
    /// Up to where superseded versions of records in `ranges` may be missing by now, although the view had them.
    func historyFloor(in ranges: [KeyRange]) -> Timestamp
}

extension StoreView {
    /// For cold code.
    package func get(_ key: Bytes) throws(StoreError) -> Bytes? {
        try key.withView { (view: ByteView) throws(StoreError) in try get(view) }
    }
}

/// Records on their way to take the place of all others in some ranges. Nothing shows before `commit`; one that is
/// dropped has done nothing. One thread at a time.
package protocol StoreReplacement: AnyObject {
    /// The next record: keys ascend, and lie in the ranges. Throws `.corruption` when they do not.
    func add(_ key: ByteView, _ value: ByteView) throws(StoreError)
    /// In one atomic step, durable when it returns: the old records of the ranges go, the added ones come, and the
    /// puts of `batch` (ascending, behind all ranges) hold. What other threads wrote before is made durable first, so
    /// that what survives a crash is still a prefix of what was written.
    func commit(_ batch: borrowing WriteBatch) throws(StoreError)
}

/// Follows ascending keys through ranges.
struct RangeCursor {
    let ranges: [KeyRange]
    /// The range of the last key.
    private(set) var current = 0
    private var last: Bytes?

    init(_ ranges: [KeyRange]) throws(StoreError) {
        guard KeyRange.areSound(ranges) else { throw StoreError(.misuse, "ranges that are not in order") }
        self.ranges = ranges
    }

    mutating func move(to key: ByteView) throws(StoreError) {
        if let last, last.withUnsafeBytes({ compareKeys($0, key) >= 0 }) {
            throw StoreError(.corruption, "records that do not ascend")
        }
        while current < ranges.count, ranges[current].lies(before: key) { current += 1 }
        guard current < ranges.count, ranges[current].contains(key) else {
            throw StoreError(.corruption, "a record outside of the ranges that are replaced")
        }
        last = key.bytes
    }
}

/// A position in a scan. It begins at the first record of its range.
package protocol StoreIterator: AnyObject {
    /// False when the range is exhausted, or after an error: `check` tells which.
    var isValid: Bool { get }
    /// The current record; only while `isValid`, and only until the next `next` or `seek`.
    var key: ByteView { get }
    var value: ByteView { get }
    func next()
    /// Moves to the first record at or behind `key` (within the range).
    func seek(_ key: ByteView)
    /// Throws what ended the scan early, if anything did.
    func check() throws(StoreError)
}

/// Why the store could not do what was asked.
package struct StoreError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What the caller can do: stop the replica (`corruption`), make room (`full`), stop (`inputOutput`), fix a bug
    /// (`misuse`), read a later time (`tooOld`).
    package enum Kind: Hashable, Sendable { case corruption, full, inputOutput, misuse, tooOld }

    package let kind: Kind
    package let message: String

    package init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    package var description: String { "store: \(kind): \(message)" }

    /// The same failure in the words of the error catalog.
    package var databaseError: DatabaseError {
        switch kind {
        case .corruption: DatabaseError(.corruption, message)
        case .full: DatabaseError(.diskFull, message)
        case .inputOutput, .misuse: DatabaseError(.internalFailure, message)
        case .tooOld: DatabaseError(.snapshotTooOld, message)
        }
    }
}
