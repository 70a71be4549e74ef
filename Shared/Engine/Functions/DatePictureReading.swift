import Base
import DataModel

/// What a text says that is read by a picture.
private struct ReadParts {
    var year: Int?, month: Int?, day: Int?, dayOfYear: Int?, weekday: Int?, century: Int?
    var yearDigits = 4
    var isoYear: Int?, isoWeek: Int?, isoDay: Int?, isoDayOfYear: Int?
    var weekOfYear: Int?, weekOfMonth: Int?, julian: Int?, quarter: Int?
    var hour: Int?, minute: Int?, second: Int?, secondsOfDay: Int?, milliseconds = 0, microseconds = 0
    /// FF: to so many digits the whole is rounded.
    var precision: Int32?
    var isTwelve = false, isAfternoon: Bool?, isBC = false
    var zoneHour: Int?, zoneMinute: Int?, isZoneNegative = false
}

/// Reads a text by a picture: `to_date('05 Dec 2000', 'DD Mon YYYY')`.
struct DatePictureReader {
    private let items: [DatePicture.Item]
    private let text: [Unicode.Scalar]
    private var at = 0
    /// Blanks and separators that were passed over and that the picture does not have.
    private var skipped = 0
    private var parts = ReadParts()

    private init(_ text: String, _ picture: DatePicture) {
        items = picture.items
        self.text = Array(text.unicodeScalars)
    }

    /// The day, the microseconds in it and the zone that was given, in seconds east; to how many digits to round.
    static func read(_ text: String, _ picture: DatePicture) throws(StatementError)
        -> (day: Int, time: Int64, offset: Int?, precision: Int32?)
    {
        var reader = DatePictureReader(text, picture)
        try reader.walk()
        let (day, time, offset) = try reader.assemble(text)
        return (day, time, offset, reader.parts.precision)
    }

    private static func isSpace(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value == 32 || (9...13).contains(scalar.value)
    }

    private static func isDigit(_ scalar: Unicode.Scalar) -> Bool { (48...57).contains(scalar.value) }

    private static func isSeparator(_ scalar: Unicode.Scalar) -> Bool {
        let value = scalar.value
        let isLetter = (65...90).contains(value) || (97...122).contains(value)
        return value > 0x20 && value < 0x7f && !isLetter && !isDigit(scalar)
    }

    // MARK: Walking

    private mutating func walk() throws(StatementError) {
        var isExact = false
        for (index, item) in items.enumerated() {
            guard at < text.count else { return }
            if case .field(let place) = item, place.field == .exact { isExact = true }
            let isField = if case .field = item { true } else { false }
            if !isExact, isField || index == 0 {
                while at < text.count, Self.isSpace(text[at]) {
                    at += 1
                    skipped += 1
                }
                // A field that finds nothing but blanks is refused.
                guard at < text.count || isField else { return }
            }
            switch item {
            case .text(let scalar, let isQuoted):
                let isGap = !isQuoted && (Self.isSpace(scalar) || Self.isSeparator(scalar))
                if isExact {
                    at += 1
                } else if isGap {
                    skipped -= 1
                    if Self.isSpace(text[at]) || Self.isSeparator(text[at]) {
                        at += 1
                        skipped += 1
                    }
                } else if skipped > 0 {
                    skipped -= 1
                } else {
                    at += 1
                }
            case .field(let place):
                try read(place, isFree: place.isBare || isFollowedByGap(index, place))
                // A run of blanks behind a field is not held against the picture.
                skipped = 0
                if !isExact {
                    while at < text.count, Self.isSpace(text[at]) {
                        at += 1
                        skipped += 1
                    }
                }
            }
        }
    }

    /// Whether the field ends by itself: what comes next is no digit.
    private func isFollowedByGap(_ index: Int, _ place: DatePicture.Place) -> Bool {
        if place.ordinal != nil { return true }
        guard index + 1 < items.count else { return true }
        switch items[index + 1] {
        case .field(let next): return !next.field.isNumber
        case .text(let scalar, _): return !Self.isDigit(scalar)
        }
    }

