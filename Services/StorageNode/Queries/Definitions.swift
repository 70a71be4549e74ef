import Base
import Contracts
import DataModel
import Engine
import GatewayKit

/// Carries out a change of the catalog: one statement to all shards of a transaction.
struct DefinitionCalls {
    /// A call for every shard: the objects that come and those that go, in their order. `version` is that of the
    /// catalog which the change was planned by.
    static func body(_ change: SchemaChange, plannedBy version: UInt64) -> Bytes {
        var builder = RowCallBuilder()
        var made = version
        var puts: [CatalogObject] = [], drops: [UInt32] = [], dropsNamespaces = false
        func flush() {
            let count = UInt64(puts.count + drops.count)
            guard count > 0 else { return }
            let numbers = [Int64(bitPattern: made + count), Int64(bitPattern: made)]
            made += count
            if puts.isEmpty {
                builder.append(.schemaDrop, key: key(drops), flags: dropsNamespaces ? 1 : 0, numbers: numbers)
            } else {
                let ids = puts.compactMap { object -> UInt32? in
                    if case .collection(let collection) = object { collection.id.rawValue } else { nil }
                }
                builder.append(.schemaPut, key: key(ids), numbers: numbers, arguments: puts.map { $0.encode() })
            }
            (puts, drops) = ([], [])
        }
        for step in change.changes {
            switch step {
            case .put(let object):
                if !drops.isEmpty { flush() }
                puts.append(object)
            case .dropNamespace(let id):
                if !puts.isEmpty || !dropsNamespaces { flush() }
                dropsNamespaces = true
                drops.append(id.rawValue)
            case .dropCollection(let id):
                if !puts.isEmpty || dropsNamespaces { flush() }
                dropsNamespaces = false
                drops.append(id.rawValue)
            }
        }
        flush()
        return builder.body
    }

    private static func key(_ ids: [UInt32]) -> Bytes {
        var key = ByteBuffer(capacity: ids.count * 4)
        for id in ids { key.append(bigEndian: id) }
        return key.readable.bytes
    }
}
