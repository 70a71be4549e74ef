import Base
import CProto

/// Where the methods of `orbit.v1.DirectoryService` are, and what comes with a refusal.
package enum DirectoryPath {
    package static let service = "orbit.v1.DirectoryService"
    package static let locate = "/orbit.v1.DirectoryService/Locate"
    package static let listActors = "/orbit.v1.DirectoryService/ListActors"

    /// Trailers of a call that failed because the node does not lead: the number of the node that does (0 while nobody
    /// knows), its addresses with commas between, and its term.
    package static let leaderNodeTrailer = "orbit-leader-node"
    package static let leaderTrailer = "orbit-leader"
    package static let leaderTermTrailer = "orbit-leader-term"
}

/// Asks where an actor lives.
package struct LocateRequest: Hashable, Sendable {
    package var database: UInt32
    /// Empty: whatever type the key has.
    package var type: String
    package var key: Bytes

    package init(database: UInt32 = 0, type: String = "", key: Bytes) {
        self.database = database
        self.type = type
        self.key = key
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__locate_request__unpack, orbit__v1__locate_request__free_unpacked
        ) { message throws(DatabaseError) in
            LocateRequest(
                database: message.database, type: Protobuf.text(message.type), key: Protobuf.bytes(message.key))
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__locate_request__init) {
                $0.database = database
                $0.type = arena.text(type)
                $0.key = arena.data(key)
            }
        }
    }
}

/// Where an actor lives, from the node that leads its shard.
package struct LocateResponse: Hashable, Sendable {
    package var bucket: UInt32
    package var shard: UInt32
    package var node: UInt32
    package var addresses: [String]
    package var term: UInt64
    package var mapEpoch: UInt64
    /// Nil: it is not in memory.
    package var actor: ActiveActorMessage?

    package init(
        bucket: UInt32, shard: UInt32, node: UInt32, addresses: [String], term: UInt64, mapEpoch: UInt64,
        actor: ActiveActorMessage?
    ) {
        self.bucket = bucket
        self.shard = shard
        self.node = node
        self.addresses = addresses
        self.term = term
        self.mapEpoch = mapEpoch
        self.actor = actor
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__locate_response__unpack, orbit__v1__locate_response__free_unpacked
        ) { message throws(DatabaseError) in
            LocateResponse(
                bucket: message.bucket, shard: message.shard, node: message.node,
                addresses: Protobuf.texts(message.addresses, message.n_addresses), term: message.term,
                mapEpoch: message.map_epoch, actor: message.actor.map { ActiveActorMessage($0.pointee) })
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__locate_response__init) {
                ($0.bucket, $0.shard, $0.node) = (bucket, shard, node)
                ($0.addresses, $0.n_addresses) = (arena.texts(addresses), addresses.count)
                ($0.term, $0.map_epoch) = (term, mapEpoch)
                $0.actor = actor?.build(arena)
            }
        }
    }
}

/// `orbit.v1.ActiveActor`: an actor that is in memory.
package struct ActiveActorMessage: Hashable, Sendable {
    package var database: UInt32
    package var type: String
    package var key: Bytes
    package var shard: UInt32
    package var term: UInt64
    /// Milliseconds since 1970, to the second.
    package var activeSince: UInt64
    /// Milliseconds since 1970.
    package var lastCalled: UInt64
    /// Bytes of memory, about.
    package var memorySize: UInt64
    /// Something of it is not committed.
    package var isPending: Bool

    package init(
        database: UInt32, type: String, key: Bytes, shard: UInt32, term: UInt64, activeSince: UInt64,
        lastCalled: UInt64, memorySize: UInt64, isPending: Bool
    ) {
        (self.database, self.type, self.key, self.shard, self.term) = (database, type, key, shard, term)
        (self.activeSince, self.lastCalled) = (activeSince, lastCalled)
        (self.memorySize, self.isPending) = (memorySize, isPending)
    }

    init(_ message: Orbit__V1__ActiveActor) {
        self.init(
            database: message.database, type: Protobuf.text(message.type), key: Protobuf.bytes(message.key),
            shard: message.shard, term: message.term, activeSince: message.active_since_ms,
            lastCalled: message.last_called_ms, memorySize: message.bytes, isPending: message.pending != 0)
    }

    func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__ActiveActor>? {
        arena.make(orbit__v1__active_actor__init) {
            $0.database = database
            $0.type = arena.text(type)
            $0.key = arena.data(key)
            ($0.shard, $0.term) = (shard, term)
            ($0.active_since_ms, $0.last_called_ms) = (activeSince, lastCalled)
            $0.bytes = memorySize
            $0.pending = isPending ? 1 : 0
        }
    }
}

