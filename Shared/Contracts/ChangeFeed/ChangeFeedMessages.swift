import Base
import CProto

/// Where the methods of `orbit.v1.ChangeFeedService` are, and what comes with the end of a stream.
package enum ChangeFeedPath {
    package static let service = "orbit.v1.ChangeFeedService"
    package static let subscribe = "/orbit.v1.ChangeFeedService/Subscribe"

    /// Trailers with which a new Subscribe goes on where the stream has ended.
    package static let resumeAfterTrailer = "orbit-resume-after"
    package static let resumeSkipTrailer = "orbit-resume-skip"
}

/// How far a subscriber has got: it has everything up to a timestamp, and so many changes above it.
package struct FeedPosition: Hashable, Sendable {
    package var resolved: Timestamp
    package var skip: UInt64

    package init(resolved: Timestamp, skip: UInt64 = 0) { (self.resolved, self.skip) = (resolved, skip) }
}

/// Asks for the changes of a shard, or of all.
package struct SubscribeRequest: Hashable, Sendable {
    /// Of any list; more are refused.
    package static let listLimit = 1024

    /// Nil: from now on.
    package var position: FeedPosition?
    package var databases: [UInt32]
    package var prefixes: [Bytes]
    package var patterns: [Bytes]
    package var types: [String]
    package var wantsOldValues: Bool
    /// What commands do to keys, in place of changes.
    package var wantsEvents: Bool
    /// Nil: all.
    package var shard: UInt32?

    package init(
        position: FeedPosition? = nil, databases: [UInt32] = [], prefixes: [Bytes] = [], patterns: [Bytes] = [],
        types: [String] = [], wantsOldValues: Bool = false, wantsEvents: Bool = false, shard: UInt32? = nil
    ) {
        (self.position, self.databases, self.prefixes) = (position, databases, prefixes)
        (self.patterns, self.types, self.wantsOldValues, self.shard) = (patterns, types, wantsOldValues, shard)
        self.wantsEvents = wantsEvents
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__subscribe_request__unpack, orbit__v1__subscribe_request__free_unpacked
        ) { message throws(DatabaseError) in
            let counts = [message.n_databases, message.n_prefixes, message.n_patterns, message.n_types]
            guard counts.allSatisfy({ $0 <= Self.listLimit }) else {
                throw DatabaseError(.limitExceeded, "A list of a filter has at most \(Self.listLimit) items")
            }
            guard message.after != 0 || message.skip == 0 else {
                throw DatabaseError(.invalidArgument, "There is nothing to skip without a timestamp to go on after")
            }
            return SubscribeRequest(
                position: message.after == 0
                    ? nil : FeedPosition(resolved: Timestamp(rawValue: message.after), skip: message.skip),
                databases: Protobuf.numbers(message.databases, message.n_databases),
                prefixes: Protobuf.byteStrings(message.prefixes, message.n_prefixes),
                patterns: Protobuf.byteStrings(message.patterns, message.n_patterns),
                types: Protobuf.texts(message.types, message.n_types),
                wantsOldValues: message.old_values != 0, wantsEvents: message.events != 0,
                shard: message.only_case == ORBIT__V1__SUBSCRIBE_REQUEST__ONLY_SHARD ? message.shard : nil)
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__subscribe_request__init) {
                ($0.after, $0.skip) = (position?.resolved.rawValue ?? 0, position?.skip ?? 0)
                ($0.databases, $0.n_databases) = (arena.array(databases), databases.count)
                ($0.prefixes, $0.n_prefixes) = (arena.array(prefixes.map(arena.data)), prefixes.count)
                ($0.patterns, $0.n_patterns) = (arena.array(patterns.map(arena.data)), patterns.count)
                ($0.types, $0.n_types) = (arena.texts(types), types.count)
                ($0.old_values, $0.events) = (wantsOldValues ? 1 : 0, wantsEvents ? 1 : 0)
                if let shard {
                    $0.only_case = ORBIT__V1__SUBSCRIBE_REQUEST__ONLY_SHARD
                    $0.shard = shard
                }
            }
        }
    }
}

/// Reads and writes `orbit.v1.ChangeBatch`; coded by hand, because changes pass through by the million.
package enum ChangeBatch {
    /// Appends a change to a batch.
    package static func append(_ change: Change, to buffer: inout ByteBuffer) {
        buffer.field(1) { change.encode(into: &$0) }
    }

    /// Ends a batch.
    package static func finish(_ position: FeedPosition, _ buffer: inout ByteBuffer) {
        buffer.field(2, fixed: position.resolved.rawValue)
        buffer.field(3, varint: position.skip)
    }

    /// Hands out the changes in their order; returns the position behind them.
    package static func decode(
        _ message: ByteView, _ body: (Change) throws(DatabaseError) -> Void
    ) throws(DatabaseError) -> FeedPosition {
        var position = FeedPosition(resolved: .zero)
        try WireField.forEach(message) { number, field throws(DatabaseError) in
            switch number {
            case 1: try body(try Change(decoding: field.view))
            case 2: position.resolved = Timestamp(rawValue: field.number)
            case 3: position.skip = field.number
            case _: break
            }
        }
        return position
    }
}
