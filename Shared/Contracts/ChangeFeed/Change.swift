import Base

/// What a key can be, as far as a change feed tells.
package enum ChangedType: UInt8, CaseIterable, Hashable, Sendable {
    case string = 1
    case hash = 2

    /// The name on the wire.
    package var name: StaticString {
        switch self {
        case .string: "string"
        case .hash: "hash"
        }
    }

    /// Nil for a name that this version does not know, and for an empty one.
    package init?(named name: ByteView) {
        let found = Self.allCases.first { type in
            type.name.withUTF8Buffer { $0.elementsEqual(name) }
        }
        guard let found else { return nil }
        self = found
    }
}

/// What a commit has done to a key (`orbit.v1.Change`).
package struct Change: Hashable, Sendable {
    /// What has become of the key.
    package enum Kind: UInt8, CaseIterable, Hashable, Sendable {
        case put = 0
        case delete = 1
        /// Its time had come.
        case expire = 2
        /// All keys of a database are gone, or of all.
        case flush = 3
        /// What commands have done to keys: the keyspace notifications of a commit at one shard.
        case events = 4
    }

    /// Bytes of a long string, and where they lie in it.
    package struct Piece: Hashable, Sendable {
        package var offset: UInt64
        package var data: Bytes

        package init(offset: UInt64, data: Bytes) { (self.offset, self.data) = (offset, data) }
    }

    /// A field of a hash; without a value it was removed.
    package struct Field: Hashable, Sendable {
        package var name: Bytes
        package var value: Bytes?

        package init(name: Bytes, value: Bytes?) { (self.name, self.value) = (name, value) }
    }

    /// What a key is after a change, or was before it: all of it but long strings and hashes, of which there is what
    /// the change concerns.
    package struct Content: Hashable, Sendable {
        /// Nil where it is not known.
        package var type: ChangedType?
        /// The timestamp that the key was made with.
        package var created: Timestamp
        /// Milliseconds since 1970; 0: never.
        package var expiresAt: UInt64
        /// Bytes of a string, fields of a hash.
        package var size: UInt64
        package var value: Bytes
        package var pieces: [Piece]
        package var fields: [Field]
        /// There was more than the limit.
        package var isPartial: Bool

        package init(
            type: ChangedType? = nil, created: Timestamp = .zero, expiresAt: UInt64 = 0, size: UInt64 = 0,
            value: Bytes = [], pieces: [Piece] = [], fields: [Field] = [], isPartial: Bool = false
        ) {
            (self.type, self.created, self.expiresAt, self.size) = (type, created, expiresAt, size)
            (self.value, self.pieces, self.fields, self.isPartial) = (value, pieces, fields, isPartial)
        }
    }

    package var timestamp: Timestamp
    package var kind: Kind
    package var database: UInt8
    /// Of a flush: every database.
    package var isEveryDatabase: Bool
    package var key: Bytes
    package var content: Content
    /// What was there before, if that was asked for.
    package var old: Content?
    package var shard: ShardID
    /// Of `events`.
    package var events: [KeyEvents] = []

    package init(
        timestamp: Timestamp, kind: Kind, database: UInt8 = 0, isEveryDatabase: Bool = false,
        key: Bytes = [], content: Content = Content(),
        old: Content? = nil, shard: ShardID = ShardID(rawValue: 0)
    ) {
        (self.timestamp, self.kind, self.database, self.isEveryDatabase) = (timestamp, kind, database, isEveryDatabase)
        (self.key, self.content, self.old, self.shard) = (key, content, old, shard)
    }

    /// Bytes in memory, about.
    package var cost: Int { 160 + key.count + content.cost + (old?.cost ?? 0) + events.reduce(0) { $0 + $1.cost } }

    /// The order of a feed: by timestamp, then in a way that is the same whoever tells it, and from wherever.
    package static func precedes(_ left: Change, _ right: Change) -> Bool {
        if left.timestamp != right.timestamp { return left.timestamp < right.timestamp }
        let (first, second) = (left.rank, right.rank)
        if first != second { return first < second }
        if left.key != right.key { return left.key.lexicographicallyPrecedes(right.key) }
        return left.shard < right.shard
    }

    private var rank: UInt64 {
        switch kind {
        case .flush: isEveryDatabase ? 0 : 1 + UInt64(database)
        case .put, .delete, .expire: 1 << 16 + UInt64(database)
        case .events: 1 << 17
        }
    }
}

extension Change.Content {
    var cost: Int {
        64 + value.count + pieces.reduce(0) { $0 + 32 + $1.data.count }
            + fields.reduce(0) { $0 + 48 + $1.name.count + ($1.value?.count ?? 0) }
    }
}

// MARK: The wire

