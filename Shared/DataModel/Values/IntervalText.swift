import Base

/// Intervals as text: `1 year 2 mons 3 days 04:05:06.7`, `1-2`, `@ 3 hours ago`, `P1Y2M3DT4H5M6.7S`.
struct IntervalText {
    private enum Unit {
        case microsecond, millisecond, second, minute, hour, day, week, month, year, decade, century, millennium
    }

    private enum Failure: Error { case malformed, outOfRange }

    private static let units: [String: Unit] = {
        let words: [(Unit, String)] = [
            (.microsecond, "us usec usecs usecond useconds microsecon microsecond microseconds"),
            (.millisecond, "ms msec msecs msecond mseconds millisecon millisecond milliseconds"),
            (.second, "s sec secs second seconds"), (.minute, "m min mins minute minutes"),
            (.hour, "h hr hrs hour hours"), (.day, "d day days"), (.week, "w week weeks"),
            (.month, "mon mons month months"), (.year, "y yr yrs year years"), (.decade, "dec decs decade decades"),
            (.century, "c cent century centuries"), (.millennium, "mil mils millennia millennium"),
        ]
        return [String: Unit](
            words.flatMap { unit, text in text.split(separator: " ").map { (String($0), unit) } },
            uniquingKeysWith: { first, _ in first })
    }()

    private let bytes: [UInt8]
    private let fields: IntervalFields
    private var position = 0
    private var months: Int64 = 0, days: Int64 = 0, microseconds: Int64 = 0
    private var seen: Set<Unit> = []

    static func parse(_ text: String, _ fields: IntervalFields) throws(StatementError) -> Interval {
        var parser = IntervalText(bytes: Array(text.lowercasedASCII.utf8), fields: fields)
        do throws(Failure) {
            return try parser.interval()
        } catch {
            switch error {
            case .malformed: throw DateTimeText.malformed(text, "interval")
            case .outOfRange:
                throw StatementError(.intervalFieldOverflow, "interval field value out of range: \"\(text)\"")
            }
        }
    }

    private init(bytes: [UInt8], fields: IntervalFields) { (self.bytes, self.fields) = (bytes, fields) }

    private var byte: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func take(_ wanted: UInt8) -> Bool {
        guard byte == wanted else { return false }
        position += 1
        return true
    }

    private mutating func skipSpaces() {
        // Punctuation between fields says nothing, as in dates.
        while let byte, byte.isWhiteSpace || byte == UInt8(ascii: ",") || byte == UInt8(ascii: "@") { position += 1 }
    }

    private func result(isNegated: Bool = false) throws(Failure) -> Interval {
        guard let months = Int32(exactly: isNegated ? 0 &- months : months),
            let days = Int32(exactly: isNegated ? 0 &- days : days), !isNegated || microseconds != .min
        else { throw .outOfRange }
        return Interval(months: months, days: days, microseconds: isNegated ? -microseconds : microseconds)
    }

    private mutating func interval() throws(Failure) -> Interval {
        skipSpaces()
        if byte == UInt8(ascii: "p") { return try standard() }
        var isAgo = false, isEmpty = true, isAfterBare = false
        while let next = byte {
            if next.isLetter {
                guard word() == "ago", !isEmpty else { throw .malformed }
                isAgo = true
            } else {
                guard !isAfterBare else { throw .malformed }
                isAfterBare = try quantity()
                isEmpty = false
            }
            skipSpaces()
        }
        guard !isEmpty else { throw .malformed }
        return try result(isNegated: isAgo)
    }

