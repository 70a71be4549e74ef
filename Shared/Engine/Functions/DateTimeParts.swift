import Base
import DataModel
import Glibc

/// Parts of dates and times, and values made of parts.
enum DateTimeParts {
    static let rows: [ScalarFunction] = fields + cuts + bins + ages + made + zones + finite + overlaps

    // MARK: Fields

    private static let fielded: [(DataType, String, isStable: Bool)] = [
        (.date, "'2024-02-29'::date", false), (.timestamp, "'2024-02-29 10:20'::timestamp", false),
        (.timestampWithZone, "'2024-02-29 10:20+00'::timestamptz", true), (.time, "'10:20'::time", false),
        (.timeWithZone, "'10:20+00'::timetz", false), (.interval, "'29 days 10:20'::interval", false),
    ]

    private static let fields: [ScalarFunction] = fielded.flatMap {
        (type: DataType, literal: String, isStable: Bool) -> [ScalarFunction] in
        let volatility: Volatility = isStable ? .stable : .immutable
        let hasDay = type != .time && type != .timeWithZone
        let field = hasDay ? "day" : "hour", answer = hasDay ? "29" : "10"
        return [
            .row(
                "extract", [.text, type], .decimal, ("extract(\(field) FROM \(literal))", answer),
                volatility: volatility
            ) { a, context throws(StatementError) in
                let part = try DateTimeArithmetic.extract(
                    a[0].string, from: a[1], as: type, zone: context.settings.text.zone)
                return part.map { .decimal($0) } ?? .null
            },
            .row(
                "date_part", [.text, type], .float64, ("date_part('\(field)', \(literal))", answer),
                volatility: volatility
            ) { a, context throws(StatementError) in
                // Of a date, this function takes midnight: it has hours.
                let isDate = type == .date
                let value = isDate ? .timestamp(try DateTimeArithmetic.timestamp(of: a[1].days)) : a[1]
                let part = try DateTimeArithmetic.extract(
                    a[0].string, from: value, as: isDate ? .timestamp : type, zone: context.settings.text.zone)
                return part.map { .float($0.double) } ?? .null
            },
        ]
    }

    private static let cuts: [ScalarFunction] = [
        .row(
            "date_trunc", [.text, .timestamp], .timestamp,
            ("date_trunc('month', '2024-02-29 10:20'::timestamp)", "2024-02-01 00:00:00")
        ) { a, _ throws(StatementError) in
            .timestamp(try DateTimeArithmetic.truncated(a[1].moment, to: a[0].string))
        },
        .row(
            "date_trunc", [.text, .timestampWithZone], .timestampWithZone,
            ("date_trunc('hour', '2024-02-29 10:20+00'::timestamptz)", "2024-02-29 10:00:00+00"), volatility: .stable
        ) { a, context throws(StatementError) in
            let zone = context.settings.text.zone
            return .timestamp(try DateTimeArithmetic.truncated(a[1].moment, to: a[0].string, zone: zone))
        },
        .row(
            "date_trunc", [.text, .timestampWithZone, .text], .timestampWithZone,
            ("date_trunc('day', '2024-02-29 02:20+00'::timestamptz, 'EST')", "2024-02-28 05:00:00+00"),
            volatility: .stable
        ) { a, context throws(StatementError) in
            // Of infinity no zone is asked.
            if a[1].moment == .max || a[1].moment == .min { return a[1] }
            let zone = try rules(a[2].string, context)
            return .timestamp(try DateTimeArithmetic.truncated(a[1].moment, to: a[0].string, zone: zone))
        },
        .row(
            "date_trunc", [.text, .interval], .interval,
            ("date_trunc('hour', '3 days 10:20'::interval)", "3 days 10:00:00")
        ) { a, _ throws(StatementError) in
            .interval(try DateTimeArithmetic.truncated(a[1].interval, to: a[0].string))
        },
    ]

    private static let bins: [ScalarFunction] = [DataType.timestamp, .timestampWithZone].map { (type: DataType) in
        let suffix = type == .timestamp ? "" : "+00"
        return .row(
            "date_bin", [.interval, type, type], type,
            (
                "date_bin('15 min', '2024-02-29 10:20\(suffix)'::\(type.name), '2001-01-01\(suffix)'::\(type.name))",
                "2024-02-29 10:15:00\(suffix)"
            )
        ) { a, _ throws(StatementError) in .timestamp(try bin(a[0].interval, a[1].moment, a[2].moment)) }
    }

