import Base

/// What of the keys' events subscriptions can be about: what the gateway has to hear of to serve them.
package struct KeyspaceInterest: Hashable, Sendable {
    /// More patterns than this, or longer ones, are all keys.
    static let patternLimit = 64, patternBytes = 512

    /// A bit for each database.
    package private(set) var databases: UInt16 = 0
    /// Patterns of the keys; nil: all of them.
    package private(set) var keys: Set<Bytes>? = []

    package init() {}

    package var isEmpty: Bool { databases == 0 }

    /// What a subscription to a channel is about.
    init(channel: Bytes) {
        guard let (database, isKeyspace, rest) = Self.parse(channel) else { return }
        databases = database
        // An event's name may be a wrong one: then nothing comes, which costs what it costs.
        keys = isKeyspace ? Self.limited([Self.literal(rest)]) : nil
    }

    /// What a subscription to a pattern may be about.
    init(pattern: Bytes) {
        let end = pattern.firstIndex { Self.isSpecial($0) } ?? pattern.count
        let literal = pattern[..<end], prefix = Bytes("__key".utf8)
        guard literal.starts(with: prefix.prefix(literal.count)) else { return }
        if let (database, isKeyspace, rest) = Self.parse(Bytes(literal)) {
            databases = database
            keys = isKeyspace ? Self.limited([Bytes(rest) + pattern[end...]]) : nil
        } else {
            (databases, keys) = (.max, nil)
        }
    }

    /// The parts of `__keyspace@0__:key` and `__keyevent@0__:event`; the key may be cut off.
    private static func parse(_ channel: Bytes) -> (database: UInt16, isKeyspace: Bool, rest: ArraySlice<UInt8>)? {
        for (prefix, isKeyspace) in [("__keyspace@", true), ("__keyevent@", false)] {
            guard channel.starts(with: prefix.utf8) else { continue }
            let rest = channel.dropFirst(prefix.utf8.count), digits = rest.prefix { $0 >= 48 && $0 <= 57 }
            guard let database = Int(String(decoding: digits.prefix(3), as: UTF8.self)), database < 16,
                rest.dropFirst(digits.count).starts(with: "__:".utf8)
            else { return nil }
            return (1 << UInt16(database), isKeyspace, rest.dropFirst(digits.count + 3))
        }
        return nil
    }

    private static func isSpecial(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "*") || byte == UInt8(ascii: "?") || byte == UInt8(ascii: "[") || byte == 92
    }

    /// A pattern that only the key matches.
    private static func literal(_ key: ArraySlice<UInt8>) -> Bytes {
        key.flatMap { isSpecial($0) ? [92, $0] : [$0] }
    }

    private static func limited(_ keys: Set<Bytes>) -> Set<Bytes>? {
        keys.count <= patternLimit && keys.allSatisfy { $0.count <= patternBytes } ? keys : nil
    }

    /// Wants that too.
    package mutating func formUnion(_ other: KeyspaceInterest) {
        guard !other.isEmpty else { return }
        databases |= other.databases
        keys = keys.flatMap { mine in other.keys.flatMap { Self.limited(mine.union($0)) } }
    }

    /// Whether who hears of this hears of `other` too.
    package func covers(_ other: KeyspaceInterest) -> Bool {
        guard !other.isEmpty else { return true }
        guard other.databases & ~databases == 0 else { return false }
        guard let keys else { return true }
        return other.keys.map { keys.isSuperset(of: $0) } ?? false
    }
}
