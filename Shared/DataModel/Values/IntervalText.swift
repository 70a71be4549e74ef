import Base

/// Intervals as text: `1 year 2 mons 3 days 04:05:06.7`, `1-2`, `@ 3 hours ago`, `P1Y2M3DT4H5M6.7S`.
///
/// The fields are read from the last to the first, as PostgreSQL does: so a unit is known before its number, and a
/// number without one before a time counts days.
struct IntervalText {
    private enum Unit {
        case microsecond, millisecond, second, minute, hour, day, week, month, year, decade, century, millennium
    }

    private enum Failure: Error { case malformed, outOfRange, tooLarge }

    /// What is said once only. A second with a fraction says milliseconds and microseconds too.
    private struct Said: OptionSet {
        let rawValue: Int

        static func unit(_ unit: Unit) -> Said {
            switch unit {
            case .microsecond: Said(rawValue: 1)
            case .millisecond: Said(rawValue: 2)
            case .second: Said(rawValue: 4)
            case .minute: Said(rawValue: 8)
            case .hour: Said(rawValue: 16)
            case .day: Said(rawValue: 32)
            case .week: Said(rawValue: 64)
            case .month: Said(rawValue: 128)
            case .year: Said(rawValue: 256)
            case .decade: Said(rawValue: 512)
            case .century: Said(rawValue: 1024)
            case .millennium: Said(rawValue: 2048)
            }
        }

        static let seconds = Said(rawValue: 7), time = Said(rawValue: 31)
    }

    /// How many letters of a word count.
    private static let wordLength = 10

    private static let units: [String: Unit] = {
        let words: [(Unit, String)] = [
            (.microsecond, "us usec usecs usecond useconds microsecon"),
            (.millisecond, "ms msec msecs msecond mseconds millisecon"),
            (.second, "s sec secs second seconds"), (.minute, "m min mins minute minutes"),
            (.hour, "h hr hrs hour hours"), (.day, "d day days"), (.week, "w week weeks"),
            (.month, "mon mons month months"), (.year, "y yr yrs year years"), (.decade, "dec decs decade decades"),
            (.century, "c cent century centuries"), (.millennium, "mil mils millennia millennium"),
        ]
        return [String: Unit](
            words.flatMap { unit, text in text.split(separator: " ").map { (String($0), unit) } },
            uniquingKeysWith: { first, _ in first })
    }()

    private let fields: IntervalFields
    /// Years are counted apart until the end: each has its own limit.
    private var years: Int32 = 0, months: Int32 = 0, days: Int32 = 0, microseconds: Int64 = 0
    private var said: Said = []

    static func parse(_ text: String, _ fields: IntervalFields) throws(StatementError) -> Interval {
        do throws(Failure) {
            return try interval(text, fields)
        } catch {
            switch error {
            case .malformed: throw DateTimeText.malformed(text, "interval")
            case .outOfRange:
                throw StatementError(.intervalFieldOverflow, "interval field value out of range: \"\(text)\"")
            case .tooLarge: throw StatementError(.datetimeFieldOverflow, "interval out of range")
            }
        }
    }

    private init(fields: IntervalFields) { self.fields = fields }

    private static func interval(_ text: String, _ fields: IntervalFields) throws(Failure) -> Interval {
        if let parts = DateTimeScanner.scan(text) {
            var reader = IntervalText(fields: fields)
            do throws(Failure) {
                try reader.read(parts)
                return try reader.result()
            } catch {
                guard case .malformed = error else { throw error }
            }
        }
        var reader = IntervalText(fields: fields)
        try reader.readStandard(Array(text.utf8)[...])
        return try reader.result()
    }

    private func result() throws(Failure) -> Interval {
        guard let months = Int32(exactly: Int64(years) * 12 + Int64(months)) else { throw .tooLarge }
        return Interval(months: months, days: days, microseconds: microseconds)
    }

    // MARK: Fields