    private static func bin(_ stride: Interval, _ moment: Int64, _ origin: Int64) throws(StatementError) -> Int64 {
        guard moment != .max, moment != .min else { return moment }
        guard origin != .max, origin != .min else {
            throw StatementError(.datetimeFieldOverflow, "origin out of range")
        }
        guard stride.months == 0 else {
            throw StatementError(
                .featureNotSupported, "timestamps cannot be binned into intervals containing months or years")
        }
        let (days, isOver) = Int64(stride.days).multipliedReportingOverflow(by: Calendar.microsecondsPerDay)
        let (width, isOverAgain) = days.addingReportingOverflow(stride.microseconds)
        guard !isOver, !isOverAgain else { throw StatementError(.datetimeFieldOverflow, "interval out of range") }
        guard width > 0 else { throw StatementError(.datetimeFieldOverflow, "stride must be greater than zero") }
        let (distance, isFar) = moment.subtractingReportingOverflow(origin)
        guard !isFar else { throw StatementError(.datetimeFieldOverflow, "interval out of range") }
        var rest = distance % width
        if rest < 0 { rest += width }
        let (start, isBefore) = moment.subtractingReportingOverflow(rest)
        guard !isBefore, DateTimeFields.checked(start) != nil else {
            throw StatementError(.datetimeFieldOverflow, "timestamp out of range")
        }
        return start
    }

    private static let ages: [ScalarFunction] = [
        .row(
            "age", [.timestamp, .timestamp], .interval,
            ("age('2001-04-10'::timestamp, '1957-06-13'::timestamp)", "43 years 9 mons 27 days")
        ) { a, _ throws(StatementError) in .interval(try DateTimeArithmetic.age(a[0].moment, a[1].moment)) },
        .row(
            "age", [.timestampWithZone, .timestampWithZone], .interval,
            ("age('2024-03-01 00:00+00'::timestamptz, '2024-01-31 12:00+00'::timestamptz)", "1 mon 12:00:00"),
            volatility: .stable
        ) { a, context throws(StatementError) in
            .interval(try DateTimeArithmetic.age(a[0].moment, a[1].moment, zone: context.settings.text.zone))
        },
        .row(
            "age", [.timestamp], .interval, ("age(localtimestamp) < '1 day'", "true"), volatility: .stable
        ) { a, context throws(StatementError) in
            let today = try DateTimeArithmetic.timestamp(of: DateTimeFunctions.day(DateTimeFunctions.now(context)))
            return .interval(try DateTimeArithmetic.age(today, a[0].moment))
        },
        .row("age", [.timestampWithZone], .interval, ("age(now()) < '1 day'", "true"), volatility: .stable) {
            a, context throws(StatementError) in
            let zone = context.settings.text.zone
            let today = try DateTimeArithmetic.timestamp(
                of: DateTimeFunctions.day(DateTimeFunctions.now(context)), zone: zone)
            return .interval(try DateTimeArithmetic.age(today, a[0].moment, zone: zone))
        },
    ]

    // MARK: Made of parts

    private static let made: [ScalarFunction] = [
        .row("make_date", [.int32, .int32, .int32], .date, ("make_date(2024, 2, 29)", "2024-02-29")) {
            a, _ throws(StatementError) in .date(try date(a))
        },
        .row("make_time", [.int32, .int32, .float64], .time, ("make_time(8, 15, 23.5)", "08:15:23.5")) {
            a, _ throws(StatementError) in .time(try time(a[0].int, a[1].int, a[2].double))
        },
        .row(
            "make_timestamp", [.int32, .int32, .int32, .int32, .int32, .float64], .timestamp,
            ("make_timestamp(2024, 2, 29, 8, 15, 23.5)", "2024-02-29 08:15:23.5")
        ) { a, _ throws(StatementError) in .timestamp(try local(a)) },
        .row(
            "make_timestamptz", [.int32, .int32, .int32, .int32, .int32, .float64], .timestampWithZone,
            ("make_timestamptz(2024, 2, 29, 8, 15, 23.5)", "2024-02-29 08:15:23.5+00"), volatility: .stable
        ) { a, context throws(StatementError) in
            .timestamp(context.settings.text.zone.moment(ofLocal: try local(a)))
        },
        .row(
            "make_timestamptz", [.int32, .int32, .int32, .int32, .int32, .float64, .text], .timestampWithZone,
            ("make_timestamptz(2024, 2, 29, 8, 15, 23.5, 'CET')", "2024-02-29 07:15:23.5+00"), volatility: .stable
        ) { a, context throws(StatementError) in
            let local = try local(a)
            return .timestamp(try namedRules(a[6].string, context).moment(ofLocal: local))
        },
        .row(
            "make_interval", [.int32, .int32, .int32, .int32, .int32, .int32, .float64], .interval,
            ("make_interval(days => 10, hours => 2)", "10 days 02:00:00")
        ) { a, _ throws(StatementError) in try interval(a) },
        .row("to_timestamp", [.float64], .timestampWithZone, ("to_timestamp(1709201723.5)", "2024-02-29 10:15:23.5+00"))
        { a, _ throws(StatementError) in
            let seconds = a[0].double
            if seconds == .infinity { return .timestamp(.max) }
            if seconds == -.infinity { return .timestamp(.min) }
            guard !seconds.isNaN else {
                throw StatementError(.datetimeFieldOverflow, "timestamp cannot be NaN")
            }
            // As there, seconds are counted from 2000.
            let shifted = ((seconds - 946_684_800) * 1e6).rounded(.toNearestOrEven)
            guard let count = Int64(exactly: shifted), let moment = checkedSum(count, 946_684_800_000_000) else {
                throw StatementError(
                    .datetimeFieldOverflow,
                    "timestamp out of range: \"\(sixDigits(seconds))\"")
            }
            return .timestamp(moment)
        },
    ]

