import Base

// What a type's modifier does to a value: lengths, precision and scale.

extension Value {
    /// The value as a column of that type keeps it. An assignment refuses what is too long for a text; an explicit cast
    /// cuts it. The value is of the type's kind already. Throws in PostgreSQL's words.
    package func coerced(to type: DataType, isExplicit: Bool) throws(StatementError) -> Value {
        guard type.modifier >= 0 else { return self }
        switch self {
        case .text(let text): return try Self.coerced(text, type, isExplicit)
        case .decimal(let value): return .decimal(try Self.coerced(value, type))
        case .time(let microseconds):
            return .time(Self.rounded(microseconds, type.precision))
        case .timeWithZone(let microseconds, let zone):
            return .timeWithZone(microseconds: Self.rounded(microseconds, type.precision), zone: zone)
        case .timestamp(let moment): return .timestamp(Self.rounded(moment: moment, type.precision))
        case .interval(let interval): return .interval(interval.limited(to: IntervalFields(modifier: type.modifier)))
        case .array(let array) where type.isArray:
            var elements: [Value] = []
            for element in array.elements {
                elements.append(try element.coerced(to: type.element, isExplicit: isExplicit))
            }
            return ArrayValue(type.element, dimensions: array.dimensions, elements: elements).map(Value.array) ?? self
        case .null, .bool, .integer, .float, .bytes, .uuid, .date, .json, .array, .tuple: return self
        }
    }

    private static func coerced(_ text: String, _ type: DataType, _ isExplicit: Bool) throws(StatementError) -> Value {
        guard let length = type.length else { return .text(text) }
        // No character is shorter than a byte.
        let count = text.utf8.count <= length && type.kind == .varchar ? length : text.unicodeScalars.count
        if count == length { return .text(text) }
        if count < length {
            return .text(type.kind == .char ? text + String(repeating: " ", count: length - count) : text)
        }
        let scalars = text.unicodeScalars
        let end = scalars.index(scalars.startIndex, offsetBy: length)
        guard isExplicit || scalars[end...].allSatisfy({ $0 == " " }) else {
            throw StatementError(
                .stringDataRightTruncation, "value too long for type \(type.formatted)")
        }
        return .text(String(scalars[..<end]))
    }

    private static func coerced(_ value: Decimal, _ type: DataType) throws(StatementError) -> Decimal {
        guard let precision = type.precision, let scale = type.scale else { return value }
        do throws(DatabaseError) {
            return try value.constrained(precision: precision, scale: scale)
        } catch {
            let field = "A field with precision \(precision), scale \(scale)"
            let room = precision - scale
            let detail =
                value.isFinite
                ? "\(field) must round to an absolute value less than \(room == 0 ? "1" : "10^\(room)")."
                : "\(field) cannot hold an infinite value."
            throw StatementError(.numericValueOutOfRange, error.message, detail: detail)
        }
    }

    /// To so many digits behind the seconds' point, halves away from zero.
    private static func rounded(_ microseconds: Int64, _ precision: Int?) -> Int64 {
        guard let precision, precision < 6, microseconds != .max, microseconds != .min else { return microseconds }
        let unit: Int64 = [1_000_000, 100_000, 10_000, 1000, 100, 10][max(precision, 0)]
        let half = microseconds < 0 ? -(unit / 2) : unit / 2
        let (sum, isOver) = microseconds.addingReportingOverflow(half)
        return isOver ? microseconds : sum / unit * unit
    }

    /// Counted from 2000, as PostgreSQL does: that decides which way a half goes.
    private static func rounded(moment: Int64, _ precision: Int?) -> Int64 {
        guard moment != .max, moment != .min else { return moment }
        let (shifted, isOver) = moment.subtractingReportingOverflow(ValueBinary.epoch)
        return isOver ? moment : rounded(shifted, precision) &+ ValueBinary.epoch
    }

    fileprivate static func roundedTime(_ microseconds: Int64, _ precision: Int?) -> Int64 {
        rounded(microseconds, precision)
    }
}

extension Interval {
    /// Without what is finer than the last of the type's fields.
    func limited(to fields: IntervalFields) -> Interval {
        var result = self
        if fields.mask != IntervalFields.all, fields.mask & IntervalFields.second == 0 {
            if fields.mask & IntervalFields.minute != 0 {
                result.microseconds -= result.microseconds % 60_000_000
            } else if fields.mask & IntervalFields.hour != 0 {
                result.microseconds -= result.microseconds % 3_600_000_000
            } else {
                result.microseconds = 0
                if fields.mask & IntervalFields.day == 0 { result.days = 0 }
                if fields.mask & (IntervalFields.day | IntervalFields.month) == 0 {
                    result.months -= result.months % 12
                }
            }
        }
        result.microseconds = Value.roundedTime(result.microseconds, fields.precision)
        return result
    }
}
