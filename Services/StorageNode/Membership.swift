import Base
import Contracts
import Net
import Peers
import Placement
import ServiceKit

/// The node's place in the cluster: its lease at the coordinator, and the shards that the map gives it.
///
/// A lease that runs out because the coordinator is silent does not end serving: who leads a shard is decided by its
/// replicas, and a shard with one replica can have been given to nobody else (docs/decisions/0003). A node that the
/// coordinator refuses for good ends: its directory runs elsewhere, or belongs to another cluster.
final class Membership {
    private let node: Node
    private let lease: NodeLease
    private let watcher: PlacementWatcher
    private let logger: Logger
    private let directory: String
    private var identity: NodeIdentity
    private let fatal: (String, any Error) -> Never
    private var id: NodeID?

    init(
        node: Node, coordinators: CoordinatorClient, directory: String, addresses: [String], zone: String,
        logger: Logger,
        fatal: @escaping (String, any Error) -> Never
    ) throws {
        (self.node, self.logger, self.directory, self.fatal) = (node, logger, directory, fatal)
        identity = try NodeIdentity.open(directory, disk: PosixDisk())
        lease = NodeLease(
            coordinators: coordinators, identity: identity, addresses: addresses, zone: zone, logger: logger)
        watcher = PlacementWatcher(coordinators: coordinators, logger: logger)
        lease.onGranted = { [unowned self] grant, map in granted(grant, map) }
        lease.onLost = { [unowned self] loss in lost(loss) }
        watcher.onChange = { [unowned self] _ in adopt() }
        lease.reports = { [unowned node] in node.reports }
        node.onReport = { [unowned self] in lease.reportSoon() }
    }

    /// Called once, when the node knows its shards.
    var onJoined: (() -> Void)?

    func start() { lease.start() }

    /// Why the node is no member yet; nil once it is.
    var complaint: String? { id == nil ? "not registered with the coordinator yet" : nil }

    /// Gives the lease back.
    func leave(then done: @escaping () -> Void) {
        watcher.stop()
        lease.release(done)
    }

    private func granted(_ grant: NodeLease.Grant, _ map: ShardMapMessage?) {
        do {
            try identity.join(grant.cluster, as: grant.node, directory, disk: PosixDisk())
        } catch {
            fatal("the node cannot join the cluster", error)
        }
        id = grant.node
        node.peers?.join(
            as: PeerLinks.Identity(
                node: grant.node, uid: identity.uid.bytes, incarnation: identity.incarnation, cluster: grant.cluster))
        watcher.start()
        if let map { watcher.adopt(map) }
        adopt()
    }

    private func adopt() {
        guard let id, let map = watcher.map else { return }
        node.adopt(map, as: id)
        onJoined?()
        onJoined = nil
    }

    private func lost(_ loss: NodeLease.Loss) {
        switch loss {
        case .expired: logger.warning("the lease ran out: the coordinator is silent")
        case .revoked(let reason): logger.warning("the coordinator ended the lease", ["reason": .text(reason)])
        case .refused(let reason): fatal("the coordinator refuses this node", DatabaseError(.unavailable, reason))
        }
    }
}
