import Base
import DataModel

/// The tables of `pg_catalog` and `information_schema`, by name and by number.
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
        tables.map { (Name(namespace: $0.descriptor.namespace, name: $0.descriptor.name), $0) },
        uniquingKeysWith: { first, _ in first })

    static func table(_ id: CollectionID) -> SystemTable? { byNumber[id] }

    /// The namespace that is computed, of that name.
    static func namespace(named name: String) -> NamespaceID? {
        switch name {
        case "pg_catalog": .systemCatalog
        case "information_schema": .informationSchema
        case _: nil
        }
    }

    static func name(of namespace: NamespaceID) -> String? {
        switch namespace {
        case .systemCatalog: "pg_catalog"
        case .informationSchema: "information_schema"
        case _: nil
        }
    }

    static func collection(named name: String, in namespace: NamespaceID) -> CollectionDescriptor? {
        byName[Name(namespace: namespace, name: name)]?.descriptor
    }

    /// Whether a collection is one of these tables, which nobody can change.
    static func isSystem(_ collection: CollectionDescriptor) -> Bool {
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
