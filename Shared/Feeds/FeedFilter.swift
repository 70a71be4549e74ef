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

    /// Refuses what cannot be meant.
    package init(_ request: SubscribeRequest) throws(DatabaseError) {
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

    /// Whether the change is of a key that is wanted, whatever its type. A flush concerns all keys.
    package func admits(_ change: Change) -> Bool {
        if change.kind == .flush {
            return change.isEveryDatabase || databases & 1 << UInt16(change.database & 15) != 0
        }
        guard databases & 1 << UInt16(change.database & 15) != 0 else { return false }
        if prefixes.isEmpty, patterns.isEmpty { return true }
        if prefixes.contains(where: { change.key.starts(with: $0) }) { return true }
        return change.key.withUnsafeBytes { key in patterns.contains { $0.matches(key) } }
    }

    /// Whether the type is wanted; that of what was there before, where the key is gone.
    package func admitsType(of change: Change) -> Bool {
        guard limitsTypes else { return true }
        if change.kind == .flush { return true }
        return [change.content.type, change.old?.type].contains { $0.map(types.contains) ?? false }
    }
}
