import Base

// Keys of Redis that name records: `P:K` of database 0 is the record with primary key K of collection P, if there is
// such a collection in the default namespace, with a primary key of one column (design: DATA-MODEL.md, section 4), and
// unless that is switched off for all of the namespace (`resp.records`).
// Gateways route by this, and leaders decide by it.

extension CollectionDescriptor {
    /// The column whose value keys of Redis name its records by; nil: no key names one.
    package var namingColumn: Column? {
        guard kind == .table, entriesOf == nil, namespace == .default, primaryKey.count == 1 else { return nil }
        return column(primaryKey[0])
    }
}

/// What a shard cannot see to by itself when one of its records changes: statements do.
package struct RecordRules: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Checks, references, entries of indexes, defaults: when a record is made or changed.
    package static let changing = RecordRules(rawValue: 1)
    /// Entries of indexes, references to it: when a record goes.
    package static let removing = RecordRules(rawValue: 2)
}

extension Catalog {
    /// Whether records of other collections refer to those of this one.
    package func isReferenced(_ collection: CollectionID) -> Bool {
        collections.values.contains { $0.foreignKeys.contains { $0.target == collection } }
    }

    /// Whether keys of Redis name records of the default namespace.
    package var namesRecords: Bool { namespaces[.default]?.namesRecords != false }

    /// The collection that what a key begins with names; nil: such keys name no records.
    package func collection(namedBy name: ByteView) -> CollectionDescriptor? {
        guard namesRecords else { return nil }
        let found = collection(named: String(decoding: name, as: UTF8.self), in: .default)
        return found?.namingColumn == nil ? nil : found
    }

    /// The collections whose records keys of Redis name.
    package var namedCollections: [(collection: CollectionDescriptor, rules: RecordRules)] {
        guard namesRecords else { return [] }
        var referenced: Set<CollectionID> = []
        for collection in collections.values { referenced.formUnion(collection.foreignKeys.map(\.target)) }
        return collections.values.compactMap { collection in
            guard collection.namingColumn != nil else { return nil }
            let isTied = !collection.indexes.isEmpty || referenced.contains(collection.id)
            let hasRules = !collection.checks.isEmpty || !collection.foreignKeys.isEmpty
            let hasDefaults = collection.columns.contains {
                $0.defaultValue != nil || $0.identity != .none || $0.sequence != nil || $0.missing != nil
            }
            var rules: RecordRules = isTied ? [.changing, .removing] : []
            if hasRules || hasDefaults { rules.insert(.changing) }
            return (collection, rules)
        }
    }
}

/// A key of Redis as the name of a record.
package enum RecordName {
    /// What is before the first colon, and what is behind it; nil: there is none.
    package static func divide(_ key: ByteView) -> (collection: ByteView, text: ByteView)? {
        guard let colon = key.firstIndex(of: UInt8(ascii: ":")) else { return nil }
        return (ByteView(rebasing: key[..<colon]), ByteView(rebasing: key[(colon + 1)...]))
    }

    /// The value of a primary key of that type that a text is; nil: it is not written as that is shown.
    package static func primaryKey(_ text: ByteView, _ type: DataType) throws(StatementError) -> Value? {
        guard let string = String(validating: text, as: UTF8.self) else { return nil }
        let value = try ValueText.parse(string, as: type)
        guard ValueText.text(of: value, as: type).utf8.elementsEqual(text) else { return nil }
        return value.forKey(as: type)
    }

    /// The slot of the record with the primary key that a text is; nil: it is none.
    package static func slot(_ text: ByteView, _ type: DataType) -> Slot? {
        guard let found = try? primaryKey(text, type) else { return nil }
        return KeyEncoding.encode([found]).withUnsafeBytes { Slot.ofPartition($0) }
    }
}
