import Base

/// Who listens to which channels and patterns: all subscriptions of this gateway's clients, by their ids.
package final class ChannelTable {
    private struct Pattern {
        let pattern: GlobPattern
        var listeners: Set<UInt64> = []
    }

    private var channels: [Bytes: Set<UInt64>] = [:]
    private var patterns: [Bytes: Pattern] = [:]
    private var known: KeyspaceInterest?

    package init() {}

    /// What subscriptions are about, as far as it concerns events of keys.
    package var interest: KeyspaceInterest {
        if let known { return known }
        var interest = KeyspaceInterest()
        for channel in channels.keys { interest.formUnion(KeyspaceInterest(channel: channel)) }
        for pattern in patterns.keys { interest.formUnion(KeyspaceInterest(pattern: pattern)) }
        known = interest
        return interest
    }

    var channelCount: Int { channels.count }

    var patternCount: Int { patterns.count }

    func listeners(of channel: Bytes) -> Int { channels[channel]?.count ?? 0 }

    /// The channels that somebody listens to, not counting patterns, in order; those that match, if a pattern is given.
    func active(matching pattern: GlobPattern?) -> [Bytes] {
        channels.keys.filter { name in pattern.map { glob in name.withUnsafeBytes { glob.matches($0) } } ?? true }
            .sorted { $0.lexicographicallyPrecedes($1) }
    }

    func add(_ name: Bytes, _ kind: SubscriptionKind, _ client: UInt64) {
        switch kind {
        case .channel:
            if channels[name]?.insert(client) == nil {
                channels[name] = [client]
                known = nil
            }
        case .pattern:
            if patterns[name]?.listeners.insert(client) == nil {
                patterns[name] = Pattern(pattern: name.withUnsafeBytes { GlobPattern($0) }, listeners: [client])
                known = nil
            }
        }
    }

    func remove(_ name: Bytes, _ kind: SubscriptionKind, _ client: UInt64) {
        switch kind {
        case .channel:
            channels[name]?.remove(client)
            guard channels[name]?.isEmpty ?? false else { return }
            channels[name] = nil
        case .pattern:
            patterns[name]?.listeners.remove(client)
            guard patterns[name]?.listeners.isEmpty ?? false else { return }
            patterns[name] = nil
        }
        known = nil
    }

    /// Calls `body` for everybody who is to get a message on the channel, with the pattern that it is for, if any: once
    /// for the channel, and once for each pattern, as Redis does.
    package func forEachListener(of channel: Bytes, _ body: (_ client: UInt64, _ pattern: Bytes?) -> Void) {
        if let listeners = channels[channel] { for client in listeners { body(client, nil) } }
        guard !patterns.isEmpty else { return }
        channel.withUnsafeBytes { name in
            for (text, pattern) in patterns where pattern.pattern.matches(name) {
                for client in pattern.listeners { body(client, text) }
            }
        }
    }
}

/// What a subscription names.
enum SubscriptionKind: Hashable {
    case channel, pattern

    var words: (subscribe: StaticString, unsubscribe: StaticString) {
        switch self {
        case .channel: ("subscribe", "unsubscribe")
        case .pattern: ("psubscribe", "punsubscribe")
        }
    }
}

/// What one client listens to.
struct Subscriptions {
    /// Channels and patterns of one client, and bytes of their names.
    static let limit = 16_384, bytesLimit = 4 << 20
    /// Bytes of a pattern: matching costs as much as pattern times channel.
    static let patternLimit = 1024

    private(set) var channels: Set<Bytes> = []
    private(set) var patterns: Set<Bytes> = []
    private(set) var bytes = 0

    var count: Int { channels.count + patterns.count }

    var isEmpty: Bool { channels.isEmpty && patterns.isEmpty }

    /// In an order that is always the same.
    func names(_ kind: SubscriptionKind) -> [Bytes] {
        (kind == .channel ? channels : patterns).sorted { $0.lexicographicallyPrecedes($1) }
    }

    /// False: it was there already.
    mutating func insert(_ name: Bytes, _ kind: SubscriptionKind) -> Bool {
        let isNew = kind == .channel ? channels.insert(name).inserted : patterns.insert(name).inserted
        if isNew { bytes += name.count }
        return isNew
    }

    /// False: it was not there.
    mutating func remove(_ name: Bytes, _ kind: SubscriptionKind) -> Bool {
        let isGone = kind == .channel ? channels.remove(name) != nil : patterns.remove(name) != nil
        if isGone { bytes -= name.count }
        return isGone
    }
}
