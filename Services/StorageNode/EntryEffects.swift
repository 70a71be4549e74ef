import Base
import Contracts
import DataModel
import Feeds
import Storage
import Transactions

/// What a change feed reads from the payload of a log entry.
enum EntryEffects {
    /// What an entry says beside the changes of keys.
    struct Notes {
        /// The commit timestamp of the entry; nil if it is one of Raft's own.
        var timestamp: Timestamp?
        /// Parts of transactions whose record it changes: prepared then, or (nil) no intent any more; and whether more
        /// of the part comes in later entries.
        var parts: [(id: Bytes, prepared: Timestamp?, isApplying: Bool)] = []
        /// The bound of the shard's clock, if it moves that.
        var bound: Timestamp?
    }

    /// Parts of transactions that come in several entries: what belongs to one key may be in any of them, so nothing is
    /// told before the last.
    struct Unfinished {
        private var parts: Set<Bytes> = []

        var isEmpty: Bool { parts.isEmpty }

        mutating func note(_ notes: Notes) {
            for part in notes.parts {
                if part.isApplying { parts.insert(part.id) } else { parts.remove(part.id) }
            }
        }
    }

    /// Hands the changes of keys to the collector.
    static func read(
        _ payload: ByteView, of shard: ShardID, into collector: inout ChangeCollector
    ) throws(StoreError) -> Notes {
        var reader = try EffectReader(payload), notes = Notes()
        while let effect = try reader.next() {
            switch effect {
            case .timestamp(let timestamp):
                if notes.timestamp == nil { notes.timestamp = timestamp }
                collector.begin(timestamp)
            case .put(let key, let value):
                if isOfKeys(key) { collector.put(key, value) } else { note(key, value, shard, &notes) }
            case .delete(let key):
                if isOfKeys(key) { collector.delete(key) } else { note(key, nil, shard, &notes) }
            case .deleteRange(let from, _): collector.deleteRange(from: from)
            case .collectRange: break
            case .note(let events): collector.note(events)
            }
        }
        return notes
    }

    /// The commit timestamp of an entry, and the oldest one of a part that it brings.
    static func timestamps(_ payload: ByteView) throws(StoreError) -> (own: Timestamp, oldest: Timestamp)? {
        var reader = try EffectReader(payload), found: (own: Timestamp, oldest: Timestamp)?
        while let effect = try reader.next() {
            guard case .timestamp(let timestamp) = effect else { continue }
            found = (found?.own ?? timestamp, min(found?.oldest ?? timestamp, timestamp))
        }
        return found
    }

    /// The commit timestamp alone: it stands in front.
    static func timestamp(_ payload: ByteView) throws(StoreError) -> Timestamp? {
        var reader = try EffectReader(payload)
        guard case .timestamp(let timestamp)? = try reader.next() else { return nil }
        return timestamp
    }

    /// When the part of a transaction was prepared, if this is the record of one that is not wholly applied.
    static func prepared(_ record: ByteView) -> Timestamp? { state(of: record).prepared }

    private static func state(of record: ByteView) -> (prepared: Timestamp?, isApplying: Bool) {
        switch PartRecord(decoding: record) {
        case .intent(let intent): (intent.timestamp, false)
        case .applying(let part): (part.prepared, true)
        case .committed, .over, nil: (nil, false)
        }
    }

    /// Whether a record belongs to a key of Redis, by its collection.
    private static func isOfKeys(_ key: ByteView) -> Bool {
        key.count > 6 && key[0] != 0xff && key[2] == 0 && key[3] == 0 && key[4] == 0 && key[5] < 16
    }

    private static func note(_ key: ByteView, _ value: ByteView?, _ shard: ShardID, _ notes: inout Notes) {
        if TransactionKey.parse(key) != nil {
            let (prepared, isApplying) = value.map { state(of: $0) } ?? (nil, false)
            notes.parts.append((key.bytes, prepared, isApplying))
        } else if key.first == 0xff, let value, let bound = ClockBoundRecord.decode(key, value, shard) {
            notes.bound = bound
        }
    }
}