    private mutating func read(_ parts: [DateTimeScanner.Field]) throws(Failure) {
        /// The unit of the next number; nil behind `ago`, where none may stand.
        var unit: Unit?, isGiven = false, isAgo = false
        for part in parts.reversed() {
            switch part.kind {
            case .time:
                try clock(part.text[...], isNegative: false)
                (unit, isGiven) = (.day, true)
            case .zone where part.text.contains(UInt8(ascii: ":")):
                try clock(part.text.dropFirst(), isNegative: part.text.first == UInt8(ascii: "-"))
                (unit, isGiven) = (.day, true)
            case .zone, .date, .number:
                if !isGiven { (unit, isGiven) = (bareUnit, true) }
                guard let known = unit else { throw .malformed }
                unit = try quantity(part.text[...], known)
            case .word, .special:
                let word = String(part.string.prefix(Self.wordLength))
                if word == "ago" {
                    (unit, isGiven, isAgo) = (nil, true, true)
                } else if let known = Self.units[word] {
                    (unit, isGiven) = (known, true)
                } else {
                    throw .malformed
                }
            }
        }
        guard !said.isEmpty else { throw .malformed }
        guard isAgo else { return }
        guard years != .min, months != .min, days != .min, microseconds != .min else { throw .outOfRange }
        (years, months, days, microseconds) = (-years, -months, -days, -microseconds)
    }

    /// What a number without a unit counts: the last of the type's fields.
    private var bareUnit: Unit {
        if fields.mask & IntervalFields.second != 0 { return .second }
        if fields.mask & IntervalFields.minute != 0 { return .minute }
        if fields.mask & IntervalFields.hour != 0 { return .hour }
        if fields.mask & IntervalFields.day != 0 { return .day }
        return fields.mask & IntervalFields.month != 0 ? .month : .year
    }

    private mutating func note(_ more: Said) throws(Failure) {
        guard said.isDisjoint(with: more) else { throw .malformed }
        said.formUnion(more)
    }

    /// A number of a unit, or years and months: `1-2`. Gives the unit of a number in front of it.
    private mutating func quantity(_ text: ArraySlice<UInt8>, _ unit: Unit) throws(Failure) -> Unit {
        let isNegative = text.first == UInt8(ascii: "-")
        var rest = text
        let whole = try Self.integer(&rest)
        if rest.first == UInt8(ascii: "-") {
            rest.removeFirst()
            guard rest.first != UInt8(ascii: "-") else { throw .outOfRange }
            let part = try Self.integer(&rest)
            guard (0..<12).contains(part) else { throw .outOfRange }
            guard rest.isEmpty else { throw .malformed }
            let all = try Self.sum(isNegative ? -part : part, whole, 12)
            try note(.unit(.month))
            try add(all, 0, .month)
            return .month
        }
        let fraction = try Self.fraction(rest)
        try note(unit == .second && fraction != 0 ? .seconds : .unit(unit))
        try add(whole, isNegative ? -fraction : fraction, unit)
        return unit == .hour ? .day : unit
    }

    /// A sign and digits, which may be none.
    private static func integer(_ text: inout ArraySlice<UInt8>) throws(Failure) -> Int64 {
        let isNegative = text.first == UInt8(ascii: "-")
        if isNegative || text.first == UInt8(ascii: "+") { text.removeFirst() }
        var value: Int64 = 0
        while let byte = text.first, byte.isDigit {
            let (product, isOver) = value.multipliedReportingOverflow(by: 10)
            let digit = Int64(byte - 0x30)
            let (sum, isOverAgain) =
                isNegative ? product.subtractingReportingOverflow(digit) : product.addingReportingOverflow(digit)
            guard !isOver, !isOverAgain else { throw .outOfRange }
            value = sum
            text.removeFirst()
        }
        return value
    }

    /// `.5`, a point alone, or nothing.
    private static func fraction(_ text: ArraySlice<UInt8>) throws(Failure) -> Double {
        guard !text.isEmpty else { return 0 }
        guard text.first == UInt8(ascii: "."), text.dropFirst().allSatisfy(\.isDigit) else { throw .malformed }
        return Double("0" + String(decoding: text, as: UTF8.self) + "0") ?? 0
    }

    /// `hh:mm`, `hh:mm:ss.fff`; `mm:ss.fff` where a fraction or the type says so.
    private mutating func clock(_ text: ArraySlice<UInt8>, isNegative: Bool) throws(Failure) {
        func small(_ text: inout ArraySlice<UInt8>) throws(Failure) -> Int64 {
            let value = try Self.integer(&text)
            guard Int32(exactly: value) != nil else { throw .outOfRange }
            return value
        }
        var rest = text
        var hour = try Self.integer(&rest)
        guard rest.first == UInt8(ascii: ":") else { throw .malformed }
        rest.removeFirst()
        var minute = try small(&rest), second: Int64 = 0, fraction = 0.0
        var isShort = false
        if rest.isEmpty {
            isShort = fields.mask == IntervalFields.minute | IntervalFields.second
        } else if rest.first == UInt8(ascii: ".") {
            fraction = try Self.fraction(rest)
            isShort = true
        } else {
            rest.removeFirst()
            second = try small(&rest)
            fraction = try Self.fraction(rest)
        }
        if isShort {
            guard Int32(exactly: hour) != nil else { throw .outOfRange }
            (hour, minute, second) = (0, hour, minute)
        }
        guard hour >= 0, (0..<60).contains(minute), (0...60).contains(second) else { throw .outOfRange }
        try note(.time)
        let part = Int64((fraction * 1_000_000).rounded(.toNearestOrEven))
        var total = try Self.sum(part, hour, 3_600_000_000)
        total = try Self.sum(total, minute, 60_000_000)
        total = try Self.sum(total, second, 1_000_000)
        microseconds = isNegative ? -total : total
    }