extension Change {
    /// Writes the message.
    package func encode(into buffer: inout ByteBuffer) {
        buffer.field(1, fixed: timestamp.rawValue)
        buffer.field(2, varint: UInt64(kind.rawValue))
        buffer.field(3, varint: UInt64(database))
        buffer.field(4, varint: isEveryDatabase ? 1 : 0)
        buffer.field(5, bytes: key)
        if let type = content.type { buffer.field(6, text: type.name) }
        buffer.field(7, fixed: content.created.rawValue)
        buffer.field(8, varint: content.expiresAt)
        buffer.field(9, varint: content.size)
        buffer.field(10, bytes: content.value)
        for piece in content.pieces { buffer.field(11) { piece.encode(into: &$0) } }
        for field in content.fields { buffer.field(12) { field.encode(into: &$0) } }
        if let old { buffer.field(13) { old.encodeOld(into: &$0) } }
        buffer.field(14, varint: UInt64(shard.rawValue))
        for events in events { buffer.field(15) { events.encode(into: &$0) } }
    }

    /// Reads a message; unknown kinds and types are refused, because they would be taken for something else.
    package init(decoding message: ByteView) throws(DatabaseError) {
        self.init(timestamp: .zero, kind: .put)
        try WireField.forEach(message) { number, field throws(DatabaseError) in
            switch number {
            case 1: timestamp = Timestamp(rawValue: field.number)
            case 2:
                guard let value = UInt8(exactly: field.number), let known = Kind(rawValue: value) else {
                    throw Wire.malformed
                }
                kind = known
            case 3:
                guard let value = UInt8(exactly: field.number) else { throw Wire.malformed }
                database = value
            case 4: isEveryDatabase = field.number != 0
            case 5: key = field.view.bytes
            case 6: content.type = try Self.type(field.view)
            case 7: content.created = Timestamp(rawValue: field.number)
            case 8: content.expiresAt = field.number
            case 9: content.size = field.number
            case 10: content.value = field.view.bytes
            case 11: content.pieces.append(try Piece(decoding: field.view))
            case 12: content.fields.append(try Field(decoding: field.view))
            case 13: old = try Content(decodingOld: field.view)
            case 14: shard = ShardID(rawValue: UInt32(truncatingIfNeeded: field.number))
            case 15: events.append(try KeyEvents(decoding: field.view))
            case _: break
            }
        }
    }

    fileprivate static func type(_ name: ByteView) throws(DatabaseError) -> ChangedType? {
        if name.isEmpty { return nil }
        guard let type = ChangedType(named: name) else { throw Wire.malformed }
        return type
    }
}

extension Change.Piece {
    func encode(into buffer: inout ByteBuffer) {
        buffer.field(1, varint: offset)
        buffer.field(2, bytes: data)
    }

    init(decoding message: ByteView) throws(DatabaseError) {
        self.init(offset: 0, data: [])
        try WireField.forEach(message) { number, field throws(DatabaseError) in
            switch number {
            case 1: offset = field.number
            case 2: data = field.view.bytes
            case _: break
            }
        }
    }
}

extension Change.Field {
    func encode(into buffer: inout ByteBuffer) {
        buffer.field(1, bytes: name)
        buffer.field(2, bytes: value ?? [])
        buffer.field(3, varint: value == nil ? 1 : 0)
    }

    init(decoding message: ByteView) throws(DatabaseError) {
        self.init(name: [], value: [])
        var isRemoved = false
        try WireField.forEach(message) { number, field throws(DatabaseError) in
            switch number {
            case 1: name = field.view.bytes
            case 2: value = field.view.bytes
            case 3: isRemoved = field.number != 0
            case _: break
            }
        }
        if isRemoved { value = nil }
    }
}

extension Change.Content {
    func encodeOld(into buffer: inout ByteBuffer) {
        if let type { buffer.field(1, text: type.name) }
        buffer.field(2, fixed: created.rawValue)
        buffer.field(3, varint: expiresAt)
        buffer.field(4, varint: size)
        buffer.field(5, bytes: value)
        for piece in pieces { buffer.field(6) { piece.encode(into: &$0) } }
        for field in fields { buffer.field(7) { field.encode(into: &$0) } }
        buffer.field(8, varint: isPartial ? 1 : 0)
    }

    init(decodingOld message: ByteView) throws(DatabaseError) {
        self.init()
        try WireField.forEach(message) { number, field throws(DatabaseError) in
            switch number {
            case 1: type = try Change.type(field.view)
            case 2: created = Timestamp(rawValue: field.number)
            case 3: expiresAt = field.number
            case 4: size = field.number
            case 5: value = field.view.bytes
            case 6: pieces.append(try Change.Piece(decoding: field.view))
            case 7: fields.append(try Change.Field(decoding: field.view))
            case 8: isPartial = field.number != 0
            case _: break
            }
        }
    }
}
