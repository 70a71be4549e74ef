import Base
import DataModel

/// Dates and times.
enum DateTimeFunctions {
    static let rows: [ScalarFunction] =
        moments("now", "current_timestamp", "transaction_timestamp") { $0.transactionTime }
        + moments("statement_timestamp") { $0.statementTime } + [
            ScalarFunction(
                "clock_timestamp", [], .of(.timestampWithZone), volatility: .volatile,
                example: ("clock_timestamp() IS NULL", "false")
            ) { _, context throws(StatementError) in .timestamp(context.settings.clock()) },
            ScalarFunction(
                "current_date", [], .of(.date), volatility: .stable, example: ("current_date IS NULL", "false")
            ) { _, context throws(StatementError) in
                .date(day(context.settings.text.zone.local(of: context.settings.transactionTime)))
            },
            ScalarFunction(
                "localtimestamp", [], .of(.timestamp), volatility: .stable,
                example: ("localtimestamp IS NULL", "false")
            ) { _, context throws(StatementError) in
                .timestamp(context.settings.text.zone.local(of: context.settings.transactionTime))
            },
            ScalarFunction(
                "+", [.of(.date), .of(.int32)], .of(.date), example: ("'2024-02-28'::date + 2", "2024-03-01")
            ) { a, _ throws(StatementError) in try moved(a[0], a[1], by: 1) },
            ScalarFunction(
                "+", [.of(.int32), .of(.date)], .of(.date), example: ("2 + '2024-02-28'::date", "2024-03-01")
            ) { a, _ throws(StatementError) in try moved(a[1], a[0], by: 1) },
            ScalarFunction(
                "-", [.of(.date), .of(.int32)], .of(.date), example: ("'2024-03-01'::date - 2", "2024-02-28")
            ) { a, _ throws(StatementError) in try moved(a[0], a[1], by: -1) },
            ScalarFunction(
                "-", [.of(.date), .of(.date)], .of(.int32), example: ("'2024-03-01'::date - '2024-02-01'::date", "29")
            ) { a, _ throws(StatementError) in
                guard case .date(let left) = a[0], case .date(let right) = a[1] else { return .null }
                return .integer(Int64(left) - Int64(right))
            },
        ]

    private static func moments(_ names: String..., from time: @escaping @Sendable (EngineSettings) -> Int64)
        -> [ScalarFunction]
    {
        names.map { name in
            let call = name == "current_timestamp" ? name : "\(name)()"
            return ScalarFunction(
                name, [], .of(.timestampWithZone), volatility: .stable, example: ("\(call) IS NULL", "false")
            ) { _, context throws(StatementError) in .timestamp(time(context.settings)) }
        }
    }

    private static func moved(_ date: Value, _ days: Value, by sign: Int64) throws(StatementError) -> Value {
        guard case .date(let day) = date, case .integer(let count) = days else { return .null }
        if day == .max || day == .min { return date }
        guard let moved = Int32(exactly: Int64(day) + sign * count), Int(moved) >= Calendar.firstDay,
            Int(moved) < Calendar.endOfDates
        else { throw StatementError(.datetimeFieldOverflow, "date out of range") }
        return .date(moved)
    }

    static let microsecondsPerDay: Int64 = 86_400_000_000

    /// The day of a local time; infinity stays.
    static func day(_ moment: Int64) -> Int32 {
        if moment == .max { return .max }
        if moment == .min { return .min }
        return Int32(truncatingIfNeeded: Calendar.floorDivide(Int(moment), Int(microsecondsPerDay)))
    }

    /// Midnight of a day.
    static func midnight(_ day: Int32) throws(StatementError) -> Int64 {
        if day == .max { return .max }
        if day == .min { return .min }
        let (moment, isOver) = Int64(day).multipliedReportingOverflow(by: microsecondsPerDay)
        guard !isOver else { throw StatementError(.datetimeFieldOverflow, "date out of range for timestamp") }
        return moment
    }
}

/// Casts between dates and times.
enum DateTimeCasts {
    static func body(from: DataType.Kind, to: DataType.Kind) -> (ScalarBody, Volatility)? {
        let isZoned = from == .timestampWithZone || to == .timestampWithZone
        let body: ScalarBody
        switch (from, to) {
        case (.date, .timestamp), (.date, .timestampWithZone):
            body = { a, context throws(StatementError) in
                guard case .date(let day) = a[0] else { return .null }
                let local = try DateTimeFunctions.midnight(day)
                let isInfinite = day == .max || day == .min
                return .timestamp(isZoned && !isInfinite ? context.settings.text.zone.moment(ofLocal: local) : local)
            }
        case (.timestamp, .date), (.timestampWithZone, .date):
            body = { a, context throws(StatementError) in
                guard case .timestamp(let moment) = a[0] else { return .null }
                return .date(DateTimeFunctions.day(isZoned ? local(moment, context) : moment))
            }
        case (.timestamp, .timestampWithZone):
            body = { a, context throws(StatementError) in
                guard case .timestamp(let moment) = a[0], moment != .max, moment != .min else { return a[0] }
                return .timestamp(context.settings.text.zone.moment(ofLocal: moment))
            }
        case (.timestampWithZone, .timestamp):
            body = { a, context throws(StatementError) in
                guard case .timestamp(let moment) = a[0] else { return .null }
                return .timestamp(local(moment, context))
            }
        case (.timestamp, .time), (.timestampWithZone, .time):
            body = { a, context throws(StatementError) in
                guard case .timestamp(let moment) = a[0], moment != .max, moment != .min else { return .null }
                let time = isZoned ? local(moment, context) : moment
                return .time(time - Int64(DateTimeFunctions.day(time)) * DateTimeFunctions.microsecondsPerDay)
            }
        case (.time, .interval):
            body = { a, _ throws(StatementError) in
                if case .time(let time) = a[0] { .interval(Interval(microseconds: time)) } else { .null }
            }
        case _: return nil  // By way of the text.
        }
        return (body, isZoned ? .stable : .immutable)
    }

    private static func local(_ moment: Int64, _ context: ExecutionContext) -> Int64 {
        moment == .max || moment == .min ? moment : context.settings.text.zone.local(of: moment)
    }
}
