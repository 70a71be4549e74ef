import Base
import Contracts

/// Bytes of replies that have not left a stream yet, by client connection of its gateway.
///
/// A stream is first in, first out, so it is enough to note for each large reply where it ends in the stream, and to
/// take it off when so much has left. Small replies are not noted: they are bounded over all connections together.
/// Replies that wait for the log are overtaken by others and noted as if they were not; the sums hold nevertheless.
struct ReplyShares {
    private struct Mark {
        let end: Int, connection: UInt64, bytes: Int
    }

    private var marks = Queue<Mark>()
    private var bytes: [UInt64: Int] = [:]
    /// Bytes handed to the stream since its start.
    private var sent = 0

    /// What the connection has outstanding.
    subscript(connection: UInt64) -> Int { bytes[connection] ?? 0 }

    /// The stream took replies of that many bytes.
    mutating func didSend(_ count: Int) { sent &+= count }

    /// A reply of `count` bytes for `connection` is the last of `unsent` bytes that the stream has not got yet.
    mutating func add(_ count: Int, for connection: UInt64, unsent: Int) {
        marks.append(Mark(end: sent &+ unsent, connection: connection, bytes: count))
        bytes[connection, default: 0] += count
    }

    /// Forgets what is outstanding.
    mutating func removeAll() {
        marks = Queue()
        bytes.removeAll(keepingCapacity: true)
    }

    /// Takes off what has left: all but `queued` bytes in the stream and `unsent` bytes before it.
    mutating func settle(queued: Int, unsent: Int) {
        guard !marks.isEmpty else { return }
        let left = queued == 0 && unsent == 0 ? Int.max : sent &- queued
        while let mark = marks.first, mark.end <= left {
            _ = marks.popFirst()
            let rest = self[mark.connection] - mark.bytes
            bytes[mark.connection] = rest > 0 ? rest : nil
        }
    }
}

/// Calls of client connections that have to wait for their replies to leave: a line for each connection, served in
/// turn, so that calls of one connection stay in order and none waits for ever.
struct WaitingCalls {
    /// Bytes of calls that may wait, of one connection and of all.
    static let lineLimit = 64 << 20, limit = 256 << 20

    /// The calls of one connection, each encoded as a batch of one.
    final class Line {
        let connection: UInt64
        fileprivate var calls = ByteBuffer(capacity: 1024)
        /// When each of them came.
        fileprivate var arrivals = Queue<UInt64>()

        fileprivate init(_ connection: UInt64) { self.connection = connection }

        /// When the first call came, on the loop's clock; 0 in an empty line.
        var firstArrival: UInt64 { arrivals.first ?? 0 }

        /// The first call; valid until the line changes.
        var first: ByteView? {
            var reader = ByteReader(calls.readable)
            guard reader.varint() != nil, reader.delimited() != nil else { return nil }
            return ByteView(rebasing: calls.readable[..<reader.offset])
        }
    }

    private var lines: [UInt64: Line] = [:]
    private var turns = Queue<Line>()
    private var size = 0

    var isEmpty: Bool { lines.isEmpty }

    /// Connections that wait.
    var count: Int { turns.count }

    func contains(_ connection: UInt64) -> Bool { lines[connection] != nil }

    /// Takes a call, as encoded by its caller, that came at `arrival`; false if there is no room for it.
    mutating func append(_ call: ByteView, of connection: UInt64, arrival: UInt64) -> Bool {
        guard size + call.count <= Self.limit, (lines[connection]?.calls.count ?? 0) + call.count <= Self.lineLimit
        else {
            return false
        }
        let line = lines[connection] ?? Line(connection)
        let before = line.calls.count
        line.calls.append(InvocationView.tag)
        line.calls.append(varint: UInt64(call.count))
        line.calls.append(call)
        line.arrivals.append(arrival)
        size += line.calls.count - before
        if before == 0 {
            lines[connection] = line
            turns.append(line)
        }
        return true
    }

    /// The line whose turn it is; `putBack` must follow.
    mutating func next() -> Line? { turns.popFirst() }

    /// Drops the first call of the line.
    mutating func removeFirst(of line: Line) {
        guard let call = line.first else { return }
        size -= call.count
        line.calls.consume(call.count)
        _ = line.arrivals.popFirst()
    }

    /// The line waits for another turn, or is done.
    mutating func putBack(_ line: Line) {
        if line.calls.isEmpty { lines[line.connection] = nil } else { turns.append(line) }
    }

    mutating func removeAll() { self = WaitingCalls() }

    /// All calls, encoded as batches, line by line.
    func forEach(_ body: (ByteView) -> Void) {
        for line in lines.values { body(line.calls.readable) }
    }
}
