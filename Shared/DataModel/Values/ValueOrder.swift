import Base

// Equality, order and hash of values, as PostgreSQL's btree and hash operators have them.

extension Value: Comparable, Hashable {
    package static func == (left: Value, right: Value) -> Bool { compare(left, right) == 0 }

    package static func < (left: Value, right: Value) -> Bool { compare(left, right) < 0 }

    /// Negative, zero or positive. Meant for values of one type; NULL is after everything (and equals itself, as in
    /// sorting and grouping; `=` of SQL is asked elsewhere). Different number types compare by worth; what cannot be
    /// compared is ordered by its case, so that the order is total all the same.
    package static func compare(_ left: Value, _ right: Value) -> Int {
        // One case after the other: the compiler cannot check a switch over all pairs.
        switch left {
        case .null: break
        case .bool(let left): if case .bool(let right) = right { return (left ? 1 : 0) - (right ? 1 : 0) }
        case .integer(let left): if let order = compare(integer: left, right) { return order }
        case .float(let left): if let order = compare(float: left, right) { return order }
        case .decimal(let left): if let order = compare(decimal: left, right) { return order }
        case .text(let left): if case .text(let right) = right { return compareBytes(left, right) }
        case .bytes(let left):
            if case .bytes(let right) = right {
                return left.withUnsafeBytes { left in right.withUnsafeBytes { compareKeys(left, $0) } }
            }
        case .uuid(let left, let leftLow):
            if case .uuid(let right, let rightLow) = right {
                return left == right ? order(leftLow, rightLow) : order(left, right)
            }
        case .date(let days):
            if case .date(let right) = right { return order(days, right) }
            if case .timestamp(let right) = right { return order(midnight(days), right) }
        case .time(let left): if case .time(let right) = right { return order(left, right) }
        case .timeWithZone(let left, let leftZone):
            if case .timeWithZone(let right, let rightZone) = right {
                return compareTimes(left, leftZone, right, rightZone)
            }
        case .timestamp(let moment):
            if case .timestamp(let right) = right { return order(moment, right) }
            if case .date(let right) = right { return order(moment, midnight(right)) }
        case .interval(let left): if case .interval(let right) = right { return order(left.span, right.span) }
        case .json(let left): if case .json(let right) = right { return JSONBinary.compare(left, right) }
        case .array(let left): if case .array(let right) = right { return ArrayValue.compare(left, right) }
        case .tuple(let left): if case .tuple(let right) = right { return compareRows(left, right) }
        }
        return left.rank - right.rank
    }

    private static func compare(integer left: Int64, _ right: Value) -> Int? {
        if case .integer(let right) = right { return order(left, right) }
        if case .decimal(let right) = right { return order(Decimal(left), right) }
        if case .float(let right) = right { return order(Double(left), right) }
        return nil
    }

    private static func compare(float left: Double, _ right: Value) -> Int? {
        if case .float(let right) = right { return order(left, right) }
        if case .integer(let right) = right { return order(left, Double(right)) }
        if case .decimal(let right) = right { return order(left, right.double) }
        return nil
    }

    private static func compare(decimal left: Decimal, _ right: Value) -> Int? {
        if case .decimal(let right) = right { return order(left, right) }
        if case .integer(let right) = right { return order(left, Decimal(right)) }
        if case .float(let right) = right { return order(left.double, right) }
        return nil
    }

    private static func order<Ordered: Comparable>(_ left: Ordered, _ right: Ordered) -> Int {
        left < right ? -1 : (left == right ? 0 : 1)
    }

    /// NaN is greater than every number, and equals itself.
    package static func order(_ left: Double, _ right: Double) -> Int {
        if left < right { return -1 }
        if left == right { return 0 }
        if left > right { return 1 }
        return (left.isNaN ? 1 : 0) - (right.isNaN ? 1 : 0)
    }

    /// Collation C: strings of Swift would call canonically equivalent ones equal.
    package static func compareBytes(_ left: String, _ right: String) -> Int {
        var left = left, right = right
        return left.withUTF8 { left in right.withUTF8 { compareKeys(ByteView(left), ByteView($0)) } }
    }

