/// The type of a column, a parameter or an expression: what kind of value, how it is constrained, and whether it is an
/// array of such. Eight bytes without references, to be copied freely.
package struct DataType: Hashable, Sendable {
    /// Frozen: kinds are on disk, in descriptors of collections. New ones take new numbers.
    package enum Kind: UInt8, CaseIterable, Hashable, Sendable {
        case bool = 1, int16 = 2, int32 = 3, int64 = 4, float32 = 5, float64 = 6, decimal = 7
        /// `char` is padded with blanks, `name` an identifier; all are UTF-8.
        case text = 8, varchar = 9, char = 10, name = 11
        case bytes = 12, uuid = 13
        case date = 14, time = 15, timeWithZone = 16, timestamp = 17, timestampWithZone = 18, interval = 19
        /// `json` keeps its text as it was written, `jsonb` is binary.
        case json = 20, jsonb = 21
        /// Numbers of catalog objects; the `reg` kinds print as names.
        case oid = 22, regclass = 23, regtype = 24, regproc = 25, regnamespace = 26, regrole = 27
        /// One byte: PostgreSQL's `"char"` of its catalogs.
        case internalChar = 28
        /// Arrays that count from 0 and print with blanks between: only in catalogs.
        case int16Vector = 29, oidVector = 30
        case transactionID = 31
        /// Pseudo-types: a row of unnamed columns, no value at all, a literal whose type is not known yet.
        case record = 40, void = 41, unknown = 42
    }

    package let kind: Kind
    package let isArray: Bool
    /// As PostgreSQL's typmod: a length plus four, a precision, precision and scale in one; -1 if there is none.
    package let modifier: Int32

    package init(_ kind: Kind, modifier: Int32 = -1, isArray: Bool = false) {
        self.kind = kind
        self.isArray = isArray
        self.modifier = modifier
    }

    /// The type of an array's elements; of a vector too, and of anything else the type itself.
    package var element: DataType {
        if isArray { return DataType(kind, modifier: modifier) }
        switch kind {
        case .int16Vector: return DataType(.int16)
        case .oidVector: return DataType(.oid)
        case .bool, .int16, .int32, .int64, .float32, .float64, .decimal, .text, .varchar, .char, .name, .bytes, .uuid,
            .date, .time, .timeWithZone, .timestamp, .timestampWithZone, .interval, .json, .jsonb, .oid, .regclass,
            .regtype, .regproc, .regnamespace, .regrole, .internalChar, .transactionID, .record, .void, .unknown:
            return self
        }
    }

    /// The type of arrays of this: of any number of dimensions.
    package var array: DataType { DataType(kind, modifier: modifier, isArray: true) }

    /// The same type without its constraint.
    package var unconstrained: DataType { DataType(kind, isArray: isArray) }

    /// Whether values are `Value.array`.
    package var isArrayLike: Bool { isArray || kind == .int16Vector || kind == .oidVector }

    package static let bool = DataType(.bool), int16 = DataType(.int16), int32 = DataType(.int32)
    package static let int64 = DataType(.int64), float32 = DataType(.float32), float64 = DataType(.float64)
    package static let decimal = DataType(.decimal), text = DataType(.text), varchar = DataType(.varchar)
    package static let char = DataType(.char), name = DataType(.name), bytes = DataType(.bytes)
    package static let uuid = DataType(.uuid), date = DataType(.date), time = DataType(.time)
    package static let timeWithZone = DataType(.timeWithZone), timestamp = DataType(.timestamp)
    package static let timestampWithZone = DataType(.timestampWithZone), interval = DataType(.interval)
    package static let json = DataType(.json), jsonb = DataType(.jsonb), oid = DataType(.oid)
    package static let regclass = DataType(.regclass), regtype = DataType(.regtype), regproc = DataType(.regproc)
    package static let internalChar = DataType(.internalChar), record = DataType(.record)
    package static let void = DataType(.void), unknown = DataType(.unknown)
}
