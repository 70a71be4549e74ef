import Base
import CProto

/// Where the methods of `orbit.v1.PlacementService` are.
package enum PlacementPath {
    package static let service = "orbit.v1.PlacementService"
    package static let registerNode = "/orbit.v1.PlacementService/RegisterNode"
    package static let renewLease = "/orbit.v1.PlacementService/RenewLease"
    package static let releaseLease = "/orbit.v1.PlacementService/ReleaseLease"
    package static let watch = "/orbit.v1.PlacementService/Watch"
    package static let allocateIDs = "/orbit.v1.PlacementService/AllocateIDs"
    package static let describe = "/orbit.v1.PlacementService/Describe"

    /// Trailer of a call that failed because the coordinator does not lead, and did nothing: where the leader serves,
    /// addresses with commas between, best first; empty while nobody knows.
    package static let leaderTrailer = "orbit-leader"
}

/// A life of a storage node begins.
package struct RegisterRequest: Hashable, Sendable {
    /// 16 bytes.
    package var uid: Bytes
    package var addresses: [String]
    package var incarnation: UInt64
    /// 0: the data belongs to no cluster yet.
    package var cluster: UInt64

    package init(uid: Bytes, addresses: [String], incarnation: UInt64, cluster: UInt64) {
        self.uid = uid
        self.addresses = addresses
        self.incarnation = incarnation
        self.cluster = cluster
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__register_request__unpack, orbit__v1__register_request__free_unpacked
        ) { message throws(DatabaseError) in
            RegisterRequest(
                uid: Protobuf.bytes(message.uid), addresses: Protobuf.texts(message.addresses, message.n_addresses),
                incarnation: message.incarnation, cluster: message.cluster)
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__register_request__init) {
                $0.uid = arena.data(uid)
                ($0.addresses, $0.n_addresses) = (arena.texts(addresses), addresses.count)
                $0.incarnation = incarnation
                $0.cluster = cluster
            }
        }
    }
}

/// The answer: who the node is, and how long it may act without renewing.
package struct RegisterResponse: Hashable, Sendable {
    package var node: UInt32
    package var fencingToken: UInt64
    package var leaseMilliseconds: UInt32
    package var cluster: UInt64
    package var map: ShardMapMessage?

    package init(
        node: UInt32, fencingToken: UInt64, leaseMilliseconds: UInt32, cluster: UInt64, map: ShardMapMessage?
    ) {
        self.node = node
        self.fencingToken = fencingToken
        self.leaseMilliseconds = leaseMilliseconds
        self.cluster = cluster
        self.map = map
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__register_response__unpack, orbit__v1__register_response__free_unpacked
        ) { message throws(DatabaseError) in
            RegisterResponse(
                node: message.node, fencingToken: message.fencing_token, leaseMilliseconds: message.lease_ms,
                cluster: message.cluster, map: message.map.map { ShardMapMessage($0.pointee) })
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__register_response__init) {
                $0.node = node
                $0.fencing_token = fencingToken
                $0.lease_ms = leaseMilliseconds
                $0.cluster = cluster
                $0.map = map?.build(arena)
            }
        }
    }
}

/// Which registration a `RenewLease` or `ReleaseLease` speaks for; the two requests have the same wire form.
package struct LeaseRequest: Hashable, Sendable {
    package var node: UInt32
    package var fencingToken: UInt64

    package init(node: UInt32, fencingToken: UInt64) {
        self.node = node
        self.fencingToken = fencingToken
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(bytes, orbit__v1__renew_request__unpack, orbit__v1__renew_request__free_unpacked) {
            message throws(DatabaseError) in
            LeaseRequest(node: message.node, fencingToken: message.fencing_token)
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__renew_request__init) {
                $0.node = node
                $0.fencing_token = fencingToken
            }
        }
    }
}

/// How long the lease lasts from when the request was sent.
package struct RenewResponse: Hashable, Sendable {
    package var leaseMilliseconds: UInt32

    package init(leaseMilliseconds: UInt32) { self.leaseMilliseconds = leaseMilliseconds }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        leaseMilliseconds = try Protobuf.decode(
            bytes, orbit__v1__renew_response__unpack, orbit__v1__renew_response__free_unpacked
        ) { message throws(DatabaseError) in message.lease_ms }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__renew_response__init) { $0.lease_ms = leaseMilliseconds }
        }
    }
}

/// Asks for the map and its changes.
package struct WatchRequest: Hashable, Sendable {
    /// Of the map the caller has; 0: none.
    package var knownEpoch: UInt64

    package init(knownEpoch: UInt64 = 0) { self.knownEpoch = knownEpoch }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        knownEpoch = try Protobuf.decode(
            bytes, orbit__v1__watch_request__unpack, orbit__v1__watch_request__free_unpacked
        ) { message throws(DatabaseError) in message.known_epoch }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in arena.make(orbit__v1__watch_request__init) { $0.known_epoch = knownEpoch } }
    }
}

/// Asks for numbers that nobody else ever gets.
package struct AllocateIDsRequest: Hashable, Sendable {
    package var kind: String
    package var count: UInt64

    package init(kind: String, count: UInt64) {
        self.kind = kind
        self.count = count
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__allocate_ids_request__unpack, orbit__v1__allocate_ids_request__free_unpacked
        ) { message throws(DatabaseError) in
            AllocateIDsRequest(kind: Protobuf.text(message.kind), count: message.count)
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__allocate_ids_request__init) {
                $0.kind = arena.text(kind)
                $0.count = count
            }
        }
    }
}

/// The numbers `first ..< first + count`.
package struct AllocateIDsResponse: Hashable, Sendable {
    package var first: UInt64
    package var count: UInt64

    package init(first: UInt64, count: UInt64) {
        self.first = first
        self.count = count
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__allocate_ids_response__unpack, orbit__v1__allocate_ids_response__free_unpacked
        ) { message throws(DatabaseError) in AllocateIDsResponse(first: message.first, count: message.count) }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__allocate_ids_response__init) {
                $0.first = first
                $0.count = count
            }
        }
    }
}

/// What an operator asks of the coordinator; the request is empty.
package struct DescribeResponse: Hashable, Sendable {
    /// A lease that is running.
    package struct Lease: Hashable, Sendable {
        package var node: UInt32
        package var remainingMilliseconds: UInt32

        package init(node: UInt32, remainingMilliseconds: UInt32) {
            self.node = node
            self.remainingMilliseconds = remainingMilliseconds
        }
    }

    package var map: ShardMapMessage?
    package var leases: [Lease]
    package var logIndex: UInt64
    package var watchers: UInt32

    package init(map: ShardMapMessage?, leases: [Lease], logIndex: UInt64, watchers: UInt32) {
        self.map = map
        self.leases = leases
        self.logIndex = logIndex
        self.watchers = watchers
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__describe_response__unpack, orbit__v1__describe_response__free_unpacked
        ) { message throws(DatabaseError) in
            DescribeResponse(
                map: message.map.map { ShardMapMessage($0.pointee) },
                leases: Protobuf.messages(message.leases, message.n_leases).map {
                    Lease(node: $0.node, remainingMilliseconds: $0.remaining_ms)
                },
                logIndex: message.log_index, watchers: message.watchers)
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__describe_response__init) {
                $0.map = map?.build(arena)
                $0.leases = arena.array(
                    leases.map { lease in
                        arena.make(orbit__v1__node_lease__init) {
                            $0.node = lease.node
                            $0.remaining_ms = lease.remainingMilliseconds
                        }
                    })
                $0.n_leases = leases.count
                $0.log_index = logIndex
                $0.watchers = watchers
            }
        }
    }
}
