import Base
import DataModel

/// The tables of `pg_catalog`, `information_schema` and `redis`, by name and by number.
enum SystemCatalogs {
    static let tables: [SystemTable] =
        RelationTables.tables + TypeTables.tables + RoutineTables.tables + ClusterTables.tables + SummaryViews.tables
        + InformationSchema.tables + InformationConstraints.tables + EmptyTables.tables
        + EmptyInformation.tables

    private static let byNumber = Dictionary(
        tables.map { ($0.descriptor.id, $0) }, uniquingKeysWith: { first, _ in first })

    private struct Name: Hashable {
        let namespace: NamespaceID, name: String
    }

    private static let byName = Dictionary(
        (tables.map(\.descriptor) + KeyspaceTables.collections).map {
            (Name(namespace: $0.namespace, name: $0.name), $0)
        },
        uniquingKeysWith: { first, _ in first })

    static func table(_ id: CollectionID) -> SystemTable? { byNumber[id] }

    /// A table of a namespace that is there in every database.
    static func collection(_ id: CollectionID) -> CollectionDescriptor? {
        table(id)?.descriptor ?? KeyspaceTables.collections.first { $0.id == id }
    }

    /// The namespace of that name that is there in every database, and has nothing that users define.
    static func namespace(named name: String) -> NamespaceID? {
        switch name {
        case "pg_catalog": .systemCatalog
        case "information_schema": .informationSchema
        case "redis": .keyspace
        case _: nil
        }
    }

    static func name(of namespace: NamespaceID) -> String? {
        switch namespace {
        case .systemCatalog: "pg_catalog"
        case .informationSchema: "information_schema"
        case .keyspace: "redis"
        case _: nil
        }
    }

    static func collection(named name: String, in namespace: NamespaceID) -> CollectionDescriptor? {
        byName[Name(namespace: namespace, name: name)]
    }

    /// Whether a collection is one of these tables, which are the same in every catalog.
    static func isSystem(_ collection: CollectionDescriptor) -> Bool {
        isComputed(collection) || collection.namespace == .keyspace
    }

    /// Whether it is about what only superusers may know.
    static func isForSuperusers(_ collection: CollectionDescriptor) -> Bool {
        collection.namespace == .systemCatalog && collection.name == "pg_authid"
    }

    /// Whether its rows are made of the catalog: nobody can write them.
    static func isComputed(_ collection: CollectionDescriptor) -> Bool {
        collection.namespace == .systemCatalog || collection.namespace == .informationSchema
    }
}

/// The rows of a table that is computed: all at once, in pieces.
final class SystemCursor: RowCursor {
    private let columns: [[Value]]
    private let count: Int
    private var position = 0

    init(_ table: SystemTable, _ ids: [ColumnID], _ system: SystemCatalog) {
        columns = table.columns(ids, system)
        count = columns.first?.count ?? table.count(system)
    }

    func next() throws(StatementError) -> RowStep {
        guard position < count else { return .end }
        let range = position..<min(position + ColumnBatch.rows, count)
        position = range.upperBound
        // Where no column is wanted, the rows still count.
        guard !columns.isEmpty else { return .columns([Array(repeating: .null, count: range.count)]) }
        return .columns(columns.map { Array($0[range]) })
    }
}
