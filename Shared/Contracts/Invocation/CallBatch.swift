import Base

/// Builds a `CallBatch` piece by piece, byte for byte as protobuf-c writes it: watches come first, then the calls, then
/// the part. Whoever does not know yet which calls go together keeps them encoded (`encode`).
package struct CallBatchEncoder: ~Copyable {
    /// Calls, and watches, that one batch may have.
    package static let limit = 65536

    private var buffer = ByteBuffer(capacity: 1024)
    /// Calls and watches appended since `reset`.
    package private(set) var callCount = 0, watchCount = 0

    package init() {}

    /// The encoded `CallBatch`; valid until the next mutation.
    package var message: ByteView { buffer.readable }

    package mutating func reset() {
        buffer.removeAll()
        buffer.trim(to: 1 << 20)
        (callCount, watchCount) = (0, 0)
    }

    /// Appends the condition that the key has the version that `Method.version` answered.
    package mutating func append(watch key: ByteView, database: UInt8, version: UInt64) {
        append(key, database, version: version, isAbsent: false)
    }

    /// Appends the condition that the key does not exist.
    package mutating func append(absent key: ByteView, database: UInt8) {
        append(key, database, version: 0, isAbsent: true)
    }

    private mutating func append(_ key: ByteView, _ database: UInt8, version: UInt64, isAbsent: Bool) {
        var size = 0
        if database != 0 { size += 1 + varintSize(UInt64(database)) }
        if key.count != 0 { size += 1 + varintSize(UInt64(key.count)) + key.count }
        if version != 0 { size += 9 }
        if isAbsent { size += 2 }
        buffer.append(1 << 3 | 2)
        buffer.append(varint: UInt64(size))
        if database != 0 {
            buffer.append(1 << 3)
            buffer.append(varint: UInt64(database))
        }
        if key.count != 0 { buffer.append(delimited: key, tag: 2 << 3 | 2) }
        if version != 0 {
            buffer.append(3 << 3 | 1)
            buffer.append(littleEndian: version)
        }
        if isAbsent {
            buffer.append(4 << 3)
            buffer.append(1)
        }
        watchCount += 1
    }

    /// Appends a call of an actor's method.
    package mutating func append(
        method: Method, database: UInt8, key: ByteView, flags: UInt32, numbers: UnsafeBufferPointer<Int64>,
        arguments: UnsafeBufferPointer<ByteView>
    ) {
        let size = ActorCallSize(method, database, key, flags, numbers, arguments)
        buffer.append(2 << 3 | 2)
        buffer.append(varint: UInt64(size.total))
        buffer.append(size, method, database, key, flags, numbers, arguments)
        callCount += 1
    }

    /// Appends a call as `encode` has written it.
    package mutating func append(call: ByteView) {
        buffer.append(delimited: call, tag: 2 << 3 | 2)
        callCount += 1
    }

    /// Appends what makes the batch a part of a transaction.
    package mutating func append(_ part: TransactionPart) {
        var message = ByteBuffer(capacity: 64)
        part.encode(into: &message)
        buffer.append(delimited: message.readable, tag: 3 << 3 | 2)
    }

    /// Appends the token by which the batch may be repeated by anybody.
    package mutating func append(_ token: BatchToken) {
        var message = ByteBuffer(capacity: 32)
        token.encode(into: &message)
        buffer.append(delimited: message.readable, tag: 4 << 3 | 2)
    }

    /// Writes a call on its own, for `append(call:)`.
    package static func encode(
        method: Method, database: UInt8, key: ByteView, flags: UInt32, numbers: UnsafeBufferPointer<Int64>,
        arguments: UnsafeBufferPointer<ByteView>, into buffer: inout ByteBuffer
    ) {
        let size = ActorCallSize(method, database, key, flags, numbers, arguments)
        buffer.append(size, method, database, key, flags, numbers, arguments)
    }
}

