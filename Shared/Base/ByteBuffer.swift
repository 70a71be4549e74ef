import Glibc

/// An owned string of bytes: keys, values, wire arguments that outlive their read buffer.
@usableFromInline package typealias Bytes = [UInt8]

/// Bytes that somebody else owns, valid for the duration of the call that received them.
@usableFromInline package typealias ByteView = UnsafeRawBufferPointer

/// A growable queue of bytes: written at the end, consumed from the front.
///
/// It is the one buffer of the data path: sockets read into `prepare`, decoders look at `readable` and `consume`,
/// encoders `append`. Not copyable, so a buffer has one owner and growing it never copies twice. Storage doubles, is
/// compacted when the front half is consumed, and is given back to the system by `trim` after a burst.
@usableFromInline package struct ByteBuffer: ~Copyable {
    @usableFromInline var base: UnsafeMutableRawPointer
    @usableFromInline var capacity: Int
    @usableFromInline var head = 0
    @usableFromInline var tail = 0

    /// An empty buffer with room for `capacity` bytes (at least 64).
    @inlinable package init(capacity: Int = 4096) {
        self.capacity = max(capacity, 64)
        base = .allocate(byteCount: self.capacity, alignment: 16)
    }

    deinit { base.deallocate() }

    /// The number of bytes that can be read.
    @inlinable package var count: Int { tail - head }

    @inlinable package var isEmpty: Bool { head == tail }

    /// The bytes that can be read; valid until the next mutation.
    @inlinable package var readable: ByteView { ByteView(start: base + head, count: tail - head) }

    /// The written bytes, mutable, for back-patching a length; valid until the next mutation.
    @inlinable package var mutableReadable: UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(start: base + head, count: tail - head)
    }

    /// Drops `count` bytes from the front (never more than there are).
    @inlinable package mutating func consume(_ count: Int) {
        head += min(max(count, 0), tail - head)
        if head == tail {
            head = 0
            tail = 0
        }
    }

    /// Cuts the readable bytes to their first `count`: takes back what was appended after.
    @inlinable package mutating func truncate(to count: Int) {
        tail = min(tail, head + max(count, 0))
    }

    /// Forgets everything, keeps the storage.
    @inlinable package mutating func removeAll() {
        head = 0
        tail = 0
    }

    /// Gives memory back when the buffer is empty and larger than `limit`.
    package mutating func trim(to limit: Int) {
        guard isEmpty, capacity > limit else { return }
        base.deallocate()
        capacity = max(limit, 64)
        base = .allocate(byteCount: capacity, alignment: 16)
        removeAll()
    }

    /// Makes room for `count` more bytes at the end.
    @inlinable package mutating func reserve(_ count: Int) {
        if capacity - tail < count { grow(count) }
    }

    @usableFromInline mutating func grow(_ count: Int) {
        let used = tail - head
        if head >= capacity / 2, capacity - used >= count {
            base.copyMemory(from: base + head, byteCount: used)
        } else {
            var wanted = capacity
            while wanted - used < count { wanted = wanted &* 2 }
            let fresh = UnsafeMutableRawPointer.allocate(byteCount: wanted, alignment: 16)
            fresh.copyMemory(from: base + head, byteCount: used)
            base.deallocate()
            base = fresh
            capacity = wanted
        }
        head = 0
        tail = used
    }

    /// Room for at least `count` bytes to write into; follow with `commit`.
    @inlinable package mutating func prepare(_ count: Int) -> UnsafeMutableRawBufferPointer {
        reserve(count)
        return UnsafeMutableRawBufferPointer(start: base + tail, count: capacity - tail)
    }

    /// Declares that `count` bytes of the prepared room were written.
    @inlinable package mutating func commit(_ count: Int) {
        precondition(count >= 0 && count <= capacity - tail, "commit past the prepared room")
        tail += count
    }

    @inlinable package mutating func append(_ byte: UInt8) {
        reserve(1)
        base.storeBytes(of: byte, toByteOffset: tail, as: UInt8.self)
        tail += 1
    }

    @inlinable package mutating func append(_ bytes: ByteView) {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return }
        reserve(bytes.count)
        (base + tail).copyMemory(from: source, byteCount: bytes.count)
        tail += bytes.count
    }

    @inlinable package mutating func append(_ bytes: Bytes) {
        bytes.withUnsafeBytes { append($0) }
    }

    @inlinable package mutating func append(_ text: StaticString) {
        append(ByteView(start: text.utf8Start, count: text.utf8CodeUnitCount))
    }

    /// UTF-8; not for the data path.
    package mutating func append(text: String) {
        var text = text
        text.withUTF8 { append(ByteView($0)) }
    }

    /// Fixed-width integers, little-endian (own formats) or big-endian (keys, network headers).
    @inlinable package mutating func append<T: FixedWidthInteger>(littleEndian value: T) {
        reserve(MemoryLayout<T>.size)
        base.storeBytes(of: value.littleEndian, toByteOffset: tail, as: T.self)
        tail += MemoryLayout<T>.size
    }

    @inlinable package mutating func append<T: FixedWidthInteger>(bigEndian value: T) {
        reserve(MemoryLayout<T>.size)
        base.storeBytes(of: value.bigEndian, toByteOffset: tail, as: T.self)
        tail += MemoryLayout<T>.size
    }

    /// Unsigned LEB128, the varint of protobuf: seven bits a byte, low bits first.
    @inlinable package mutating func append(varint value: UInt64) {
        reserve(10)
        var rest = value
        while rest >= 0x80 {
            base.storeBytes(of: UInt8(truncatingIfNeeded: rest) | 0x80, toByteOffset: tail, as: UInt8.self)
            tail += 1
            rest >>= 7
        }
        base.storeBytes(of: UInt8(truncatingIfNeeded: rest), toByteOffset: tail, as: UInt8.self)
        tail += 1
    }

    /// A decimal integer in ASCII.
    @inlinable package mutating func append(decimal value: Int64) {
        reserve(20)
        var magnitude = value.magnitude
        if value < 0 {
            base.storeBytes(of: UInt8(ascii: "-"), toByteOffset: tail, as: UInt8.self)
            tail += 1
        }
        var length = 1
        var probe = magnitude
        while probe >= 10 {
            probe /= 10
            length += 1
        }
        var position = tail + length
        tail = position
        repeat {
            position -= 1
            base.storeBytes(of: UInt8(truncatingIfNeeded: 48 + magnitude % 10), toByteOffset: position, as: UInt8.self)
            magnitude /= 10
        } while magnitude > 0
    }
}

