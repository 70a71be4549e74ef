import Base

/// What `extract`, `date_part` and `date_trunc` can be asked for.
package enum DateTimeUnit: String, CaseIterable, Sendable {
    case microseconds, milliseconds, second, minute, hour, day, week, month, quarter, year, decade, century
    case millennium, julian, isoyear, dow, isodow, doy, epoch, timezone
    case timezoneHour = "timezone_hour", timezoneMinute = "timezone_minute"

    /// Any name that PostgreSQL knows, in any case.
    package init?(named name: String) {
        let name = name.lowercasedASCII
        if let unit = DateTimeUnit(rawValue: name) ?? Self.aliases[name] { self = unit } else { return nil }
    }

    private static let aliases: [String: DateTimeUnit] = {
        let words: [(DateTimeUnit, String)] = [
            (.microseconds, "us usec usecs usecond useconds microsecon microsecond"),
            (.milliseconds, "ms msec msecs msecond mseconds millisecon millisecond"),
            (.second, "s sec secs seconds"), (.minute, "m min mins minutes"), (.hour, "h hr hrs hours"),
            (.day, "d days"), (.week, "w weeks"), (.month, "mon mons months"), (.quarter, "qtr"),
            (.year, "y yr yrs years"), (.decade, "dec decs decades"), (.century, "c cent centuries"),
            (.millennium, "mil mils millennia"), (.julian, "j jd"), (.timezoneHour, "timezone_h"),
            (.timezoneMinute, "timezone_m"),
        ]
        return [String: DateTimeUnit](
            words.flatMap { unit, text in text.split(separator: " ").map { (String($0), unit) } },
            uniquingKeysWith: { first, _ in first })
    }()

    /// The unit, or PostgreSQL's complaint.
    static func find(_ name: String, _ type: DataType) throws(StatementError) -> DateTimeUnit {
        guard let unit = DateTimeUnit(named: name) else {
            let name = name.lowercasedASCII.limited(toBytes: 63)
            throw StatementError(
                .invalidParameterValue, "unit \"\(name)\" not recognized for type \(type.title)")
        }
        return unit
    }

    /// For `date_trunc`, to which the words for kinds of days and counts of them are none.
    static func findField(_ name: String, _ type: DataType) throws(StatementError) -> DateTimeUnit {
        let unit = try find(name, type)
        switch unit {
        case .julian, .isoyear, .dow, .isodow, .doy, .epoch:
            throw StatementError(
                .invalidParameterValue, "unit \"\(name.lowercasedASCII)\" not recognized for type \(type.title)")
        case .microseconds, .milliseconds, .second, .minute, .hour, .day, .week, .month, .quarter, .year, .decade,
            .century, .millennium, .timezone, .timezoneHour, .timezoneMinute:
            return unit
        }
    }

    func unsupported(_ type: DataType) -> StatementError {
        StatementError(.featureNotSupported, "unit \"\(rawValue)\" not supported for type \(type.title)")
    }
}

// MARK: date_trunc

extension DateTimeArithmetic {
    /// `date_trunc` of a timestamp; with a zone, on its clocks.
    package static func truncated(_ moment: Int64, to name: String, zone: ZoneRules? = nil) throws(StatementError)
        -> Int64
    {
        guard !isInfinite(moment) else { return moment }
        let type = zone == nil ? DataType.timestamp : DataType.timestampWithZone
        let unit = try DateTimeUnit.findField(name, type)
        let local = zone?.local(of: moment) ?? moment
        guard let result = try truncated(DateTimeFields(moment: local), to: unit, type).moment else { throw outOfRange }
        guard let zone else { return result }
        // Within a day the offset of the moment stays, so that a doubled hour is not left.
        switch unit {
        case .microseconds, .milliseconds, .second, .minute, .hour: return moment &- (local &- result)
        case .day, .week, .month, .quarter, .year, .decade, .century, .millennium, .julian, .isoyear, .dow, .isodow,
            .doy, .epoch, .timezone, .timezoneHour, .timezoneMinute:
            return zone.moment(ofLocal: result)
        }
    }

