/// The proleptic Gregorian calendar; years are astronomical (0 is 1 BC), days count from 1970-01-01.
package enum Calendar {
    package static let microsecondsPerDay: Int64 = 86_400_000_000
    /// 4714-11-24 BC, where Julian days begin: nothing is before.
    package static let firstDay = -2_440_588
    /// Behind the last date of PostgreSQL (5874897-12-31).
    package static let endOfDates = 2_147_483_494 - 2_440_588
    /// Behind the last timestamp: 294247-01-01, since microseconds from 1970 must fit 64 bits.
    package static let endOfTimestamps = 106_751_982

    private static let daysOfEra = 146_097, eraOffset = 719_468

    /// Any month and day will do: they are counted from the first of January.
    package static func days(year: Int, month: Int, day: Int) -> Int {
        // Years begin in March here, so that the leap day is the last.
        let shifted = (month + 9) % 12
        let year = month <= 2 ? year - 1 : year
        let era = floorDivide(year, 400)
        let yearOfEra = year - era * 400
        let dayOfYear = (153 * shifted + 2) / 5 + day - 1
        return era * daysOfEra + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - eraOffset
    }

    /// The other way.
    package static func date(ofDay day: Int) -> (year: Int, month: Int, day: Int) {
        let day = day + eraOffset
        let era = floorDivide(day, daysOfEra)
        let dayOfEra = day - era * daysOfEra
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shifted + 2) / 5 + 1)
    }

    /// Whether the year has 366 days.
    package static func isLeap(_ year: Int) -> Bool { year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) }

    /// Its number of days.
    package static func length(ofMonth month: Int, year: Int) -> Int {
        switch month {
        case 2: isLeap(year) ? 29 : 28
        case 4, 6, 9, 11: 30
        case _: 31
        }
    }

    /// Rounds towards negative infinity.
    package static func floorDivide(_ value: Int, _ divisor: Int) -> Int {
        let quotient = value / divisor
        return value % divisor < 0 ? quotient - 1 : quotient
    }

    /// 0 is Sunday.
    package static func weekday(ofDay day: Int) -> Int { day + 4 - floorDivide(day + 4, 7) * 7 }
}

/// A moment as people write it: date and time of day.
package struct DateTimeFields: Hashable, Sendable {
    package var year: Int, month: Int, day: Int
    package var hour = 0, minute = 0, second = 0, microsecond = 0

    /// Of microseconds since 1970.
    package init(moment: Int64) {
        let days = Calendar.floorDivide(Int(moment), Int(Calendar.microsecondsPerDay))
        (year, month, day) = Calendar.date(ofDay: days)
        setTime(moment - Int64(days) * Calendar.microsecondsPerDay)
    }

    package init(year: Int, month: Int, day: Int) { (self.year, self.month, self.day) = (year, month, day) }

    /// Of microseconds since midnight.
    package mutating func setTime(_ microseconds: Int64) {
        let seconds = Int(microseconds / 1_000_000)
        microsecond = Int(microseconds % 1_000_000)
        (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60)
    }

    package var microsecondsOfDay: Int64 {
        Int64((hour * 60 + minute) * 60 + second) * 1_000_000 + Int64(microsecond)
    }

    package var dayNumber: Int { Calendar.days(year: year, month: month, day: day) }

    /// Microseconds since 1970; nil beyond what a timestamp can say.
    package var moment: Int64? {
        let days = dayNumber
        guard days >= Calendar.firstDay, days <= Calendar.endOfTimestamps else { return nil }
        return DateTimeFields.checked(Int64(days) * Calendar.microsecondsPerDay + microsecondsOfDay)
    }

    /// Nil for what no timestamp can say.
    package static func checked(_ moment: Int64) -> Int64? {
        moment >= Int64(Calendar.firstDay) * Calendar.microsecondsPerDay
            && moment < Int64(Calendar.endOfTimestamps) * Calendar.microsecondsPerDay ? moment : nil
    }
}