    private mutating func word() -> String {
        let start = position
        while let byte, byte.isLetter { position += 1 }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    /// A number with its unit, a time, or years and months. True if it was a number alone: then nothing but `ago` may
    /// follow.
    private mutating func quantity() throws(Failure) -> Bool {
        var isNegative = false
        if byte == UInt8(ascii: "-") || byte == UInt8(ascii: "+") {
            isNegative = byte == UInt8(ascii: "-")
            position += 1
            skipSpaces()
        }
        let (whole, fraction) = try number()
        if byte == UInt8(ascii: ":"), fraction == nil {
            try clock(hours: whole, isNegative)
            return false
        }
        if byte == UInt8(ascii: "-"), fraction == nil {
            position += 1
            guard let next = byte, next.isDigit else { throw .malformed }
            let (rest, _) = try number()
            guard rest < 12 else { throw .outOfRange }
            // A date, and no interval.
            if byte == UInt8(ascii: "-") { throw .malformed }
            try note(.year)
            try note(.month)
            try add(isNegative ? -whole : whole, 0, .year)
            try add(isNegative ? -rest : rest, 0, .month)
            return false
        }
        let signed = isNegative ? -whole : whole, part = (isNegative ? -1 : 1) * (fraction ?? 0)
        skipSpaces()
        guard let next = byte, next.isLetter else {
            // Days stand before a time without their unit.
            let isBeforeTime = byte != nil
            let unit = isBeforeTime ? Unit.day : bareUnit
            try note(unit)
            try add(signed, part, unit)
            return !isBeforeTime
        }
        let mark = position
        guard let unit = Self.units[word()] else {
            position = mark
            try note(bareUnit)
            try add(signed, part, bareUnit)
            return true
        }
        try note(unit)
        try add(signed, part, unit)
        return false
    }

    /// What a number without a unit counts: the last of the type's fields.
    private var bareUnit: Unit {
        if fields.mask & IntervalFields.second != 0 { return .second }
        if fields.mask & IntervalFields.minute != 0 { return .minute }
        if fields.mask & IntervalFields.hour != 0 { return .hour }
        if fields.mask & IntervalFields.day != 0 { return .day }
        return fields.mask & IntervalFields.month != 0 ? .month : .year
    }

    private mutating func note(_ unit: Unit) throws(Failure) {
        guard seen.insert(unit).inserted else { throw .malformed }
    }

    /// Digits, and what is behind a point.
    private mutating func number() throws(Failure) -> (whole: Int64, fraction: Double?) {
        let start = position
        var whole: Int64 = 0
        while let byte, byte.isDigit {
            let (product, isOver) = whole.multipliedReportingOverflow(by: 10)
            let (sum, isOverAgain) = product.addingReportingOverflow(Int64(byte - 0x30))
            guard !isOver, !isOverAgain else { throw .outOfRange }
            whole = sum
            position += 1
        }
        let point = position
        guard take(UInt8(ascii: ".")) else {
            guard position > start else { throw .malformed }
            return (whole, nil)
        }
        while let byte, byte.isDigit { position += 1 }
        guard position > start + 1 else { throw .malformed }
        return (whole, Double("0" + String(decoding: bytes[point..<position], as: UTF8.self) + "0") ?? 0)
    }

    /// `hh:mm`, `hh:mm:ss.fff`; `mm:ss.fff` where a fraction says so.
    private mutating func clock(hours: Int64, _ isNegative: Bool) throws(Failure) {
        var parts = [hours], fraction: Double?
        while fraction == nil, take(UInt8(ascii: ":")) {
            if byte.map({ $0.isDigit }) != true {
                parts.append(0)
                continue
            }
            let (part, rest) = try number()
            parts.append(part)
            fraction = rest
        }
        guard (2...3).contains(parts.count) else { throw .malformed }
        let isShort = parts.count == 2
        if isShort, fraction != nil || fields.mask == IntervalFields.minute | IntervalFields.second {
            parts.insert(0, at: 0)
        } else if isShort {
            parts.append(0)
        }
        for unit in [Unit.hour, .minute, .second] { try note(unit) }
        guard parts[1] < 60, parts[2] <= 60, parts[0] >= 0 else { throw .outOfRange }
        let sign: Int64 = isNegative ? -1 : 1
        try add(sign * parts[0], 0, .hour)
        try add(sign * parts[1], 0, .minute)
        try add(sign * parts[2], Double(sign) * (fraction ?? 0), .second)
    }

    // MARK: Sums

    private static func sum(_ total: Int64, _ count: Int64, _ factor: Int64) throws(Failure) -> Int64 {
        let (product, isOver) = count.multipliedReportingOverflow(by: factor)
        let (sum, isOverAgain) = total.addingReportingOverflow(product)
        guard !isOver, !isOverAgain else { throw .outOfRange }
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
            months = try Self.sum(months, count, 12 * factor)
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

    /// `P1Y2M3W4DT5H6M7S`, `P0001-02-03T04:05:06`.
    private mutating func standard() throws(Failure) -> Interval {
        position += 1
        var isTime = false, isEmpty = true
        while byte != nil {
            if !isTime, take(UInt8(ascii: "t")) {
                isTime = true
                continue
            }
            let isNegative = take(UInt8(ascii: "-"))
            if !isNegative { _ = take(UInt8(ascii: "+")) }
            let (whole, fraction) = try number()
            let count = isNegative ? -whole : whole, part = (isNegative ? -1 : 1) * (fraction ?? 0)
            isEmpty = false
            guard let next = byte, next.isLetter, next != UInt8(ascii: "t") else {
                try alternative(count, part, isTime: &isTime)
                continue
            }
            position += 1
            guard let unit = Self.standardUnit(next, isTime: isTime) else { throw .malformed }
            try note(unit)
            try add(count, part, unit)
        }
        guard !isEmpty || isTime else { throw .malformed }
        return try result()
    }

    private static func standardUnit(_ letter: UInt8, isTime: Bool) -> Unit? {
        switch letter {
        case UInt8(ascii: "y"): isTime ? nil : .year
        case UInt8(ascii: "m"): isTime ? .minute : .month
        case UInt8(ascii: "w"): isTime ? nil : .week
        case UInt8(ascii: "d"): isTime ? nil : .day
        case UInt8(ascii: "h"): isTime ? .hour : nil
        case UInt8(ascii: "s"): isTime ? .second : nil
        case _: nil
        }
    }

    /// Numbers without letters: years, months and days with hyphens, then a time with colons.
    private mutating func alternative(_ first: Int64, _ fraction: Double, isTime: inout Bool) throws(Failure) {
        let units = isTime ? [Unit.hour, .minute, .second] : [Unit.year, .month, .day]
        try add(first, fraction, units[0])
        for unit in units.dropFirst() {
            guard take(isTime ? UInt8(ascii: ":") : UInt8(ascii: "-")) else { break }
            let isNegative = take(UInt8(ascii: "-"))
            let (whole, fraction) = try number()
            try add(isNegative ? -whole : whole, (isNegative ? -1 : 1) * (fraction ?? 0), unit)
        }
        if byte != nil, isTime || byte != UInt8(ascii: "t") { throw .malformed }
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