    private static func truncated(
        _ fields: DateTimeFields, to unit: DateTimeUnit, _ type: DataType
    ) throws(StatementError) -> DateTimeFields {
        var result = DateTimeFields(year: fields.year, month: fields.month, day: fields.day)
        switch unit {
        case .microseconds: return fields
        case .milliseconds:
            result.setTime(fields.microsecondsOfDay / 1000 * 1000)
        case .second: result.setTime(fields.microsecondsOfDay / 1_000_000 * 1_000_000)
        case .minute: result.setTime(fields.microsecondsOfDay / 60_000_000 * 60_000_000)
        case .hour: result.setTime(fields.microsecondsOfDay / 3_600_000_000 * 3_600_000_000)
        case .day: break
        case .week:
            let day = fields.dayNumber
            let date = Calendar.date(ofDay: day - (Calendar.weekday(ofDay: day) + 6) % 7)
            result = DateTimeFields(year: date.year, month: date.month, day: date.day)
        case .month: result.day = 1
        case .quarter: (result.month, result.day) = ((fields.month - 1) / 3 * 3 + 1, 1)
        case .year: (result.month, result.day) = (1, 1)
        case .decade:
            (result.year, result.month, result.day) = (Calendar.floorDivide(fields.year, 10) * 10, 1, 1)
        case .century:
            (result.year, result.month, result.day) = (Calendar.floorDivide(fields.year - 1, 100) * 100 + 1, 1, 1)
        case .millennium:
            (result.year, result.month, result.day) = (Calendar.floorDivide(fields.year - 1, 1000) * 1000 + 1, 1, 1)
        case .julian, .isoyear, .dow, .isodow, .doy, .epoch, .timezone, .timezoneHour, .timezoneMinute:
            throw unit.unsupported(type)
        }
        return result
    }

    /// `date_trunc` of an interval.
    package static func truncated(_ interval: Interval, to name: String) throws(StatementError) -> Interval {
        let unit = try DateTimeUnit.findField(name, .interval)
        var result = interval
        func keepTime(_ divisor: Int64) { result.microseconds -= result.microseconds % divisor }
        func keepMonths(_ divisor: Int32) {
            result = Interval(months: interval.months - interval.months % divisor)
        }
        switch unit {
        case .microseconds: break
        case .milliseconds: keepTime(1000)
        case .second: keepTime(1_000_000)
        case .minute: keepTime(60_000_000)
        case .hour: keepTime(3_600_000_000)
        case .day: result.microseconds = 0
        case .month: keepMonths(1)
        case .quarter: keepMonths(3)
        case .year: keepMonths(12)
        case .decade: keepMonths(120)
        case .century: keepMonths(1200)
        case .millennium: keepMonths(12_000)
        case .week:
            var error = unit.unsupported(.interval)
            error.detail = "Months usually have fractional weeks."
            throw error
        case .julian, .isoyear, .dow, .isodow, .doy, .epoch, .timezone, .timezoneHour, .timezoneMinute:
            throw unit.unsupported(.interval)
        }
        return result
    }
}

// MARK: extract

