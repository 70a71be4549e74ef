import Base
import Contracts
import DataModel

/// What a runtime knows of its shard's catalog.
///
/// It is read when it is needed, and again when somebody else may have changed it: a transaction does that with the
/// lock of the catalog, and what it has locked is forgotten when it is applied (`ActorRuntime.forget`).
struct SchemaMemory {
    /// Nil: it must be read.
    var catalog: Catalog?
    /// What it was when it was forgotten: read again only if it has another version now.
    var former: Catalog?
    /// The entry that has changed it last.
    var index = LogIndex.zero
    /// What it was before the part that is being evaluated, and who had changed it last.
    var beforePart: Catalog?
    var indexBeforePart = LogIndex.zero
    /// Where another runtime has it; nil: in the store.
    var source: (() throws(DatabaseError) -> Catalog)?
    /// Calls must be made by the version that the shard has. Not those that read the past.
    var isChecked = true
    /// Of an open transaction: what it has changed itself, and with which statement.
    var changes: [(statement: UInt32, change: CatalogChange, version: UInt64)] = []
    var statement: UInt32 = 0
    /// Keys of Redis may name records: the one flag on the path of their calls.
    var mayName = true
    /// The collections that they name, as of the last time that it was asked.
    var names: RecordNames?
    /// What was checked last: a collection, and the version that the shard has of it.
    var checkedCollection = CollectionID(rawValue: 0), checkedVersion: UInt64 = 0

    mutating func forget() {
        checkedCollection = CollectionID(rawValue: 0)
        mayName = true
        guard let known = catalog else { return }
        (former, catalog) = (known, nil)
    }

    /// What is not in the store is gone.
    mutating func reset(committed: LogIndex) {
        let isCommitted = index <= committed
        forget()
        if !isCommitted { (former, names) = (nil, nil) }
        (beforePart, index) = (nil, .zero)
    }

    mutating func beginPart() { (beforePart, indexBeforePart) = (catalog, index) }

    /// The part has changed it: that is not so for others.
    mutating func undoPart() {
        (checkedCollection, checkedVersion) = (CollectionID(rawValue: 0), 0)
        (catalog, index) = (beforePart, indexBeforePart)
        (mayName, names) = (true, nil)
    }
}

extension ActorRuntime {
    /// The shard's catalog, with what is pending; `newest` says what that depends on.
    func readCatalog() throws(DatabaseError) -> Catalog {
        newest = max(newest, schema.index)
        if let known = schema.catalog { return known }
        var fresh: Catalog  // What the other runtime has pending, the caller has waited for.
        if let source = schema.source {
            fresh = try source()
            for change in schema.changes { fresh.apply(change.change, version: change.version) }
        } else {
            fresh = try storedCatalog()
        }
        schema.catalog = fresh
        return fresh
    }

    /// The shard's catalog, for who asks from outside: what is evaluated now is evaluated by it.
    package func catalog() throws(DatabaseError) -> Catalog {
        let before = newest
        defer { newest = before }
        return try readCatalog()
    }

    /// Takes the catalog from another runtime of the shard; reads of the past (`isChecked` false) take calls of any
    /// version, because records of any version can be read by it.
    package func shareCatalog(isChecked: Bool, _ source: @escaping () throws(DatabaseError) -> Catalog) {
        schema.source = source
        schema.isChecked = isChecked
    }

    /// Whether the shard has ever had collections.
    func hasCollections() throws(DatabaseError) -> Bool { try catalog().version > 0 }

    private func storedCatalog() throws(DatabaseError) -> Catalog {
        let bucket = BucketID(rawValue: UInt16(truncatingIfNeeded: buckets.lowerBound))
        keyBuffer.removeAll()
        SchemaKey.appendVersion(bucket, into: &keyBuffer)
        guard let stored = try reader.get(keyBuffer.readable) else { return Catalog() }
        let number = stored.withUnsafeBytes { view in
            var bytes = ByteReader(view)
            return bytes.littleEndian(UInt64.self)
        }
        guard let version = number else { throw Failure.damaged }
        if let former = schema.former, former.version == version { return former }
        var fresh = Catalog(), failure: DatabaseError?
        endBuffer.removeAll()
        endBuffer.append(keyBuffer.readable)
        NativeKeyLayout.makeRangeEnd(&endBuffer)
        let size = keyBuffer.count
        try reader.scan(from: keyBuffer.readable, to: endBuffer.readable) { key, value in
            guard key.count > size else { return true }
            do throws(DatabaseError) {
                fresh.apply(.put(try CatalogObject(decoding: value)), version: version)
                return true
            } catch {
                failure = error
                return false
            }
        }
        if let failure { throw failure }
        // With no objects it has a version nevertheless.
        fresh.apply(.dropCollection(CollectionID(rawValue: 0)), version: version)
        return fresh
    }

    /// Whether a call was made by the version of a collection's descriptor that the shard has.
    @inline(__always)
    func checkSchema(_ collection: CollectionID, _ version: Int64) throws(DatabaseError) {
        if collection == schema.checkedCollection, UInt64(bitPattern: version) == schema.checkedVersion {
            if schema.index > newest { newest = schema.index }
            return
        }
        try findSchema(collection, version)
    }

    @inline(never)
    private func findSchema(_ collection: CollectionID, _ version: Int64) throws(DatabaseError) {
        guard schema.isChecked else { return }
        guard let found = try readCatalog().collection(collection) else { throw Failure.staleSchema }
        (schema.checkedCollection, schema.checkedVersion) = (collection, found.version)
        guard found.version == UInt64(bitPattern: version) else { throw Failure.staleSchema }
    }

    // MARK: Open transactions

    /// What the calls change from now on, they change with the statement of this number.
    func beginSchema(_ statement: UInt32) {
        schema.statement = statement
        if schema.source != nil { schema.forget() }
    }

    /// Takes back what was changed above a statement.
    func rollBackSchema(to statement: UInt32) {
        if !schema.changes.isEmpty { schema.names = nil }
        schema.changes.removeAll { $0.statement > statement }
        schema.forget()
    }

    /// Begins anew, with another transaction.
    func restartSchema() {
        if !schema.changes.isEmpty { schema.names = nil }
        schema.changes = []
        schema.forget()
    }
}
