import Base
import Raft

/// What a record of the log is about.
@usableFromInline package enum RecordKind: UInt8, Sendable {
    /// An entry of a shard: its payload is opaque here.
    case entry = 1
    /// What a replica must not forget across a restart: its term, and whom it voted for in it.
    case hardState = 2
    /// Where a shard's log begins: everything up to (term, index) is in its store.
    case mark = 3
    /// The entry that a leader begins its term with.
    case empty = 4
    /// An entry that changes the membership of the shard's replicas.
    case configuration = 5
    /// The membership that holds where the log begins.
    case membership = 6
    /// The shard's log begins anew here, behind a snapshot.
    case restart = 7
    /// A snapshot is about to take the place of the shard's store.
    case installing = 8
    /// Whether the shard's log may lack its end.
    case cut = 9
    /// The replica is gone: the log holds nothing of the shard, and what its store holds is to be deleted.
    case removed = 10
    /// Where the log of a replica ended that was gone, and is here again.
    case floor = 11

    /// Whether it takes an index of the shard's log.
    package var isEntry: Bool {
        switch self {
        case .entry, .empty, .configuration: true
        case .hardState, .mark, .membership, .restart, .installing, .cut, .removed, .floor: false
        }
    }
}

/// One record of the log; `payload` is a view, valid as long as the call that hands it out.
package struct LogRecord {
    package let kind: RecordKind
    package let shard: ShardID
    package let term: Term
    package let index: LogIndex
    package let payload: ByteView
}

/// Why the log could not do what was asked.
package struct LogError: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Kind: Hashable, Sendable {
        /// Bytes that were durable are not what was written: the replica must stop.
        case damaged
        /// No room for the next segment. Nothing was written; the log can go on once there is.
        case full
        /// A write or a sync failed. What is on disk is unknown, so the log refuses everything from here on.
        case inputOutput
        /// More than one record can hold.
        case tooLarge
    }

    package let kind: Kind
    package let message: String
    /// Where the damage begins, and the first intact batch behind it.
    package var damage: ClosedRange<LogPosition>?

    package init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    package var description: String { "log: \(message)" }

    /// The same failure in the words of the error catalog.
    package var databaseError: DatabaseError {
        switch kind {
        case .damaged: DatabaseError(.corruption, message)
        case .full: DatabaseError(.diskFull, message)
        case .inputOutput: DatabaseError(.internalFailure, message)
        case .tooLarge: DatabaseError(.limitExceeded, message)
        }
    }
}

