// Feeds: what subscribers are told of a shard's log, as values without clock, disk or socket.
//
//     effects of an entry ──▶ ChangeCollector ──▶ changes of keys, each with the timestamp of its commit
//                                                    │ FeedFilter
//                                                    ▼
//     intents not decided ──▶ IntentWatermark ──▶ FeedBacklog ──▶ in the order of timestamps, once nothing can come
//                                                                 before (of one shard)
//     several shards ─────────────────────────▶ FeedMerge ──────▶ in the order of timestamps (of all)
//
// An entry has one timestamp, later ones have later ones; but a part of a transaction over several shards is applied
// under the timestamp of the transaction, which is older than the entry that brings it. So a shard is *resolved* up to
// the timestamp of the last entry, or to just below the oldest intent that is not decided: below that nothing comes any
// more, and what is above waits in the backlog.

import Base
import Contracts
import DataModel

/// Turns the effects of log entries into changes of keys.
///
/// Effects are physical: a record of the key, records of its fields or chunks under its generation, an entry of the
/// expiry index. What belongs to one key and one commit becomes one change. Sub-records of a generation whose record is
/// not in the entry are what is left of a value that has gone, and are nobody's change.
package struct ChangeCollector {
    private struct Name: Hashable {
        let timestamp: Timestamp
        let database: UInt8
        let key: Bytes
    }

    private struct Generation: Hashable {
        let timestamp: Timestamp
        let created: Timestamp
    }

    private let shard: ShardID
    private var changes: [Change] = []
    private var places: [Name: Int] = [:]
    private var generations: [Generation: Int] = [:]
    /// Entries of the expiry index that were removed, by key.
    private var removedExpiries: [Name: UInt64] = [:]
    /// Keys whose removal is the first that a commit has done to them.
    private var removedFirst: Set<Name> = []
    /// Keys that a commit has written and removed: nothing has happened to those that were not there before.
    private var undone: Set<Name> = []
    private var void: Set<Int> = []
    private var timestamp = Timestamp.zero

    package init(shard: ShardID) { self.shard = shard }

    /// The effects behind this are of the commit with this timestamp.
    package mutating func begin(_ timestamp: Timestamp) { self.timestamp = timestamp }

    package mutating func put(_ key: ByteView, _ value: ByteView) {
        switch NativeKey(parsing: key) {
        case .record(_, let database, _, let name): put(database, name.bytes, value)
        case .hashField(_, let generation, _, let field):
            guard let place = place(of: generation) else { return }
            changes[place].content.fields.append(Change.Field(name: field.bytes, value: value.bytes))
        case .stringChunk(_, let generation, let chunk):
            guard let place = place(of: generation) else { return }
            let offset = UInt64(chunk) &* UInt64(KeyspaceRecord.chunkSize)
            changes[place].content.pieces.append(Change.Piece(offset: offset, data: value.bytes))
        case .expiry, .garbage, .counter, nil: break
        }
    }

    package mutating func delete(_ key: ByteView) {
        switch NativeKey(parsing: key) {
        case .record(_, let database, _, let name):
            let name = Name(timestamp: timestamp, database: database, key: name.bytes)
            if places[name] == nil {
                removedFirst.insert(name)
            } else if !removedFirst.contains(name) {
                undone.insert(name)
            }
            changes[place(of: name)].kind = .delete
            changes[place(of: name)].content = Change.Content()
        case .hashField(_, let generation, _, let field):
            guard let place = place(of: generation) else { return }
            changes[place].content.fields.append(Change.Field(name: field.bytes, value: nil))
        case .expiry(_, let time, let database, let name):
            removedExpiries[Name(timestamp: timestamp, database: database, key: name.bytes)] = time
        case .stringChunk, .garbage, .counter, nil: break
        }
    }

    /// What commands have done to keys. What cannot be read is nobody's: it says nothing of the data.
    package mutating func note(_ events: ByteView) {
        guard let events = KeyEvents.parse(events), !events.isEmpty else { return }
        let known = changes.lastIndex { $0.kind == .events && $0.timestamp == timestamp }
        if let known {
            changes[known].events += events
            return
        }
        var change = Change(timestamp: timestamp, kind: .events, shard: shard)
        change.events = events
        changes.append(change)
    }

    /// Ranges are removed by FLUSHDB and FLUSHALL, bucket by bucket; of other ranges nobody wants to know.
    package mutating func deleteRange(from: ByteView) {
        var reader = ByteReader(from)
        guard reader.bigEndian(UInt16.self) != nil,
            reader.bigEndian(UInt32.self) == CollectionID.redisKeys.rawValue, reader.byte() ?? 0 == 0
        else { return }
        let database = reader.byte()
        let isKnown = changes.contains {
            $0.kind == .flush && $0.timestamp == timestamp && $0.isEveryDatabase == (database == nil)
                && $0.database == database ?? 0
        }
        if isKnown { return }
        changes.append(
            Change(
                timestamp: timestamp, kind: .flush, database: database ?? 0, isEveryDatabase: database == nil,
                shard: shard))
    }

    /// Leaves out removals of keys that were not there before the commit: it has made them itself, and there is no
    /// trace of that in the past of a shard. `wasThere` is asked only where it may be so.
    package mutating func leaveOutUndone<E: Error>(_ wasThere: (Change) throws(E) -> Bool) throws(E) {
        let asked = undone
        undone = []
        for name in asked {
            guard let place = places[name], changes[place].kind == .delete else { continue }
            if try !wasThere(changes[place]) { void.insert(place) }
        }
    }

    /// The changes since the last time, in the order of a feed.
    package mutating func finish() -> [Change] {
        for (name, time) in removedExpiries {
            // Not yet due: a client has deleted a key with a time to live.
            guard let place = places[name], changes[place].kind == .delete, time <= name.timestamp.milliseconds else {
                continue
            }
            changes[place].kind = .expire
        }
        var found = void.isEmpty ? changes : changes.indices.filter { !void.contains($0) }.map { changes[$0] }
        (changes, places, generations, removedExpiries) = ([], [:], [:], [:])
        (removedFirst, undone, void) = ([], [], [])
        if found.count > 1 { found.sort(by: Change.precedes) }
        return found
    }

    /// The change of the key that the commit has left with this generation.
    private func place(of generation: Timestamp) -> Int? {
        guard let place = generations[Generation(timestamp: timestamp, created: generation)],
            changes[place].kind == .put, changes[place].content.created == generation
        else { return nil }
        return place
    }

    private mutating func place(of name: Name) -> Int {
        if let known = places[name] { return known }
        places[name] = changes.count
        changes.append(
            Change(timestamp: name.timestamp, kind: .put, database: name.database, key: name.key, shard: shard))
        return changes.count - 1
    }

    private mutating func put(_ database: UInt8, _ key: Bytes, _ value: ByteView) {
        guard let record = KeyspaceRecord(decoding: value) else { return }
        let place = place(of: Name(timestamp: timestamp, database: database, key: key))
        var content = Change.Content(record, value)
        if changes[place].content.created == content.created {
            content.fields = changes[place].content.fields
            content.pieces = changes[place].content.pieces
        }
        changes[place].kind = .put
        changes[place].content = content
        generations[Generation(timestamp: timestamp, created: record.generation)] = place
    }
}

extension Change.Content {
    /// What a keyspace record says by itself: all of a key but its sub-records.
    package init(_ record: KeyspaceRecord, _ value: ByteView) {
        let payload = KeyspaceRecord.payload(of: value)
        let isInline = record.type == .string && !record.isChunked
        self.init(
            type: ChangedType(record.type), created: record.generation, expiresAt: record.expiresAtMilliseconds,
            size: isInline ? UInt64(payload.count) : record.count, value: isInline ? payload.bytes : [])
    }
}

extension ChangedType {
    /// What a native key is to a feed.
    package init(_ type: NativeType) {
        switch type {
        case .string: self = .string
        case .hash: self = .hash
        }
    }
}
