import Base
import DataModel

/// The fields of a moment or an interval, as pictures show them.
struct DateParts {
    var year = 0, month = 1, day = 1
    var microseconds: Int64 = 0
    var weekday = 0, dayOfYear = 1, dayNumber = 0
    /// Seconds east of Greenwich, and what the zone is called then; nil where there is none.
    var offset: Int32?
    var zoneName = ""
    var isInterval = false

    init(moment: Int64, zone: ZoneRules?) {
        let local = zone?.local(of: moment) ?? moment
        let fields = DateTimeFields(moment: local)
        (year, month, day) = (fields.year, fields.month, fields.day)
        microseconds = fields.microsecondsOfDay
        dayNumber = fields.dayNumber
        weekday = Calendar.weekday(ofDay: dayNumber)
        dayOfYear = dayNumber - Calendar.days(year: year, month: 1, day: 1) + 1
        guard let zone else { return }
        let period = zone.period(at: Int64(Calendar.floorDivide(Int(moment), 1_000_000)))
        offset = period.offset
        zoneName = period.abbreviation
    }

    init(_ interval: Interval) {
        isInterval = true
        (year, month, day) = (Int(interval.months / 12), Int(interval.months % 12), Int(interval.days))
        microseconds = interval.microseconds
        dayOfYear = (year * 12 + month) * 30 + day
    }

    var hour: Int { Int(microseconds / 3_600_000_000) }
    var minute: Int { Int(microseconds / 60_000_000 % 60) }
    var second: Int { Int(microseconds / 1_000_000 % 60) }
    var fraction: Int { Int(microseconds % 1_000_000) }

    /// The year as people count: there is none between 1 BC and 1.
    var shownYear: Int { isInterval || year > 0 ? year : 1 - year }

    /// What a calendar of whole years would count to here, as PostgreSQL has it.
    var julianOfInterval: Int {
        let isLate = month > 2, year = isLate ? year + 4800 : year + 4799, century = year / 100
        return year * 365 - 32_167 + year / 4 - century + century / 4 + 7834 * (month + (isLate ? 1 : 13)) / 256 + day
    }

    /// The ISO week and its year.
    var isoWeek: (year: Int, week: Int) {
        let thursday = dayNumber - (weekday + 6) % 7 + 3
        let year = Calendar.date(ofDay: thursday).year
        return (year, (thursday - Calendar.days(year: year, month: 1, day: 1)) / 7 + 1)
    }

    /// Days since the ISO year's first week began, from 1.
    var isoDay: Int {
        let (_, week) = isoWeek
        return (week - 1) * 7 + (weekday + 6) % 7 + 1
    }
}

/// A picture of `to_char`, `to_date` and `to_timestamp`: `YYYY-MM-DD HH24:MI`.
struct DatePicture {
    /// What is shown in one place. Several spellings of a field differ in the case of what they print.
    enum Field: String, CaseIterable {
        case eraDotted = "A.D.", meridiemDotted = "A.M.", era = "AD", meridiem = "AM", eraBCDotted = "B.C."
        case eraBC = "BC", century = "CC", dayName = "DAY", dayOfYear = "DDD", dayOfMonth = "DD", dayShort = "DY"
        case dayOfWeek = "D", fraction1 = "FF1", fraction2 = "FF2", fraction3 = "FF3", fraction4 = "FF4"
        case fraction5 = "FF5", fraction6 = "FF6", exact = "FX", hour24 = "HH24", hour12 = "HH12", hour = "HH"
        case isoDayOfYear = "IDDD", isoDayOfWeek = "ID", isoWeek = "IW", isoYear4 = "IYYY", isoYear3 = "IYY"
        case isoYear2 = "IY", isoYear1 = "I", julian = "J", minute = "MI", month = "MM", monthName = "MONTH"
        case monthShort = "MON", milliseconds = "MS", offset = "OF", afternoonDotted = "P.M.", afternoon = "PM"
        case quarter = "Q", roman = "RM", secondsOfDay5 = "SSSSS", secondsOfDay = "SSSS", second = "SS"
        case zoneHour = "TZH", zoneMinute = "TZM", zone = "TZ", microseconds = "US", weekOfYear = "WW"
        case weekOfMonth = "W", yearComma = "Y,YYY", year4 = "YYYY", year3 = "YYY", year2 = "YY", year1 = "Y"