    /// A number beyond a million as `%g` writes it.
    private static func sixDigits(_ value: Double) -> String {
        var exponent = 0, rest = value.magnitude
        while rest >= 10 { (rest, exponent) = (rest / 10, exponent + 1) }
        var digits = Int((rest * 1e5).rounded(.toNearestOrEven))
        if digits >= 1_000_000 { (digits, exponent) = (digits / 10, exponent + 1) }
        var text = String(digits)
        text.insert(".", at: text.index(after: text.startIndex))
        while text.hasSuffix("0") { text.removeLast() }
        if text.hasSuffix(".") { text.removeLast() }
        return (value < 0 ? "-" : "") + text + "e+" + (exponent < 10 ? "0" : "") + String(exponent)
    }

    private static func checkedSum(_ left: Int64, _ right: Int64) -> Int64? {
        let (sum, isOver) = left.addingReportingOverflow(right)
        return isOver ? nil : DateTimeFields.checked(sum)
    }

    private static func date(_ a: [Value], isWhole: Bool = true) throws(StatementError) -> Int32 {
        let month = a[1].int, day = a[2].int
        // A negative year is one before Christ; there is no year 0.
        let year = a[0].int < 0 ? a[0].int + 1 : a[0].int
        func pad(_ number: Int64) -> String { number >= 0 && number < 10 ? "0\(number)" : "\(number)" }
        let isLeast = a[0].int == Int64(Int32.min)
        guard a[0].int != 0, !isLeast, (1...12).contains(month), day >= 1,
            day <= Int64(Calendar.length(ofMonth: Int(month), year: Int(year)))
        else {
            throw StatementError(
                .datetimeFieldOverflow,
                "date field value out of range: \(isLeast || !isWhole ? a[0].int : year)-"
                    + "\(pad(month))-\(pad(day))")
        }
        let isNear = year.magnitude < 10_000_000
        let number = isNear ? Calendar.days(year: Int(year), month: Int(month), day: Int(day)) : Calendar.endOfDates
        guard number >= Calendar.firstDay, number < Calendar.endOfDates else {
            throw StatementError(
                .datetimeFieldOverflow, "date out of range: \(isWhole ? year : a[0].int)-\(pad(month))-\(pad(day))")
        }
        return Int32(clamping: number)
    }

