/// Puts the fields of a text together to a date and a time. The rules are those of PostgreSQL's appendix B.1.
struct DateTimeParser {
    enum Failure: Error { case malformed, outOfRange, orderOutOfRange, zoneOutOfRange, unknownZone(String) }

    /// What a text says that is no date of the calendar.
    enum Special { case now, today(Int), epoch, infinity(isNegative: Bool) }

    private(set) var special: Special?
    private(set) var year: Int?, month: Int?, day: Int?
    private(set) var time: Int64?
    private(set) var offset: Int32?
    private(set) var rules: ZoneRules?
    private let settings: TextSettings
    private var hasTwoDigits = false, hasMonthName = false, isBC: Bool?, isAfternoon: Bool?
    private var isTimeNext = false, isJulianNext = false, hasDaylight = false, hasDayOfYear = false
    /// Digits are a time, where the text may be a time alone and no date comes first.
    private let isTimeFirst: Bool
    /// The text may be a time alone; the number of the field that is read.
    private let isTime: Bool
    private var place = 0

    init(_ fields: [DateTimeScanner.Field], _ settings: TextSettings, isTime: Bool) throws(Failure) {
        self.settings = settings
        let hasDateFirst = fields.count >= 2 && (fields[1].kind == .time || fields[fields.count - 1].kind == .date)
        self.isTime = isTime
        isTimeFirst = isTime && !hasDateFirst
        if isTime, hasDateFirst, fields[0].kind == .number { throw .malformed }
        for field in fields {
            try add(field)
            place += 1
        }
        guard !isTimeNext, !isJulianNext else { throw .malformed }
        try finish()
    }

    var hasDate: Bool { year != nil && month != nil && day != nil }

    private var hasMonthAndDay: Bool { month != nil && day != nil }

    private mutating func add(_ field: DateTimeScanner.Field) throws(Failure) {
        if isJulianNext {
            guard field.kind == .number, let number = Self.number(field.text[...]), number < 1 << 31 else {
                throw .malformed
            }
            isJulianNext = false
            let date = Calendar.date(ofDay: number + Calendar.firstDay)
            (year, month, day) = (date.year, date.month, date.day)
            (isBC, hasDayOfYear) = (nil, true)
            return
        }
        if isTimeNext, field.kind != .time {
            isTimeNext = false
            if field.kind == .date, let sign = field.text.firstIndex(of: UInt8(ascii: "-")) {
                // A time and a zone run together: T040506-08.
                try addCompact(Array(field.text[..<sign]), asTime: true)
                return try addZone(Array(field.text[sign...]))
            }
            guard field.kind == .number, time == nil else { throw .malformed }
            return try addCompact(field.text, asTime: true)
        }
        switch field.kind {
        case .date: try addDate(field)
        case .time:
            guard time == nil else { throw .malformed }
            isTimeNext = false
            time = try Self.clock(field.text)
        case .zone: try addZone(field.text)
        case .number: try addNumber(field.text)
        case .word, .special: try addWord(field)
        }
    }

    // MARK: Words

    private mutating func addWord(_ field: DateTimeScanner.Field) throws(Failure) {
        guard let word = DateTimeWord.find(field.string) else {
            if field.string == "-infinity" {
                return try setSpecial(.infinity(isNegative: true))
            }
            guard field.kind == .word, offset == nil, rules == nil, let found = settings.zoneNamed(field.string) else {
                throw .malformed
            }
            rules = found
            return
        }
        switch word {
        case .month(let number):
            // A number before may have been taken for the month: it is the day then.
            if let previous = month, !hasMonthName, day == nil, (1...31).contains(previous) { day = previous }
            guard month == nil || !hasMonthName else { throw .malformed }
            (month, hasMonthName) = (number, true)
        case .weekday, .ignored: break
        case .era(let isBC):
            guard self.isBC == nil else { throw .malformed }
            self.isBC = isBC
        case .meridiem(let isAfternoon): self.isAfternoon = isAfternoon
        case .zone(let seconds):
            guard offset == nil, rules == nil else { throw .malformed }
            offset = seconds
        case .daylight:
            guard !hasDaylight, let standard = offset else { throw .malformed }
            (offset, hasDaylight) = (standard + 3600, true)
        case .timeMark:
            guard hasDate || isTimeFirst else { throw .malformed }
            isTimeNext = true
        case .julianMark: isJulianNext = true
        case .midnight:
            guard time == nil else { throw .malformed }
            (time, offset) = (0, 0)
        case .now: try setSpecial(.now)
        case .today(let days): try setSpecial(.today(days))
        case .epoch: try setSpecial(.epoch)
        case .infinity: try setSpecial(.infinity(isNegative: false))
        }
    }

    private mutating func setSpecial(_ word: Special) throws(Failure) {
        guard special == nil, year == nil, month == nil, day == nil else { throw .malformed }
        special = word
    }

    // MARK: Dates

