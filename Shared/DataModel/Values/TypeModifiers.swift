import Base

// Modifiers: what stands in parentheses behind the name of a type, as PostgreSQL packs it into 32 bits.

extension DataType {
    static let modifierOffset: Int32 = 4
    /// What `varchar(n)` may ask for.
    package static let characterLimit: Int32 = 10_485_760
    package static let decimalPrecisionLimit: Int32 = 1000, secondsPrecisionLimit: Int32 = 6

    /// Of text: the number of characters; nil if any number will do.
    package var length: Int? {
        guard kind == .varchar || kind == .char, modifier >= Self.modifierOffset else { return nil }
        return Int(modifier &- Self.modifierOffset)
    }

    /// Of decimals: the number of digits. Of times and intervals: of digits behind the seconds' point.
    package var precision: Int? {
        guard modifier >= 0 else { return nil }
        switch kind {
        case .decimal:
            return modifier >= Self.modifierOffset ? Int((modifier &- Self.modifierOffset) >> 16) & 0xffff : nil
        case .time, .timeWithZone, .timestamp, .timestampWithZone:
            return Int(min(modifier, Self.secondsPrecisionLimit))
        case .interval:
            return IntervalFields(modifier: modifier).precision
        case .bool, .int16, .int32, .int64, .float32, .float64, .text, .varchar, .char, .name, .bytes, .uuid, .date,
            .json, .jsonb, .oid, .regclass, .regtype, .regproc, .regnamespace, .regrole, .internalChar, .int16Vector,
            .oidVector, .transactionID, .record, .void, .unknown:
            return nil
        }
    }

    /// Of decimals: how many of the digits stand behind the point; negative where the last ones before it are zero.
    package var scale: Int? {
        guard kind == .decimal, modifier >= Self.modifierOffset else { return nil }
        return Int(((modifier &- Self.modifierOffset) & 0x7ff) ^ 0x400) - 0x400
    }

    /// The type with what stands in parentheses behind its name. `interval` may say its fields besides: give those as
    /// `IntervalFields`, not here.
    package func constrained(by numbers: [Int32]) throws(StatementError) -> DataType {
        guard !numbers.isEmpty else { return self }
        return DataType(kind, modifier: try modifier(from: numbers), isArray: isArray)
    }

    private func modifier(from numbers: [Int32]) throws(StatementError) -> Int32 {
        switch kind {
        case .varchar, .char:
            return try lengthModifier(numbers)
        case .decimal:
            return try Self.decimalModifier(numbers)
        case .time, .timeWithZone, .timestamp, .timestampWithZone:
            return try secondsModifier(numbers)
        case .interval:
            guard numbers.count == 1 else { throw Self.invalid("invalid INTERVAL type modifier") }
            guard numbers[0] >= 0 else { throw Self.invalid("INTERVAL(\(numbers[0])) precision must not be negative") }
            return IntervalFields(mask: IntervalFields.all, precision: numbers[0]).modifier
        case .bool, .int16, .int32, .int64, .float32, .float64, .text, .name, .bytes, .uuid, .date, .json, .jsonb,
            .oid, .regclass, .regtype, .regproc, .regnamespace, .regrole, .internalChar, .int16Vector, .oidVector,
            .transactionID, .record, .void, .unknown:
            throw StatementError(.syntaxError, "type modifier is not allowed for type \"\(postgres.name)\"")
        }
    }

    private static func invalid(_ message: String) -> StatementError { StatementError(.invalidParameterValue, message) }

    private func lengthModifier(_ numbers: [Int32]) throws(StatementError) -> Int32 {
        guard numbers.count == 1 else { throw Self.invalid("invalid type modifier") }
        let name = kind == .char ? "char" : "varchar"
        guard numbers[0] >= 1 else { throw Self.invalid("length for type \(name) must be at least 1") }
        guard numbers[0] <= Self.characterLimit else {
            throw Self.invalid("length for type \(name) cannot exceed \(Self.characterLimit)")
        }
        return numbers[0] + Self.modifierOffset
    }

    private static func decimalModifier(_ numbers: [Int32]) throws(StatementError) -> Int32 {
        guard numbers.count <= 2 else { throw invalid("invalid NUMERIC type modifier") }
        let precision = numbers[0], scale = numbers.count == 2 ? numbers[1] : 0
        guard (1...decimalPrecisionLimit).contains(precision) else {
            throw invalid("NUMERIC precision \(precision) must be between 1 and \(decimalPrecisionLimit)")
        }
        guard (-decimalPrecisionLimit...decimalPrecisionLimit).contains(scale) else {
            throw invalid(
                "NUMERIC scale \(scale) must be between \(-decimalPrecisionLimit) and \(decimalPrecisionLimit)")
        }
        return (precision << 16 | (scale & 0x7ff)) + modifierOffset
    }

    private func secondsModifier(_ numbers: [Int32]) throws(StatementError) -> Int32 {
        let isTimestamp = kind == .timestamp || kind == .timestampWithZone
        guard numbers.count == 1 else { throw Self.invalid("invalid type modifier") }
        guard numbers[0] >= 0 else {
            let zone = kind == .timestampWithZone || kind == .timeWithZone ? " WITH TIME ZONE" : ""
            throw Self.invalid(
                "\(isTimestamp ? "TIMESTAMP" : "TIME")(\(numbers[0]))\(zone) precision must not be negative")
        }
        return min(numbers[0], Self.secondsPrecisionLimit)
    }
}

/// Which fields an interval type keeps, and how many digits behind the seconds' point: `interval day to second(3)`.
package struct IntervalFields: Hashable, Sendable {
    package static let year: Int32 = 1 << 2, month: Int32 = 1 << 1, day: Int32 = 1 << 3
    package static let hour: Int32 = 1 << 10, minute: Int32 = 1 << 11, second: Int32 = 1 << 12
    /// No restriction.
    package static let all: Int32 = 0x7fff

    /// The sum of the fields, or `all`.
    package let mask: Int32
    /// Nil: all six digits.
    package let precision: Int?

    private static let anyPrecision: Int32 = 0xffff

    package init(mask: Int32, precision: Int32? = nil) {
        self.mask = mask
        self.precision = precision.map { Int(min(max($0, 0), DataType.secondsPrecisionLimit)) }
    }

    package init(modifier: Int32) {
        let digits = modifier & Self.anyPrecision
        self.init(
            mask: modifier < 0 ? Self.all : (modifier >> 16) & Self.all,
            precision: modifier < 0 || digits == Self.anyPrecision ? nil : digits)
    }

    package var modifier: Int32 {
        if mask == Self.all, precision == nil { return -1 }
        return mask << 16 | (precision.map(Int32.init) ?? Self.anyPrecision)
    }

    /// What `format_type` puts behind `interval`.
    package var title: String {
        let names: [(Int32, String)] = [
            (Self.year, "year"), (Self.month, "month"), (Self.day, "day"), (Self.hour, "hour"),
            (Self.minute, "minute"), (Self.second, "second"),
        ]
        let digits = precision.map { "(\($0))" } ?? ""
        guard mask != Self.all else { return digits }
        let fields = names.filter { mask & $0.0 != 0 }.map(\.1)
        guard let first = fields.first, let last = fields.last else { return digits }
        return (first == last ? " \(first)" : " \(first) to \(last)") + digits
    }
}
