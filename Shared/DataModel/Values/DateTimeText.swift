import Base

/// Dates, times and timestamps as text.
enum DateTimeText {
    private static func parse(
        _ text: String, _ settings: TextSettings, _ title: String
    ) throws(StatementError) -> DateTimeParser {
        guard let fields = DateTimeScanner.scan(text), !fields.isEmpty else { throw malformed(text, title) }
        do throws(DateTimeParser.Failure) {
            return try DateTimeParser(
                fields, settings, isTime: title.hasPrefix("time") && !title.hasPrefix("timestamp"))
        } catch {
            throw explained(error, text, title)
        }
    }

    static func malformed(_ text: String, _ title: String) -> StatementError {
        StatementError(.invalidDatetimeFormat, "invalid input syntax for type \(title): \"\(text)\"")
    }

    static func explained(_ failure: DateTimeParser.Failure, _ text: String, _ title: String) -> StatementError {
        let outOfRange = "date/time field value out of range: \"\(text)\""
        switch failure {
        case .malformed: return malformed(text, title)
        case .outOfRange: return StatementError(.datetimeFieldOverflow, outOfRange)
        case .orderOutOfRange:
            return StatementError(
                .datetimeFieldOverflow, outOfRange, hint: "Perhaps you need a different \"datestyle\" setting.")
        case .zoneOutOfRange:
            return StatementError(
                .invalidTimeZoneDisplacementValue, "time zone displacement out of range: \"\(text)\"")
        case .unknownZone(let name):
            return StatementError(.invalidParameterValue, "time zone \"\(name)\" not recognized")
        }
    }

    /// The day that the text names: in words, or by its parts.
    private static func day(_ parsed: DateTimeParser, _ settings: TextSettings) -> Int? {
        let local = settings.zone.local(of: settings.now)
        switch parsed.special {
        case .now: return Calendar.floorDivide(Int(local), Int(Calendar.microsecondsPerDay))
        case .today(let days): return Calendar.floorDivide(Int(local), Int(Calendar.microsecondsPerDay)) + days
        case .epoch: return 0
        case .infinity: return nil
        case nil:
            guard let year = parsed.year, let month = parsed.month, let day = parsed.day else { return nil }
            return Calendar.days(year: year, month: month, day: day)
        }
    }

    static func date(_ text: String, _ settings: TextSettings) throws(StatementError) -> Int32 {
        let parsed = try parse(text, settings, "date")
        if case .infinity(let isNegative) = parsed.special { return isNegative ? .min : .max }
        guard let day = day(parsed, settings) else { throw malformed(text, "date") }
        guard (Calendar.firstDay..<Calendar.endOfDates).contains(day), let day = Int32(exactly: day) else {
            throw StatementError(.datetimeFieldOverflow, "date out of range: \"\(text)\"")
        }
        return day
    }

    static func timestamp(_ text: String, _ settings: TextSettings, hasZone: Bool) throws(StatementError) -> Int64 {
        let title = hasZone ? "timestamp with time zone" : "timestamp"
        let parsed = try parse(text, settings, title)
        switch parsed.special {
        case .infinity(let isNegative): return isNegative ? .min : .max
        case .now: return hasZone ? settings.now : settings.zone.local(of: settings.now)
        case .epoch: return 0
        case .today, nil: break
        }
        guard let day = day(parsed, settings) else { throw malformed(text, title) }
        let outOfRange = StatementError(.datetimeFieldOverflow, "timestamp out of range: \"\(text)\"")
        // The zone may bring the day before the first one back.
        guard day >= Calendar.firstDay - 1, day <= Calendar.endOfTimestamps else { throw outOfRange }
        let local = Int64(day) * Calendar.microsecondsPerDay + (parsed.time ?? 0)
        let moment =
            if !hasZone { local } else if let offset = parsed.offset { local &- Int64(offset) * 1_000_000 } else {
                (parsed.rules ?? settings.zone).moment(ofLocal: local)
            }
        guard let checked = DateTimeFields.checked(moment) else { throw outOfRange }
        return checked
    }