/// Records that will be written at once, in the form they have on disk (`LogFormat`), with room for the header before
/// them.
@usableFromInline package struct LogBatch: ~Copyable {
    @usableFromInline var buffer: ByteBuffer
    @usableFromInline package private(set) var recordCount = 0
    /// It holds more than ordinary entries: votes, terms, memberships. They count as durable only when a later batch
    /// says so durably, since damage of what nothing testifies to is cut as a torn write would be: entries may get lost
    /// so, and come back from the other replicas; a vote would not.
    private(set) var needsSeal = false

    package init(capacity: Int = 64 << 10) {
        buffer = ByteBuffer(capacity: capacity)
        reserveHeader()
    }

    @inlinable package var isEmpty: Bool { recordCount == 0 }

    /// Bytes on disk, header included.
    @inlinable package var byteCount: Int { buffer.count }

    /// The records, one after the other.
    package var records: ByteView { ByteView(rebasing: buffer.readable[LogFormat.batchHeaderSize...]) }

    private mutating func reserveHeader() {
        for _ in 0..<(LogFormat.batchHeaderSize / 8) { buffer.append(littleEndian: UInt64(0)) }
    }

    package mutating func removeAll() {
        buffer.removeAll()
        buffer.trim(to: 1 << 20)
        recordCount = 0
        needsSeal = false
        reserveHeader()
    }

    /// Counts a record that is no ordinary entry.
    private mutating func countSpecial() {
        recordCount += 1
        needsSeal = true
    }

    /// Appends a record whose payload `encode` writes in place, and returns where the payload lies in the batch.
    /// Takes it back and throws when it is larger than `limit`.
    package mutating func append(
        _ kind: RecordKind, shard: ShardID, term: Term, index: LogIndex, limit: Int = LogFormat.maximumPayload,
        _ encode: (inout ByteBuffer) -> Void
    ) throws(LogError) -> Range<Int> {
        let start = buffer.count
        LogFormat.appendRecordHeader(kind, shard: shard, term: term, index: index, to: &buffer)
        encode(&buffer)
        let payload = start + LogFormat.recordHeaderSize..<max(buffer.count, start + LogFormat.recordHeaderSize)
        guard payload.count <= limit, payload.upperBound == buffer.count else {
            let size = payload.count
            buffer.truncate(to: start)
            throw LogError(.tooLarge, "an entry of \(size) bytes; the limit is \(limit)")
        }
        LogFormat.patchRecordLength(payload.count, at: start, in: &buffer)
        recordCount += 1
        if kind == .configuration { needsSeal = true }
        return payload
    }

    /// The bytes at a place that `append` returned; valid until the next mutation.
    package func payload(_ range: Range<Int>) -> ByteView { ByteView(rebasing: buffer.readable[range]) }

    /// Appends the state that a replica must not forget.
    package mutating func append(_ state: HardState, shard: ShardID) {
        LogFormat.appendRecordHeader(.hardState, shard: shard, term: state.term, index: .zero, to: &buffer)
        let start = buffer.count - LogFormat.recordHeaderSize
        LogFormat.append(state, to: &buffer)
        LogFormat.patchRecordLength(buffer.count - start - LogFormat.recordHeaderSize, at: start, in: &buffer)
        countSpecial()
    }

    /// Appends where a shard's log begins, and the first segment that is still needed.
    package mutating func append(markAt index: LogIndex, _ term: Term, shard: ShardID, firstSegment: UInt64) {
        LogFormat.appendRecordHeader(.mark, shard: shard, term: term, index: index, to: &buffer)
        let start = buffer.count - LogFormat.recordHeaderSize
        buffer.append(littleEndian: firstSegment)
        LogFormat.patchRecordLength(8, at: start, in: &buffer)
        countSpecial()
    }

    /// Appends the membership in force from `index` on.
    package mutating func append(_ membership: Membership, at index: LogIndex, shard: ShardID) {
        LogFormat.appendRecordHeader(.membership, shard: shard, term: Term(rawValue: 0), index: index, to: &buffer)
        let payload = membership.encoded()
        let start = buffer.count - LogFormat.recordHeaderSize
        buffer.append(payload)
        LogFormat.patchRecordLength(payload.count, at: start, in: &buffer)
        countSpecial()
    }

    /// Appends that a snapshot is about to take the place of the shard's store.
    package mutating func append(installing snapshot: SnapshotMetadata, shard: ShardID) {
        let payload = snapshot.membership.encoded()
        LogFormat.appendRecordHeader(
            .installing, shard: shard, term: snapshot.last.term, index: snapshot.last.index, to: &buffer)
        let start = buffer.count - LogFormat.recordHeaderSize
        buffer.append(payload)
        LogFormat.patchRecordLength(payload.count, at: start, in: &buffer)
        countSpecial()
    }

    /// Appends that the shard's log begins anew behind `place`.
    package mutating func append(restartAt place: EntryID, shard: ShardID) {
        LogFormat.appendRecordHeader(.restart, shard: shard, term: place.term, index: place.index, to: &buffer)
        countSpecial()
    }

    /// Appends whether the shard's log may lack its end.
    package mutating func append(isCut: Bool, shard: ShardID) {
        LogFormat.appendRecordHeader(.cut, shard: shard, term: Term(rawValue: 0), index: .zero, to: &buffer)
        let start = buffer.count - LogFormat.recordHeaderSize
        buffer.append(isCut ? 1 : 0)
        LogFormat.patchRecordLength(1, at: start, in: &buffer)
        countSpecial()
    }

    /// Appends that a replica whose log ended at `end` is gone; `note` says what is to be done about it.
    package mutating func append(removedAt end: EntryID, note: Bytes, shard: ShardID) {
        LogFormat.appendRecordHeader(.removed, shard: shard, term: end.term, index: end.index, to: &buffer)
        let start = buffer.count - LogFormat.recordHeaderSize
        buffer.append(note)
        LogFormat.patchRecordLength(note.count, at: start, in: &buffer)
        countSpecial()
    }

    /// Appends where the log ended of a replica that was gone, and is here again.
    package mutating func append(floor: EntryID, shard: ShardID) {
        LogFormat.appendRecordHeader(.floor, shard: shard, term: floor.term, index: floor.index, to: &buffer)
        countSpecial()
    }

    /// Takes the last record back, which begins at `start` of the batch.
    mutating func takeBack(from start: Int) {
        buffer.truncate(to: start)
        recordCount -= 1
    }

    /// Appends all records of another batch.
    mutating func append(recordsOf other: borrowing LogBatch) {
        buffer.append(other.records)
        recordCount += other.recordCount
        if other.needsSeal { needsSeal = true }
    }

    /// Appends one record as it is.
    mutating func append(rawRecord bytes: ByteView) {
        buffer.append(bytes)
        recordCount += 1
    }
}
