import Base

/// Arithmetic on dates and timestamps, as PostgreSQL's operators and functions have it. A zone is given where the
/// timestamps are of the kind with zone: months and days are then counted on its clocks.
package enum DateTimeArithmetic {
    static let outOfRange = StatementError(.datetimeFieldOverflow, "timestamp out of range")

    static func isInfinite(_ moment: Int64) -> Bool { moment == .max || moment == .min }

    private static func checked(_ moment: Int64?) throws(StatementError) -> Int64 {
        guard let moment, let checked = DateTimeFields.checked(moment) else { throw outOfRange }
        return checked
    }

    /// `timestamp + interval`: first the months (a day that the month lacks becomes its last), then days, then time.
    package static func adding(_ interval: Interval, to moment: Int64, zone: ZoneRules? = nil) throws(StatementError)
        -> Int64
    {
        guard !isInfinite(moment) else { return moment }
        var result = moment
        if interval.months != 0 || interval.days != 0 {
            var fields = DateTimeFields(moment: zone?.local(of: moment) ?? moment)
            if interval.months != 0 {
                let months = fields.year * 12 + fields.month - 1 + Int(interval.months)
                fields.year = Calendar.floorDivide(months, 12)
                fields.month = months - fields.year * 12 + 1
                fields.day = min(fields.day, Calendar.length(ofMonth: fields.month, year: fields.year))
            }
            let day = fields.dayNumber + Int(interval.days)
            guard day >= Calendar.firstDay - 1, day <= Calendar.endOfTimestamps else { throw outOfRange }
            result = Int64(day) * Calendar.microsecondsPerDay + fields.microsecondsOfDay
            if let zone { result = zone.moment(ofLocal: result) }
        }
        let (sum, isOver) = result.addingReportingOverflow(interval.microseconds)
        return try checked(isOver ? nil : sum)
    }

    package static func subtracting(
        _ interval: Interval, from moment: Int64, zone: ZoneRules? = nil
    ) throws(StatementError) -> Int64 {
        try adding(interval.negated(), to: moment, zone: zone)
    }

    /// `timestamp - timestamp`: days and time.
    package static func difference(_ left: Int64, _ right: Int64) throws(StatementError) -> Interval {
        guard !isInfinite(left), !isInfinite(right) else {
            throw StatementError(.datetimeFieldOverflow, "cannot subtract infinite timestamps")
        }
        let (difference, isOver) = left.subtractingReportingOverflow(right)
        guard !isOver else { throw Interval.outOfRange }
        return try Interval(microseconds: difference).justifyingHours()
    }

    /// `date + integer`.
    package static func adding(days: Int64, to date: Int32) throws(StatementError) -> Int32 {
        guard date != .max, date != .min else { return date }
        let (sum, isOver) = Int64(date).addingReportingOverflow(days)
        guard !isOver, sum >= Int64(Calendar.firstDay), sum < Int64(Calendar.endOfDates), let day = Int32(exactly: sum)
        else { throw StatementError(.datetimeFieldOverflow, "date out of range") }
        return day
    }

    /// `date - date`: days.
    package static func difference(_ left: Int32, _ right: Int32) throws(StatementError) -> Int32 {
        guard ![.max, .min].contains(left), ![.max, .min].contains(right) else {
            throw StatementError(.datetimeFieldOverflow, "cannot subtract infinite dates")
        }
        return left &- right
    }

    /// Midnight of a date: of the zone's clocks if one is given.
    package static func timestamp(of date: Int32, zone: ZoneRules? = nil) throws(StatementError) -> Int64 {
        if date == .max { return .max }
        if date == .min { return .min }
        guard Int(date) < Calendar.endOfTimestamps, Int(date) >= Calendar.firstDay else {
            throw StatementError(.datetimeFieldOverflow, "date out of range for timestamp")
        }
        let local = Int64(date) * Calendar.microsecondsPerDay
        return try checked(zone?.moment(ofLocal: local) ?? local)
    }

    /// The date of a moment.
    package static func date(of moment: Int64, zone: ZoneRules? = nil) -> Int32 {
        if moment == .max { return .max }
        if moment == .min { return .min }
        let local = zone?.local(of: moment) ?? moment
        return Int32(clamping: Calendar.floorDivide(Int(local), Int(Calendar.microsecondsPerDay)))
    }

    /// The time of day of a moment.
    package static func time(of moment: Int64, zone: ZoneRules? = nil) -> Int64 {
        DateTimeFields(moment: zone?.local(of: moment) ?? moment).microsecondsOfDay
    }

    /// `time + interval`: only its time counts, and it goes round.
    package static func adding(_ interval: Interval, toTime time: Int64) -> Int64 {
        let day = Calendar.microsecondsPerDay
        let sum = time % day + interval.microseconds % day
        return ((sum % day) + day) % day
    }

    /// `age`: years, months and days as one counts them on a calendar.
    package static func age(_ left: Int64, _ right: Int64, zone: ZoneRules? = nil) throws(StatementError) -> Interval {
        guard !isInfinite(left), !isInfinite(right) else { throw outOfRange }
        let isNegative = left < right
        let later = DateTimeFields(moment: zone?.local(of: max(left, right)) ?? max(left, right))
        let earlier = DateTimeFields(moment: zone?.local(of: min(left, right)) ?? min(left, right))
        var time = later.microsecondsOfDay - earlier.microsecondsOfDay, days = later.day - earlier.day
        var months = (later.year - earlier.year) * 12 + later.month - earlier.month
        if time < 0 {
            time += Calendar.microsecondsPerDay
            days -= 1
        }
        // The month that is not full is as long as that of the earlier one.
        while days < 0 {
            days += Calendar.length(ofMonth: earlier.month, year: earlier.year)
            months -= 1
        }
        let result = Interval(months: Int32(clamping: months), days: Int32(clamping: days), microseconds: time)
        return isNegative ? try result.negated() : result
    }
}