/// Asks for a page of the actors in memory.
package struct ListActorsRequest: Hashable, Sendable {
    /// Empty: all types.
    package var type: String
    /// Nil: all shards that the node leads.
    package var shard: UInt32?
    /// 0: as many as the node likes.
    package var pageSize: UInt32
    /// Empty: from the beginning.
    package var pageToken: Bytes

    package init(type: String = "", shard: UInt32? = nil, pageSize: UInt32 = 0, pageToken: Bytes = []) {
        self.type = type
        self.shard = shard
        self.pageSize = pageSize
        self.pageToken = pageToken
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__list_actors_request__unpack, orbit__v1__list_actors_request__free_unpacked
        ) { message throws(DatabaseError) in
            let isOfOne = message.only_case == ORBIT__V1__LIST_ACTORS_REQUEST__ONLY_SHARD
            return ListActorsRequest(
                type: Protobuf.text(message.type), shard: isOfOne ? message.shard : nil, pageSize: message.page_size,
                pageToken: Protobuf.bytes(message.page_token))
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__list_actors_request__init) {
                $0.type = arena.text(type)
                if let shard {
                    $0.only_case = ORBIT__V1__LIST_ACTORS_REQUEST__ONLY_SHARD
                    $0.shard = shard
                }
                $0.page_size = pageSize
                $0.page_token = arena.data(pageToken)
            }
        }
    }
}

/// A page of the actors in memory.
package struct ListActorsResponse: Hashable, Sendable {
    /// A shard that the page looked at.
    package struct Shard: Hashable, Sendable {
        package var shard: UInt32
        package var term: UInt64
        /// Nothing of it is left for another page.
        package var isComplete: Bool

        package init(shard: UInt32, term: UInt64, isComplete: Bool) {
            self.shard = shard
            self.term = term
            self.isComplete = isComplete
        }
    }

    package var actors: [ActiveActorMessage]
    /// Empty: there is no more.
    package var nextPageToken: Bytes
    package var shards: [Shard]

    package init(actors: [ActiveActorMessage], nextPageToken: Bytes, shards: [Shard]) {
        self.actors = actors
        self.nextPageToken = nextPageToken
        self.shards = shards
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__list_actors_response__unpack, orbit__v1__list_actors_response__free_unpacked
        ) { message throws(DatabaseError) in
            ListActorsResponse(
                actors: Protobuf.messages(message.actors, message.n_actors).map { ActiveActorMessage($0) },
                nextPageToken: Protobuf.bytes(message.next_page_token),
                shards: Protobuf.messages(message.shards, message.n_shards).map {
                    Shard(shard: $0.shard, term: $0.term, isComplete: $0.complete != 0)
                })
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__list_actors_response__init) {
                ($0.actors, $0.n_actors) = (arena.array(actors.map { $0.build(arena) }), actors.count)
                $0.next_page_token = arena.data(nextPageToken)
                $0.shards = arena.array(
                    shards.map { listed in
                        arena.make(orbit__v1__listed_shard__init) {
                            ($0.shard, $0.term, $0.complete) = (listed.shard, listed.term, listed.isComplete ? 1 : 0)
                        }
                    })
                $0.n_shards = shards.count
            }
        }
    }
}