    // MARK: Sums

    private static func sum(_ total: Int64, _ count: Int64, _ factor: Int64) throws(Failure) -> Int64 {
        let (product, isOver) = count.multipliedReportingOverflow(by: factor)
        let (sum, isOverAgain) = total.addingReportingOverflow(product)
        guard !isOver, !isOverAgain else { throw .outOfRange }
        return sum
    }

    private static func sum(_ total: Int32, _ count: Int64, _ factor: Int64) throws(Failure) -> Int32 {
        guard let sum = Int32(exactly: try sum(Int64(total), count, factor)) else { throw .outOfRange }
        return sum
    }

    private mutating func add(microseconds value: Double) throws(Failure) {
        // Halves stay where they are: only what is beyond them moves.
        let whole = value.rounded(.towardZero), rest = value - whole
        let rounded = rest > 0.5 ? whole + 1 : (rest < -0.5 ? whole - 1 : whole)
        guard let count = Int64(exactly: rounded) else { throw .outOfRange }
        microseconds = try Self.sum(microseconds, count, 1)
    }

    private mutating func add(days value: Double) throws(Failure) {
        let whole = value.rounded(.towardZero)
        days = try Self.sum(days, Int64(whole), 1)
        try add(microseconds: (value - whole) * Double(Calendar.microsecondsPerDay))
    }

    private mutating func add(_ count: Int64, _ fraction: Double, _ unit: Unit) throws(Failure) {
        func time(_ factor: Int64) throws(Failure) {
            microseconds = try Self.sum(microseconds, count, factor)
            try add(microseconds: fraction * Double(factor))
        }
        func years(_ factor: Int64) throws(Failure) {
            self.years = try Self.sum(self.years, count, factor)
            months = try Self.sum(months, Int64((fraction * 12 * Double(factor)).rounded(.toNearestOrEven)), 1)
        }
        switch unit {
        case .microsecond: try time(1)
        case .millisecond: try time(1000)
        case .second: try time(1_000_000)
        case .minute: try time(60_000_000)
        case .hour: try time(3_600_000_000)
        case .day:
            days = try Self.sum(days, count, 1)
            try add(microseconds: fraction * Double(Calendar.microsecondsPerDay))
        case .week:
            days = try Self.sum(days, count, 7)
            try add(days: fraction * 7)
        case .month:
            months = try Self.sum(months, count, 1)
            try add(days: fraction * 30)
        case .year: try years(1)
        case .decade: try years(10)
        case .century: try years(100)
        case .millennium: try years(1000)
        }
    }

    // MARK: ISO 8601

    /// `P1Y2M3W4DT5H6M7S`, `P0001-02-03T04:05:06`, `P00010203T040506`: letters in capitals, and a unit as often as one
    /// likes.
    private mutating func readStandard(_ all: ArraySlice<UInt8>) throws(Failure) {
        guard all.count >= 2, all.first == UInt8(ascii: "P") else { throw .malformed }
        var text = all.dropFirst(), isTime = false, isFirst = true
        while let byte = text.first {
            if byte == UInt8(ascii: "T") {
                (isTime, isFirst) = (true, true)
                text.removeFirst()
                continue
            }
            let width = text.drop { $0 == UInt8(ascii: "-") }.prefix { $0.isDigit }.count
            let (whole, fraction) = try Self.standardNumber(&text)
            if let letter = text.first, let unit = Self.standardUnit(letter, isTime: isTime) {
                text.removeFirst()
                try add(whole, fraction, unit)
                isFirst = false
                continue
            }
            guard isFirst else { throw .malformed }
            if !isTime, width == 8, text.first != UInt8(ascii: "-") {
                try add(whole / 10_000, 0, .year)
                try add(whole / 100 % 100, 0, .month)
                try add(whole % 100, fraction, .day)
            } else if isTime, width == 6, text.isEmpty {
                try add(whole / 10_000, 0, .hour)
                try add(whole / 100 % 100, 0, .minute)
                try add(whole % 100, fraction, .second)
            } else {
                try readSeparated(&text, whole, fraction, isTime: isTime)
            }
            guard text.isEmpty || !isTime && text.first == UInt8(ascii: "T") else { throw .malformed }
        }
    }

