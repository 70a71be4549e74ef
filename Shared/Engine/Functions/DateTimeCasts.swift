import Base
import DataModel

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
                guard isZoned, day != .max, day != .min else { return .timestamp(local) }
                // East of Greenwich the first day begins before there are timestamps.
                guard let moment = DateTimeFields.checked(context.settings.text.zone.moment(ofLocal: local)) else {
                    throw StatementError(.datetimeFieldOverflow, "date out of range for timestamp")
                }
                return .timestamp(moment)
            }
        case (.timestamp, .date), (.timestampWithZone, .date):
            body = { a, context throws(StatementError) in
                guard case .timestamp(let moment) = a[0] else { return .null }
                return .date(DateTimeFunctions.day(isZoned ? local(moment, context) : moment))
            }
        case (.timestamp, .timestampWithZone):
            body = { a, context throws(StatementError) in
                guard case .timestamp(let moment) = a[0], moment != .max, moment != .min else { return a[0] }
                guard let moved = DateTimeFields.checked(context.settings.text.zone.moment(ofLocal: moment)) else {
                    throw StatementError(.datetimeFieldOverflow, "timestamp out of range")
                }
                return .timestamp(moved)
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
        case (.interval, .time):
            body = { a, _ throws(StatementError) in
                .time(DateTimeArithmetic.adding(a[0].interval, toTime: 0))
            }
        case (.timeWithZone, .time):
            body = { a, _ throws(StatementError) in .time(a[0].zonedTime.time) }
        case (.time, .timeWithZone):
            let cast: ScalarBody = { a, context throws(StatementError) in
                let moment = context.settings.transactionTime
                let offset = context.settings.text.zone.local(of: moment) &- moment
                return .timeWithZone(microseconds: a[0].timeOfDay, zone: Int32(clamping: offset / 1_000_000))
            }
            return (cast, .stable)
        case (.timestampWithZone, .timeWithZone):
            body = { a, context throws(StatementError) in
                guard a[0].moment != .max, a[0].moment != .min else { return .null }
                return DateTimeFunctions.zoned(a[0].moment, context.settings.text.zone)
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
