import Base

/// Gathers replies. Each reply is self-contained bytes, so a caller may move the tail that one call wrote into another
/// encoder: that is how the replies that wait for a commit are told from those that may leave at once.
///
/// The buffers lie behind a pointer that nobody else has: a change in place of a class's own field is registered with
/// Swift's runtime at its begin and end, which costs more than appending a reply.
package final class ReplyBatchEncoder {
    private struct Buffers: ~Copyable {
        var replies = ByteBuffer(capacity: 16384)
        var list = ByteBuffer(capacity: 1024)
        var count = 0
    }

    private let buffers: UnsafeMutablePointer<Buffers>
    private var listID: UInt64 = 0

    package init() {
        buffers = .allocate(capacity: 1)
        buffers.initialize(to: Buffers())
    }

    deinit {
        buffers.deinitialize(count: 1)
        buffers.deallocate()
    }

    private var replies: ByteBuffer {
        @inline(__always) _read { yield buffers.pointee.replies }
        @inline(__always) _modify { yield &buffers.pointee.replies }
    }
    private var list: ByteBuffer {
        @inline(__always) _read { yield buffers.pointee.list }
        @inline(__always) _modify { yield &buffers.pointee.list }
    }
    /// Replies appended since `reset`.
    package private(set) var count: Int {
        @inline(__always) get { buffers.pointee.count }
        @inline(__always) set { buffers.pointee.count = newValue }
    }

    package var isEmpty: Bool { replies.isEmpty }

    /// Bytes gathered so far: a mark for `move`, and what back-pressure counts.
    package var size: Int { replies.count }

    package func reset() {
        replies.removeAll()
        replies.trim(to: 1 << 20)
        count = 0
    }

    /// Writes the `ReplyBatch` with its header.
    package func write(bookmark: Timestamp, mapEpoch: MapEpoch, into buffer: inout ByteBuffer) {
        if bookmark.rawValue != 0 {
            buffer.append(1 << 3 | 1)
            buffer.append(littleEndian: bookmark.rawValue)
        }
        if mapEpoch.rawValue != 0 {
            buffer.append(2 << 3)
            buffer.append(varint: mapEpoch.rawValue)
        }
        buffer.append(replies.readable)
    }

    /// Moves what was appended since `size` was `mark` to the end of `other`.
    package func moveTail(from mark: Int, to other: ReplyBatchEncoder) {
        let view = replies.readable
        guard mark >= 0, mark < view.count else { return }
        other.replies.append(ByteView(rebasing: view[mark...]))
        other.count += 1
        count -= 1
        replies.truncate(to: mark)
    }

    /// What was appended since `size` was `mark`, encoded; valid until the next change.
    package func tail(from mark: Int) -> ByteView {
        let view = replies.readable
        return ByteView(rebasing: view[min(max(mark, 0), view.count)...])
    }

    /// Appends a reply as another encoder has encoded it (`tail`): that of the same invocation, made before.
    package func append(encoded reply: ByteView) {
        replies.append(reply)
        count += 1
    }

    /// The same as the reply to another invocation. False when it is none: then nothing was appended.
    package func append(encoded reply: ByteView, as id: UInt64) -> Bool {
        var reader = ByteReader(reply)
        guard reader.varint() == 3 << 3 | 2, let message = reader.delimited() else { return false }
        // The last of two fields counts.
        append(message, 1 + varintSize(id)) {
            $0.append(1 << 3)
            $0.append(varint: id)
        }
        return true
    }

    /// The same of a reply that was decoded.
    package func append(_ reply: borrowing ReplyView, as id: UInt64) {
        append(reply.body, 1 + varintSize(id)) {
            $0.append(1 << 3)
            $0.append(varint: id)
        }
    }

    /// Moves everything to the end of `other`.
    package func moveAll(to other: ReplyBatchEncoder) {
        other.replies.append(replies.readable)
        other.count += count
        reset()
    }

    /// The replies gathered so far, as a batch without header.
    var gathered: ByteView { replies.readable }

    /// Appends an encoded reply with `count` bytes of further fields.
    func append(_ reply: ByteView, _ count: Int, _ fields: (inout ByteBuffer) -> Void) {
        replies.append(3 << 3 | 2)
        replies.append(varint: UInt64(reply.count + count))
        replies.append(reply)
        fields(&replies)
        self.count += 1
    }

    /// The ids of the replies gathered so far, in order; for telling their callers that they will get something else.
    package func forEachID(_ body: (UInt64) -> Void) {
        var decoder = ReplyBatchDecoder()
        try? decoder.decode(replies.readable) { body($0.id) }  // Our own bytes: they decode.
    }

    /// Replies null to the invocation `id`.
    package func null(_ id: UInt64) { begin(id, .null, payload: 0) }

    /// Replies that it is done.
    package func ok(_ id: UInt64) { begin(id, .ok, payload: 0) }

    package func integer(_ id: UInt64, _ value: Int64) {
        let coded = zigZag(value)
        begin(id, .integer, payload: coded == 0 ? 0 : 1 + varintSize(coded))
        if coded != 0 {
            replies.append(3 << 3)
            replies.append(varint: coded)
        }
    }

    package func number(_ id: UInt64, _ value: Double) {
        begin(id, .number, payload: value.bitPattern == 0 ? 0 : 9)
        if value.bitPattern != 0 {
            replies.append(4 << 3 | 1)
            replies.append(littleEndian: value.bitPattern)
        }
    }

    /// Replies bytes, copied into the batch.
    package func data(_ id: UInt64, _ value: ByteView) {
        begin(id, .data, payload: value.count == 0 ? 0 : 1 + varintSize(UInt64(value.count)) + value.count)
        if value.count != 0 {
            replies.append(5 << 3 | 2)
            replies.append(varint: UInt64(value.count))
            replies.append(value)
        }
    }

    /// Replies a failure. With `notLeader`, `leader` names the node that leads, as far as it is known.
    package func error(_ id: UInt64, _ error: DatabaseError, leader: NodeID? = nil) {
        let hint = zigZag(Int64(leader?.rawValue ?? 0))
        let message = Bytes(error.message.utf8)
        let code = UInt64(bitPattern: Int64(error.code.rawValue))
        let messageSize = message.isEmpty ? 0 : 1 + varintSize(UInt64(message.count)) + message.count
        let size = 1 + varintSize(code) + messageSize
        let hintSize = hint == 0 ? 0 : 1 + varintSize(hint)
        begin(id, .error, payload: hintSize + 1 + varintSize(UInt64(size)) + size)
        if hint != 0 {
            replies.append(3 << 3)
            replies.append(varint: hint)
        }
        replies.append(7 << 3 | 2)
        replies.append(varint: UInt64(size))
        replies.append(1 << 3)
        replies.append(varint: code)
        if !message.isEmpty {
            replies.append(2 << 3 | 2)
            replies.append(varint: UInt64(message.count))
            replies.append(message)
        }
    }

    /// Opens a list reply; `endList` completes it. Lists do not nest.
    package func beginList(_ id: UInt64) {
        listID = id
        list.removeAll()
    }

    /// Bytes of the open list so far.
    package var listSize: Int { list.count }

    /// Gives up the open list: nothing of it is sent.
    package func cancelList() { list.removeAll() }

    /// Adds an item to the open list.
    package func listNull() {
        list.append(6 << 3 | 2)
        list.append(0)
    }

    /// Adds an item to the open list.
    package func listInteger(_ value: Int64) {
        let coded = zigZag(value)
        list.append(6 << 3 | 2)
        list.append(UInt8(1 + varintSize(coded)))
        list.append(1 << 3)
        list.append(varint: coded)
    }

    /// Adds an item to the open list.
    package func listNumber(_ value: Double) {
        list.append(6 << 3 | 2)
        list.append(9)
        list.append(2 << 3 | 1)
        list.append(littleEndian: value.bitPattern)
    }

    /// Adds an item to the open list.
    package func listData(_ value: ByteView) {
        list.append(6 << 3 | 2)
        list.append(varint: UInt64(1 + varintSize(UInt64(value.count)) + value.count))
        list.append(3 << 3 | 2)
        list.append(varint: UInt64(value.count))
        list.append(value)
    }

    /// Makes the open list the reply.
    package func endList() {
        begin(listID, .list, payload: list.count)
        replies.append(list.readable)
        list.removeAll()
        list.trim(to: 1 << 20)
    }

    /// Replies to a batch of calls with their replies, which `calls` has gathered under the ids 0, 1, 2 … and loses.
    package func batch(_ id: UInt64, at timestamp: Timestamp, _ calls: ReplyBatchEncoder) {
        let coded = zigZag(Int64(bitPattern: timestamp.rawValue)), size = calls.size
        let codedSize = coded == 0 ? 0 : 1 + varintSize(coded)
        begin(id, .batch, payload: codedSize + (size == 0 ? 0 : 1 + varintSize(UInt64(size)) + size))
        if coded != 0 {
            replies.append(3 << 3)
            replies.append(varint: coded)
        }
        if size != 0 { replies.append(delimited: calls.gathered, tag: 5 << 3 | 2) }
        calls.reset()
    }

    @inline(__always) private func begin(_ id: UInt64, _ kind: ReplyView.Kind, payload: Int) {
        var size = payload
        if id != 0 { size += 1 + varintSize(id) }
        if kind != .null { size += 2 }
        replies.append(3 << 3 | 2)
        replies.append(varint: UInt64(size))
        if id != 0 {
            replies.append(1 << 3)
            replies.append(varint: id)
        }
        if kind != .null {
            replies.append(2 << 3)
            replies.append(kind.rawValue)
        }
        count += 1
    }
}

