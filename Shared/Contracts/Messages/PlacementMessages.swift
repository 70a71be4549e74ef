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
    package static let drainNode = "/orbit.v1.PlacementService/DrainNode"
    package static let activateNode = "/orbit.v1.PlacementService/ActivateNode"
    package static let rebalance = "/orbit.v1.PlacementService/Rebalance"

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
    /// What fails together with the node; empty without a label.
    package var zone: String

    package init(uid: Bytes, addresses: [String], incarnation: UInt64, cluster: UInt64, zone: String = "") {
        self.uid = uid
        self.addresses = addresses
        self.incarnation = incarnation
        self.cluster = cluster
        self.zone = zone
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__register_request__unpack, orbit__v1__register_request__free_unpacked
        ) { message throws(DatabaseError) in
            RegisterRequest(
                uid: Protobuf.bytes(message.uid), addresses: Protobuf.texts(message.addresses, message.n_addresses),
                incarnation: message.incarnation, cluster: message.cluster, zone: Protobuf.text(message.zone))
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__register_request__init) {
                $0.uid = arena.data(uid)
                ($0.addresses, $0.n_addresses) = (arena.texts(addresses), addresses.count)
                $0.incarnation = incarnation
                $0.cluster = cluster
                $0.zone = arena.text(zone)
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

/// Gives a lease back.
package struct ReleaseRequest: Hashable, Sendable {
    package var node: UInt32
    package var fencingToken: UInt64

    package init(node: UInt32, fencingToken: UInt64) {
        self.node = node
        self.fencingToken = fencingToken
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__release_request__unpack, orbit__v1__release_request__free_unpacked
        ) { message throws(DatabaseError) in
            ReleaseRequest(node: message.node, fencingToken: message.fencing_token)
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__release_request__init) {
                $0.node = node
                $0.fencing_token = fencingToken
            }
        }
    }
}

/// Prolongs a lease, and says what the node holds.
package struct RenewRequest: Hashable, Sendable {
    package var node: UInt32
    package var fencingToken: UInt64
    package var reports: [ReplicaReportMessage]

    package init(node: UInt32, fencingToken: UInt64, reports: [ReplicaReportMessage] = []) {
        self.node = node
        self.fencingToken = fencingToken
        self.reports = reports
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(bytes, orbit__v1__renew_request__unpack, orbit__v1__renew_request__free_unpacked) {
            message throws(DatabaseError) in
            RenewRequest(
                node: message.node, fencingToken: message.fencing_token,
                reports: Protobuf.messages(message.reports, message.n_reports).map(ReplicaReportMessage.init))
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__renew_request__init) {
                $0.node = node
                $0.fencing_token = fencingToken
                ($0.reports, $0.n_reports) = (arena.array(reports.map { $0.build(arena) }), reports.count)
            }
        }
    }
}

/// `orbit.v1.ReplicaReport`: what a node says of one of its replicas.
package struct ReplicaReportMessage: Hashable, Sendable {
    package var shard: UInt32
    package var term: UInt64
    package var isLeader: Bool
    package var membershipVersion: UInt64
    package var appliedIndex: UInt64
    package var committedIndex: UInt64
    package var bytes: UInt64
    package var rate: UInt64

    package init(
        shard: UInt32, term: UInt64, isLeader: Bool, membershipVersion: UInt64, appliedIndex: UInt64,
        committedIndex: UInt64, bytes: UInt64, rate: UInt64
    ) {
        self.shard = shard
        self.term = term
        self.isLeader = isLeader
        self.membershipVersion = membershipVersion
        self.appliedIndex = appliedIndex
        self.committedIndex = committedIndex
        self.bytes = bytes
        self.rate = rate
    }

    init(_ message: Orbit__V1__ReplicaReport) {
        self.init(
            shard: message.shard, term: message.term, isLeader: message.leader != 0,
            membershipVersion: message.membership_version, appliedIndex: message.applied_index,
            committedIndex: message.committed_index, bytes: message.bytes, rate: message.rate)
    }

    func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__ReplicaReport>? {
        arena.make(orbit__v1__replica_report__init) {
            $0.shard = shard
            $0.term = term
            $0.leader = isLeader ? 1 : 0
            $0.membership_version = membershipVersion
            $0.applied_index = appliedIndex
            $0.committed_index = committedIndex
            $0.bytes = bytes
            $0.rate = rate
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