        /// Whether a number stands there, so that the one before has to end by its length.
        var isNumber: Bool {
            switch self {
            case .eraDotted, .meridiemDotted, .era, .meridiem, .eraBCDotted, .eraBC, .dayName, .dayShort, .exact,
                .monthName, .monthShort, .offset, .afternoonDotted, .afternoon, .roman, .zoneHour, .zone:
                false
            case .century, .dayOfYear, .dayOfMonth, .dayOfWeek, .fraction1, .fraction2, .fraction3, .fraction4,
                .fraction5, .fraction6, .hour24, .hour12, .hour, .isoDayOfYear, .isoDayOfWeek, .isoWeek, .isoYear4,
                .isoYear3, .isoYear2, .isoYear1, .julian, .minute, .month, .milliseconds, .quarter, .secondsOfDay5,
                .secondsOfDay, .second, .zoneMinute, .microseconds, .weekOfYear, .weekOfMonth, .yearComma, .year4,
                .year3, .year2, .year1:
                true
            }
        }
    }

    enum Casing { case upper, capital, lower }

    struct Place {
        let field: Field
        let casing: Casing
        /// As it is spelled, for messages.
        let spelling: String
        /// FM: without padding. TH: with an ordinal's ending.
        let isBare: Bool
        var ordinal: Casing?
    }

    enum Item {
        case field(Place)
        case text(Unicode.Scalar, isQuoted: Bool)
    }

    let items: [Item]

    init(_ picture: String) {
        let scalars = Array(picture.unicodeScalars)
        var items: [Item] = [], index = 0
        while index < scalars.count {
            let start = index
            var isBare = false
            // Prefixes in front of a field; without one they are plain text.
            while let prefix = Self.prefix(scalars, index) {
                isBare = isBare || prefix
                index += 2
            }
            if let (field, casing) = Self.field(scalars, index) {
                let length = field.rawValue.unicodeScalars.count
                let spelling = Self.string(scalars[index..<(index + length)])
                index += length
                var place = Place(field: field, casing: casing, spelling: spelling, isBare: isBare)
                while let (ending, casing) = Self.suffix(scalars, index) {
                    if ending { place.ordinal = casing }
                    index += 2
                }
                items.append(.field(place))
                continue
            }
            if index > start, index >= scalars.count { break }
            switch scalars[index] {
            case "\"":
                index += 1
                while index < scalars.count, scalars[index] != "\"" {
                    if scalars[index] == "\\", index + 1 < scalars.count { index += 1 }
                    items.append(.text(scalars[index], isQuoted: true))
                    index += 1
                }
                index += 1
            case "\\" where index + 1 < scalars.count && scalars[index + 1] == "\"":
                items.append(.text("\"", isQuoted: true))
                index += 2
            case let scalar:
                items.append(.text(scalar, isQuoted: false))
                index += 1
            }
        }
        self.items = items
    }

    private static func string(_ scalars: ArraySlice<Unicode.Scalar>) -> String {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: scalars)
        return String(view)
    }

    private static func at(_ scalars: [Unicode.Scalar], _ index: Int, _ word: String) -> Bool {
        let wanted = word.unicodeScalars
        guard index + wanted.count <= scalars.count else { return false }
        return scalars[index..<(index + wanted.count)].elementsEqual(wanted)
    }

    /// FM (true) or TM.
    private static func prefix(_ scalars: [Unicode.Scalar], _ index: Int) -> Bool? {
        if at(scalars, index, "FM") || at(scalars, index, "fm") { return true }
        return at(scalars, index, "TM") || at(scalars, index, "tm") ? false : nil
    }

    /// TH or th (true), or SP.
    private static func suffix(_ scalars: [Unicode.Scalar], _ index: Int) -> (Bool, Casing)? {
        if at(scalars, index, "TH") { return (true, .upper) }
        if at(scalars, index, "th") { return (true, .lower) }
        return at(scalars, index, "SP") ? (false, .upper) : nil
    }

    /// Longer names first, each in capitals or small letters; names of days and months with one capital too.
    private static let spellings: [(String, Field, Casing)] = {
        var all: [(String, Field, Casing)] = []
        for field in Field.allCases {
            all.append((field.rawValue, field, .upper))
            all.append((field.rawValue.lowercased(), field, .lower))
            if [.dayName, .dayShort, .monthName, .monthShort].contains(field) {
                let capital = field.rawValue.prefix(1) + field.rawValue.dropFirst().lowercased()
                all.append((String(capital), field, .capital))
            }
        }
        return all.sorted { $0.0.utf8.count > $1.0.utf8.count }
    }()

    private static func field(_ scalars: [Unicode.Scalar], _ index: Int) -> (Field, Casing)? {
        guard index < scalars.count else { return nil }
        for (spelling, field, casing) in spellings where at(scalars, index, spelling) { return (field, casing) }
        return nil
    }
}