/// `Reply` as it lies in its frame; valid while the frame is being handled.
package struct ReplyView {
    package enum Kind: UInt8 {
        case null = 0, ok = 1, integer = 2, number = 3, data = 4, list = 5, error = 6, batch = 7
    }

    package var id: UInt64 = 0
    package var kind = Kind.null
    package var integer: Int64 = 0
    package var number: Double = 0
    package var data = ByteView(start: nil, count: 0)
    /// Items of a list, or replies of a batch, counted; walk them with `items` and `replies`.
    package var itemCount = 0
    var body = ByteView(start: nil, count: 0)
    var errorBody = ByteView(start: nil, count: 0)

    package init() {}

    /// One item of a list reply.
    package enum Item {
        case null
        case integer(Int64)
        case number(Double)
        case data(ByteView)
    }

    /// The items of a list, in order, decoded as they are walked. The decoder has checked their lengths.
    package struct Items {
        private var reader: ByteReader

        init(_ body: ByteView) { reader = ByteReader(body) }

        package mutating func next() -> Item? {
            while let tag = reader.varint() {
                if tag == 6 << 3 | 2 { return reader.delimited().flatMap(ReplyView.item) }
                guard Wire.skip(tag & 7, in: &reader) else { return nil }
            }
            return nil
        }
    }

    package var items: Items { Items(body) }

    /// The replies to the calls of a batch, in their order. The decoder has read them once.
    package struct Replies {
        private var reader: ByteReader

        init(_ batch: ByteView) { reader = ByteReader(batch) }

        package mutating func next() -> ReplyView? {
            while let tag = reader.varint() {
                if tag == 3 << 3 | 2 {
                    return reader.delimited().flatMap { try? ReplyBatchDecoder.reply($0, isInner: true) }
                }
                guard Wire.skip(tag & 7, in: &reader) else { return nil }
            }
            return nil
        }
    }

    package var replies: Replies { Replies(kind == .batch ? data : ByteView(start: nil, count: 0)) }

    /// Of a batch: the shard's timestamp of it.
    package var timestamp: Timestamp { Timestamp(rawValue: UInt64(bitPattern: integer)) }

    /// The code of `error`, without its message.
    package var errorCode: ErrorCode {
        var reader = ByteReader(errorBody)
        while let tag = reader.varint() {
            if tag == 1 << 3 {
                let value = reader.varint() ?? 0
                return ErrorCode(rawValue: Int32(truncatingIfNeeded: value)) ?? .internalFailure
            }
            guard Wire.skip(tag & 7, in: &reader) else { break }
        }
        return .internalFailure
    }

    /// Of a refusal as not the leader: who leads, if the node knew.
    package var leader: NodeID? { integer > 0 ? UInt32(exactly: integer).map { NodeID(rawValue: $0) } : nil }

    /// The failure of a reply of kind `error`; an unknown code from a newer node reads as `internalFailure`.
    package var error: DatabaseError {
        var code = ErrorCode.internalFailure, message = ""
        var reader = ByteReader(errorBody)
        while let tag = reader.varint() {
            if tag == 1 << 3, let value = reader.varint() {
                code = ErrorCode(rawValue: Int32(truncatingIfNeeded: value)) ?? .internalFailure
            } else if tag == 2 << 3 | 2, let text = reader.delimited() {
                message = String(decoding: text, as: UTF8.self)
            } else if !Wire.skip(tag & 7, in: &reader) {
                break
            }
        }
        return DatabaseError(code, message)
    }

    static func item(_ message: ByteView) -> Item? {
        var result = Item.null
        var reader = ByteReader(message)
        while let tag = reader.varint() {
            if tag == 3 << 3 | 2, let value = reader.delimited() {
                result = .data(value)
            } else if tag == 1 << 3, let value = reader.varint() {
                result = .integer(unZigZag(value))
            } else if tag == 2 << 3 | 1, let bits: UInt64 = reader.littleEndian() {
                result = .number(Double(bitPattern: bits))
            } else if !Wire.skip(tag & 7, in: &reader) {
                return nil
            }
        }
        return result
    }
}

