import Base

/// A value of any type. Its case says which kinds it can be of; what else its type says (width of an integer, length of
/// a text) was checked when it was made.
///
/// Equality, order and hash are PostgreSQL's: NaN equals itself and is greater than every number, -0 equals 0, decimals
/// compare by worth, intervals by length, and text by its bytes (collation C), never by what Unicode calls equivalent.
package enum Value: Sendable {
    case null
    case bool(Bool)
    /// int16, int32, int64, oid and its relatives, transaction ids.
    case integer(Int64)
    /// float32 and float64.
    case float(Double)
    case decimal(Decimal)
    /// Every kind of text; `char` with its padding; `json` as written; `internalChar` as one character or none.
    case text(String)
    case bytes(Bytes)
    case uuid(high: UInt64, low: UInt64)
    /// Days since 1970-01-01 (proleptic Gregorian); the extremes stand for infinity.
    case date(Int32)
    /// Microseconds since midnight, up to 24:00.
    case time(Int64)
    /// Local time, and the zone's seconds EAST of Greenwich.
    case timeWithZone(microseconds: Int64, zone: Int32)
    /// Microseconds since 1970-01-01 00:00, of UTC for the kind with zone; the extremes stand for infinity.
    case timestamp(Int64)
    case interval(Interval)
    case json(JSONBinary)
    indirect case array(ArrayValue)
    /// A row of unnamed columns.
    case tuple([Value])

    package var isNull: Bool {
        if case .null = self { return true }
        return false
    }
}

/// A span of time: months and days have no fixed length, so all three parts are kept.
package struct Interval: Sendable {
    package var months: Int32
    package var days: Int32
    package var microseconds: Int64

    package init(months: Int32 = 0, days: Int32 = 0, microseconds: Int64 = 0) {
        self.months = months
        self.days = days
        self.microseconds = microseconds
    }
}

/// An array of PostgreSQL: any number of dimensions up to six, each with a lower bound, its elements in one row.
package struct ArrayValue: Sendable {
    package static let dimensionLimit = 6

    /// One extent of the array.
    package struct Dimension: Hashable, Sendable {
        package var count: Int32
        package var lowerBound: Int32

        package init(count: Int32, lowerBound: Int32 = 1) {
            self.count = count
            self.lowerBound = lowerBound
        }
    }

    /// The type of the elements.
    package let element: DataType
    /// None for an empty array. Their counts' product is the number of elements.
    package let dimensions: [Dimension]
    /// The last dimension varies fastest.
    package let elements: [Value]

    /// An array of one dimension, counting from 1; empty if there are no elements.
    package init(_ element: DataType, _ elements: [Value]) {
        self.element = element
        self.elements = elements
        dimensions = elements.isEmpty ? [] : [Dimension(count: Int32(clamping: elements.count))]
    }

    /// Nil where counts and elements do not agree, or there are too many dimensions.
    package init?(_ element: DataType, dimensions: [Dimension], elements: [Value]) {
        guard dimensions.count <= Self.dimensionLimit else { return nil }
        var product = dimensions.isEmpty ? 0 : 1
        for dimension in dimensions {
            guard dimension.count > 0, dimension.lowerBound &+ (dimension.count &- 1) >= dimension.lowerBound else {
                return nil
            }
            let (next, isOver) = product.multipliedReportingOverflow(by: Int(dimension.count))
            guard !isOver else { return nil }
            product = next
        }
        guard product == elements.count else { return nil }
        self.element = element
        self.dimensions = dimensions
        self.elements = elements
    }
}
