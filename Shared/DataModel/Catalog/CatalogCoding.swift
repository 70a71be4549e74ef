import Base

// The stored form of the catalog's objects:
//
//     version u8 (7) | kind u8 (0 namespace, 1 collection, 2 role) | fields in the order in which they are declared
//
// Numbers are varints, signed ones zig-zag; texts and lists have their length or count in front; what may be absent has
// a byte 0 or 1 in front. A decoder trusts no length, and refuses what it does not know: a newer release wrote it.
// Version 1 had no `Index.isConstraint`, no `Column.missing` and no statistics, version 2 other statistics of columns,
// version 3 no `NamespaceDescriptor.namesRecords`, version 4 no roles and no grants, version 5 no grants on columns,
// version 6 no collations of columns.

/// Writes the fields of one object.
struct CatalogWriter: ~Copyable {
    var buffer = ByteBuffer(capacity: 512)

    mutating func number(_ value: some FixedWidthInteger & UnsignedInteger) { buffer.append(varint: UInt64(value)) }
    mutating func signed(_ value: Int64) {
        buffer.append(varint: UInt64(bitPattern: (value &<< 1) ^ (value &>> 63)))
    }
    mutating func bool(_ value: Bool) { buffer.append(value ? 1 : 0 as UInt8) }
    mutating func text(_ value: String) {
        number(UInt64(value.utf8.count))
        buffer.append(text: value)
    }
    mutating func bytes(_ value: Bytes) {
        number(UInt64(value.count))
        buffer.append(value)
    }
    mutating func type(_ value: DataType) {
        buffer.append(value.kind.rawValue)
        signed(Int64(value.modifier))
        bool(value.isArray)
    }
    mutating func value(_ value: Value) { bytes(RecordEncoding.encode([(1, value)])) }
    mutating func expression(_ value: StoredExpression) {
        bytes(value.plan)
        text(value.text)
    }
    mutating func list<Element>(_ elements: [Element], _ write: (inout CatalogWriter, Element) -> Void) {
        number(UInt64(elements.count))
        for element in elements { write(&self, element) }
    }
    mutating func optional<Value>(_ value: Value?, _ write: (inout CatalogWriter, Value) -> Void) {
        bool(value != nil)
        if let value { write(&self, value) }
    }
}

/// Reads the fields of one object; every method throws `corruption` for what no writer has written.
struct CatalogReader {
    /// Longest text, and most elements of a list.
    static let textLimit = 1 << 20, countLimit = 100_000
    var reader: ByteReader
    /// The version of the stored form that is read.
    var format: UInt8

    static func corrupt(_ why: String) -> DatabaseError { DatabaseError(.corruption, "object of the catalog: \(why)") }

    mutating func number<Value: FixedWidthInteger>(_: Value.Type = Value.self) throws(DatabaseError) -> Value {
        guard let number = reader.varint(), let value = Value(exactly: number) else { throw Self.corrupt("a number") }
        return value
    }
    mutating func signed() throws(DatabaseError) -> Int64 {
        guard let bits = reader.varint() else { throw Self.corrupt("a number") }
        return Int64(bitPattern: bits &>> 1) ^ -Int64(bitPattern: bits & 1)
    }
    mutating func bool() throws(DatabaseError) -> Bool {
        guard let byte = reader.byte(), byte <= 1 else { throw Self.corrupt("a truth value") }
        return byte == 1
    }
    mutating func byte() throws(DatabaseError) -> UInt8 {
        guard let byte = reader.byte() else { throw Self.corrupt("it is cut") }
        return byte
    }
    mutating func text() throws(DatabaseError) -> String {
        guard let view = reader.delimited(), view.count <= Self.textLimit,
            let text = String(validating: view, as: UTF8.self)
        else { throw Self.corrupt("a text is cut, too long or not UTF-8") }
        return text
    }
    mutating func bytes() throws(DatabaseError) -> Bytes {
        guard let view = reader.delimited(), view.count <= Self.textLimit else { throw Self.corrupt("bytes are cut") }
        return view.bytes
    }
    mutating func type() throws(DatabaseError) -> DataType {
        guard let kind = DataType.Kind(rawValue: try byte()), let modifier = Int32(exactly: try signed()) else {
            throw Self.corrupt("an unknown type")
        }
        return DataType(kind, modifier: modifier, isArray: try bool())
    }
    mutating func value() throws(DatabaseError) -> Value {
        let stored = try bytes().withUnsafeBytes { RecordEncoding.decode($0) }
        guard let stored, stored.count == 1, stored[0].column == 1 else { throw Self.corrupt("a value") }
        return stored[0].value
    }
    mutating func expression() throws(DatabaseError) -> StoredExpression {
        StoredExpression(plan: try bytes(), text: try text())
    }
    mutating func choice<Value: RawRepresentable<UInt8>>(_: Value.Type = Value.self) throws(DatabaseError) -> Value {
        guard let value = Value(rawValue: try byte()) else { throw Self.corrupt("an unknown choice") }
        return value
    }
    mutating func list<Element>(
        _ read: (inout CatalogReader) throws(DatabaseError) -> Element
    ) throws(DatabaseError) -> [Element] {
        let count: Int = try number()
        guard count <= Self.countLimit, count <= reader.remaining else { throw Self.corrupt("a list is cut") }
        var elements: [Element] = []
        for _ in 0..<count { elements.append(try read(&self)) }
        return elements
    }
    mutating func optional<Value>(
        _ read: (inout CatalogReader) throws(DatabaseError) -> Value
    ) throws(DatabaseError) -> Value? {
        try bool() ? try read(&self) : nil
    }
}