/// Walks a `ReplyBatch` in its frame without copying.
package struct ReplyBatchDecoder {
    package private(set) var bookmark = Timestamp.zero
    package private(set) var mapEpoch = MapEpoch(rawValue: 0)

    package init() {}

    /// Calls `body` for each reply, in order; a malformed frame throws after those that precede the damage.
    package mutating func decode(_ frame: ByteView, _ body: (borrowing ReplyView) -> Void) throws(DatabaseError) {
        var reader = ByteReader(frame)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 3 << 3 | 2:
                guard let message = reader.delimited() else { throw Wire.malformed }
                let reply = try Self.reply(message)
                body(reply)
            case 1 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                bookmark = Timestamp(rawValue: value)
            case 2 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                mapEpoch = MapEpoch(rawValue: value)
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
    }

    /// How many replies a batch's reply holds. They are numbered from 0, and none of them is a batch itself.
    private static func count(_ batch: ByteView) throws(DatabaseError) -> Int {
        var reader = ByteReader(batch), count = 0
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            if tag == 3 << 3 | 2 {
                guard let message = reader.delimited(), try reply(message, isInner: true).id == UInt64(count) else {
                    throw Wire.malformed
                }
                count += 1
            } else {
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        return count
    }

    static func reply(_ message: ByteView, isInner: Bool = false) throws(DatabaseError) -> ReplyView {
        var view = ReplyView()
        view.body = message
        var reader = ByteReader(message)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                view.id = value
            case 2 << 3:
                guard let value = reader.varint(), let raw = UInt8(exactly: value),
                    let kind = ReplyView.Kind(rawValue: raw)
                else { throw Wire.malformed }
                view.kind = kind
            case 3 << 3:
                guard let value = reader.varint() else { throw Wire.malformed }
                view.integer = unZigZag(value)
            case 4 << 3 | 1:
                guard let bits: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                view.number = Double(bitPattern: bits)
            case 5 << 3 | 2:
                guard let value = reader.delimited() else { throw Wire.malformed }
                view.data = value
            case 6 << 3 | 2:
                guard let value = reader.delimited(), ReplyView.item(value) != nil else { throw Wire.malformed }
                view.itemCount += 1
            case 7 << 3 | 2:
                guard let value = reader.delimited() else { throw Wire.malformed }
                view.errorBody = value
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        if view.kind == .batch {
            guard !isInner else { throw Wire.malformed }
            view.itemCount = try count(view.data)
        }
        return view
    }
}
