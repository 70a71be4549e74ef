import Base
import Contracts

/// The moment that a client wants to read at (CLIENT ASOF).
package enum ReadMoment: Hashable, Sendable {
    /// Everything acknowledged so far, and nothing later.
    case now
    /// So many milliseconds before that.
    case ago(UInt64)
    case at(Timestamp)

    /// Numbers from here on are timestamps as CLIENT ASOF answers them, lower ones are milliseconds since 1970: those
    /// of the year 6429, and timestamps of January 1970.
    private static let firstTimestamp: UInt64 = 1 << 47
    private static let units: [(Character, UInt64)] = [("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]

    /// `now`, `-5s` (or ms, m, h, d), milliseconds since 1970, or a timestamp as it was answered before.
    init(parsing word: ByteView) throws(DatabaseError) {
        let text = word.text.lowercased()
        if text == "now" {
            self = .now
        } else if text.hasPrefix("-"), let milliseconds = Self.span(text.dropFirst()) {
            self = .ago(milliseconds)
        } else if let number = word.decimal, number > 0 {
            let value = UInt64(number)
            self = .at(
                value < Self.firstTimestamp ? Timestamp(milliseconds: value) : Timestamp(rawValue: value))
        } else {
            throw DatabaseError(
                .invalidArgument,
                "a moment is NOW, a time span like -5s, milliseconds since 1970, or what CLIENT ASOF has answered")
        }
    }

    private static func span(_ text: Substring) -> UInt64? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }, unit = text.dropFirst(digits.count)
        guard let count = UInt64(digits) else { return nil }
        if unit == "ms" { return count }
        guard let size = units.first(where: { String($0.0) == unit })?.1 else { return nil }
        let (product, isTooLarge) = count.multipliedReportingOverflow(by: size)
        return isTooLarge ? nil : product
    }

    /// The timestamp of the moment, if `now` is everything acknowledged so far.
    func timestamp(now: Timestamp) throws(DatabaseError) -> Timestamp {
        switch self {
        case .now: return now
        case .ago(let milliseconds):
            guard milliseconds < now.milliseconds else {
                throw DatabaseError(.snapshotTooOld, "there was nothing at that time")
            }
            return Timestamp(rawValue: now.rawValue - milliseconds << 16)
        case .at(let timestamp):
            guard timestamp <= now else { throw DatabaseError(.invalidArgument, "that time has not come yet") }
            return timestamp
        }
    }
}

extension RESPCommand {
    /// CLIENT ASOF [moment | OFF]
    static let clientAsOf = RESPCommand(
        "client|asof", -2, [.noScript, .loading, .stale, .unqueueable], .connection, acl: .connection, since: "7.0.0",
        summary: "Read what was there at a moment, and nothing later"
    ) { words, session, reply throws(DatabaseError) in
        guard words.count <= 3 else { throw .syntaxError }
        if words.count == 2 {
            guard let moment = session.asOf else { return reply.appendNull(session.version) }
            return reply.appendInteger(Int64(bitPattern: moment.rawValue))
        }
        if words.matches(2, "off") {
            session.asOf = nil
            return reply.append("+OK\r\n")
        }
        let moment = try ReadMoment(parsing: words[2])
        guard !session.isInteractive else {
            throw DatabaseError(.invalidArgument, "CLIENT ASOF in a transaction is not allowed")
        }
        guard session.mayReadPast else {
            throw DatabaseError(.invalidArgument, "CLIENT ASOF while keys are watched is not allowed")
        }
        session.postpone(.findMoment(session.nextToken, moment)) { _ in }
    }
}

// What is past cannot be changed: a connection that reads at a moment is refused writes, and WATCH, because what it
// compares is of now.
extension RESPSession {
    /// What a command of a connection that reads the past is answered with instead; nil: it may be carried out.
    func refusalOfPast(_ command: RESPCommand, _ words: Words) -> String? {
        var row = command
        if case .container = command.body, words.count > 1, let found = command.subcommand(words[1]) { row = found }
        let isRefused = row.flags.contains(.write) || row === RESPCommand.watch || row === RESPCommand.clientTransaction
        guard isRefused else { return nil }
        return DatabaseError(
            .readOnly, "This connection reads the past (CLIENT ASOF): it cannot change or watch anything"
        ).respText
    }

    /// The time up to which everything is acknowledged is known, or cannot be told.
    package func found<Sink: SessionSink>(
        _ token: UInt64, _ moment: ReadMoment, now: Result<Timestamp, DatabaseError>, output: inout ByteBuffer,
        to sink: Sink
    ) {
        guard wait == .other(token) else { return }
        do throws(DatabaseError) {
            let time = try moment.timestamp(now: try now.get())
            asOf = time
            pendingAnswer = { $0.appendInteger(Int64(bitPattern: time.rawValue)) }
            finish(token, output: &output, to: sink)
        } catch {
            finish(token, error: error, output: &output, to: sink)
        }
    }
}