    // MARK: Fields

    private mutating func set(_ path: WritableKeyPath<ReadParts, Int?>, _ value: Int, _ place: DatePicture.Place)
        throws(StatementError)
    {
        if let old = parts[keyPath: path], old != value {
            throw StatementError(
                .invalidDatetimeFormat,
                "conflicting values for \"\(place.spelling)\" field in formatting string",
                detail: "This value contradicts a previous setting for the same field type.")
        }
        parts[keyPath: path] = value
    }

    private func excerpt(_ count: Int) -> String {
        var view = String.UnicodeScalarView()
        view.append(contentsOf: text[min(at, text.count)..<min(at + count, text.count)])
        return String(view)
    }

    /// A whole number of at most `length` digits, or of any number where it ends by itself.
    private mutating func number(_ place: DatePicture.Place, _ length: Int, isFree: Bool) throws(StatementError) -> Int
    {
        while at < text.count, Self.isSpace(text[at]) { at += 1 }
        let rest = text.count - at
        if !isFree, rest < length {
            throw StatementError(
                .invalidDatetimeFormat, "source string too short for \"\(place.spelling)\" formatting field",
                detail: "Field requires \(length) characters, but only \(rest) remain.",
                hint: "If your source string is not fixed-width, try using the \"FM\" modifier.")
        }
        let shown = excerpt(length)
        let limit = isFree ? text.count : min(at + length, text.count)
        var cursor = at, isNegative = false, value = 0, digits = 0
        if cursor < limit, text[cursor] == "-" || text[cursor] == "+" {
            isNegative = text[cursor] == "-"
            cursor += 1
        }
        while cursor < limit, Self.isDigit(text[cursor]) {
            value = min(value * 10 + Int(text[cursor].value - 48), 1 << 40)
            cursor += 1
            digits += 1
        }
        guard digits > 0 else {
            throw StatementError(
                .invalidDatetimeFormat, "invalid value \"\(shown)\" for \"\(place.spelling)\"",
                detail: "Value must be an integer.")
        }
        if !isFree, cursor < limit {
            throw StatementError(
                .invalidDatetimeFormat, "invalid value \"\(shown)\" for \"\(place.spelling)\"",
                detail: "Field requires \(length) characters, but only \(cursor - at) could be parsed.",
                hint: "If your source string is not fixed-width, try using the \"FM\" modifier.")
        }
        guard value <= Int(Int32.max) else {
            throw StatementError(
                .datetimeFieldOverflow, "value for \"\(place.spelling)\" in source string is out of range",
                detail: "Value must be in the range -2147483648 to 2147483647.")
        }
        at = cursor
        if place.ordinal != nil, at + 2 <= text.count { at += 2 }
        return isNegative ? -value : value
    }

    /// The index of the word that stands here, in any case.
    private mutating func word(_ place: DatePicture.Place, _ words: [String]) throws(StatementError) -> Int {
        for (index, word) in words.enumerated() where excerpt(word.count).lowercased() == word.lowercased() {
            at += word.count
            return index
        }
        var end = at
        while end < text.count, !Self.isSpace(text[end]) { end += 1 }
        throw StatementError(
            .invalidDatetimeFormat, "invalid value \"\(excerpt(end - at))\" for \"\(place.spelling)\"",
            detail: "The given value did not match any of the allowed values for this field.")
    }