/// `Watch` as it lies in its frame: a condition on a key.
package struct WatchView {
    /// What must hold.
    package enum Condition: Hashable, Sendable {
        /// The key is as it was when `Method.version` answered this.
        case version(UInt64)
        /// The key does not exist.
        case absent
    }

    package var database: UInt8
    package var key: ByteView
    package var condition: Condition

    package init(database: UInt8, key: ByteView, condition: Condition) {
        (self.database, self.key, self.condition) = (database, key, condition)
    }
}

/// `CallBatch` as it lies in its frame. Every piece of it has been read once: what `calls` and `watches` walk is
/// intact, and every method and database is known.
package struct CallBatchView {
    let body: ByteView
    private unowned(unsafe) let decoder: InvocationBatchDecoder
    private let calledCount: UInt32, watchedCount: UInt32
    /// Where they lie in `body`; the whole is not larger than a call, because every invocation would pay for it.
    private let partPlace: Place?, tokenPlace: Place?
    /// Some call may change data.
    package let isWrite: Bool

    package var callCount: Int { Int(calledCount) }
    package var watchCount: Int { Int(watchedCount) }
    /// The message itself.
    package var encoded: ByteView { body }

    /// Nil when a call or watch has a method or database that this version does not know.
    init?(_ message: ByteView, _ decoder: InvocationBatchDecoder) throws(DatabaseError) {
        var calls = 0, watches = 0, isWrite = false, isKnown = true
        var part: Place?, token: Place?
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3 | 2:
                guard let message = reader.delimited(), watches < CallBatchEncoder.limit else { throw Wire.malformed }
                if try Self.watch(message) == nil { isKnown = false }
                watches += 1
            case 2 << 3 | 2:
                guard let message = reader.delimited(), calls < CallBatchEncoder.limit else { throw Wire.malformed }
                if case .call(let call) = try decoder.call(message) {
                    if call.method.isWrite { isWrite = true }
                } else {
                    isKnown = false
                }
                calls += 1
            case 3 << 3 | 2:
                guard let message = reader.delimited() else { throw Wire.malformed }
                _ = try TransactionPartView(message)
                part = Place(of: message, before: reader.offset)
            case 4 << 3 | 2:
                guard let message = reader.delimited() else { throw Wire.malformed }
                _ = try BatchToken(message)
                token = Place(of: message, before: reader.offset)
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        guard isKnown else { return nil }
        (body, self.decoder, self.isWrite) = (message, decoder, isWrite)
        (calledCount, watchedCount) = (UInt32(calls), UInt32(watches))
        (partPlace, tokenPlace) = (part, token)
    }

    /// Bytes of the message.
    private struct Place {
        private let start: UInt32, count: UInt32

        /// A frame has a few megabytes, so both fit.
        init(of view: ByteView, before end: Int) {
            (start, count) = (UInt32(truncatingIfNeeded: end - view.count), UInt32(truncatingIfNeeded: view.count))
        }

        /// Nil outside of the message: not reached.
        func view(in body: ByteView) -> ByteView? {
            let (start, end) = (Int(start), Int(start) + Int(count))
            return end <= body.count ? ByteView(rebasing: body[start..<end]) : nil
        }
    }

    /// Whether the batch is a part of a transaction over several shards.
    package var isPart: Bool { partPlace != nil }

    /// What makes it one.
    package var part: TransactionPartView? { partPlace?.view(in: body).flatMap { try? TransactionPartView($0) } }

    /// By which the batch may be repeated.
    package var token: BatchToken? { tokenPlace?.view(in: body).flatMap { try? BatchToken($0) } }

    /// The calls, in order. One at a time: the next takes the place of the numbers and arguments of the one before.
    package var calls: Calls { Calls(ByteReader(body), decoder) }

    package var watches: Watches { Watches(ByteReader(body)) }

    /// Walks the calls of a batch.
    package struct Calls {
        private var reader: ByteReader
        private unowned(unsafe) let decoder: InvocationBatchDecoder

        init(_ reader: ByteReader, _ decoder: InvocationBatchDecoder) {
            (self.reader, self.decoder) = (reader, decoder)
        }

        package mutating func next() -> ActorCallView? {
            while let tag = reader.varint() {
                if tag == 2 << 3 | 2 {
                    guard let message = reader.delimited(), case .call(let call)? = try? decoder.call(message) else {
                        return nil
                    }
                    return call
                }
                guard Wire.skip(tag & 7, in: &reader) else { return nil }
            }
            return nil
        }
    }

    /// Walks the watches of a batch.
    package struct Watches {
        private var reader: ByteReader

        init(_ reader: ByteReader) { self.reader = reader }

        package mutating func next() -> WatchView? {
            while let tag = reader.varint() {
                if tag == 1 << 3 | 2 { return reader.delimited().flatMap { try? CallBatchView.watch($0) } }
                guard Wire.skip(tag & 7, in: &reader) else { return nil }
            }
            return nil
        }
    }

    /// Nil when the database is not known.
    private static func watch(_ message: ByteView) throws(DatabaseError) -> WatchView? {
        var database: UInt64 = 0, version: UInt64 = 0, isAbsent = false
        var key = ByteView(start: nil, count: 0)
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3, 4 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                if tag == 1 << 3 { database = value } else { isAbsent = value != 0 }
            case 2 << 3 | 2:
                guard let value = reader.delimited() else { throw Wire.malformed }
                key = value
            case 3 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                version = value
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        guard ActorCallView.isDatabase(database) else { return nil }
        return WatchView(
            database: UInt8(database), key: key, condition: isAbsent ? .absent : .version(version))
    }
}

