import Base
import DataModel

/// An intent: a part that is evaluated, durable and not decided. Its keys are locked as long as it is there. That of
/// the anchor is the transaction's staging record: it lists the participants whose intents make it a commit.
///
///     offset 0   format version (1)
///            1   kind: 1
///            2   flags; 1: the whole shard is locked; 2: keys are shared; 4: the whole shard is shared; 8: in pieces
///            3   timestamp, u64 LE
///           11   priority, u64 LE
///           19   participants: varint count, u16 LE each
///                locked keys: varint count, then each: database u8, varint length, key
///                with flag 2 shared keys, likewise
///                counters: varint count, then each: bucket u16 LE, database u8, delta i64 LE
///                with flag 8 the number of pieces, varint
///                payload: the rest, effects as a log entry has them
///
/// One in pieces names no keys: who finds it without having made it locks the whole shard, for the short time until it
/// is decided and applied.
package struct IntentRecord: Hashable, Sendable {
    package var timestamp: Timestamp
    package var priority: UInt64
    package var participants: [Slot]
    package var scope: LockScope
    package var effects: PartEffects
    /// 0: the effects are here.
    package var pieces: UInt32

    package init(
        timestamp: Timestamp, priority: UInt64, participants: [Slot], scope: LockScope, effects: PartEffects,
        pieces: UInt32 = 0
    ) {
        (self.timestamp, self.priority, self.participants) = (timestamp, priority, participants)
        (self.scope, self.effects, self.pieces) = (scope, effects, pieces)
    }

    static let kind: UInt8 = 1
    private static let wholeShard: UInt8 = 1, sharedKeys: UInt8 = 2, sharedShard: UInt8 = 4, inPieces: UInt8 = 8

    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(PartRecord.formatVersion)
        buffer.append(Self.kind)
        let flags: UInt8 =
            switch scope.shard {
            case .exclusive: Self.wholeShard
            case .shared: Self.sharedShard
            case nil: 0
            }
        let kept = (scope.shared.isEmpty ? 0 : Self.sharedKeys) | (pieces == 0 ? 0 : Self.inPieces)
        buffer.append(flags | kept)
        buffer.append(littleEndian: timestamp.rawValue)
        buffer.append(littleEndian: priority)
        PartRecord.append(participants, into: &buffer)
        Self.append(scope.exclusive, into: &buffer)
        if !scope.shared.isEmpty { Self.append(scope.shared, into: &buffer) }
        Self.append(effects.counters, into: &buffer)
        if pieces != 0 { buffer.append(varint: UInt64(pieces)) }
        buffer.append(effects.payload)
    }

    /// Reads what follows the kind.
    init?(_ reader: inout ByteReader) {
        let known = Self.wholeShard | Self.sharedKeys | Self.sharedShard | Self.inPieces
        guard let flags = reader.byte(), flags & ~known == 0, let time: UInt64 = reader.littleEndian(),
            let priority: UInt64 = reader.littleEndian(), let participants = PartRecord.readSlots(&reader),
            let keys = Self.readKeys(&reader),
            let shared = flags & Self.sharedKeys == 0 ? [] : Self.readKeys(&reader),
            let counters = Self.readCounters(&reader),
            let pieces = flags & Self.inPieces == 0 ? 0 : reader.varint().flatMap(UInt32.init(exactly:))
        else { return nil }
        let shard: LockMode? =
            flags & Self.wholeShard != 0 ? .exclusive : flags & Self.sharedShard != 0 ? .shared : nil
        self.init(
            timestamp: Timestamp(rawValue: time), priority: priority, participants: participants,
            scope: LockScope(exclusive: keys, shared: shared, shard: shard),
            effects: PartEffects(payload: reader.rest.bytes, counters: counters), pieces: pieces)
    }

    private static func append(_ keys: [LockKey], into buffer: inout ByteBuffer) {
        buffer.append(varint: UInt64(keys.count))
        for key in keys {
            buffer.append(key.database)
            buffer.append(varint: UInt64(key.key.count))
            buffer.append(key.key)
        }
    }

    private static func readKeys(_ reader: inout ByteReader) -> [LockKey]? {
        guard let count = reader.varint() else { return nil }
        var keys: [LockKey] = []
        while UInt64(keys.count) < count {
            guard let database = reader.byte(), let key = reader.delimited() else { return nil }
            keys.append(LockKey(database, key.bytes))
        }
        return keys
    }

    static func append(_ counters: [KeyCountChange], into buffer: inout ByteBuffer) {
        buffer.append(varint: UInt64(counters.count))
        for counter in counters {
            buffer.append(littleEndian: counter.bucket.rawValue)
            buffer.append(counter.database)
            buffer.append(littleEndian: counter.delta)
        }
    }

    static func readCounters(_ reader: inout ByteReader) -> [KeyCountChange]? {
        guard let count = reader.varint() else { return nil }
        var counters: [KeyCountChange] = []
        while UInt64(counters.count) < count {
            guard let bucket: UInt16 = reader.littleEndian(), let database = reader.byte(),
                let delta: Int64 = reader.littleEndian()
            else { return nil }
            counters.append(KeyCountChange(bucket: BucketID(rawValue: bucket), database: database, delta: delta))
        }
        return counters
    }
}

