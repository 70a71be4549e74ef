import Base

/// The format of physical effects: the payload of a log entry, and the content of a `WriteBatch`.
///
///     version   u8 = 1
///     effect*   put:         u8 = 1, key (varint length, bytes), value (varint length, bytes)
///               delete:      u8 = 2, key
///               deleteRange: u8 = 3, from key, to key        removes from <= key < to
///               timestamp:   u8 = 4, u64 little-endian       the commit timestamp of the effects behind it
///               collectRange: u8 = 5, from key, to key, u64 little-endian
///                            the same as deleteRange, of records that nobody sees who reads at or above the timestamp
///               note:        u8 = 6, bytes (varint length, bytes)
///                            changes nothing: for who follows the log
///
/// Effects in front of the first timestamp have the timestamp 0.
///
/// Effects hold in their order: a later one overrides an earlier one of the same key. No bytes at all are an empty
/// list, so that an entry without effects (a new term's first) needs no payload. It is on disk: change it by a new
/// version.
@usableFromInline package enum Effects {
    @usableFromInline package static let version: UInt8 = 1
    @usableFromInline static let putTag: UInt8 = 1
    @usableFromInline static let deleteTag: UInt8 = 2
    @usableFromInline static let deleteRangeTag: UInt8 = 3
    @usableFromInline static let timestampTag: UInt8 = 4
    @usableFromInline static let collectRangeTag: UInt8 = 5
    @usableFromInline static let noteTag: UInt8 = 6

    /// Starts a list of effects at the end of `buffer`.
    @inlinable package static func begin(into buffer: inout ByteBuffer) {
        buffer.append(version)
    }

    @inlinable package static func put(_ key: ByteView, _ value: ByteView, into buffer: inout ByteBuffer) {
        buffer.reserve(21 + key.count + value.count)
        buffer.append(putTag)
        buffer.append(varint: UInt64(key.count))
        buffer.append(key)
        buffer.append(varint: UInt64(value.count))
        buffer.append(value)
    }

    @inlinable package static func delete(_ key: ByteView, into buffer: inout ByteBuffer) {
        buffer.append(deleteTag)
        buffer.append(varint: UInt64(key.count))
        buffer.append(key)
    }

    /// Removes every record with `from <= key < to`.
    @inlinable package static func deleteRange(from: ByteView, to: ByteView, into buffer: inout ByteBuffer) {
        buffer.append(deleteRangeTag)
        buffer.append(varint: UInt64(from.count))
        buffer.append(from)
        buffer.append(varint: UInt64(to.count))
        buffer.append(to)
    }

    /// Says something to who follows the log.
    @inlinable package static func note(_ bytes: ByteView, into buffer: inout ByteBuffer) {
        buffer.append(noteTag)
        buffer.append(varint: UInt64(bytes.count))
        buffer.append(bytes)
    }

    /// Gives the effects that follow their commit timestamp.
    @inlinable package static func timestamp(_ timestamp: Timestamp, into buffer: inout ByteBuffer) {
        buffer.append(timestampTag)
        buffer.append(littleEndian: timestamp.rawValue)
    }

    /// Removes every record with `from <= key < to`; nobody sees them who reads at `floor` or above.
    @inlinable package static func collectRange(
        from: ByteView, to: ByteView, floor: Timestamp, into buffer: inout ByteBuffer
    ) {
        buffer.append(collectRangeTag)
        buffer.append(varint: UInt64(from.count))
        buffer.append(from)
        buffer.append(varint: UInt64(to.count))
        buffer.append(to)
        buffer.append(littleEndian: floor.rawValue)
    }
}

/// One effect, as views over the bytes it was read from.
package enum Effect {
    case put(key: ByteView, value: ByteView)
    case delete(key: ByteView)
    case deleteRange(from: ByteView, to: ByteView)
    case timestamp(Timestamp)
    case collectRange(from: ByteView, to: ByteView, floor: Timestamp)
    case note(ByteView)
}