    /// As C's %02g has it.
    private static func printed(_ number: Double) -> String {
        var bytes = [CChar](repeating: 0, count: 32)
        _ = withVaList([number]) { vsnprintf(&bytes, 32, "%02g", $0) }
        return String(decoding: bytes.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    private static func time(_ hour: Int64, _ minute: Int64, _ second: Double) throws(StatementError) -> Int64 {
        let isMidnight = hour == 24 && minute == 0 && second == 0
        guard isMidnight || (0...23).contains(hour) && (0...59).contains(minute) && second >= 0 && second <= 60 else {
            func pad(_ number: Int64) -> String { number >= 0 && number < 10 ? "0\(number)" : "\(number)" }
            let text = second.isFinite ? printed(second) : TextForms.untyped(.float(second), EngineSettings())
            throw StatementError(
                .datetimeFieldOverflow, "time field value out of range: \(hour):\(pad(minute)):\(text)")
        }
        let microseconds = (second * 1e6).rounded(.toNearestOrEven)
        return (hour * 60 + minute) * 60_000_000 + (Int64(exactly: microseconds) ?? 0)
    }

    private static func local(_ a: [Value]) throws(StatementError) -> Int64 {
        let midnight = try DateTimeArithmetic.timestamp(of: try date(a, isWhole: false))
        let time = try time(a[3].int, a[4].int, a[5].double)
        guard let moment = checkedSum(midnight, time) else {
            throw StatementError(.datetimeFieldOverflow, "timestamp out of range")
        }
        return moment
    }

    private static func interval(_ a: [Value]) throws(StatementError) -> Value {
        let outOfRange = StatementError(.datetimeFieldOverflow, "interval out of range")
        let seconds = (a[6].double * 1e6).rounded(.toNearestOrEven)
        guard let months = Int32(exactly: a[0].int * 12 + a[1].int),
            let days = Int32(exactly: a[2].int * 7 + a[3].int), let rest = Int64(exactly: seconds)
        else { throw outOfRange }
        let (time, isOver) = ((a[4].int * 60 + a[5].int) * 60_000_000).addingReportingOverflow(rest)
        guard !isOver else { throw outOfRange }
        return .interval(Interval(months: months, days: days, microseconds: time))
    }

    // MARK: Zones

    static func rules(_ name: String, _ context: ExecutionContext) throws(StatementError) -> ZoneRules {
        guard let rules = context.settings.text.rules(ofZone: name) else {
            throw StatementError(.invalidParameterValue, "time zone \"\(name)\" not recognized")
        }
        return rules
    }

    /// As `make_timestamptz` reads a zone: a number counts hours EAST of Greenwich, not as POSIX has it.
    private static func namedRules(_ name: String, _ context: ExecutionContext) throws(StatementError) -> ZoneRules {
        guard let first = name.utf8.first else { return try rules(name, context) }
        if (0x30...0x39).contains(first) {
            throw StatementError(
                .invalidParameterValue, "invalid input syntax for type numeric time zone: \"\(name)\"",
                hint: "Numeric time zones must have \"-\" or \"+\" as first character.")
        }
        switch ZoneRules.numeric(name) {
        case .offset(let seconds): return ZoneRules(name: name, offset: seconds)
        case .outOfRange:
            throw StatementError(.invalidParameterValue, "numeric time zone \"\(name)\" out of range")
        case .none: return try rules(name, context)
        }
    }

    private static func rules(_ interval: Interval) throws(StatementError) -> ZoneRules {
        guard interval.months == 0, interval.days == 0 else {
            let text = TextForms.untyped(.interval(interval), EngineSettings())
            throw StatementError(
                .invalidParameterValue, "interval time zone \"\(text)\" must not include months or days")
        }
        return ZoneRules(name: "", offset: Int32(clamping: interval.microseconds / 1_000_000))
    }

    private static let zones: [ScalarFunction] = [DataType.text, .interval].flatMap {
        (by: DataType) -> [ScalarFunction] in
        let volatility: Volatility = by == .text ? .stable : .immutable
        let zone = by == .text ? "'EST'" : "'-05:00'::interval"
        @Sendable func found(_ value: Value, _ context: ExecutionContext) throws(StatementError) -> ZoneRules {
            if case .text(let name) = value { return try rules(name, context) }
            return try rules(value.interval)
        }
        return [
            .row(
                "timezone", [by, .timestamp], .timestampWithZone,
                ("'2024-02-29 10:00'::timestamp AT TIME ZONE \(zone)", "2024-02-29 15:00:00+00"),
                volatility: volatility
            ) { a, context throws(StatementError) in
                let moment = a[1].moment
                if moment == .max || moment == .min { return a[1] }
                return .timestamp(try found(a[0], context).moment(ofLocal: moment))
            },
            .row(
                "timezone", [by, .timestampWithZone], .timestamp,
                ("'2024-02-29 10:00+00'::timestamptz AT TIME ZONE \(zone)", "2024-02-29 05:00:00"),
                volatility: volatility
            ) { a, context throws(StatementError) in
                let moment = a[1].moment
                if moment == .max || moment == .min { return a[1] }
                return .timestamp(try found(a[0], context).local(of: moment))
            },
            .row(
                "timezone", [by, .timeWithZone], .timeWithZone,
                ("'10:00+00'::timetz AT TIME ZONE \(zone)", "05:00:00-05"), volatility: .stable
            ) { a, context throws(StatementError) in
                let (time, zone) = a[1].zonedTime
                let now = context.settings.transactionTime
                let offset = Int32(clamping: (try found(a[0], context).local(of: now) &- now) / 1_000_000)
                let shift = Interval(microseconds: Int64(offset &- zone) * 1_000_000)
                return .timeWithZone(
                    microseconds: DateTimeArithmetic.adding(shift, toTime: time), zone: offset)
            },
        ]
    }

    private static let finite: [ScalarFunction] = [
        .row("isfinite", [.date], .bool, ("isfinite('infinity'::date)", "false")) { a, _ throws(StatementError) in
            .bool(a[0].days != .max && a[0].days != .min)
        },
        .row("isfinite", [.timestamp], .bool, ("isfinite('2024-01-01'::timestamp)", "true")) {
            a, _ throws(StatementError) in .bool(a[0].moment != .max && a[0].moment != .min)
        },
        .row("isfinite", [.timestampWithZone], .bool, ("isfinite('-infinity'::timestamptz)", "false")) {
            a, _ throws(StatementError) in .bool(a[0].moment != .max && a[0].moment != .min)
        },
        .row("isfinite", [.interval], .bool, ("isfinite('1 day'::interval)", "true")) { _, _ throws(StatementError) in
            .bool(true)
        },
    ]

    // MARK: OVERLAPS

    private static let overlaps: [ScalarFunction] = {
        let types: [(DataType, [String])] = [
            (.timestamp, ["'2024-01-01'", "'2024-02-01'", "'2024-01-15'", "'2024-03-01'"]),
            (.timestampWithZone, ["'2024-01-01'", "'2024-02-01'", "'2024-01-15'", "'2024-03-01'"]),
            (.time, ["'10:00'", "'12:00'", "'11:00'", "'13:00'"]),
            (.timeWithZone, ["'10:00+00'", "'12:00+00'", "'11:00+00'", "'13:00+00'"]),
        ]
        var rows: [ScalarFunction] = []
        for (type, literals) in types {
            for (first, second) in [(false, false), (true, false), (false, true), (true, true)] {
                guard type != .timeWithZone || !first && !second else { continue }
                let parts = [
                    literals[0], first ? "'1 hour'" : literals[1], literals[2], second ? "'1 hour'" : literals[3],
                ]
                let kinds = [type, first ? DataType.interval : type, type, second ? .interval : type]
                let typed = zip(parts, kinds).map { "\($0)::\($1.name)" }
                rows.append(
                    .row(
                        "overlaps", kinds, .bool,
                        ("(\(typed[0]), \(typed[1])) OVERLAPS (\(typed[2]), \(typed[3]))", first ? "false" : "true"),
                        volatility: type == .timestampWithZone ? .stable : .immutable, isStrict: false
                    ) { a, context throws(StatementError) in
                        let zone = type == .timestampWithZone ? context.settings.text.zone : nil
                        return overlap(
                            a[0], try end(a[0], a[1], zone), a[2], try end(a[2], a[3], zone))
                    })
            }
        }
        return rows
    }()

    /// The end of a span: given, or as long after its start.
    private static func end(_ start: Value, _ end: Value, _ zone: ZoneRules?) throws(StatementError) -> Value {
        guard case .interval(let length) = end else { return end }
        switch start {
        case .timestamp(let moment):
            return .timestamp(try DateTimeArithmetic.adding(length, to: moment, zone: zone))
        case .time(let time): return .time(DateTimeArithmetic.adding(length, toTime: time))
        case _: return .null
        }
    }

    /// As SQL has it: what is unknown may still be decided by the other ends.
    private static func overlap(_ start: Value, _ end: Value, _ otherStart: Value, _ otherEnd: Value) -> Value {
        /// The earlier first; one end at least is known then, if the span is known at all.
        func ordered(_ start: Value, _ end: Value) -> (Value, Value)? {
            if start.isNull { return end.isNull ? nil : (end, .null) }
            if !end.isNull, Value.compare(start, end) > 0 { return (end, start) }
            return (start, end)
        }
        guard let mine = ordered(start, end), let theirs = ordered(otherStart, otherEnd) else { return .null }
        let order = Value.compare(mine.0, theirs.0)
        if order == 0 { return mine.1.isNull || theirs.1.isNull ? .null : .bool(true) }
        let (first, second) = order < 0 ? (mine, theirs) : (theirs, mine)
        if first.1.isNull { return .null }
        if Value.compare(second.0, first.1) < 0 { return .bool(true) }
        return second.1.isNull ? .null : .bool(false)
    }
}