extension NamespaceDescriptor {
    func write(_ writer: inout CatalogWriter) {
        writer.number(id.rawValue)
        writer.text(name)
        writer.text(owner)
        writer.bool(namesRecords)
        Grant.write(grants, &writer)
    }

    init(_ reader: inout CatalogReader) throws(DatabaseError) {
        self.init(id: NamespaceID(rawValue: try reader.number()), name: try reader.text(), owner: try reader.text())
        if reader.format >= 4 { namesRecords = try reader.bool() }
        grants = try Grant.read(&reader)
    }
}

extension CollectionDescriptor {
    func write(_ writer: inout CatalogWriter) {
        writer.number(id.rawValue)
        writer.number(namespace.rawValue)
        writer.text(name)
        writer.number(kind.rawValue)
        writer.number(fields.rawValue)
        writer.number(version)
        writer.text(owner)
        writer.list(columns) { $1.write(&$0) }
        writer.number(nextColumn.rawValue)
        writer.list(primaryKey) { $0.number($1.rawValue) }
        writer.text(primaryKeyName)
        writer.list(indexes) { $1.write(&$0) }
        writer.list(checks) { writer, check in
            writer.text(check.name)
            writer.expression(check.condition)
        }
        writer.list(foreignKeys) { $1.write(&$0) }
        writer.optional(query) { $0.expression($1) }
        writer.optional(sequence) { $1.write(&$0) }
        writer.text(comment)
        writer.optional(entriesOf) { $0.number($1.rawValue) }
        writer.optional(statistics) { $1.write(&$0) }
        Grant.write(grants, &writer)
        writer.list(columns.filter { $0.grants != nil }) { writer, column in
            writer.number(column.id.rawValue)
            Grant.write(column.grants, &writer)
        }
        writer.list(columns.filter { $0.collation != nil }) { writer, column in
            writer.number(column.id.rawValue)
            writer.number(column.collation?.rawValue ?? 0)
        }
    }

    init(_ reader: inout CatalogReader) throws(DatabaseError) {
        let id = CollectionID(rawValue: try reader.number())
        let namespace = NamespaceID(rawValue: try reader.number())
        let name = try reader.text()
        let kind = try reader.choice(Kind.self), fields = try reader.choice(Fields.self)
        let version: UInt64 = try reader.number()
        self.init(id: id, namespace: namespace, name: name, kind: kind, version: version, owner: try reader.text())
        self.fields = fields
        columns = try reader.list { reader throws(DatabaseError) in try Column(&reader) }
        nextColumn = ColumnID(rawValue: try reader.number())
        primaryKey = try reader.list { reader throws(DatabaseError) in ColumnID(rawValue: try reader.number()) }
        primaryKeyName = try reader.text()
        indexes = try reader.list { reader throws(DatabaseError) in try Index(&reader) }
        checks = try reader.list { reader throws(DatabaseError) in
            Check(name: try reader.text(), condition: try reader.expression())
        }
        foreignKeys = try reader.list { reader throws(DatabaseError) in try ForeignKey(&reader) }
        query = try reader.optional { reader throws(DatabaseError) in try reader.expression() }
        sequence = try reader.optional { reader throws(DatabaseError) in try Sequence(&reader) }
        comment = try reader.text()
        entriesOf = try reader.optional { reader throws(DatabaseError) in CollectionID(rawValue: try reader.number()) }
        guard reader.format >= 2 else { return }
        statistics = try reader.optional { reader throws(DatabaseError) in try Statistics(&reader) }
        grants = try Grant.read(&reader)
        guard reader.format >= 6 else { return }
        let onColumns = try reader.list { reader throws(DatabaseError) in
            (ColumnID(rawValue: try reader.number()), try Grant.read(&reader))
        }
        for (id, grants) in onColumns {
            guard let place = columns.firstIndex(where: { $0.id == id }) else {
                throw CatalogReader.corrupt("a grant on no column")
            }
            columns[place].grants = grants
        }
        guard reader.format >= 7 else { return }
        let collations = try reader.list { reader throws(DatabaseError) in
            (ColumnID(rawValue: try reader.number()), try reader.choice(Collation.self))
        }
        for (id, collation) in collations {
            guard let place = columns.firstIndex(where: { $0.id == id }) else {
                throw CatalogReader.corrupt("a collation of no column")
            }
            columns[place].collation = collation
        }
    }
}