/// Reads a list of effects; every malformed list ends in an error, never in a trap.
package struct EffectReader {
    var reader: ByteReader

    package init(_ bytes: ByteView) throws(StoreError) {
        reader = ByteReader(bytes)
        guard let version = reader.byte() else { return }
        guard version == Effects.version else {
            throw StoreError(.corruption, "effects of unknown version; a newer Orbit wrote them")
        }
    }

    /// The next effect, or nil at the end.
    package mutating func next() throws(StoreError) -> Effect? {
        guard let tag = reader.byte() else { return nil }
        if tag == Effects.timestampTag {
            guard let timestamp: UInt64 = reader.littleEndian() else { throw Self.malformed }
            return .timestamp(Timestamp(rawValue: timestamp))
        }
        guard let first = reader.delimited() else { throw Self.malformed }
        switch tag {
        case Effects.putTag:
            guard let value = reader.delimited() else { throw Self.malformed }
            return .put(key: first, value: value)
        case Effects.deleteTag:
            return .delete(key: first)
        case Effects.noteTag:
            return .note(first)
        case Effects.deleteRangeTag:
            guard let end = reader.delimited() else { throw Self.malformed }
            return .deleteRange(from: first, to: end)
        case Effects.collectRangeTag:
            guard let end = reader.delimited(), let floor: UInt64 = reader.littleEndian() else { throw Self.malformed }
            return .collectRange(from: first, to: end, floor: Timestamp(rawValue: floor))
        default:
            throw Self.malformed
        }
    }

    static let malformed = StoreError(.corruption, "malformed effects")
}

/// Effects gathered to be written at once, in one flat buffer.
@usableFromInline package struct WriteBatch: ~Copyable {
    @usableFromInline var buffer: ByteBuffer

    @inlinable package init(capacity: Int = 1024) {
        buffer = ByteBuffer(capacity: capacity)
        Effects.begin(into: &buffer)
    }

    /// The batch in the format of `Effects`; valid until the next mutation.
    @inlinable package var effects: ByteView { buffer.readable }

    @inlinable package var isEmpty: Bool { buffer.count <= 1 }

    @inlinable package mutating func put(_ key: ByteView, _ value: ByteView) {
        Effects.put(key, value, into: &buffer)
    }

    @inlinable package mutating func delete(_ key: ByteView) {
        Effects.delete(key, into: &buffer)
    }

    @inlinable package mutating func deleteRange(from: ByteView, to: ByteView) {
        Effects.deleteRange(from: from, to: to, into: &buffer)
    }

    /// See `Effects.collectRange`.
    @inlinable package mutating func collectRange(from: ByteView, to: ByteView, floor: Timestamp) {
        Effects.collectRange(from: from, to: to, floor: floor, into: &buffer)
    }

    /// See `Effects.note`.
    @inlinable package mutating func note(_ bytes: ByteView) { Effects.note(bytes, into: &buffer) }

    /// Gives the effects that follow a timestamp, and returns the place that `restamp` takes.
    @inlinable @discardableResult package mutating func stamp(_ timestamp: Timestamp) -> Int {
        let place = buffer.count + 1
        Effects.timestamp(timestamp, into: &buffer)
        return place
    }

    /// Changes a timestamp that `stamp` gave.
    package mutating func restamp(_ place: Int, _ timestamp: Timestamp) {
        let room = buffer.mutableReadable
        guard place >= 0, place + 8 <= room.count else { return }
        room.storeBytes(of: timestamp.rawValue.littleEndian, toByteOffset: place, as: UInt64.self)
    }

    /// A record as the store keeps it: the value, and behind it the commit timestamp.
    mutating func put(_ key: ByteView, _ value: ByteView, _ timestamp: Timestamp) {
        buffer.reserve(32 + key.count + value.count)
        buffer.append(Effects.putTag)
        buffer.append(varint: UInt64(key.count))
        buffer.append(key)
        buffer.append(varint: UInt64(value.count + StoredValue.suffix))
        buffer.append(value)
        buffer.append(littleEndian: timestamp.rawValue)
    }

    /// Adds the effects of another batch.
    mutating func append(_ other: borrowing WriteBatch) {
        buffer.append(ByteView(rebasing: other.effects[1...]))
    }

    /// For tests and cold code.
    package mutating func put(_ key: Bytes, _ value: Bytes) {
        key.withUnsafeBytes { key in value.withUnsafeBytes { put(key, $0) } }
    }

    package mutating func delete(_ key: Bytes) {
        key.withUnsafeBytes { delete($0) }
    }

    package mutating func deleteRange(from: Bytes, to: Bytes) {
        from.withUnsafeBytes { from in to.withUnsafeBytes { deleteRange(from: from, to: $0) } }
    }

    @inlinable package mutating func removeAll() {
        buffer.removeAll()
        Effects.begin(into: &buffer)
    }
}
