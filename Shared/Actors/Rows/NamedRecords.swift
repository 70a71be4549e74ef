import Base
import Contracts
import DataModel

// Records as hashes: the key `P:K` of database 0 names the record with primary key K of collection P, if there is such
// a collection in the default namespace, with a primary key of one column (design: DATA-MODEL.md, section 4).

/// A collection whose records keys of Redis name.
struct NamedCollection {
    struct Column {
        let id: UInt32
        let name: Bytes
        let type: DataType
        let isNotNull: Bool
        let isKey: Bool
        /// What it is where a record does not say.
        let missing: Value?
    }

    let id: CollectionID
    let name: String
    let columns: [Column]
    let key: Column
    /// What statements see to, and this shard cannot.
    let rules: RecordRules

    /// Nil for collections whose records have no Redis form.
    init?(_ descriptor: CollectionDescriptor, _ rules: RecordRules) {
        guard let key = descriptor.namingColumn else { return nil }
        (id, name) = (descriptor.id, descriptor.name)
        columns = descriptor.columns.map { Self.column($0, isKey: $0.id == key.id) }
        self.key = Self.column(key, isKey: true)
        self.rules = rules
    }

    private static func column(_ column: CollectionDescriptor.Column, isKey: Bool) -> Column {
        Column(
            id: UInt32(column.id.rawValue), name: Bytes(column.name.utf8), type: column.type,
            isNotNull: column.isNotNull || isKey, isKey: isKey, missing: column.missing)
    }

    /// Refuses what only a statement may do to a record. Gateways have such commands done as statements; one that does
    /// not know of the rules yet is told to ask for the newest schema.
    func admit(_ method: Method) throws(DatabaseError) {
        switch method.recordEffect {
        case .none: return
        case .changes: if rules.contains(.changing) { throw Failure.needsStatement(name) }
        case .removes, .expires: if rules.contains(.removing) { throw Failure.needsStatement(name) }
        }
    }

    func column(named name: ByteView) -> Column? {
        columns.first { $0.name.withUnsafeBytes { $0.equals(name) } }
    }

    /// The value that K stands for: it must be written as it is shown.
    func primaryKey(_ text: ByteView) throws(DatabaseError) -> Value {
        let value: Value?
        do throws(StatementError) { value = try RecordName.primaryKey(text, key.type) } catch {
            throw DatabaseError(.invalidText, error.message)
        }
        guard let value else {
            throw DatabaseError(
                .invalidText, "the key of a record of \(name) must be written as its primary key is shown")
        }
        return value
    }

    /// A text as a value of a column.
    static func value(_ text: ByteView, of column: Column) throws(DatabaseError) -> Value {
        guard let string = String(validating: text, as: UTF8.self) else {
            throw DatabaseError(.invalidText, "invalid byte sequence for encoding \"UTF8\"")
        }
        do throws(StatementError) { return try ValueText.parse(string, as: column.type) } catch {
            throw DatabaseError(.invalidText, error.message)
        }
    }
}

/// The names of collections whose records keys of Redis name.
final class RecordNames {
    let version: UInt64
    private var table = ByteMap<NamedCollection>()

    init(_ catalog: Catalog) {
        version = catalog.version
        for (collection, rules) in catalog.namedCollections {
            guard let named = NamedCollection(collection, rules) else { continue }
            table.insert(key: Bytes(collection.name.utf8), named)
        }
    }

    var isEmpty: Bool { table.isEmpty }

    /// The collection that a key of Redis names a record of, and what is behind the first colon.
    func find(_ key: ByteView) -> (collection: NamedCollection, text: ByteView)? {
        guard let name = RecordName.divide(key), let found = table.value(for: name.collection) else { return nil }
        return (found, name.text)
    }
}

extension ActorRuntime {
    /// Nil when no key names a record.
    func recordNames() throws(DatabaseError) -> RecordNames? {
        let catalog = try readCatalog()
        if let known = schema.names, known.version == catalog.version, schema.changes.isEmpty {
            schema.mayName = !known.isEmpty
        } else {
            let fresh = RecordNames(catalog)
            schema.names = fresh
            schema.mayName = !fresh.isEmpty
        }
        return schema.mayName ? schema.names : nil
    }

    /// The record that a key of Redis names, as it is called; nil for a key of Redis, and for one that would name a
    /// record if it were written otherwise.
    package func recordKey(_ database: UInt8, _ key: ByteView) -> Bytes? {
        guard schema.mayName, database == 0 else { return nil }
        let before = newest
        defer { newest = before }
        guard let names = try? recordNames(), let found = names.find(key) else { return nil }
        return try? rowKey(found.collection, found.text)
    }

    func rowKey(_ collection: NamedCollection, _ text: ByteView) throws(DatabaseError) -> Bytes {
        let primaryKey = KeyEncoding.encode([try collection.primaryKey(text)])
        return primaryKey.withUnsafeBytes { RowKey.make(collection.id, primaryKey: $0) }
    }
}

extension Failure {
    static let otherKind = DatabaseError(
        .featureNotSupported, "records of collections and other keys cannot be renamed to or copied over each other")

    static func needsStatement(_ name: String) -> DatabaseError {
        DatabaseError(
            .staleSchema, "records of \(name) have checks, defaults, references or indexes: statements change them")
    }
}