    private mutating func read(_ place: DatePicture.Place, isFree: Bool) throws(StatementError) {
        switch place.field {
        case .exact: break
        case .meridiem, .afternoon, .meridiemDotted, .afternoonDotted:
            let isDotted = place.field == .meridiemDotted || place.field == .afternoonDotted
            parts.isAfternoon = try word(place, isDotted ? ["a.m.", "p.m."] : ["am", "pm"]) == 1
            parts.isTwelve = true
        case .era, .eraBC, .eraDotted, .eraBCDotted:
            let isDotted = place.field == .eraDotted || place.field == .eraBCDotted
            parts.isBC = try word(place, isDotted ? ["a.d.", "b.c."] : ["ad", "bc"]) == 1
        case .hour, .hour12:
            try set(\.hour, try number(place, 2, isFree: isFree), place)
            parts.isTwelve = true
        case .hour24: try set(\.hour, try number(place, 2, isFree: isFree), place)
        case .minute: try set(\.minute, try number(place, 2, isFree: isFree), place)
        case .second: try set(\.second, try number(place, 2, isFree: isFree), place)
        case .milliseconds: parts.milliseconds = try fraction(place, 3, of: 3, isFree)
        case .microseconds: parts.microseconds = try fraction(place, 6, of: 6, isFree)
        case .fraction1: try readFraction(place, 1, isFree)
        case .fraction2: try readFraction(place, 2, isFree)
        case .fraction3: try readFraction(place, 3, isFree)
        case .fraction4: try readFraction(place, 4, isFree)
        case .fraction5: try readFraction(place, 5, isFree)
        case .fraction6: try readFraction(place, 6, isFree)
        case .secondsOfDay, .secondsOfDay5: try set(\.secondsOfDay, try number(place, 5, isFree: isFree), place)
        case .zone, .offset:
            throw StatementError(
                .featureNotSupported, "formatting field \"\(place.spelling)\" is only supported in to_char")
        case .zoneHour:
            if at < text.count, text[at] == "-" || text[at] == "+" || text[at] == " " {
                parts.isZoneNegative = text[at] == "-"
                at += 1
            } else if skipped > 0, at > 0 {
                // The sign was taken for a separator.
                parts.isZoneNegative = text[at - 1] == "-"
            }
            try set(\.zoneHour, try number(place, 2, isFree: isFree), place)
        case .zoneMinute: try set(\.zoneMinute, try number(place, 2, isFree: isFree), place)
        case .century, .dayName, .dayOfYear, .dayOfMonth, .dayShort, .dayOfWeek, .isoDayOfYear, .isoDayOfWeek,
            .isoWeek, .isoYear4, .isoYear3, .isoYear2, .isoYear1, .julian, .month, .monthName, .monthShort, .quarter,
            .roman, .weekOfYear, .weekOfMonth, .yearComma, .year4, .year3, .year2, .year1:
            try readDate(place, isFree)
        }
    }

