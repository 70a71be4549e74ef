import Base

/// Gathers what one tick has for one peer. The caller sends what `write` gives and calls `reset`.
///
/// Plain heartbeats and their replies become rows, about eight bytes a group.
package struct PeerBatchEncoder: ~Copyable {
    private var messages = ByteBuffer(capacity: 16384)
    private var heartbeats = ByteBuffer(capacity: 256)
    private var heartbeatReplies = ByteBuffer(capacity: 256)
    private var closed = ByteBuffer(capacity: 64)
    /// Messages appended since `reset`, heartbeats and closed timestamps among them.
    package private(set) var count = 0

    package init() {}

    package var isEmpty: Bool { count == 0 }

    /// Bytes gathered so far.
    package var size: Int { messages.count + heartbeats.count + heartbeatReplies.count + closed.count }

    /// Forgets what was gathered.
    package mutating func reset() {
        messages.removeAll()
        messages.trim(to: 1 << 20)
        heartbeats.removeAll()
        heartbeats.trim(to: 1 << 16)
        heartbeatReplies.removeAll()
        heartbeatReplies.trim(to: 1 << 16)
        closed.removeAll()
        closed.trim(to: 1 << 16)
        count = 0
    }

    /// Appends the `PeerBatch`, with a question for the receiver's clock if there is one.
    package borrowing func write(clock: PeerClock? = nil, into buffer: inout ByteBuffer) {
        buffer.reserve(size + 64)
        if let clock {
            buffer.append(2 << 3 | 2)
            buffer.append(UInt8(clock.encodedSize))
            clock.append(to: &buffer)
        }
        buffer.append(messages.readable)
        if !heartbeats.isEmpty {
            buffer.append(4 << 3 | 2)
            buffer.append(varint: UInt64(heartbeats.count))
            buffer.append(heartbeats.readable)
        }
        if !heartbeatReplies.isEmpty {
            buffer.append(5 << 3 | 2)
            buffer.append(varint: UInt64(heartbeatReplies.count))
            buffer.append(heartbeatReplies.readable)
        }
        if !closed.isEmpty {
            buffer.append(6 << 3 | 2)
            buffer.append(varint: UInt64(closed.count))
            buffer.append(closed.readable)
        }
    }

    /// Appends a closed timestamp.
    package mutating func append(_ note: ClosedTimestamp) {
        closed.append(varint: UInt64(note.shard.rawValue))
        closed.append(varint: note.index.rawValue)
        closed.append(varint: note.milliseconds)
        count += 1
    }

    /// Appends a message. `payload` writes the payloads of its entries, one behind the other; it must only append, and
    /// as many bytes as the sizes say. Else, or with too many entries, nothing is appended, and the answer is false.
    @discardableResult
    package mutating func append(
        _ message: borrowing PeerMessage, payload: (inout ByteBuffer) -> Void = { _ in }
    ) -> Bool {
        switch message.kind {
        case .heartbeat where message.isPlain:
            heartbeats.append(varint: UInt64(message.shard.rawValue))
            heartbeats.append(varint: message.term.rawValue)
            heartbeats.append(varint: message.commit.rawValue)
            heartbeats.append(varint: message.round)
            count += 1
            return true
        case .heartbeatReply where message.isPlain:
            heartbeatReplies.append(varint: UInt64(message.shard.rawValue))
            heartbeatReplies.append(varint: message.term.rawValue)
            heartbeatReplies.append(varint: message.round)
            count += 1
            return true
        case .append, .appendReply, .heartbeat, .heartbeatReply, .preVoteRequest, .preVoteReply, .voteRequest,
            .voteReply, .timeoutNow, .snapshot:
            return appendGroupMessage(message, payload)
        }
    }

    private mutating func appendGroupMessage(
        _ message: borrowing PeerMessage, _ payload: (inout ByteBuffer) -> Void
    ) -> Bool {
        guard message.entries.count <= PeerEntries.limit else { return false }
        let start = messages.count
        let sizes = EntrySizes(message.entries)
        var size = number(UInt64(message.shard.rawValue)) + 2 + number(message.term.rawValue)
        size += number(message.index.rawValue) + number(message.logTerm.rawValue) + number(message.commit.rawValue)
        size += number(message.round) + number(UInt64(message.flags.rawValue)) + (message.hint == 0 ? 0 : 9)
        size += delimited(message.membership.count) + sizes.encoded
        messages.append(3 << 3 | 2)
        messages.append(varint: UInt64(size))
        put(1 << 3, UInt64(message.shard.rawValue))
        put(2 << 3, UInt64(message.kind.rawValue))
        put(3 << 3, message.term.rawValue)
        put(4 << 3, message.index.rawValue)
        put(5 << 3, message.logTerm.rawValue)
        put(6 << 3, message.commit.rawValue)
        put(7 << 3, message.round)
        put(8 << 3, UInt64(message.flags.rawValue))
        if message.hint != 0 {
            messages.append(9 << 3 | 1)
            messages.append(littleEndian: message.hint)
        }
        if message.membership.count != 0 {
            messages.append(10 << 3 | 2)
            messages.append(varint: UInt64(message.membership.count))
            messages.append(message.membership)
        }
        if sizes.encoded != 0 { putEntries(message.entries, sizes) }
        let before = messages.count
        if sizes.payload != 0 { payload(&messages) }
        guard messages.count - before == sizes.payload else {
            messages.truncate(to: start)
            return false
        }
        count += 1
        return true
    }

    private mutating func putEntries(_ entries: PeerEntries, _ sizes: EntrySizes) {
        if sizes.terms != 0 {
            messages.append(11 << 3 | 2)
            messages.append(varint: UInt64(sizes.terms))
            for run in entries.terms {
                messages.append(varint: run.count)
                messages.append(varint: run.term)
            }
        }
        if sizes.sizes != 0 {
            messages.append(12 << 3 | 2)
            messages.append(varint: UInt64(sizes.sizes))
            for size in entries.sizes { messages.append(varint: UInt64(size)) }
        }
        if sizes.kinds != 0 {
            messages.append(13 << 3 | 2)
            messages.append(varint: UInt64(sizes.kinds))
            for exception in entries.kinds {
                messages.append(varint: exception.position)
                messages.append(varint: exception.kind)
            }
        }
        if sizes.payload != 0 {
            messages.append(14 << 3 | 2)
            messages.append(varint: UInt64(sizes.payload))
        }
    }

    @inline(__always) private mutating func put(_ tag: UInt8, _ value: UInt64) {
        guard value != 0 else { return }
        messages.append(tag)
        messages.append(varint: value)
    }

    /// What the fields of the entries take.
    private struct EntrySizes {
        var terms = 0, sizes = 0, kinds = 0, payload = 0
        var encoded: Int { delimited(terms) + delimited(sizes) + delimited(kinds) + delimited(payload) }

        @inline(__always) init(_ entries: PeerEntries) {
            for run in entries.terms { terms += varintSize(run.count) + varintSize(run.term) }
            for size in entries.sizes {
                sizes += varintSize(UInt64(size))
                payload += Int(size)
            }
            for exception in entries.kinds { kinds += varintSize(exception.position) + varintSize(exception.kind) }
        }
    }
}

/// Bytes of a field with a one-byte tag; none for a default value.
@inline(__always) private func number(_ value: UInt64) -> Int { value == 0 ? 0 : 1 + varintSize(value) }

@inline(__always) private func delimited(_ count: Int) -> Int { count == 0 ? 0 : 1 + varintSize(UInt64(count)) + count }