extension CollectionDescriptor.Column {
    fileprivate func write(_ writer: inout CatalogWriter) {
        writer.number(id.rawValue)
        writer.text(name)
        writer.type(type)
        writer.bool(isNotNull)
        writer.optional(defaultValue) { $0.expression($1) }
        writer.number(identity.rawValue)
        writer.optional(sequence) { $0.number($1.rawValue) }
        writer.optional(missing) { $0.value($1) }
    }

    fileprivate init(_ reader: inout CatalogReader) throws(DatabaseError) {
        self.init(
            id: ColumnID(rawValue: try reader.number()), name: try reader.text(), type: try reader.type(),
            isNotNull: try reader.bool())
        defaultValue = try reader.optional { reader throws(DatabaseError) in try reader.expression() }
        identity = try reader.choice()
        sequence = try reader.optional { reader throws(DatabaseError) in CollectionID(rawValue: try reader.number()) }
        guard reader.format >= 2 else { return }
        missing = try reader.optional { reader throws(DatabaseError) in try reader.value() }
    }
}

extension CollectionDescriptor.Index {
    fileprivate func write(_ writer: inout CatalogWriter) {
        writer.number(id.rawValue)
        writer.text(name)
        writer.list(parts) { writer, part in
            writer.number(part.column.rawValue)
            writer.bool(part.isDescending)
        }
        writer.bool(isUnique)
        writer.number(state.rawValue)
        writer.optional(entries) { $0.number($1.rawValue) }
        writer.bool(isConstraint)
    }

    fileprivate init(_ reader: inout CatalogReader) throws(DatabaseError) {
        let id = IndexID(rawValue: try reader.number()), name = try reader.text()
        let parts = try reader.list { reader throws(DatabaseError) in
            CollectionDescriptor.IndexPart(
                column: ColumnID(rawValue: try reader.number()), isDescending: try reader.bool())
        }
        self.init(id: id, name: name, parts: parts, isUnique: try reader.bool(), state: try reader.choice())
        entries = try reader.optional { reader throws(DatabaseError) in CollectionID(rawValue: try reader.number()) }
        if reader.format >= 2 { isConstraint = try reader.bool() }
    }
}

extension CollectionDescriptor.ForeignKey {
    fileprivate func write(_ writer: inout CatalogWriter) {
        writer.text(name)
        writer.list(columns) { $0.number($1.rawValue) }
        writer.number(target.rawValue)
        writer.list(targetColumns) { $0.number($1.rawValue) }
        writer.number(onUpdate.rawValue)
        writer.number(onDelete.rawValue)
    }

    fileprivate init(_ reader: inout CatalogReader) throws(DatabaseError) {
        let name = try reader.text()
        let columns = try reader.list { reader throws(DatabaseError) in ColumnID(rawValue: try reader.number()) }
        let target = CollectionID(rawValue: try reader.number())
        self.init(
            name: name, columns: columns, target: target,
            targetColumns: try reader.list { reader throws(DatabaseError) in ColumnID(rawValue: try reader.number()) })
        onUpdate = try reader.choice()
        onDelete = try reader.choice()
    }
}

extension CollectionDescriptor.Sequence {
    fileprivate func write(_ writer: inout CatalogWriter) {
        writer.type(type)
        for number in [start, increment, minimum, maximum, cache] { writer.signed(number) }
        writer.bool(cycles)
    }

    fileprivate init(_ reader: inout CatalogReader) throws(DatabaseError) {
        self.init()
        type = try reader.type()
        start = try reader.signed()
        increment = try reader.signed()
        minimum = try reader.signed()
        maximum = try reader.signed()
        cache = try reader.signed()
        cycles = try reader.bool()
    }
}

extension CollectionDescriptor.Statistics {
    fileprivate func write(_ writer: inout CatalogWriter) {
        writer.number(rows)
        writer.list(columns) { writer, column in
            writer.number(column.column.rawValue)
            writer.number(column.nulls)
            writer.number(column.distinct)
            writer.number(column.width)
            writer.list(column.common) { writer, common in
                writer.value(common.value)
                writer.number(common.rows)
            }
            writer.list(column.bounds) { $0.value($1) }
        }
    }

    fileprivate init(_ reader: inout CatalogReader) throws(DatabaseError) {
        self.init(rows: try reader.number())
        columns = try reader.list { reader throws(DatabaseError) in
            var column = Column(
                column: ColumnID(rawValue: try reader.number()), nulls: try reader.number(),
                distinct: try reader.number())
            guard reader.format >= 3 else {
                // The least and the greatest, which nobody has ever written.
                _ = try reader.optional { reader throws(DatabaseError) in try reader.value() }
                _ = try reader.optional { reader throws(DatabaseError) in try reader.value() }
                return column
            }
            column.width = try reader.number()
            column.common = try reader.list { reader throws(DatabaseError) in
                Common(value: try reader.value(), rows: try reader.number())
            }
            column.bounds = try reader.list { reader throws(DatabaseError) in try reader.value() }
            return column
        }
    }
}
