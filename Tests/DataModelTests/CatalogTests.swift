import Base
import DataModel
import TestKit
import Testing

@Suite("Catalog")
struct CatalogTests {
    static func users() -> CollectionDescriptor {
        var users = CollectionDescriptor(
            id: CollectionID(rawValue: 16_385), namespace: .default, name: "users", kind: .table, version: 7,
            owner: "ada")
        var id = CollectionDescriptor.Column(
            id: ColumnID(rawValue: 1), name: "id", type: .int64, isNotNull: true)
        id.identity = .byDefault
        id.sequence = CollectionID(rawValue: 16_386)
        var age = CollectionDescriptor.Column(
            id: ColumnID(rawValue: 3), name: "Größe", type: DataType(.decimal, modifier: 655_366))
        age.defaultValue = StoredExpression(plan: [1, 2, 3], text: "1 + 1")
        let tags = CollectionDescriptor.Column(id: ColumnID(rawValue: 4), name: "tags", type: DataType.text.array)
        users.columns = [id, age, tags]
        users.nextColumn = ColumnID(rawValue: 5)
        users.primaryKey = [ColumnID(rawValue: 1)]
        users.primaryKeyName = "users_pkey"
        users.indexes = [
            .init(
                id: IndexID(rawValue: 1), name: "users_age", parts: [.init(column: age.id, isDescending: true)],
                isUnique: true, state: .writeOnly, entries: CollectionID(rawValue: 16_390))
        ]
        users.indexes[0].isConstraint = true
        users.columns[1].missing = .integer(18)
        users.statistics = .init(rows: 1_000_000)
        users.statistics?.columns = [.init(column: age.id, nulls: 3, distinct: 90)]
        users.statistics?.columns[0].width = 4
        users.statistics?.columns[0].common = [.init(value: .integer(18), rows: 7_000)]
        users.statistics?.columns[0].bounds = [.integer(-4), .integer(30), .text("z")]
        users.checks = [.init(name: "positive", condition: StoredExpression(plan: [], text: "age > 0"))]
        users.foreignKeys = [
            .init(
                name: "boss", columns: [age.id], target: CollectionID(rawValue: 16_385),
                targetColumns: [ColumnID(rawValue: 1)])
        ]
        users.foreignKeys[0].onDelete = .cascade
        users.comment = "who is here"
        return users
    }

    static func counter() -> CollectionDescriptor {
        var counter = CollectionDescriptor(
            id: CollectionID(rawValue: 16_386), namespace: .default, name: "users_id_seq", kind: .sequence,
            owner: "ada")
        counter.sequence = .init()
        counter.sequence?.increment = -3
        counter.sequence?.minimum = .min
        counter.sequence?.cycles = true
        return counter
    }

    static func nameless() -> NamespaceDescriptor {
        var namespace = NamespaceDescriptor(id: .default, name: "public", owner: "orbit")
        namespace.namesRecords = false
        return namespace
    }

    static func clerk() -> RoleDescriptor {
        var clerk = RoleDescriptor(id: RoleID(rawValue: 16_400), name: "clerk", attributes: [.login, .inherit])
        clerk.validUntil = -7
        clerk.verifier = "SCRAM-SHA-256$…"
        clerk.memberships = [.init(role: "staff", grantor: "ada", isAdmin: true)]
        return clerk
    }

    static func granted() -> CollectionDescriptor {
        var counter = counter()
        counter.grants = [
            Grant(grantee: "", grantor: "ada", rights: .usage),
            Grant(grantee: "clerk", grantor: "ada", rights: [.usage, .update], grantable: .update),
        ]
        return counter
    }

    static func grantedByColumn() -> CollectionDescriptor {
        var users = users()
        users.columns[0].grants = [Grant(grantee: "clerk", grantor: "ada", rights: .select, grantable: .select)]
        users.columns[1].grants = []
        return users
    }

    static func collated() -> CollectionDescriptor {
        var users = users()
        users.columns[1].collation = .root
        return users
    }

    static let objects: [CatalogObject] = [
        .namespace(nameless()),
        .namespace(.init(id: NamespaceID(rawValue: 9), name: "shop", owner: "bob")), .collection(users()),
        .collection(counter()), .collection(granted()), .role(clerk()),
        .collection(grantedByColumn()), .collection(collated()),
    ]

