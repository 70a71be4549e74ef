import Base

// Sums, products and normal forms of intervals, as PostgreSQL's operators have them.

extension Interval {
    static let outOfRange = StatementError(.datetimeFieldOverflow, "interval out of range")

    /// Part by part. Throws "interval out of range".
    package func adding(_ other: Interval) throws(StatementError) -> Interval {
        let (months, isOver) = months.addingReportingOverflow(other.months)
        let (days, isOverAgain) = days.addingReportingOverflow(other.days)
        let (microseconds, isOverTwice) = microseconds.addingReportingOverflow(other.microseconds)
        guard !isOver, !isOverAgain, !isOverTwice else { throw Self.outOfRange }
        return Interval(months: months, days: days, microseconds: microseconds)
    }

    /// Every part with the other sign.
    package func negated() throws(StatementError) -> Interval {
        guard months != .min, days != .min, microseconds != .min else { throw Self.outOfRange }
        return Interval(months: -months, days: -days, microseconds: -microseconds)
    }

    package func subtracting(_ other: Interval) throws(StatementError) -> Interval { try adding(other.negated()) }

    /// Fractions of months become days, those of days become time.
    package func multiplied(by factor: Double) throws(StatementError) -> Interval {
        try scaled(months: Double(months) * factor, Double(days) * factor, Double(microseconds) * factor)
    }

    /// Likewise; "division by zero".
    package func divided(by divisor: Double) throws(StatementError) -> Interval {
        guard divisor != 0 else { throw StatementError(.divisionByZero, "division by zero") }
        return try scaled(months: Double(months) / divisor, Double(days) / divisor, Double(microseconds) / divisor)
    }

    private func scaled(
        months: Double, _ days: Double, _ microseconds: Double
    ) throws(StatementError) -> Interval {
        /// To a millionth: what binary fractions add beyond that was not meant.
        func rounded(_ value: Double) -> Double { (value * 1e6).rounded(.toNearestOrEven) / 1e6 }
        let wholeMonths = months.rounded(.towardZero), wholeDays = days.rounded(.towardZero)
        guard let monthCount = Int32(exactly: wholeMonths), let dayCount = Int32(exactly: wholeDays) else {
            throw Self.outOfRange
        }
        let moreDays = rounded((months - wholeMonths) * 30)
        var seconds = rounded((days - wholeDays + moreDays - moreDays.rounded(.towardZero)) * 86_400)
        var extra = Int64(moreDays.rounded(.towardZero))
        if abs(seconds) >= 86_400 {
            extra += Int64((seconds / 86_400).rounded(.towardZero))
            seconds -= (seconds / 86_400).rounded(.towardZero) * 86_400
        }
        let time = (microseconds + seconds * 1e6).rounded(.toNearestOrEven)
        guard let time = Int64(exactly: time), let total = Int32(exactly: Int64(dayCount) + extra) else {
            throw Self.outOfRange
        }
        return Interval(months: monthCount, days: total, microseconds: time)
    }

    /// 24 hours as a day each (`justify_hours`).
    package func justifyingHours() throws(StatementError) -> Interval {
        let day = Calendar.microsecondsPerDay
        let (moved, isOver) = days.addingReportingOverflow(Int32(microseconds / day))
        guard !isOver else { throw Self.outOfRange }
        var result = Interval(months: months, days: moved, microseconds: microseconds % day)
        if result.days > 0, result.microseconds < 0 {
            result.days -= 1
            result.microseconds += day
        } else if result.days < 0, result.microseconds > 0 {
            result.days += 1
            result.microseconds -= day
        }
        return result
    }

    /// 30 days as a month each (`justify_days`).
    package func justifyingDays() throws(StatementError) -> Interval {
        let (moved, isOver) = months.addingReportingOverflow(days / 30)
        guard !isOver else { throw Self.outOfRange }
        var result = Interval(months: moved, days: days % 30, microseconds: microseconds)
        if result.months > 0, result.days < 0 {
            result.months -= 1
            result.days += 30
        } else if result.months < 0, result.days > 0 {
            result.months += 1
            result.days -= 30
        }
        return result
    }

    /// Both, with one sign for all parts (`justify_interval`).
    package func justified() throws(StatementError) -> Interval {
        let day = Calendar.microsecondsPerDay
        var whole = self
        if days > 0 && microseconds > 0 || days < 0 && microseconds < 0 {
            // Months first, so that the days have room for the hours.
            let (moved, isOver) = months.addingReportingOverflow(days / 30)
            guard !isOver else { throw Self.outOfRange }
            (whole.months, whole.days) = (moved, days % 30)
        }
        var result = try whole.justifyingHours().justifyingDays()
        if result.months > 0, result.days < 0 || (result.days == 0 && result.microseconds < 0) {
            result.months -= 1
            result.days += 30
        } else if result.months < 0, result.days > 0 || (result.days == 0 && result.microseconds > 0) {
            result.months += 1
            result.days -= 30
        }
        if result.days > 0, result.microseconds < 0 {
            result.days -= 1
            result.microseconds += day
        } else if result.days < 0, result.microseconds > 0 {
            result.days += 1
            result.microseconds -= day
        }
        return result
    }
}
