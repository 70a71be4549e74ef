import Glibc
import Synchronization

/// How much a log line matters.
package enum LogLevel: Int, CaseIterable, Comparable, Sendable {
    case debug, info, warning, error

    package static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }

    package var name: String {
        switch self {
        case .debug: "debug"
        case .info: "info"
        case .warning: "warning"
        case .error: "error"
        }
    }
}

/// A field of a log line; numbers and booleans stay such in JSON.
package enum LogValue: Hashable, Sendable, ExpressibleByStringInterpolation, ExpressibleByIntegerLiteral,
    ExpressibleByBooleanLiteral
{
    case text(String), integer(Int64), number(Double), bool(Bool)

    package init(stringLiteral value: String) { self = .text(value) }
    package init(integerLiteral value: Int64) { self = .integer(value) }
    package init(booleanLiteral value: Bool) { self = .bool(value) }

    /// Any integer; clamped to 64 bits.
    package static func count(_ value: some BinaryInteger) -> LogValue { .integer(Int64(clamping: value)) }
    /// Anything that describes itself: ids, errors, addresses.
    package static func describing(_ value: some CustomStringConvertible) -> LogValue { .text(value.description) }
    package static func describing(_ error: any Error) -> LogValue { .text("\(error)") }
}

/// Writes one line per event, by one write(2), so that lines of several threads and processes do not mix.
///
/// For events of a process's life (started, connected, failed), never per command: building a line costs microseconds.
/// The message is constant text; what varies goes into fields, so that logs can be searched and counted:
///
///     logger.info("listening", ["address": "127.0.0.1:6379", "backlog": 511])
///     2026-11-21T01:40:37.123Z info  resp-gw listening address=127.0.0.1:6379 backlog=511
///     {"time":"2026-11-21T01:40:37.123Z","level":"info","process":"resp-gw","message":"listening",…}
package struct Logger: Sendable {
    package typealias Fields = KeyValuePairs<String, LogValue>

    /// How lines are written.
    package enum Format: String, CaseIterable, Sendable { case text, json }

    /// What all loggers of a process share.
    private final class Output: Sendable {
        let process: String
        let format: Format
        let clock: any Clock
        let level: Atomic<Int>
        let write: @Sendable (ByteView) -> Void

        init(
            _ process: String, _ format: Format, _ level: LogLevel, _ clock: any Clock,
            _ write: @escaping @Sendable (ByteView) -> Void
        ) {
            self.process = process
            self.format = format
            self.clock = clock
            self.level = Atomic(level.rawValue)
            self.write = write
        }
    }

    private let output: Output
    /// Fields of this logger, rendered once, each with its separator in front.
    private let context: String

    /// A logger of the process called `process`; `write` gets whole lines and is standard error unless a test says
    /// otherwise.
    package init(
        process: String, format: Format = .text, level: LogLevel = .info, clock: any Clock = SystemClock(),
        write: @escaping @Sendable (ByteView) -> Void = Logger.standardError
    ) {
        output = Output(process, format, level, clock, write)
        context = ""
    }

    private init(_ output: Output, _ context: String) {
        self.output = output
        self.context = context
    }

    /// A logger that says nothing, for tests.
    package static let silent = Logger(process: "silent", level: .error, write: { _ in })

    /// Lines below this level are dropped; shared by all loggers made from the same one, changeable while running.
    package var level: LogLevel {
        get { LogLevel(rawValue: output.level.load(ordering: .relaxed)) ?? .info }
        nonmutating set { output.level.store(newValue.rawValue, ordering: .relaxed) }
    }

    /// A logger that adds `fields` to each of its lines.
    package func with(_ fields: Fields) -> Logger {
        var context = context
        for (name, value) in fields { render(name, value, into: &context) }
        return Logger(output, context)
    }

    /// A logger for one request: its lines can be found by the id.
    package func with(requestID: String) -> Logger { with(["request_id": .text(requestID)]) }

    /// For whoever looks for a fault; off by default.
    package func debug(_ message: String, _ fields: @autoclosure () -> Fields = [:]) { log(.debug, message, fields()) }
    /// Something happened as it should.
    package func info(_ message: String, _ fields: @autoclosure () -> Fields = [:]) { log(.info, message, fields()) }
    /// Something went wrong and was coped with.
    package func warning(_ message: String, _ fields: @autoclosure () -> Fields = [:]) {
        log(.warning, message, fields())
    }
    /// Something went wrong and somebody must act.
    package func error(_ message: String, _ fields: @autoclosure () -> Fields = [:]) { log(.error, message, fields()) }

    /// Writes a line unless its level is too low; fields are evaluated only then.
    package func log(_ level: LogLevel, _ message: String, _ fields: @autoclosure () -> Fields = [:]) {
        guard level >= self.level else { return }
        let time = formatTime(milliseconds: output.clock.wallMilliseconds())
        var line = ""
        switch output.format {
        case .text:
            let padding = level.name.utf8.count < 5 ? " " : ""
            line = "\(time) \(level.name)\(padding) \(output.process) "
            line += message.contains("\n") ? Self.quoted(message) : message
        case .json:
            line = "{\"time\":\"\(time)\",\"level\":\"\(level.name)\",\"process\":"
            line += Self.quoted(output.process) + ",\"message\":" + Self.quoted(message)
        }
        line += context
        for (name, value) in fields() { render(name, value, into: &line) }
        line += output.format == .json ? "}\n" : "\n"
        line.withUTF8 { output.write(ByteView($0)) }
    }

    private func render(_ name: String, _ value: LogValue, into line: inout String) {
        let json = output.format == .json
        line += json ? ",\(Self.quoted(name)):" : " \(name)="
        switch value {
        case .text(let text): line += json || Self.needsQuotes(text) ? Self.quoted(text) : text
        case .integer(let integer): line += String(integer)
        case .number(let number): line += number.isFinite || !json ? String(number) : "null"
        case .bool(let bool): line += bool ? "true" : "false"
        }
    }

    private static func needsQuotes(_ text: String) -> Bool {
        text.isEmpty || text.utf8.contains { $0 <= 0x20 || $0 == 0x22 || $0 == 0x3d || $0 == 0x5c || $0 == 0x7f }
    }

    /// A JSON string; control characters cannot forge a second line.
    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            case "\r": result += "\\r"
            case "\t": result += "\\t"
            default:
                if scalar.value < 0x20 || scalar.value == 0x7f {
                    let digits = String(scalar.value, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
                } else {
                    result.unicodeScalars.append(scalar)
                }
            }
        }
        return result + "\""
    }

    /// Standard error; a line is lost rather than waited for when nobody reads it.
    package static let standardError: @Sendable (ByteView) -> Void = { line in
        _ = Glibc.write(2, line.baseAddress, line.count)
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-11-21T01:40:37.123Z`.
package func formatTime(milliseconds: UInt64) -> String {
    func pad(_ value: UInt64, _ width: Int) -> String {
        let digits = String(value)
        return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
    }
    let seconds = milliseconds / 1000
    let (year, month, day) = civilDate(daysSince1970: seconds / 86400)
    let time = "\(pad(seconds / 3600 % 24, 2)):\(pad(seconds / 60 % 60, 2)):\(pad(seconds % 60, 2))"
    return "\(pad(year, 4))-\(pad(month, 2))-\(pad(day, 2))T\(time).\(pad(milliseconds % 1000, 3))Z"
}

/// Year, month and day of a day number, after Howard Hinnant's `civil_from_days`: years are counted from March, so
/// that the leap day is a year's last.
func civilDate(daysSince1970 days: UInt64) -> (year: UInt64, month: UInt64, day: UInt64) {
    let shifted = days + 719_468
    let era = shifted / 146_097
    let dayOfEra = shifted % 146_097
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let marchMonth = (5 * dayOfYear + 2) / 153
    let month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9
    return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * marchMonth + 2) / 5 + 1)
}