extension ByteView {
    /// A copy that outlives the view.
    @inlinable package var bytes: Bytes { Bytes(self) }

    /// Equality by content.
    @inlinable package func equals(_ other: ByteView) -> Bool {
        guard count == other.count else { return false }
        guard let left = baseAddress, let right = other.baseAddress, count > 0 else { return true }
        return memcmp(left, right, count) == 0
    }
}

/// Orders keys as the store does: byte by byte, unsigned, a prefix before what continues it.
@inlinable package func compareKeys(_ left: ByteView, _ right: ByteView) -> Int {
    let common = min(left.count, right.count)
    if common > 0, let first = left.baseAddress, let second = right.baseAddress {
        let order = Int(memcmp(first, second, common))
        if order != 0 { return order }
    }
    return left.count - right.count
}

/// The number of bytes that `value` takes as a varint.
@inlinable package func varintSize(_ value: UInt64) -> Int {
    (63 - (value | 1).leadingZeroBitCount) / 7 + 1
}

extension Bytes {
    /// Calls `body` with the bytes in place; errors keep their type, which the standard library's `withUnsafeBytes`
    /// loses.
    package func withView<Result, Failure: Error>(_ body: (ByteView) throws(Failure) -> Result) throws(Failure)
        -> Result
    {
        var outcome: Swift.Result<Result, Failure>?
        withUnsafeBytes { view in
            do throws(Failure) { outcome = .success(try body(view)) } catch { outcome = .failure(error) }
        }
        guard let outcome else { preconditionFailure("withUnsafeBytes calls its body") }
        return try outcome.get()
    }
}
