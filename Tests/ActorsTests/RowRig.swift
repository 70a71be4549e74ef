import Actors
import Base
import Contracts
import DataModel

/// Calls for records, in texts whose scalars are bytes.
struct RowRig {
    static let users = CollectionID(rawValue: 16_385), orders = CollectionID(rawValue: 16_386)
    let rig: Rig

    init(_ rig: Rig = Rig()) { self.rig = rig }

    static func id(_ collection: CollectionID) -> String {
        text(withUnsafeBytes(of: collection.rawValue.bigEndian) { Bytes($0) })
    }

    static func key(_ number: Int64, of collection: CollectionID = users) -> String {
        id(collection) + primaryKey(number)
    }

    static func primaryKey(_ number: Int64) -> String { text(KeyEncoding.encode([.integer(number)])) }

    static func number(_ primaryKey: String) -> Int64 {
        guard case .integer(let number)? = latin(primaryKey).withUnsafeBytes({ KeyEncoding.decode($0) })?.first else {
            return .min
        }
        return number
    }

    static func descriptor(
        _ id: CollectionID = users, _ name: String = "users", version: UInt64 = 1
    ) -> CollectionDescriptor {
        CollectionDescriptor(id: id, namespace: .default, name: name, kind: .table, version: version, owner: "orbit")
    }

    func call(
        _ method: ActorMethod, _ key: String, _ arguments: [String] = [], numbers: [Int64] = [1], flags: UInt32 = 0
    ) -> Answer {
        rig.call(method, key, arguments, numbers: numbers, flags: flags, database: RowKey.database)
    }

    @discardableResult func define(_ descriptors: [CollectionDescriptor], by version: Int64 = 0) -> Answer {
        call(
            .schemaPut, descriptors.map { Self.id($0.id) }.joined(),
            descriptors.map { text(CatalogObject.collection($0).encode()) }, numbers: [version + 1, version])
    }

    @discardableResult func drop(_ collections: [CollectionID], by version: Int64) -> Answer {
        call(.schemaDrop, collections.map(Self.id).joined(), numbers: [version + 1, version])
    }

    func get(_ numbers: Int64...) -> [String?] {
        let keys = numbers.map { Self.key($0) }
        guard case .list(let items) = call(.rowGet, keys[0], Array(keys[1...])) else { return [] }
        return items.map { if case .data(let record) = $0 { record } else { nil } }
    }

    @discardableResult func put(_ number: Int64, _ record: String, _ flags: RowPutFlags = []) -> Answer {
        call(.rowPut, Self.key(number), [record], flags: flags.rawValue)
    }

    @discardableResult func delete(_ number: Int64) -> Answer { call(.rowDelete, Self.key(number)) }

    /// Everything between two bounds, in pieces, with how the buckets came.
    func scan(
        _ collection: CollectionID = users, from: String = "", to: String = "", records: Int64 = 0, bytes: Int64 = 0,
        version: Int64 = 1, isKeysOnly: Bool = false, between: () -> Void = {}
    ) -> [(key: String, record: String)]? {
        var found: [(key: String, record: String)] = [], bucket: Int64 = 0, resume = ""
        while bucket < 64 {
            let answer = call(
                .rowScan, Self.id(collection), [from, to, resume], numbers: [version, bucket, 0, records, bytes],
                flags: isKeysOnly ? 1 : 0)
            guard case .list(let items) = answer, items.count >= 2, case .integer(let next) = items[items.count - 2],
                case .data(let key) = items[items.count - 1], next > bucket || next == bucket && !key.isEmpty
            else { return nil }
            let texts = items.dropLast(2).map { if case .data(let text) = $0 { text } else { "\($0)" } }
            if isKeysOnly {
                found += texts.map { ($0, "") }
            } else {
                for position in stride(from: 0, to: texts.count, by: 2) {
                    found.append((texts[position], texts[position + 1]))
                }
            }
            (bucket, resume) = (next, key)
            between()
        }
        return found
    }

    /// What a call gives in order, page after page.
    func scanInOrder(
        _ collection: CollectionID = users, from: String = "", to: String = "", records: Int64 = 0, bytes: Int64 = 0,
        isBackward: Bool = false, between: () -> Void = {}
    ) -> [(key: String, record: String)]? {
        var found: [(key: String, record: String)] = [], resume = ""
        while true {
            let answer = call(
                .rowScan, Self.id(collection), [from, to, resume], numbers: [1, 0, 0, records, bytes],
                flags: isBackward ? 6 : 2)
            guard case .list(let items) = answer, items.count >= 2, case .integer(let next) = items[items.count - 2],
                case .data(let key) = items[items.count - 1], next == 64 || next == 0 && !key.isEmpty && items.count > 2
            else { return nil }
            let texts = items.dropLast(2).map { if case .data(let text) = $0 { text } else { "\($0)" } }
            if records > 0, texts.count > 2 * records { return nil }
            for position in stride(from: 0, to: texts.count, by: 2) {
                found.append((texts[position], texts[position + 1]))
            }
            if next == 64 { return found }
            resume = key
            between()
        }
    }
}
