import Base
import CProto

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

    /// What a node said of a replica last.
    package struct Report: Hashable, Sendable {
        package var node: UInt32
        package var replica: ReplicaReportMessage

        package init(node: UInt32, replica: ReplicaReportMessage) {
            self.node = node
            self.replica = replica
        }
    }

    /// Reports that one answer holds.
    package static let reportLimit = 4096

    package var map: ShardMapMessage?
    package var leases: [Lease]
    package var logIndex: UInt64
    package var watchers: UInt32
    package var placement: PlacementDescription?
    package var reports: [Report]

    package init(
        map: ShardMapMessage?, leases: [Lease], logIndex: UInt64, watchers: UInt32,
        placement: PlacementDescription? = nil, reports: [Report] = []
    ) {
        self.map = map
        self.leases = leases
        self.logIndex = logIndex
        self.watchers = watchers
        self.placement = placement
        self.reports = reports
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
                logIndex: message.log_index, watchers: message.watchers,
                placement: message.placement.map { PlacementDescription($0.pointee) },
                reports: Protobuf.messages(message.reports, message.n_reports).compactMap { report in
                    report.report.map { Report(node: report.node, replica: ReplicaReportMessage($0.pointee)) }
                })
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
                $0.placement = placement?.build(arena)
                $0.reports = arena.array(
                    reports.map { report in
                        arena.make(orbit__v1__node_report__init) {
                            $0.node = report.node
                            $0.report = report.replica.build(arena)
                        }
                    })
                $0.n_reports = reports.count
            }
        }
    }
}

/// What placement aims at, and how far it is.
package struct PlacementDescription: Hashable, Sendable {
    package var replicationFactor: UInt32
    /// What the cluster's nodes can keep; 1: nothing can move.
    package var replicaLimit: UInt32
    package var strategy: String
    package var replacementDelayMilliseconds: UInt64
    /// Steps until placement is as it should be.
    package var movesLeft: UInt32
    package var isRebalancing: Bool

    package init(
        replicationFactor: UInt32, replicaLimit: UInt32, strategy: String, replacementDelayMilliseconds: UInt64,
        movesLeft: UInt32, isRebalancing: Bool
    ) {
        self.replicationFactor = replicationFactor
        self.replicaLimit = replicaLimit
        self.strategy = strategy
        self.replacementDelayMilliseconds = replacementDelayMilliseconds
        self.movesLeft = movesLeft
        self.isRebalancing = isRebalancing
    }

    init(_ message: Orbit__V1__PlacementDescription) {
        self.init(
            replicationFactor: message.replication_factor, replicaLimit: message.replica_limit,
            strategy: Protobuf.text(message.strategy), replacementDelayMilliseconds: message.replacement_delay_ms,
            movesLeft: message.moves_left, isRebalancing: message.rebalancing != 0)
    }

    func build(_ arena: ProtobufArena) -> UnsafeMutablePointer<Orbit__V1__PlacementDescription>? {
        arena.make(orbit__v1__placement_description__init) {
            $0.replication_factor = replicationFactor
            $0.replica_limit = replicaLimit
            $0.strategy = arena.text(strategy)
            $0.replacement_delay_ms = replacementDelayMilliseconds
            $0.moves_left = movesLeft
            $0.rebalancing = isRebalancing ? 1 : 0
        }
    }
}

/// Which node a `DrainNode` or `ActivateNode` means.
package struct NodeRequest: Hashable, Sendable {
    package var node: UInt32

    package init(node: UInt32) { self.node = node }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        node = try Protobuf.decode(bytes, orbit__v1__node_request__unpack, orbit__v1__node_request__free_unpacked) {
            message throws(DatabaseError) in message.node
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in arena.make(orbit__v1__node_request__init) { $0.node = node } }
    }
}

/// Asks for replicas and leaders to be evened out, or for what that would take.
package struct RebalanceRequest: Hashable, Sendable {
    package var isDryRun: Bool

    package init(isDryRun: Bool) { self.isDryRun = isDryRun }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        isDryRun = try Protobuf.decode(
            bytes, orbit__v1__rebalance_request__unpack, orbit__v1__rebalance_request__free_unpacked
        ) { message throws(DatabaseError) in message.dry_run != 0 }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in arena.make(orbit__v1__rebalance_request__init) { $0.dry_run = isDryRun ? 1 : 0 } }
    }
}

/// The steps that evening out takes, in the order in which they would be begun.
package struct RebalanceResponse: Hashable, Sendable {
    /// `orbit.v1.Move`.
    package struct Move: Hashable, Sendable {
        /// `Move.Kind` of the schema: 1 add, 2 promote, 3 remove, 4 keep, 5 transfer leadership.
        package var kind: UInt32
        package var shard: UInt32
        package var node: UInt32
        /// 0: nobody.
        package var replacing: UInt32

        package init(kind: UInt32, shard: UInt32, node: UInt32, replacing: UInt32) {
            self.kind = kind
            self.shard = shard
            self.node = node
            self.replacing = replacing
        }
    }

    package var moves: [Move]
    /// There are more.
    package var isTruncated: Bool

    package init(moves: [Move], isTruncated: Bool) {
        self.moves = moves
        self.isTruncated = isTruncated
    }

    package init(decoding bytes: ByteView) throws(DatabaseError) {
        self = try Protobuf.decode(
            bytes, orbit__v1__rebalance_response__unpack, orbit__v1__rebalance_response__free_unpacked
        ) { message throws(DatabaseError) in
            RebalanceResponse(
                moves: Protobuf.messages(message.moves, message.n_moves).map { move in
                    Move(
                        kind: UInt32(truncatingIfNeeded: move.kind.rawValue), shard: move.shard, node: move.node,
                        replacing: move.replacing)
                }, isTruncated: message.truncated != 0)
        }
    }

    package func encode() -> Bytes {
        Protobuf.encode { arena in
            arena.make(orbit__v1__rebalance_response__init) {
                $0.moves = arena.array(
                    moves.map { move in
                        arena.make(orbit__v1__move__init) {
                            $0.kind = Orbit__V1__Move__Kind(rawValue: .init(truncatingIfNeeded: move.kind))
                            $0.shard = move.shard
                            $0.node = move.node
                            $0.replacing = move.replacing
                        }
                    })
                $0.n_moves = moves.count
                $0.truncated = isTruncated ? 1 : 0
            }
        }
    }
}