    @Test("what was written before there were roles is read, and nothing is granted")
    func formerFormat() throws {
        for object in Self.objects[..<4] {
            // Grants were added at the end, later those on columns, then collations.
            let isCollection = if case .collection = object { true } else { false }
            var stored = Bytes(object.encode().dropLast(isCollection ? 1 : 0))
            if isCollection {
                stored[0] = 6
                #expect(try stored.withView { try CatalogObject(decoding: $0) } == object)
                stored.removeLast()
            }
            stored[0] = 5
            #expect(try stored.withView { try CatalogObject(decoding: $0) } == object)
            stored.removeLast()
            stored[0] = 4
            #expect(try stored.withView { try CatalogObject(decoding: $0) } == object)
        }
    }

    @Test("an object reads as it was written; one that is cut or changed is refused, or another object")
    func coding() throws {
        for object in Self.objects {
            let stored = object.encode()
            #expect(try stored.withView { try CatalogObject(decoding: $0) } == object)
            for length in 0..<stored.count {
                #expect(throws: DatabaseError.self) {
                    try Bytes(stored.prefix(length)).withView { try CatalogObject(decoding: $0) }
                }
            }
        }
        var random = SplitMix64(seed: freshSeed("catalog objects"))
        for _ in 0..<20_000 {
            var stored = Self.objects.randomElement(using: &random)?.encode() ?? []
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                stored[Int.random(in: 0..<stored.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            // Whatever it is now, it is read without a trap, and written as it is read.
            guard let object = try? stored.withView({ try CatalogObject(decoding: $0) }) else { continue }
            #expect(try object.encode().withView { try CatalogObject(decoding: $0) } == object)
        }
    }

    @Test("a namespace of an earlier release names records")
    func earlierNamespace() throws {
        var stored = CatalogObject.namespace(Self.nameless()).encode()
        stored.removeLast(2)  // With the grants.
        stored[0] = 3
        guard case .namespace(let read) = try stored.withView({ try CatalogObject(decoding: $0) }) else {
            Issue.record("it is no namespace")
            return
        }
        #expect(read.namesRecords && read.name == "public")
    }

    @Test("keys name records of tables with a primary key of one column, unless that is off")
    func namedRecords() {
        var catalog = Catalog()
        var users = Self.users()
        users.primaryKey = [users.columns[0].id]
        catalog.apply(.put(.collection(users)), version: 1)
        catalog.apply(.put(.collection(Self.counter())), version: 2)
        func find(_ name: String) -> CollectionID? {
            Bytes(name.utf8).withUnsafeBytes { catalog.collection(namedBy: $0)?.id }
        }
        #expect(find("users") == users.id && find("users_id_seq") == nil && find("user") == nil)
        #expect(catalog.namedCollections.map(\.collection.id) == [users.id])
        catalog.apply(.put(.namespace(Self.nameless())), version: 3)
        #expect(find("users") == nil && catalog.namedCollections.isEmpty && !catalog.namesRecords)
    }

    @Test("what is renamed is found by its new name only, byte for byte")
    func names() {
        var catalog = Catalog()
        #expect(catalog.isEmpty)
        var users = Self.users()
        users.name = "caf\u{e9}"
        catalog.apply(.put(.collection(users)), version: 1)
        #expect(!catalog.isEmpty)
        #expect(catalog.collection(named: "caf\u{e9}", in: .default)?.id == users.id)
        #expect(catalog.collection(named: "cafe\u{301}", in: .default) == nil)
        users.name = "people"
        catalog.apply(.put(.collection(users)), version: 2)
        #expect(catalog.collection(named: "caf\u{e9}", in: .default) == nil)
        #expect(catalog.collection(named: "people", in: .default)?.id == users.id)
        #expect(catalog.collection(named: "people", in: NamespaceID(rawValue: 9)) == nil)
        catalog.apply(.dropCollection(users.id), version: 3)
        #expect(catalog.collection(named: "people", in: .default) == nil)
        #expect(catalog.collection(users.id) == nil)
        #expect(catalog.version == 3)
        #expect(catalog.namespace(named: "public")?.id == .default)
    }

    @Test("no id comes twice, and they end before they overflow")
    func ids() {
        #expect(Catalog.collectionID(madeBy: 1)?.rawValue == 16_385)
        #expect(Catalog.collectionID(madeBy: UInt64(UInt32.max)) == nil)
        #expect(Catalog.collectionID(madeBy: .max) == nil)
    }
}
