import Base
import DataModel

/// What a body takes out of arguments whose types were checked when the call was bound: a value of another case would
/// be a fault of ours, and reads as nothing.
extension Value {
    var string: String { if case .text(let text) = self { text } else { "" } }
    var flag: Bool { if case .bool(let flag) = self { flag } else { false } }
    var int: Int64 { if case .integer(let number) = self { number } else { 0 } }
    var double: Double { if case .float(let number) = self { number } else { 0 } }
    var exact: Decimal { if case .decimal(let number) = self { number } else { .zero } }
    var octets: Bytes { if case .bytes(let bytes) = self { bytes } else { [] } }
    var days: Int32 { if case .date(let days) = self { days } else { 0 } }
    var timeOfDay: Int64 { if case .time(let time) = self { time } else { 0 } }
    var moment: Int64 { if case .timestamp(let moment) = self { moment } else { 0 } }
    var interval: Interval { if case .interval(let interval) = self { interval } else { Interval() } }

    /// The time of day on its clock, and the seconds east of Greenwich.
    var zonedTime: (time: Int64, zone: Int32) {
        if case .timeWithZone(let time, let zone) = self { (time, zone) } else { (0, 0) }
    }

    /// So large that a plan should not carry it.
    var isLarge: Bool {
        switch self {
        case .text(let text): text.utf8.count > 1 << 16
        case .bytes(let bytes): bytes.count > 1 << 16
        case .json(let document): document.bytes.count > 1 << 16
        case .array(let array): array.elements.count > 1 << 12
        case .null, .bool, .integer, .float, .decimal, .uuid, .date, .time, .timeWithZone, .timestamp, .interval,
            .tuple:
            false
        }
    }
}

/// An error of the value types, as statements say it.
func translated<Result>(_ body: () throws(DatabaseError) -> Result) throws(StatementError) -> Result {
    do throws(DatabaseError) {
        return try body()
    } catch {
        throw error.code == .divisionByZero ? ArithmeticFunctions.divisionByZero : StatementError(error)
    }
}

/// What parameters are called, for those functions that are called so.
enum ParameterNames {
    static let names: [String: [String]] = [
        "make_interval": ["years", "months", "weeks", "days", "hours", "mins", "secs"],
        "make_date": ["year", "month", "day"], "make_time": ["hour", "min", "sec"],
        "make_timestamp": ["year", "month", "mday", "hour", "min", "sec"],
        "make_timestamptz": ["year", "month", "mday", "hour", "min", "sec", "timezone"],
        "parse_ident": ["str", "strict"], "jsonb_set": ["jsonb_in", "path", "replacement", "create_if_missing"],
        "jsonb_insert": ["jsonb_in", "path", "replacement", "insert_after"],
        "jsonb_set_lax": ["jsonb_in", "path", "replacement", "create_if_missing", "null_value_treatment"],
    ]

    /// How many parameters there are of which any may be left out: it is 0 then.
    static let defaults = ["make_interval": 7]
}
