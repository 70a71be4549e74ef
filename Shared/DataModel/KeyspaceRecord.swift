import Base

/// What a native Redis key is. The raw value is on disk: never renumber, only add.
@usableFromInline package enum NativeType: UInt8, CaseIterable, Hashable, Sendable {
    case string = 1
    case hash = 2

    /// The name that TYPE answers.
    package var name: StaticString {
        switch self {
        case .string: "string"
        case .hash: "hash"
        }
    }
}

/// The keyspace record of a native Redis key: everything about the key except its elements, and a short string itself.
///
///     offset 0   format version (1)
///            1   type
///            2   flags
///            3   updated: HLC timestamp of the last write, u64 LE
///           11   generation: HLC timestamp of the write that created the key, u64 LE; sub-records are filed under it
///           19   expiresAt: milliseconds since 1970, u64 LE; 0 = never
///           27   count: elements, or the length of a chunked string, u64 LE
///           35   payload: the string, unless it is chunked
@usableFromInline package struct KeyspaceRecord: Hashable, Sendable {
    @usableFromInline package var type: NativeType
    @usableFromInline package var flags: UInt8
    @usableFromInline package var updated: Timestamp
    @usableFromInline package var generation: Timestamp
    @usableFromInline package var expiresAtMilliseconds: UInt64
    @usableFromInline package var count: UInt64

    @inlinable package static var formatVersion: UInt8 { 1 }
    /// Bytes before the payload.
    @inlinable package static var headerSize: Int { 35 }
    /// Flag: the string is in chunks, the payload is empty and `count` is its length.
    @inlinable package static var chunked: UInt8 { 1 }
    /// Strings up to this many bytes are inline.
    @inlinable package static var inlineLimit: Int { 65536 }
    /// Bytes of a chunk of a longer string.
    @inlinable package static var chunkSize: Int { 65536 }

    @inlinable package init(
        type: NativeType, flags: UInt8 = 0, updated: Timestamp, generation: Timestamp,
        expiresAtMilliseconds: UInt64 = 0,
        count: UInt64 = 0
    ) {
        self.type = type
        self.flags = flags
        self.updated = updated
        self.generation = generation
        self.expiresAtMilliseconds = expiresAtMilliseconds
        self.count = count
    }

    @inlinable package var isChunked: Bool { flags & Self.chunked != 0 }

    /// Visible at t if and only if t < expiresAt.
    @inlinable package func isVisible(atMilliseconds time: UInt64) -> Bool {
        expiresAtMilliseconds == 0 || time < expiresAtMilliseconds
    }

    /// Appends the header; the payload follows it.
    @inlinable package func encode(into buffer: inout ByteBuffer) {
        buffer.reserve(Self.headerSize)
        buffer.append(Self.formatVersion)
        buffer.append(type.rawValue)
        buffer.append(flags)
        buffer.append(littleEndian: updated.rawValue)
        buffer.append(littleEndian: generation.rawValue)
        buffer.append(littleEndian: expiresAtMilliseconds)
        buffer.append(littleEndian: count)
    }

    /// Reads the header of a stored value; nil when it is damaged or from a newer version.
    @inlinable package init?(decoding value: ByteView) {
        var reader = ByteReader(value)
        guard reader.byte() == Self.formatVersion, let code = reader.byte(), let type = NativeType(rawValue: code),
            let flags = reader.byte(), let updated = reader.littleEndian(UInt64.self),
            let generation = reader.littleEndian(UInt64.self), let expiresAt = reader.littleEndian(UInt64.self),
            let count = reader.littleEndian(UInt64.self)
        else { return nil }
        self.init(
            type: type, flags: flags, updated: Timestamp(rawValue: updated),
            generation: Timestamp(rawValue: generation), expiresAtMilliseconds: expiresAt, count: count)
    }

    /// The payload of a stored value whose header was read; empty when there is none.
    @inlinable package static func payload(of value: ByteView) -> ByteView {
        ByteView(rebasing: value[min(headerSize, value.count)...])
    }
}

/// What is left of a deleted key until its sub-records are collected; filed under its generation.
package struct GarbageRecord: Hashable, Sendable {
    package var type: NativeType
    /// Elements, or bytes of a chunked string: how much there is to collect.
    package var count: UInt64

    package init(type: NativeType, count: UInt64) {
        self.type = type
        self.count = count
    }

    /// Format version, type, count u64 LE.
    package func encode(into buffer: inout ByteBuffer) {
        buffer.append(1 as UInt8)
        buffer.append(type.rawValue)
        buffer.append(littleEndian: count)
    }

    package init?(decoding value: ByteView) {
        var reader = ByteReader(value)
        guard reader.byte() == 1, let code = reader.byte(), let type = NativeType(rawValue: code),
            let count = reader.littleEndian(UInt64.self)
        else { return nil }
        self.init(type: type, count: count)
    }
}