    /// By the moment; then the zone decides, the more eastern first.
    private static func compareTimes(_ left: Int64, _ leftZone: Int32, _ right: Int64, _ rightZone: Int32) -> Int {
        let leftMoment = left &- Int64(leftZone) &* 1_000_000, rightMoment = right &- Int64(rightZone) &* 1_000_000
        return leftMoment == rightMoment ? order(rightZone, leftZone) : order(leftMoment, rightMoment)
    }

    private static func midnight(_ days: Int32) -> Int64 {
        if days == .max { return .max }
        if days == .min { return .min }
        // Dates reach further than timestamps do: then they are before or after all of them, short of infinity.
        let (product, isOver) = Int64(days).multipliedReportingOverflow(by: 86_400_000_000)
        return isOver ? (days < 0 ? .min + 1 : .max - 1) : product
    }

    static func compareRows(_ left: [Value], _ right: [Value]) -> Int {
        for (first, second) in zip(left, right) {
            let order = compare(first, second)
            if order != 0 { return order }
        }
        return left.count - right.count
    }

    private var rank: Int {
        switch self {
        case .bool: 1
        case .integer, .float, .decimal: 2
        case .text: 3
        case .bytes: 4
        case .uuid: 5
        case .date, .timestamp: 6
        case .time: 7
        case .timeWithZone: 8
        case .interval: 9
        case .json: 10
        case .array: 11
        case .tuple: 12
        case .null: 13
        }
    }

    /// Equal values hash alike within one type; numbers of different types that are equal do too.
    package func hash(into hasher: inout Hasher) {
        switch self {
        case .null: hasher.combine(0 as UInt8)
        case .bool(let value): hasher.combine(value)
        case .integer(let value): Self.hash(number: Double(value), into: &hasher)
        case .float(let value): Self.hash(number: value, into: &hasher)
        case .decimal(let value): Self.hash(number: value.double, into: &hasher)
        case .text(let value):
            var value = value
            value.withUTF8 { hasher.combine(bytes: ByteView($0)) }
        case .bytes(let value): hasher.combine(value)
        case .uuid(let high, let low):
            hasher.combine(high)
            hasher.combine(low)
        case .date(let value): hasher.combine(Self.midnight(value))
        case .time(let value), .timestamp(let value): hasher.combine(value)
        case .timeWithZone(let value, let zone):
            hasher.combine(value)
            hasher.combine(zone)
        case .interval(let value): hasher.combine(value.span)
        case .json(let value): value.hash(into: &hasher)
        case .array(let value): hasher.combine(value.elements)
        case .tuple(let values): hasher.combine(values)
        }
    }

    private static func hash(number: Double, into hasher: inout Hasher) {
        hasher.combine(number.isNaN ? Double.nan.bitPattern : (number == 0 ? 0 : number.bitPattern))
    }
}

extension Interval: Comparable, Hashable {
    /// The length by which intervals compare: a month counts thirty days, a day 24 hours.
    package var span: Int128 {
        (Int128(months) * 30 + Int128(days)) * 86_400_000_000 + Int128(microseconds)
    }

    package static func == (left: Interval, right: Interval) -> Bool { left.span == right.span }

    package static func < (left: Interval, right: Interval) -> Bool { left.span < right.span }

    package func hash(into hasher: inout Hasher) { hasher.combine(span) }

    /// Whether all three parts are equal: `1 month` and `30 days` are not identical.
    package func isIdentical(to other: Interval) -> Bool {
        months == other.months && days == other.days && microseconds == other.microseconds
    }
}

extension ArrayValue: Hashable {
    /// Element by element, then the number of elements, of dimensions, their extents and lower bounds. NULL elements
    /// are after all others.
    package static func compare(_ left: ArrayValue, _ right: ArrayValue) -> Int {
        let order = Value.compareRows(left.elements, right.elements)
        if order != 0 { return order }
        if left.dimensions.count != right.dimensions.count { return left.dimensions.count - right.dimensions.count }
        for (first, second) in zip(left.dimensions, right.dimensions) where first.count != second.count {
            return first.count < second.count ? -1 : 1
        }
        for (first, second) in zip(left.dimensions, right.dimensions) where first.lowerBound != second.lowerBound {
            return first.lowerBound < second.lowerBound ? -1 : 1
        }
        return 0
    }

    package static func == (left: ArrayValue, right: ArrayValue) -> Bool { compare(left, right) == 0 }

    package func hash(into hasher: inout Hasher) { hasher.combine(elements) }
}