    private mutating func readDate(_ place: DatePicture.Place, _ isFree: Bool) throws(StatementError) {
        switch place.field {
        case .monthName: try set(\.month, try word(place, DatePicture.months) + 1, place)
        case .monthShort:
            try set(\.month, try word(place, DatePicture.months.map { String($0.prefix(3)) }) + 1, place)
        case .dayName: _ = try word(place, DatePicture.weekdays)
        case .dayShort: _ = try word(place, DatePicture.weekdays.map { String($0.prefix(3)) })
        case .roman:
            // Longer ones first: VIII begins with VII.
            let words = DatePicture.romans.enumerated().sorted { $0.element.count > $1.element.count }
            let found = try word(place, words.map(\.element))
            try set(\.month, words[found].offset + 1, place)
        case .month: try set(\.month, try number(place, 2, isFree: isFree), place)
        case .dayOfMonth: try set(\.day, try number(place, 2, isFree: isFree), place)
        case .dayOfYear: try set(\.dayOfYear, try number(place, 3, isFree: isFree), place)
        case .dayOfWeek: try set(\.weekday, try number(place, 1, isFree: isFree), place)
        case .isoDayOfYear: try set(\.isoDayOfYear, try number(place, 3, isFree: isFree), place)
        case .isoDayOfWeek: try set(\.isoDay, try number(place, 1, isFree: isFree), place)
        case .isoWeek: try set(\.isoWeek, try number(place, 2, isFree: isFree), place)
        case .weekOfYear: try set(\.weekOfYear, try number(place, 2, isFree: isFree), place)
        case .weekOfMonth: try set(\.weekOfMonth, try number(place, 1, isFree: isFree), place)
        case .quarter: try set(\.quarter, try number(place, 1, isFree: isFree), place)
        case .century: try set(\.century, try number(place, 2, isFree: isFree), place)
        case .julian: try set(\.julian, try number(place, 7, isFree: true), place)
        case .yearComma:
            var rest = place
            rest.ordinal = nil
            let thousands = try number(rest, 1, isFree: true)
            if at < text.count, text[at] == "," { at += 1 }
            let isShort = text[min(at, text.count)...].prefix(3).count { Self.isDigit($0) } < 3
            try set(\.year, thousands * 1000 + (try number(rest, 3, isFree: isShort)), place)
            if place.ordinal != nil, at + 2 <= text.count { at += 2 }
        case .year4: try readYear(place, 4, isFree)
        case .year3: try readYear(place, 3, isFree)
        case .year2: try readYear(place, 2, isFree)
        case .year1: try readYear(place, 1, isFree)
        case .isoYear4: try set(\.isoYear, try number(place, 4, isFree: isFree), place)
        case .isoYear3: try set(\.isoYear, nearest(try number(place, 3, isFree: isFree), 3), place)
        case .isoYear2: try set(\.isoYear, nearest(try number(place, 2, isFree: isFree), 2), place)
        case .isoYear1: try set(\.isoYear, nearest(try number(place, 1, isFree: isFree), 1), place)
        case _: break  // Fields of the time are read elsewhere.
        }
    }

    private mutating func readYear(_ place: DatePicture.Place, _ digits: Int, _ isFree: Bool) throws(StatementError) {
        let start = at
        let value = try number(place, digits, isFree: isFree)
        let isShort = digits < 4 && at - start < 4
        parts.yearDigits = digits
        try set(\.year, isShort && parts.century == nil ? nearest(value, at - start) : value, place)
    }

    /// A year of few digits is the one nearest to 2020.
    private func nearest(_ year: Int, _ digits: Int) -> Int {
        switch year {
        case 0..<70: year + 2000
        case 70..<100: year + 1900
        case 100..<520: year + 2000
        case 520..<1000: year + 1000
        case _: year
        }
    }

    /// Digits of a fraction count from the left: .7 is seven tenths. More than there are places make it too large.
    private mutating func fraction(_ place: DatePicture.Place, _ length: Int, of places: Int, _ isFree: Bool)
        throws(StatementError) -> Int
    {
        let start = at
        var value = try number(place, length, isFree: isFree)
        for _ in 0..<max(places - (at - start), 0) { value *= 10 }
        return value
    }

    private mutating func readFraction(_ place: DatePicture.Place, _ length: Int, _ isFree: Bool)
        throws(StatementError)
    {
        parts.microseconds = try fraction(place, length, of: 6, isFree)
        parts.precision = Int32(length)
    }

    // MARK: Together

    private func outOfRange(_ text: String) -> StatementError {
        StatementError(.datetimeFieldOverflow, "date/time field value out of range: \"\(text)\"")
    }