// MARK: Showing

extension DatePicture {
    static let months = [
        "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
        "December",
    ]
    static let weekdays = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
    static let romans = ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"]

    func text(of parts: DateParts) throws(StatementError) -> String {
        var result = ""
        for item in items {
            switch item {
            case .text(let scalar, _): result.unicodeScalars.append(scalar)
            case .field(let place):
                var shown = try text(of: place, parts)
                if let ordinal = place.ordinal, place.field.isNumber {
                    shown += Self.ending(of: shown, isUpper: ordinal == .upper)
                }
                result += shown
            }
        }
        return result
    }

    /// st, nd, rd, th.
    static func ending(of number: String, isUpper: Bool) -> String {
        let digits = Array(number.utf8)
        let isTeen = digits.count > 1 && digits[digits.count - 2] == UInt8(ascii: "1")
        let ending: String
        switch digits.last {
        case UInt8(ascii: "1") where !isTeen: ending = "st"
        case UInt8(ascii: "2") where !isTeen: ending = "nd"
        case UInt8(ascii: "3") where !isTeen: ending = "rd"
        case _: ending = "th"
        }
        return isUpper ? ending.uppercased() : ending
    }

    private static func cased(_ text: String, _ casing: Casing) -> String {
        switch casing {
        case .upper: text.uppercased()
        case .capital: text
        case .lower: text.lowercased()
        }
    }

    /// With zeros in front up to a width, which includes the sign.
    private static func padded(_ number: Int, _ width: Int) -> String {
        let digits = String(number.magnitude), sign = number < 0 ? "-" : ""
        return sign + String(repeating: "0", count: max(width - sign.count - digits.count, 0)) + digits
    }

    private func refuseInterval(_ parts: DateParts) throws(StatementError) {
        guard parts.isInterval else { return }
        throw StatementError(
            .invalidDatetimeFormat, "invalid format specification for an interval value",
            hint: "Intervals are not tied to specific calendar dates.")
    }

    private func text(of place: Place, _ parts: DateParts) throws(StatementError) -> String {
        func number(_ value: Int, _ width: Int) -> String {
            Self.padded(value, place.isBare ? 0 : value >= 0 ? width : width + 1)
        }
        func name(_ name: String, _ width: Int) -> String {
            let text = Self.cased(name, place.casing)
            let blanks = place.isBare ? 0 : max(width - text.utf8.count, 0)
            return text + String(repeating: " ", count: blanks)
        }
        let isAfternoon = ((parts.hour % 24) + 24) % 24 >= 12
        switch place.field {
        case .meridiemDotted, .afternoonDotted: return Self.cased(isAfternoon ? "P.M." : "A.M.", place.casing)
        case .meridiem, .afternoon: return Self.cased(isAfternoon ? "PM" : "AM", place.casing)
        case .eraDotted, .eraBCDotted:
            try refuseInterval(parts)
            return Self.cased(parts.year <= 0 ? "B.C." : "A.D.", place.casing)
        case .era, .eraBC:
            try refuseInterval(parts)
            return Self.cased(parts.year <= 0 ? "BC" : "AD", place.casing)
        case .hour, .hour12:
            let hour = parts.hour % 12
            return number(hour == 0 ? 12 : hour, 2)
        case .hour24: return number(parts.hour, 2)
        case .minute: return number(parts.minute, 2)
        case .second: return number(parts.second, 2)
        case .fraction1: return Self.padded(parts.fraction / 100_000, 1)
        case .fraction2: return Self.padded(parts.fraction / 10_000, 2)
        case .fraction3, .milliseconds: return Self.padded(parts.fraction / 1000, 3)
        case .fraction4: return Self.padded(parts.fraction / 100, 4)
        case .fraction5: return Self.padded(parts.fraction / 10, 5)
        case .fraction6, .microseconds: return Self.padded(parts.fraction, 6)
        case .secondsOfDay, .secondsOfDay5: return String(parts.microseconds / 1_000_000)
        case .zone, .zoneHour, .zoneMinute, .offset: return try zoneText(place, parts)
        case .monthName, .monthShort, .dayName, .dayShort:
            if place.field == .dayName || place.field == .dayShort { try refuseInterval(parts) }
            return self.name(place, parts, name)
        case .roman: return roman(parts, name)
        case .exact: return ""
        case .century, .dayOfYear, .dayOfMonth, .dayOfWeek, .isoDayOfYear, .isoDayOfWeek, .isoWeek, .isoYear4,
            .isoYear3, .isoYear2, .isoYear1, .julian, .month, .quarter, .weekOfYear, .weekOfMonth, .yearComma, .year4,
            .year3, .year2, .year1:
            return try dateText(place, parts, number)
        }
    }