    private mutating func addDate(_ field: DateTimeScanner.Field) throws(Failure) {
        let isNumber = field.text.first?.isDigit ?? false
        if !isNumber, isTime ? isTimeFirst || place > 0 : hasMonthAndDay {
            // A name of a zone with punctuation in it.
            guard offset == nil, rules == nil else { throw .malformed }
            let name = field.string
            guard let found = settings.zoneNamed(name) ?? ZoneRules(posix: name.uppercased()) else {
                throw .unknownZone(name)
            }
            rules = found
            return
        }
        if hasMonthAndDay || (isTimeFirst && isNumber) {
            // A time and a zone run together: 040506-08.
            guard isNumber, !Self.isDate(field.text), let sign = field.text.firstIndex(of: UInt8(ascii: "-")) else {
                throw .malformed
            }
            try addCompact(Array(field.text[..<sign]), asTime: true)
            return try addZone(Array(field.text[sign...]))
        }
        var numbers: [ArraySlice<UInt8>] = []
        for piece in Self.pieces(field.text) {
            if piece.first?.isDigit ?? false {
                numbers.append(piece)
            } else {
                guard case .month(let number) = DateTimeWord.find(String(decoding: piece, as: UTF8.self)), month == nil
                else { throw .malformed }
                (month, hasMonthName) = (number, true)
            }
        }
        for number in numbers {
            guard !hasDate else { throw .malformed }
            try addDatePart(number)
        }
        guard hasDate else { throw .malformed }
    }

    /// Three parts, not two.
    private static func isDate(_ text: [UInt8]) -> Bool { pieces(text).count > 2 }

    /// Runs of digits and runs of letters.
    private static func pieces(_ text: [UInt8]) -> [ArraySlice<UInt8>] {
        var result: [ArraySlice<UInt8>] = [], start = 0
        while start < text.count {
            let isDigit = text[start].isDigit, isLetter = text[start].isLetter
            guard isDigit || isLetter else {
                start += 1
                continue
            }
            let end = text[start...].firstIndex { isDigit ? !$0.isDigit : !$0.isLetter } ?? text.count
            result.append(text[start..<end])
            start = end
        }
        return result
    }

    static func number(_ digits: ArraySlice<UInt8>) -> Int? {
        guard !digits.isEmpty, digits.count <= 10, digits.allSatisfy(\.isDigit) else { return nil }
        let value = digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
        return value < 1 << 31 ? value : nil
    }

    /// Which part of the date a number is: by what is known already, its length, and the session's order.
    private mutating func addDatePart(_ digits: ArraySlice<UInt8>) throws(Failure) {
        guard let number = Self.number(digits) else { throw .outOfRange }
        let isLong = digits.count >= 3, isYearFirst = settings.dateOrder == .yearMonthDay
        if digits.count == 3, year != nil, month == nil, day == nil, (1...366).contains(number), let year {
            let date = Calendar.date(ofDay: Calendar.days(year: year, month: 1, day: 1) + number - 1)
            (month, day, hasDayOfYear) = (date.month, date.day, true)
            return
        }
        switch (year != nil, month != nil, day != nil) {
        case (false, false, false):
            if isLong || isYearFirst {
                setYear(number, digits)
            } else if settings.dateOrder == .dayMonthYear {
                day = number
            } else {
                month = number
            }
        case (true, false, false), (false, false, true), (true, false, true): month = number
        case (false, true, false):
            if hasMonthName, isLong || isYearFirst { setYear(number, digits) } else { day = number }
        case (true, true, false):
            if hasMonthName, isLong, hasTwoDigits, let first = year {
                // What looked like a year was the day.
                day = first
                setYear(number, digits)
            } else {
                day = number
            }
        case (false, true, true): setYear(number, digits)
        case (true, true, true): throw .malformed
        }
    }

    private mutating func setYear(_ number: Int, _ digits: ArraySlice<UInt8>) {
        (year, hasTwoDigits) = (number, digits.count <= 2)
    }

    // MARK: Numbers

    private mutating func addNumber(_ text: [UInt8]) throws(Failure) {
        if let point = text.firstIndex(of: UInt8(ascii: ".")) {
            if hasDate || isTimeFirst { return try addCompact(text, asTime: true) }
            guard point > 2 else { throw .malformed }
            return try addDate(DateTimeScanner.Field(kind: .date, text: text))
        }
        if isTimeFirst, !hasDate { return try addCompact(text, asTime: true) }
        // Behind the rest of a date and a time it is a year.
        let isAlone = year == nil && month == nil && day == nil
        if text.count >= 6, isAlone || time == nil { return try addCompact(text, asTime: hasDate) }
        if hasDate {
            guard time == nil else { throw .malformed }
            return try addCompact(text, asTime: true)
        }
        try addDatePart(text[...])
    }

    /// Digits without separators: yyyymmdd, yymmdd; hhmmss.fff, hhmm.
    private mutating func addCompact(_ text: [UInt8], asTime: Bool) throws(Failure) {
        let whole = text.prefix { $0 != UInt8(ascii: ".") }
        var fraction: Int64 = 0
        if whole.count < text.count { fraction = try Self.fraction(text[whole.count...]) }
        if !asTime {
            guard whole.count == text.count, whole.count >= 6, let rest = Self.number(whole.dropLast(4)),
                let monthAndDay = Self.number(whole.suffix(4))
            else { throw .malformed }
            (month, day) = (monthAndDay / 100, monthAndDay % 100)
            return setYear(rest, whole.dropLast(4))
        }
        guard time == nil, whole.count == 4 || whole.count == 6, var number = Self.number(whole) else {
            throw .malformed
        }
        if whole.count == 4 { number *= 100 }
        time = try Self.seconds(hour: number / 10_000, minute: number / 100 % 100, second: number % 100, fraction)
    }