    /// A time of day, and the zone's seconds east: the session's where the text has none.
    static func time(
        _ text: String, _ settings: TextSettings, _ title: String
    ) throws(StatementError) -> (microseconds: Int64, zone: Int32) {
        let parsed = try parse(text, settings, title)
        let today = settings.zone.local(of: settings.now)
        let day = Int64(Calendar.floorDivide(Int(today), Int(Calendar.microsecondsPerDay)))
        var time = parsed.time
        if case .now = parsed.special { time = today - day * Calendar.microsecondsPerDay }
        guard let time else { throw malformed(text, title) }
        if let offset = parsed.offset { return (time, offset) }
        if let rules = parsed.rules, !rules.isFixed, !parsed.hasDate { throw malformed(text, title) }
        let rules = parsed.rules ?? settings.zone
        let date = parsed.hasDate ? self.day(parsed, settings).map(Int64.init) ?? day : day
        return (time, rules.offset(ofLocal: date * 86_400 + time / 1_000_000))
    }

    // MARK: Out

    private static func append(_ value: Int, width: Int, into buffer: inout ByteBuffer) {
        var limit = 10
        for _ in 1..<width {
            if value < limit { buffer.append(UInt8(ascii: "0")) }
            limit *= 10
        }
        buffer.append(decimal: Int64(value))
    }

    private static func append(year: Int, _ month: Int, _ day: Int, into buffer: inout ByteBuffer) {
        append(year > 0 ? year : 1 - year, width: 4, into: &buffer)
        buffer.append(UInt8(ascii: "-"))
        append(month, width: 2, into: &buffer)
        buffer.append(UInt8(ascii: "-"))
        append(day, width: 2, into: &buffer)
    }

    /// A date: `2024-02-29`, `0044-03-15 BC`, `infinity`.
    static func append(days: Int32, into buffer: inout ByteBuffer) {
        guard days != .max, days != .min else {
            if days == .max { buffer.append("infinity") } else { buffer.append("-infinity") }
            return
        }
        let date = Calendar.date(ofDay: Int(days))
        append(year: date.year, date.month, date.day, into: &buffer)
        if date.year <= 0 { buffer.append(" BC") }
    }

    /// Seconds with as many digits behind the point as count.
    static func append(seconds: Int, _ microseconds: Int, into buffer: inout ByteBuffer) {
        append(seconds, width: 2, into: &buffer)
        guard microseconds > 0 else { return }
        buffer.append(UInt8(ascii: "."))
        var rest = microseconds, divisor = 100_000
        while rest > 0, divisor > 0 {
            buffer.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: rest / divisor % 10))
            rest %= divisor
            divisor /= 10
        }
    }

    static func append(time microseconds: Int64, into buffer: inout ByteBuffer) {
        let seconds = Int(microseconds.magnitude / 1_000_000)
        append(seconds / 3600, width: 2, into: &buffer)
        buffer.append(UInt8(ascii: ":"))
        append(seconds / 60 % 60, width: 2, into: &buffer)
        buffer.append(UInt8(ascii: ":"))
        append(seconds: seconds % 60, Int(microseconds.magnitude % 1_000_000), into: &buffer)
    }

    /// `+01`, `-03:30`, `+00:19:32`.
    static func append(zone: Int32, into buffer: inout ByteBuffer) {
        let seconds = Int(zone.magnitude)
        buffer.append(UInt8(ascii: zone < 0 ? "-" : "+"))
        append(seconds / 3600, width: 2, into: &buffer)
        guard seconds % 3600 != 0 else { return }
        buffer.append(UInt8(ascii: ":"))
        append(seconds / 60 % 60, width: 2, into: &buffer)
        guard seconds % 60 != 0 else { return }
        buffer.append(UInt8(ascii: ":"))
        append(seconds % 60, width: 2, into: &buffer)
    }

    /// A timestamp, in a zone if it has one.
    static func append(moment: Int64, _ zone: ZoneRules?, into buffer: inout ByteBuffer) {
        guard moment != .max, moment != .min else {
            if moment == .max { buffer.append("infinity") } else { buffer.append("-infinity") }
            return
        }
        let offset = zone.map { $0.period(at: Int64(Calendar.floorDivide(Int(moment), 1_000_000))).offset }
        let fields = DateTimeFields(moment: moment &+ Int64(offset ?? 0) &* 1_000_000)
        append(year: fields.year, fields.month, fields.day, into: &buffer)
        buffer.append(UInt8(ascii: " "))
        append(time: fields.microsecondsOfDay, into: &buffer)
        if let offset { append(zone: offset, into: &buffer) }
        if fields.year <= 0 { buffer.append(" BC") }
    }
}