    private func zoneText(_ place: Place, _ parts: DateParts) throws(StatementError) -> String {
        try refuseInterval(parts)
        let offset = Int(parts.offset ?? 0)
        let sign = offset < 0 ? "-" : "+"
        let hours = Self.padded(abs(offset) / 3600, 2), minutes = abs(offset) / 60 % 60
        switch place.field {
        case .zone: return place.casing == .lower ? parts.zoneName.lowercased() : parts.zoneName
        case .zoneHour: return sign + hours
        case .zoneMinute: return Self.padded(minutes, 2)
        case _: return sign + hours + (minutes == 0 ? "" : ":" + Self.padded(minutes, 2))  // OF.
        }
    }

    private func name(_ place: Place, _ parts: DateParts, _ padded: (String, Int) -> String) -> String {
        switch place.field {
        case .monthName, .monthShort:
            guard (1...12).contains(parts.month) else { return "" }
            let month = Self.months[parts.month - 1]
            return place.field == .monthName ? padded(month, 9) : padded(String(month.prefix(3)), 0)
        case _:  // Of the day.
            let day = Self.weekdays[parts.weekday % 7]
            return place.field == .dayName ? padded(day, 9) : padded(String(day.prefix(3)), 0)
        }
    }

    private func roman(_ parts: DateParts, _ padded: (String, Int) -> String) -> String {
        guard parts.month != 0 || parts.year != 0 else { return "" }
        // Of intervals, no month is the last one; negative ones count back.
        let month = parts.month > 0 ? parts.month : parts.month < 0 ? 13 + parts.month : parts.year >= 0 ? 12 : 1
        return padded(Self.romans[(month + 11) % 12], 4)
    }

    private func dateText(_ place: Place, _ parts: DateParts, _ number: (Int, Int) -> String)
        throws(StatementError) -> String
    {
        let year = parts.shownYear
        switch place.field {
        case .month: return number(parts.month, 2)
        // Of these a sign is one of the places.
        case .dayOfMonth: return Self.padded(parts.day, place.isBare ? 0 : 2)
        case .dayOfYear: return Self.padded(parts.dayOfYear, place.isBare ? 0 : 3)
        case .yearComma: return "\(year / 1000)," + Self.padded(year % 1000, 3)
        case .year4: return number(year, 4)
        case .year3: return number(year % 1000, 3)
        case .year2: return number(year % 100, 2)
        case .year1: return number(year % 10, 1)
        case .weekOfYear: return number((parts.dayOfYear - 1) / 7 + 1, 2)
        case .weekOfMonth: return "\((parts.day - 1) / 7 + 1)"
        case .quarter: return parts.month == 0 ? "" : "\((parts.month - 1) / 3 + 1)"
        case .century:
            let century =
                parts.isInterval || parts.year > 0
                ? (parts.isInterval ? parts.year / 100 : (parts.year - 1) / 100 + 1) : parts.year / 100 - 1
            return (-99...99).contains(century) ? number(century, 2) : "\(century)"
        case .julian:
            return "\(parts.isInterval ? parts.julianOfInterval : parts.dayNumber - Calendar.firstDay)"
        case _: break  // Fields of ISO weeks.
        }
        try refuseInterval(parts)
        let iso = parts.isoWeek
        let isoYear = iso.year > 0 ? iso.year : 1 - iso.year
        switch place.field {
        case .dayOfWeek: return "\(parts.weekday + 1)"
        case .isoDayOfWeek: return "\(parts.weekday == 0 ? 7 : parts.weekday)"
        case .isoWeek: return number(iso.week, 2)
        case .isoDayOfYear: return number(parts.isoDay, 3)
        case .isoYear4: return number(isoYear, 4)
        case .isoYear3: return number(isoYear % 1000, 3)
        case .isoYear2: return number(isoYear % 100, 2)
        case _: return number(isoYear % 10, 1)  // The last one left.
        }
    }
}