    private func assemble(_ text: String) throws(StatementError) -> (day: Int, time: Int64, offset: Int?) {
        var hour = parts.hour ?? 0
        var minute = parts.minute ?? 0, second = parts.second ?? 0
        if let all = parts.secondsOfDay { (hour, minute, second) = (all / 3600, all / 60 % 60, all % 60) }
        if parts.isTwelve, parts.hour != nil || parts.isAfternoon != nil {
            guard parts.hour == nil || (1...12).contains(hour) else {
                throw StatementError(
                    .invalidDatetimeFormat, "hour \"\(hour)\" is invalid for the 12-hour clock",
                    hint: "Use the 24-hour clock, or give an hour between 1 and 12.")
            }
            if parts.isAfternoon == true { hour = hour < 12 ? hour + 12 : hour } else if hour == 12 { hour = 0 }
        }
        let part = parts.milliseconds * 1000 + parts.microseconds
        guard (0...59).contains(minute), (0...59).contains(second), (0...23).contains(hour),
            (0..<1_000_000).contains(part)
        else { throw outOfRange(text) }
        let time = Int64((hour * 60 + minute) * 60 + second) * 1_000_000 + Int64(part)
        var offset: Int?
        if parts.zoneHour != nil || parts.zoneMinute != nil {
            let zoneHour = parts.zoneHour ?? 0, minutes = parts.zoneMinute ?? 0
            guard (0...15).contains(zoneHour), (0...59).contains(minutes) else { throw outOfRange(text) }
            offset = (zoneHour * 3600 + minutes * 60) * (parts.isZoneNegative ? -1 : 1)
        }
        return (try day(text), time, offset)
    }

    private func day(_ text: String) throws(StatementError) -> Int {
        if let julian = parts.julian { return julian + Calendar.firstDay }
        if parts.isoYear != nil || parts.isoWeek != nil { return try isoDay(text) }
        let year = year
        var month = parts.month ?? 1, day = parts.day ?? 1
        var dayOfYear = parts.dayOfYear
        if let week = parts.weekOfYear { dayOfYear = dayOfYear ?? (week - 1) * 7 + 1 }
        if let week = parts.weekOfMonth { day = (week - 1) * 7 + 1 }
        if let dayOfYear, parts.month == nil || parts.day == nil {
            guard (1...(Calendar.isLeap(year) ? 366 : 365)).contains(dayOfYear) else { throw outOfRange(text) }
            let date = Calendar.date(ofDay: Calendar.days(year: year, month: 1, day: 1) + dayOfYear - 1)
            if parts.month == nil { month = date.month }
            if parts.day == nil { day = date.day }
        }
        guard abs(year) < 6_000_000, (1...12).contains(month), day >= 1,
            day <= Calendar.length(ofMonth: month, year: year)
        else { throw outOfRange(text) }
        return Calendar.days(year: year, month: month, day: day)
    }

    /// As the calendar counts, where 0 is the first year before Christ: what it is too where nothing says a year.
    private var year: Int {
        let given = parts.year ?? 0
        guard let century = parts.century.map({ parts.isBC ? -$0 : $0 }), given == 0 || parts.yearDigits <= 2 else {
            // Twice before Christ is after.
            let year = parts.isBC ? -given : given
            return year < 0 ? year + 1 : year
        }
        let rest = given % 100
        if parts.year == nil || given == 0 { return century >= 0 ? (century - 1) * 100 + 1 : century * 100 + 1 }
        if rest == 0 { return century * 100 + (century >= 0 ? 0 : 1) }
        return century >= 0 ? rest + (century - 1) * 100 : (century + 1) * 100 - rest + 1
    }

    private func isoDay(_ text: String) throws(StatementError) -> Int {
        guard parts.year == nil, parts.month == nil, parts.day == nil else {
            throw StatementError(
                .invalidDatetimeFormat, "invalid combination of date conventions",
                hint: "Do not mix Gregorian and ISO week date conventions in a formatting template.")
        }
        let year = parts.isoYear ?? 0, week = parts.isoWeek ?? 1
        guard abs(year) < 6_000_000, (1...53).contains(week) else { throw outOfRange(text) }
        let fourth = Calendar.days(year: year, month: 1, day: 4)
        let monday = fourth - (Calendar.weekday(ofDay: fourth) + 6) % 7
        if let day = parts.isoDayOfYear { return monday + day - 1 }
        let weekday = parts.isoDay ?? parts.weekday.map { $0 == 1 ? 7 : $0 - 1 } ?? 1
        guard (1...7).contains(weekday) else { throw outOfRange(text) }
        return monday + (week - 1) * 7 + weekday - 1
    }
}
