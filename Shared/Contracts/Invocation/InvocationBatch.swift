import Base

// The two hot messages of the wire contract, `InvocationBatch` and `ReplyBatch` (Proto/invocation.proto), are coded by
// hand:
// 17 and 6 ns a message instead of 80 and 52 (design: RUNTIME.md). What these encoders write is byte for byte what
// protobuf-c writes for the same fields, in field order and with default values omitted; tests compare the two.
// Everything else in Contracts goes through protobuf-c.
//
// Decoders never trust a length: they read through `ByteReader`, skip unknown fields (a newer peer may send some), and
// refuse what they cannot read with `protocolViolation`.

/// Protobuf wire types (encoding specification, "Message structure").
enum Wire {
    static let varint: UInt64 = 0, fixed64: UInt64 = 1, delimited: UInt64 = 2, fixed32: UInt64 = 5

    static let malformed = DatabaseError(.protocolViolation, "malformed protobuf message")

    /// Skips a field of the given wire type; false when it is truncated or of a type that proto3 does not have.
    @inline(__always) static func skip(_ type: UInt64, in reader: inout ByteReader) -> Bool {
        switch type {
        case varint: reader.varint() != nil
        case fixed64: reader.view(8) != nil
        case delimited: reader.delimited() != nil
        case fixed32: reader.view(4) != nil
        default: false
        }
    }
}

@inline(__always) func zigZag(_ value: Int64) -> UInt64 { UInt64(bitPattern: (value &<< 1) ^ (value &>> 63)) }

@inline(__always) func unZigZag(_ value: UInt64) -> Int64 {
    Int64(bitPattern: value &>> 1) ^ -Int64(bitPattern: value & 1)
}

/// Numbers of a call; valid while its frame is being handled. Reading past the end gives 0: a peer's short list is no
/// trap.
package struct NumberList {
    let base: UnsafeBufferPointer<Int64>

    package init(_ base: UnsafeBufferPointer<Int64>) { self.base = base }

    package var count: Int { base.count }

    package subscript(_ position: Int) -> Int64 { position >= 0 && position < base.count ? base[position] : 0 }
}

/// Byte strings of a call; valid while its frame is being handled. Reading past the end gives an empty view.
package struct ViewList {
    let base: UnsafeBufferPointer<ByteView>

    package init(_ base: UnsafeBufferPointer<ByteView>) { self.base = base }

    package var count: Int { base.count }

    package subscript(_ position: Int) -> ByteView {
        position >= 0 && position < base.count ? base[position] : ByteView(start: nil, count: 0)
    }
}

/// `ActorCall` as it lies in its frame.
package struct ActorCallView {
    package var method: Method
    package var database: UInt8
    package var key: ByteView
    package var flags: UInt32
    package var numbers: NumberList
    package var arguments: ViewList

    package init(
        method: Method, database: UInt8, key: ByteView, flags: UInt32, numbers: NumberList, arguments: ViewList
    ) {
        self.method = method
        self.database = database
        self.key = key
        self.flags = flags
        self.numbers = numbers
        self.arguments = arguments
    }

    /// Redis has sixteen; records of collections are called as if they had one too.
    @inline(__always)
    static func isDatabase(_ number: UInt64) -> Bool { number < 16 || number == CollectionID.callDatabase }
}

/// `RecordOperation` as it lies in its frame.
package struct RecordOperationView {
    package enum Kind: UInt64 { case get = 0, put = 1, delete = 2, scan = 3 }

    package var kind = Kind.get
    package var collection = CollectionID(rawValue: 0)
    package var key = ByteView(start: nil, count: 0)
    package var value = ByteView(start: nil, count: 0)
    package var limit = 0
    package var onlyIfAbsent = false

    package init() {}
}

/// What an invocation asks for.
package enum OperationView {
    case call(ActorCallView)
    case record(RecordOperationView)
    case batch(CallBatchView)
    case step(TransactionStepView)
    /// An encoded `HomeOperation`, for the node itself.
    case home(ByteView)
    /// A method, database or operation that this version does not know: answered as unsupported.
    case unknown
}

