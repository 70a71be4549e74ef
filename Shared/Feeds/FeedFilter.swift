import Base
import Contracts

/// Which changes a subscriber wants.
package struct FeedFilter: Sendable {
    /// Bytes of a pattern: matching costs as much as pattern times key.
    private static let patternLimit = 1024

    private var databases: UInt16 = .max
    private var prefixes: [Bytes] = []
    private var patterns: [GlobPattern] = []
    private var types: Set<ChangedType> = []
    /// What commands do to keys, and nothing else.
    package let wantsEvents: Bool

    /// Refuses what cannot be meant.
    package init(_ request: SubscribeRequest) throws(DatabaseError) {
        wantsEvents = request.wantsEvents
        guard !wantsEvents || request.types.isEmpty && !request.wantsOldValues else {
            throw DatabaseError(.invalidArgument, "Events have no types and no old values")
        }
        if !request.databases.isEmpty {
            databases = 0
            for database in request.databases {
                guard database < 16 else { throw DatabaseError(.invalidArgument, "DB index is out of range") }
                databases |= 1 << UInt16(database)
            }
        }
        for name in request.types {
            guard let type = Bytes(name.utf8).withUnsafeBytes({ ChangedType(named: $0) }) else {
                throw DatabaseError(.invalidArgument, "A feed has changes of the types string and hash")
            }
            types.insert(type)
        }
        guard request.patterns.allSatisfy({ $0.count <= Self.patternLimit }) else {
            throw DatabaseError(.limitExceeded, "A pattern has at most \(Self.patternLimit) bytes")
        }
        prefixes = request.prefixes
        patterns = request.patterns.map { pattern in pattern.withUnsafeBytes { GlobPattern($0) } }
    }

    /// Whether types matter: of a key that is gone, somebody must look up what it was.
    package var limitsTypes: Bool { !types.isEmpty }

    /// What is wanted of a change, whatever the type of its key; nil: nothing.
    package func narrow(_ change: Change) -> Change? {
        guard wantsEvents else { return admits(change) ? change : nil }
        guard change.kind == .events else { return nil }
        var change = change
        change.events.removeAll { !admits($0.database, $0.key) }
        return change.events.isEmpty ? nil : change
    }

    /// Whether the change is of a key that is wanted, whatever its type. A flush concerns all keys.
    package func admits(_ change: Change) -> Bool {
        if change.kind == .events { return false }
        if change.kind == .flush {
            return change.isEveryDatabase || databases & 1 << UInt16(change.database & 15) != 0
        }
        return admits(change.database, change.key)
    }

    private func admits(_ database: UInt8, _ key: Bytes) -> Bool {
        guard databases & 1 << UInt16(database & 15) != 0 else { return false }
        if prefixes.isEmpty, patterns.isEmpty { return true }
        if prefixes.contains(where: { key.starts(with: $0) }) { return true }
        return key.withUnsafeBytes { key in patterns.contains { $0.matches(key) } }
    }

    /// Whether the type is wanted; that of what was there before, where the key is gone.
    package func admitsType(of change: Change) -> Bool {
        guard limitsTypes else { return true }
        if change.kind == .flush { return true }
        return [change.content.type, change.old?.type].contains { $0.map(types.contains) ?? false }
    }
}
