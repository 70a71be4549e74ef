import Base
import DataModel

/// Object ids as clients see them (docs/catalogs.md). Within one catalog table no id comes twice, and an object keeps
/// its id as long as it lives.
enum ObjectNumbers {
    /// Namespaces that are PostgreSQL's own have its ids; others are numbered among collections.
    static func namespace(_ id: NamespaceID) -> UInt32 {
        switch id {
        case .systemCatalog: 11
        case .informationSchema: 13_207
        case .keyspace: 13_229
        case .default: 2200
        case _: id.rawValue
        }
    }

    /// Half of the positive numbers: a collection's number in front, what it has behind.
    private static func part(_ collection: CollectionID, _ number: UInt32) -> UInt32 {
        0x4000_0000 | ((collection.rawValue &- Catalog.firstCollection) &<< 8 & 0x3fff_ff00) | number & 0xff
    }

    /// An index, and the constraint that it keeps; number 0 is the primary key.
    static func index(_ id: IndexID, of collection: CollectionID) -> UInt32 { part(collection, UInt32(id.rawValue)) }

    /// A CHECK by its place.
    static func check(_ place: Int, of collection: CollectionID) -> UInt32 {
        0x8000_0000 | part(collection, UInt32(truncatingIfNeeded: place))
    }

    /// A foreign key by its place.
    static func foreignKey(_ place: Int, of collection: CollectionID) -> UInt32 {
        0xc000_0000 | part(collection, UInt32(truncatingIfNeeded: place))
    }

    /// A column's default.
    static func columnDefault(_ column: ColumnID, of collection: CollectionID) -> UInt32 {
        0x2000_0000 | ((collection.rawValue &- Catalog.firstCollection) &* 1600 &+ UInt32(column.rawValue))
            & 0x1fff_ffff
    }

    /// The rule by which PostgreSQL makes a view of a collection.
    static func rule(of collection: CollectionID) -> UInt32 { part(collection, 0xff) }

    /// Who has a number by heart, keeps it: 10 is who made the cluster. Others come from the name.
    static func role(_ name: String) -> UInt32 { name == "orbit" ? 10 : 0x1000_0000 | hash(name) & 0x0fff_ffff }

    /// Functions, operators and casts: from the name and the types, so that neither the order of the registry nor a
    /// release changes it.
    static func routine(_ signature: String) -> UInt32 { 0x6000_0000 | hash(signature) & 0x0fff_ffff }

    /// FNV-1a.
    private static func hash(_ text: String) -> UInt32 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
        return UInt32(truncatingIfNeeded: hash ^ (hash &>> 32))
    }
}

extension NamespaceID {
    /// PostgreSQL's `pg_catalog`, whose tables are computed.
    static let systemCatalog = NamespaceID(rawValue: .max)
    /// The standard's `information_schema`, computed too.
    static let informationSchema = NamespaceID(rawValue: .max - 1)
}
