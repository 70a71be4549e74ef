import Base
import Glibc

/// What a client may send; exceeding a limit is a protocol error, which closes the connection.
package struct RESPLimits: Hashable, Sendable {
    package var words = 1 << 20
    package var bulk = 8 << 20
    /// All bytes of one command.
    package var command = 64 << 20
    /// A line: an inline command or the header of an array or a bulk.
    package var line = 64 << 10

    package init() {}

    /// Before authentication nobody may make the gateway hold more than this.
    package static let unauthenticated: RESPLimits = {
        var limits = RESPLimits()
        limits.words = 10
        limits.bulk = 16 << 10
        limits.command = 32 << 10
        limits.line = 16 << 10
        return limits
    }()
}

/// Why a byte stream is not RESP; the text is that of Redis.
package enum RESPProtocolError: Error, Hashable, Sendable {
    case arrayLength, bulkLength, unauthenticatedArrayLength, unauthenticatedBulkLength
    case longInline, longArrayHeader, longBulkHeader, longCommand
    case unbalancedQuotes
    case notABulk(UInt8)

    package var message: String {
        switch self {
        case .arrayLength: "Protocol error: invalid multibulk length"
        case .bulkLength: "Protocol error: invalid bulk length"
        case .unauthenticatedArrayLength: "Protocol error: unauthenticated multibulk length"
        case .unauthenticatedBulkLength: "Protocol error: unauthenticated bulk length"
        case .longInline: "Protocol error: too big inline request"
        case .longArrayHeader: "Protocol error: too big mbulk count string"
        case .longBulkHeader: "Protocol error: too big bulk count string"
        case .longCommand: "Protocol error: too big multibulk request"
        case .unbalancedQuotes: "Protocol error: unbalanced quotes in request"
        case .notABulk(let byte):
            "Protocol error: expected '$', got '" + String(UnicodeScalar(byte == 13 || byte == 10 ? 32 : byte)) + "'"
        }
    }
}

