import Base

/// One object of the catalog.
package enum CatalogObject: Hashable, Sendable {
    case namespace(NamespaceDescriptor)
    case collection(CollectionDescriptor)
    case role(RoleDescriptor)

    private static let format: UInt8 = 7

    /// The stored form.
    package func encode() -> Bytes {
        var writer = CatalogWriter()
        writer.buffer.append(Self.format)
        switch self {
        case .namespace(let namespace):
            writer.buffer.append(0 as UInt8)
            namespace.write(&writer)
        case .collection(let collection):
            writer.buffer.append(1 as UInt8)
            collection.write(&writer)
        case .role(let role):
            writer.buffer.append(2 as UInt8)
            role.write(&writer)
        }
        return writer.buffer.readable.bytes
    }

    /// Reads the stored form; anything unexpected is `corruption`, an unknown version `featureNotSupported`.
    package init(decoding view: ByteView) throws(DatabaseError) {
        var reader = CatalogReader(reader: ByteReader(view), format: 0)
        let format = try reader.byte()
        reader.format = format
        guard 1...Self.format ~= format else {
            throw DatabaseError(
                .featureNotSupported, "object of the catalog of version \(format): written by a newer release")
        }
        switch try reader.byte() {
        case 0: self = .namespace(try NamespaceDescriptor(&reader))
        case 1: self = .collection(try CollectionDescriptor(&reader))
        case 2: self = .role(try RoleDescriptor(&reader))
        case _: throw CatalogReader.corrupt("an unknown kind")
        }
        guard reader.reader.isAtEnd else { throw CatalogReader.corrupt("bytes after the end") }
    }
}

/// A change of one object, as a shard is told it.
package enum CatalogChange: Hashable, Sendable {
    /// Puts the object in place of the one with its id, or beside the others.
    case put(CatalogObject)
    case dropNamespace(NamespaceID)
    case dropCollection(CollectionID)
    case dropRole(RoleID)
}

/// All namespaces and collections as of one moment, to bind statements by.
///
/// Every shard has all of it, in records of its own, and changes it at the same commit as all others: so who leads any
/// shard has the catalog, and no call asks for it (docs/decisions/0013-catalog.md). A value: a statement keeps the one
/// it was bound by.
package struct Catalog: Sendable {
    /// Rises with every change.
    package private(set) var version: UInt64 = 0
    package private(set) var namespaces: [NamespaceID: NamespaceDescriptor]
    package private(set) var collections: [CollectionID: CollectionDescriptor] = [:]
    package private(set) var roles: [RoleID: RoleDescriptor] = [:]
    private var names: [Name: CollectionID] = [:]

    /// Names are compared byte for byte, not as Unicode does.
    private struct Name: Hashable, Sendable {
        let namespace: NamespaceID, name: Bytes
        init(_ namespace: NamespaceID, _ name: String) { (self.namespace, self.name) = (namespace, Bytes(name.utf8)) }
    }

    /// The default namespace, and nothing in it.
    package init() {
        namespaces = [
            .default: NamespaceDescriptor(id: .default, name: "public", owner: "orbit")
        ]
    }

    /// No client has made anything yet.
    package var isEmpty: Bool { collections.isEmpty && version == 0 }

    /// Takes a change over; `version` is that of the catalog from then on.
    package mutating func apply(_ change: CatalogChange, version: UInt64) {
        self.version = max(self.version, version)
        switch change {
        case .put(.namespace(let namespace)): namespaces[namespace.id] = namespace
        case .put(.collection(let collection)):
            forgetName(of: collection.id)
            collections[collection.id] = collection
            names[Name(collection.namespace, collection.name)] = collection.id
        case .put(.role(let role)): roles[role.id] = role
        case .dropRole(let id): roles[id] = nil
        case .dropNamespace(let id): namespaces[id] = nil
        case .dropCollection(let id):
            forgetName(of: id)
            collections[id] = nil
        }
    }

    private mutating func forgetName(of id: CollectionID) {
        guard let old = collections[id] else { return }
        // Another one may have its name by now.
        let name = Name(old.namespace, old.name)
        if names[name] == id { names[name] = nil }
    }

    /// By the name as it was folded by its dialect, byte for byte.
    package func namespace(named name: String) -> NamespaceDescriptor? {
        namespaces.values.first { $0.name.utf8.elementsEqual(name.utf8) }
    }

    /// By the name as it was folded by its dialect, byte for byte.
    package func role(named name: String) -> RoleDescriptor? {
        roles.values.first { $0.name.utf8.elementsEqual(name.utf8) }
    }

    package func collection(_ id: CollectionID) -> CollectionDescriptor? { collections[id] }

    package func collection(named name: String, in namespace: NamespaceID) -> CollectionDescriptor? {
        names[Name(namespace, name)].flatMap { collections[$0] }
    }

    /// Ids below are those of PostgreSQL's own objects, which clients know by number.
    package static let firstCollection: UInt32 = 16_384

    /// The id of what the change makes that brings the catalog to `version`: a version is there once, so no id comes
    /// twice. Nil when there are no more.
    package static func collectionID(madeBy version: UInt64) -> CollectionID? {
        UInt32(exactly: version).flatMap { version in
            let (id, overflows) = firstCollection.addingReportingOverflow(version)
            return overflows ? nil : CollectionID(rawValue: id)
        }
    }
}