/// A part in pieces that is committed and being applied, one piece after another; its keys are locked until the last.
///
///     offset 0   format version (1)
///            1   kind: 4
///            2   timestamp of the commit, u64 LE
///           10   timestamp of the intent, u64 LE
///           18   priority, u64 LE
///           26   number of pieces, u32 LE
///           30   those that are applied, u32 LE
///           34   participants: varint count, u16 LE each
///                counters, as of an intent: they change with the last piece
package struct ApplyingRecord: Hashable, Sendable {
    package var timestamp: Timestamp
    package var prepared: Timestamp
    package var priority: UInt64
    package var pieces: UInt32
    package var applied: UInt32
    package var participants: [Slot]
    package var counters: [KeyCountChange]

    package init(
        timestamp: Timestamp, prepared: Timestamp, priority: UInt64, pieces: UInt32, applied: UInt32,
        participants: [Slot], counters: [KeyCountChange]
    ) {
        (self.timestamp, self.prepared, self.priority) = (timestamp, prepared, priority)
        (self.pieces, self.applied, self.participants, self.counters) = (pieces, applied, participants, counters)
    }

    static let kind: UInt8 = 4

    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(PartRecord.formatVersion)
        buffer.append(Self.kind)
        buffer.append(littleEndian: timestamp.rawValue)
        buffer.append(littleEndian: prepared.rawValue)
        buffer.append(littleEndian: priority)
        buffer.append(littleEndian: pieces)
        buffer.append(littleEndian: applied)
        PartRecord.append(participants, into: &buffer)
        IntentRecord.append(counters, into: &buffer)
    }

    init?(_ reader: inout ByteReader) {
        guard let time: UInt64 = reader.littleEndian(), let prepared: UInt64 = reader.littleEndian(),
            let priority: UInt64 = reader.littleEndian(), let pieces: UInt32 = reader.littleEndian(),
            let applied: UInt32 = reader.littleEndian(), applied < pieces,
            let participants = PartRecord.readSlots(&reader), let counters = IntentRecord.readCounters(&reader),
            reader.isAtEnd
        else { return nil }
        self.init(
            timestamp: Timestamp(rawValue: time), prepared: Timestamp(rawValue: prepared), priority: priority,
            pieces: pieces, applied: applied, participants: participants, counters: counters)
    }
}

/// The anchor's word that a transaction is committed, until all participants have it.
///
///     offset 0   format version (1)
///            1   kind: 2
///            2   timestamp of the commit, u64 LE
///           10   participants: varint count, u16 LE each
package struct TransactionRecord: Hashable, Sendable {
    package var timestamp: Timestamp
    package var participants: [Slot]

    package init(timestamp: Timestamp, participants: [Slot]) {
        (self.timestamp, self.participants) = (timestamp, participants)
    }

    static let kind: UInt8 = 2

    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(PartRecord.formatVersion)
        buffer.append(Self.kind)
        buffer.append(littleEndian: timestamp.rawValue)
        PartRecord.append(participants, into: &buffer)
    }

    init?(_ reader: inout ByteReader) {
        guard let time: UInt64 = reader.littleEndian(), let participants = PartRecord.readSlots(&reader),
            reader.isAtEnd
        else { return nil }
        self.init(timestamp: Timestamp(rawValue: time), participants: participants)
    }
}