    /// Numbers without letters: years, months and days with hyphens, or a time with colons.
    private mutating func readSeparated(
        _ text: inout ArraySlice<UInt8>, _ first: Int64, _ fraction: Double, isTime: Bool
    ) throws(Failure) {
        let units = isTime ? [Unit.hour, .minute, .second] : [Unit.year, .month, .day]
        try add(first, fraction, units[0])
        for unit in units.dropFirst() {
            guard text.first == (isTime ? UInt8(ascii: ":") : UInt8(ascii: "-")) else { return }
            text.removeFirst()
            let (whole, fraction) = try Self.standardNumber(&text)
            try add(whole, fraction, unit)
        }
    }

    /// As C reads a floating-point number, in two parts: so long numbers lose digits.
    private static func standardNumber(_ text: inout ArraySlice<UInt8>) throws(Failure) -> (Int64, Double) {
        var rest = text
        if rest.first == UInt8(ascii: "-") { rest.removeFirst() }
        let digits = rest.prefix { $0.isDigit }
        rest = rest[digits.endIndex...]
        var count = digits.count
        if rest.first == UInt8(ascii: ".") {
            let part = rest.dropFirst().prefix { $0.isDigit }
            count += part.count
            rest = rest[part.endIndex...]
        }
        guard count > 0 else { throw .malformed }
        var spelled = String(decoding: text[..<rest.startIndex], as: UTF8.self)
        if spelled.hasSuffix(".") { spelled += "0" }
        text = rest
        if let point = spelled.firstIndex(of: "."), !spelled[..<point].contains(where: \.isNumber) {
            spelled.insert("0", at: point)
        }
        guard let value = Double(spelled), let whole = Int64(exactly: value.rounded(.towardZero)) else {
            throw .outOfRange
        }
        return (whole, value - value.rounded(.towardZero))
    }

    private static func standardUnit(_ letter: UInt8, isTime: Bool) -> Unit? {
        switch letter {
        case UInt8(ascii: "Y"): isTime ? nil : .year
        case UInt8(ascii: "M"): isTime ? .minute : .month
        case UInt8(ascii: "W"): isTime ? nil : .week
        case UInt8(ascii: "D"): isTime ? nil : .day
        case UInt8(ascii: "H"): isTime ? .hour : nil
        case UInt8(ascii: "S"): isTime ? .second : nil
        case _: nil
        }
    }

    // MARK: Out

    static func append(_ interval: Interval, into buffer: inout ByteBuffer) {
        var isFirst = true, wasNegative = false
        for (count, unit) in [
            (interval.months / 12, " year"), (interval.months % 12, " mon"), (interval.days, " day"),
        ] where count != 0 {
            if !isFirst { buffer.append(UInt8(ascii: " ")) }
            if wasNegative, count > 0 { buffer.append(UInt8(ascii: "+")) }
            buffer.append(decimal: Int64(count))
            buffer.append(text: unit)
            if count != 1 { buffer.append(UInt8(ascii: "s")) }
            (isFirst, wasNegative) = (false, count < 0)
        }
        guard isFirst || interval.microseconds != 0 else { return }
        if !isFirst { buffer.append(UInt8(ascii: " ")) }
        if interval.microseconds < 0 {
            buffer.append(UInt8(ascii: "-"))
        } else if wasNegative {
            buffer.append(UInt8(ascii: "+"))
        }
        append(time: interval.microseconds.magnitude, into: &buffer)
    }

    private static func append(time microseconds: UInt64, into buffer: inout ByteBuffer) {
        let seconds = Int(microseconds / 1_000_000)
        for part in [seconds / 3600, seconds / 60 % 60] {
            if part < 10 { buffer.append(UInt8(ascii: "0")) }
            buffer.append(decimal: Int64(part))
            buffer.append(UInt8(ascii: ":"))
        }
        DateTimeText.append(seconds: seconds % 60, Int(microseconds % 1_000_000), into: &buffer)
    }
}
