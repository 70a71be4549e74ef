/// A cursor over borrowed bytes that cannot run past the end: every read returns nil instead.
///
/// All decoders of input that comes from a client, a peer or a disk read through it, so that no byte from outside can
/// reach a trap. It must not outlive the bytes it looks at.
@usableFromInline package struct ByteReader {
    @usableFromInline let base: UnsafeRawPointer?
    @usableFromInline let end: Int
    /// Bytes consumed so far.
    @usableFromInline package private(set) var offset = 0

    @inlinable package init(_ view: ByteView) {
        base = view.baseAddress
        end = view.count
    }

    @inlinable package var remaining: Int { end - offset }

    @inlinable package var isAtEnd: Bool { offset == end }

    /// What has not been read yet.
    @inlinable package var rest: ByteView { ByteView(start: base.map { $0 + offset }, count: end - offset) }

    @usableFromInline mutating func advance(_ count: Int) { offset += count }

    /// The next byte, or nil at the end.
    @inlinable package mutating func byte() -> UInt8? {
        guard offset < end, let base else { return nil }
        let value = base.load(fromByteOffset: offset, as: UInt8.self)
        advance(1)
        return value
    }

    /// The next `count` bytes, or nil when there are fewer (or `count` is negative).
    @inlinable package mutating func view(_ count: Int) -> ByteView? {
        guard count >= 0, count <= end - offset else { return nil }
        let value = ByteView(start: base.map { $0 + offset }, count: count)
        advance(count)
        return value
    }

    /// The next fixed-width integer of our own formats, or nil when it is cut.
    @inlinable package mutating func littleEndian<T: FixedWidthInteger>(_ type: T.Type = T.self) -> T? {
        guard end - offset >= MemoryLayout<T>.size, let base else { return nil }
        let value = T(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: T.self))
        advance(MemoryLayout<T>.size)
        return value
    }

    /// The next fixed-width integer of a key or a network header, or nil when it is cut.
    @inlinable package mutating func bigEndian<T: FixedWidthInteger>(_ type: T.Type = T.self) -> T? {
        guard end - offset >= MemoryLayout<T>.size, let base else { return nil }
        let value = T(bigEndian: base.loadUnaligned(fromByteOffset: offset, as: T.self))
        advance(MemoryLayout<T>.size)
        return value
    }

    /// An unsigned LEB128 of at most ten bytes; nil when truncated or longer. Bits above the 64th are dropped, as in
    /// protobuf.
    @inlinable package mutating func varint() -> UInt64? {
        guard let base else { return nil }
        var value: UInt64 = 0
        var shift: UInt64 = 0
        var position = offset
        while position < end, shift < 70 {
            let byte = base.load(fromByteOffset: position, as: UInt8.self)
            position += 1
            if shift < 64 { value |= UInt64(byte & 0x7f) &<< shift }
            if byte < 0x80 {
                advance(position - offset)
                return value
            }
            shift += 7
        }
        return nil
    }

    /// A varint length followed by that many bytes.
    @inlinable package mutating func delimited() -> ByteView? {
        guard let length = varint(), length <= UInt64(end - offset) else { return nil }
        return view(Int(length))
    }
}