/// What has become of a part that is over, for messages that come late or again. A fence is one: the part was never
/// there, and never will be.
///
///     offset 0   format version (1)
///            1   kind: 3
///            2   flags; 1: committed, else aborted; 2: firm, kept for its whole time whatever else is remembered
///            3   timestamp of the commit, u64 LE
///           11   noted at: milliseconds since 1970, u64 LE
package struct VerdictRecord: Hashable, Sendable {
    /// Nil: aborted.
    package var committed: Timestamp?
    package var isFirm: Bool
    package var notedAt: UInt64

    package init(committed: Timestamp?, isFirm: Bool, notedAt: UInt64) {
        (self.committed, self.isFirm, self.notedAt) = (committed, isFirm, notedAt)
    }

    static let kind: UInt8 = 3
    private static let committedFlag: UInt8 = 1, firmFlag: UInt8 = 2

    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(PartRecord.formatVersion)
        buffer.append(Self.kind)
        buffer.append((committed == nil ? 0 : Self.committedFlag) | (isFirm ? Self.firmFlag : 0))
        buffer.append(littleEndian: committed?.rawValue ?? 0)
        buffer.append(littleEndian: notedAt)
    }

    init?(_ reader: inout ByteReader) {
        guard let flags = reader.byte(), flags <= Self.committedFlag | Self.firmFlag,
            let time: UInt64 = reader.littleEndian(), let notedAt: UInt64 = reader.littleEndian(), reader.isAtEnd
        else { return nil }
        let isCommitted = flags & Self.committedFlag != 0
        guard isCommitted || time == 0 else { return nil }
        self.init(
            committed: isCommitted ? Timestamp(rawValue: time) : nil, isFirm: flags & Self.firmFlag != 0,
            notedAt: notedAt)
    }

    var answer: StepAnswer { committed.map(StepAnswer.committed) ?? .aborted }
}

/// The one record that a shard has of a part (`TransactionKey`): each takes the place of the one before, so a part is
/// never in two states.
package enum PartRecord: Hashable, Sendable {
    case intent(IntentRecord)
    case applying(ApplyingRecord)
    case committed(TransactionRecord)
    case over(VerdictRecord)

    package static let formatVersion: UInt8 = 1

    /// Nil when it is damaged, or of another version.
    package init?(decoding view: ByteView) {
        var reader = ByteReader(view)
        guard reader.byte() == Self.formatVersion, let kind = reader.byte() else { return nil }
        switch kind {
        case IntentRecord.kind:
            guard let record = IntentRecord(&reader) else { return nil }
            self = .intent(record)
        case ApplyingRecord.kind:
            guard let record = ApplyingRecord(&reader) else { return nil }
            self = .applying(record)
        case TransactionRecord.kind:
            guard let record = TransactionRecord(&reader) else { return nil }
            self = .committed(record)
        case VerdictRecord.kind:
            guard let record = VerdictRecord(&reader) else { return nil }
            self = .over(record)
        case _: return nil
        }
    }

    package func encode(into buffer: inout ByteBuffer) {
        switch self {
        case .intent(let record): record.encode(into: &buffer)
        case .applying(let record): record.encode(into: &buffer)
        case .committed(let record): record.encode(into: &buffer)
        case .over(let record): record.encode(into: &buffer)
        }
    }

    static func append(_ slots: [Slot], into buffer: inout ByteBuffer) {
        buffer.append(varint: UInt64(slots.count))
        for slot in slots { buffer.append(littleEndian: slot.rawValue) }
    }

    static func readSlots(_ reader: inout ByteReader) -> [Slot]? {
        guard let count = reader.varint(), count <= UInt64(Part.participantLimit) else { return nil }
        var slots: [Slot] = []
        while UInt64(slots.count) < count {
            guard let slot: UInt16 = reader.littleEndian(), Int(slot) < Slot.count else { return nil }
            slots.append(Slot(rawValue: slot))
        }
        return slots
    }
}