/// `Invocation` as it lies in its frame.
package struct InvocationView {
    package var id: UInt64 = 0
    package var connection: UInt64 = 0
    package var slot: UInt32 = 0
    package var deadlineMilliseconds: UInt32 = 0
    package var principal = ByteView(start: nil, count: 0)
    package var trace = ByteView(start: nil, count: 0)
    package var transaction: UInt64 = 0
    package var consistency: UInt32 = 0
    package var isIdempotent = false
    package var operation = OperationView.unknown
    /// One of `deadlineMilliseconds` to `isIdempotent` is there, or a scope, or it is for the node itself: who has none
    /// is asked nothing more.
    package var hasTerms = false
    /// It reads at a time, or is in an open transaction: see `scope`.
    package var hasScope = false
    /// The message itself, for whoever has to keep it.
    package var encoded = ByteView(start: nil, count: 0)
    /// What stands before `encoded` and its length in a batch.
    package static let tag: UInt8 = 6 << 3 | 2
    /// The message without its id, which our encoder writes first: to send the same under another id.
    package var body: ByteView {
        var reader = ByteReader(encoded)
        guard id != 0, reader.varint() == 1 << 3, reader.varint() != nil else { return encoded }
        return ByteView(rebasing: encoded[reader.offset...])
    }

    package init() {}
}

