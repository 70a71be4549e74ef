import Base
import DataModel

/// Clocks, and the arithmetic of dates, times, timestamps and intervals.
enum DateTimeFunctions {
    static let rows: [ScalarFunction] = clocks + dates + moments + times + intervals

    // MARK: Clocks

    private static let clocks: [ScalarFunction] =
        readings("now", "current_timestamp", "transaction_timestamp") { $0.transactionTime }
        + readings("statement_timestamp") { $0.statementTime } + [
            .row(
                "clock_timestamp", [], .timestampWithZone, ("clock_timestamp() IS NULL", "false"), volatility: .volatile
            ) { _, context throws(StatementError) in .timestamp(context.settings.clock()) },
            .row("timeofday", [], .text, ("timeofday() IS NULL", "false"), volatility: .volatile) {
                _, context throws(StatementError) in
                let picture = DatePicture("Dy Mon DD HH24:MI:SS.US YYYY TZ")
                let parts = DateParts(moment: context.settings.clock(), zone: context.settings.text.zone)
                return .text(try picture.text(of: parts))
            },
            .row("current_date", [], .date, ("current_date IS NULL", "false"), volatility: .stable) {
                _, context throws(StatementError) in .date(day(now(context)))
            },
            .row("localtimestamp", [], .timestamp, ("localtimestamp IS NULL", "false"), volatility: .stable) {
                _, context throws(StatementError) in .timestamp(now(context))
            },
            .row("localtime", [], .time, ("localtime IS NULL", "false"), volatility: .stable) {
                _, context throws(StatementError) in .time(DateTimeArithmetic.time(of: now(context)))
            },
            .row("current_time", [], .timeWithZone, ("current_time IS NULL", "false"), volatility: .stable) {
                _, context throws(StatementError) in
                zoned(context.settings.transactionTime, context.settings.text.zone)
            },
        ]

    private static func readings(_ names: String..., from time: @escaping @Sendable (EngineSettings) -> Int64)
        -> [ScalarFunction]
    {
        names.map { name in
            let call = name == "current_timestamp" ? name : "\(name)()"
            return .row(name, [], .timestampWithZone, ("\(call) IS NULL", "false"), volatility: .stable) {
                _, context throws(StatementError) in .timestamp(time(context.settings))
            }
        }
    }

    /// The start of the transaction, on the session's clock.
    static func now(_ context: ExecutionContext) -> Int64 {
        context.settings.text.zone.local(of: context.settings.transactionTime)
    }

    /// What the clocks of a zone show at a moment.
    static func zoned(_ moment: Int64, _ zone: ZoneRules) -> Value {
        let local = zone.local(of: moment)
        return .timeWithZone(
            microseconds: DateTimeArithmetic.time(of: local), zone: Int32(clamping: (local &- moment) / 1_000_000))
    }

    // MARK: Dates

    private static let dates: [ScalarFunction] = [
        .row("+", [.date, .int32], .date, ("'2024-02-28'::date + 2", "2024-03-01")) { a, _ throws(StatementError) in
            .date(try DateTimeArithmetic.adding(days: a[1].int, to: a[0].days))
        },
        .row("+", [.int32, .date], .date, ("2 + '2024-02-28'::date", "2024-03-01")) { a, _ throws(StatementError) in
            .date(try DateTimeArithmetic.adding(days: a[0].int, to: a[1].days))
        },
        .row("-", [.date, .int32], .date, ("'2024-03-01'::date - 2", "2024-02-28")) { a, _ throws(StatementError) in
            .date(try DateTimeArithmetic.adding(days: 0 &- a[1].int, to: a[0].days))
        },
        .row("-", [.date, .date], .int32, ("'2024-03-01'::date - '2024-02-01'::date", "29")) {
            a, _ throws(StatementError) in
            .integer(Int64(try DateTimeArithmetic.difference(a[0].days, a[1].days)))
        },
        .row("+", [.date, .interval], .timestamp, ("'2024-01-31'::date + '1 mon'::interval", "2024-02-29 00:00:00")) {
            a, _ throws(StatementError) in try moved(try midnight(a[0].days), a[1].interval)
        },
        .row("+", [.interval, .date], .timestamp, ("'1 mon'::interval + '2024-01-31'::date", "2024-02-29 00:00:00")) {
            a, _ throws(StatementError) in try moved(try midnight(a[1].days), a[0].interval)
        },
        .row("-", [.date, .interval], .timestamp, ("'2024-03-31'::date - '1 mon'::interval", "2024-02-29 00:00:00")) {
            a, _ throws(StatementError) in
            .timestamp(try DateTimeArithmetic.subtracting(a[1].interval, from: try midnight(a[0].days)))
        },
        .row("+", [.date, .time], .timestamp, ("'2024-01-01'::date + '10:20'::time", "2024-01-01 10:20:00")) {
            a, _ throws(StatementError) in try at(a[0].days, a[1].timeOfDay)
        },
        .row("+", [.time, .date], .timestamp, ("'10:20'::time + '2024-01-01'::date", "2024-01-01 10:20:00")) {
            a, _ throws(StatementError) in try at(a[1].days, a[0].timeOfDay)
        },
        .row(
            "+", [.date, .timeWithZone], .timestampWithZone,
            ("'2024-01-01'::date + '10:20+02'::timetz", "2024-01-01 08:20:00+00")
        ) { a, _ throws(StatementError) in try at(a[0].days, a[1].zonedTime.time, a[1].zonedTime.zone) },
        .row(
            "+", [.timeWithZone, .date], .timestampWithZone,
            ("'10:20+02'::timetz + '2024-01-01'::date", "2024-01-01 08:20:00+00")
        ) { a, _ throws(StatementError) in try at(a[1].days, a[0].zonedTime.time, a[0].zonedTime.zone) },
    ]