    /// `.5` as microseconds, rounded.
    static func fraction(_ text: ArraySlice<UInt8>) throws(Failure) -> Int64 {
        guard text.first == UInt8(ascii: "."), text.dropFirst().allSatisfy(\.isDigit) else { throw .malformed }
        guard text.count > 1, let value = Double("0" + String(decoding: text, as: UTF8.self)) else { return 0 }
        return Int64((value * 1_000_000).rounded(.toNearestOrEven))
    }

    private static func seconds(hour: Int, minute: Int, second: Int, _ fraction: Int64) throws(Failure) -> Int64 {
        guard minute < 60, second <= 60, hour <= 24, fraction <= 1_000_000,
            hour < 24 || (minute == 0 && second == 0 && fraction == 0)
        else { throw .outOfRange }
        let time = Int64((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction
        // A leap second is the next minute; there is none behind midnight.
        guard time <= Calendar.microsecondsPerDay else { throw .outOfRange }
        return time
    }

    /// `hh:mm`, `hh:mm:ss.fff`.
    static func clock(_ text: [UInt8]) throws(Failure) -> Int64 {
        let parts = text.split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard (2...3).contains(parts.count) else { throw .malformed }
        guard let hour = number(parts[0]), let minute = number(parts[1].prefix { $0.isDigit }) else { throw .malformed }
        guard parts.count == 3 else {
            guard parts[1].allSatisfy(\.isDigit) else {
                // Minutes and seconds with a fraction.
                let digits = parts[1].prefix { $0.isDigit }
                return try seconds(hour: 0, minute: hour, second: minute, fraction(parts[1].dropFirst(digits.count)))
            }
            return try seconds(hour: hour, minute: minute, second: 0, 0)
        }
        guard parts[1].allSatisfy(\.isDigit) else { throw .malformed }
        let digits = parts[2].prefix { $0.isDigit }, rest = parts[2].dropFirst(digits.count)
        guard let second = number(digits) else { throw .malformed }
        return try seconds(hour: hour, minute: minute, second: second, rest.isEmpty ? 0 : fraction(rest))
    }

    // MARK: Zones

    private mutating func addZone(_ text: [UInt8]) throws(Failure) {
        guard offset == nil, rules == nil else { throw .malformed }
        offset = try Self.zone(text)
    }

    /// `+hh`, `+hh:mm`, `+hhmm`, `+hh:mm:ss`; seconds east.
    static func zone(_ text: [UInt8]) throws(Failure) -> Int32 {
        let parts = text.dropFirst().split(separator: UInt8(ascii: ":"), omittingEmptySubsequences: false)
        guard (1...3).contains(parts.count), !parts[0].isEmpty, parts[0].allSatisfy(\.isDigit) else { throw .malformed }
        guard let first = number(parts[0]) else { throw .zoneOutOfRange }
        var hour = first, minute = 0, second = 0
        if parts.count > 1 {
            guard let value = parts[1].isEmpty ? 0 : number(parts[1]) else { throw .malformed }
            minute = value
        } else if parts[0].count > 2 {
            (hour, minute) = (first / 100, first % 100)
        }
        if parts.count > 2 {
            guard let value = parts[2].isEmpty ? 0 : number(parts[2]) else { throw .malformed }
            second = value
        }
        guard hour <= 15, minute < 60, second < 60 else { throw .zoneOutOfRange }
        let total = Int32((hour * 60 + minute) * 60 + second)
        return text.first == UInt8(ascii: "-") ? -total : total
    }

    // MARK: The whole

    private mutating func finish() throws(Failure) {
        if var hour = time.map({ Int($0 / 3_600_000_000) }), let isAfternoon, let time {
            guard hour <= 12 else { throw .outOfRange }
            let rest = time % 3_600_000_000
            if hour == 12 { hour = 0 }
            self.time = Int64(isAfternoon ? hour + 12 : hour) * 3_600_000_000 + rest
        }
        if let given = year, !hasJulianYear {
            if isBC == true {
                guard given > 0 else { throw .outOfRange }
                year = 1 - given
            } else if hasTwoDigits {
                year = given < 70 ? given + 2000 : given + 1900
            } else if given <= 0 {
                throw .outOfRange
            }
        }
        if let month, !(1...12).contains(month) { throw .orderOutOfRange }
        if let day, !(1...31).contains(day) { throw .orderOutOfRange }
        if let year, let month, let day, day > Calendar.length(ofMonth: month, year: year) { throw .outOfRange }
    }

    /// A Julian day says its year in the calendar's own count.
    private var hasJulianYear: Bool { hasDayOfYear && !hasTwoDigits && (year ?? 0) <= 0 }
}