/// Gathers the invocations of one tick for one node. The caller sends `message` and calls `reset`.
package struct InvocationBatchEncoder: ~Copyable {
    private var buffer = ByteBuffer(capacity: 16384)
    /// The fields of the call being appended that most calls have not.
    private var terms = ByteBuffer(capacity: 64)
    /// Invocations appended since `reset`.
    package private(set) var count = 0
    private let session: UInt64

    /// `session` identifies the sender's stream; it goes into every batch.
    package init(session: UInt64) { self.session = session }

    package var isEmpty: Bool { count == 0 }

    /// The encoded `InvocationBatch`; valid until the next mutation.
    package var message: ByteView { buffer.readable }

    package mutating func reset() {
        buffer.removeAll()
        buffer.trim(to: 1 << 20)
        count = 0
    }

    /// Opens the batch; required before the first `append`.
    package mutating func begin(bookmark: Timestamp, schemaVersion: UInt64, mapEpoch: MapEpoch, route: UInt64 = 0) {
        if session != 0 {
            buffer.append(1 << 3 | 1)
            buffer.append(littleEndian: session)
        }
        if bookmark.rawValue != 0 {
            buffer.append(2 << 3 | 1)
            buffer.append(littleEndian: bookmark.rawValue)
        }
        if schemaVersion != 0 {
            buffer.append(3 << 3)
            buffer.append(varint: schemaVersion)
        }
        if mapEpoch.rawValue != 0 {
            buffer.append(4 << 3)
            buffer.append(varint: mapEpoch.rawValue)
        }
        if route != 0 {
            buffer.append(5 << 3)
            buffer.append(varint: route)
        }
    }

    /// Appends an invocation as it was encoded before (`InvocationView.body`), under another id.
    package mutating func append(id: UInt64, body: ByteView) {
        buffer.append(6 << 3 | 2)
        buffer.append(varint: UInt64(1 + varintSize(id) + body.count))
        buffer.append(1 << 3)
        buffer.append(varint: id)
        buffer.append(body)
        count += 1
    }

    /// Exchanges the bytes with those of another encoder, for whoever must keep what was sent.
    package mutating func swapBytes(with other: inout ByteBuffer) {
        swap(&buffer, &other)
        count = 0
    }

    /// Appends a call of an actor's method.
    package mutating func append(
        id: UInt64, connection: UInt64, slot: UInt32, method: Method, database: UInt8, key: ByteView, flags: UInt32,
        numbers: UnsafeBufferPointer<Int64>, arguments: UnsafeBufferPointer<ByteView>
    ) {
        let size = ActorCallSize(method, database, key, flags, numbers, arguments)
        beginInvocation(id: id, connection: connection, slot: slot, operationSize: size.total)
        beginOperation(16, size.total)
        buffer.append(size, method, database, key, flags, numbers, arguments)
    }

    /// Appends calls that are done at once or not at all, as a `CallBatchEncoder` has encoded them.
    package mutating func append(id: UInt64, connection: UInt64, slot: UInt32, batch: ByteView) {
        beginInvocation(id: id, connection: connection, slot: slot, operationSize: batch.count)
        beginOperation(18, batch.count)
        buffer.append(batch)
    }

    /// Appends a call of an actor's method, as `CallBatchEncoder.encode` has written it, that reads at a time or is in
    /// an open transaction; 0: it is in none.
    package mutating func append(
        id: UInt64, connection: UInt64, slot: UInt32, transaction: UInt64, scope: InvocationScope, call: ByteView
    ) {
        beginScoped(id: id, connection: connection, slot: slot, transaction, scope, operationSize: call.count)
        beginOperation(16, call.count)
        buffer.append(call)
    }

    /// The same of calls that are done at once or not at all.
    package mutating func append(
        id: UInt64, connection: UInt64, slot: UInt32, transaction: UInt64, scope: InvocationScope, batch: ByteView
    ) {
        beginScoped(id: id, connection: connection, slot: slot, transaction, scope, operationSize: batch.count)
        beginOperation(18, batch.count)
        buffer.append(batch)
    }

    private mutating func beginScoped(
        id: UInt64, connection: UInt64, slot: UInt32, _ transaction: UInt64, _ scope: InvocationScope,
        operationSize: Int
    ) {
        terms.removeAll()
        if transaction != 0 {
            terms.append(7 << 3 | 1)
            terms.append(littleEndian: transaction)
        }
        scope.appendField(to: &terms)
        beginInvocation(
            id: id, connection: connection, slot: slot, operationSize: operationSize, termsSize: terms.count)
        buffer.append(terms.readable)
    }

    /// Appends a step of a transaction.
    package mutating func append(id: UInt64, connection: UInt64, slot: UInt32, step: TransactionStep) {
        var message = ByteBuffer(capacity: 64)
        step.encode(into: &message)
        beginInvocation(id: id, connection: connection, slot: slot, operationSize: message.count)
        beginOperation(19, message.count)
        buffer.append(message.readable)
    }

    /// Appends a command of a transaction whose home is the node, as `HomeOperation.encode` has written it.
    package mutating func append(id: UInt64, connection: UInt64, slot: UInt32, principal: ByteView, home: ByteView) {
        terms.removeAll()
        if principal.count != 0 { terms.append(delimited: principal, tag: 5 << 3 | 2) }
        beginInvocation(
            id: id, connection: connection, slot: slot, operationSize: home.count, termsSize: terms.count)
        buffer.append(terms.readable)
        beginOperation(20, home.count)
        buffer.append(home)
    }

    /// Appends a direct record operation.
    package mutating func append(id: UInt64, slot: UInt32, record: RecordOperationView) {
        var size = 0
        if record.kind.rawValue != 0 { size += 2 }
        let collection = UInt64(record.collection.rawValue), limit = UInt64(max(record.limit, 0))
        if collection != 0 { size += 1 + varintSize(collection) }
        if record.key.count != 0 { size += 1 + delimitedSize(record.key.count) }
        if record.value.count != 0 { size += 1 + delimitedSize(record.value.count) }
        if limit != 0 { size += 1 + varintSize(limit) }
        if record.onlyIfAbsent { size += 2 }
        beginInvocation(id: id, connection: 0, slot: slot, operationSize: size)

        beginOperation(17, size)
        if record.kind.rawValue != 0 {
            buffer.append(1 << 3)
            buffer.append(UInt8(record.kind.rawValue))
        }
        if collection != 0 {
            buffer.append(2 << 3)
            buffer.append(varint: collection)
        }
        if record.key.count != 0 { buffer.append(delimited: record.key, tag: 3 << 3 | 2) }
        if record.value.count != 0 { buffer.append(delimited: record.value, tag: 4 << 3 | 2) }
        if limit != 0 {
            buffer.append(5 << 3)
            buffer.append(varint: limit)
        }
        if record.onlyIfAbsent {
            buffer.append(6 << 3)
            buffer.append(1)
        }
    }

    /// Writes tag and length of field 6 and the invocation's own fields, up to its terms of `termsSize` bytes and the
    /// operation of `operationSize`.
    @inline(__always)
    private mutating func beginInvocation(
        id: UInt64, connection: UInt64, slot: UInt32, operationSize: Int, termsSize: Int = 0
    ) {
        var size = 2 + delimitedSize(operationSize) + termsSize
        if id != 0 { size += 1 + varintSize(id) }
        if connection != 0 { size += 1 + varintSize(connection) }
        if slot != 0 { size += 1 + varintSize(UInt64(slot)) }
        buffer.append(6 << 3 | 2)
        buffer.append(varint: UInt64(size))
        if id != 0 {
            buffer.append(1 << 3)
            buffer.append(varint: id)
        }
        if connection != 0 {
            buffer.append(2 << 3)
            buffer.append(varint: connection)
        }
        if slot != 0 {
            buffer.append(3 << 3)
            buffer.append(varint: UInt64(slot))
        }
        count += 1
    }

    @inline(__always) private func delimitedSize(_ count: Int) -> Int { varintSize(UInt64(count)) + count }

    /// Writes tag and length of the operation with that number: from 16 on a tag takes two bytes.
    @inline(__always) private mutating func beginOperation(_ field: UInt8, _ size: Int) {
        buffer.append(field << 3 & 0x7F | 2 | 0x80)
        buffer.append(1)
        buffer.append(varint: UInt64(size))
    }
}