extension DateTimeArithmetic {
    /// `extract(field from value)`; nil (NULL) for fields that infinity has not.
    package static func extract(_ name: String, from value: Value, as type: DataType, zone: ZoneRules)
        throws(StatementError) -> Decimal?
    {
        let unit = try DateTimeUnit.find(name, type)
        switch value {
        case .date(let days):
            if days == .max || days == .min { return try infinite(unit, isNegative: days == .min, type) }
            return try extract(unit, fromDay: Int(days), type)
        case .timestamp(let moment):
            if isInfinite(moment) { return try infinite(unit, isNegative: moment == .min, type) }
            return try extract(unit, fromMoment: moment, type.kind == .timestampWithZone ? zone : nil, type)
        case .time(let microseconds):
            if unit == .epoch { return Decimal(microseconds, scale: 6) }
            guard let part = timePart(unit, microseconds) else { throw unit.unsupported(type) }
            return part
        case .timeWithZone(let microseconds, let offset):
            if unit == .epoch { return Decimal(microseconds &- Int64(offset) &* 1_000_000, scale: 6) }
            guard let part = timePart(unit, microseconds) ?? zonePart(unit, offset) else {
                throw unit.unsupported(type)
            }
            return part
        case .interval(let interval): return try extract(unit, from: interval)
        case .null: return nil
        case .bool, .integer, .float, .decimal, .text, .bytes, .uuid, .json, .array, .tuple:
            throw unit.unsupported(type)
        }
    }

    private static func timePart(_ unit: DateTimeUnit, _ microseconds: Int64) -> Decimal? {
        switch unit {
        case .microseconds: Decimal(microseconds % 60_000_000)
        case .milliseconds: Decimal(microseconds % 60_000_000, scale: 3)
        case .second: Decimal(microseconds % 60_000_000, scale: 6)
        case .minute: Decimal(microseconds / 60_000_000 % 60)
        case .hour: Decimal(microseconds / 3_600_000_000)
        case .day, .week, .month, .quarter, .year, .decade, .century, .millennium, .julian, .isoyear, .dow, .isodow,
            .doy, .epoch, .timezone, .timezoneHour, .timezoneMinute:
            nil
        }
    }

    private static func zonePart(_ unit: DateTimeUnit, _ offset: Int32) -> Decimal? {
        switch unit {
        case .timezone: Decimal(Int64(offset))
        case .timezoneHour: Decimal(Int64(offset / 3600))
        case .timezoneMinute: Decimal(Int64(offset / 60 % 60))
        case .microseconds, .milliseconds, .second, .minute, .hour, .day, .week, .month, .quarter, .year, .decade,
            .century, .millennium, .julian, .isoyear, .dow, .isodow, .doy, .epoch:
            nil
        }
    }

    /// The ISO week and its year: the week belongs to the year that has its Thursday.
    private static func isoWeek(ofDay day: Int) -> (year: Int, week: Int) {
        let thursday = day - (Calendar.weekday(ofDay: day) + 6) % 7 + 3
        let year = Calendar.date(ofDay: thursday).year
        return (year, (thursday - Calendar.days(year: year, month: 1, day: 1)) / 7 + 1)
    }

    /// There is no year 0: the one before 1 is -1.
    private static func shown(_ year: Int) -> Int { year > 0 ? year : year - 1 }

    private static func dayPart(_ unit: DateTimeUnit, _ day: Int) -> Int? {
        let date = Calendar.date(ofDay: day)
        switch unit {
        case .day: return date.day
        case .week: return isoWeek(ofDay: day).week
        case .month: return date.month
        case .quarter: return (date.month - 1) / 3 + 1
        case .year: return shown(date.year)
        case .decade: return Calendar.floorDivide(date.year, 10)
        case .century: return eras(date.year, 100)
        case .millennium: return eras(date.year, 1000)
        case .julian: return day - Calendar.firstDay
        case .isoyear: return shown(isoWeek(ofDay: day).year)
        case .dow: return Calendar.weekday(ofDay: day)
        case .isodow: return (Calendar.weekday(ofDay: day) + 6) % 7 + 1
        case .doy: return day - Calendar.days(year: date.year, month: 1, day: 1) + 1
        case .microseconds, .milliseconds, .second, .minute, .hour, .epoch, .timezone, .timezoneHour,
            .timezoneMinute:
            return nil
        }
    }

    private static func eras(_ year: Int, _ length: Int) -> Int {
        year > 0 ? (year + length - 1) / length : -((length - 1 - (year - 1)) / length)
    }

