import Base
import DataModel

/// What the engine asks of the rows' keeper: the node over its shards, a test over arrays. Nothing here waits: what is
/// not there yet answers `waiting`, and the keeper resumes the execution (`Execution.next`) when it has come.
package protocol RowAccess: AnyObject {
    /// Begins to read rows of a collection.
    func scan(_ request: ScanRequest) throws(StatementError) -> any RowCursor
    /// Begins to write; the answers come in the order of the changes.
    func write(_ changes: [RowChange], to collection: CollectionDescriptor) throws(StatementError) -> any RowWriting
    /// Locks rows by their encoded keys, and reads them as they are then.
    func lock(_ request: LockRequest) throws(StatementError) -> any RowCursor
    /// The next numbers of a sequence; nil: not yet.
    func draw(_ count: Int, from sequence: CollectionID) throws(StatementError) -> [Int64]?
    /// Has a sequence go on behind a number, or with it; gives the number, nil: not yet.
    func set(_ sequence: CollectionID, to number: Int64, isCalled: Bool) throws(StatementError) -> Int64?
    /// All that is read is as of one time: what one request finds, another one finds too.
    var readsOneTime: Bool { get }
}

/// Rows to be read.
package struct ScanRequest: Sendable {
    /// Which rows, by the encoding of their keys.
    package enum Range: Sendable {
        case all
        /// From, and up to and without; nil: no end.
        case between(Bytes, Bytes?)
        /// Several such, none of which has a key of another; where order matters, in that order.
        case ranges([KeyRange])
        /// Exactly these; of `KeyspaceTables` also the rows of a hash, by what their keys begin with.
        case keys([Bytes])
    }

    package let collection: CollectionDescriptor
    package let range: Range
    /// The columns that are read of each row; others need not be delivered.
    package let columns: [ColumnID]
    /// The reader will not ask for more than that many; in an order: hardly.
    package let limit: Int?
    /// The rows will be written by the same statement.
    package let isForUpdate: Bool
    /// Records may move within the range while it is read, and none may be missed: what is there at some one time is
    /// among what comes, beside what the transaction itself has written. One may come twice.
    package let isOfOneTime: Bool
    /// That many rows are enough, if they are a fair sample of all; more may come. The cursor says which part they are.
    package let sample: Int?
    /// What may be done with the rows where they are: who does it answers blocks, who does not answers the rows.
    package let fragment: FragmentCall?
    /// Rows come in the order of their keys, those of one range after the other; nil: in any.
    package let order: Order?

    package enum Order: Hashable, Sendable { case ascending, descending }

    package init(
        collection: CollectionDescriptor, range: Range, columns: [ColumnID], limit: Int? = nil,
        isForUpdate: Bool = false, isOfOneTime: Bool = false, sample: Int? = nil, fragment: FragmentCall? = nil,
        order: Order? = nil
    ) {
        (self.collection, self.range, self.columns) = (collection, range, columns)
        (self.limit, self.isForUpdate, self.isOfOneTime) = (limit, isForUpdate, isOfOneTime)
        (self.sample, self.fragment, self.order) = (sample, fragment, order)
    }
}

/// Keys from one on, up to another and without it; nil: no end.
package struct KeyRange: Hashable, Sendable {
    package let from: Bytes
    package let to: Bytes?

    package init(from: Bytes, to: Bytes?) { (self.from, self.to) = (from, to) }
}

/// SELECT … FOR UPDATE or SHARE.
package struct LockRequest: Sendable {
    package let collection: CollectionDescriptor
    package let keys: [Bytes]
    package let isExclusive: Bool
    package let wait: LockWait
}

/// Rows as they are stored.
package struct StoredRows: Sendable {
    /// Encoded primary keys (`KeyEncoding`).
    package var keys: [Bytes]
    /// Encoded records (`RecordEncoding`), one for each key; nil where a locked row is gone, or was skipped.
    package var records: [Bytes?]

    package init(keys: [Bytes], records: [Bytes?]) { (self.keys, self.records) = (keys, records) }
}

/// A read under way.
package protocol RowCursor: AnyObject {
    /// The next rows; asked again after `waiting`, once there is something.
    func next() throws(StatementError) -> RowStep
    /// At the end: which part of what was asked for was read, where a sample was enough.
    var share: Double { get }
}

extension RowCursor {
    /// All of it.
    package var share: Double { 1 }
}

/// What a read answers.
package enum RowStep: Sendable {
    case rows(StoredRows)
    /// Columns in the order of the request, for a keeper that has them so: catalogs in memory, columnar tiers.
    case columns([[Value]])
    /// What the request's fragment has made of rows (`FragmentRun`).
    case blocks([Bytes])
    case waiting, end
}

/// One change of one row.
package struct RowChange: Hashable, Sendable {
    package enum Mode: UInt8, Hashable, Sendable {
        /// `exists` if it is there.
        case insert
        /// There or not.
        case upsert
        /// `absent` if it is not there.
        case update
        case delete
    }

    package let mode: Mode
    package let key: Bytes
    /// Empty for a delete.
    package let record: Bytes

    package init(mode: Mode, key: Bytes, record: Bytes) { (self.mode, self.key, self.record) = (mode, key, record) }
}

/// What became of a change.
package enum RowOutcome: Hashable, Sendable {
    case done
    /// The row that is in the way of an insert, as it is; empty if a later change of the same write has removed it.
    case exists(Bytes)
    case absent
}

/// A write under way.
package protocol RowWriting: AnyObject {
    /// Nil: not yet.
    func outcomes() throws(StatementError) -> [RowOutcome]?
}

/// Names of the catalog, as one statement sees them.
package protocol CatalogReading: Sendable {
    /// By its namespace's name and its own.
    func collection(named name: String, in namespace: String) -> CollectionDescriptor?
    func collection(_ id: CollectionID) -> CollectionDescriptor?
    /// Whether there is a namespace of that name.
    func hasNamespace(_ name: String) -> Bool
    /// The name of a namespace; empty for none.
    func name(of namespace: NamespaceID) -> String
}

extension Catalog: CatalogReading {
    package func collection(named name: String, in namespace: String) -> CollectionDescriptor? {
        if let system = SystemCatalogs.namespace(named: namespace) {
            return SystemCatalogs.collection(named: name, in: system)
        }
        return self.namespace(named: namespace).flatMap { collection(named: name, in: $0.id) }
    }

    package func hasNamespace(_ name: String) -> Bool {
        SystemCatalogs.namespace(named: name) != nil || namespace(named: name) != nil
    }

    package func name(of namespace: NamespaceID) -> String {
        SystemCatalogs.name(of: namespace) ?? namespaces[namespace]?.name ?? ""
    }
}
