/// An order of texts, by one of the names that PostgreSQL gives them. All are deterministic: texts that differ in a
/// byte are never equal, so only what asks which of two comes first needs to know one.
package enum Collation: UInt8, Hashable, Sendable, CaseIterable {
    case standard = 0
    case c = 1
    case posix = 2
    case simple = 3
    /// ICU's root: the order that no language has changed; texts that it calls equal go by their bytes.
    case root = 4

    package var name: String {
        switch self {
        case .standard: "default"
        case .c: "C"
        case .posix: "POSIX"
        case .simple: "ucs_basic"
        case .root: "und-x-icu"
        }
    }

    /// The number of its row in pg_collation.
    package var oid: UInt32 {
        switch self {
        case .standard: 100
        case .c: 950
        case .posix: 951
        case .simple: 12_340
        case .root: 12_342
        }
    }

    /// Whether texts are in the order of their bytes, which is that of keys and indexes.
    package var isByBytes: Bool { self != .root }

    /// Whether only the letters of ASCII have an upper and a lower case.
    package var knowsASCIIOnly: Bool { self == .c || self == .posix || self == .simple }

    package init?(name: String) {
        guard let found = Self.allCases.first(where: { $0.name.utf8.elementsEqual(name.utf8) }) else { return nil }
        self = found
    }

    /// That of a type's texts where nothing else is said; nil for a type that has none.
    package static func of(_ type: DataType) -> Collation? {
        switch type.postgres.collation {
        case 0: nil
        case c.oid: .c
        case _: .standard
        }
    }
}

extension CollectionDescriptor.Column {
    /// What its texts are compared by; nil for a column without texts.
    package var actualCollation: Collation? { collation ?? Collation.of(type) }
}