    private static func extract(_ unit: DateTimeUnit, fromDay day: Int, _ type: DataType) throws(StatementError)
        -> Decimal
    {
        if unit == .epoch { return Decimal(Int64(day) * 86_400) }
        guard let part = dayPart(unit, day) else { throw unit.unsupported(type) }
        return Decimal(Int64(part))
    }

    private static func extract(
        _ unit: DateTimeUnit, fromMoment moment: Int64, _ zone: ZoneRules?, _ type: DataType
    ) throws(StatementError) -> Decimal {
        if unit == .epoch { return Decimal(moment, scale: 6) }
        let local = zone?.local(of: moment) ?? moment
        let day = Calendar.floorDivide(Int(local), Int(Calendar.microsecondsPerDay))
        let time = local - Int64(day) * Calendar.microsecondsPerDay
        if unit == .julian {
            // The time is a fraction of the day.
            do throws(DatabaseError) {
                let part = try Decimal(time).divided(by: Decimal(Calendar.microsecondsPerDay))
                return try Decimal(Int64(day - Calendar.firstDay)).adding(part)
            } catch { throw StatementError(error) }
        }
        if let part = timePart(unit, time) { return part }
        if let part = dayPart(unit, day) { return Decimal(Int64(part)) }
        if zone != nil, let part = zonePart(unit, Int32(clamping: (local - moment) / 1_000_000)) { return part }
        throw unit.unsupported(type)
    }

    private static func infinite(
        _ unit: DateTimeUnit, isNegative: Bool, _ type: DataType
    ) throws(StatementError) -> Decimal? {
        switch unit {
        case .year, .decade, .century, .millennium, .julian, .isoyear, .epoch:
            return isNegative ? .negativeInfinity : .infinity
        case .day, .week, .month, .quarter, .dow, .isodow, .doy: return nil
        case .microseconds, .milliseconds, .second, .minute, .hour:
            if type.kind == .date { throw unit.unsupported(type) }
            return nil
        case .timezone, .timezoneHour, .timezoneMinute:
            if type.kind != .timestampWithZone { throw unit.unsupported(type) }
            return nil
        }
    }

    private static func extract(_ unit: DateTimeUnit, from interval: Interval) throws(StatementError) -> Decimal {
        let years = Int64(interval.months / 12), months = Int64(interval.months % 12)
        switch unit {
        case .day: return Decimal(Int64(interval.days))
        case .month: return Decimal(months)
        case .quarter: return Decimal(months / 3 + 1)
        case .year: return Decimal(years)
        case .decade: return Decimal(years / 10)
        case .century: return Decimal(years / 100)
        case .millennium: return Decimal(years / 1000)
        case .epoch:
            // A year has 365.25 days here, a month 30.
            let days = years * 36_525 / 100 * 86_400 + years * 36_525 % 100 * 864
            let seconds = Int128(days + (months * 30 + Int64(interval.days)) * 86_400)
            let total = seconds * 1_000_000 + Int128(interval.microseconds)
            guard let total = Int64(exactly: total) else {
                let whole = Decimal(Int64(clamping: total / 1_000_000))
                let rest = Decimal(Int64(total % 1_000_000), scale: 6)
                do throws(DatabaseError) { return try whole.adding(rest) } catch { throw StatementError(error) }
            }
            return Decimal(total, scale: 6)
        case .microseconds, .milliseconds, .second, .minute, .hour:
            return timePart(unit, interval.microseconds) ?? .zero
        case .week, .julian, .isoyear, .dow, .isodow, .doy, .timezone, .timezoneHour, .timezoneMinute:
            throw unit.unsupported(.interval)
        }
    }
}

extension Decimal {
    /// `value` divided by 10^`scale`, showing so many digits.
    init(_ value: Int64, scale: Int) {
        var digits: [UInt8] = [], rest = value.magnitude
        while rest > 0 {
            digits.append(UInt8(rest % 10))
            rest /= 10
        }
        digits.reverse()
        self.init(isNegative: value < 0, decimalDigits: digits, point: digits.count - scale, scale: scale)
    }
}