// MARK: - An encoded ActorCall

/// Bytes of an `ActorCall` to be written.
struct ActorCallSize {
    let total: Int, packed: Int

    @inline(__always)
    init(
        _ method: Method, _ database: UInt8, _ key: ByteView, _ flags: UInt32, _ numbers: UnsafeBufferPointer<Int64>,
        _ arguments: UnsafeBufferPointer<ByteView>
    ) {
        var size = 1 + varintSize(UInt64(method.rawValue)), packed = 0
        if database != 0 { size += 1 + varintSize(UInt64(database)) }
        if key.count != 0 { size += 1 + varintSize(UInt64(key.count)) + key.count }
        if flags != 0 { size += 1 + varintSize(UInt64(flags)) }
        if numbers.count != 0 {
            for number in numbers { packed += varintSize(zigZag(number)) }
            size += 1 + varintSize(UInt64(packed)) + packed
        }
        for argument in arguments { size += 1 + varintSize(UInt64(argument.count)) + argument.count }
        (total, self.packed) = (size, packed)
    }
}

extension ByteBuffer {
    /// Writes an `ActorCall` of that size.
    @inline(__always)
    mutating func append(
        _ size: ActorCallSize, _ method: Method, _ database: UInt8, _ key: ByteView, _ flags: UInt32,
        _ numbers: UnsafeBufferPointer<Int64>, _ arguments: UnsafeBufferPointer<ByteView>
    ) {
        append(1 << 3)
        append(varint: UInt64(method.rawValue))
        if database != 0 {
            append(2 << 3)
            append(varint: UInt64(database))
        }
        if key.count != 0 { append(delimited: key, tag: 3 << 3 | 2) }
        if flags != 0 {
            append(4 << 3)
            append(varint: UInt64(flags))
        }
        if numbers.count != 0 {
            append(5 << 3 | 2)
            append(varint: UInt64(size.packed))
            for number in numbers { append(varint: zigZag(number)) }
        }
        for argument in arguments { append(delimited: argument, tag: 6 << 3 | 2) }
    }

    /// Writes bytes with their tag and length.
    @inline(__always) mutating func append(delimited bytes: ByteView, tag: UInt8) {
        append(tag)
        append(varint: UInt64(bytes.count))
        append(bytes)
    }
}