/// Finds one command at a time in the read buffer: an array of bulk strings, or an inline command.
///
/// Incremental: what was found of a command that is not complete yet is kept, as offsets from the command's first
/// byte, so a large bulk that arrives in pieces costs one comparison a piece and the buffer may move between calls.
/// The words are not copied; quoted inline words are unescaped where they lie (they only get shorter). A complete
/// command stays readable as `words` until the next call of `parse`, which forgets it: the caller drops `consumed`
/// bytes in between.
package final class RESPParser {
    /// Whether a whole command is there.
    package enum Outcome: Hashable, Sendable { case command, incomplete }
    private enum State { case start, array, complete }

    private var table: UnsafeMutablePointer<Word>
    private var capacity = 8
    private var state = State.start
    /// Words found so far, and words still to come.
    private var count = 0
    private var missing = 0
    /// The length of the bulk whose header has been read, or -1.
    private var bulk = -1
    /// Everything before this offset has been read.
    private var position = 0
    /// No line end lies between `position` and this offset.
    private var scanned = 0

    package init() { table = .allocate(capacity: capacity) }

    deinit { table.deallocate() }

    /// The completed command is to be given once more.
    private var isKept = false

    /// Makes the next `parse` give the completed command again, for a caller who leaves its bytes where they are.
    /// Inline words have been unescaped in place: they cannot be read twice.
    package func keep() { isKept = state == .complete }

    /// Bytes of the command that `parse` just completed.
    package var consumed: Int { state == .complete ? position : 0 }

    /// The words of the completed command; `base` is where it begins.
    @inline(__always) package func words(at base: UnsafeRawPointer) -> Words {
        Words(base: base, table: UnsafePointer(table), count: count)
    }

    /// Goes on with the command that begins at `bytes`. An empty line or array is a command without words.
    package func parse(
        _ bytes: UnsafeMutableRawBufferPointer, limits: borrowing RESPLimits, isAuthenticated: Bool = true
    ) throws(RESPProtocolError) -> Outcome {
        if state == .complete {
            if isKept {
                isKept = false
                return .command
            }
            reset()
        }
        guard let base = bytes.baseAddress, bytes.count > position else { return .incomplete }
        if state == .start {
            guard base.load(as: UInt8.self) == UInt8(ascii: "*") else {
                return try parseInline(base, bytes.count, limits)
            }
            guard let line = try header(base, bytes.count, limits.line, .longArrayHeader) else { return .incomplete }
            guard let length = line.decimal, length <= Int64(limits.words) || !isAuthenticated else {
                throw .arrayLength
            }
            guard length <= Int64(limits.words) else { throw .unauthenticatedArrayLength }
            missing = Int(max(length, 0))
            state = .array
        }
        while missing > 0 {
            if bulk < 0 {
                guard position < bytes.count else { return .incomplete }
                guard base.load(fromByteOffset: position, as: UInt8.self) == UInt8(ascii: "$") else {
                    // Redis looks for the line end first, so a client sees the same error at the same time.
                    guard try header(base, bytes.count, limits.line, .longBulkHeader) != nil else { return .incomplete }
                    throw .notABulk(base.load(fromByteOffset: headerStart, as: UInt8.self))
                }
                guard let line = try header(base, bytes.count, limits.line, .longBulkHeader) else { return .incomplete }
                guard let length = line.decimal, length >= 0, length <= Int64(limits.bulk) || !isAuthenticated else {
                    throw .bulkLength
                }
                guard length <= Int64(limits.bulk) else { throw .unauthenticatedBulkLength }
                guard position + Int(length) <= limits.command else { throw .longCommand }
                bulk = Int(length)
            }
            guard bytes.count - position >= bulk + 2 else { return .incomplete }
            push(Word(offset: UInt32(truncatingIfNeeded: position), length: UInt32(truncatingIfNeeded: bulk)))
            position += bulk + 2
            scanned = position
            bulk = -1
            missing -= 1
        }
        state = .complete
        return .command
    }

    private func reset() {
        state = .start
        count = 0
        missing = 0
        bulk = -1
        position = 0
        scanned = 0
        if capacity > 1024 {  // After a giant, an idle connection costs little again.
            table.deallocate()
            capacity = 8
            table = .allocate(capacity: capacity)
        }
    }

    /// Where the header that was just read began.
    private var headerStart = 0

    /// The digits of the header line at `position`, which is then behind the line; nil while it is incomplete.
    @inline(__always)
    private func header(
        _ base: UnsafeMutableRawPointer, _ end: Int, _ limit: Int, _ tooLong: RESPProtocolError
    ) throws(RESPProtocolError) -> ByteView? {
        var probe = max(scanned, position)
        while probe < end, base.load(fromByteOffset: probe, as: UInt8.self) != 13 { probe += 1 }
        guard probe + 1 < end else {  // The byte after CR must have arrived, too.
            scanned = probe
            if probe == end, end - position > limit { throw tooLong }
            return nil
        }
        headerStart = position
        let digits = ByteView(start: base + position + 1, count: max(probe - position - 1, 0))
        position = probe + 2
        scanned = position
        return digits
    }

    @inline(__always) private func push(_ word: Word) {
        if count == capacity { growTable() }
        table[count] = word
        count += 1
    }

    private func growTable() {
        let larger = UnsafeMutablePointer<Word>.allocate(capacity: capacity * 2)
        larger.update(from: table, count: count)
        table.deallocate()
        table = larger
        capacity *= 2
    }

    // MARK: Inline commands

    private func parseInline(
        _ base: UnsafeMutableRawPointer, _ available: Int, _ limits: borrowing RESPLimits
    ) throws(RESPProtocolError) -> Outcome {
        guard let newline = memchr(base + scanned, 10, available - scanned) else {
            scanned = available
            if available > limits.line { throw .longInline }
            return .incomplete
        }
        let lineEnd = base.distance(to: newline)
        guard lineEnd <= limits.line else { throw .longInline }
        var end = lineEnd
        if end > 0, base.load(fromByteOffset: end - 1, as: UInt8.self) == 13 { end -= 1 }
        try splitWords(UnsafeMutableRawBufferPointer(start: base, count: end))
        position = lineEnd + 1
        state = .complete
        return .command
    }

    /// Splits a line as `redis-cli` and Redis do: at white space, with "quoted \x41 words" and 'plain quoted' ones.
    private func splitWords(_ line: UnsafeMutableRawBufferPointer) throws(RESPProtocolError) {
        var source = 0
        while true {
            while source < line.count, Self.isSpace(line[source]) { source += 1 }
            guard source < line.count, line[source] != 0 else { return }
            let start = source
            var target = source
            while source < line.count, !Self.isSpace(line[source]), line[source] != 0 {
                let byte = line[source]
                if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "'") {
                    try unquote(line, byte, &source, &target)
                    guard source == line.count || Self.isSpace(line[source]) || line[source] == 0 else {
                        throw .unbalancedQuotes
                    }
                } else {
                    line[target] = byte
                    target += 1
                    source += 1
                }
            }
            push(Word(offset: UInt32(truncatingIfNeeded: start), length: UInt32(truncatingIfNeeded: target - start)))
        }
    }

    private func unquote(
        _ line: UnsafeMutableRawBufferPointer, _ quote: UInt8, _ source: inout Int, _ target: inout Int
    ) throws(RESPProtocolError) {
        source += 1
        while source < line.count, line[source] != 0 {
            var byte = line[source]
            if byte == quote {
                source += 1
                return
            }
            if byte == UInt8(ascii: "\\"), source + 1 < line.count {
                let next = line[source + 1]
                if quote == UInt8(ascii: "'") {
                    if next == quote {
                        byte = next
                        source += 1
                    }
                } else if next == UInt8(ascii: "x"), source + 3 < line.count, let high = Self.hex(line[source + 2]),
                    let low = Self.hex(line[source + 3])
                {
                    byte = high << 4 | low
                    source += 3
                } else {
                    byte = Self.escape(next)
                    source += 1
                }
            }
            line[target] = byte
            target += 1
            source += 1
        }
        throw .unbalancedQuotes
    }

    private static func escape(_ byte: UInt8) -> UInt8 {
        switch byte {
        case UInt8(ascii: "n"): 10
        case UInt8(ascii: "r"): 13
        case UInt8(ascii: "t"): 9
        case UInt8(ascii: "b"): 8
        case UInt8(ascii: "a"): 7
        default: byte
        }
    }

    private static func isSpace(_ byte: UInt8) -> Bool { byte == 32 || (byte >= 9 && byte <= 13) }

    private static func hex(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 48...57: byte - 48
        case 65...70: byte - 55
        case 97...102: byte - 87
        default: nil
        }
    }
}