    private static func at(_ day: Int32, _ time: Int64, _ zone: Int32 = 0) throws(StatementError) -> Value {
        let midnight = try midnight(day)
        if midnight == .max || midnight == .min { return .timestamp(midnight) }
        return try moved(midnight, Interval(microseconds: time &- Int64(zone) &* 1_000_000))
    }

    private static func moved(_ moment: Int64, _ interval: Interval, _ zone: ZoneRules? = nil) throws(StatementError)
        -> Value
    {
        .timestamp(try DateTimeArithmetic.adding(interval, to: moment, zone: zone))
    }

    // MARK: Timestamps

    private static let moments: [ScalarFunction] = [DataType.timestamp, .timestampWithZone].flatMap {
        (type: DataType) -> [ScalarFunction] in
        let isZoned = type == .timestampWithZone
        let volatility: Volatility = isZoned ? .stable : .immutable
        let suffix = isZoned ? "+00" : ""
        let early = "'2024-01-31 10:00\(suffix)'::\(type.name)", result = "2024-02-29 11:00:00\(suffix)"
        @Sendable func zone(_ context: ExecutionContext) -> ZoneRules? { isZoned ? context.settings.text.zone : nil }
        return [
            .row("+", [type, .interval], type, ("\(early) + '1 mon 01:00'", result), volatility: volatility) {
                a, context throws(StatementError) in try moved(a[0].moment, a[1].interval, zone(context))
            },
            .row(
                "+", [.interval, type], type, ("'1 mon 01:00'::interval + \(early)", result), volatility: volatility
            ) { a, context throws(StatementError) in try moved(a[1].moment, a[0].interval, zone(context)) },
            .row(
                "-", [type, .interval], type,
                ("\(early) - '1 day 01:00'::interval", "2024-01-30 09:00:00\(suffix)"), volatility: volatility
            ) { a, context throws(StatementError) in
                .timestamp(
                    try DateTimeArithmetic.subtracting(a[1].interval, from: a[0].moment, zone: zone(context)))
            },
            .row("-", [type, type], .interval, ("\(early) - '2024-01-01 12:30\(suffix)'", "29 days 21:30:00")) {
                a, _ throws(StatementError) in
                .interval(try DateTimeArithmetic.difference(a[0].moment, a[1].moment))
            },
        ]
    }

    // MARK: Times

