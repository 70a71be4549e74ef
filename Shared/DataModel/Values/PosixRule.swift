/// The rule by which clocks are changed every year, as POSIX writes it in TZ: `CET-1CEST,M3.5.0,M10.5.0/3`.
struct PosixRule: Sendable {
    /// A day of the year and seconds from its local midnight.
    private enum Day: Sendable {
        /// 1 to 365: the leap day is not counted. 0 to 365: it is.
        case julian(Int), ordinal(Int)
        /// The nth weekday (0 Sunday) of a month; 5 the last.
        case weekday(month: Int, week: Int, day: Int)

        func number(in year: Int) -> Int {
            let start = Calendar.days(year: year, month: 1, day: 1)
            switch self {
            case .julian(let day): return start + day - 1 + (day > 59 && Calendar.isLeap(year) ? 1 : 0)
            case .ordinal(let day): return start + day
            case .weekday(let month, let week, let day):
                let first = Calendar.days(year: year, month: month, day: 1)
                var number = (day - Calendar.weekday(ofDay: first) + 7) % 7 + (week - 1) * 7
                while number >= Calendar.length(ofMonth: month, year: year) { number -= 7 }
                return first + number
            }
        }
    }

    private struct Change: Sendable {
        let day: Day, seconds: Int

        /// In local seconds since 1970.
        func local(in year: Int) -> Int64 { Int64(day.number(in: year)) * 86_400 + Int64(seconds) }
    }

    let standard: ZoneRules.Period
    let daylight: ZoneRules.Period?
    private let begin: Change, end: Change

    init?(_ text: String) {
        var parser = Parser(Array(text.utf8))
        guard let name = parser.name(), let west = parser.seconds(limit: 167) else { return nil }
        standard = ZoneRules.Period(offset: Int32(-west), abbreviation: name)
        // Where no dates are given, those of the United States hold, as in PostgreSQL.
        var begin = Change(day: .weekday(month: 3, week: 2, day: 0), seconds: 7200)
        var end = Change(day: .weekday(month: 11, week: 1, day: 0), seconds: 7200)
        var daylight: ZoneRules.Period?
        if !parser.isAtEnd {
            guard let name = parser.name(), !name.isEmpty else { return nil }
            var offset = -west + 3600
            if !parser.isAtEnd, !parser.isAt(UInt8(ascii: ",")) {
                guard let west = parser.seconds(limit: 167) else { return nil }
                offset = -west
            }
            daylight = ZoneRules.Period(offset: Int32(offset), isDaylight: true, abbreviation: name)
            if !parser.isAtEnd {
                guard let first = parser.change(), let second = parser.change(), parser.isAtEnd else { return nil }
                begin = Change(day: first.day, seconds: first.seconds)
                end = Change(day: second.day, seconds: second.seconds)
            }
        }
        (self.daylight, self.begin, self.end) = (daylight, begin, end)
    }

    private func changes(in year: Int, _ daylight: ZoneRules.Period) -> (begin: Int64, end: Int64) {
        (begin.local(in: year) - Int64(standard.offset), end.local(in: year) - Int64(daylight.offset))
    }

    private func year(of time: Int64) -> Int {
        Calendar.date(ofDay: Calendar.floorDivide(Int(time), 86_400)).year
    }

    func period(at time: Int64) -> ZoneRules.Period {
        guard let daylight else { return standard }
        let (begin, end) = changes(in: year(of: time &+ Int64(standard.offset)), daylight)
        if begin < end { return time >= begin && time < end ? daylight : standard }
        return time >= end && time < begin ? standard : daylight
    }

    func transition(after time: Int64) -> Int64? {
        guard let daylight else { return nil }
        let year = year(of: time)
        return (year - 1...year + 1).flatMap { year in
            let (begin, end) = changes(in: year, daylight)
            return [begin, end]
        }.filter { $0 > time }.min()
    }

    private struct Parser {
        let bytes: [UInt8]
        var position = 0

        init(_ bytes: [UInt8]) { self.bytes = bytes }

        var isAtEnd: Bool { position == bytes.count }

        func isAt(_ byte: UInt8) -> Bool { position < bytes.count && bytes[position] == byte }

        mutating func take(_ byte: UInt8) -> Bool {
            guard isAt(byte) else { return false }
            position += 1
            return true
        }

        /// What comes before a number, a sign or a comma, be it nothing; or anything in angle brackets.
        mutating func name() -> String? {
            let isQuoted = take(UInt8(ascii: "<")), start = position
            while position < bytes.count, isQuoted ? !isAt(UInt8(ascii: ">")) : !isAtEndOfName { position += 1 }
            let name = bytes[start..<position]
            if isQuoted, !take(UInt8(ascii: ">")) { return nil }
            return String(decoding: name, as: UTF8.self)
        }

        private var isAtEndOfName: Bool {
            bytes[position].isDigit
                || [UInt8(ascii: ","), UInt8(ascii: "-"), UInt8(ascii: "+")].contains(bytes[position])
        }

        mutating func number(limit: Int) -> Int? {
            let start = position
            var value = 0
            while position < bytes.count, bytes[position].isDigit, value <= limit {
                value = value * 10 + Int(bytes[position] - 0x30)
                position += 1
            }
            return position > start && value <= limit ? value : nil
        }

        /// `[+-]hh[:mm[:ss]]`.
        mutating func seconds(limit: Int) -> Int? {
            let isNegative = take(UInt8(ascii: "-"))
            if !isNegative { _ = take(UInt8(ascii: "+")) }
            guard let hours = number(limit: limit) else { return nil }
            var total = hours * 3600
            for unit in [60, 1] {
                guard take(UInt8(ascii: ":")) else { break }
                guard let value = number(limit: 59) else { return nil }
                total += value * unit
            }
            return isNegative ? -total : total
        }

        mutating func change() -> (day: Day, seconds: Int)? {
            guard take(UInt8(ascii: ",")) else { return nil }
            let day: Day
            if take(UInt8(ascii: "M")) {
                guard let month = number(limit: 12), month > 0, take(UInt8(ascii: ".")), let week = number(limit: 5),
                    week > 0, take(UInt8(ascii: ".")), let weekday = number(limit: 6)
                else { return nil }
                day = .weekday(month: month, week: week, day: weekday)
            } else if take(UInt8(ascii: "J")) {
                guard let number = number(limit: 365), number > 0 else { return nil }
                day = .julian(number)
            } else {
                guard let number = number(limit: 365) else { return nil }
                day = .ordinal(number)
            }
            guard take(UInt8(ascii: "/")) else { return (day, 7200) }
            guard let seconds = seconds(limit: 167) else { return nil }
            return (day, seconds)
        }
    }
}
