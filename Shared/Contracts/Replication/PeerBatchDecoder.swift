import Base

/// Walks a `PeerBatch` in its frame, one message at a time, without copying.
///
/// One object serves a stream for its whole life: its tables are reused, so what a message shows is valid only until
/// the next one is read. Messages of a kind that this version does not know are left out and counted.
package final class PeerBatchDecoder {
    private var terms: [PeerEntries.TermRun] = []
    private var sizes: [UInt32] = []
    private var kinds: [PeerEntries.KindException] = []

    /// Of the batch being read.
    package private(set) var hello: PeerHello?
    package private(set) var clock: PeerClock?
    package private(set) var closed: [ClosedTimestamp] = []
    /// Messages of unknown kind, over the decoder's life.
    package private(set) var unknownMessages: UInt64 = 0

    package init() {}

    /// Calls `body` for each message, plain heartbeats last. A malformed frame throws after the messages that precede
    /// the damage were handed out: Raft copes with what is lost, the stream must be closed.
    package func decode(_ frame: ByteView, _ body: (borrowing PeerMessage) -> Void) throws(DatabaseError) {
        hello = nil
        clock = nil
        if !closed.isEmpty { closed.removeAll(keepingCapacity: closed.count < 1024) }
        var reader = ByteReader(frame)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 3 << 3 | 2:
                guard let view = reader.delimited() else { throw Wire.malformed }
                try group(view, body)
            case 4 << 3 | 2:
                guard let rows = reader.delimited() else { throw Wire.malformed }
                try heartbeats(rows, body)
            case 5 << 3 | 2:
                guard let rows = reader.delimited() else { throw Wire.malformed }
                try heartbeatReplies(rows, body)
            case 2 << 3 | 2:
                guard let view = reader.delimited() else { throw Wire.malformed }
                clock = try PeerClock(decoding: view)
            case 1 << 3 | 2:
                guard let view = reader.delimited() else { throw Wire.malformed }
                hello = try PeerHello(decoding: view)
            case 6 << 3 | 2:
                guard let rows = reader.delimited() else { throw Wire.malformed }
                try readClosed(rows)
            case 4 << 3, 5 << 3, 6 << 3:
                throw Wire.malformed  // Rows that are not packed: nobody writes them, and they would have no rows.
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
    }

    private func heartbeats(_ rows: ByteView, _ body: (borrowing PeerMessage) -> Void) throws(DatabaseError) {
        var reader = ByteReader(rows)
        while !reader.isAtEnd {
            var message = PeerMessage(shard: try shard(&reader), kind: .heartbeat, term: try term(&reader))
            message.commit = LogIndex(rawValue: try number(&reader))
            message.round = try number(&reader)
            body(message)
        }
    }

    private func heartbeatReplies(_ rows: ByteView, _ body: (borrowing PeerMessage) -> Void) throws(DatabaseError) {
        var reader = ByteReader(rows)
        while !reader.isAtEnd {
            var message = PeerMessage(shard: try shard(&reader), kind: .heartbeatReply, term: try term(&reader))
            message.round = try number(&reader)
            body(message)
        }
    }

    private func readClosed(_ rows: ByteView) throws(DatabaseError) {
        var reader = ByteReader(rows)
        while !reader.isAtEnd {
            closed.append(
                ClosedTimestamp(
                    shard: try shard(&reader), index: LogIndex(rawValue: try number(&reader)),
                    milliseconds: try number(&reader)))
        }
    }

    private func group(_ view: ByteView, _ body: (borrowing PeerMessage) -> Void) throws(DatabaseError) {
        var message = PeerMessage(shard: ShardID(rawValue: 0), kind: .append, term: Term(rawValue: 0))
        var kind: UInt64 = 0
        terms.removeAll(keepingCapacity: true)
        sizes.removeAll(keepingCapacity: true)
        kinds.removeAll(keepingCapacity: true)
        var reader = ByteReader(view)
        while !reader.isAtEnd {
            guard let tag = reader.varint() else { throw Wire.malformed }
            switch tag {
            case 1 << 3: message.shard = try shard(&reader)
            case 2 << 3: kind = try number(&reader)
            case 3 << 3: message.term = try term(&reader)
            case 4 << 3: message.index = LogIndex(rawValue: try number(&reader))
            case 5 << 3: message.logTerm = try term(&reader)
            case 6 << 3: message.commit = LogIndex(rawValue: try number(&reader))
            case 7 << 3: message.round = try number(&reader)
            case 8 << 3: message.flags = .init(rawValue: UInt32(truncatingIfNeeded: try number(&reader)))
            case 9 << 3 | 1:
                guard let value: UInt64 = reader.littleEndian() else { throw Wire.malformed }
                message.hint = value
            case 10 << 3 | 2: message.membership = try bytes(&reader)
            case 11 << 3 | 2: try readTerms(try bytes(&reader))
            case 12 << 3 | 2: try readSizes(try bytes(&reader))
            case 13 << 3 | 2: try readKinds(try bytes(&reader))
            case 14 << 3 | 2: message.entries.payload = try bytes(&reader)
            case 11 << 3, 12 << 3, 13 << 3: throw Wire.malformed  // Not packed: nobody writes that.
            default:
                guard tag >> 3 != 0, Wire.skip(tag & 7, in: &reader) else { throw Wire.malformed }
            }
        }
        guard let raw = UInt8(exactly: kind), let known = PeerMessage.Kind(rawValue: raw) else {
            unknownMessages &+= 1
            return
        }
        message.kind = known
        guard entriesAgree(message) else { throw Wire.malformed }
        terms.withUnsafeBufferPointer { terms in
            sizes.withUnsafeBufferPointer { sizes in
                kinds.withUnsafeBufferPointer { kinds in
                    message.entries.terms = terms
                    message.entries.sizes = sizes
                    message.entries.kinds = kinds
                    body(message)
                }
            }
        }
    }

    /// Whether the tables describe the same entries, and such as a log can hold behind `message.index`.
    private func entriesAgree(_ message: borrowing PeerMessage) -> Bool {
        var bytes = 0
        for size in sizes { bytes &+= Int(size) }  // Of a frame: no sum of that many numbers overflows.
        guard bytes == message.entries.payload.count else { return false }
        var left = UInt64(sizes.count)
        var lowest = message.logTerm.rawValue
        for run in terms {
            guard run.count > 0, run.count <= left, run.term >= lowest, run.term <= message.term.rawValue else {
                return false
            }
            left -= run.count
            lowest = run.term + 1
        }
        guard left == 0 else { return false }
        var next: UInt64 = 0
        for exception in kinds {
            guard exception.position >= next, exception.position < UInt64(sizes.count) else { return false }
            next = exception.position + 1
        }
        return true
    }

    private func readTerms(_ packed: ByteView) throws(DatabaseError) {
        var reader = ByteReader(packed)
        while !reader.isAtEnd {
            guard terms.count < PeerEntries.limit else { throw Wire.malformed }
            terms.append(.init(count: try number(&reader), term: try number(&reader)))
        }
    }

    private func readSizes(_ packed: ByteView) throws(DatabaseError) {
        var reader = ByteReader(packed)
        while !reader.isAtEnd {
            guard sizes.count < PeerEntries.limit, let value = reader.varint(), let size = UInt32(exactly: value) else {
                throw Wire.malformed
            }
            sizes.append(size)
        }
    }

    private func readKinds(_ packed: ByteView) throws(DatabaseError) {
        var reader = ByteReader(packed)
        while !reader.isAtEnd {
            guard kinds.count < PeerEntries.limit else { throw Wire.malformed }
            kinds.append(.init(position: try number(&reader), kind: try number(&reader)))
        }
    }

    @inline(__always) private func number(_ reader: inout ByteReader) throws(DatabaseError) -> UInt64 {
        guard let value = reader.varint(), value <= PeerMessage.limit else { throw Wire.malformed }
        return value
    }

    @inline(__always) private func term(_ reader: inout ByteReader) throws(DatabaseError) -> Term {
        Term(rawValue: try number(&reader))
    }

    @inline(__always) private func shard(_ reader: inout ByteReader) throws(DatabaseError) -> ShardID {
        guard let value = reader.varint(), let raw = UInt32(exactly: value) else { throw Wire.malformed }
        return ShardID(rawValue: raw)
    }

    @inline(__always) private func bytes(_ reader: inout ByteReader) throws(DatabaseError) -> ByteView {
        guard let view = reader.delimited() else { throw Wire.malformed }
        return view
    }
}
