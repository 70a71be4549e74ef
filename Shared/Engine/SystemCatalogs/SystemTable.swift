import Base
import DataModel

/// A table of the system catalogs: what it is called, and how its rows are computed from the catalog of the moment.
final class SystemTable: Sendable {
    let descriptor: CollectionDescriptor
    /// PostgreSQL makes it a view.
    let isView: Bool
    private let compute: @Sendable (_ system: SystemCatalog, _ places: [Int]) -> [[Value]]

    /// A table of which each row is made from one `Row`.
    init<Row>(
        _ name: String, _ id: UInt32, in namespace: NamespaceID = .systemCatalog, isView: Bool = false,
        rows: @escaping @Sendable (SystemCatalog) -> [Row], _ columns: (inout Columns<Row>) -> Void
    ) {
        var list = Columns<Row>()
        columns(&list)
        let values = list.values
        descriptor = Self.describe(name, id, namespace, list.columns)
        self.isView = isView
        compute = { system, places in
            let rows = rows(system)
            return places.map { place in rows.map { values[place]($0, system) } }
        }
    }

    /// A table that never has rows here; its columns are written as `name type`, a type with `!` for NOT NULL.
    init(empty name: String, _ id: UInt32, in namespace: NamespaceID, isView: Bool, _ columns: String) {
        var list: [CollectionDescriptor.Column] = []
        for (index, part) in columns.split(separator: ",").enumerated() {
            let words = part.split(separator: " ")
            guard words.count == 2 else { continue }
            let isNotNull = words[1].hasSuffix("!")
            let type = PostgresTypes.type(named: String(isNotNull ? words[1].dropLast() : words[1])) ?? .text
            list.append(
                .init(
                    id: ColumnID(rawValue: UInt16(index + 1)), name: String(words[0]), type: type,
                    isNotNull: isNotNull))
        }
        descriptor = Self.describe(name, id, namespace, list)
        self.isView = isView
        compute = { _, places in places.map { _ in [] } }
    }

    private static func describe(
        _ name: String, _ id: UInt32, _ namespace: NamespaceID, _ columns: [CollectionDescriptor.Column]
    ) -> CollectionDescriptor {
        var descriptor = CollectionDescriptor(
            id: CollectionID(rawValue: id), namespace: namespace, name: name, kind: .table, owner: SystemCatalog.owner)
        descriptor.columns = columns
        return descriptor
    }

    /// The columns of a table, each with how its value comes from a row.
    struct Columns<Row> {
        fileprivate var columns: [CollectionDescriptor.Column] = []
        fileprivate var values: [@Sendable (Row, SystemCatalog) -> Value] = []

        /// A column that is never NULL.
        mutating func add(
            _ name: String, _ type: DataType, _ value: @escaping @Sendable (Row, SystemCatalog) -> Value
        ) {
            append(name, type, isNotNull: true, value)
        }

        /// A column that may be NULL.
        mutating func optional(
            _ name: String, _ type: DataType, _ value: @escaping @Sendable (Row, SystemCatalog) -> Value
        ) {
            append(name, type, isNotNull: false, value)
        }

        /// A column with the same value in every row.
        mutating func constant(_ name: String, _ type: DataType, _ value: Value) {
            append(name, type, isNotNull: !value.isNull) { _, _ in value }
        }

        private mutating func append(
            _ name: String, _ type: DataType, isNotNull: Bool,
            _ value: @escaping @Sendable (Row, SystemCatalog) -> Value
        ) {
            let id = ColumnID(rawValue: UInt16(columns.count + 1))
            columns.append(.init(id: id, name: name, type: type, isNotNull: isNotNull))
            values.append(value)
        }
    }

    /// The columns with these ids, of all rows.
    func columns(_ ids: [ColumnID], _ system: SystemCatalog) -> [[Value]] {
        let places = ids.compactMap { id in
            (1...descriptor.columns.count).contains(Int(id.rawValue)) ? Int(id.rawValue) - 1 : nil
        }
        return compute(system, places)
    }

    /// How many rows there are.
    func count(_ system: SystemCatalog) -> Int { compute(system, [0]).first?.count ?? 0 }
}

/// Values as the catalogs have them.
extension Value {
    static func oid(_ number: UInt32) -> Value { .integer(Int64(number)) }
    static func number(_ number: some BinaryInteger) -> Value { .integer(Int64(clamping: number)) }
    static func text(optional text: String?) -> Value { text.map(Value.text) ?? .null }
    /// YES or NO, as information_schema says it.
    static func word(_ flag: Bool) -> Value { .text(flag ? "YES" : "NO") }
    static func texts(_ texts: [String]) -> Value { .array(ArrayValue(.text, texts.map(Value.text))) }
    /// An ACL; NULL where nobody has granted anything.
    static func grants(_ grants: [Grant]?) -> Value { grants.map { .texts($0.map(\.text)) } ?? .null }
    static func shorts(_ numbers: [UInt16]) -> Value { .array(ArrayValue(.int16, numbers.map { .number($0) })) }
    /// An `int2vector` or `oidvector`, which counts from 0.
    static func vector(_ element: DataType, _ numbers: [Int64]) -> Value {
        let dimension = ArrayValue.Dimension(count: Int32(clamping: numbers.count), lowerBound: 0)
        let array = ArrayValue(
            element, dimensions: numbers.isEmpty ? [] : [dimension], elements: numbers.map(Value.integer))
        return array.map(Value.array) ?? .null
    }
}

extension DataType {
    static let shortVector = DataType(.int16Vector), oidVector = DataType(.oidVector)
    static let transactionID = DataType(.transactionID), regnamespace = DataType(.regnamespace)
    static let regrole = DataType(.regrole)
}