/// Walks an `InvocationBatch` in its frame, one invocation at a time, without copying.
///
/// One object serves a stream for its whole life: its tables of numbers and arguments are reused, so the views of an
/// invocation are valid only until the next one is read.
package final class InvocationBatchDecoder {
    private var numbers: UnsafeMutablePointer<Int64>, numberCapacity = 64, numberCount = 0
    private var arguments: UnsafeMutablePointer<ByteView>, argumentCapacity = 64, argumentCount = 0

    /// Header of the batch being read. Senders put it first: a frame where a field of it follows an invocation is
    /// refused, because the invocation has been handed out without it.
    package private(set) var session: UInt64 = 0
    package private(set) var bookmark = Timestamp.zero
    package private(set) var schemaVersion: UInt64 = 0
    package private(set) var mapEpoch = MapEpoch(rawValue: 0)
    package private(set) var route: UInt64 = 0

    package init() {
        numbers = .allocate(capacity: numberCapacity)
        arguments = .allocate(capacity: argumentCapacity)
    }

    deinit {
        numbers.deallocate()
        arguments.deallocate()
    }

    /// Calls `body` for each invocation of the frame, in order. A malformed frame throws after the invocations that
    /// precede the damage were handed out: what was evaluated stands, the stream must be closed.
    package func decode(_ frame: ByteView, _ body: (borrowing InvocationView) -> Void) throws(DatabaseError) {
        (session, bookmark, schemaVersion, mapEpoch, route) = (0, .zero, 0, MapEpoch(rawValue: 0), 0)
        var reader = ByteReader(frame), isHeader = true
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 6 << 3 | 2:
                guard let message = reader.delimited() else { throw Wire.malformed }
                isHeader = false
                let invocation = try invocation(message)
                body(invocation)
            case 1 << 3 | 1:
                guard isHeader, let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                session = value
            case 2 << 3 | 1:
                guard isHeader, let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                bookmark = Timestamp(rawValue: value)
            case 3 << 3:
                guard isHeader, let value = reader.varint() else { throw Wire.malformed }
                schemaVersion = value
            case 4 << 3:
                guard isHeader, let value = reader.varint() else { throw Wire.malformed }
                mapEpoch = MapEpoch(rawValue: value)
            case 5 << 3:
                guard isHeader, let value = reader.varint() else { throw Wire.malformed }
                route = value
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
    }

    private func invocation(_ message: ByteView) throws(DatabaseError) -> InvocationView {
        var view = InvocationView()
        view.encoded = message
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 16 << 3 | 2:
                guard let message = reader.delimited() else { throw Wire.malformed }
                view.operation = try call(message)
            case 17 << 3 | 2:
                guard let message = reader.delimited() else { throw Wire.malformed }
                view.operation = try record(message)
            case 18 << 3 | 2:
                guard let message = reader.delimited() else { throw Wire.malformed }
                view.operation = if let batch = try CallBatchView(message, self) { .batch(batch) } else { .unknown }
            case 19 << 3 | 2:
                guard let message = reader.delimited() else { throw Wire.malformed }
                view.operation = if let step = try TransactionStepView(message) { .step(step) } else { .unknown }
            case 20 << 3 | 2:
                guard let message = reader.delimited() else { throw Wire.malformed }
                (view.operation, view.hasTerms) = (.home(message), true)
            case 1 << 3, 2 << 3, 3 << 3, 4 << 3, 8 << 3, 9 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                switch tag >> 3 {
                case 1: view.id = value
                case 2: view.connection = value
                case 3: view.slot = UInt32(truncatingIfNeeded: value)
                case let field:
                    view.hasTerms = true
                    switch field {
                    case 4: view.deadlineMilliseconds = UInt32(truncatingIfNeeded: value)
                    case 8: view.consistency = UInt32(truncatingIfNeeded: value)
                    default: view.isIdempotent = value != 0
                    }
                }
            case 5 << 3 | 2:
                guard let value = reader.delimited() else { throw Wire.malformed }
                view.principal = value
                view.hasTerms = true
            case 6 << 3 | 2:
                guard let value = reader.delimited() else { throw Wire.malformed }
                view.trace = value
                view.hasTerms = true
            case 7 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                view.transaction = value
                view.hasTerms = true
            case 15 << 3 | 2:
                guard let scope = reader.delimited() else { throw Wire.malformed }
                _ = try InvocationScope(scope)  // Intact; who needs it asks `scope`.
                (view.hasScope, view.hasTerms) = (true, true)
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        return view
    }

    func call(_ message: ByteView) throws(DatabaseError) -> OperationView {
        var method: UInt64 = 0, database: UInt64 = 0, flags: UInt64 = 0
        var key = ByteView(start: nil, count: 0)
        numberCount = 0
        argumentCount = 0
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3, 2 << 3, 4 << 3, 5 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                switch tag >> 3 {
                case 1: method = value
                case 2: database = value
                case 4: flags = value
                default: append(number: unZigZag(value))  // Unpacked: legal for a decoder to meet.
                }
            case 3 << 3 | 2:
                guard let value = reader.delimited() else { throw Wire.malformed }
                key = value
            case 5 << 3 | 2:
                guard let packed = reader.delimited() else { throw Wire.malformed }
                var list = ByteReader(packed)
                while !list.isAtEnd {
                    guard let value = list.varint() else { throw Wire.malformed }
                    append(number: unZigZag(value))
                }
            case 6 << 3 | 2:
                guard let value = reader.delimited() else { throw Wire.malformed }
                append(argument: value)
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        guard ActorCallView.isDatabase(database), let raw = UInt32(exactly: method), let known = Method(rawValue: raw)
        else {
            return .unknown
        }
        return .call(
            ActorCallView(
                method: known, database: UInt8(database), key: key, flags: UInt32(truncatingIfNeeded: flags),
                numbers: NumberList(UnsafeBufferPointer(start: numbers, count: numberCount)),
                arguments: ViewList(UnsafeBufferPointer(start: arguments, count: argumentCount))))
    }

    private func record(_ message: ByteView) throws(DatabaseError) -> OperationView {
        var view = RecordOperationView()
        var kind: UInt64 = 0
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3, 2 << 3, 5 << 3, 6 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                switch tag >> 3 {
                case 1: kind = value
                case 2: view.collection = CollectionID(rawValue: UInt32(truncatingIfNeeded: value))
                case 5: view.limit = Int(value & 0xFFFF_FFFF)
                default: view.onlyIfAbsent = value != 0
                }
            case 3 << 3 | 2:
                guard let value = reader.delimited() else { throw Wire.malformed }
                view.key = value
            case 4 << 3 | 2:
                guard let value = reader.delimited() else { throw Wire.malformed }
                view.value = value
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        guard let known = RecordOperationView.Kind(rawValue: kind) else { return .unknown }
        view.kind = known
        return .record(view)
    }

    @inline(__always) private func append(number: Int64) {
        if numberCount == numberCapacity {
            let grown = UnsafeMutablePointer<Int64>.allocate(capacity: numberCapacity * 2)
            grown.moveInitialize(from: numbers, count: numberCount)
            numbers.deallocate()
            (numbers, numberCapacity) = (grown, numberCapacity * 2)
        }
        numbers[numberCount] = number
        numberCount += 1
    }

    @inline(__always) private func append(argument: ByteView) {
        if argumentCount == argumentCapacity {
            let grown = UnsafeMutablePointer<ByteView>.allocate(capacity: argumentCapacity * 2)
            grown.moveInitialize(from: arguments, count: argumentCount)
            arguments.deallocate()
            (arguments, argumentCapacity) = (grown, argumentCapacity * 2)
        }
        arguments[argumentCount] = argument
        argumentCount += 1
    }
}