    private static let times: [ScalarFunction] = [
        .row("+", [.time, .interval], .time, ("'23:30'::time + '2 hours'::interval", "01:30:00")) {
            a, _ throws(StatementError) in
            .time(DateTimeArithmetic.adding(a[1].interval, toTime: a[0].timeOfDay))
        },
        .row("+", [.interval, .time], .time, ("'2 hours'::interval + '23:30'::time", "01:30:00")) {
            a, _ throws(StatementError) in
            .time(DateTimeArithmetic.adding(a[0].interval, toTime: a[1].timeOfDay))
        },
        .row(
            "+", [.interval, .timeWithZone], .timeWithZone, ("'2 hours'::interval + '23:30+02'::timetz", "01:30:00+02")
        ) {
            a, _ throws(StatementError) in
            let (time, zone) = a[1].zonedTime
            return .timeWithZone(
                microseconds: DateTimeArithmetic.adding(a[0].interval, toTime: time), zone: zone)
        },
        .row("-", [.time, .interval], .time, ("'01:30'::time - '2 hours'::interval", "23:30:00")) {
            a, _ throws(StatementError) in .time(before(a[1].interval, a[0].timeOfDay))
        },
        .row("-", [.time, .time], .interval, ("'10:00'::time - '08:15'::time", "01:45:00")) {
            a, _ throws(StatementError) in .interval(Interval(microseconds: a[0].timeOfDay &- a[1].timeOfDay))
        },
        .row(
            "+", [.timeWithZone, .interval], .timeWithZone, ("'23:30+02'::timetz + '2 hours'::interval", "01:30:00+02")
        ) {
            a, _ throws(StatementError) in
            let (time, zone) = a[0].zonedTime
            return .timeWithZone(
                microseconds: DateTimeArithmetic.adding(a[1].interval, toTime: time), zone: zone)
        },
        .row(
            "-", [.timeWithZone, .interval], .timeWithZone, ("'01:30+02'::timetz - '2 hours'::interval", "23:30:00+02")
        ) {
            a, _ throws(StatementError) in
            let (time, zone) = a[0].zonedTime
            return .timeWithZone(microseconds: before(a[1].interval, time), zone: zone)
        },
    ]

    private static func before(_ interval: Interval, _ time: Int64) -> Int64 {
        let part = interval.microseconds % Calendar.microsecondsPerDay
        return DateTimeArithmetic.adding(Interval(microseconds: -part), toTime: time)
    }

    // MARK: Intervals

    private static let intervals: [ScalarFunction] = [
        .row("+", [.interval, .interval], .interval, ("'1 mon'::interval + '2 days 03:00'", "1 mon 2 days 03:00:00")) {
            a, _ throws(StatementError) in .interval(try a[0].interval.adding(a[1].interval))
        },
        .row("-", [.interval, .interval], .interval, ("'1 mon'::interval - '2 days 03:00'", "1 mon -2 days -03:00:00"))
        { a, _ throws(StatementError) in .interval(try a[0].interval.subtracting(a[1].interval)) },
        .row("-", [.interval], .interval, ("- '1 mon 2 days'::interval", "-1 mons -2 days")) {
            a, _ throws(StatementError) in .interval(try a[0].interval.negated())
        },
        .row("*", [.interval, .float64], .interval, ("'1 day 02:00'::interval * 2.5", "2 days 17:00:00")) {
            a, _ throws(StatementError) in .interval(try a[0].interval.multiplied(by: a[1].double))
        },
        .row("*", [.float64, .interval], .interval, ("3 * '1 mon'::interval", "3 mons")) {
            a, _ throws(StatementError) in .interval(try a[1].interval.multiplied(by: a[0].double))
        },
        .row("/", [.interval, .float64], .interval, ("'1 mon'::interval / 4", "7 days 12:00:00")) {
            a, _ throws(StatementError) in .interval(try a[0].interval.divided(by: a[1].double))
        },
        .row("justify_hours", [.interval], .interval, ("justify_hours('27 hours')", "1 day 03:00:00")) {
            a, _ throws(StatementError) in .interval(try a[0].interval.justifyingHours())
        },
        .row("justify_days", [.interval], .interval, ("justify_days('35 days')", "1 mon 5 days")) {
            a, _ throws(StatementError) in .interval(try a[0].interval.justifyingDays())
        },
        .row("justify_interval", [.interval], .interval, ("justify_interval('1 mon -1 hour')", "29 days 23:00:00")) {
            a, _ throws(StatementError) in .interval(try a[0].interval.justified())
        },
    ]

    // MARK: Days

    static let microsecondsPerDay: Int64 = Calendar.microsecondsPerDay

    /// The day of a local time; infinity stays.
    static func day(_ moment: Int64) -> Int32 { DateTimeArithmetic.date(of: moment) }

    /// Midnight of a day.
    static func midnight(_ day: Int32) throws(StatementError) -> Int64 { try DateTimeArithmetic.timestamp(of: day) }
}
